//! A process that the shim starts beside the guest: the VMM, the share daemon. In a session of its own, ended with the
//! shim, deaf to what the keeper tells everything in the cube, and with the descriptors that it is handed and no others.
#![expect(unsafe_code, reason = "what a child does between fork and exec is marked as unsafe")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that dies with its handle.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    pidfd: OwnedFd,
    end: Option<ExitStatus>,
}

/// Starts `words` with `fds` at the numbers that they have here, its standard error in `errors`. `bare`: without any
/// capability.
///
/// # Errors
/// It cannot be executed.
pub(super) fn start(
    words: &[String],
    fds: &[BorrowedFd<'_>],
    errors: OwnedFd,
    bare: bool,
) -> io::Result<Daemon> {
    use rustix::io::{FdFlags, fcntl_setfd};
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::from(errors.try_clone()?)).stderr(Stdio::from(errors));
    // SAFETY: between fork and exec only system calls on values of its own; nothing allocates or locks.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // TERM and its like are meant for what runs in the guest. They stay blocked through exec.
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut all);
            for signal in
                [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2]
            {
                libc::sigaddset(&raw mut all, signal);
            }
            if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            if bare {
                drop_capabilities()?;
            }
            Ok(())
        });
    }
    for fd in fds {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let spawned = command.spawn();
    for fd in fds {
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    let child = spawned?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(Daemon { child, pidfd, end: None })
}

/// Gives every capability up, for what is executed later too.
///
/// # Errors
/// The kernel refuses, which it never does.
pub(super) fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

impl Daemon {
    /// Readable when it has ended.
    #[must_use]
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, if it has.
    pub(super) fn take_end(&mut self) -> Option<ExitStatus> {
        if self.end.is_none() {
            self.end = self.child.try_wait().ok().flatten();
        }
        self.end
    }

    /// Ends it.
    pub(super) fn kill(&mut self) {
        // Gone already: nothing to do.
        let _gone = pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.end = self.child.wait().ok().or(self.end);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
