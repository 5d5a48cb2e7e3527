//! Init's part of a forward: connects inside the cube and hands the socket out.
//!
//! It never waits: what is not connected at once is on its way, and whoever holds the socket waits for it. It keeps
//! nothing: each request is one socket, made, passed out and closed. How many come is bounded by the keeper, which
//! sends the next ones as answers return.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::init::read_all;
use super::wire::{self, Message};

/// Connects to `to` in the cube's own network namespace and answers with the socket.
pub(super) fn tcp(control: BorrowedFd<'_>, number: u32, to: SocketAddr) -> Result<(), Errno> {
    match begin(to) {
        Ok(socket) => wire::send(control, Message::Connected { number, errno: 0 }, &[socket.as_fd()]),
        Err(errno) => answer(control, number, errno.raw_os_error()),
    }
}

fn begin(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &to) {
        // A signal does not end the attempt (connect(2)).
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// Connects the keeper's socket to a path as this cube sees it.
pub(super) fn unix(control: BorrowedFd<'_>, number: u32, fds: Vec<OwnedFd>) -> Result<(), Errno> {
    let errno = match <[OwnedFd; 2]>::try_from(fds) {
        Ok([socket, path]) => {
            match read_all(&path).ok_or(Errno::BADF).and_then(|path| join(&socket, &path)) {
                Ok(()) => 0,
                Err(errno) => errno.raw_os_error(),
            }
        }
        Err(_) => Errno::BADF.raw_os_error(),
    };
    answer(control, number, errno)
}

fn join(socket: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
    connect(socket, &SocketAddrUnix::new(path)?)
}

fn answer(control: BorrowedFd<'_>, number: u32, errno: i32) -> Result<(), Errno> {
    wire::send(control, Message::Connected { number, errno }, &[])
}
