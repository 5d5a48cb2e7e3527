//! Findings about the kinds of jail: whether each works here, and what stands in its way.

use super::{Finding, Matters, Verdict};
use crate::model::host::{HostFacts, Tried};
use crate::plan::landlock::{SCOPES_ABI, in_place};

/// The finding of the jail in place.
pub(super) const LANDLOCK: &str = "jail-landlock";

pub(super) fn container(facts: &HostFacts) -> Finding {
    let parts = [
        ("user namespaces", &facts.user_namespaces.tried),
        ("an overlay", &facts.overlay),
        ("a /proc of its own", &facts.fresh_proc),
        ("a network of its own", &facts.network_namespace),
    ];
    let lacking = parts.iter().find_map(|(what, tried)| match tried {
        Tried::Works => None,
        Tried::Refused(why) => Some((Verdict::Fail, format!("{what}: {why}"))),
        Tried::Untested(why) => Some((Verdict::CouldNotTest, format!("{what}: {why}"))),
    });
    let (verdict, found) = lacking.unwrap_or_else(|| (Verdict::Pass, "works".to_owned()));
    Finding {
        id: "jail-container",
        title: "container, the default",
        verdict,
        matters: Matters::Jail,
        found,
        what_it_costs: "a plain launch is refused",
        fix: vec![
            "what is missing stands below, under `essential`, with its own fix".to_owned(),
            "or confine in place: `tripmine --jail landlock …`, or `tripmine machine edit default --jail auto`"
                .to_owned(),
        ],
    }
}

pub(super) fn landlock(facts: &HostFacts) -> Finding {
    let (abi, root) = (facts.landlock.abi, facts.uid == 0);
    let needed = if root { in_place::REQUIRED_OF_ROOT } else { in_place::REQUIRED_ABI };
    let (verdict, found) = match &facts.seccomp {
        _ if abi == 0 => (Verdict::Fail, "this kernel has no Landlock, or it is not switched on".to_owned()),
        _ if abi < needed => (
            Verdict::Fail,
            format!("Landlock has ABI {abi}, and {needed} is needed{}", if root { " by root" } else { "" }),
        ),
        Tried::Refused(why) => (Verdict::Fail, why.clone()),
        Tried::Untested(why) => (Verdict::CouldNotTest, why.clone()),
        Tried::Works if abi < SCOPES_ABI => (
            Verdict::Pass,
            format!("works by name, not by `auto`: with ABI {abi} a cube can signal your other processes"),
        ),
        Tried::Works => (Verdict::Pass, "works; needs no namespaces".to_owned()),
    };
    Finding {
        id: LANDLOCK,
        title: "landlock, in place",
        verdict,
        matters: Matters::Jail,
        found,
        what_it_costs: "nothing is left for a host without user namespaces",
        fix: vec![
            format!(
                "use Linux 6.12 or newer with `landlock` in its `lsm=` list: this is {}",
                facts.kernel.release
            ),
            "cat /sys/kernel/security/lsm   # must name landlock".to_owned(),
        ],
    }
}
