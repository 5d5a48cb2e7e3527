//! What a cube may reach: one pure decision for names, connections and resolved addresses.
//!
//! [`decide`] is asked twice about a connection by name: before anything is resolved (a name that
//! no rule allows is never looked up), and for each address that the name led to. The address
//! that passes is the one that is dialled. About an address it is asked once. Nothing else in
//! tripmine decides what a cube reaches.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::net::{
    Class, Decision, Destination, Hole, Host, HostName, LiveRule, NetPolicy, Pattern, Port, Reason, Rule,
    Scope, Via, classify,
};
use crate::model::{Failure, FailureKind, NetPolicyKind};

#[cfg(test)]
mod tests;

/// A hole with the addresses that its name had at launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenHole {
    /// The hole.
    pub hole: Hole,
    /// Where it leads, each checked by [`Hole::check`].
    pub addresses: Vec<IpAddr>,
}

/// Everything that a decision depends on besides the destination.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The policy in force.
    pub policy: &'a NetPolicy,
    /// Rules that were added while the cube ran.
    pub live: &'a [LiveRule],
    /// The policy's holes, resolved.
    pub holes: &'a [OpenHole],
}

/// An address that could be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The address.
    pub address: IpAddr,
    /// It is one of the host's own: a connection to it would not leave the host.
    pub own: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Find the addresses, and ask again about each.
    Resolve,
    /// Dial these, none other.
    Dial(Vec<IpAddr>),
    /// Ask the proxy for it.
    Proxy,
    /// Refuse.
    Deny,
}

/// An answer of [`decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What to do next.
    pub step: Step,
    /// Why. With [`Step::Resolve`] not final.
    pub reason: Reason,
    /// Rules for one connection that this one uses up, once it is dialled.
    pub uses: Vec<LiveRule>,
}

impl Verdict {
    const fn deny(reason: Reason) -> Self {
        Self { step: Step::Deny, reason, uses: Vec::new() }
    }

    fn go(step: Step, grant: &Grant<'_>) -> Self {
        Self { step, reason: grant.reason(), uses: grant.once() }
    }

    /// As it is written down.
    #[must_use]
    pub fn decision(&self) -> Decision {
        let via = match self.step {
            Step::Deny => None,
            Step::Proxy => Some(Via::Proxy),
            Step::Resolve | Step::Dial(_) => Some(Via::Direct),
        };
        Decision { allowed: via.is_some(), via, reason: self.reason.clone() }
    }
}

/// What allows something.
#[derive(Debug, Clone)]
enum Grant<'a> {
    Policy(NetPolicyKind),
    Rule(&'a Rule),
    Live(&'a LiveRule),
    Hole(&'a Hole),
}

impl Grant<'_> {
    fn reason(&self) -> Reason {
        match self {
            Self::Policy(kind) => Reason::Policy(*kind),
            Self::Rule(rule) => Reason::Rule((*rule).clone()),
            Self::Live(live) => Reason::Live((*live).clone()),
            Self::Hole(hole) => Reason::Hole((*hole).clone()),
        }
    }

    fn once(&self) -> Vec<LiveRule> {
        match self {
            Self::Live(live) if live.scope == Scope::Once => vec![(*live).clone()],
            _ => Vec::new(),
        }
    }
}

impl<'a> Scene<'a> {
    fn rules(&self) -> &'a [Rule] {
        match self.policy {
            NetPolicy::Allow { rules } | NetPolicy::Open { rules, .. } => rules,
            NetPolicy::None | NetPolicy::Proxy { .. } => &[],
        }
    }

    /// The first rule that fits: those of the policy before those of a moment, rules for the cube
    /// before rules that are used up.
    fn find(&self, fits: impl Fn(&Rule) -> bool) -> Option<Grant<'a>> {
        let fixed = self.rules().iter().find(|rule| fits(rule)).map(Grant::Rule);
        let live = |scope| {
            let mut live = self.live.iter().filter(move |live| live.scope == scope);
            live.find(|live| fits(&live.rule)).map(Grant::Live)
        };
        fixed.or_else(|| live(Scope::Cube)).or_else(|| live(Scope::Once))
    }

    fn refusal(&self) -> Reason {
        match self.policy {
            NetPolicy::None => Reason::Policy(NetPolicyKind::None),
            _ => Reason::NoRule,
        }
    }
}

/// Decides about `destination`: at first without a candidate, then for each one.
///
/// For an address the only candidate is itself; a first question without it is answered
/// [`Step::Resolve`] when it comes down to what kind of address it is.
#[must_use]
pub fn decide(scene: &Scene<'_>, destination: &Destination, candidate: Option<Candidate>) -> Verdict {
    match scene.policy {
        NetPolicy::Proxy { .. } => through_proxy(scene, destination, candidate),
        _ => match &destination.host {
            Host::Name(name) => by_name(scene, name, destination.port, candidate),
            Host::Address(address) => by_address(scene, *address, destination.port, candidate),
        },
    }
}

fn by_name(scene: &Scene<'_>, name: &HostName, port: Port, candidate: Option<Candidate>) -> Verdict {
    // The first is the cube itself, the second no name server may be asked for.
    if name.is_localhost() || name.is_onion() {
        return Verdict::deny(Reason::NameNowhere);
    }
    let named = scene.find(|rule| rule.matches_name(name, port));
    let alias = name.is_host_alias();
    let admitted = match (&named, scene.policy) {
        (Some(grant), _) => Some(grant.clone()),
        (None, NetPolicy::Open { .. }) => Some(Grant::Policy(NetPolicyKind::Open)),
        (None, _) if alias => {
            loopbacks().find_map(|it| scene.find(|rule| rule.names_address(it, port, true)))
        }
        (None, _) => None,
    };
    let Some(admitted) = admitted else { return Verdict::deny(scene.refusal()) };
    let Some(Candidate { address, own }) = candidate else {
        return Verdict::go(Step::Resolve, &admitted);
    };
    let class = classify(address);
    if class.is_never() || class == Class::Embedded {
        return Verdict::deny(Reason::Place(class));
    }
    if class == Class::Global && !own {
        return Verdict::go(Step::Dial(vec![address]), &admitted);
    }
    // A name of the host itself, spelled out with its port, names the host's loopback.
    let host_named = (alias && class == Class::Loopback).then_some(named).flatten();
    match host_named.or_else(|| near(scene, address, port, own)) {
        Some(grant) => {
            let mut verdict = Verdict::go(Step::Dial(vec![address]), &grant);
            verdict.uses.extend(admitted.once());
            verdict.uses.dedup();
            verdict
        }
        None => Verdict::deny(if own { Reason::OwnAddress } else { Reason::Place(class) }),
    }
}

/// What allows an address that is not simply somewhere on the internet.
fn near<'a>(scene: &Scene<'a>, address: IpAddr, port: Port, own: bool) -> Option<Grant<'a>> {
    let lan = matches!(scene.policy, NetPolicy::Open { lan: true, .. }) && classify(address).is_lan() && !own;
    let open = lan.then_some(Grant::Policy(NetPolicyKind::Open));
    open.or_else(|| scene.find(|rule| rule.names_address(address, port, own)))
}

fn by_address(scene: &Scene<'_>, address: IpAddr, port: Port, candidate: Option<Candidate>) -> Verdict {
    let class = classify(address);
    if class == Class::Pool {
        return Verdict::deny(Reason::UnknownName);
    }
    if class.is_never() || class == Class::Embedded {
        return Verdict::deny(Reason::Place(class));
    }
    let Some(Candidate { own, .. }) = candidate.filter(|it| it.address == address) else {
        let provisional = Reason::Policy(scene.policy.kind());
        return Verdict { step: Step::Resolve, reason: provisional, uses: Vec::new() };
    };
    let open = matches!(scene.policy, NetPolicy::Open { .. }) && class == Class::Global && !own;
    let grant = if open { Some(Grant::Policy(NetPolicyKind::Open)) } else { near(scene, address, port, own) };
    match (grant, scene.policy) {
        (Some(grant), _) => Verdict::go(Step::Dial(vec![address]), &grant),
        (None, NetPolicy::None) => Verdict::deny(scene.refusal()),
        (None, _) if own => Verdict::deny(Reason::OwnAddress),
        (None, _) if class == Class::Global => Verdict::deny(scene.refusal()),
        (None, _) => Verdict::deny(Reason::Place(class)),
    }
}

/// Nothing is resolved here: names go to the proxy, holes were resolved at launch. Where a name
/// leads is therefore the proxy's to judge; only what says by itself where it leads is refused.
fn through_proxy(scene: &Scene<'_>, destination: &Destination, candidate: Option<Candidate>) -> Verdict {
    let alias = matches!(&destination.host, Host::Name(name) if name.is_host_alias());
    let leads_home = |hole: &OpenHole| {
        alias
            && hole.hole.destination().port == destination.port
            && matches!(hole.hole.destination().host, Host::Address(address) if address.is_loopback())
    };
    let hole = scene.holes.iter().find(|open| open.hole.destination() == destination || leads_home(open));
    if let Some(open) = hole {
        let sound = open.addresses.iter().copied().filter(|address| open.hole.check(*address).is_ok());
        return Verdict::go(Step::Dial(sound.collect()), &Grant::Hole(&open.hole));
    }
    if let Some((grant, address)) = live_hole(scene, destination) {
        return Verdict::go(Step::Dial(vec![address]), &grant);
    }
    let policy = Grant::Policy(NetPolicyKind::Proxy);
    match &destination.host {
        Host::Name(name) if name.is_localhost() => Verdict::deny(Reason::NameNowhere),
        Host::Name(_) if alias => Verdict::deny(Reason::Place(Class::Loopback)),
        Host::Name(name) if name.is_metadata() => Verdict::deny(Reason::Place(Class::Metadata)),
        Host::Name(_) => Verdict::go(Step::Proxy, &policy),
        Host::Address(address) => match classify(*address) {
            // Through a proxy on this host it would be reached as the host reaches itself.
            Class::Global if candidate.is_some_and(|it| it.address == *address && it.own) => {
                Verdict::deny(Reason::OwnAddress)
            }
            Class::Global => Verdict::go(Step::Proxy, &policy),
            Class::Pool => Verdict::deny(Reason::UnknownName),
            class => Verdict::deny(Reason::Place(class)),
        },
    }
}

/// A rule added to a running cube opens a hole, if a hole could be written like that.
fn live_hole<'a>(scene: &Scene<'a>, destination: &Destination) -> Option<(Grant<'a>, IpAddr)> {
    let targets: Vec<IpAddr> = match &destination.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) if name.is_host_alias() => loopbacks().collect(),
        Host::Name(_) => return None,
    };
    targets.into_iter().find_map(|address| {
        let fits = |rule: &Rule| {
            as_hole(scene.policy, rule).is_some() && rule.names_address(address, destination.port, true)
        };
        scene.find(fits).map(|grant| (grant, address))
    })
}

/// The hole that a rule could be, past the proxy of this policy.
fn as_hole(policy: &NetPolicy, rule: &Rule) -> Option<Hole> {
    let NetPolicy::Proxy { url, .. } = policy else { return None };
    let Pattern::Network(network) = rule.pattern() else { return None };
    let port = rule.port().filter(|_| network.is_one())?;
    let hole = Hole::parse(&Destination::address(network.first(), port).to_string()).ok()?;
    (!hole.is_the_proxy(url)).then_some(hole)
}

fn loopbacks() -> impl Iterator<Item = IpAddr> {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into_iter()
}

/// Whether a rule that is added to a running cube could have an effect.
///
/// # Errors
/// When it could not: what to do instead.
pub fn check_live(policy: &NetPolicy, rule: &Rule) -> Result<(), Failure> {
    if policy.kind() != NetPolicyKind::Proxy || as_hole(policy, rule).is_some() {
        return Ok(());
    }
    let refuse = |message: String| Failure::new(FailureKind::Denied, message);
    Err(match rule.pattern() {
        Pattern::Name(_) | Pattern::Beneath(_) => {
            refuse(format!("the rule `{rule}` changes nothing: under `proxy` every name goes to the proxy"))
                .hint("a name that fails there is refused, or not found, by the proxy itself")
        }
        Pattern::Network(_) => refuse(format!("the rule `{rule}` opens no hole past the proxy")).hint(
            "a hole is one loopback or private address with a port: no port of a name service or proxy, and not the proxy itself",
        ),
    })
}

/// How a question for the addresses of a name is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameAnswer {
    /// By an address that stands for it.
    Pool,
    /// By the cube's own loopback.
    Loopback,
    /// There is no such name.
    Nowhere(Reason),
}

/// Decides how a question for a name is answered. Names that no rule allows have an answer too, so
/// that the connection, with its port, is what is refused; but under `none` nothing has one.
#[must_use]
pub fn answer_name(scene: &Scene<'_>, name: &HostName) -> NameAnswer {
    if name.is_localhost() {
        return NameAnswer::Loopback;
    }
    match scene.policy {
        NetPolicy::Proxy { .. } => NameAnswer::Pool,
        _ if name.is_onion() => NameAnswer::Nowhere(Reason::NameNowhere),
        NetPolicy::None => {
            let alias = |rule: &Rule| {
                let port = rule.port().filter(|_| name.is_host_alias());
                port.is_some_and(|port| loopbacks().any(|it| rule.names_address(it, port, true)))
            };
            let meant = |live: &LiveRule| live.rule.matches_name_on_some_port(name) || alias(&live.rule);
            let known = scene.live.iter().any(meant);
            if known { NameAnswer::Pool } else { NameAnswer::Nowhere(scene.refusal()) }
        }
        NetPolicy::Allow { .. } | NetPolicy::Open { .. } => NameAnswer::Pool,
    }
}

/// The rule that would let through what was refused for `reason`, if one does; `led` is the address that its name led to.
///
/// A name that leads near is allowed by that address, not by the name again. The credentials that a metadata service gives are
/// nothing to be let out by a hint.
#[must_use]
pub fn helping_rule(destination: &Destination, reason: &Reason, led: Option<IpAddr>) -> Option<Rule> {
    let target = match (&destination.host, reason) {
        (_, Reason::Place(Class::Metadata)) => return None,
        (Host::Name(name), Reason::Place(_) | Reason::OwnAddress) => {
            let home = name.is_host_alias().then(|| loopbacks().next()).flatten();
            Destination::address(home.or(led)?, destination.port)
        }
        (_, Reason::NoRule | Reason::Policy(_) | Reason::Place(_) | Reason::OwnAddress) => {
            destination.clone()
        }
        _ => return None,
    };
    Rule::for_destination(&target).ok()
}

/// The command that would allow a refused connection; `None` when nothing does.
#[must_use]
pub fn remedy(
    policy: &NetPolicy,
    destination: &Destination,
    reason: &Reason,
    led: Option<IpAddr>,
    cube: &str,
) -> Option<String> {
    let rule = helping_rule(destination, reason, led)?;
    check_live(policy, &rule).ok()?;
    Some(format!("tripmine net {cube} allow {rule}"))
}
