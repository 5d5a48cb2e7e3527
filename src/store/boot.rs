//! Which process is meant: a number alone is reused, a number with its start time and boot is not.
//!
//! Owns the reading of the boot's id and of start times, and killing a process that is still the
//! one that was noted. Refuses to signal anything by number alone.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::model::cube::ProcessRef;

/// The id of this boot; empty when the kernel does not tell (then no old process is ever taken
/// for a present one, because a captured reference is compared with a start time as well).
#[must_use]
pub fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        read_small("/proc/sys/kernel/random/boot_id")
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
            .unwrap_or_default()
    })
}

/// State letter and start time (clock ticks since boot) of a process.
///
/// # Errors
/// When there is no such process, or its line cannot be read.
pub fn process_start(pid: i32) -> io::Result<(char, u64)> {
    let line = read_small(format!("/proc/{pid}/stat"))?;
    parse_stat(&line)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the line of stat is malformed"))
}

/// In two calls, where a file of /proc that says nothing of its length is otherwise read in many small ones.
fn read_small(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Fields 3 and 22. The name in field 2 may hold spaces and parentheses: what counts is the last one.
fn parse_stat(line: &[u8]) -> Option<(char, u64)> {
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(22 - 3 - 1)?.parse().ok()?;
    Some((state, start))
}

impl ProcessRef {
    /// Notes the process that has this number now.
    ///
    /// # Errors
    /// When there is none.
    pub fn capture(pid: i32) -> io::Result<Self> {
        let (_, start) = process_start(pid)?;
        Ok(Self { pid, start, boot: boot_id().to_owned() })
    }

    /// True while the very process runs. A zombie does not run.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.is_same() && !matches!(process_start(self.pid), Ok(('Z' | 'X', _)) | Err(_))
    }

    fn is_same(&self) -> bool {
        self.boot == boot_id() && process_start(self.pid).is_ok_and(|(_, start)| start == self.start)
    }

    /// A handle on the very process, or `None` when it is gone.
    #[must_use]
    pub fn open(&self) -> Option<OwnedFd> {
        // A cheap no first: another boot, another process.
        if self.boot != boot_id() {
            return None;
        }
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Looked at after the handle was taken: from here on the number cannot be reused unseen.
        self.is_same().then_some(handle)
    }

    /// Kills the very process and waits for its end, at most `patience`. False when it was gone.
    #[must_use]
    pub fn kill(&self, patience: Duration) -> bool {
        let Some(handle) = self.open() else { return false };
        if pidfd_send_signal(&handle, Signal::KILL).is_err() {
            return false;
        }
        wait_gone(&handle, patience);
        true
    }
}

/// Waits until the process behind a pidfd has ended. False when it has not in time.
pub(crate) fn wait_gone(handle: impl AsFd, patience: Duration) -> bool {
    let Ok(timeout) = Timespec::try_from(patience) else { return false };
    let mut ready = [PollFd::new(&handle, PollFlags::IN)];
    matches!(poll(&mut ready, Some(&timeout)), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        for name in ["sh", "a b", "x) S 9 9 (", ") R"] {
            assert_eq!(parse_stat(format!("7 ({name}) {tail}").as_bytes()), Some(('S', 4242)), "{name}");
        }
        for bad in ["", "7 (sh", "7 (sh) S 1 2"] {
            assert_eq!(parse_stat(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_the_very_process_is_killed() {
        let mut child = Command::new("sleep").arg("100").spawn().expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        let noted = ProcessRef::capture(pid).expect("captured");
        assert!(noted.is_alive());
        for other in [
            ProcessRef { start: noted.start + 1, ..noted.clone() },
            ProcessRef { boot: "another".into(), ..noted.clone() },
        ] {
            assert!(!other.is_alive() && !other.kill(Duration::ZERO), "{other:?}");
        }
        assert!(child.try_wait().expect("wait").is_none(), "it still runs");
        assert!(noted.kill(Duration::from_secs(5)));
        assert!(!noted.is_alive(), "a zombie is not alive");
        child.wait().expect("reaped");
        assert!(!noted.kill(Duration::ZERO));
    }
}
