//! One nftables batch that makes a table: the smallest thing that shows whether a redirect could be
//! set up. Only for a network namespace that nobody else uses.

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// Subsystem nftables (10), message `NEWTABLE` (0).
const NEW_TABLE: u16 = 10 << 8;
const NLMSG_ERROR: u16 = 2;
/// `NLM_F_REQUEST`, and with it `NLM_F_ACK | NLM_F_CREATE`.
const REQUEST: u16 = 1;
const REQUEST_ACK_CREATE: u16 = 1 | 4 | 0x400;
const NFPROTO_IPV4: u8 = 2;
const SEQUENCE: u32 = 1;

/// Makes a table in the current network namespace.
pub(super) fn make_table() -> Result<()> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
    let mut batch = message(BATCH_BEGIN, REQUEST, 0, 0, 10, &[]);
    // Attribute NFTA_TABLE_NAME (1): length, type, text with its NUL, padded to four.
    let name = [11_u8, 0, 1, 0, b't', b'r', b'i', b'p', b'm', b'x', 0, 0];
    batch.extend(message(NEW_TABLE, REQUEST_ACK_CREATE, SEQUENCE, NFPROTO_IPV4, 0, &name));
    batch.extend(message(BATCH_END, REQUEST, 2, 0, 10, &[]));
    send(&socket, &batch, SendFlags::empty())?;
    let mut answer = [0_u8; 4096];
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    result_of(answer.get(..length).unwrap_or_default())
}

/// A netlink message with an `nfgenmsg` of `family` and resource `resource`.
fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(20 + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The error in the kernel's answer, none of which is 0.
fn result_of(answer: &[u8]) -> Result<()> {
    let half = |at: usize| answer.get(at..at + 2).and_then(|b| <[u8; 2]>::try_from(b).ok());
    let word = |at: usize| answer.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
    match (half(4).map(u16::from_ne_bytes), word(16).map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(Errno::from_raw_os_error(code.saturating_neg())),
        _ => Err(Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = |code: i32| {
            let mut bytes = message(NLMSG_ERROR, 0, 1, 0, 0, &[]);
            bytes.splice(16..20, code.to_ne_bytes());
            bytes
        };
        assert_eq!(result_of(&answer(0)), Ok(()));
        assert_eq!(result_of(&answer(-1)), Err(Errno::PERM));
        assert_eq!(result_of(&answer(0)[..10]), Err(Errno::BADMSG));
        assert_eq!(result_of(&message(16, 0, 1, 0, 0, &[])), Err(Errno::BADMSG));
    }
}
