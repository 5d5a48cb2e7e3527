//! Ways from the cube to unix sockets of its guest, for forwards: whoever connects says a path, with a NUL at its end, and
//! hears one byte when the other end stands.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::microvm::link::Link;
use crate::microvm::wire::{CONNECTIONS, GUEST_OPENED, Message, PATH_MAX};

/// Those that have not said their path yet.
const WAITING: usize = 64;

/// The listener, and who has not said where to.
#[derive(Debug)]
pub(super) struct Doors {
    listener: OwnedFd,
    waiting: Vec<(OwnedFd, Vec<u8>)>,
}

impl Doors {
    pub(super) fn new(listener: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        Ok(Self { listener, waiting: Vec::new() })
    }

    /// The listener, then those that wait.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.waiting.iter().map(|(fd, _)| fd.as_fd()))
    }

    /// Serves those of [`Doors::fds`] that are ready.
    pub(super) fn act(&mut self, ready: &[usize], link: &mut Link, last: &mut u32) {
        // From the end: whoever goes on is taken out.
        for index in ready.iter().rev().filter_map(|index| index.checked_sub(1)) {
            if let Some((fd, said)) = self.waiting.get_mut(index)
                && let Some(path) = hear(fd, said)
            {
                let (fd, _) = self.waiting.swap_remove(index);
                if let Some(path) = path {
                    dial(fd, path, link, last);
                }
            }
        }
        while ready.contains(&0) && self.waiting.len() < WAITING {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = accept_with(&self.listener, flags) else { return };
            self.waiting.push((socket, Vec::new()));
        }
    }
}

/// The path, once it is whole; `Some(None)` from one that says nothing of use.
fn hear(fd: &OwnedFd, said: &mut Vec<u8>) -> Option<Option<Vec<u8>>> {
    let mut buffer = [0; PATH_MAX + 1];
    match rustix::io::read(fd, &mut buffer[..]) {
        Ok(count) if count > 0 => said.extend_from_slice(&buffer[..count]),
        Err(Errno::AGAIN | Errno::INTR) => return None,
        _ => return Some(None),
    }
    match said.iter().position(|byte| *byte == 0) {
        Some(end) if end > 0 && end + 1 == said.len() && end <= PATH_MAX => Some(Some(said[..end].to_vec())),
        None if said.len() <= PATH_MAX => None,
        _ => Some(None),
    }
}

fn dial(fd: OwnedFd, path: Vec<u8>, link: &mut Link, last: &mut u32) {
    // Dropped, it is closed: there are too many.
    if link.connections() >= CONNECTIONS {
        return;
    }
    *last = (*last + 1) % GUEST_OPENED;
    let stream = *last;
    if link.offer(stream, fd).is_ok() {
        link.answer_when_open(stream);
        link.channel.say(&Message::DialPath { stream, path });
    }
}
