//! Messages between the keeper and init, over one `SOCK_SEQPACKET` pair: each message is one packet.
//!
//! Init is trusted until the entry runs and confined afterwards; the keeper still treats what comes
//! from it as hostile: fixed sizes, unknown kinds end the cube.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Most descriptors in one message: a plan's id-mapped folders, its pipes and the plan itself.
pub const MAX_FDS: usize = 200;
/// Bytes of one message.
pub const MESSAGE_SIZE: usize = 24;
/// Most sockets in one [`Message::Sockets`].
pub const MAX_SOCKETS: u16 = 32;

/// A message, either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Keeper → child: this is the plan. With a memfd that holds a launch as JSON, the plan in it.
    Plan,
    /// Keeper → child: id maps are written and cgroups entered; apply the plan. With the entry's three pipes if `pipes`, and
    /// the id-mapped folders in the plan's order.
    Ready {
        /// Three pipes come first.
        pipes: bool,
    },
    /// Keeper → child: the seccomp programs, in a memfd.
    Filters,
    /// Child → keeper: its namespaces, ids and mounts are as they will stay; read them back while it confines itself. With
    /// the folder that holds the uppers.
    Mounted,
    /// Keeper → child: they have been read; a sealed process could not be.
    Seen,
    /// Child → keeper: confined and sealed; start the entry when you have seen that.
    Confined,
    /// Child → keeper: a step failed; the child is gone.
    Failed {
        /// [`super::step::Step`] as a number.
        step: u16,
        /// Which of several.
        index: u16,
        /// The error number.
        errno: i32,
    },
    /// Keeper → init: start a process. With a memfd that holds a [`super::spawn::SpawnSpec`], and for pipes three
    /// more descriptors.
    Spawn {
        /// The keeper's number for it; the entry is 0.
        session: u32,
        /// Make a terminal of this size; 0 rows: pipes.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Init → keeper: it runs. With the terminal's master, if it has one.
    Started {
        /// The keeper's number.
        session: u32,
        /// The process id inside.
        pid: i32,
    },
    /// Init → keeper: it could not be executed.
    NotStarted {
        /// The keeper's number.
        session: u32,
        /// Why: ENOENT is 127, anything else 126.
        errno: i32,
        /// It is the working directory that is not there.
        folder: bool,
    },
    /// Init → keeper: it ended.
    Ended {
        /// The keeper's number.
        session: u32,
        /// As waitpid(2) gives it.
        status: i32,
        /// Init has no other process left: every orphan would be its child.
        alone: bool,
    },
    /// Keeper → init: send a signal to a session's process group, or to all for `u32::MAX`.
    Signal {
        /// The keeper's number, or [`ALL_SESSIONS`].
        session: u32,
        /// The signal's number.
        signal: i32,
    },
    /// Keeper → init: give me TCP sockets of the cube's network. A socket belongs to the namespace that it was made
    /// in, so the keeper can connect them itself, when they are needed.
    Sockets {
        /// The keeper's number for it.
        number: u32,
        /// For IPv6.
        six: bool,
        /// How many, [`MAX_SOCKETS`] at most.
        count: u16,
    },
    /// Keeper → init: connect the unix socket that comes along to the path in the memfd that follows. The keeper makes
    /// the socket, because not every filter lets init make one; only the path is init's to look up.
    ConnectUnix {
        /// The keeper's number for it.
        number: u32,
    },
    /// Init → keeper: what was asked for, with the sockets that init made; or why not.
    Given {
        /// The keeper's number.
        number: u32,
        /// The error number; 0 when there is none.
        errno: i32,
    },
}

/// [`Message::Signal`] to every process but init.
pub const ALL_SESSIONS: u32 = u32::MAX;

impl Message {
    fn encode(self) -> [u8; MESSAGE_SIZE] {
        let words: [u32; 4] = match self {
            Self::Plan => [1, 0, 0, 0],
            Self::Ready { pipes } => [15, u32::from(pipes), 0, 0],
            Self::Filters => [11, 0, 0, 0],
            Self::Mounted => [2, 0, 0, 0],
            Self::Seen => [3, 0, 0, 0],
            Self::Confined => [10, 0, 0, 0],
            Self::Failed { step, index, errno } => {
                [4, u32::from(step), u32::from(index), errno.cast_unsigned()]
            }
            Self::Spawn { session, rows, cols } => [5, session, u32::from(rows), u32::from(cols)],
            Self::Started { session, pid } => [6, session, pid.cast_unsigned(), 0],
            Self::NotStarted { session, errno, folder } => {
                [7, session, errno.cast_unsigned(), u32::from(folder)]
            }
            Self::Ended { session, status, alone } => [8, session, status.cast_unsigned(), u32::from(alone)],
            Self::Signal { session, signal } => [9, session, signal.cast_unsigned(), 0],
            Self::Sockets { number, six, count } => [12, number, u32::from(six), u32::from(count)],
            Self::ConnectUnix { number } => [13, number, 0, 0],
            Self::Given { number, errno } => [14, number, errno.cast_unsigned(), 0],
        };
        let mut bytes = [0; MESSAGE_SIZE];
        bytes[..4].copy_from_slice(b"TMJ1");
        for (index, word) in words.iter().enumerate() {
            bytes[4 + 4 * index..8 + 4 * index].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != MESSAGE_SIZE || &bytes[..4] != b"TMJ1" {
            return None;
        }
        let word = |i: usize| {
            u32::from_le_bytes([bytes[4 + 4 * i], bytes[5 + 4 * i], bytes[6 + 4 * i], bytes[7 + 4 * i]])
        };
        let short = |i: usize| u16::try_from(word(i)).ok();
        Some(match word(0) {
            1 => Self::Plan,
            15 => Self::Ready { pipes: word(1) == 1 },
            11 => Self::Filters,
            2 => Self::Mounted,
            3 => Self::Seen,
            4 => Self::Failed { step: short(1)?, index: short(2)?, errno: word(3).cast_signed() },
            5 => Self::Spawn { session: word(1), rows: short(2)?, cols: short(3)? },
            6 => Self::Started { session: word(1), pid: word(2).cast_signed() },
            7 => Self::NotStarted { session: word(1), errno: word(2).cast_signed(), folder: word(3) == 1 },
            8 => Self::Ended { session: word(1), status: word(2).cast_signed(), alone: word(3) == 1 },
            9 => Self::Signal { session: word(1), signal: word(2).cast_signed() },
            10 => Self::Confined,
            12 => Self::Sockets { number: word(1), six: word(2) == 1, count: short(3)? },
            13 => Self::ConnectUnix { number: word(1) },
            14 => Self::Given { number: word(1), errno: word(2).cast_signed() },
            _ => return None,
        })
    }
}

/// Sends a message with up to [`MAX_FDS`] descriptors.
///
/// # Errors
/// As sendmsg(2); EPIPE when the other side is gone.
pub fn send(socket: BorrowedFd<'_>, message: Message, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::TOOMANYREFS) if crate::host::fdpass::more_files() => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What [`receive`] got.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Receives one message; `None` when the other side has closed.
///
/// # Errors
/// As recvmsg(2); EPROTO for a packet that is no message.
pub fn receive(socket: impl AsFd, flags: RecvFlags) -> Result<Option<Received>, Errno> {
    let mut bytes = [0; MESSAGE_SIZE + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let count = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket.as_fd(), &mut slices, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
            Ok(result) => break result.bytes,
            // A peer that ends with unread messages resets the connection; what it said before is still to be had, once
            // the error has been told.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(errno) => return Err(errno),
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if count == 0 {
        return Ok(None);
    }
    let message = Message::decode(&bytes[..count]).ok_or(Errno::PROTO)?;
    Ok(Some(Received { message, fds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_peer_that_did_not_listen_are_heard() {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a pair");
        send(ours.as_fd(), Message::Filters, &[]).expect("sent");
        let words = Message::Failed { step: 1, index: 2, errno: 3 };
        send(its.as_fd(), words, &[]).expect("sent");
        drop(its);
        let heard = receive(&ours, RecvFlags::empty()).expect("no error").map(|received| received.message);
        assert_eq!(heard, Some(words));
        assert!(receive(&ours, RecvFlags::empty()).expect("the end").is_none());
    }

    #[test]
    fn messages_round_trip_and_lies_are_refused() {
        for message in [
            Message::Plan,
            Message::Ready { pipes: true },
            Message::Filters,
            Message::Failed { step: 3, index: 2, errno: -7 },
            Message::Spawn { session: 9, rows: 24, cols: 80 },
            Message::Ended { session: 1, status: 256, alone: true },
            Message::Signal { session: ALL_SESSIONS, signal: 15 },
            Message::Sockets { number: 7, six: true, count: 16 },
            Message::ConnectUnix { number: 8 },
            Message::Given { number: 9, errno: 111 },
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        let mut bytes = Message::Seen.encode();
        bytes[4] = 77;
        assert_eq!(Message::decode(&bytes), None);
        assert_eq!(Message::decode(b"TMJ1"), None);
        let mut bytes = Message::Spawn { session: 0, rows: 1, cols: 1 }.encode();
        bytes[14] = 1;
        assert_eq!(Message::decode(&bytes), None, "rows beyond 16 bits");
    }
}
