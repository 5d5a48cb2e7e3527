//! The R rows that flood: processes and data, until the kernel says that it is enough. Bounded by
//! themselves, should it not.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};

use super::raw::fork_until_refused;
use super::{Seen, fail, pass, untested};
use crate::host::probe::raw::{Ended, end_after, in_child};

/// How far beyond a limit is tried.
const BEYOND: u32 = 64;
/// One write, in bytes.
const CHUNK: usize = 1 << 20;

pub(super) fn processes(limit: Option<u32>) -> Seen {
    let Some(limit) = limit else { return untested("the limit was not told") };
    match fork_until_refused(limit.saturating_add(BEYOND)) {
        Ok(count) => fail(format!("{count} processes were made, the limit is {limit}")),
        Err((count, libc::EAGAIN)) if count > 0 && count <= limit => {
            pass(format!("no more after {count}, the limit is {limit}"))
        }
        Err((count, errno)) => {
            let error = rustix::io::Errno::from_raw_os_error(errno);
            untested(format!("after {count} of {limit}: {error}"))
        }
    }
}

/// Memory is taken in steps of so many bytes.
const STEP: usize = 4 << 20;
/// How far beyond the limit.
const OVER: u64 = 64 << 20;
/// How long it is then held, in quarters of a second: the keeper looks four times a second.
const HELD: u32 = 8;

/// Takes memory in a child. Where the keeper is who watches, it ends the cube with this probe: what it then says of the end
/// is the answer.
pub(super) fn memory(limit: Option<u64>) -> Seen {
    let Some(limit) = limit else { return untested("no limit was told") };
    let ended = in_child(|| {
        end_after(20);
        i32::from(!take(limit.saturating_add(OVER)))
    });
    match ended {
        Ok(Ended::Signal(libc::SIGKILL)) => {
            pass(format!("ended by the kernel, the limit is {} MiB", limit >> 20))
        }
        Ok(Ended::Code(1)) => pass("the kernel gave no more"),
        Ok(Ended::Code(_)) => fail(format!("more than {} MiB were held", limit >> 20)),
        Ok(Ended::Signal(signal)) => untested(format!("ended by signal {signal}")),
        Err(error) => untested(format!("no child process could be made: {error}")),
    }
}

/// Takes and holds so many bytes; false when there were no more.
fn take(bytes: u64) -> bool {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while (taken.len() as u64) * (STEP as u64) < bytes {
        let mut more = Vec::new();
        if more.try_reserve_exact(STEP).is_err() {
            return false;
        }
        more.resize(STEP, 1);
        taken.push(more);
    }
    for _ in 0..HELD {
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    // Used once more, so that it had to be held until here.
    taken.iter().all(|block| block.first() == Some(&1))
}

pub(super) fn data(limit: Option<u64>) -> Seen {
    let Some(limit) = limit else { return untested("the kernel does not enforce it here") };
    let path = std::env::temp_dir().join(format!(".flood-{}", std::process::id()));
    let seen = match File::create(&path) {
        Ok(mut file) => fill(&mut file, limit),
        Err(error) => untested(format!("no file can be made: {error}")),
    };
    // The cube is thrown away all the same.
    let _gone = fs::remove_file(&path);
    seen
}

fn fill(file: &mut impl Write, limit: u64) -> Seen {
    let chunk = vec![0; CHUNK];
    let mut written = 0_u64;
    while written <= limit {
        match file.write(&chunk) {
            Ok(count) => written += count as u64,
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                return pass(format!("full after {} of {} MiB", written >> 20, limit >> 20));
            }
            Err(error) => return untested(format!("after {written} bytes: {error}")),
        }
    }
    fail(format!("{written} bytes were written, the limit is {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::diagnose::Verdict;

    struct Full(u64);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len() as u64).ok_or(ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_must_meet_its_limit() {
        assert_eq!(fill(&mut Full(3 << 20), 4 << 20).0, Verdict::Pass);
        assert_eq!(fill(&mut Full(99 << 20), 4 << 20).0, Verdict::Fail);
        assert_eq!((data(None).0, processes(None).0), (Verdict::CouldNotTest, Verdict::CouldNotTest));
    }
}
