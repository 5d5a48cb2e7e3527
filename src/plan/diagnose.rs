//! What the facts of a host mean for tripmine: findings with a verdict, what a failure costs, and
//! commands that mend it. Text only; nothing here changes the host, and no fix is ever run.
//!
//! A probe that could not be carried out is neither a pass nor a failure.

mod jails;
mod namespaces;
mod resources;

use serde::{Deserialize, Serialize};

use crate::model::host::{HostFacts, Tried};

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// For programs: stable, lower case, with dashes.
    pub id: &'static str,
    /// For people.
    pub title: &'static str,
    /// Does this host have it?
    pub verdict: Verdict,
    /// How much tripmine needs it.
    pub matters: Matters,
    /// What was seen, one line.
    pub found: String,
    /// What does not work without it.
    pub what_it_costs: &'static str,
    /// Commands, and advice where no command will do, in order; empty after a pass.
    pub fix: Vec<String>,
}

/// Does this host have it?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Yes.
    Pass,
    /// No.
    Fail,
    /// It could not be tried.
    CouldNotTest,
    /// Nothing was promised.
    NotPromised,
}

impl Verdict {
    /// For lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::CouldNotTest => "could not test",
            Self::NotPromised => "not promised",
        }
    }
}

/// How much tripmine needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matters {
    /// Whether a kind of jail works here at all.
    Jail,
    /// No cube starts in the container jail without it.
    Essential,
    /// Something is weaker, slower or missing without it.
    Useful,
    /// For a capability that is not built yet.
    Later,
}

impl Matters {
    /// For lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Jail => "jails",
            Self::Essential => "essential",
            Self::Useful => "useful",
            Self::Later => "for later",
        }
    }
}

/// All findings, essential ones first.
#[must_use]
pub fn diagnose(facts: &HostFacts) -> Vec<Finding> {
    let mut findings = vec![
        jails::container(facts),
        jails::landlock(facts),
        namespaces::user_namespaces(facts),
        namespaces::overlay(facts),
        namespaces::fresh_proc(facts),
        namespaces::network_namespace(facts),
        resources::landlock(facts),
        resources::seccomp(facts),
        resources::landlock_scopes(facts),
        namespaces::tmpfs_xattrs(facts),
        resources::cgroups(facts),
        resources::subordinate_ids(facts),
        resources::terminal(facts),
        namespaces::nftables(facts),
        resources::kvm(facts),
    ];
    for finding in &mut findings {
        if finding.verdict == Verdict::Pass {
            finding.fix.clear();
        }
    }
    findings.sort_by_key(|finding| finding.matters);
    findings
}

/// True when a cube starts in the jail `landlock`, wholly or with what its finding names.
#[must_use]
pub fn works_in_place(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.id == jails::LANDLOCK && finding.verdict == Verdict::Pass)
}

/// True when everything essential passed. What could not be tested did not pass.
#[must_use]
pub fn is_ready(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.matters != Matters::Essential || finding.verdict == Verdict::Pass)
}

/// Verdict and what was seen, for something that was tried.
fn judged(tried: &Tried, works: &str) -> (Verdict, String) {
    match tried {
        Tried::Works => (Verdict::Pass, works.to_owned()),
        Tried::Refused(why) => (Verdict::Fail, why.clone()),
        Tried::Untested(why) => (Verdict::CouldNotTest, why.clone()),
    }
}

/// The login name as it may stand in a command that people copy.
fn user_in_command(user: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !user.is_empty() && !user.starts_with('-') && user.chars().all(plain) { user } else { "\"$USER\"" }
}

#[cfg(test)]
mod tests;
