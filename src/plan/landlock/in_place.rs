//! The rules of the jail in place, where Landlock is the first wall and not the second: everything that is not named
//! here is shut, whoever owns it.
//!
//! Of `/etc` only what programs need to run is read: no password, key, proxy address or machine id lies in these. `/proc` is
//! read as it is: a rule cannot follow a process that begins later. What it shows of other processes beyond their names
//! the kernel refuses, because their Landlock domain is another.

use super::{needed, optional, without_repeats};
use crate::plan::launch::{InPlace, LandlockAccess, LandlockPlan, LandlockRule, LaunchPlan, MountKind};

/// With less, a cube could truncate every file of the user's (`LANDLOCK_ACCESS_FS_TRUNCATE` came with ABI 3).
pub const REQUIRED_ABI: u32 = 3;
/// Without scopes a cube could end the user's processes, its own warden among them. The host's root is not offered that.
pub const REQUIRED_OF_ROOT: u32 = super::SCOPES_ABI;
/// The ABI that handles TCP.
const TCP_ABI: u32 = 4;

/// Files and folders of `/etc`.
const ETC: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "bashrc",
    "bash_completion.d",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "default/locale",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "java-8-openjdk",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "ld-musl-aarch64.path",
    "ld-musl-x86_64.path",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "magic.mime",
    "manpath.config",
    "mime.types",
    "nanorc",
    "networks",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "perl",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "python3",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "resolv.conf",
    "rpc",
    "services",
    "shells",
    "skel",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/ct_log_list.cnf",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "vim",
    "xattr.conf",
];

/// Devices that hold nothing of the host's. `ptmx` makes new terminals, and opens none that is there.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty", "ptmx"];

pub(super) fn rules(plan: &LaunchPlan, place: &InPlace, abi: u32) -> LandlockPlan {
    let scopes = abi >= super::SCOPES_ABI;
    LandlockPlan {
        abi,
        required_abi: if place.host_root { REQUIRED_OF_ROOT } else { REQUIRED_ABI },
        rules: files(plan, place),
        scope_abstract: scopes,
        scope_signal: scopes,
        no_tcp: !place.network && abi >= TCP_ABI,
    }
}

fn files(plan: &LaunchPlan, place: &InPlace) -> Vec<LandlockRule> {
    let mut rules = Vec::new();
    // A path that is not UTF-8 names no system folder; leaving it out only denies.
    for path in plan.root.system.iter().filter_map(|tree| tree.path.to_str()) {
        rules.push(needed(path, LandlockAccess::ReadExecute));
    }
    rules.extend(ETC.iter().map(|name| optional(&format!("/etc/{name}"), LandlockAccess::ReadExecute)));
    rules.push(needed("/proc", LandlockAccess::ReadExecute));
    rules.extend(DEVICES.iter().map(|name| optional(&format!("/dev/{name}"), LandlockAccess::Devices)));
    for mount in &plan.mounts {
        let access = match (mount.kind, mount.read_only) {
            (MountKind::Tool, _) | (_, true) => LandlockAccess::ReadExecute,
            _ => LandlockAccess::ReadWrite,
        };
        rules.push(needed(&mount.target, access));
    }
    if let Some(tmp) = place.tmp.to_str() {
        rules.push(needed(tmp, LandlockAccess::ReadWrite));
    }
    without_repeats(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JailChoice, NetPolicyKind};
    use crate::plan::landlock;
    use crate::plan::resolve::{Typed, resolve};
    use crate::plan::samples::facts;

    fn plan(change: impl Fn(&mut Typed, &mut crate::plan::Facts)) -> LaunchPlan {
        let (mut typed, mut facts) = (Typed::default(), facts());
        facts.landlock = landlock::rules;
        typed.settings.jail = Some(JailChoice::Landlock);
        change(&mut typed, &mut facts);
        resolve(&typed, &facts).expect("a plan")
    }

    #[test]
    fn only_home_project_and_tmp_are_written_and_the_rest_is_shut() {
        let plan = plan(|_, _| {});
        let written: Vec<&str> = plan
            .landlock
            .rules
            .iter()
            .filter(|rule| rule.access == LandlockAccess::ReadWrite)
            .map(|rule| rule.path.as_str())
            .collect();
        let tmp = plan.in_place.as_ref().and_then(|place| place.tmp.to_str()).expect("a folder");
        assert_eq!(
            written,
            ["/home/ann/.local/share/tripmine/homes/default", "/home/ann/projects/site", tmp]
        );
        for shut in
            ["/", "/etc", "/home", "/root", "/run", "/tmp", "/var", "/dev", "/dev/shm", "/dev/pts", "/sys"]
        {
            assert!(!plan.landlock.rules.iter().any(|rule| rule.path == shut), "{shut}");
        }
        for secret in ["shadow", "gshadow", "ssl/private", "ssh", "machine-id", "profile.d", "environment"] {
            assert!(
                !plan.landlock.rules.iter().any(|rule| rule.path.strip_prefix("/etc/") == Some(secret)),
                "{secret}"
            );
        }
        assert!(plan.landlock.rules.iter().all(|rule| rule.path != "/etc/ssl" && rule.path != "/etc/pki"));
    }

    #[test]
    fn what_the_kernel_can_scope_is_scoped_and_root_needs_it() {
        for (uid, abi, network, required, scopes, no_tcp) in [
            (1000, 7, false, 3, true, true),
            (1000, 7, true, 3, true, false),
            (1000, 5, false, 3, false, true),
            (1000, 3, false, 3, false, false),
            (0, 7, false, 6, true, true),
        ] {
            let plan = plan(|typed, facts| {
                (facts.caller.uid, facts.landlock_abi) = (uid, abi);
                typed.settings.net = network.then_some(NetPolicyKind::Open);
            });
            let rules = &plan.landlock;
            assert_eq!(
                (rules.required_abi, rules.scope_signal, rules.scope_abstract, rules.no_tcp),
                (required, scopes, scopes, no_tcp),
                "{uid} {abi}"
            );
        }
    }
}
