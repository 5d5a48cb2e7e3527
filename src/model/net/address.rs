//! Addresses: networks, and what kind of place an address leads to.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{POOL_V4, POOL_V6};
use crate::model::sanitize::printable;

/// A network in CIDR notation; an address alone is a network of one. The bits after the length are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Cidr {
    /// IPv4.
    V4 {
        /// The first address.
        network: Ipv4Addr,
        /// Bits that are given: 0 to 32.
        length: u8,
    },
    /// IPv6.
    V6 {
        /// The first address.
        network: Ipv6Addr,
        /// Bits that are given: 0 to 128.
        length: u8,
    },
}

/// Why a text is no [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before `/`.
    #[error("`{0}` is no address in the usual notation")]
    Address(String),
    /// The part after `/`.
    #[error("`/{0}` is no prefix length: a number from 0 to {1}")]
    Length(String, u8),
    /// Bits after the prefix are set.
    #[error("`{given}` names one address of a network: write `{network}`")]
    HostBits {
        /// What was written.
        given: String,
        /// The network that it lies in.
        network: Cidr,
    },
}

impl Cidr {
    /// The network of one address.
    #[must_use]
    pub const fn one(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(network) => Self::V4 { network, length: 32 },
            IpAddr::V6(network) => Self::V6 { network, length: 128 },
        }
    }

    /// Parses `192.0.2.0/24`, `2001:db8::/32` or one address.
    ///
    /// # Errors
    /// A [`CidrError`].
    pub fn parse(text: &str) -> Result<Self, CidrError> {
        let cut = |text: &str| printable(&text.chars().take(80).collect::<String>());
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address(cut(address)))?;
        let max: u8 = if address.is_ipv4() { 32 } else { 128 };
        let Some(length) = length else { return Ok(Self::one(address)) };
        let plain = length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
        let plain = plain && (length.len() == 1 || !length.starts_with('0'));
        let bits: u8 = plain
            .then(|| length.parse().ok())
            .flatten()
            .filter(|bits| *bits <= max)
            .ok_or_else(|| CidrError::Length(cut(length), max))?;
        let network = Self::around(address, bits);
        if network.first() == address {
            Ok(network)
        } else {
            Err(CidrError::HostBits { given: cut(text), network })
        }
    }

    fn around(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(it) => Self::V4 { network: (u32::from(it) & mask32(length)).into(), length },
            IpAddr::V6(it) => Self::V6 { network: (u128::from(it) & mask128(length)).into(), length },
        }
    }

    /// The first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        match self {
            Self::V4 { network, .. } => IpAddr::V4(*network),
            Self::V6 { network, .. } => IpAddr::V6(*network),
        }
    }

    /// True for a network of one address.
    #[must_use]
    pub const fn is_one(&self) -> bool {
        matches!(self, Self::V4 { length: 32, .. } | Self::V6 { length: 128, .. })
    }

    /// True when `address` lies in it. The families never mix.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4 { network, length }, IpAddr::V4(it)) => {
                u32::from(it) & mask32(*length) == u32::from(*network)
            }
            (Self::V6 { network, length }, IpAddr::V6(it)) => {
                u128::from(it) & mask128(*length) == u128::from(*network)
            }
            _ => false,
        }
    }

    /// True when all of `other` lies in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.length(), other.length());
        ours <= theirs && self.contains(other.first())
    }

    const fn length(&self) -> u8 {
        match self {
            Self::V4 { length, .. } | Self::V6 { length, .. } => *length,
        }
    }
}

const fn mask32(length: u8) -> u32 {
    if length == 0 { 0 } else { u32::MAX << (32 - length) }
}

const fn mask128(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - length) }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            one if one.is_one() => one.first().fmt(f),
            Self::V4 { network, length } => write!(f, "{network}/{length}"),
            Self::V6 { network, length } => write!(f, "{network}/{length}"),
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, CidrError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, CidrError> {
        Self::parse(&text)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

/// What kind of place an address leads to, by the IANA special-purpose registries (RFC 6890).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Anywhere on the internet.
    Global,
    /// 127.0.0.0/8, `::1`.
    Loopback,
    /// A cloud's metadata service: credentials of the host for whoever asks.
    Metadata,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// RFC 1918, fc00::/7, fec0::/10.
    Private,
    /// 100.64.0.0/10, behind a carrier's NAT; also the range of Tailscale.
    SharedNat,
    /// An IPv4 address inside an IPv6 one: mapped, compatible, NAT64, 6to4, Teredo, ISATAP.
    Embedded,
    /// The cube's own addresses that stand for names.
    Pool,
    /// Unspecified, multicast, broadcast, documentation, benchmarking, discard, reserved.
    Special,
}

impl Class {
    /// For people: `is a … address`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Global => "public",
            Self::Loopback => "loopback",
            Self::Metadata => "metadata-service",
            Self::LinkLocal => "link-local",
            Self::Private => "private",
            Self::SharedNat => "carrier-NAT",
            Self::Embedded => "IPv4-in-IPv6",
            Self::Pool => "name-pool",
            Self::Special => "reserved",
        }
    }

    /// True for networks near the host that `lan = true` opens.
    #[must_use]
    pub const fn is_lan(self) -> bool {
        matches!(self, Self::Private | Self::SharedNat)
    }

    /// True when nothing can be reached there over TCP, whatever a rule says.
    #[must_use]
    pub const fn is_never(self) -> bool {
        matches!(self, Self::Special | Self::Pool)
    }
}

/// Metadata services outside of link-local space, or by their own name in it: AWS, Azure's wire
/// server, Alibaba, Oracle, AWS over IPv6, Google over IPv6, ECS tasks, EKS pods.
const METADATA_V4: &[[u8; 4]] = &[
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [169, 254, 170, 23],
    [169, 254, 169, 253],
    [169, 254, 169, 123],
    [169, 254, 0, 23],
    [168, 63, 129, 16],
    [100, 100, 100, 200],
    [192, 0, 0, 192],
];
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Where `address` leads.
#[must_use]
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    let octets = address.octets();
    if METADATA_V4.contains(&octets) {
        return Class::Metadata;
    }
    match octets {
        _ if POOL_V4.contains(address.into()) => Class::Pool,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::SharedNat,
        // This network; IETF assignments; documentation; 6to4 relays; AS112; multicast and above.
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [192, 31, 196, _]
        | [192, 52, 193, _]
        | [192, 175, 48, _]
        | [224..=255, ..] => Class::Special,
        _ => Class::Global,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    if METADATA_V6.contains(&address) {
        return Class::Metadata;
    }
    if POOL_V6.contains(address.into()) {
        return Class::Pool;
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Special,
        // Mapped, translated (RFC 2765) and compatible.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => Class::Embedded,
        // NAT64, its local-use prefix (RFC 8215), 6to4, Teredo.
        [0x64, 0xff9b, 0 | 1, ..] | [0x2002, ..] | [0x2001, 0, ..] => Class::Embedded,
        // ISATAP (RFC 5214): the interface id spells an IPv4 address.
        [.., 0 | 0x200, 0x5efe, _, _] => Class::Embedded,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xfec0..=0xfeff, ..] | [0xfc00..=0xfdff, ..] => Class::Private,
        // Only 2000::/3 is given out; of it not benchmarking, ORCHID, documentation, DRIP.
        [0x2001, 2, 0, ..] | [0x2001, 0x10..=0x3f, ..] | [0x2001, 0xdb8, ..] => Class::Special,
        [0x3fff, 0..=0xfff, ..] => Class::Special,
        [0x2000..=0x3fff, ..] => Class::Global,
        _ => Class::Special,
    }
}

/// The networks that are not the internet, one class each. A rule names addresses of such a class
/// only when it lies inside: `0.0.0.0/0` does not mean loopback.
pub(super) const NEAR: &[Cidr] = &[
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v4([100, 64, 0, 0], 10),
    v6(0, 1, 128),
    v6(0xfe80, 0, 10),
    v6(0xfec0, 0, 10),
    v6(0xfc00, 0, 7),
];

/// Networks in which nothing can be reached over TCP: as [`classify`] has them, but for those of IPv6 outside [`GIVEN_OUT`].
const NEVER: &[Cidr] = &[
    POOL_V4,
    v4([0, 0, 0, 0], 8),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 31, 196, 0], 24),
    v4([192, 52, 193, 0], 24),
    v4([192, 175, 48, 0], 24),
    v4([224, 0, 0, 0], 3),
    POOL_V6,
    v6_2(0x2001, 2, 48),
    v6_2(0x2001, 0x10, 28),
    v6_2(0x2001, 0x20, 27),
    v6_2(0x2001, 0xdb8, 32),
    v6(0x3fff, 0, 20),
];

/// What of IPv6 is given out at all.
const GIVEN_OUT: Cidr = v6(0x2000, 0, 3);

/// True for a network of which no address can be reached over TCP.
pub(super) fn is_dead(network: &Cidr) -> bool {
    if NEVER.iter().any(|never| never.covers(network)) {
        return true;
    }
    let six = matches!(network, Cidr::V6 { .. });
    let somewhere = GIVEN_OUT.covers(network) || network.covers(&GIVEN_OUT);
    six && !somewhere && !NEAR.iter().any(|near| near.covers(network))
}

const fn v4(octets: [u8; 4], length: u8) -> Cidr {
    let [a, b, c, d] = octets;
    Cidr::V4 { network: Ipv4Addr::new(a, b, c, d), length }
}

const fn v6(first: u16, last: u16, length: u8) -> Cidr {
    Cidr::V6 { network: Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last), length }
}

const fn v6_2(first: u16, second: u16, length: u8) -> Cidr {
    Cidr::V6 { network: Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length }
}
