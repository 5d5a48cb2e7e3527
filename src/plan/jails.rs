//! Which jail a launch gets, and what the jail in place cannot give: the choice of `auto`, and the refusals, each with the
//! reason and another way. Nothing that was asked for is ever left out in silence.

use super::facts::Facts;
use super::landlock::in_place;
use super::launch::Origin;
use super::pick::{Picked, Places, Record};
use super::reach::Reach;
use super::resolve::Typed;
use crate::model::host::Tried;
use crate::model::net::NetPolicy;
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind, ImageRef, Jail, JailChoice, NetPolicyKind, RunAs};

/// The ABI from which the jail in place keeps all that it promises.
const WHOLE_ABI: u32 = in_place::REQUIRED_OF_ROOT;

/// The kind of a launch, and whether `auto` came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The kind.
    pub jail: Jail,
    /// Nobody named it: it must give all that its name says.
    pub by_auto: bool,
}

/// Chooses the kind.
///
/// # Errors
/// One that is not built, or `auto` where none works.
pub fn choose(
    facts: &Facts,
    places: &Places<'_>,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> Result<Kind, Failure> {
    let picked = places.pick_or(|s| s.jail, JailChoice::Container);
    let named = |jail| Kind { jail, by_auto: false };
    let kind = match picked.value {
        JailChoice::Landlock => named(Jail::Landlock),
        JailChoice::Container => named(Jail::Container),
        JailChoice::Microvm => return Err(not_built(picked.origin)),
        JailChoice::Auto => {
            let kind = Kind { jail: strongest(facts, warnings)?, by_auto: true };
            record.add("jail", &format!("{} (auto)", kind.jail), picked.origin);
            return Ok(kind);
        }
    };
    record.note("jail", picked);
    Ok(kind)
}

fn not_built(origin: Origin) -> Failure {
    let what = format!("jail `microvm` (from: {}) is not built yet", origin.word());
    Failure::new(FailureKind::Unsupported, what).hint("use `--jail container`, the default")
}

/// What `auto` comes to here.
fn strongest(facts: &Facts, warnings: &mut Vec<String>) -> Result<Jail, Failure> {
    let why = match &facts.container {
        Some(Tried::Works) => return Ok(Jail::Container),
        Some(Tried::Refused(why) | Tried::Untested(why)) => why.as_str(),
        None => "it was not tried",
    };
    if facts.landlock_abi < WHOLE_ABI {
        return Err(Failure::new(
            FailureKind::Unsupported,
            format!("no jail works here in full: the container does not ({why}), and this kernel's Landlock has ABI {} where {WHOLE_ABI} is needed", facts.landlock_abi),
        )
        .hint("`tripmine doctor` says what this host lacks, and the command that mends it")
        .hint("`--jail landlock`, by name, starts with what there is, and says what is missing"));
    }
    warnings.push(format!(
        "the jail is `landlock`, the strongest that works here; `container` does not: {}",
        printable(why)
    ));
    Ok(Jail::Landlock)
}

/// Refuses what a jail in place cannot give.
///
/// # Errors
/// The first such thing, by name, why, and what to do instead.
pub fn check_in_place(
    kind: Kind,
    typed: &Typed,
    facts: &Facts,
    places: &Places<'_>,
    reach: &Reach,
) -> Result<(), Failure> {
    let image = places.pick_or(|s| s.image.clone(), ImageRef::Host).value;
    if image != ImageRef::Host {
        return Err(no(
            &format!("the image `{}`", printable(&image.to_string())),
            "it has no root of its own, only this host's",
            "launch with the image `host`: `-i host`",
        ));
    }
    let upper = "it has no layer of its own above the system, which it never writes";
    for (asked, what, instead) in [
        (typed.keep.is_some(), "`--keep`", "what a cube leaves in its home stays anyway; leave `--keep` out"),
        (
            typed.ephemeral,
            "`--ephemeral`",
            "use a machine of its own, and `tripmine machine reset-home` afterwards",
        ),
        (typed.review, "`--review`", "launch on a copy of the project: `--mount COPY`"),
    ] {
        if asked {
            return Err(no(what, upper, instead));
        }
    }
    if places.pick_or(|s| s.user, RunAs::Me).value == RunAs::Root {
        return Err(no(
            "`user root`",
            "without a user namespace, root inside is root outside",
            "use `--user me`",
        ));
    }
    check_net(kind, reach)?;
    if places.weakest_first().any(|(_, settings)| !settings.ports.is_empty()) {
        return Err(no(
            "forwards (`ports`, `-p`)",
            "it has no network of its own to lead into",
            "with `--net open` its servers listen on this host itself; leave the ports out",
        ));
    }
    if places.pick(|s| s.limits.disk).is_some() {
        return Err(no(
            "a disk limit",
            "what it writes goes to your own disk, which it shares",
            "leave `disk` out for it",
        ));
    }
    if facts.caller.uid == 0 && facts.landlock_abi < in_place::REQUIRED_OF_ROOT {
        return Err(Failure::new(
            FailureKind::Unsupported,
            format!(
                "the jail `landlock` started by root needs Landlock ABI {}, and this kernel has {}: below it, a cube of root could signal every process of root",
                in_place::REQUIRED_OF_ROOT,
                facts.landlock_abi
            ),
        )
        .hint("launch it as an ordinary user, or with `--jail container`"));
    }
    Ok(())
}

fn check_net(kind: Kind, reach: &Reach) -> Result<(), Failure> {
    let filtered = "nothing stands between it and this host's network that could decide by name";
    let policies = [Some(&reach.policy), reach.setup.as_ref()];
    for policy in policies.into_iter().flatten() {
        match policy.kind() {
            NetPolicyKind::None | NetPolicyKind::Open => {}
            NetPolicyKind::Proxy | NetPolicyKind::Allow => {
                let what = format!("the net policy `{}`", policy.kind());
                return Err(no(&what, filtered, "use `--net none`, or `--net open` for all of it"));
            }
        }
    }
    if reach.setup.is_some() {
        return Err(no(
            "`setup`, a net policy for the beginning",
            "what its processes may make is decided once, before they start",
            "launch twice: first with `--net open`, then with `--net none`",
        ));
    }
    if kind.by_auto && reach.policy != NetPolicy::None {
        return Err(no(
            "the net policy `open` as you asked for it, with the jail left to `auto`,",
            "in place, `open` reaches this host's own ports, private networks and metadata services too",
            "name the jail, if that is what you want: `--jail landlock --net open`",
        ));
    }
    Ok(())
}

fn no(what: &str, why: &str, instead: &str) -> Failure {
    Failure::new(FailureKind::Unsupported, format!("the jail `landlock` cannot give {what}: {why}"))
        .hint(instead)
        .hint("`--jail container` gives it, where this host allows user namespaces; `tripmine doctor` says whether")
}

/// What whoever launches in place should know each time.
#[must_use]
pub fn warnings_in_place(facts: &Facts, reach: &Reach) -> Vec<String> {
    let mut warnings = Vec::new();
    if reach.policy != NetPolicy::None {
        warnings.push(
            "in place, `open` is this host's whole network: its own ports, private networks and metadata services too"
                .to_owned(),
        );
    }
    if facts.landlock_abi < WHOLE_ABI {
        warnings.push(format!(
            "this kernel's Landlock has ABI {}: below {WHOLE_ABI} a cube in place can signal your other processes, and outlive its keeper",
            facts.landlock_abi
        ));
    }
    warnings
}

/// Says what `--jail landlock` would do where a container cannot be made.
#[must_use]
pub fn instead_of_container() -> &'static str {
    "`--jail landlock` confines in place, without user namespaces: no root of its own, no net policies between `none` and `open`"
}

impl Picked<JailChoice> {
    /// True when the choice is made by trying what works here.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.value == JailChoice::Auto
    }
}

#[cfg(test)]
mod tests {
    use super::super::resolve::resolve;
    use super::super::samples::facts;
    use super::*;
    use crate::model::{Name, Settings, limits};

    type Change = fn(&mut Typed, &mut Facts);

    fn launch(choice: JailChoice, change: Change) -> Result<crate::plan::LaunchPlan, Failure> {
        let (mut typed, mut facts) = (Typed::default(), facts());
        typed.settings.jail = Some(choice);
        change(&mut typed, &mut facts);
        resolve(&typed, &facts)
    }

    #[test]
    fn auto_takes_the_strongest_that_works_and_says_which() {
        let refused = || Some(Tried::Refused("making a user namespace: No space left".into()));
        for (container, abi, expected) in [
            (Some(Tried::Works), 7, Some(Jail::Container)),
            (refused(), 7, Some(Jail::Landlock)),
            (Some(Tried::Untested("forking".into())), 7, Some(Jail::Landlock)),
            (refused(), 5, None),
            (None, 7, Some(Jail::Landlock)),
        ] {
            let (mut typed, mut facts) = (Typed::default(), facts());
            typed.settings.jail = Some(JailChoice::Auto);
            (facts.container, facts.landlock_abi) = (container.clone(), abi);
            let plan = resolve(&typed, &facts);
            assert_eq!(plan.as_ref().ok().map(|plan| plan.jail), expected, "{container:?} {abi}: {plan:?}");
            let Ok(plan) = plan else { continue };
            let shown = plan.settings.iter().find(|setting| setting.key == "jail").map(|s| s.value.clone());
            assert_eq!(shown, Some(format!("{} (auto)", plan.jail)));
            let said = plan.warnings.iter().any(|line| line.contains("strongest that works here"));
            assert_eq!(said, plan.jail == Jail::Landlock, "{:?}", plan.warnings);
        }
    }

    #[test]
    fn what_cannot_be_given_in_place_is_refused_by_name() {
        let cases: &[(&str, Change)] = &[
            ("`--keep`", |t, _| t.keep = Name::parse("box").ok()),
            ("`--ephemeral`", |t, _| t.ephemeral = true),
            ("`--review`", |t, _| t.review = true),
            ("`user root`", |t, _| t.settings.user = Some(RunAs::Root)),
            ("the net policy `allow`", |t, _| {
                t.settings.reach.rules =
                    Some(vec![crate::model::net::Rule::parse("a.example:443").expect("rule")]);
            }),
            ("the net policy `proxy`", |t, _| {
                t.settings.reach.proxy = crate::model::net::ProxyUrl::parse("socks5h://127.0.0.1:9050").ok();
            }),
            ("`setup`", |_, f| f.machine.settings.reach.setup = Some(NetPolicyKind::Open)),
            ("forwards", |t, _| t.settings.ports = vec!["8080:80".parse().expect("ports")]),
            ("forwards", |_, f| {
                let ports = vec!["8080:80".parse().expect("ports")];
                f.project_file = Some(Settings { ports, ..Settings::default() });
            }),
            ("a disk limit", |t, _| t.settings.limits.disk = limits::parse_size("1G").ok()),
            ("started by root needs Landlock ABI 6", |_, f| (f.caller.uid, f.landlock_abi) = (0, 5)),
        ];
        for (part, change) in cases {
            let error = launch(JailChoice::Landlock, *change).expect_err(part);
            assert_eq!(error.kind, FailureKind::Unsupported, "{error}");
            assert!(error.message.contains(part) && !error.hints.is_empty(), "{part}: {error}");
            // The same launch in a container is another matter.
            assert!(launch(JailChoice::Container, *change).is_ok() || *part == "`--review`", "{part}");
        }
        let plan =
            launch(JailChoice::Landlock, |t, _| t.settings.net = Some(NetPolicyKind::Open)).expect("open");
        assert!(plan.warnings.iter().any(|line| line.contains("whole network")), "{:?}", plan.warnings);
        let error = launch(JailChoice::Auto, |t, _| t.settings.net = Some(NetPolicyKind::Open));
        assert!(error.expect_err("wider than asked").message.contains("left to `auto`"));
        let error = launch(JailChoice::Landlock, |_, f| f.landlock_abi = 2).expect_err("too old");
        assert!(error.message.contains("needs 3"), "{error}");
    }
}
