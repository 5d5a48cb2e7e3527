//! `Host` and `Destination`: a name or an address, and where a connection goes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::host_name::{HostName, HostNameError};
use crate::model::sanitize::printable;

/// A TCP port that can be connected to: 1 to 65535.
pub type Port = NonZeroU16;

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// By name.
    Name(HostName),
    /// By address.
    Address(IpAddr),
}

/// Why a text is no [`Host`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Neither an address nor a name.
    #[error(transparent)]
    Name(#[from] HostNameError),
    /// Something in brackets or with colons that is no IPv6 address.
    #[error("`{0}` is no IPv6 address")]
    Ipv6(String),
}

impl Host {
    /// Parses `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]` or a name. Only the usual notation of
    /// an address is one: four decimal numbers without leading zeros, or IPv6 without a zone.
    ///
    /// # Errors
    /// A [`HostError`].
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return address.map(|it| Self::Address(it.into())).ok_or_else(|| not_ipv6(text));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        if text.contains(':') {
            let address = text.parse::<Ipv6Addr>().map_err(|_| not_ipv6(text))?;
            return Ok(Self::Address(address.into()));
        }
        Ok(Self::Name(HostName::parse(text)?))
    }
}

fn not_ipv6(text: &str) -> HostError {
    HostError::Ipv6(printable(&text.chars().take(80).collect::<String>()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

/// Where a connection goes, as the cube asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    /// Name or address.
    pub host: Host,
    /// The port.
    pub port: Port,
}

/// Why a text is no [`Destination`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The part before the port.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No port, where one is needed.
    #[error("`{0}` has no port: write `{0}:443`, for example")]
    NoPort(String),
    /// Not a number from 1 to 65535.
    #[error("`{0}` is no port: a number from 1 to 65535")]
    Port(String),
}

impl Destination {
    /// A name and a port.
    #[must_use]
    pub const fn name(name: HostName, port: Port) -> Self {
        Self { host: Host::Name(name), port }
    }

    /// An address and a port.
    #[must_use]
    pub const fn address(address: IpAddr, port: Port) -> Self {
        Self { host: Host::Address(address), port }
    }

    /// Parses `host:port`; IPv6 addresses stand in brackets.
    ///
    /// # Errors
    /// A [`DestinationError`].
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let (host, port) = split_port(text)?;
        let port = port.ok_or_else(|| DestinationError::NoPort(printable(host)))?;
        Ok(Self { host: Host::parse(host)?, port })
    }
}

/// Splits `host[:port]`. More than one colon outside of brackets is an IPv6 address without port.
pub(super) fn split_port(text: &str) -> Result<(&str, Option<Port>), DestinationError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    };
    port.map(parse_port).transpose().map(|port| (host, port))
}

/// A decimal number from 1 to 65535, digits only, no leading zero.
pub(super) fn parse_port(text: &str) -> Result<Port, DestinationError> {
    let digits = !text.starts_with('0') && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| DestinationError::Port(printable(&text.chars().take(40).collect::<String>())))
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl FromStr for Destination {
    type Err = DestinationError;
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;
    fn try_from(text: String) -> Result<Self, DestinationError> {
        Self::parse(&text)
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}
