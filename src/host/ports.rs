//! What listens in a cube, seen from outside: the tables of its network namespace, and who holds the sockets.
//!
//! Nothing inside is asked or run. Every number is bounded, because a cube decides how long these tables are; names of
//! programs are a cube's own words and must be made printable by whoever shows them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::Listening;

/// The most bytes that are read of one table.
const TABLE_MAX: u64 = 4 << 20;
/// The most listening sockets that are told.
const SOCKETS_MAX: usize = 4096;
/// The most processes that are looked at.
const PROCESSES_MAX: usize = 16_384;
/// The most descriptors that are looked at, over all processes.
const DESCRIPTORS_MAX: usize = 1 << 20;
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

/// What listens in the cube of `init`, by port. What `keeper` holds is ours and left out.
///
/// # Errors
/// The cube has ended.
pub fn ports(init: i32, keeper: Option<i32>) -> io::Result<Vec<Listening>> {
    let mut sockets = sockets(init)?;
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    let mut budget = DESCRIPTORS_MAX;
    let ours: HashSet<u64> =
        keeper.map(|keeper| held(keeper, &mut budget).into_iter().collect()).unwrap_or_default();
    sockets.retain(|socket| !ours.contains(&socket.inode));
    let mut wanted: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let mut holders: HashMap<u64, i32> = HashMap::new();
    for pid in tree(init) {
        if wanted.is_empty() || budget == 0 {
            break;
        }
        for inode in held(pid, &mut budget) {
            if wanted.remove(&inode) {
                holders.insert(inode, pid);
            }
        }
    }
    let mut found: Vec<Listening> = sockets
        .iter()
        .map(|socket| {
            let holder = holders.get(&socket.inode).copied();
            Listening {
                port: socket.address.port(),
                address: socket.address.ip(),
                program: holder.and_then(name),
                pid: holder.and_then(|pid| super::proc::status_and_seal(pid).ok()?.0.inner_pid),
            }
        })
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// The processes of a cube, by their numbers here: init and everything beneath it.
#[must_use]
pub fn tree(init: i32) -> Vec<i32> {
    let (mut found, mut at) = (vec![init], 0);
    while let Some(&pid) = found.get(at).filter(|_| found.len() < PROCESSES_MAX) {
        at += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found.truncate(PROCESSES_MAX);
    found
}

/// The inodes of the sockets that a process holds.
fn held(pid: i32, budget: &mut usize) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut inodes = Vec::new();
    for entry in entries.flatten().take(*budget) {
        *budget = budget.saturating_sub(1);
        // `socket:[123]`; reading the link opens nothing.
        if let Ok(target) = fs::read_link(entry.path())
            && let Some(number) = target.to_str().and_then(|text| text.strip_prefix("socket:["))
            && let Ok(inode) = number.trim_end_matches(']').parse()
        {
            inodes.push(inode);
        }
    }
    inodes
}

/// The name of a process, as it gave it itself.
fn name(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

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

    #[test]
    fn our_own_listener_is_found_with_its_program() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("address").port();
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let all = ports(me, None).expect("ports");
        let mine = all.iter().find(|found| found.port == port).expect("listed");
        assert_eq!((mine.scope().as_str(), mine.pid.is_some()), ("loopback", true));
        assert!(mine.program.is_some());
        // What a keeper holds is left out.
        assert!(!ports(me, Some(me)).expect("ports").iter().any(|found| found.port == port));
    }
}
