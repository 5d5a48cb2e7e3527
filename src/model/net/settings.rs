//! What a place (machine, configuration, project file, command line) says about the net besides the kind of policy.

use serde::{Deserialize, Serialize};

use super::proxy::{Hole, ProxyAuth, ProxyUrl};
use super::rule::Rule;
use crate::model::NetPolicyKind;

/// Parts of a policy; `None` means "not said here".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetSettings {
    /// `allow`: what `allow` reaches, and what `open` reaches besides what it does anyway.
    pub rules: Option<Vec<Rule>>,
    /// `proxy`.
    pub proxy: Option<ProxyUrl>,
    /// `proxy-auth-file`, `proxy-auth-command`.
    pub auth: Option<ProxyAuth>,
    /// `holes`.
    pub holes: Option<Vec<Hole>>,
    /// `lan`: `open` reaches private networks too.
    pub lan: Option<bool>,
    /// `setup`: the policy until the cube is switched to its own.
    pub setup: Option<NetPolicyKind>,
}
