//! The Landlock rules of a cube: the second wall, behind its own mount namespace. What the mounts
//! already keep away needs no rule; the rules say what stays out of reach should a mount be wrong.
//!
//! Landlock sees the merged view of the cube, so paths are paths inside. Everything not named here
//! is denied, system calls that Landlock does not govern (`stat`, `chmod`, `chdir`) excepted.

pub mod in_place;

use crate::model::RunAs;

use super::launch::{LandlockAccess, LandlockPlan, LandlockRule, LaunchPlan};

/// The newest ABI whose rights this program sets.
pub const NEWEST_ABI: u32 = 7;
/// Without this much no cube starts.
pub const REQUIRED_ABI: u32 = 1;
/// The ABI that confines abstract sockets and signals.
pub const SCOPES_ABI: u32 = 6;

/// Folders of an image that an ordinary user's programs write to, as far as file modes let them.
const WRITABLE: &[&str] =
    &["/tmp", "/var", "/run", "/home", "/root", "/etc", "/opt", "/srv", "/mnt", "/media"];

/// The rules for `plan` on a host whose kernel offers `abi` (0: no Landlock; the plan then asks for
/// more than there is, and the set-up refuses).
#[must_use]
pub fn rules(plan: &LaunchPlan, abi: u32) -> LandlockPlan {
    let abi = abi.min(NEWEST_ABI);
    if let Some(place) = &plan.in_place {
        return in_place::rules(plan, place, abi);
    }
    let scopes = abi >= SCOPES_ABI;
    let rules = match plan.user.run_as {
        RunAs::Me => for_user(plan),
        RunAs::Root => for_root(),
    };
    LandlockPlan {
        abi,
        required_abi: REQUIRED_ABI,
        rules,
        scope_abstract: scopes,
        scope_signal: scopes,
        no_tcp: false,
    }
}

/// Root installs packages: the whole of its own root, by file modes and mount flags.
fn for_root() -> Vec<LandlockRule> {
    vec![needed("/", LandlockAccess::ReadWrite), needed("/dev", LandlockAccess::Devices)]
}

fn for_user(plan: &LaunchPlan) -> Vec<LandlockRule> {
    let mut rules = vec![
        needed("/", LandlockAccess::ReadExecute),
        needed("/proc", LandlockAccess::ReadWriteFiles),
        needed("/dev", LandlockAccess::Devices),
        optional("/dev/shm", LandlockAccess::ReadWrite),
    ];
    rules.extend(WRITABLE.iter().map(|path| optional(path, LandlockAccess::ReadWrite)));
    for tree in plan.root.system.iter().filter(|tree| tree.writable) {
        // A path that is not UTF-8 names no system folder; leaving it out only denies.
        if let Some(path) = tree.path.to_str() {
            rules.push(needed(path, LandlockAccess::ReadWrite));
        }
    }
    for mount in plan.mounts.iter().filter(|mount| !mount.read_only) {
        rules.push(needed(&mount.target, LandlockAccess::ReadWrite));
    }
    without_repeats(rules)
}

/// One rule for a path and a right. A mount on a folder of the list is needed, not optional.
fn without_repeats(rules: Vec<LandlockRule>) -> Vec<LandlockRule> {
    let mut kept: Vec<LandlockRule> = Vec::with_capacity(rules.len());
    for rule in rules {
        match kept.iter_mut().find(|known| known.path == rule.path && known.access == rule.access) {
            Some(known) => known.optional &= rule.optional,
            None => kept.push(rule),
        }
    }
    kept
}

fn needed(path: &str, access: LandlockAccess) -> LandlockRule {
    LandlockRule { path: path.to_owned(), access, optional: false }
}

fn optional(path: &str, access: LandlockAccess) -> LandlockRule {
    LandlockRule { path: path.to_owned(), access, optional: true }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::model::{ByteSize, ImageRef, Jail, Keep, Name, SeccompProfile, TripId};
    use crate::plan::launch::{
        EntryPlan, FileIdentity, LimitsPlan, MapWriter, MountKind, MountPlan, RootPlan, StdioPlan,
        SystemTree, UpperPlan, UserPlan,
    };

    fn plan(run_as: RunAs) -> LaunchPlan {
        let mount = |target: &str, read_only| MountPlan {
            kind: MountKind::Project,
            source: PathBuf::from("/host"),
            identity: FileIdentity { dev: 1, ino: 1 },
            directory: true,
            target: target.to_owned(),
            read_only,
            review: None,
        };
        LaunchPlan {
            id: TripId::from_parts(1, [0; 16]),
            name: None,
            machine: Name::default_machine(),
            project: None,
            image: ImageRef::parse("host").unwrap(),
            image_digest: None,
            image_override: false,
            jail: Jail::Container,
            forwards: Vec::new(),
            net: crate::model::net::NetPolicy::None,
            setup: None,
            seccomp: SeccompProfile::Default,
            keep: Keep::Throwaway,
            ephemeral: false,
            user: UserPlan {
                run_as,
                uid: 1000,
                gid: 1000,
                name: "me".to_owned(),
                home: "/home/me".to_owned(),
                uid_map: Vec::new(),
                gid_map: Vec::new(),
                map_writer: MapWriter::Own,
                idmapped_mounts: false,
                capabilities: Vec::new(),
            },
            entry: EntryPlan { argv: vec!["sh".to_owned()], cwd: "/".to_owned(), shell: true },
            env: Vec::new(),
            root: RootPlan {
                lowers: Vec::new(),
                upper: UpperPlan::Tmpfs { size: ByteSize::parse("1M").unwrap() },
                system: vec![
                    SystemTree { path: PathBuf::from("/usr"), writable: false, lowers: Vec::new() },
                    SystemTree { path: PathBuf::from("/lib"), writable: true, lowers: Vec::new() },
                ],
            },
            mounts: vec![mount("/projects/p", false), mount("/ro", true), mount("/opt", false)],
            in_place: None,
            landlock: LandlockPlan {
                abi: 0,
                required_abi: 1,
                rules: Vec::new(),
                scope_abstract: false,
                scope_signal: false,
                no_tcp: false,
            },
            layers: Vec::new(),
            limits: LimitsPlan {
                memory: None,
                cpus_milli: None,
                pids: None,
                disk: None,
                timeout: None,
                open_files: 1024,
                cgroup: None,
            },
            hostname: "cube".to_owned(),
            stdio: StdioPlan::Pty { rows: 24, cols: 80 },
            stop_grace: Duration::from_secs(10),
            settings: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn find<'a>(plan: &'a LandlockPlan, path: &str) -> Vec<&'a LandlockRule> {
        plan.rules.iter().filter(|rule| rule.path == path).collect()
    }

    #[test]
    fn abi_is_capped_and_scopes_follow_it() {
        for (host, handled, scoped) in
            [(0, 0, false), (1, 1, false), (5, 5, false), (6, 6, true), (12, 7, true)]
        {
            let rules = rules(&plan(RunAs::Me), host);
            assert_eq!((rules.abi, rules.scope_abstract, rules.scope_signal), (handled, scoped, scoped));
            assert_eq!(rules.required_abi, 1);
        }
    }

    #[test]
    fn a_user_writes_where_the_plan_says_only() {
        let rules = rules(&plan(RunAs::Me), 7);
        let table = [
            ("/", Some((LandlockAccess::ReadExecute, false))),
            ("/proc", Some((LandlockAccess::ReadWriteFiles, false))),
            ("/dev", Some((LandlockAccess::Devices, false))),
            ("/dev/shm", Some((LandlockAccess::ReadWrite, true))),
            ("/tmp", Some((LandlockAccess::ReadWrite, true))),
            ("/projects/p", Some((LandlockAccess::ReadWrite, false))),
            ("/opt", Some((LandlockAccess::ReadWrite, false))), // also a mount: not optional
            ("/lib", Some((LandlockAccess::ReadWrite, false))),
            ("/usr", None),
            ("/ro", None),
        ];
        for (path, expected) in table {
            let found = find(&rules, path);
            assert!(found.len() <= 1, "{path} stands twice");
            assert_eq!(found.first().map(|rule| (rule.access, rule.optional)), expected, "{path}");
        }
    }

    #[test]
    fn root_has_its_own_root() {
        let rules = rules(&plan(RunAs::Root), 7);
        assert_eq!(find(&rules, "/").first().map(|rule| rule.access), Some(LandlockAccess::ReadWrite));
        assert_eq!(find(&rules, "/dev").first().map(|rule| rule.access), Some(LandlockAccess::Devices));
        assert_eq!(rules.rules.len(), 2);
    }
}
