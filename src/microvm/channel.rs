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
    /// Only so many bytes of what waits may still be written: the rest waits for [`Channel::go_on`].
    most: Option<usize>,
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
            most: None,
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

    /// And may be.
    pub(super) fn may_write(&self) -> bool {
        !self.out.is_empty() && self.most != Some(0)
    }

    /// What is said from now on waits.
    pub(super) fn hold_back(&mut self) {
        self.most = Some(self.out.len());
    }

    /// It waits no longer.
    pub(super) fn go_on(&mut self) {
        self.most = None;
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
        while self.may_write() {
            let first = self.out.as_slices().0;
            let count = self.most.map_or(first.len(), |most| most.min(first.len()));
            match rustix::io::write(&self.fd, &first[..count]) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(count) => {
                    self.out.drain(..count);
                    self.most = self.most.map(|most| most.saturating_sub(count));
                }
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
