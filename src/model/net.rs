//! The nouns of the net: names, addresses with ports, rules, proxies, policies, and what is
//! written down of each decision.
//!
//! Owns the texts that people and cubes write and the one strict way of reading each. **A value
//! that exists is canonical**: a [`HostName`] is lower-case ASCII without a trailing dot, a
//! [`Rule`] is one that can match, a [`NetPolicy`] holds everything that its kind needs. Refuses
//! to decide anything: that is `plan::net`. Nothing here resolves a name or opens a socket.

mod address;
mod event;
mod host;
mod host_name;
mod own;
mod policy;
mod proxy;
mod rule;
mod settings;
#[cfg(test)]
mod tests;

pub use address::{Cidr, CidrError, Class, classify};
pub use event::{
    Connection, Decision, End, EndReason, EventKind, NET_EVENT_VERSION, NetEvent, Reason, Transport, Via,
};
pub use host::{Destination, DestinationError, Host, HostError, Port};
pub use host_name::{HOST_ALIASES, HostName, HostNameError};
pub use own::{OWN_V4, OWN_V6};
pub use policy::{LiveRule, NetPolicy, PolicyError, Scope};
pub use proxy::{Hole, HoleError, ProxyAuth, ProxyUrl, ProxyUrlError};
pub use rule::{Pattern, Rule, RuleError};
pub use settings::NetSettings;

/// Addresses that stand for names inside a cube: 198.18.0.0/15 (RFC 2544, never routed).
pub const POOL_V4: Cidr = Cidr::V4 { network: core::net::Ipv4Addr::new(198, 18, 0, 0), length: 15 };
/// The same for IPv6: a unique local prefix (RFC 4193) whose global id spells "tripmi".
pub const POOL_V6: Cidr =
    Cidr::V6 { network: core::net::Ipv6Addr::new(0xfd74, 0x7269, 0x706d, 0, 0, 0, 0, 0), length: 64 };
