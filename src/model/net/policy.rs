//! `NetPolicy`: the complete policy that a plan carries, and the rules that are added to a running cube.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::proxy::{Hole, HoleError, ProxyAuth, ProxyUrl};
use super::rule::Rule;
use crate::model::NetPolicyKind;

/// What a cube may reach, with all that the gateway needs to know for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum NetPolicy {
    /// Nothing.
    #[default]
    None,
    /// Everything through a proxy, by name; holes go past it.
    Proxy {
        /// The proxy.
        url: ProxyUrl,
        /// Its secret.
        #[serde(default)]
        auth: ProxyAuth,
        /// What is dialled directly.
        #[serde(default)]
        holes: Vec<Hole>,
    },
    /// What a rule names.
    Allow {
        /// The rules.
        rules: Vec<Rule>,
    },
    /// Anything but loopback, link-local and metadata services.
    Open {
        /// Private networks too.
        #[serde(default)]
        lan: bool,
        /// What else is opened: addresses that `open` alone refuses.
        #[serde(default)]
        rules: Vec<Rule>,
    },
}

/// Why parts make no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A hole that is no hole here.
    #[error(transparent)]
    Hole(#[from] HoleError),
    /// `proxy` without an address.
    #[error("the net policy is `proxy` and no proxy is given: add `proxy = \"socks5h://HOST:PORT\"`")]
    NoProxy,
    /// `allow` without a rule allows nothing.
    #[error(
        "the net policy is `allow` and no rule is given: add `allow = [\"example.com:443\"]`, or use `none`"
    )]
    NoRules,
}

impl NetPolicy {
    /// The policy `proxy`.
    ///
    /// # Errors
    /// When there is no proxy, or a hole leads to it.
    pub fn proxy(url: Option<ProxyUrl>, auth: ProxyAuth, holes: Vec<Hole>) -> Result<Self, PolicyError> {
        let url = url.ok_or(PolicyError::NoProxy)?;
        if let Some(hole) = holes.iter().find(|hole| hole.is_the_proxy(&url)) {
            return Err(HoleError::Itself(hole.to_string()).into());
        }
        Ok(Self::Proxy { url, auth, holes })
    }

    /// The policy `allow`.
    ///
    /// # Errors
    /// Without a rule.
    pub fn allow(rules: Vec<Rule>) -> Result<Self, PolicyError> {
        if rules.is_empty() { Err(PolicyError::NoRules) } else { Ok(Self::Allow { rules }) }
    }

    /// Which of the four.
    #[must_use]
    pub const fn kind(&self) -> NetPolicyKind {
        match self {
            Self::None => NetPolicyKind::None,
            Self::Proxy { .. } => NetPolicyKind::Proxy,
            Self::Allow { .. } => NetPolicyKind::Allow,
            Self::Open { .. } => NetPolicyKind::Open,
        }
    }
}

/// How long a rule that was added to a running cube holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// For the next connection that needs it.
    Once,
    /// Until the cube ends.
    Cube,
}

/// A rule that was added to a running cube.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LiveRule {
    /// The rule.
    pub rule: Rule,
    /// How long it holds.
    pub scope: Scope,
}

impl fmt::Display for LiveRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match self.scope {
            Scope::Once => "once",
            Scope::Cube => "for this cube",
        };
        write!(f, "{} ({scope})", self.rule)
    }
}
