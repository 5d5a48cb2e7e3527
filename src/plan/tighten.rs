//! What a project's own file may ask for. A cube can write that file, and the next launch reads it: so it may narrow what the
//! machine and the configuration say, and never widen it. What would widen is left out, and said.

use super::limits::PIDS;
use crate::model::net::{Class, Pattern, Rule, classify};
use crate::model::{JailChoice, Limit, NetPolicyKind, RunAs, SeccompProfile, Settings};

/// The settings of `file` without those that would give a cube more than `weaker` (the machine, then the configuration) do.
#[must_use]
pub fn project_file(file: &Settings, weaker: [&Settings; 2], warnings: &mut Vec<String>) -> Settings {
    let mut kept = file.clone();
    let base = Base(weaker);
    let mut refuse = |key: &str, value: &str, hint: &str| {
        warnings.push(format!(
            "the project's own file asks for `{key} {value}`, which is more than the machine gives: left out, because a cube \
             can write that file ({hint})"
        ));
    };
    net(&mut kept, &base, &mut refuse);
    let user = base.get(|s| s.user).unwrap_or(RunAs::Me);
    if kept.user == Some(RunAs::Root) && user == RunAs::Me {
        kept.user = None;
        refuse("user", "root", "`--user root`, or on the machine");
    }
    let openness = |profile| match profile {
        SeccompProfile::Strict => 0,
        SeccompProfile::Default => 1,
        SeccompProfile::Debug => 2,
    };
    let seccomp = base.get(|s| s.seccomp).unwrap_or(SeccompProfile::Default);
    if let Some(asked) = kept.seccomp.filter(|asked| openness(*asked) > openness(seccomp)) {
        kept.seccomp = None;
        refuse("seccomp", asked.word(), &format!("`--seccomp {asked}`, or on the machine"));
    }
    // The least that is asked for must be as strong as the most that the machine may come to.
    let jail = base.get(|s| s.jail).unwrap_or(JailChoice::Container);
    if let Some(asked) = kept.jail.filter(|asked| *asked != jail && asked.least() < jail.most()) {
        kept.jail = None;
        refuse("jail", asked.word(), &format!("`--jail {asked}`, or on the machine"));
    }
    let limits = &mut kept.limits;
    limit("memory", &mut limits.memory, base.get(|s| s.limits.memory), &mut refuse);
    limit("cpus", &mut limits.cpus_milli, base.get(|s| s.limits.cpus_milli), &mut refuse);
    let pids = base.get(|s| s.limits.pids).unwrap_or(Limit { value: PIDS, required: false });
    limit("pids", &mut limits.pids, Some(pids), &mut refuse);
    limit("disk", &mut limits.disk, base.get(|s| s.limits.disk), &mut refuse);
    let timeout = base.get(|s| s.limits.timeout);
    if timeout.is_some_and(|most| limits.timeout.is_some_and(|asked| asked > most)) {
        limits.timeout = None;
        refuse("timeout", "longer", "`--timeout`, or on the machine");
    }
    kept
}

struct Base<'a>([&'a Settings; 2]);

impl Base<'_> {
    fn get<T>(&self, said: impl Fn(&Settings) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|settings| said(settings))
    }
}

fn limit<T: PartialOrd + std::fmt::Display>(
    key: &str,
    asked: &mut Option<Limit<T>>,
    most: Option<Limit<T>>,
    refuse: &mut impl FnMut(&str, &str, &str),
) {
    let (Some(it), Some(most)) = (&*asked, most) else { return };
    // Also a limit that must hold does not become one that may.
    if it.value > most.value || (most.required && !it.required) {
        let value = it.value.to_string();
        refuse(key, &value, &format!("`--{key} {value}`, or on the machine"));
        *asked = None;
    }
}

fn net(kept: &mut Settings, base: &Base<'_>, refuse: &mut impl FnMut(&str, &str, &str)) {
    let policy = base.get(|s| s.net).unwrap_or(NetPolicyKind::None);
    if let Some(asked) = kept.net {
        let narrower = asked == policy
            || asked == NetPolicyKind::None
            || (policy == NetPolicyKind::Open && asked == NetPolicyKind::Allow);
        if !narrower {
            kept.net = None;
            refuse("net", asked.word(), &format!("`--net {asked}`, or on the machine"));
        }
    }
    let Some(rules) = kept.reach.rules.take() else { return };
    let granted = base.get(|s| s.reach.rules.clone()).unwrap_or_default();
    let in_force = kept.net.unwrap_or(policy);
    let mut narrow = Vec::new();
    for rule in rules {
        let covered = granted.iter().any(|wide| covers(wide, &rule));
        let within = match (policy, in_force) {
            (NetPolicyKind::Allow, NetPolicyKind::Allow) => covered,
            (NetPolicyKind::Open, NetPolicyKind::Allow) => covered || ordinary(&rule),
            // In every other policy a rule is one thing more.
            _ => covered,
        };
        if within {
            narrow.push(rule);
        } else {
            refuse("allow", &rule.to_string(), &format!("`--allow {rule}`, or on the machine"));
        }
    }
    if narrow.is_empty() && in_force == NetPolicyKind::Allow && policy == NetPolicyKind::Open {
        // It asked for less than open, and no rule of it is left.
        kept.net = Some(NetPolicyKind::None);
    }
    // No rule of its own: those of the machine stay, which allow nothing that it does not.
    kept.reach.rules = Some(narrow).filter(|rules| !rules.is_empty());
}

/// True when `open` reaches it anyway.
fn ordinary(rule: &Rule) -> bool {
    match rule.pattern() {
        Pattern::Name(name) | Pattern::Beneath(name) => !name.is_host_alias(),
        Pattern::Network(network) => network.is_one() && classify(network.first()) == Class::Global,
    }
}

/// True when everything that `narrow` allows is allowed by `wide`.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    if wide.port().is_some() && wide.port() != narrow.port() {
        return false;
    }
    match (wide.pattern(), narrow.pattern()) {
        (Pattern::Name(wide), Pattern::Name(narrow)) => wide == narrow,
        (Pattern::Beneath(wide), Pattern::Name(narrow)) => narrow.is_beneath(wide),
        (Pattern::Beneath(wide), Pattern::Beneath(narrow)) => wide == narrow || narrow.is_beneath(wide),
        (Pattern::Network(wide), Pattern::Network(narrow)) => wide.covers(narrow),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ByteSize;
    use crate::model::net::NetSettings;

    fn rules(texts: &[&str]) -> NetSettings {
        let rules = texts.iter().map(|text| Rule::parse(text).expect("rule")).collect();
        NetSettings { rules: Some(rules), ..NetSettings::default() }
    }

    fn shown(settings: &Settings) -> String {
        let rules = settings.reach.rules.iter().flatten().map(ToString::to_string);
        settings.net.iter().map(ToString::to_string).chain(rules).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_net_is_only_narrowed() {
        let say = |net: Option<NetPolicyKind>, texts: &[&str]| Settings {
            net,
            reach: if texts.is_empty() { NetSettings::default() } else { rules(texts) },
            ..Settings::default()
        };
        let (none, allow, open, proxy) =
            (NetPolicyKind::None, NetPolicyKind::Allow, NetPolicyKind::Open, NetPolicyKind::Proxy);
        for (file, machine, kept, warned) in [
            (say(Some(open), &[]), say(None, &[]), "", 1),
            (say(Some(open), &[]), say(Some(proxy), &[]), "", 1),
            (say(Some(proxy), &[]), say(Some(open), &[]), "", 1),
            (say(Some(none), &[]), say(Some(open), &[]), "none", 0),
            (say(Some(allow), &["a.example:443"]), say(Some(open), &[]), "allow a.example:443", 0),
            (say(Some(allow), &["10.0.0.1:80"]), say(Some(open), &[]), "none", 1),
            (say(Some(allow), &["host.tripmine.internal:80"]), say(Some(open), &[]), "none", 1),
            (say(Some(allow), &["a.example:443"]), say(None, &[]), "", 2),
            (say(None, &["a.example:443"]), say(None, &[]), "", 1),
            (say(None, &["10.0.0.0/8"]), say(Some(open), &[]), "", 1),
            (
                say(None, &["x.a.example:443", "b.example"]),
                say(Some(allow), &["*.a.example"]),
                "x.a.example:443",
                1,
            ),
            (say(None, &["a.example"]), say(Some(allow), &["a.example:443"]), "", 1),
            (say(None, &["10.1.0.0/16"]), say(Some(allow), &["10.0.0.0/8"]), "10.1.0.0/16", 0),
        ] {
            let mut warnings = Vec::new();
            let got = project_file(&file, [&machine, &Settings::default()], &mut warnings);
            assert_eq!(
                (shown(&got).as_str(), warnings.len()),
                (kept, warned),
                "{file:?} on {machine:?}: {warnings:?}"
            );
        }
    }

    #[test]
    fn a_jail_is_only_strengthened() {
        use JailChoice::{Auto, Container, Landlock, Microvm};
        for (machine, file, kept) in [
            (None, Landlock, false),
            (None, Auto, false),
            (None, Container, true),
            (None, Microvm, true),
            (Some(Landlock), Container, true),
            (Some(Landlock), Auto, true),
            (Some(Landlock), Landlock, true),
            (Some(Container), Auto, false),
            (Some(Auto), Landlock, false),
            (Some(Auto), Auto, true),
            (Some(Auto), Container, true),
            (Some(Microvm), Container, false),
            (Some(Microvm), Auto, false),
        ] {
            let say = |jail| Settings { jail, ..Settings::default() };
            let mut warnings = Vec::new();
            let got = project_file(&say(Some(file)), [&say(machine), &Settings::default()], &mut warnings);
            assert_eq!(
                (got.jail.is_some(), warnings.len()),
                (kept, usize::from(!kept)),
                "{machine:?} {file:?}"
            );
        }
    }

    #[test]
    fn user_filter_jail_and_limits_are_only_narrowed() {
        let limit = |mib| Some(Limit { value: ByteSize::mib(mib), required: false });
        let mut file = Settings {
            user: Some(RunAs::Root),
            seccomp: Some(SeccompProfile::Debug),
            jail: Some(JailChoice::Landlock),
            ..Settings::default()
        };
        file.limits.memory = limit(2048);
        file.limits.pids = Some(Limit { value: PIDS + 1, required: false });
        let mut machine = Settings::default();
        machine.limits.memory = limit(1024);
        let mut warnings = Vec::new();
        let got = project_file(&file, [&machine, &Settings::default()], &mut warnings);
        assert_eq!(got, Settings::default());
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        // What narrows stays, and what the machine gives anyway is no widening.
        file = Settings {
            user: Some(RunAs::Root),
            seccomp: Some(SeccompProfile::Strict),
            jail: Some(JailChoice::Microvm),
            ..Settings::default()
        };
        file.limits.memory = limit(512);
        machine.user = Some(RunAs::Root);
        warnings.clear();
        assert_eq!(project_file(&file, [&machine, &Settings::default()], &mut warnings), file);
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}
