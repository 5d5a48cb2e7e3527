//! Descriptors that the runtime waits for.
#![expect(unsafe_code, reason = "AsyncFd::register asks for a promise about the descriptor")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// Makes a descriptor non-blocking and lets the current runtime wait for it.
///
/// # Errors
/// As ioctl(2) or epoll_ctl(2).
pub fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(fd.as_fd(), true)?;
    // SAFETY: an OwnedFd names the same open descriptor until it is dropped, and AsyncFd, which
    // owns it from here on, deregisters before it drops it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
