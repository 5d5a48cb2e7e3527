//! The N rows: what a program inside can reach when the policy is `proxy` and the proxy is the battery's own. It answers names
//! with a token, and goes away when it is asked for [`STOP`].

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, netlink, sendto, socket_with};

use super::{Seen, fail, none_of, pass, untested};
use crate::plan::battery::{NAME, STOP};

/// Nothing may take longer to fail.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Reads what a connection is answered with, if it is at all.
fn answer(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, AT_ONCE)?;
    stream.set_read_timeout(Some(AT_ONCE))?;
    stream.write_all(b"hello\n")?;
    let mut text = String::new();
    stream.take(1000).read_to_string(&mut text)?;
    Ok(text)
}

fn by_name(name: &str) -> std::io::Result<String> {
    let address = (name, 80).to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
    answer(address)
}

/// What is wrong with how it went: an answer, or a wait.
fn wrong(what: &str, begun: Instant, went: std::io::Result<String>) -> Option<String> {
    match went {
        Ok(text) if !text.is_empty() => Some(format!("{what} was answered")),
        _ if begun.elapsed() >= AT_ONCE => Some(format!("{what} failed only after {:?}", begun.elapsed())),
        _ => None,
    }
}

/// TCP to the host's listener on each of the host's addresses, to metadata services and to nowhere.
pub(super) fn past_the_proxy(port: Option<u16>, addresses: &[IpAddr]) -> Seen {
    let Some(port) = port else { return untested("no listener was set out on the host") };
    let nowhere =
        ["169.254.169.254:80", "100.100.100.200:80", "192.0.2.1:443", "[2001:db8::1]:443", "[fe80::1]:80"];
    let own = addresses.iter().map(|address| SocketAddr::new(*address, port));
    let all = own.chain(nowhere.iter().filter_map(|text| text.parse().ok()));
    let found: Vec<String> = all
        .filter_map(|address| {
            let begun = Instant::now();
            wrong(&address.to_string(), begun, answer(address))
        })
        .collect();
    none_of(&found, "each is refused at once")
}

/// Datagrams, pings and raw packets.
pub(super) fn datagrams() -> Seen {
    let mut found = Vec::new();
    for (text, own) in [
        ("192.0.2.1:443", "0.0.0.0:0"),
        ("192.0.2.1:123", "0.0.0.0:0"),
        ("169.254.169.254:80", "0.0.0.0:0"),
        ("[2001:db8::1]:443", "[::]:0"),
    ] {
        // A socket that is not connected hears of no refusal but where it sends.
        for (how, connected) in [("", true), (", not connected", false)] {
            let begun = Instant::now();
            let went = || -> std::io::Result<String> {
                let socket = UdpSocket::bind(own)?;
                socket.set_read_timeout(Some(AT_ONCE))?;
                if connected {
                    socket.connect(text)?;
                    socket.send(b"x")?;
                } else {
                    socket.send_to(b"x", text)?;
                }
                let mut buffer = [0; 16];
                socket.recv(&mut buffer).map(|count| format!("{count} bytes"))
            };
            found.extend(wrong(&format!("UDP to {text}{how}"), begun, went()));
        }
    }
    for (what, kind) in [("ping", SocketType::DGRAM), ("raw ICMP", SocketType::RAW)] {
        let Ok(socket) =
            socket_with(AddressFamily::INET, kind, SocketFlags::empty(), Some(rustix::net::ipproto::ICMP))
        else {
            continue;
        };
        // An echo request to 192.0.2.1, its sum right.
        let packet = [8, 0, 0xf7, 0xfe, 0, 0, 0, 1];
        let to = SocketAddr::from(([192, 0, 2, 1], 0));
        let mut buffer = [0; 64];
        let _timeout = rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(AT_ONCE),
        );
        let begun = Instant::now();
        let went = sendto(&socket, &packet, SendFlags::empty(), &to)
            .and_then(|_| rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::empty()))
            .map(|_| "an echo".to_owned())
            .map_err(Into::into);
        found.extend(wrong(what, begun, went));
    }
    none_of(&found, "none is answered, each fails at once")
}

/// What goes around `connect`: data with the first packet, and TCP of another name.
pub(super) fn unusual(port: Option<u16>) -> Seen {
    let Some(port) = port else { return untested("no listener was set out on the host") };
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let fast = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::empty(), None)
        // MSG_FASTOPEN of sys/socket.h.
        .and_then(|socket| sendto(&socket, b"x", SendFlags::from_bits_retain(0x2000_0000), &to));
    let multi = std::num::NonZeroU32::new(262).map(rustix::net::Protocol::from_raw);
    let multi = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::empty(), multi);
    let mut found = Vec::new();
    if fast.is_ok() {
        found.push("MSG_FASTOPEN reached the host's listener".to_owned());
    }
    if multi.is_ok_and(|socket| rustix::net::connect(&socket, &to).is_ok()) {
        found.push("MPTCP reached the host's listener".to_owned());
    }
    none_of(&found, "neither reaches the host")
}

/// The network's set-up, as whoever runs inside.
pub(super) fn changing() -> Seen {
    let mut found = Vec::new();
    if let Ok(socket) = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::empty(), None) {
        // RTM_NEWLINK (16): request, acknowledge; loopback's number, to be switched on, which it is. That needs the same right as
        // switching it off, and where this runs with that right, as in a test outside of any jail, the host must not suffer.
        let mut on = vec![32, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        on.extend([0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        let mut back = [0; 256];
        let said = rustix::net::send(&socket, &on, SendFlags::empty())
            .and_then(|_| rustix::net::recv(&socket, &mut back[..], rustix::net::RecvFlags::DONTWAIT));
        let code = i32::from_ne_bytes([back[16], back[17], back[18], back[19]]);
        if said.is_ok() && code == 0 {
            found.push("the loopback device can be switched".to_owned());
        }
    }
    if socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::empty(), Some(netlink::NETFILTER))
        .is_ok()
    {
        found.push("the rules of the network can be asked for".to_owned());
    }
    let lo = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::empty(), None);
    if let Ok(socket) = lo
        && rustix::net::sockopt::set_socket_reuseaddr(&socket, true).is_ok()
        && mark(socket.as_raw_fd()) != Some(Errno::PERM)
    {
        found.push("packets can be marked past the rules".to_owned());
    }
    none_of(&found, "nothing of it can be changed")
}

/// Sets a packet mark (`SO_MARK`), which only `CAP_NET_ADMIN` may.
#[expect(unsafe_code, reason = "a socket option that rustix does not wrap")]
fn mark(fd: std::os::fd::RawFd) -> Option<Errno> {
    let mark: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the option is an int that lives across the call, of the length given.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_MARK, (&raw const mark).cast(), length) };
    (result < 0)
        .then(|| std::io::Error::last_os_error().raw_os_error().map(Errno::from_raw_os_error))
        .flatten()
}

/// A name arrives at the proxy as a name: only then it answers with the token.
pub(super) fn named(token: Option<&str>) -> Seen {
    let Some(token) = token else { return untested("no proxy was set out on the host") };
    match by_name(NAME) {
        Ok(text) if text.trim() == token => pass("the proxy was given the name"),
        Ok(text) => fail(format!("something else answered: {} bytes", text.len())),
        Err(error) => fail(format!("the proxy was not reached: {error}")),
    }
}

/// The proxy goes away, and then nothing is reached, at once.
pub(super) fn proxy_gone(token: Option<&str>) -> Seen {
    if token.is_none() {
        return untested("no proxy was set out on the host");
    }
    // It answers once more, and is gone by then.
    if !by_name(STOP).is_ok_and(|text| !text.is_empty()) {
        return untested("the proxy could not be told to go");
    }
    let begun = Instant::now();
    match wrong("a name", begun, by_name(NAME)) {
        Some(why) => fail(format!("without the proxy {why}")),
        None => pass("without the proxy nothing is reached, at once"),
    }
}
