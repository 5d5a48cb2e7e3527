//! The net policy of a launch: from what the places say to the one complete policy that the gateway carries out. Owns how the
//! parts go together; a policy that lacks a part is refused here, before anything starts.

use std::path::{Path, PathBuf};

use super::facts::Facts;
use super::launch::Origin;
use super::pick::{Picked, Places, Record};
use crate::model::net::{NetPolicy, PolicyError, ProxyAuth, ProxyUrl, Rule};
use crate::model::{Failure, FailureKind, NetPolicyKind, Settings};

/// What a launch may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The policy.
    pub policy: NetPolicy,
    /// The policy before it, until somebody switches.
    pub setup: Option<NetPolicy>,
}

impl Reach {
    /// True when the network must be captured before the entry runs.
    #[must_use]
    pub fn captured(&self) -> bool {
        self.policy != NetPolicy::None || self.setup.is_some()
    }
}

/// Puts the policy together.
///
/// # Errors
/// A part is missing, or parts contradict each other.
pub fn reach(
    typed: &Settings,
    facts: &Facts,
    places: &Places<'_>,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> Result<Reach, Failure> {
    let kind = kind(typed, places)?;
    let parts = Parts::new(typed, &facts.caller.home, places);
    let policy = parts.policy(kind.value, kind.origin)?;
    record.note("net", kind);
    parts.record(&policy, record);
    let setup = match places.pick(|s| s.reach.setup) {
        None => None,
        Some(picked) => {
            let setup = parts.policy(picked.value, picked.origin)?;
            record.note("setup", picked);
            warnings.push(format!(
                "the cube starts with the net policy `{}`: `tripmine net CUBE phase run` switches it to `{}`",
                picked.value, kind.value
            ));
            Some(setup)
        }
    };
    let saved = parts.rules.as_ref().is_some_and(|picked| !picked.value.is_empty());
    if kind.value == NetPolicyKind::None && setup.is_none() && saved {
        warnings.push(
            "there are rules in `allow`, and the net policy is `none`: nothing is reached (`--net allow` uses them)"
                .to_owned(),
        );
    }
    Ok(Reach { policy, setup })
}

/// The proxy through which a launch would go, and its secret; `None` when its policy is another.
///
/// # Errors
/// As [`reach`].
pub fn proxy(
    typed: &Settings,
    places: &Places<'_>,
    home: &Path,
) -> Result<Option<(ProxyUrl, ProxyAuth)>, Failure> {
    let kind = kind(typed, places)?;
    if kind.value != NetPolicyKind::Proxy {
        return Ok(None);
    }
    match Parts::new(typed, home, places).policy(kind.value, kind.origin)? {
        NetPolicy::Proxy { url, auth, .. } => Ok(Some((url, auth))),
        _ => Ok(None),
    }
}

/// Which of the four. Rules or a proxy on the command line ask for their policy where none is said.
fn kind(typed: &Settings, places: &Places<'_>) -> Result<Picked<NetPolicyKind>, Failure> {
    let said = places.pick_or(|s| s.net, NetPolicyKind::None);
    let rules = typed.reach.rules.as_ref().is_some_and(|rules| !rules.is_empty());
    let fail = |message: &str, hint: &str| Err(Failure::usage(message).hint(hint));
    let flag = |value| Ok(Picked { value, origin: Origin::Flag });
    match (said.value, rules, typed.reach.proxy.is_some()) {
        (_, true, true) => fail(
            "`--allow` and `--proxy` exclude each other",
            "what goes past the proxy stands in the machine's `holes`",
        ),
        (NetPolicyKind::None, true, false) if typed.net.is_none() => flag(NetPolicyKind::Allow),
        (NetPolicyKind::Proxy, true, false) => fail(
            "`--allow` means nothing under the net policy `proxy`: everything goes through the proxy",
            "add `--net allow` to reach it directly, or add a hole to the machine",
        ),
        (NetPolicyKind::None, true, false) => {
            fail("`--allow` contradicts `--net none`", "leave one of them out")
        }
        (value, false, true) if value != NetPolicyKind::Proxy => {
            if typed.net.is_some() {
                fail("`--proxy` contradicts the other `--net`", "leave one of them out")
            } else {
                flag(NetPolicyKind::Proxy)
            }
        }
        _ => Ok(said),
    }
}

/// What the places say, each part by the strongest that says it.
struct Parts<'a> {
    places: &'a Places<'a>,
    rules: Option<Picked<Vec<Rule>>>,
    typed: Vec<Rule>,
    home: PathBuf,
}

impl<'a> Parts<'a> {
    fn new(typed: &Settings, home: &Path, places: &'a Places<'a>) -> Self {
        // Rules of the command line add to what is saved, as `-e` adds a variable.
        let saved = places
            .weakest_first()
            .filter(|(origin, _)| *origin != Origin::Flag)
            .filter_map(|(origin, settings)| Some(Picked { value: settings.reach.rules.clone()?, origin }))
            .last();
        let typed = typed.reach.rules.clone().unwrap_or_default();
        Self { places, rules: saved, typed, home: home.to_owned() }
    }

    fn all_rules(&self) -> Vec<Rule> {
        let mut all = self.rules.as_ref().map(|picked| picked.value.clone()).unwrap_or_default();
        for rule in &self.typed {
            if !all.contains(rule) {
                all.push(rule.clone());
            }
        }
        all
    }

    fn policy(&self, kind: NetPolicyKind, origin: Origin) -> Result<NetPolicy, Failure> {
        let policy = match kind {
            NetPolicyKind::None => Ok(NetPolicy::None),
            NetPolicyKind::Allow => NetPolicy::allow(self.all_rules()),
            NetPolicyKind::Open => Ok(NetPolicy::Open {
                lan: self.places.pick(|s| s.reach.lan).is_some_and(|picked| picked.value),
                rules: self.all_rules(),
            }),
            NetPolicyKind::Proxy => self.proxy(),
        };
        policy.map_err(|error| {
            let failure = Failure::new(
                FailureKind::Config,
                format!("{error} (`net {kind}` comes from: {})", origin.word()),
            );
            match error {
                PolicyError::NoProxy => failure
                    .hint("`tripmine proxy detect` finds the proxies of this host")
                    .hint("for this launch only: `--proxy socks5h://127.0.0.1:9050`"),
                PolicyError::NoRules => failure.hint("for this launch only: `--allow example.com:443`"),
                PolicyError::Hole(_) => failure,
            }
        })
    }

    fn proxy(&self) -> Result<NetPolicy, PolicyError> {
        let url = self.places.pick(|s| s.reach.proxy.clone());
        // A secret belongs to the proxy that it was written for: one named by a stronger place does not get it.
        let auth = self.places.pick(|s| s.reach.auth.clone());
        let auth = match (&url, auth) {
            (Some(url), Some(auth)) if auth.origin <= url.origin => self.expand(auth.value),
            _ => ProxyAuth::None,
        };
        let holes =
            self.places.pick(|s| s.reach.holes.clone()).map(|picked| picked.value).unwrap_or_default();
        NetPolicy::proxy(url.map(|picked| picked.value), auth, holes)
    }

    /// A file in the home may be written `~/…`.
    fn expand(&self, auth: ProxyAuth) -> ProxyAuth {
        match auth {
            ProxyAuth::File(file) => {
                ProxyAuth::File(file.strip_prefix("~").map(|rest| self.home.join(rest)).unwrap_or(file))
            }
            other => other,
        }
    }

    /// Who said the parts that are used.
    fn record(&self, policy: &NetPolicy, record: &mut Record) {
        let list = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        if let NetPolicy::Allow { .. } | NetPolicy::Open { .. } = policy {
            if let Some(saved) = self.rules.as_ref().filter(|saved| !saved.value.is_empty()) {
                record.add("allow", &list(&saved.value), saved.origin);
            }
            if !self.typed.is_empty() {
                record.add("allow", &list(&self.typed), Origin::Flag);
            }
        }
        if let NetPolicy::Open { lan: true, .. } = policy
            && let Some(picked) = self.places.pick(|s| s.reach.lan)
        {
            record.note("lan", picked);
        }
        if let NetPolicy::Proxy { holes, .. } = policy {
            if let Some(picked) = self.places.pick(|s| s.reach.proxy.clone()) {
                record.note("proxy", picked);
            }
            if let Some(picked) = self.places.pick(|s| s.reach.holes.clone()).filter(|_| !holes.is_empty()) {
                let texts: Vec<_> = picked.value.iter().map(ToString::to_string).collect();
                record.add("holes", &texts.join(" "), picked.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::facts;
    use super::*;
    use crate::model::net::{Hole, NetSettings, ProxyUrl};

    fn rules(texts: &[&str]) -> Option<Vec<Rule>> {
        Some(texts.iter().map(|text| Rule::parse(text).expect("rule")).collect())
    }

    fn with(net: Option<NetPolicyKind>, reach: NetSettings) -> Settings {
        Settings { net, reach, ..Settings::default() }
    }

    fn found(typed: &Settings, machine: &Settings) -> Result<(NetPolicy, Vec<String>), String> {
        let places = Places::new([(Origin::Flag, typed), (Origin::Machine, machine)]);
        let (mut record, mut warnings) = (Record::default(), Vec::new());
        reach(typed, &facts(), &places, &mut record, &mut warnings)
            .map(|reach| (reach.policy, warnings))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn rules_and_policies_go_together_or_are_refused() {
        let (a, b) = ("a.example:443", "10.0.0.0/8");
        let kind = |kind| with(Some(kind), NetSettings::default());
        let allow =
            |net, texts: &[&str]| with(net, NetSettings { rules: rules(texts), ..NetSettings::default() });
        for (typed, machine, wanted) in [
            (allow(None, &[a]), Settings::default(), Ok("allow a.example:443")),
            (
                allow(None, &[a]),
                allow(Some(NetPolicyKind::Allow), &[b]),
                Ok("allow 10.0.0.0/8 a.example:443"),
            ),
            (allow(None, &[b]), kind(NetPolicyKind::Open), Ok("open 10.0.0.0/8")),
            (kind(NetPolicyKind::None), allow(Some(NetPolicyKind::Allow), &[b]), Ok("none")),
            (Settings::default(), allow(None, &[b]), Ok("none")),
            (allow(Some(NetPolicyKind::None), &[a]), Settings::default(), Err("contradicts")),
            (allow(None, &[a]), kind(NetPolicyKind::Proxy), Err("means nothing")),
            (kind(NetPolicyKind::Allow), Settings::default(), Err("no rule is given")),
            (kind(NetPolicyKind::Proxy), Settings::default(), Err("no proxy is given")),
        ] {
            let got = found(&typed, &machine);
            match (wanted, got) {
                (Ok(text), Ok((policy, _))) => {
                    let shown = match &policy {
                        NetPolicy::Allow { rules } | NetPolicy::Open { rules, .. } => {
                            std::iter::once(policy.kind().to_string())
                                .chain(rules.iter().map(ToString::to_string))
                                .collect::<Vec<_>>()
                                .join(" ")
                        }
                        other => other.kind().to_string(),
                    };
                    assert_eq!(shown, text);
                }
                (Err(part), Err(text)) => assert!(text.contains(part), "{text}"),
                other => panic!("{typed:?} on {machine:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_secret_goes_to_its_own_proxy_only() {
        let url = |text: &str| ProxyUrl::parse(text).ok();
        let machine = with(
            Some(NetPolicyKind::Proxy),
            NetSettings {
                proxy: url("socks5h://me@127.0.0.1:9050"),
                auth: Some(ProxyAuth::File("~/secret".into())),
                holes: Hole::parse("10.0.0.1:5432").ok().map(|hole| vec![hole]),
                ..NetSettings::default()
            },
        );
        let auth = |typed: &Settings| match found(typed, &machine) {
            Ok((NetPolicy::Proxy { auth, holes, .. }, _)) => (auth, holes.len()),
            other => panic!("{other:?}"),
        };
        let home = facts().caller.home;
        assert_eq!(auth(&Settings::default()), (ProxyAuth::File(home.join("secret")), 1));
        let other =
            with(None, NetSettings { proxy: url("socks5h://evil.example:1080"), ..NetSettings::default() });
        assert_eq!(auth(&other), (ProxyAuth::None, 1), "another proxy");
    }
}
