//! What a cube uses, from /proc: init and everything beneath it.

use std::fs;

use super::protocol::Usage;

/// Sums over the tree of processes under `init`. Orphans are children of init, so the tree is complete.
#[must_use]
pub fn usage(init: i32) -> Usage {
    let mut usage = Usage::default();
    let mut next = vec![init];
    while let Some(pid) = next.pop() {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        add(&mut usage, &stat);
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            next.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    usage
}

/// Every task of every process beneath `init`, but not itself, is stopped or dead.
#[must_use]
pub fn all_stopped(init: i32) -> bool {
    let mut next = vec![init];
    while let Some(pid) = next.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            next.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            if pid == init {
                continue;
            }
            let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
            let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
            // proc_pid_stat(5): stopped, zombie, dead.
            if !matches!(state, Some('T' | 't' | 'Z' | 'X' | 'x')) {
                return false;
            }
        }
    }
    true
}

/// Adds one `/proc/PID/stat` line (proc_pid_stat(5)). The name in it may hold anything, so fields count from its last `)`.
fn add(usage: &mut Usage, stat: &str) {
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    // The first of these is field 3, the state.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    usage.processes += 1;
    usage.threads += u32::try_from(number(20)).unwrap_or(0);
    // utime, stime and those of reaped children, in ticks of 10 ms (USER_HZ is 100 on every Linux).
    usage.cpu_ms += (number(14) + number(15) + number(16) + number(17)) * 10;
    usage.memory += number(24) * rustix::param::page_size() as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let mut usage = Usage::default();
        add(
            &mut usage,
            "12 (a) S) (b) S 1 12 12 0 -1 4194560 0 0 0 0 3 4 1 2 20 0 5 0 100 1000 7 18446744073709551615",
        );
        assert_eq!((usage.processes, usage.threads, usage.cpu_ms), (1, 5, 100));
        assert_eq!(usage.memory, 7 * rustix::param::page_size() as u64);
    }
}
