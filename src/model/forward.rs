//! `PortMap`: a way from a place on the host to a place in a cube, as a person writes it.
//!
//! `[BIND:]HOST:CUBE`, `HOST:CUBE` or `PORT` for TCP; an absolute path on either side is a unix socket. What exists is
//! valid: no cube port 0, no path that no socket could have. Whether a port is free is not decided here.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fmt;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::sanitize::printable;

/// The longest path of a unix socket: `sun_path` holds 108 bytes with its NUL (unix(7)).
pub const SOCKET_PATH_MAX: usize = 107;
/// The longest text that is looked at.
const TEXT_MAX: usize = 512;
/// Below this only root may listen, unless the host says otherwise (ip(7), `ip_unprivileged_port_start`).
pub const PRIVILEGED: u16 = 1024;

/// Where the host listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BindAddr {
    /// `127.0.0.1` and `::1`: this host only. The default.
    Loopback,
    /// This address; other hosts may reach it unless it is a loopback address.
    Address(IpAddr),
}

impl BindAddr {
    /// Reads an address, or `localhost`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PortMapError> {
        if text == "localhost" {
            return Ok(Self::Loopback);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self::Address).map_err(|_| PortMapError::Bind(shown(text)))
    }

    /// The addresses to listen on.
    #[must_use]
    pub fn addresses(self) -> Vec<IpAddr> {
        match self {
            Self::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Self::Address(address) => vec![address],
        }
    }

    /// True when more than this host reaches it.
    #[must_use]
    pub fn is_public(self) -> bool {
        match self {
            Self::Loopback => false,
            Self::Address(IpAddr::V6(address)) => {
                !address.is_loopback() && !address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
            }
            Self::Address(IpAddr::V4(address)) => !address.is_loopback(),
        }
    }
}

/// The host's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostEnd {
    /// A TCP port; 0 stands for any that is free.
    Tcp {
        /// Where.
        bind: BindAddr,
        /// Which.
        port: u16,
    },
    /// A unix socket that is made at this absolute path.
    Unix(PathBuf),
}

/// The cube's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CubeEnd {
    /// A TCP port inside.
    Tcp(NonZeroU16),
    /// A unix socket at this absolute path inside.
    Unix(String),
}

/// From the host to the cube.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortMap {
    /// Where the host listens.
    pub host: HostEnd,
    /// What it leads to.
    pub cube: CubeEnd,
    /// No host port was named: it is the cube's, or another one if that is taken.
    pub host_implied: bool,
}

/// Why a text is no [`PortMap`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortMapError {
    /// Too many or too few parts.
    #[error("`{0}` is no forward: write [BIND:]HOST:CUBE, HOST:CUBE or PORT, for example 8080:80")]
    Shape(String),
    /// No port.
    #[error("`{0}` is no port: a number from 1 to 65535")]
    Port(String),
    /// The cube's port 0.
    #[error("the cube's port cannot be 0: nothing can listen there")]
    CubeZero,
    /// Another protocol.
    #[error("`{0}` is not TCP: only TCP ports and unix sockets are forwarded")]
    Protocol(String),
    /// No address.
    #[error("`{0}` is no address to listen on: an IP address, or `localhost`")]
    Bind(String),
    /// An address before a socket's path.
    #[error("a unix socket has a path and no address: `{0}`")]
    BoundPath(String),
    /// A path that no socket could have.
    #[error("`{0}` is no path for a unix socket: absolute, without `..`, at most {SOCKET_PATH_MAX} bytes")]
    Path(String),
}

impl PortMap {
    /// The same port on both sides, on loopback.
    #[must_use]
    pub const fn same(port: NonZeroU16) -> Self {
        let host = HostEnd::Tcp { bind: BindAddr::Loopback, port: port.get() };
        Self { host, cube: CubeEnd::Tcp(port), host_implied: true }
    }

    /// True when more than this host reaches it.
    #[must_use]
    pub fn is_public(&self) -> bool {
        matches!(self.host, HostEnd::Tcp { bind, .. } if bind.is_public())
    }

    /// The path of the host's socket, if it is one.
    #[must_use]
    pub fn host_socket(&self) -> Option<&Path> {
        match &self.host {
            HostEnd::Unix(path) => Some(path),
            HostEnd::Tcp { .. } => None,
        }
    }

    /// The same with another address to listen on. A unix socket has none and stays.
    #[must_use]
    pub fn bound_to(mut self, to: BindAddr) -> Self {
        if let HostEnd::Tcp { bind, .. } = &mut self.host {
            *bind = to;
        }
        self
    }

    /// The same on another host port.
    #[must_use]
    pub fn on_port(mut self, to: u16) -> Self {
        if let HostEnd::Tcp { port, .. } = &mut self.host {
            *port = to;
        }
        self
    }

    /// What a project's own file may not ask for, because a cube can write that file: an address that others reach,
    /// a privileged port, or a file on the host.
    #[must_use]
    pub fn too_much_for_a_project_file(&self) -> Option<&'static str> {
        match &self.host {
            HostEnd::Unix(_) => Some("a project file cannot ask for a socket on the host"),
            HostEnd::Tcp { .. } if self.is_public() => {
                Some("a project file cannot ask for an address that others reach")
            }
            HostEnd::Tcp { port: 1..PRIVILEGED, .. } if !self.host_implied => {
                Some("a project file cannot ask for a host port below 1024")
            }
            HostEnd::Tcp { .. } => None,
        }
    }
}

impl FromStr for PortMap {
    type Err = PortMapError;

    fn from_str(text: &str) -> Result<Self, PortMapError> {
        let shape = || PortMapError::Shape(shown(text));
        if text.len() > TEXT_MAX {
            return Err(shape());
        }
        let (bracketed, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").map(|(bind, rest)| (Some(bind), rest)).ok_or_else(shape)?,
            None => (None, text),
        };
        let parts: Vec<&str> = rest.split(':').collect();
        let (bind, host, cube) = match (bracketed, parts.as_slice()) {
            (bind @ Some(_), [host, cube]) | (bind @ None, [host, cube]) => (bind, Some(*host), *cube),
            (None, [one]) => (None, None, *one),
            (None, [bind, host, cube]) => (Some(*bind), Some(*host), *cube),
            _ => return Err(shape()),
        };
        let cube = cube_end(cube)?;
        let host = match (bind, host, &cube) {
            (Some(_), Some(path), _) if path.starts_with('/') => {
                return Err(PortMapError::BoundPath(shown(text)));
            }
            (None, Some(path), _) if path.starts_with('/') => HostEnd::Unix(socket_path(path)?.into()),
            (bind, host, cube) => {
                let bind = bind.map_or(Ok(BindAddr::Loopback), BindAddr::parse)?;
                let port = match (host, cube) {
                    (Some("" | "0"), _) => 0,
                    (Some(text), _) => number(text)?,
                    (None, CubeEnd::Tcp(port)) => port.get(),
                    (None, CubeEnd::Unix(_)) => return Err(shape()),
                };
                HostEnd::Tcp { bind, port }
            }
        };
        Ok(Self { host, cube, host_implied: !rest.contains(':') })
    }
}

fn cube_end(text: &str) -> Result<CubeEnd, PortMapError> {
    if text.starts_with('/') {
        return socket_path(text).map(|path| CubeEnd::Unix(path.to_owned()));
    }
    let digits = match text.split_once('/') {
        None => text,
        Some((digits, "tcp")) => digits,
        Some(_) => return Err(PortMapError::Protocol(shown(text))),
    };
    NonZeroU16::new(number(digits)?).map(CubeEnd::Tcp).ok_or(PortMapError::CubeZero)
}

fn number(text: &str) -> Result<u16, PortMapError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| PortMapError::Port(shown(text)))
}

fn socket_path(text: &str) -> Result<&str, PortMapError> {
    let plain = text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    let good = plain && text.len() <= SOCKET_PATH_MAX && !text.contains('\0');
    if good { Ok(text) } else { Err(PortMapError::Path(shown(text))) }
}

/// What a stranger wrote, short and harmless.
fn shown(text: &str) -> String {
    printable(&text.chars().take(80).collect::<String>())
}

impl fmt::Display for HostEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { bind: BindAddr::Loopback, port } => write!(f, "{port}"),
            Self::Tcp { bind: BindAddr::Address(address), port } => {
                write!(f, "{}", SocketAddr::new(*address, *port))
            }
            Self::Unix(path) => write!(f, "{}", Path::display(path)),
        }
    }
}

impl fmt::Display for CubeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "{port}"),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for PortMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, &self.cube) {
            (HostEnd::Tcp { bind: BindAddr::Loopback, port }, CubeEnd::Tcp(cube))
                if self.host_implied && *port == cube.get() =>
            {
                write!(f, "{cube}")
            }
            (host, cube) => write!(f, "{host}:{cube}"),
        }
    }
}

impl From<PortMap> for String {
    fn from(map: PortMap) -> Self {
        map.to_string()
    }
}

impl TryFrom<String> for PortMap {
    type Error = PortMapError;

    fn try_from(text: String) -> Result<Self, PortMapError> {
        text.parse()
    }
}

/// A forward that is open, with its figures since then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardStatus {
    /// Its number in its cube.
    pub id: u32,
    /// What was asked for.
    pub asked: PortMap,
    /// What was opened: the host port may be another one.
    pub map: PortMap,
    /// It stays until it is removed or the cube ends; otherwise it goes with the command that asked.
    pub kept: bool,
    /// Connections that are open.
    pub open: u64,
    /// Connections that were made.
    pub made: u64,
    /// Connections that nothing in the cube took.
    pub refused: u64,
    /// Bytes that went into the cube.
    pub bytes_in: u64,
    /// Bytes that came out of it.
    pub bytes_out: u64,
}

/// A TCP port on which something in a cube listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listening {
    /// Where.
    pub port: u16,
    /// On which address inside.
    pub address: IpAddr,
    /// The program, as it calls itself: hostile text. `None` when no process of the cube could be found.
    pub program: Option<String>,
    /// Its process id inside.
    pub pid: Option<i32>,
}

impl Listening {
    /// Whom it answers: `loopback`, `all` or one address.
    #[must_use]
    pub fn scope(&self) -> String {
        if self.address.is_loopback() {
            "loopback".to_owned()
        } else if self.address.is_unspecified() {
            "all".to_owned()
        } else {
            "address".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_read_and_write_back() {
        for (text, host, cube, written) in [
            ("80", "80", "80", "80"),
            ("8080:80", "8080", "80", "8080:80"),
            ("80:80", "80", "80", "80:80"),
            ("8080:80/tcp", "8080", "80", "8080:80"),
            ("localhost:8080:80", "8080", "80", "8080:80"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080", "80", "127.0.0.1:8080:80"),
            ("0.0.0.0:1:2", "0.0.0.0:1", "2", "0.0.0.0:1:2"),
            ("[::1]:8080:80", "[::1]:8080", "80", "[::1]:8080:80"),
            ("0:80", "0", "80", "0:80"),
            ("127.0.0.1::80", "127.0.0.1:0", "80", "127.0.0.1:0:80"),
            ("/tmp/a.sock:80", "/tmp/a.sock", "80", "/tmp/a.sock:80"),
            ("8080:/run/b", "8080", "/run/b", "8080:/run/b"),
            ("/a:/b", "/a", "/b", "/a:/b"),
        ] {
            let map: PortMap = text.parse().expect(text);
            assert_eq!(
                (map.host.to_string().as_str(), map.cube.to_string().as_str()),
                (host, cube),
                "{text}"
            );
            assert_eq!(map.to_string(), written);
            assert_eq!(written.parse::<PortMap>().as_ref(), Ok(&map), "{text}");
        }
    }

    #[test]
    fn what_is_no_forward_says_why() {
        let long = format!("8080:/{}", "x".repeat(SOCKET_PATH_MAX));
        for (text, part) in [
            ("", "`` is no port"),
            ("0", "cannot be 0"),
            ("80:0", "cannot be 0"),
            ("65536", "`65536` is no port"),
            ("-1:80", "`-1` is no port"),
            ("+1:80", "`+1` is no port"),
            ("80: 80", "is no port"),
            ("a:80", "`a` is no port"),
            ("80/udp", "is not TCP"),
            ("1:2:3:4", "is no forward"),
            ("::1:8080:80", "is no forward"),
            ("[::1:8080:80", "is no forward"),
            ("host:1:2", "`host` is no address"),
            ("127.0.0.1:/a:/b", "has a path and no address"),
            ("/a", "is no forward"),
            ("/a/../b:80", "is no path"),
            ("//a:80", "is no path"),
            ("/a/:80", "is no path"),
            ("a/b:80", "`a/b` is no port"),
            (&long, "is no path"),
            ("8080:\u{1b}[2J", "`\\u{1b}[2J` is no port"),
        ] {
            let error = text.parse::<PortMap>().expect_err(text).to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_others_reach_is_known() {
        for (text, public) in [
            ("80", false),
            ("127.0.0.5:1:2", false),
            ("[::1]:1:2", false),
            ("[::ffff:127.0.0.1]:1:2", false),
            ("0.0.0.0:1:2", true),
            ("[::]:1:2", true),
            ("192.168.1.2:1:2", true),
            ("/a:2", false),
        ] {
            assert_eq!(text.parse::<PortMap>().expect(text).is_public(), public, "{text}");
        }
    }

    #[test]
    fn a_project_file_asks_for_little() {
        for (text, part) in [
            ("0.0.0.0:8080:80", "others reach"),
            ("80:80", "below 1024"),
            ("/tmp/x:80", "a socket on the host"),
        ] {
            let map: PortMap = text.parse().expect(text);
            assert!(map.too_much_for_a_project_file().is_some_and(|why| why.contains(part)), "{text}");
        }
        for text in ["3000", "80", "8080:80", "0:80"] {
            assert_eq!(text.parse::<PortMap>().expect(text).too_much_for_a_project_file(), None, "{text}");
        }
    }
}
