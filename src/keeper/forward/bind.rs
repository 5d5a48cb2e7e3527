//! The host's end of a forward: its listening sockets, from what was asked for to what could be had.
//!
//! A port that is taken gives way to the next free one unless exactly it is wanted. A unix socket is made where nothing
//! is, private to its owner, in a folder that is reached without following a link: cubes can write some folders.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, chmodat, openat2, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};

use crate::model::forward::PRIVILEGED;
use crate::model::sanitize::printable;
use crate::model::{BindAddr, Failure, FailureKind, HostEnd, PortMap};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How many ports are tried after one that is taken.
const TRIES: u16 = 200;
/// What is added to a port that only root may use.
const UNPRIVILEGED: u16 = 8000;

/// A host end that listens.
#[derive(Debug)]
pub struct Bound {
    /// What was opened.
    pub map: PortMap,
    /// The sockets, non-blocking.
    pub listeners: Vec<OwnedFd>,
    /// The file of a unix socket; it goes with this value.
    pub file: Option<SocketFile>,
}

/// Listens for `asked`; on another port if that one is taken, unless `exact`.
///
/// # Errors
/// One line and next steps, for a person.
pub fn open(asked: &PortMap, exact: bool) -> Result<Bound, Failure> {
    match &asked.host {
        HostEnd::Unix(path) => {
            let (listener, file) = unix(path)?;
            Ok(Bound { map: asked.clone(), listeners: vec![listener], file: Some(file) })
        }
        HostEnd::Tcp { bind, port } => {
            let (listeners, port) = tcp(*bind, *port, asked.host_implied, exact)?;
            let mut map = asked.clone().on_port(port);
            map.host_implied =
                asked.host_implied && matches!(asked.host, HostEnd::Tcp { port: p, .. } if p == port);
            Ok(Bound { map, listeners, file: None })
        }
    }
}

fn tcp(to: BindAddr, port: u16, implied: bool, exact: bool) -> Result<(Vec<OwnedFd>, u16), Failure> {
    let errno = match all(to, port) {
        Ok(bound) => return Ok(bound),
        Err(errno) => errno,
    };
    let place = || match to {
        BindAddr::Loopback => format!("port {port}"),
        BindAddr::Address(address) => SocketAddr::new(address, port).to_string(),
    };
    match errno {
        Errno::ADDRINUSE if !exact => next_free(to, port.saturating_add(1)).ok_or_else(|| {
            Failure::new(FailureKind::Busy, format!("{} and those after it are in use", place()))
        }),
        Errno::ADDRINUSE => {
            let failure = Failure::new(FailureKind::Busy, format!("{} of this host is in use", place()));
            Err(match next_free(to, port.saturating_add(1)) {
                Some((_, free)) => failure.hint(format!("port {free} is free")),
                None => failure,
            })
        }
        // Nobody named this port: it only was the cube's.
        Errno::ACCESS if implied && !exact && port < PRIVILEGED => {
            next_free(to, port + UNPRIVILEGED).ok_or_else(|| Failure::failed("no port could be had"))
        }
        Errno::ACCESS if port < PRIVILEGED => {
            Err(Failure::new(FailureKind::Denied, format!("only root may listen on {}", place()))
                .hint(format!("use one from {PRIVILEGED} on, for example {}", port + UNPRIVILEGED))
                .hint(format!(
                    "or allow it on this host: `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
                )))
        }
        Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => Err(Failure::new(
            FailureKind::Missing,
            format!("this host has no address to listen on for {}", place()),
        )
        .hint("`ip addr` lists its addresses; without `--bind` it is loopback")),
        errno => {
            Err(Failure::failed(format!("cannot listen on {}", place())).because(&io::Error::from(errno)))
        }
    }
}

fn next_free(to: BindAddr, from: u16) -> Option<(Vec<OwnedFd>, u16)> {
    let next = (from..=u16::MAX).take(usize::from(TRIES)).find_map(|port| all(to, port).ok());
    next.or_else(|| all(to, 0).ok())
}

/// Listens on every address of `to` at the same port, and tells which.
fn all(to: BindAddr, port: u16) -> Result<(Vec<OwnedFd>, u16), Errno> {
    let (mut listeners, mut at, mut missing) = (Vec::new(), port, None);
    for address in to.addresses() {
        match one(address, at) {
            Ok((listener, port)) => {
                at = port;
                listeners.push(listener);
            }
            // A host without IPv6 has one loopback address only.
            Err(errno @ (Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)) => missing = Some(errno),
            // Any port was asked for, and this one is free for one of two families only.
            Err(Errno::ADDRINUSE) if port == 0 && !listeners.is_empty() => {
                return next_free(to, at.saturating_add(1).max(PRIVILEGED)).ok_or(Errno::ADDRINUSE);
            }
            Err(errno) => return Err(errno),
        }
    }
    match missing {
        Some(errno) if listeners.is_empty() => Err(errno),
        _ => Ok((listeners, at)),
    }
}

fn one(address: IpAddr, port: u16) -> Result<(OwnedFd, u16), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // A port that was just let go can be had again at once.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port))?;
    listen(&socket, BACKLOG)?;
    let bound = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok((socket, bound.port()))
}

/// The file of a listening unix socket. Dropping it removes it, if it is still the same.
#[derive(Debug)]
pub struct SocketFile {
    folder: OwnedFd,
    name: String,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.identity);
        if same {
            // Whoever removed it before us has done no harm.
            let _removed = unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

fn unix(path: &Path) -> Result<(OwnedFd, SocketFile), Failure> {
    let shown = printable(&path.to_string_lossy());
    let fail = |errno: Errno| {
        Failure::failed(format!("cannot make the socket `{shown}`")).because(&io::Error::from(errno))
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(fail(Errno::INVAL));
    };
    let folder = openat2(
        CWD,
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(|errno| match errno {
        Errno::LOOP => Failure::new(FailureKind::Denied, format!("a link leads to the socket `{shown}`"))
            .hint("name the folder itself"),
        errno => fail(errno),
    })?;
    if let Ok(there) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        let socket = FileType::from_raw_mode(there.st_mode) == FileType::Socket;
        if !socket || !nobody_listens(&folder, name) {
            return Err(Failure::new(FailureKind::Busy, format!("there is something at `{shown}` already"))
                .hint("name another path, or remove it"));
        }
        // Left by a keeper that was killed.
        unlinkat(&folder, name, AtFlags::empty()).map_err(fail)?;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(fail)?;
    // The keeper's umask lets nobody else in from the first moment.
    let made = SocketAddrUnix::new(beneath(&folder, name)).and_then(|address| bind(&socket, &address));
    made.map_err(fail)?;
    let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    let file = SocketFile { folder, name: name.to_owned(), identity: (stat.st_dev, stat.st_ino) };
    chmodat(&file.folder, name, Mode::RUSR | Mode::WUSR, AtFlags::empty()).map_err(fail)?;
    listen(&socket, BACKLOG).map_err(fail)?;
    Ok((socket, file))
}

/// A name in an open folder, as a path: short, and not to be led elsewhere.
fn beneath(folder: &OwnedFd, name: &str) -> PathBuf {
    Path::new(&format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd())).join(name)
}

fn nobody_listens(folder: &OwnedFd, name: &str) -> bool {
    UnixStream::connect(beneath(folder, name))
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;

    fn map(text: &str) -> PortMap {
        text.parse().expect(text)
    }

    fn port(bound: &Bound) -> u16 {
        match bound.map.host {
            HostEnd::Tcp { port, .. } => port,
            HostEnd::Unix(_) => 0,
        }
    }

    #[test]
    fn a_taken_port_gives_way_or_is_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = taken.local_addr().expect("address").port();
        let asked = map(&format!("{at}:80"));
        let bound = open(&asked, false).expect("the next one");
        assert_ne!(port(&bound), at);
        TcpStream::connect(("127.0.0.1", port(&bound))).expect("it listens");
        let failure = open(&asked, true).expect_err("exactly it");
        assert_eq!(failure.kind, FailureKind::Busy);
        assert!(
            failure.message.contains(&at.to_string()) && failure.hints[0].contains("is free"),
            "{failure:?}"
        );
    }

    #[test]
    fn both_loopbacks_and_nothing_else() {
        let bound = open(&map("0:80"), true).expect("any");
        let at = port(&bound);
        assert_ne!(at, 0);
        TcpStream::connect(("127.0.0.1", at)).expect("v4");
        if TcpListener::bind("[::1]:0").is_ok() {
            TcpStream::connect(("::1", at)).expect("v6");
        }
        assert!(TcpStream::connect(("127.0.0.2", at)).is_err(), "only loopback's first address");
        drop(bound);
        assert!(TcpStream::connect(("127.0.0.1", at)).is_err(), "gone with its value");
    }

    #[test]
    fn an_address_that_is_not_here_is_named() {
        let failure = open(&map("192.0.2.1:8080:80"), false).expect_err("not ours");
        assert!(failure.message.contains("192.0.2.1:8080"), "{failure}");
    }

    #[test]
    fn a_unix_socket_is_private_and_replaces_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().canonicalize().expect("path").join("a.sock");
        let asked = map(&format!("{}:80", path.display()));
        let bound = open(&asked, false).expect("made");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(open(&asked, false).expect_err("taken").kind, FailureKind::Busy);
        // As a killed keeper leaves it: the file stays and nobody listens.
        let Bound { listeners, file, .. } = bound;
        std::mem::forget(file);
        drop(listeners);
        let again = open(&asked, false).expect("made again");
        drop(again);
        assert!(!path.exists(), "the file goes with its value");
        std::fs::write(&path, "mine").expect("a file");
        assert_eq!(open(&asked, false).expect_err("a file").kind, FailureKind::Busy);
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "mine");
        let link = folder.path().canonicalize().expect("path").join("link");
        std::os::unix::fs::symlink(folder.path(), &link).expect("link");
        let failure = open(&map(&format!("{}/b:80", link.display())), false).expect_err("a link");
        assert_eq!(failure.kind, FailureKind::Denied);
    }
}
