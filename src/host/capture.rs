//! A cube's network, set up from outside: addresses and routes that make every destination local, the rules that lead it to
//! the gateway, and the listeners, which come out as descriptors.
//!
//! A short-lived helper does it, forked from the keeper while that has one thread: it enters the cube's user namespace,
//! over which its owner has every capability (user_namespaces(7)), and then the network namespace. Nothing inside has
//! `CAP_NET_ADMIN`, so what the helper leaves is there until the cube ends. When the keeper goes, its listeners go with it
//! and a redirected connection is refused.
#![expect(unsafe_code, reason = "a forked child")]

mod ruleset;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink as family, socket_with, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::LinkNameSpaceType;

use super::netlink::{self, ACK, CREATE, Packet};
use super::sys::{Forked, fork_into};
use super::{fdpass, net};
use crate::model::net::{OWN_V4, OWN_V6};

pub use ruleset::Ports;

/// What the gateway listens on in one family, inside the cube's network namespace, not blocking. Bound and not yet listening:
/// they begin to when the keeper has them, so that at no moment there is a listener whose owner nobody can tell.
#[derive(Debug)]
pub struct Listeners {
    /// Every TCP connection that is not DNS.
    pub tcp: OwnedFd,
    /// DNS over UDP.
    pub dns_udp: OwnedFd,
    /// DNS over TCP.
    pub dns_tcp: OwnedFd,
    /// Their ports.
    pub ports: Ports,
}

/// What the gateway works with.
#[derive(Debug)]
pub struct Captured {
    /// On 127.0.0.1.
    pub v4: Listeners,
    /// On ::1, where this kernel has IPv6.
    pub v6: Option<Listeners>,
    /// A netlink socket of the cube's network namespace, with which its rules are read.
    pub rules: OwnedFd,
    /// Another one, which tells whose a socket is; none where this kernel has no `sock_diag`.
    pub diag: Option<OwnedFd>,
}

impl Captured {
    /// Lets connections wait from now on until they are taken, `backlog` of them: what runs inside may connect at once.
    ///
    /// # Errors
    /// As listen(2).
    pub fn listen(&self, backlog: i32) -> io::Result<()> {
        for family in std::iter::once(&self.v4).chain(&self.v6) {
            for socket in [&family.tcp, &family.dns_tcp] {
                rustix::net::listen(socket, backlog)?;
            }
        }
        Ok(())
    }

    /// Compares the rules in force with those that were asked for; how many there are.
    ///
    /// # Errors
    /// They differ, or cannot be read.
    pub fn verify(&self) -> io::Result<usize> {
        let v6 = self.v6.as_ref().map(|listeners| listeners.ports);
        verify(&self.rules, self.v4.ports, v6)
    }
}

/// Compares the rules in force with those for these ports, over a netlink socket of their namespace; how many there are.
///
/// # Errors
/// They differ, or cannot be read.
pub fn verify(rules: &OwnedFd, v4: Ports, v6: Option<Ports>) -> io::Result<usize> {
    Ok(ruleset::verify(rules, v4, v6)?)
}

/// Which step of the set-up failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Forking, or hearing the helper.
    Helper,
    /// Entering the namespaces.
    Enter,
    /// Loopback, addresses, routes.
    Routes,
    /// The listeners.
    Listeners,
    /// The rules.
    Rules,
}

const PARTS: [Part; 5] = [Part::Helper, Part::Enter, Part::Routes, Part::Listeners, Part::Rules];

/// Why a cube's network could not be captured.
#[derive(Debug, thiserror::Error)]
#[error("{}: {errno}", match part {
    Part::Helper => "its helper process failed",
    Part::Enter => "its namespaces cannot be entered",
    Part::Routes => "its routes cannot be made",
    Part::Listeners => "its listeners cannot be made",
    Part::Rules => "this kernel refuses nftables in a user namespace",
})]
pub struct CaptureError {
    /// What failed.
    pub part: Part,
    /// Why.
    pub errno: Errno,
}

impl CaptureError {
    const fn new(part: Part, errno: Errno) -> Self {
        Self { part, errno }
    }

    /// What to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self.part {
            Part::Rules => {
                "load the modules: `sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_ct nft_reject_inet`; `tripmine doctor` says more"
            }
            _ => "`tripmine doctor` shows what this host can give",
        }
    }
}

/// A capture that is being made.
#[derive(Debug)]
pub struct Capturing {
    socket: OwnedFd,
    helper: OwnedFd,
}

/// The namespaces of a cube, held open: a sealed process does not show them any more.
#[derive(Debug)]
pub struct Namespaces {
    user: File,
    net: File,
}

impl Namespaces {
    /// Those of process `pid`.
    ///
    /// # Errors
    /// It is gone, or sealed.
    pub fn of(pid: i32) -> Result<Self, CaptureError> {
        let open = |kind: &str| {
            File::open(format!("/proc/{pid}/ns/{kind}")).map_err(|error| {
                CaptureError::new(Part::Enter, Errno::from_io_error(&error).unwrap_or(Errno::IO))
            })
        };
        Ok(Self { user: open("user")?, net: open("net")? })
    }

    /// Enters the user namespace, which gives every capability in it, and then the network namespace.
    fn enter(&self) -> rustix::io::Result<()> {
        rustix::thread::move_into_link_name_space(self.user.as_fd(), Some(LinkNameSpaceType::User))?;
        rustix::thread::move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))
    }
}

/// Starts to capture the network of a cube, which stays alive meanwhile.
///
/// # Errors
/// No process can be made; also where the caller has a second thread, beside which a fork is not safe.
pub fn begin(namespaces: &Namespaces) -> Result<Capturing, CaptureError> {
    let fail = |errno| CaptureError::new(Part::Helper, errno);
    // Two links and one for each thread (proc_pid_task(5)).
    let threads = std::fs::metadata("/proc/self/task").map_or(0, |meta| meta.nlink());
    if threads != 3 {
        return Err(fail(Errno::BUSY));
    }
    let (ours, its) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(fail)?;
    // SAFETY: this process has one thread, as was just seen: nobody else could start another.
    match unsafe { fork_into(0) } {
        Err(error) => Err(fail(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
        Ok(Forked::Parent { pidfd, .. }) => Ok(Capturing { socket: ours, helper: pidfd }),
        Ok(Forked::Child) => {
            let code = i32::from(helper(namespaces, its.as_fd()).is_err());
            // SAFETY: ends the process without running the keeper's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

impl Capturing {
    /// Readable when the helper has answered or died, for a runtime to wait for.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn ear(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&self.socket, 3)?)
    }

    /// Waits for the helper.
    ///
    /// # Errors
    /// The step that failed.
    pub fn finish(self) -> Result<Captured, CaptureError> {
        let mut answer = [0; 8];
        let received = fdpass::receive(&self.socket, &mut answer);
        // It ends by itself once it has answered, or has died.
        let _reaped = waitid(WaitId::PidFd(self.helper.as_fd()), WaitIdOptions::EXITED);
        let lost = || CaptureError::new(Part::Helper, Errno::IO);
        let (count, fds) = received.map_err(|_| lost())?;
        if count != answer.len() {
            return Err(lost());
        }
        let [part, errno @ .., has_diag] = answer;
        if part != 0 {
            let part = PARTS.get(usize::from(part) - 1).copied().unwrap_or(Part::Helper);
            let errno = i32::from_ne_bytes([errno[0], errno[1], errno[2], errno[3]]);
            return Err(CaptureError::new(part, Errno::from_raw_os_error(errno)));
        }
        let mut fds = fds.into_iter();
        let rules = fds.next().ok_or_else(lost)?;
        let diag = if has_diag == 0 { None } else { Some(fds.next().ok_or_else(lost)?) };
        let v4 = listeners(&mut fds).ok_or_else(lost)?;
        Ok(Captured { v4, v6: listeners(&mut fds), rules, diag })
    }
}

fn listeners(fds: &mut impl Iterator<Item = OwnedFd>) -> Option<Listeners> {
    let (tcp, dns_udp, dns_tcp) = (fds.next()?, fds.next()?, fds.next()?);
    let ports = Ports { tcp: port(&tcp)?, dns_udp: port(&dns_udp)?, dns_tcp: port(&dns_tcp)? };
    Some(Listeners { tcp, dns_udp, dns_tcp, ports })
}

fn port(socket: &OwnedFd) -> Option<u16> {
    let address = rustix::net::getsockname(socket).ok()?;
    SocketAddr::try_from(address).ok().map(|address| address.port())
}

/// The helper: sets everything up, sends it out, and is gone.
fn helper(namespaces: &Namespaces, socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a plain system call; the keeper's death is this process's.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    match set_up(namespaces) {
        Ok(Made { rules, diag, listeners }) => {
            let fds: Vec<_> =
                std::iter::once(&rules).chain(&diag).chain(&listeners).map(AsFd::as_fd).collect();
            fdpass::send(socket, &[0, 0, 0, 0, 0, 0, 0, u8::from(diag.is_some())], &fds)
        }
        Err(error) => {
            let part = PARTS.iter().position(|part| *part == error.part).unwrap_or(0);
            let mut answer = [0; 8];
            answer[0] = u8::try_from(part + 1).unwrap_or(1);
            answer[1..5].copy_from_slice(&error.errno.raw_os_error().to_ne_bytes());
            fdpass::send(socket, &answer, &[])
        }
    }
}

/// What the helper makes.
struct Made {
    rules: OwnedFd,
    diag: Option<OwnedFd>,
    listeners: Vec<OwnedFd>,
}

fn set_up(namespaces: &Namespaces) -> Result<Made, CaptureError> {
    namespaces.enter().map_err(|errno| CaptureError::new(Part::Enter, errno))?;
    set_up_here()
}

/// Captures the network namespace of the calling process, which must have every capability over it.
fn set_up_here() -> Result<Made, CaptureError> {
    let at = |part| move |errno| CaptureError::new(part, errno);
    let ipv6 = routes().map_err(at(Part::Routes))?;
    let (mut all, v4) = sockets(Ipv4Addr::LOCALHOST.into()).map_err(at(Part::Listeners))?;
    let mut v6 = None;
    if ipv6 {
        let (more, ports) = sockets(Ipv6Addr::LOCALHOST.into()).map_err(at(Part::Listeners))?;
        all.extend(more);
        v6 = Some(ports);
    }
    let rules = netlink::socket(Some(family::NETFILTER)).map_err(at(Part::Rules))?;
    let (batch, last) = ruleset::batch(v4, v6);
    netlink::apply(&rules, &batch, last).map_err(at(Part::Rules))?;
    keep_in_mind();
    // Without it nothing is weaker: it is only not known who asked.
    Ok(Made { rules, diag: netlink::socket(Some(family::SOCK_DIAG)).ok(), listeners: all })
}

const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const V4: u8 = 2;
const V6: u8 = 10;
/// The loopback device is the first of every network namespace.
const LOOPBACK: u32 = 1;

/// Loopback, the cube's own addresses, and a route that makes every address local. False when there is no IPv6 here: then
/// a connection over it fails at once, with nothing to route it.
fn routes() -> rustix::io::Result<bool> {
    net::loopback_up().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let socket = netlink::socket(None)?;
    // Older kernels know no larger ones.
    let _as_it_was = netlink::apply(&socket, &large_pieces(), 1);
    netlink::apply(&socket, &local(V4, 32, &OWN_V4.octets()), 2)?;
    match netlink::apply(&socket, &local(V6, 128, &OWN_V6.octets()), 2) {
        Ok(()) => Ok(true),
        // No module, switched off at boot, switched off by sysctl.
        Err(Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::ACCESS | Errno::NODEV) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Lets TCP hand half a mebibyte through loopback as one packet, where 64 KiB are usual: a relay has a third to do (`ip link`'s
/// `gso_max_size` since Linux 5.19 and `gso_ipv4_max_size` since 6.3). Nothing leaves by loopback, so nobody must cut it up.
fn large_pieces() -> Packet {
    // What the kernel calls GSO_MAX_SIZE, the largest that it takes, and its names for the two.
    const LARGEST: u32 = 8 * 65_535;
    const MAX_SIZES: [u16; 2] = [41, 63];
    let mut packet = Packet::default();
    // struct ifinfomsg: family, device type, device, flags, and which of them to change.
    let mut link = [0; 16];
    link[4..8].copy_from_slice(&LOOPBACK.to_ne_bytes());
    packet.message(SET_LINK, ACK, 1, &link, |packet| {
        for kind in MAX_SIZES {
            packet.attribute(kind, &LARGEST.to_ne_bytes());
        }
    });
    packet
}

/// An address on loopback (message 1), and everything local with that address as its source (message 2): rtnetlink(7).
fn local(family: u8, bits: u8, own: &[u8]) -> Packet {
    let mut packet = Packet::default();
    // struct ifaddrmsg: family, prefix, IFA_F_NODAD, scope universe, device.
    let mut address = vec![family, bits, 2, 0];
    address.extend_from_slice(&LOOPBACK.to_ne_bytes());
    packet.message(NEW_ADDRESS, ACK | CREATE, 1, &address, |packet| {
        packet.attribute(1, own);
        packet.attribute(2, own);
    });
    // struct rtmsg: family, destination of no bits, no source, tos, table `local`, protocol static, scope host, type local.
    let route = [family, 0, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0];
    packet.message(NEW_ROUTE, ACK | CREATE, 2, &route, |packet| {
        packet.attribute(4, &LOOPBACK.to_ne_bytes());
        packet.attribute(7, own);
    });
    packet
}

fn sockets(address: IpAddr) -> rustix::io::Result<(Vec<OwnedFd>, Ports)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let make = |kind| -> rustix::io::Result<(OwnedFd, u16)> {
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        bind(&socket, &SocketAddr::new(address, 0))?;
        let port = port(&socket).ok_or(Errno::BADF)?;
        Ok((socket, port))
    };
    let (tcp, dns_udp, dns_tcp) =
        (make(SocketType::STREAM)?, make(SocketType::DGRAM)?, make(SocketType::STREAM)?);
    let ports = Ports { tcp: tcp.1, dns_udp: dns_udp.1, dns_tcp: dns_tcp.1 };
    Ok((vec![tcp.0, dns_udp.0, dns_tcp.0], ports))
}

/// How long the kernel's list of connections keeps what. Those that have ended leave it soon, so that a flood of them from inside
/// does not fill it. Those of which one end has said all stay as long as a relay waits for the other: a connection that falls
/// off the list loses its way back, and by the defaults one that is answered after a minute would. Where this cannot be set the
/// defaults hold: they cost a cube only its own connections.
fn keep_in_mind() {
    for (name, seconds) in [
        ("tcp_timeout_time_wait", "2"),
        ("tcp_timeout_close", "1"),
        ("udp_timeout", "10"),
        ("tcp_timeout_close_wait", HALF_OPEN),
        ("tcp_timeout_fin_wait", HALF_OPEN),
    ] {
        let _set = std::fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"), seconds);
    }
}

/// Longer than a relay is patient with one half of a connection, in seconds.
const HALF_OPEN: &str = "7500";

/// Connections that wait to be accepted, in a guest.
const BACKLOG: i32 = 128;

/// Captures the network namespace of the calling process for itself: in a guest, whose init is both.
///
/// # Errors
/// The step that failed.
pub fn here() -> Result<Captured, CaptureError> {
    let Made { rules, diag, listeners: fds } = set_up_here()?;
    let mut fds = fds.into_iter();
    let lost = || CaptureError::new(Part::Listeners, Errno::BADF);
    let v4 = listeners(&mut fds).ok_or_else(lost)?;
    let captured = Captured { v4, v6: listeners(&mut fds), rules, diag };
    // Nobody else takes these over.
    captured.listen(BACKLOG).map_err(|error| {
        CaptureError::new(Part::Listeners, Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })?;
    Ok(captured)
}

/// Whether a network can be captured here: everything is tried in the calling process's network namespace, which nobody else
/// may use, and read back.
///
/// # Errors
/// The step that failed.
pub fn try_here() -> Result<(), CaptureError> {
    let captured = here()?;
    let wrong =
        |error: io::Error| CaptureError::new(Part::Rules, Errno::from_io_error(&error).unwrap_or(Errno::IO));
    captured.verify().map(|_| ()).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the helper, which makes them, and the keeper, which has them, a cube's list of ports is looked at as well.
    #[test]
    fn what_is_handed_out_does_not_listen_yet() {
        let (made, ports) = sockets(Ipv4Addr::LOCALHOST.into()).expect("made");
        assert_eq!(made.len(), 3);
        for socket in &made {
            assert!(!rustix::net::sockopt::socket_acceptconn(socket).expect("asked"));
        }
        assert!(ports.tcp != 0 && ports.dns_udp != 0 && ports.dns_tcp != 0);
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, ports.tcp));
        assert!(taken.is_err(), "nobody else can listen there meanwhile");
    }
}
