//! Findings about namespaces and what is mounted in them, and who forbids them.

use std::path::Path;

use super::{Finding, Matters, Verdict, judged};
use crate::model::host::{HostFacts, Tried};

/// Where the setting survives a reboot.
const SYSCTL_FILE: &str = "/etc/sysctl.d/90-tripmine.conf";

pub(super) fn user_namespaces(facts: &HostFacts) -> Finding {
    let (verdict, found) = judged(&facts.user_namespaces.tried, "made, mapped and mounted in");
    Finding {
        id: "user-namespaces",
        title: "user namespaces",
        verdict,
        matters: Matters::Essential,
        found,
        what_it_costs: "no cube starts in the container jail",
        fix: who_forbids(facts),
    }
}

/// One fix for each setting that stands in the way; general advice when none does.
fn who_forbids(facts: &HostFacts) -> Vec<String> {
    let settings = &facts.user_namespaces;
    let mut fix = Vec::new();
    if settings.max == Some(0) {
        fix.extend(sysctl("user.max_user_namespaces", "15000"));
    }
    if facts.uid != 0 && settings.clone_allowed == Some(false) {
        fix.extend(sysctl("kernel.unprivileged_userns_clone", "1"));
    }
    if facts.uid != 0 && settings.apparmor_restricts == Some(true) {
        fix.extend(apparmor_profile(facts.program.as_deref()));
    }
    if let Some(container) = &facts.container {
        fix.push(format!(
            "this host is itself a container, {container}: start it with \
             `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`"
        ));
    }
    if fix.is_empty() {
        fix.push("grep CONFIG_USER_NS= \"/boot/config-$(uname -r)\"   # must say =y".to_owned());
        fix.push(
            "cat /sys/kernel/security/lsm   # a security module may forbid them by its policy".to_owned(),
        );
    }
    fix
}

fn sysctl(name: &str, value: &str) -> [String; 2] {
    [format!("sudo sysctl -w {name}={value}"), format!("echo '{name} = {value}' | sudo tee -a {SYSCTL_FILE}")]
}

/// Ubuntu 23.10 and later let only programs with a profile use user namespaces.
fn apparmor_profile(program: Option<&Path>) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.');
    let known =
        program.and_then(Path::to_str).filter(|path| path.starts_with('/') && path.chars().all(plain));
    let Some(path) = known else {
        // Quoting a path for a shell and for AppArmor at once helps nobody.
        return vec![
            "install tripmine at a path of plain letters, such as /usr/local/bin/tripmine, and ask again"
                .to_owned(),
        ];
    };
    vec![
        // One line each: a here-document would not survive the indentation of a list.
        format!(
            "printf '%s\\n' 'abi <abi/4.0>,' 'include <tunables/global>' \
             'profile tripmine {path} flags=(unconfined) {{' '  userns,' \
             '  include if exists <local/tripmine>' '}}' | sudo tee /etc/apparmor.d/tripmine"
        ),
        "sudo apparmor_parser -r /etc/apparmor.d/tripmine".to_owned(),
    ]
}

pub(super) fn overlay(facts: &HostFacts) -> Finding {
    let (verdict, found) = judged(&facts.overlay, "mounted with userxattr");
    let fix = if facts.kernel.version < (5, 11) {
        vec![format!("use Linux 5.11 or newer: this is {}", facts.kernel.release)]
    } else {
        vec![
            "sudo modprobe overlay".to_owned(),
            "echo overlay | sudo tee /etc/modules-load.d/overlay.conf".to_owned(),
        ]
    };
    Finding {
        id: "overlay",
        title: "overlay in a user namespace",
        verdict,
        matters: Matters::Essential,
        found,
        what_it_costs: "no cube starts in the container jail: its root is an overlay whose changes are thrown away",
        fix,
    }
}

pub(super) fn fresh_proc(facts: &HostFacts) -> Finding {
    let (verdict, found) = judged(&facts.fresh_proc, "mounted in a pid namespace");
    let fix = match &facts.container {
        Some(container) => vec![format!(
            "this host is itself a container, {container}, whose /proc is partly covered: start it with \
             `--security-opt systempaths=unconfined` (docker) or `--security-opt unmask=ALL` (podman)"
        )],
        None => vec![
            "findmnt -R /proc   # the kernel refuses while something is mounted over parts of /proc"
                .to_owned(),
        ],
    };
    Finding {
        id: "fresh-proc",
        title: "a /proc of its own",
        verdict,
        matters: Matters::Essential,
        found,
        what_it_costs: "no cube starts in the container jail: it would have to see the host's processes",
        fix,
    }
}

pub(super) fn network_namespace(facts: &HostFacts) -> Finding {
    let (verdict, found) = judged(&facts.network_namespace, "made");
    Finding {
        id: "network-namespace",
        title: "a network of its own",
        verdict,
        matters: Matters::Essential,
        found,
        what_it_costs: "no cube starts in the container jail: it would have to share the host's network",
        fix: sysctl("user.max_net_namespaces", "15000").into(),
    }
}

pub(super) fn tmpfs_xattrs(facts: &HostFacts) -> Finding {
    let (verdict, found) = judged(&facts.tmpfs_xattrs, "kept");
    Finding {
        id: "tmpfs-xattrs",
        title: "user attributes on tmpfs",
        verdict,
        matters: Matters::Useful,
        found,
        what_it_costs: "throwaway changes cannot live in memory: a cube that replaces a folder of its \
                        image may see the old content again",
        fix: vec![format!(
            "use Linux 6.6 or newer with CONFIG_TMPFS_XATTR=y: this is {}",
            facts.kernel.release
        )],
    }
}

pub(super) fn nftables(facts: &HostFacts) -> Finding {
    let (verdict, found) = judged(&facts.nftables, "a network can be captured, and is as it was made");
    // A namespace that cannot be made says nothing of nftables, and neither does loading a module.
    let fix = if matches!(facts.nftables, Tried::Untested(_)) && verdict != Verdict::Pass {
        vec!["mend the user namespaces and the network namespace first, then ask again".to_owned()]
    } else {
        vec![
            "sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_ct nft_reject_inet".to_owned(),
            "printf '%s\\n' nf_tables nft_chain_nat nft_redir nft_ct nft_reject_inet | sudo tee /etc/modules-load.d/tripmine.conf"
                .to_owned(),
        ]
    };
    Finding {
        id: "nftables",
        title: "nftables in a network of its own",
        verdict,
        matters: Matters::Useful,
        found,
        what_it_costs: "cubes with the net policies proxy, allow and open do not start; `none` works",
        fix,
    }
}
