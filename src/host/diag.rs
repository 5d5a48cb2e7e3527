//! Which socket of a network namespace has these two ends (`sock_diag(7)`): one question, one answer, whatever number of
//! sockets there is.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::{Errno, Result};

use super::netlink::{self, Packet};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// Where the inode stands in `struct inet_diag_msg`.
const INODE: usize = 68;

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection.
    Tcp,
    /// A socket of datagrams.
    Udp,
}

/// The inode of the socket at `from` that speaks to `to`; `None` where there is none. `socket` is one of `sock_diag` in the network
/// namespace that is asked about.
///
/// # Errors
/// It cannot be told.
pub fn inode(socket: impl AsFd, kind: Kind, from: SocketAddr, to: SocketAddr) -> Result<Option<u64>> {
    // For datagrams the kernel has the two ends the other way round, "for historical reasons" (net/ipv4/udp_diag.c).
    let (protocol, first, second) = match kind {
        Kind::Tcp => (6, from, to),
        Kind::Udp => (17, to, from),
    };
    let family = if from.is_ipv4() { 2 } else { 10 };
    // struct inet_diag_req_v2: family, protocol, no extensions, every state, the two ends, no device, no cookie.
    let mut question = vec![family, protocol, 0, 0];
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(first.port().to_be_bytes());
    question.extend(second.port().to_be_bytes());
    for end in [first, second] {
        question.extend(sixteen(end.ip()));
    }
    question.extend([0; 4]);
    question.extend([0xff; 8]);
    let mut request = Packet::default();
    request.message(BY_FAMILY, 0, 1, &question, |_| {});
    match netlink::ask(socket, &request) {
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
        Ok((_, body)) => {
            let number = body.get(INODE..INODE + 4).ok_or(Errno::BADMSG)?;
            let number = number.try_into().map(u32::from_ne_bytes).unwrap_or_default();
            // One whose program has closed it has none.
            Ok(Some(u64::from(number)).filter(|number| *number != 0))
        }
    }
}

/// An address in the sixteen bytes that hold either kind.
fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(it) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&it.octets());
            bytes
        }
        IpAddr::V6(it) => it.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    use super::*;

    fn its_inode(socket: &impl AsRawFd) -> u64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("link");
        let text = link.to_string_lossy().into_owned();
        text.trim_start_matches("socket:[").trim_end_matches(']').parse().expect(&text)
    }

    #[test]
    fn a_socket_is_found_by_its_ends() {
        let Ok(socket) = netlink::socket(Some(rustix::net::netlink::SOCK_DIAG)) else {
            println!("SKIPPED a_socket_is_found_by_its_ends: this kernel has no sock_diag");
            return;
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let there = listener.local_addr().expect("address");
        let client = TcpStream::connect(there).expect("connected");
        let here = client.local_addr().expect("address");
        let found = match inode(&socket, Kind::Tcp, here, there) {
            Err(Errno::NOENT | Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT) => {
                println!("SKIPPED a_socket_is_found_by_its_ends: this kernel has no tcp_diag");
                return;
            }
            found => found.expect("asked"),
        };
        assert_eq!(found, Some(its_inode(&client)));
        let (other, _) = listener.accept().expect("accepted");
        assert_eq!(inode(&socket, Kind::Tcp, there, here), Ok(Some(its_inode(&other))), "its other end");
        drop((client, other));
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(inode(&socket, Kind::Tcp, nobody, there), Ok(None));
        let asker = UdpSocket::bind("127.0.0.1:0").expect("bound");
        asker.connect("127.0.0.1:53").expect("connected");
        let here = asker.local_addr().expect("address");
        let to = SocketAddr::from(([127, 0, 0, 1], 53));
        match inode(&socket, Kind::Udp, here, to) {
            Ok(found) => assert_eq!(found, Some(its_inode(&asker))),
            Err(errno) => println!("SKIPPED a_socket_is_found_by_its_ends: no udp_diag here: {errno}"),
        }
    }
}
