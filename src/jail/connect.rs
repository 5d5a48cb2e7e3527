//! Init's part of a forward: sockets of the cube's own network, and paths of the cube's own files.
//!
//! A TCP socket is of the network namespace that it was made in, so init only makes it and hands it out; the keeper
//! connects it. A path means what it means to whoever looks it up, so unix sockets are connected here. Nothing waits, and
//! nothing is kept: what is made is passed out and closed. How much is asked for is bounded, here for each request and by
//! the keeper for all of them, which sends the next as answers return.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::init::read_all;
use super::wire::{self, MAX_SOCKETS, Message};

/// Makes up to `count` TCP sockets in the cube's own network namespace and answers with them.
pub(super) fn tcp(control: BorrowedFd<'_>, number: u32, six: bool, count: u16) -> Result<(), Errno> {
    let family = if six { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut made = Vec::with_capacity(usize::from(count.min(MAX_SOCKETS)));
    for _ in 0..count.clamp(1, MAX_SOCKETS) {
        match socket_with(family, SocketType::STREAM, flags, None) {
            Ok(socket) => made.push(socket),
            // Some are better than none.
            Err(_) if !made.is_empty() => break,
            Err(errno) => return answer(control, number, errno.raw_os_error()),
        }
    }
    let fds: Vec<_> = made.iter().map(AsFd::as_fd).collect();
    wire::send(control, Message::Given { number, errno: 0 }, &fds)
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
    wire::send(control, Message::Given { number, errno }, &[])
}
