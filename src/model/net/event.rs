//! What is written down of the net: one decision, one event, one line of JSON.

use core::net::IpAddr;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::address::Class;
use super::host::Host;
use super::host_name::HostName;
use super::policy::LiveRule;
use super::proxy::Hole;
use super::rule::Rule;
use crate::model::NetPolicyKind;
use crate::model::sanitize::printable;

/// The version of [`NetEvent`] as JSON.
pub const NET_EVENT_VERSION: u32 = 1;

/// What carried it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A connection.
    Tcp,
    /// A question for a name.
    Dns,
}

/// How a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// From the host, to the address that was checked.
    Direct,
    /// Through the proxy.
    Proxy,
}

/// Why a decision is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "what")]
pub enum Reason {
    /// A rule of the policy.
    Rule(Rule),
    /// A rule that was added while the cube ran.
    Live(LiveRule),
    /// A hole past the proxy.
    Hole(Hole),
    /// The policy as such: `open` and `proxy` allow, `none` denies.
    Policy(NetPolicyKind),
    /// No rule names it.
    NoRule,
    /// The name, or the address, leads to a place of this kind, which no rule names.
    Place(Class),
    /// It is an address of the host itself, which no rule names.
    OwnAddress,
    /// An address out of the name pool that stands for no name (any more).
    UnknownName,
    /// A name that leads nowhere by definition, such as `localhost` from outside or `.onion` without a proxy.
    NameNowhere,
    /// What was asked for is no valid name; the text is made visible and cut.
    BadName(String),
}

/// What was decided for one connection or name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decision {
    /// May it.
    pub allowed: bool,
    /// How, if it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Refused by the policy.
    Denied,
    /// Allowed, and connected.
    Opened,
    /// Allowed, and the other end could not be reached.
    Failed,
    /// An opened connection is over.
    Closed,
    /// Events that were too many to write down, by number.
    LeftOut,
    /// A rule was added, or the policy switched.
    Changed,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct End {
    /// Bytes that left the cube.
    pub sent: u64,
    /// Bytes that came in.
    pub received: u64,
    /// How long it was open, in milliseconds.
    pub open_ms: u64,
    /// Why.
    pub reason: EndReason,
}

/// Why a connection ended, or was never made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// Both ends said all.
    Done,
    /// One end broke off.
    Reset,
    /// Nothing was said for too long.
    Idle,
    /// The cube, or its policy, ended it.
    Stopped,
    /// The other end did not answer, or refused: the host's words.
    Unreachable(String),
    /// The name is unknown to the host's resolver.
    Unresolved(String),
    /// The proxy refused or is not there: its words.
    Proxy(String),
    /// Too many connections at once.
    Limit,
}

/// The connection an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// Its number in this cube, from 1; 0 for a name.
    pub id: u64,
    /// What carried it.
    pub transport: Transport,
    /// The program that asked, when it could be told. A cube's own text: show it through `printable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The name that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<HostName>,
    /// The address: what the cube connected to, or what was dialled for the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port; 0 for a name.
    pub port: u16,
}

impl Connection {
    /// Name or address, whichever the cube used.
    #[must_use]
    pub fn host(&self) -> Option<Host> {
        self.name.clone().map(Host::Name).or(self.address.map(Host::Address))
    }
}

/// One line of a cube's net log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetEvent {
    /// [`NET_EVENT_VERSION`].
    pub v: u32,
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// Which connection; none for `left-out` and `changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// For `left-out`: how many events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// For `changed`: what, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "rule `{rule}`"),
            Self::Live(live) => write!(f, "added rule `{live}`"),
            Self::Hole(hole) => write!(f, "hole `{hole}`"),
            Self::Policy(kind) => write!(f, "policy `{kind}`"),
            Self::NoRule => f.write_str("no rule allows it"),
            Self::Place(class) => write!(f, "it leads to a {} address, which no rule names", class.text()),
            Self::OwnAddress => f.write_str("it leads to the host itself, which no rule names"),
            Self::UnknownName => f.write_str("the address stands for no name"),
            Self::NameNowhere => f.write_str("the name leads nowhere from here"),
            Self::BadName(text) => write!(f, "`{}` is no host name", printable(text)),
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Reset => f.write_str("broken off"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Stopped => f.write_str("stopped"),
            Self::Unreachable(why) => write!(f, "not reached: {}", printable(why)),
            Self::Unresolved(why) => write!(f, "name not found: {}", printable(why)),
            Self::Proxy(why) => write!(f, "the proxy: {}", printable(why)),
            Self::Limit => f.write_str("too many connections at once"),
        }
    }
}
