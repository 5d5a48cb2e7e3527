//! System calls exactly as a hostile program makes them, each in a child of its own.
#![expect(unsafe_code, reason = "raw system calls by number are what the probe is for")]

use std::os::fd::AsRawFd;

use crate::host::probe::raw::{Ended, end_after, in_child};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done.
    Done,
    /// This error number.
    Errno(i32),
    /// The process was ended by this signal.
    Killed(i32),
    /// No child could be made.
    NotTried,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Errno(number) => match rustix::io::Errno::from_raw_os_error(*number) {
                rustix::io::Errno::PERM => f.write_str("EPERM"),
                rustix::io::Errno::NOSYS => f.write_str("ENOSYS"),
                rustix::io::Errno::AFNOSUPPORT => f.write_str("EAFNOSUPPORT"),
                rustix::io::Errno::PROTONOSUPPORT => f.write_str("EPROTONOSUPPORT"),
                other => write!(f, "{other}"),
            },
            Self::Killed(libc::SIGSYS) => f.write_str("killed by SIGSYS"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
            Self::NotTried => f.write_str("no child process could be made"),
        }
    }
}

fn in_a_child(work: impl FnOnce() -> i32) -> Outcome {
    let ended = in_child(|| {
        // A call that is let through may block.
        end_after(5);
        work()
    });
    match ended {
        Ok(Ended::Code(0)) => Outcome::Done,
        Ok(Ended::Code(code)) => Outcome::Errno(code),
        Ok(Ended::Signal(signal)) => Outcome::Killed(signal),
        Err(_) => Outcome::NotTried,
    }
}

/// Makes call `number` with `args` in a child.
pub(super) fn call(number: u32, args: [i64; 6]) -> Outcome {
    in_a_child(|| {
        let [a, b, c, d, e, f] = args;
        // SAFETY: the callers pass no pointers but null, so no memory of this process is written;
        // the child ends right after, whatever the call did to it. Error numbers fit an exit code.
        let answer = unsafe { libc::syscall(i64::from(number), a, b, c, d, e, f) };
        if answer == -1 { std::io::Error::last_os_error().raw_os_error().unwrap_or(255) } else { 0 }
    })
}

/// Makes children that wait until all of them are told to go: how many were made, and the error number of the one that
/// was not. `Ok` when `most` of them were.
pub(super) fn fork_until_refused(most: u32) -> Result<u32, (u32, i32)> {
    let number = |error: std::io::Error| error.raw_os_error().unwrap_or(255);
    let (read, write) = rustix::pipe::pipe().map_err(|errno| (0, errno.raw_os_error()))?;
    let (mut children, mut refused) = (Vec::new(), None);
    for _ in 0..most {
        // SAFETY: the child makes only async-signal-safe calls on its own copies of two descriptors and leaves by
        // _exit; the parent keeps both open meanwhile.
        unsafe {
            match libc::fork() {
                -1 => {
                    refused = Some(number(std::io::Error::last_os_error()));
                    break;
                }
                0 => {
                    libc::alarm(20);
                    libc::close(write.as_raw_fd());
                    let mut byte = 0_u8;
                    libc::read(read.as_raw_fd(), (&raw mut byte).cast(), 1);
                    libc::_exit(0);
                }
                child => children.push(child),
            }
        }
    }
    // The end of the pipe ends them all.
    drop(write);
    for child in &children {
        let mut status = 0;
        // SAFETY: `status` outlives the call; the child is ours and not yet reaped.
        unsafe { libc::waitpid(*child, &raw mut status, 0) };
    }
    let count = u32::try_from(children.len()).unwrap_or(u32::MAX);
    refused.map_or(Ok(count), |errno| Err((count, errno)))
}

/// `getpid` of the 32-bit call table, by `int 0x80`.
#[cfg(target_arch = "x86_64")]
pub(super) fn int_0x80() -> Outcome {
    in_a_child(|| {
        let mut answer: i64 = 20;
        // SAFETY: getpid takes no argument and touches no memory; the kernel's 32-bit entry clears
        // r8 to r11, which are declared, and the child ends right after.
        unsafe {
            std::arch::asm!("int 0x80", inout("rax") answer,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _, options(nostack));
        }
        if answer > 0 { 0 } else { i32::try_from(-answer).unwrap_or(255) }
    })
}
