//! Everything that a process has started, and what that has started: found, signalled and ended. For cubes that have neither
//! a process namespace nor a cgroup, whose end would do it.
//!
//! What holds it together is the subreaper (`PR_SET_CHILD_SUBREAPER`): whoever loses his parent becomes a child of the
//! nearest one above, in the same moment. So the tree beneath a subreaper is whole at any time, whatever forks twice or
//! makes sessions of its own, and when the kernel says that it has no child, nothing is left of the tree. That answer, not
//! a listing of `/proc`, ends the search.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid,
};

/// Handles that are held at once: a keeper's limit of open files may be 1024.
const AT_ONCE: usize = 256;
/// Rounds of stopping before what was found is ended, so that a flood of processes stands still meanwhile.
const ROUNDS: usize = 64;
/// Between two looks at what is dying.
const PAUSE: Duration = Duration::from_millis(1);

/// The processes beneath `root`, without itself, parents before their children.
#[must_use]
pub fn beneath(root: i32) -> Vec<i32> {
    let told = fs::metadata(format!("/proc/{root}/task/{root}/children")).is_ok();
    if !told {
        // A kernel without CONFIG_PROC_CHILDREN tells the parents only.
        return beneath_by_parents(root, &parents());
    }
    let mut found = Vec::new();
    let (mut seen, mut next) = (HashSet::from([root]), 0);
    let mut at = root;
    loop {
        for task in fs::read_dir(format!("/proc/{at}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
            found.extend(children.filter(|pid| seen.insert(*pid)));
        }
        let Some(pid) = found.get(next) else { return found };
        (at, next) = (*pid, next + 1);
    }
}

/// Every process and its parent.
fn parents() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// The parent of a process; `None` when it is gone.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so fields count from its last parenthesis: state, parent.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_whitespace().nth(1)?.parse().ok()
}

fn beneath_by_parents(root: i32, all: &[(i32, i32)]) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(at) = found.get(next).copied() {
        let children: Vec<i32> = all
            .iter()
            .filter(|(pid, parent)| *parent == at && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        found.extend(children);
        next += 1;
    }
    found.remove(0);
    found
}

/// Sends `signal` to the processes `which` of those beneath `root`. A number that was given to a stranger meanwhile is not
/// met: what is signalled was beneath `root` before and after its handle was taken.
fn signal_these(root: i32, which: &[i32], signal: Signal) {
    for some in which.chunks(AT_ONCE) {
        let handles: Vec<(i32, OwnedFd)> = some
            .iter()
            .filter_map(|pid| Some((*pid, pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?)))
            .collect();
        let still: HashSet<i32> = beneath(root).into_iter().collect();
        for (_, handle) in handles.iter().filter(|(pid, _)| still.contains(pid)) {
            // One that died first needs nothing.
            let _sent = pidfd_send_signal(handle, signal);
        }
    }
}

/// Sends `signal` to everything beneath `root`.
pub fn signal_beneath(root: i32, signal: Signal) {
    signal_these(root, &beneath(root), signal);
}

/// Ends everything beneath the calling process, a subreaper with one thread, and takes its children's remains. True when
/// the kernel says that there is no child left; false after `patience`: a process that sleeps in the kernel for long.
#[must_use]
pub fn end_all(patience: Duration) -> bool {
    let me = getpid().as_raw_nonzero().get();
    let deadline = Instant::now() + patience;
    while !childless() {
        if Instant::now() >= deadline {
            return false;
        }
        // Stopped first, all of it, so that nothing is born between looking and ending: a signal that waits ends a fork
        // before it is made (copy_process in kernel/fork.c).
        let mut stopped = HashSet::new();
        for _ in 0..ROUNDS {
            let new: Vec<i32> = beneath(me).into_iter().filter(|pid| stopped.insert(*pid)).collect();
            if new.is_empty() {
                break;
            }
            signal_these(me, &new, Signal::STOP);
        }
        signal_beneath(me, Signal::KILL);
        std::thread::sleep(PAUSE);
    }
    true
}

/// Takes what has died, and says whether no child is left.
fn childless() -> bool {
    loop {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return true,
            Ok(None) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_found_by_either_way() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 60 & sleep 60 & wait"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a shell");
        let root = i32::try_from(child.id()).expect("a number");
        let deadline = Instant::now() + Duration::from_secs(10);
        while beneath(root).len() < 2 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut found = beneath(root);
        let mut by_parents = beneath_by_parents(root, &parents());
        found.sort_unstable();
        by_parents.sort_unstable();
        assert_eq!((found.len(), &found), (2, &by_parents));
        assert!(found.iter().all(|pid| parent(*pid) == Some(root)));
        signal_beneath(root, Signal::KILL);
        let _ended = child.wait();
        assert!(beneath(root).is_empty());
    }
}
