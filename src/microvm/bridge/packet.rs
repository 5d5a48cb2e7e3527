//! What the bridge and its clients in the same cube say to each other: packets of one size, with descriptors.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::host::fdpass;

/// Bytes of each.
const SIZE: usize = 16;

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    /// Client: start this. With a memfd that holds a spawn, then standard input, output and, without a terminal, error.
    Exec,
    /// Client: the size of its terminal.
    Resize(u16, u16),
    /// Client: a signal for the session.
    Signal(i32),
    /// Client: hold the guest still until I am gone.
    Freeze,
    /// Client: the bytes of the guest's memory that are in use, and how many processes.
    Stats,
    /// Bridge: it runs.
    Started(i32),
    /// Bridge: it could not be started; whether it is the folder.
    NotStarted(i32, bool),
    /// Bridge: it has ended with this status.
    Ended(i32),
    /// Bridge: done, or the error number.
    Done(i32),
    /// Bridge: bytes in use, and processes.
    Told(u64, u32),
}

impl Packet {
    fn encode(self) -> [u8; SIZE] {
        let (kind, a, b): (u32, u64, u32) = match self {
            Self::Exec => (1, 0, 0),
            Self::Resize(rows, cols) => (2, u64::from(rows), u32::from(cols)),
            Self::Signal(signal) => (3, 0, signal.cast_unsigned()),
            Self::Freeze => (4, 0, 0),
            Self::Stats => (5, 0, 0),
            Self::Started(pid) => (6, 0, pid.cast_unsigned()),
            Self::NotStarted(errno, folder) => (7, u64::from(folder), errno.cast_unsigned()),
            Self::Ended(status) => (8, 0, status.cast_unsigned()),
            Self::Done(errno) => (9, 0, errno.cast_unsigned()),
            Self::Told(bytes, processes) => (10, bytes, processes),
        };
        let mut bytes = [0; SIZE];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..12].copy_from_slice(&a.to_le_bytes());
        bytes[12..].copy_from_slice(&b.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [k0, k1, k2, k3, a @ .., b0, b1, b2, b3] = <[u8; SIZE]>::try_from(bytes).ok()?;
        let (a, b) = (u64::from_le_bytes(a), u32::from_le_bytes([b0, b1, b2, b3]));
        let code = b.cast_signed();
        Some(match u32::from_le_bytes([k0, k1, k2, k3]) {
            1 => Self::Exec,
            2 => Self::Resize(u16::try_from(a).ok()?, u16::try_from(b).ok()?),
            3 => Self::Signal(code),
            4 => Self::Freeze,
            5 => Self::Stats,
            6 => Self::Started(code),
            7 => Self::NotStarted(code, a == 1),
            8 => Self::Ended(code),
            9 => Self::Done(code),
            10 => Self::Told(a, b),
            _ => return None,
        })
    }
}

/// Sends one.
pub(super) fn send(socket: &OwnedFd, packet: Packet, fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    fdpass::send(socket, &packet.encode(), fds)
}

/// Receives one; `None` when there is none yet.
///
/// # Errors
/// The other side is gone, or sent something else.
pub(super) fn receive(socket: &OwnedFd) -> Result<Option<(Packet, Vec<OwnedFd>)>, Errno> {
    let mut bytes = [0; SIZE + 1];
    match fdpass::receive(socket, &mut bytes) {
        Ok((0, _)) => Err(Errno::PIPE),
        Ok((count, fds)) => {
            let packet = Packet::decode(&bytes[..count]).ok_or(Errno::PROTO)?;
            Ok(Some((packet, fds)))
        }
        Err(error) => match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
            Errno::AGAIN | Errno::INTR => Ok(None),
            errno => Err(errno),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_round_trip_and_others_are_none() {
        for packet in [
            Packet::Exec,
            Packet::Resize(24, 80),
            Packet::Signal(15),
            Packet::Freeze,
            Packet::Stats,
            Packet::Started(7),
            Packet::NotStarted(2, true),
            Packet::Ended(256),
            Packet::Done(5),
            Packet::Told(1 << 40, 3),
        ] {
            assert_eq!(Packet::decode(&packet.encode()), Some(packet));
        }
        assert_eq!(Packet::decode(&[0; SIZE]), None);
        assert_eq!(Packet::decode(&[1; SIZE + 1]), None);
        let mut wide = Packet::Resize(1, 1).encode();
        wide[9] = 1;
        assert_eq!(Packet::decode(&wide), None, "rows beyond 16 bits");
    }
}
