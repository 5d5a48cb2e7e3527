//! Netlink messages as bytes (netlink(7)): written with nested attributes, read back without trusting any length.
//! What a message means is its user's business.

use std::os::fd::AsFd;

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::os::fd::OwnedFd;

/// `NLM_F_REQUEST`: every message of ours is one.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_MULTI`: part of a dump.
pub const MULTI: u16 = 0x2;
/// `NLM_F_ACK`: answer even when nothing is wrong.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`: everything there is.
pub const DUMP: u16 = 0x300;
/// `NLM_F_CREATE | NLM_F_EXCL`: make it, and refuse if it is there.
pub const CREATE: u16 = 0x400 | 0x200;
/// `NLM_F_APPEND`: at the end of its list.
pub const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`: also an acknowledgement, with error 0.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const DONE: u16 = 3;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// Bytes of `struct nlmsghdr`.
const HEAD: usize = 16;

/// Messages that are sent in one piece.
#[derive(Debug, Default, Clone)]
pub struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    /// Adds a message: `fixed` is the header of its family, `body` adds its attributes.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        fixed: &[u8],
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        self.pad();
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Adds a text with its NUL.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// Adds a number, big endian, as netfilter has them.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Adds an attribute that holds attributes.
    pub fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// What is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A message as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// Whose answer it is.
    pub sequence: u32,
    /// All after the header.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// The error of an [`ERROR`] message, as a positive number; 0 is an acknowledgement.
    #[must_use]
    pub fn error(&self) -> Option<i32> {
        let code = self.body.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes))?;
        (self.kind == ERROR).then(|| code.saturating_neg())
    }
}

/// The whole messages in `bytes`; a torn one ends the list.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<HEAD>()?;
        let [a, b, c, d, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *head;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        let body = bytes.get(HEAD..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body,
        })
    })
}

/// The attributes in `bytes`, without the nesting flag; a torn one ends the list.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

/// The first attribute of a kind.
#[must_use]
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(its, _)| *its == kind).map(|(_, value)| value)
}

/// A netlink socket in the calling thread's network namespace, in which it stays.
///
/// # Errors
/// As socket(2).
pub fn socket(family: Option<Protocol>) -> Result<OwnedFd> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, family)
}

/// Sends `packet` and reads the answers, all of which the kernel has queued when send(2) returns.
///
/// # Errors
/// The first error that the kernel names; EBADMSG when it did not acknowledge message `last`.
pub fn apply(socket: impl AsFd, packet: &Packet, last: u32) -> Result<()> {
    send(&socket, packet.bytes(), SendFlags::empty())?;
    let mut answer = [0_u8; 8192];
    let mut done = false;
    loop {
        let length = match recv(&socket, &mut answer[..], RecvFlags::DONTWAIT) {
            Ok((_, length)) => length.min(answer.len()),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        for message in messages(&answer[..length]) {
            match message.error() {
                Some(0) => done |= message.sequence == last,
                Some(code) => return Err(Errno::from_raw_os_error(code)),
                None => {}
            }
        }
    }
    if done { Ok(()) } else { Err(Errno::BADMSG) }
}

/// The most bytes of one answer.
const ANSWER_MAX: usize = 4096;

/// Sends a question that has one message as its answer: its kind, and all after its header.
///
/// # Errors
/// The error that the kernel names, or that of the socket; EBADMSG when there is no whole message.
pub fn ask(socket: impl AsFd, question: &Packet) -> Result<(u16, Vec<u8>)> {
    send(&socket, question.bytes(), SendFlags::empty())?;
    let mut answer = [0_u8; ANSWER_MAX];
    let length = loop {
        match recv(&socket, &mut answer[..], RecvFlags::DONTWAIT) {
            Ok((_, length)) => break length.min(answer.len()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    };
    let message = messages(&answer[..length]).next().ok_or(Errno::BADMSG)?;
    match message.error() {
        Some(code) => Err(Errno::from_raw_os_error(code)),
        None => Ok((message.kind, message.body.to_vec())),
    }
}

/// The most bytes of a dump: everything of ours is far smaller.
const DUMP_MAX: usize = 256 * 1024;

/// Sends a request for a dump and gives all of it, one message after the other.
///
/// # Errors
/// The error that the kernel names; EOVERFLOW when there is more than anything of ours holds.
pub fn dump(socket: impl AsFd, request: &Packet) -> Result<Vec<u8>> {
    send(&socket, request.bytes(), SendFlags::empty())?;
    let mut all = Vec::new();
    let mut buffer = vec![0_u8; 32 * 1024];
    loop {
        let length = match recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, length)) => length.min(buffer.len()),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Err(Errno::BADMSG),
            Err(errno) => return Err(errno),
        };
        for message in messages(&buffer[..length]) {
            if message.kind == DONE {
                return Ok(all);
            }
            if let Some(code) = message.error().filter(|code| *code != 0) {
                return Err(Errno::from_raw_os_error(code));
            }
        }
        all.extend_from_slice(&buffer[..length]);
        if all.len() > DUMP_MAX {
            return Err(Errno::OVERFLOW);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Packet {
        let mut packet = Packet::default();
        packet.message(7, ACK, 3, &[1, 2, 3], |packet| {
            packet.text(1, "ab");
            packet.nested(2, |packet| packet.number(5, 0x0102_0304));
        });
        packet.message(8, 0, 4, &[], |_| {});
        packet
    }

    #[test]
    fn what_is_written_is_read() {
        let packet = sample();
        let read: Vec<_> = messages(packet.bytes()).collect();
        assert_eq!(
            read.iter().map(|m| (m.kind, m.flags, m.sequence)).collect::<Vec<_>>(),
            [(7, ACK | REQUEST, 3), (8, REQUEST, 4)]
        );
        let body = &read[0].body[4..];
        assert_eq!(attribute(body, 1), Some(&b"ab\0"[..]));
        let inner = attribute(body, 2).expect("nested");
        assert_eq!(attribute(inner, 5), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(body, 9), None);
    }

    #[test]
    fn torn_and_lying_bytes_end_the_list() {
        let packet = sample();
        let whole = packet.bytes();
        for end in 0..whole.len() {
            assert!(messages(&whole[..end]).count() < 2, "{end}");
        }
        let mut lie = whole.to_vec();
        lie[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(messages(&lie).count(), 0);
        lie[0..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert_eq!(messages(&lie).count(), 0, "shorter than its own head");
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0, "shorter than its own head");
        assert_eq!(attributes(&[9, 0, 1, 0, 7]).count(), 0);
    }
}
