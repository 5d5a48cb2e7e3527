//! The byte channel between host and guest: what waits to be written, what has been read. Never blocks.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::wire::{Decoder, Lie, Message, Side};

/// Data is only added while less than this waits: a word in between is never far behind.
const ENOUGH: usize = 64 * 1024;
/// So much waits only when the other side does not read; then it is not listened to either.
const TOO_MUCH: usize = 1 << 20;
/// Bytes read at once.
const READ: usize = 64 * 1024;

/// One end of the channel.
#[derive(Debug)]
pub(super) struct Channel {
    fd: OwnedFd,
    decoder: Decoder,
    out: VecDeque<u8>,
    scratch: Vec<u8>,
    read: Box<[u8]>,
}

impl Channel {
    pub(super) fn new(fd: OwnedFd, side: Side, nonce: u64) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self {
            fd,
            decoder: Decoder::new(side, nonce),
            out: VecDeque::new(),
            scratch: Vec::new(),
            read: vec![0; READ].into_boxed_slice(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn say(&mut self, message: &Message) {
        self.scratch.clear();
        message.encode(&mut self.scratch);
        self.out.extend(&self.scratch);
    }

    pub(super) fn message(&mut self) -> Result<Option<Message>, Lie> {
        self.decoder.message()
    }

    /// Something waits to be written.
    pub(super) fn has_words(&self) -> bool {
        !self.out.is_empty()
    }

    /// There is room for data.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < ENOUGH
    }

    /// The other side reads so little that it is not to be listened to.
    pub(super) fn is_choked(&self) -> bool {
        self.out.len() > TOO_MUCH
    }

    /// A new peer: what waits was for another, and what was read is of another.
    pub(super) fn start_over(&mut self) {
        self.out.clear();
        self.decoder.start_over();
    }

    /// Nothing was said that the other side has not taken; for a peer that is greeted again.
    pub(super) fn forget_words(&mut self) {
        self.out.clear();
    }

    /// Writes what it can.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        while !self.out.is_empty() {
            match rustix::io::write(&self.fd, self.out.as_slices().0) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(count) => drop(self.out.drain(..count)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Reads what is there, up to a bound; false at its end.
    pub(super) fn fill(&mut self) -> Result<bool, Errno> {
        match rustix::io::read(&self.fd, &mut self.read[..]) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.decoder.push(&self.read[..count]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(Errno::CONNRESET) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}
