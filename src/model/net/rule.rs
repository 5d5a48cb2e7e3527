//! `Rule`: what an allow-list is made of. A rule that can never match does not exist.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::address::{Cidr, CidrError, Class, NEAR, classify, is_dead};
use super::host::{Destination, DestinationError, Host, Port, split_port};
use super::host_name::{HostName, HostNameError};
use crate::model::sanitize::printable;

/// What a rule says about the other end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// This name.
    Name(HostName),
    /// Every name beneath this one, at any depth, not itself: `*.example.com`.
    Beneath(HostName),
    /// These addresses.
    Network(Cidr),
}

/// `name`, `*.name`, an address or a network, each with an optional port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    pattern: Pattern,
    port: Option<Port>,
}

/// Why a text is no [`Rule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The name in it.
    #[error(transparent)]
    Name(#[from] HostNameError),
    /// The address in it.
    #[error(transparent)]
    Network(#[from] CidrError),
    /// The port in it.
    #[error(transparent)]
    Port(DestinationError),
    /// `https://example.com/`, `example.com/path`, `user@example.com`.
    #[error("the rule `{0}` looks like a web address: a rule is `NAME:PORT`, for example `example.com:443`")]
    Url(String),
    /// A `*` anywhere but as the first label.
    #[error("in the rule `{0}` a `*` may only stand for the first parts of a name: `*.example.com`")]
    Star(String),
    /// It cannot match, and why.
    #[error("the rule `{rule}` can never match: {why}")]
    Never {
        /// The rule.
        rule: String,
        /// The reason, and what to write instead.
        why: &'static str,
    },
}

impl Rule {
    /// Parses `NAME`, `*.NAME`, `ADDRESS` or `NETWORK/BITS`, with `:PORT` where wanted. IPv6 with
    /// a port stands in brackets: `[2001:db8::1]:443`, `[2001:db8::/32]:443`.
    ///
    /// # Errors
    /// A [`RuleError`], also for a rule that can never match.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let cut = printable(&text.chars().take(80).collect::<String>());
        if text.contains("://") || text.contains(['@', '?', '#', '\\']) {
            return Err(RuleError::Url(cut));
        }
        let (host, port) = split_port(text).map_err(|error| match error {
            _ if text.contains('/') && !text.starts_with(['[', '0', '1', '2']) => RuleError::Url(cut.clone()),
            error => RuleError::Port(error),
        })?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let pattern = if let Some(parent) = host.strip_prefix("*.") {
            if parent.contains('*') {
                return Err(RuleError::Star(cut));
            }
            Pattern::Beneath(HostName::parse(parent)?)
        } else if host.contains('*') {
            return Err(RuleError::Star(cut));
        } else if host.contains('/') {
            if !host.starts_with(|c: char| c.is_ascii_digit()) && !host.contains(':') {
                return Err(RuleError::Url(cut));
            }
            Pattern::Network(Cidr::parse(host)?)
        } else {
            match Host::parse(host) {
                Ok(Host::Address(address)) => Pattern::Network(Cidr::one(address)),
                Ok(Host::Name(name)) => Pattern::Name(name),
                Err(super::HostError::Name(error)) => return Err(error.into()),
                Err(super::HostError::Ipv6(text)) => return Err(CidrError::Address(text).into()),
            }
        };
        let rule = Self { pattern, port };
        match rule.never() {
            Some(why) => Err(RuleError::Never { rule: cut, why }),
            None => Ok(rule),
        }
    }

    /// The narrowest rule that allows `destination`.
    ///
    /// # Errors
    /// When no rule can: see [`Rule::parse`].
    pub fn for_destination(destination: &Destination) -> Result<Self, RuleError> {
        let pattern = match &destination.host {
            Host::Name(name) => Pattern::Name(name.clone()),
            Host::Address(address) => Pattern::Network(Cidr::one(*address)),
        };
        let rule = Self { pattern, port: Some(destination.port) };
        match rule.never() {
            Some(why) => Err(RuleError::Never { rule: rule.to_string(), why }),
            None => Ok(rule),
        }
    }

    /// Why no connection of a cube can ever match it.
    fn never(&self) -> Option<&'static str> {
        if self.port.is_some_and(|port| port.get() == 53) {
            return Some("port 53 of every address is the cube's own name service");
        }
        match &self.pattern {
            Pattern::Name(name) | Pattern::Beneath(name) if name.is_localhost() => {
                Some("inside a cube `localhost` is the cube itself; for the host write `127.0.0.1:PORT`")
            }
            Pattern::Name(name) | Pattern::Beneath(name) if name.is_onion() => {
                Some("`.onion` names are only known to a proxy: use the policy `proxy`")
            }
            Pattern::Name(name) if name.is_host_alias() && self.port.is_none() => {
                Some("the host is only opened port by port: write a port after it")
            }
            Pattern::Network(network) if network.is_one() => match classify(network.first()) {
                Class::Pool => Some("the address only stands for names inside a cube"),
                Class::Embedded => Some("write the IPv4 address itself"),
                Class::Special => Some("the address is reserved, nothing answers there"),
                _ => None,
            },
            Pattern::Network(network) if embedded(network) => Some("write the IPv4 addresses themselves"),
            Pattern::Network(network) if is_dead(network) => {
                Some("the addresses are reserved, nothing answers there")
            }
            _ => None,
        }
    }

    /// What it says about the other end.
    #[must_use]
    pub const fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The port; `None`: any.
    #[must_use]
    pub const fn port(&self) -> Option<Port> {
        self.port
    }

    fn port_matches(&self, port: Port) -> bool {
        self.port.is_none_or(|it| it == port)
    }

    /// True when the rule is for this name and port.
    #[must_use]
    pub fn matches_name(&self, name: &HostName, port: Port) -> bool {
        self.port_matches(port) && self.matches_name_on_some_port(name)
    }

    /// True when the rule is for this name, on whatever port.
    #[must_use]
    pub fn matches_name_on_some_port(&self, name: &HostName) -> bool {
        match &self.pattern {
            Pattern::Name(it) => it == name,
            Pattern::Beneath(parent) => name.is_beneath(parent),
            Pattern::Network(_) => false,
        }
    }

    /// True when the rule names this address and port: it contains a public one; it lies within
    /// the private, loopback or link-local network of one of those; it is exactly the address of
    /// a metadata service or, when `own`, of the host itself.
    #[must_use]
    pub fn names_address(&self, address: IpAddr, port: Port, own: bool) -> bool {
        let Pattern::Network(network) = &self.pattern else { return false };
        if !self.port_matches(port) || !network.contains(address) {
            return false;
        }
        match classify(address) {
            Class::Special | Class::Pool | Class::Embedded => false,
            Class::Metadata => network.is_one(),
            _ if own => network.is_one(),
            Class::Global => true,
            Class::Loopback | Class::LinkLocal | Class::Private | Class::SharedNat => {
                NEAR.iter().any(|near| near.covers(network))
            }
        }
    }
}

/// True for a network of addresses that hold IPv4 ones, by the prefixes of [`classify`].
fn embedded(network: &Cidr) -> bool {
    const PREFIXES: &[&str] =
        &["::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"];
    PREFIXES.iter().any(|prefix| Cidr::parse(prefix).is_ok_and(|prefix| prefix.covers(network)))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pattern, self.port) {
            (Pattern::Network(network @ Cidr::V6 { .. }), Some(_)) => write!(f, "[{network}]")?,
            (Pattern::Network(network), _) => write!(f, "{network}")?,
            (Pattern::Name(name), _) => write!(f, "{name}")?,
            (Pattern::Beneath(parent), _) => write!(f, "*.{parent}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for Rule {
    type Err = RuleError;
    fn from_str(text: &str) -> Result<Self, RuleError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;
    fn try_from(text: String) -> Result<Self, RuleError> {
        Self::parse(&text)
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}
