//! What listens in a cube, seen from outside: the tables of its network namespace, and who holds the sockets.
//!
//! Nothing inside is asked or run. Every number is bounded, because a cube decides how long these tables are; names of
//! programs are a cube's own words and must be made printable by whoever shows them.

mod table;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::model::Listening;

pub use table::{Socket, sockets};

/// The most processes that are looked at.
const PROCESSES_MAX: usize = 16_384;
/// The most descriptors that are looked at, over all processes.
const DESCRIPTORS_MAX: usize = 1 << 20;

/// What listens in the cube of `init`, by port. What `keeper` holds is ours and left out.
///
/// # Errors
/// The cube has ended.
pub fn ports(init: i32, keeper: Option<i32>) -> io::Result<Vec<Listening>> {
    let mut sockets = sockets(init)?;
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    let mut budget = DESCRIPTORS_MAX;
    let ours: HashSet<u64> =
        keeper.map(|keeper| held(keeper, &mut budget, None).into_iter().collect()).unwrap_or_default();
    sockets.retain(|socket| !ours.contains(&socket.inode));
    let mut wanted: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let mut holders: HashMap<u64, i32> = HashMap::new();
    for pid in tree(init, None) {
        if wanted.is_empty() || budget == 0 {
            break;
        }
        for inode in held(pid, &mut budget, None) {
            if wanted.remove(&inode) {
                holders.insert(inode, pid);
            }
        }
    }
    let mut found: Vec<Listening> = sockets
        .iter()
        .map(|socket| {
            let holder = holders.get(&socket.inode).copied();
            Listening {
                port: socket.address.port(),
                address: socket.address.ip(),
                program: holder.and_then(name),
                pid: holder.and_then(|pid| super::proc::status_and_seal(pid).ok()?.0.inner_pid),
            }
        })
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// How long is looked for the holder of one socket, which others wait for. A cube decides how many processes, threads and
/// descriptors there are.
const LOOKING: Duration = Duration::from_millis(5);

/// The process beneath `init` that holds the socket of this inode: its number here and its name. `likely` is looked at first.
#[must_use]
pub fn holder(init: i32, inode: u64, likely: Option<i32>) -> Option<(i32, String)> {
    let until = Instant::now() + LOOKING;
    let mut budget = DESCRIPTORS_MAX;
    let mut holds = |pid: i32| held(pid, &mut budget, Some(until)).contains(&inode);
    // Its number may be another process's by now: of whichever cube, it holds this socket.
    let found = likely.filter(|pid| holds(*pid)).or_else(|| {
        // Who asks is more often young than old.
        tree(init, Some(until)).into_iter().rev().filter(|pid| *pid != init).find(|pid| holds(*pid))
    });
    found.and_then(|pid| name(pid).map(|name| (pid, name)))
}

/// The processes of a cube, by their numbers here: init and everything beneath it, as far as there is time.
#[must_use]
pub fn tree(init: i32, until: Option<Instant>) -> Vec<i32> {
    let (mut found, mut at) = (vec![init], 0);
    while let Some(&pid) = found.get(at).filter(|_| found.len() < PROCESSES_MAX) {
        at += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            if is_over(until) {
                return found;
            }
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found.truncate(PROCESSES_MAX);
    found
}

/// The inodes of the sockets that a process holds.
fn held(pid: i32, budget: &mut usize, until: Option<Instant>) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut inodes = Vec::new();
    for entry in entries.flatten().take(*budget) {
        *budget = budget.saturating_sub(1);
        if is_over(until) {
            break;
        }
        // `socket:[123]`; reading the link opens nothing.
        if let Ok(target) = fs::read_link(entry.path())
            && let Some(number) = target.to_str().and_then(|text| text.strip_prefix("socket:["))
            && let Ok(inode) = number.trim_end_matches(']').parse()
        {
            inodes.push(inode);
        }
    }
    inodes
}

fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

/// The name of a process, as it gave it itself.
fn name(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn our_own_listener_is_found_with_its_program() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("address").port();
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let all = ports(me, None).expect("ports");
        let mine = all.iter().find(|found| found.port == port).expect("listed");
        assert_eq!((mine.scope().as_str(), mine.pid.is_some()), ("loopback", true));
        assert!(mine.program.is_some());
        // What a keeper holds is left out.
        assert!(!ports(me, Some(me)).expect("ports").iter().any(|found| found.port == port));
    }
}
