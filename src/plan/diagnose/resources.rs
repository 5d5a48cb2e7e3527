//! Findings about confinement by the kernel, limits, ids, devices and the terminal.

use super::{Finding, Matters, Verdict, judged, user_in_command};
use crate::model::host::{
    CgroupFacts, CgroupLayout, HelperFacts, HostFacts, IdSpan, KvmFacts, SubordinateFacts,
};

/// The smallest range of subordinate ids that holds an ordinary image's users.
const ENOUGH_IDS: u32 = 65_536;

pub(super) fn landlock(facts: &HostFacts) -> Finding {
    let abi = facts.landlock.abi;
    let fix = if facts.kernel.version < (5, 13) {
        vec![format!("use Linux 5.13 or newer: this is {}", facts.kernel.release)]
    } else {
        vec![
            "cat /sys/kernel/security/lsm   # must name landlock".to_owned(),
            "add `lsm=landlock,` followed by that list to the kernel's command line (GRUB_CMDLINE_LINUX in \
             /etc/default/grub), then run `sudo update-grub` and reboot"
                .to_owned(),
        ]
    };
    Finding {
        id: "landlock",
        title: "Landlock",
        verdict: if abi > 0 { Verdict::Pass } else { Verdict::Fail },
        matters: Matters::Essential,
        found: if abi > 0 {
            format!("ABI {abi}, errata {:#x}", facts.landlock.errata)
        } else {
            "the kernel does not have it, or it is not switched on".to_owned()
        },
        what_it_costs: "no cube starts: its second wall is missing",
        fix,
    }
}

pub(super) fn landlock_scopes(facts: &HostFacts) -> Finding {
    let abi = facts.landlock.abi;
    Finding {
        id: "landlock-scopes",
        title: "Landlock scopes",
        verdict: if abi >= 6 { Verdict::Pass } else { Verdict::Fail },
        matters: Matters::Useful,
        found: if abi >= 6 {
            "abstract sockets and signals".to_owned()
        } else {
            format!("ABI {abi}, they come with ABI 6")
        },
        what_it_costs: "signals and abstract sockets are kept in by namespaces alone",
        fix: vec![format!("use Linux 6.12 or newer: this is {}", facts.kernel.release)],
    }
}

pub(super) fn seccomp(facts: &HostFacts) -> Finding {
    let (verdict, found) = judged(&facts.seccomp, "filters may end a process");
    Finding {
        id: "seccomp",
        title: "seccomp filters",
        verdict,
        matters: Matters::Essential,
        found,
        what_it_costs: "no cube starts: its system calls could not be filtered",
        fix: vec!["use a kernel with CONFIG_SECCOMP_FILTER=y, 4.14 or newer".to_owned()],
    }
}

pub(super) fn cgroups(facts: &HostFacts) -> Finding {
    let has: Vec<&str> = match &facts.cgroups {
        CgroupFacts::None { .. } => Vec::new(),
        CgroupFacts::V2 { controllers, .. } => controllers.iter().map(String::as_str).collect(),
        CgroupFacts::V1 { bases } => bases.iter().map(|(name, _)| name.as_str()).collect(),
    };
    let missing: Vec<&str> =
        ["memory", "cpu", "pids"].into_iter().filter(|name| !has.contains(name)).collect();
    let found = match &facts.cgroups {
        CgroupFacts::None { why } => why.clone(),
        CgroupFacts::V2 { .. } | CgroupFacts::V1 { .. } => {
            let version = if matches!(facts.cgroups, CgroupFacts::V2 { .. }) { 2 } else { 1 };
            let lacks =
                if missing.is_empty() { String::new() } else { format!("; missing: {}", missing.join(", ")) };
            format!("version {version}: {}{lacks}", has.join(", "))
        }
    };
    Finding {
        id: "cgroups",
        title: "limits by cgroup",
        verdict: if missing.is_empty() { Verdict::Pass } else { Verdict::Fail },
        matters: Matters::Useful,
        found,
        what_it_costs: "limits of memory and processes are kept by resource limits and by watching, \
                        and shares of the CPU by niceness only",
        fix: delegation(facts),
    }
}

fn delegation(facts: &HostFacts) -> Vec<String> {
    if let Some(container) = &facts.container {
        return vec![format!(
            "this host is itself a container, {container}: give it a writable cgroup tree of its own, or \
             live with the limits that need none"
        )];
    }
    let mut fix = Vec::new();
    if matches!(facts.cgroup_layout, CgroupLayout::V1 | CgroupLayout::Hybrid) {
        fix.push(
            "add `systemd.unified_cgroup_hierarchy=1` to the kernel's command line and reboot: version 1 \
             cannot be delegated"
                .to_owned(),
        );
    }
    fix.extend([
        "sudo mkdir -p /etc/systemd/system/user@.service.d".to_owned(),
        "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | \
         sudo tee /etc/systemd/system/user@.service.d/delegate.conf"
            .to_owned(),
        "sudo systemctl daemon-reload   # then log out and in again".to_owned(),
    ]);
    fix
}

pub(super) fn subordinate_ids(facts: &HostFacts) -> Finding {
    let ids = &facts.subordinate;
    let enough = |span: Option<IdSpan>| span.is_some_and(|span| span.count >= ENOUGH_IDS);
    let helpers = [("newuidmap", &ids.newuidmap), ("newgidmap", &ids.newgidmap)];
    let ready = helpers.iter().all(|(_, helper)| matches!(helper, HelperFacts::Ready(_)));
    let ranges = enough(ids.uids) && enough(ids.gids);
    let (verdict, found) = if facts.uid == 0 {
        (Verdict::Pass, "not needed: root maps ids itself".to_owned())
    } else if ready && ranges {
        let start = ids.uids.map_or(0, |span| span.start);
        (Verdict::Pass, format!("from {start} on, with newuidmap and newgidmap"))
    } else {
        (Verdict::Fail, what_lacks(ids, &helpers, ranges))
    };
    let mut fix = Vec::new();
    if !ready {
        fix.push(
            "sudo apt-get install uidmap   # Debian, Ubuntu; elsewhere: shadow-utils or shadow".to_owned(),
        );
        for (name, helper) in helpers {
            if let HelperFacts::Powerless(_) = helper {
                fix.push(format!("sudo chmod u+s \"$(command -v {name})\""));
            }
        }
    }
    if !ranges {
        let user = user_in_command(&facts.user);
        fix.push(format!(
            "sudo usermod --add-subuids 524288-589823 --add-subgids 524288-589823 {user}   \
             # a range that nobody else has in /etc/subuid"
        ));
    }
    Finding {
        id: "subordinate-ids",
        title: "subordinate ids",
        verdict,
        matters: Matters::Useful,
        found,
        what_it_costs: "root in a cube is its only user: packages that make users of their own fail to install",
        fix,
    }
}

fn what_lacks(ids: &SubordinateFacts, helpers: &[(&str, &HelperFacts); 2], ranges: bool) -> String {
    let mut lacks: Vec<String> = Vec::new();
    for (name, helper) in helpers {
        match helper {
            HelperFacts::Missing => lacks.push(format!("{name} is not installed")),
            HelperFacts::Powerless(_) => lacks.push(format!("{name} may not change ids")),
            HelperFacts::Ready(_) => {}
        }
    }
    if !ranges {
        let count = |span: Option<IdSpan>| span.map_or(0, |span| span.count);
        lacks.push(format!(
            "{} user and {} group ids of {ENOUGH_IDS}",
            count(ids.uids).min(ENOUGH_IDS),
            count(ids.gids).min(ENOUGH_IDS)
        ));
    }
    lacks.join("; ")
}

pub(super) fn terminal(facts: &HostFacts) -> Finding {
    let terminal = &facts.terminal;
    let (verdict, found) = match (&terminal.term, terminal.interactive, terminal.size) {
        (_, false, _) => (Verdict::CouldNotTest, "this does not run on a terminal".to_owned()),
        (None, true, _) => (Verdict::Fail, "TERM is not set".to_owned()),
        (Some(term), true, _) if term == "dumb" => (Verdict::Fail, "TERM says `dumb`".to_owned()),
        (Some(term), true, None) => (Verdict::Pass, format!("{term}, of unknown size")),
        (Some(term), true, Some((columns, rows))) if columns < 80 || rows < 24 => {
            (Verdict::Fail, format!("{term}, only {columns}x{rows}"))
        }
        (Some(term), true, Some((columns, rows))) => (Verdict::Pass, format!("{term}, {columns}x{rows}")),
    };
    let small = terminal.size.is_some_and(|(columns, rows)| columns < 80 || rows < 24);
    let fix = if small {
        "make the window at least 80 columns wide and 24 rows high"
    } else {
        "export TERM=xterm-256color   # or what the terminal's manual says"
    };
    Finding {
        id: "terminal",
        title: "terminal",
        verdict,
        matters: Matters::Useful,
        found,
        what_it_costs: "the menu is cramped or not drawn; every command works all the same",
        fix: if terminal.interactive { vec![fix.to_owned()] } else { Vec::new() },
    }
}

pub(super) fn kvm(facts: &HostFacts) -> Finding {
    let (verdict, found, fix) = match crate::plan::vm::kvm_trouble(&facts.kvm) {
        None => (Verdict::Pass, "/dev/kvm executes guests".to_owned(), Vec::new()),
        Some((why, fix)) if matches!(facts.kvm, KvmFacts::Untested { .. }) => {
            (Verdict::CouldNotTest, why, fix)
        }
        Some((why, fix)) => (Verdict::Fail, why, fix),
    };
    Finding {
        id: "kvm",
        title: "virtual machines (KVM)",
        verdict,
        matters: Matters::Useful,
        found,
        what_it_costs: "the jail `microvm` starts only emulated, many times slower (`--vm-accel tcg`)",
        fix,
    }
}
