//! Where the kernel would lead a packet of this host: whether an address is the host's own.

use std::net::IpAddr;

use rustix::io::{Errno, Result};

use super::netlink::{self, Packet};

/// `RTM_NEWROUTE`, `RTM_GETROUTE` (rtnetlink(7)).
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// `RTA_DST`.
const DESTINATION: u16 = 1;
/// `RTN_LOCAL`, `RTN_ANYCAST`: the kernel answers for it itself.
const LOCAL: u8 = 2;
const ANYCAST: u8 = 4;
/// Where the kind of a route stands in its `struct rtmsg`.
const KIND: usize = 7;

/// True when a connection to `address` would not leave the host: it is on one of its devices, as the first or a further one, or
/// a route makes it local. The kernel's own routing is asked, as it would be for the connection, and nothing is sent.
///
/// # Errors
/// It could not be told.
pub fn is_own(address: IpAddr) -> Result<bool> {
    let (family, octets) = match address {
        IpAddr::V4(it) => (2, it.octets().to_vec()),
        IpAddr::V6(it) => (10, it.octets().to_vec()),
    };
    let bits = if family == 2 { 32 } else { 128 };
    let mut request = Packet::default();
    // struct rtmsg: family, destination and how many of its bits, no source, and the rest as the kernel chooses.
    request.message(GET_ROUTE, 0, 1, &[family, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], |packet| {
        packet.attribute(DESTINATION, &octets);
    });
    match netlink::ask(netlink::socket(None)?, &request) {
        // No way there, or one that is closed: a connection fails in the same way.
        Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
        Ok((NEW_ROUTE, body)) => {
            body.get(KIND).map(|kind| matches!(*kind, LOCAL | ANYCAST)).ok_or(Errno::BADMSG)
        }
        Ok(_) => Err(Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn the_host_knows_its_own_addresses() {
        assert_eq!(is_own(Ipv4Addr::LOCALHOST.into()), Ok(true));
        assert_eq!(is_own(Ipv4Addr::new(127, 7, 7, 7).into()), Ok(true));
        // Documentation addresses belong to nobody (RFC 5737).
        for text in ["192.0.2.1", "198.51.100.77", "2001:db8::1"] {
            assert_eq!(is_own(text.parse().expect("address")), Ok(false), "{text}");
        }
        // The one that packets leave from, where there is a way out at all.
        let out = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.2.1:9")?;
            socket.local_addr()
        });
        if let Ok(out) = out {
            assert_eq!(is_own(out.ip()), Ok(true), "{out}");
        }
    }
}
