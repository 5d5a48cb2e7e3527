//! The `proxy` policy's parts: where the proxy is, how one proves who one is, and what goes past it.

use core::net::IpAddr;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::address::{Class, classify};
use super::host::{Destination, DestinationError, Host, Port, split_port};
use crate::model::sanitize::printable;

/// `socks5h://[user@]host[:port]`: a SOCKS5 proxy that is given names. Port 1080 without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyUrl {
    user: Option<Box<str>>,
    host: Host,
    port: Port,
}

/// The port of SOCKS (RFC 1928, 3).
const SOCKS_PORT: Port = match NonZeroU16::new(1080) {
    Some(port) => port,
    None => NonZeroU16::MIN,
};

/// Why a text is no [`ProxyUrl`]. A password in it is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// No scheme.
    #[error("the proxy has no scheme: write `socks5h://HOST:PORT`")]
    NoScheme,
    /// `socks5://` and `socks4://` let the client resolve names.
    #[error(
        "`{0}://` would look names up outside the proxy: write `socks5h://`, which leaves that to the proxy"
    )]
    Resolves(String),
    /// Not SOCKS at all.
    #[error("`{0}://` is no proxy that cubes can use: only `socks5h://` is")]
    Scheme(String),
    /// A password would be seen in lists and process tables.
    #[error("the proxy's address holds a password: put it into a file of mode 0600 (`proxy-auth-file`)")]
    Password,
    /// Not 1 to 255 visible ASCII characters.
    #[error("the proxy's user name is not 1 to 255 visible ASCII characters")]
    User,
    /// Something after the port.
    #[error("the proxy's address has something after the port")]
    Path,
    /// The host or port.
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

impl ProxyUrl {
    /// Parses `socks5h://[user@]host[:port]`.
    ///
    /// # Errors
    /// A [`ProxyUrlError`].
    pub fn parse(text: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyUrlError::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "socks5h" => {}
            "socks5" | "socks" | "socks4" => {
                return Err(ProxyUrlError::Resolves(scheme.to_ascii_lowercase()));
            }
            _ => return Err(ProxyUrlError::Scheme(printable(&scheme.chars().take(20).collect::<String>()))),
        }
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        if let Some(user) = user {
            if user.contains(':') {
                return Err(ProxyUrlError::Password);
            }
            if user.is_empty() || user.len() > 255 || !user.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(ProxyUrlError::User);
            }
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(ProxyUrlError::Path);
        }
        let (host, port) = split_port(rest)?;
        let host = Host::parse(host).map_err(DestinationError::from)?;
        Ok(Self { user: user.map(Into::into), host, port: port.unwrap_or(SOCKS_PORT) })
    }

    /// The user name in it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Where the proxy is. Its name, if it has one, is resolved by the host.
    #[must_use]
    pub fn destination(&self) -> Destination {
        Destination { host: self.host.clone(), port: self.port }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("socks5h://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}", self.destination())
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;
    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = ProxyUrlError;
    fn try_from(text: String) -> Result<Self, ProxyUrlError> {
        Self::parse(&text)
    }
}

impl From<ProxyUrl> for String {
    fn from(url: ProxyUrl) -> Self {
        url.to_string()
    }
}

/// Where the secret for the proxy comes from. It is read when a cube starts and never stored.
///
/// The first line counts. With a user in the [`ProxyUrl`] it is the password, otherwise
/// `user:password`. Without a secret a user is sent with an empty password, which is how Tor is
/// asked for a stream isolation of one's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyAuth {
    /// There is none.
    #[default]
    None,
    /// A file that only its owner can read.
    File(PathBuf),
    /// The standard output of a command: program and arguments.
    Command(Vec<String>),
}

/// `host:port` that a cube under the policy `proxy` reaches past the proxy: private networks and
/// the host's loopback only, never a name service or another proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hole(Destination);

/// Why a text is no [`Hole`], or leads where none may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoleError {
    /// The text.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// DNS, DNS over TLS, mDNS, LLMNR.
    #[error("the hole `{0}` leads to a name service: names would leave past the proxy")]
    NameService(String),
    /// SOCKS, HTTP proxies, Tor's ports.
    #[error("the hole `{0}` leads to a proxy's port: everything could leave through it")]
    Proxy(String),
    /// An address of another kind.
    #[error("the hole `{hole}` leads to {address}, which is a {} address: only private networks and loopback are open to holes", .class.text())]
    Place {
        /// The hole.
        hole: String,
        /// Where it leads.
        address: IpAddr,
        /// What that is.
        class: Class,
    },
    /// `localhost` is the cube.
    #[error(
        "inside a cube `localhost` is the cube itself: write `127.0.0.1:PORT` and connect to `host.tripmine.internal:PORT`"
    )]
    Localhost,
    /// The proxy itself.
    #[error("the hole `{0}` is the proxy itself")]
    Itself(String),
}

const NAME_SERVICES: &[u16] = &[53, 137, 853, 5353, 5354, 5355];
/// SOCKS and HTTP proxies by their usual ports; Tor's control ports with them.
const PROXIES: &[u16] = &[1080, 1081, 3128, 3129, 8118, 8123, 9040, 9050, 9051, 9053, 9150, 9151];

impl Hole {
    /// Parses `host:port`.
    ///
    /// # Errors
    /// A [`HoleError`].
    pub fn parse(text: &str) -> Result<Self, HoleError> {
        let destination = Destination::parse(text)?;
        let port = destination.port.get();
        if NAME_SERVICES.contains(&port) {
            return Err(HoleError::NameService(destination.to_string()));
        }
        if PROXIES.contains(&port) {
            return Err(HoleError::Proxy(destination.to_string()));
        }
        let hole = Self(destination);
        match &hole.0.host {
            Host::Name(name) if name.is_localhost() => return Err(HoleError::Localhost),
            Host::Name(_) => {}
            Host::Address(address) => hole.check(*address)?,
        }
        Ok(hole)
    }

    /// Whether the hole may lead to `address`, to which its name was resolved at launch.
    ///
    /// # Errors
    /// [`HoleError::Place`].
    pub fn check(&self, address: IpAddr) -> Result<(), HoleError> {
        match classify(address) {
            Class::Private | Class::Loopback => Ok(()),
            class => Err(HoleError::Place { hole: self.to_string(), address, class }),
        }
    }

    /// True when it leads to the proxy: whoever speaks to that himself asks it for whatever he likes. This host's loopback has
    /// many names and addresses, and a proxy may listen on any of them.
    #[must_use]
    pub fn is_the_proxy(&self, url: &ProxyUrl) -> bool {
        let home = |host: &Host| match host {
            Host::Name(name) => name.is_localhost() || name.is_host_alias(),
            Host::Address(address) => address.is_loopback(),
        };
        let (ours, its) = (&self.0.host, &url.host);
        self.0.port == url.port && (ours == its || (home(ours) && home(its)))
    }

    /// Where it leads.
    #[must_use]
    pub const fn destination(&self) -> &Destination {
        &self.0
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Hole {
    type Err = HoleError;
    fn from_str(text: &str) -> Result<Self, HoleError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Hole {
    type Error = HoleError;
    fn try_from(text: String) -> Result<Self, HoleError> {
        Self::parse(&text)
    }
}

impl From<Hole> for String {
    fn from(hole: Hole) -> Self {
        hole.to_string()
    }
}
