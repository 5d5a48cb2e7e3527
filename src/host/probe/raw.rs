//! The system calls of the probes that no safe crate offers.
#![expect(unsafe_code, reason = "each call is a raw system call; see the SAFETY comment of each block")]

use std::io;

/// `landlock_create_ruleset(NULL, 0, flags)`: a number, or 0 when the kernel has no answer.
fn landlock_query(flags: u32) -> u32 {
    // SAFETY: a null attribute of size 0 with a query flag reads and writes no memory.
    let answer = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, flags)
    };
    u32::try_from(answer).unwrap_or(0)
}

/// The kernel's Landlock ABI, 0 without Landlock.
pub(super) fn landlock_abi() -> u32 {
    landlock_query(1)
}

/// The errata that the kernel has fixed, a bit each.
pub(super) fn landlock_errata() -> u32 {
    landlock_query(2)
}

/// Can filters end a process (`SECCOMP_RET_KILL_PROCESS`)?
pub(super) fn seccomp_kill_available() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the kernel reads four bytes at the pointer, which outlives the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// unshare(2).
pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; called in single-threaded children only, without CLONE_FILES.
    let answer = unsafe { libc::unshare(flags) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends the process after `seconds`, should it hang.
pub(crate) fn end_after(seconds: u32) {
    // SAFETY: alarm takes no pointer; SIGALRM's default action ends the process.
    unsafe { libc::alarm(seconds) };
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Runs `work` in a forked child and returns how it ended.
pub(crate) fn in_child(work: impl FnOnce() -> i32) -> io::Result<Ended> {
    // SAFETY: `work` of the callers in this folder opens files and makes system calls. It takes no
    // lock but the allocator's, which fork handlers of both C libraries keep usable, and the child
    // leaves by _exit, so no destructor or exit handler of the parent runs twice.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        let code = work();
        // SAFETY: ends this child.
        unsafe { libc::_exit(code) };
    }
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return Ok(if libc::WIFEXITED(status) {
                Ended::Code(libc::WEXITSTATUS(status))
            } else {
                Ended::Signal(libc::WTERMSIG(status))
            });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
