//! The kernel's tables of TCP sockets, read with a bound, because whoever owns the sockets decides how long they are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most bytes that are read of one table.
const TABLE_MAX: u64 = 4 << 20;
/// The most listening sockets that are told.
const SOCKETS_MAX: usize = 4096;
/// State LISTEN in `/proc/net/tcp` (proc_net_tcp, `TCP_LISTEN`).
const LISTEN: &str = "0A";

/// A listening socket: where, and its inode, which names it in `/proc/PID/fd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Socket {
    /// Where.
    pub address: SocketAddr,
    /// Its inode.
    pub inode: u64,
}

/// The listening TCP sockets of the network namespace of process `pid`.
///
/// # Errors
/// The process is gone.
pub fn sockets(pid: i32) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for table in ["tcp", "tcp6"] {
        match File::open(format!("/proc/{pid}/net/{table}")) {
            Ok(file) => listening(file, &mut sockets)?,
            // A kernel without IPv6 has no table of it.
            Err(error) if table == "tcp6" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// The kernel lists those that listen first, so the first that does not ends it.
fn listening(table: impl Read, sockets: &mut Vec<Socket>) -> io::Result<()> {
    for line in BufReader::new(table.take(TABLE_MAX)).lines().skip(1) {
        let line = line?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(&state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
            break;
        };
        if state != LISTEN || sockets.len() >= SOCKETS_MAX {
            break;
        }
        if let (Some(address), Ok(inode)) = (address(local), inode.parse()) {
            sockets.push(Socket { address, inode });
        }
    }
    Ok(())
}

/// `0100007F:1F90`: words of the address in host order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        address
            .get(8 * at..8 * at + 8)
            .and_then(|text| u32::from_str_radix(text, 16).ok())
            .map(u32::to_ne_bytes)
    };
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (at, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            // A server for IPv4 that opened an IPv6 socket is one for IPv4.
            let six = Ipv6Addr::from(octets);
            six.to_ipv4_mapped().map_or(six.into(), Into::into)
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 x\n\
        \x20  1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1 x\n\
        \x20  2: 0100007F:1F91 0100007F:0016 01 00000000:00000000 00:00000000 00000000     0        0 18 1 x\n\
        \x20  3: 0100007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19 1 x\n";

    #[test]
    fn only_what_listens_is_taken() {
        let mut sockets = Vec::new();
        listening(TABLE.as_bytes(), &mut sockets).expect("read");
        let shown: Vec<_> = sockets.iter().map(|s| (s.address.to_string(), s.inode)).collect();
        assert_eq!(shown, [("127.0.0.1:8080".to_owned(), 4242), ("0.0.0.0:22".to_owned(), 17)]);
    }

    #[test]
    fn addresses_of_both_families() {
        for (text, shown) in [
            ("0100007F:0050", Some("127.0.0.1:80")),
            ("00000000000000000000000001000000:0050", Some("[::1]:80")),
            ("0000000000000000FFFF00000100007F:0050", Some("127.0.0.1:80")),
            ("0100007F", None),
            ("0100007:0050", None),
            ("0100007F:5", Some("127.0.0.1:5")),
            ("\u{e9}\u{e9}\u{e9}\u{e9}:0050", None),
            ("0100007F:10000", None),
        ] {
            assert_eq!(address(text).map(|a| a.to_string()).as_deref(), shown, "{text}");
        }
    }
}
