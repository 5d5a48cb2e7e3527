//! What a cube uses, from /proc: init and everything beneath it.

use std::fs;

use super::protocol::Usage;

/// Sums over the tree of processes under `init`. Orphans are children of init, so the tree is complete.
#[must_use]
pub fn usage(init: i32) -> Usage {
    let mut usage = Usage { net: sent(init), ..Usage::default() };
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

/// Bytes sent in the network namespace of `pid`, if that is another than ours: both directions of what passes the gateway,
/// whose sockets lie in it.
fn sent(pid: i32) -> Option<u64> {
    let space = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
    let (its, ours) = (space(&pid.to_string())?, space("self")?);
    (its != ours)
        .then(|| fs::read_to_string(format!("/proc/{pid}/net/dev")).ok())
        .flatten()
        .map(|dev| sum(&dev))
}

/// The ninth number of each device is what it has sent (proc_pid_net(5)); two lines of headings have none.
fn sum(dev: &str) -> u64 {
    let device = |line: &str| line.rsplit_once(':')?.1.split_whitespace().nth(8)?.parse::<u64>().ok();
    dev.lines().filter_map(device).fold(0, u64::saturating_add)
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
    fn what_a_network_sent_is_summed_over_its_devices() {
        let dev = "Inter-|   Receive                                                |  Transmit\n \
                   face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n\
                       lo: 1000 10 0 0 0 0 0 0 2500 10 0 0 0 0 0 0\n  eth0:7 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n";
        assert_eq!(sum(dev), 3000);
        assert_eq!(sum("nonsense: 1 2\n"), 0);
        // Whoever shares our network has none of its own.
        assert_eq!(sent(i32::try_from(std::process::id()).expect("small")), None);
    }

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
