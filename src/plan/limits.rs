//! What a cube may take of the host, and who enforces it. Owns the choice between the kernel and the
//! keeper; a limit marked as required is refused rather than enforced by less than the kernel.

use std::time::Duration;

use super::facts::CgroupFacts;
use super::launch::{CgroupPlan, Enforcer, LimitsPlan, Origin, UpperPlan};
use super::pick::{Picked, Places, Record};
use crate::model::{ByteSize, Failure, FailureKind, Limit, TripId};

/// Processes when nobody says a number.
pub const PIDS: u32 = 4096;
/// Open files of each process, when the caller may have as many.
pub const OPEN_FILES: u64 = 65_536;
/// A cube's own first process needs about as much.
const MEMORY_MIN: ByteSize = ByteSize::mib(2);
/// Open files that init may have beyond what it starts. Descriptors under way in sockets are counted for each user, over all
/// cubes, and who has sent as many as his limit is refused; a message takes 253 at most. So whatever the others do, init can pass
/// its own on.
pub const FILES_OF_INIT: u64 = 512;
/// Controllers of version 1 whose trees are used.
const V1_CONTROLLERS: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "freezer"];

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct LimitsInput<'a> {
    /// The cube, which names the cgroup.
    pub id: &'a TripId,
    /// What cgroups can be made.
    pub cgroups: &'a CgroupFacts,
    /// Where changes go.
    pub upper: &'a UpperPlan,
    /// The caller's hard limit of open files.
    pub hard_open_files: u64,
}

/// The size of the upper when nobody says one: half of the memory, at most 8 GiB.
#[must_use]
pub fn default_upper(memory_total: ByteSize) -> ByteSize {
    ByteSize::bytes((memory_total.get() / 2).clamp(64 << 20, 8 << 30))
}

/// Chooses for every limit who enforces it.
///
/// # Errors
/// A required limit that the kernel cannot enforce here.
pub fn plan(
    places: &Places<'_>,
    input: &LimitsInput<'_>,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> Result<LimitsPlan, Failure> {
    let facts = input.cgroups;
    let memory = match places.pick(|s| s.limits.memory) {
        None => None,
        Some(picked) if picked.value.value < MEMORY_MIN => {
            let (size, origin) = (picked.value.value, picked.origin.word());
            return Err(Failure::usage(format!(
                "a memory limit of {size} ({origin}) is too little: a cube needs at least {MEMORY_MIN}"
            )));
        }
        Some(picked) => {
            let enforcer = if has(facts, "memory") { Enforcer::Cgroup } else { Enforcer::Watch };
            if enforcer == Enforcer::Watch {
                required("memory", picked, facts)?;
                let why = why_not(facts, "memory");
                warnings.push(format!(
                    "memory is watched by the keeper, which ends the cube when it is passed; a quick burst may \
                     pass it for a moment, because {why}"
                ));
            }
            Some((note(record, "memory", picked), enforcer))
        }
    };
    let cpus_milli = match places.pick(|s| s.limits.cpus_milli) {
        None => None,
        Some(picked) => {
            let enforcer = if has(facts, "cpu") { Enforcer::Cgroup } else { Enforcer::Nice };
            if enforcer == Enforcer::Nice {
                required("cpus", picked, facts)?;
                let why = why_not(facts, "cpu");
                warnings.push(format!(
                    "cpus is best effort: the cube yields to everything else but may use idle processors, \
                     because {why}"
                ));
            }
            record.add("cpus", &cpus_text(picked.value.value), picked.origin);
            Some((picked.value.value, enforcer))
        }
    };
    let pids = places.pick_or(|s| s.limits.pids, Limit { value: PIDS, required: false });
    // The user namespace of a cube counts its own processes, so the rlimit holds as firmly (user_namespaces(7), since
    // Linux 5.14). Entering a cgroup makes a launch wait for a grace period of the kernel, 10 ms and more: for a default
    // that nobody asked for, that is not done.
    let others = [memory.map(|(_, by)| by), cpus_milli.map(|(_, by)| by)].contains(&Some(Enforcer::Cgroup));
    let asked = !matches!(pids.origin, Origin::BuiltIn);
    let pids_enforcer =
        if (asked || others) && has(facts, "pids") { Enforcer::Cgroup } else { Enforcer::Rlimit };
    // Without a user namespace the rlimit counts all that the user runs: the keeper counts the cube's own.
    let pids_enforcer = match (input.upper, pids_enforcer) {
        (UpperPlan::Nothing, Enforcer::Rlimit) => {
            if pids.value.required {
                return Err(refusal("pids", pids.origin, &why_not(facts, "pids"))
                    .hint("drop the `!`, and the keeper counts and ends the cube when it is passed"));
            }
            Enforcer::Watch
        }
        (_, enforcer) => enforcer,
    };
    let pids = Some((note(record, "pids", pids), pids_enforcer));
    let disk = disk(places, input, record, warnings)?;
    let timeout = places.pick(|s| s.limits.timeout).map(|picked| {
        record.add("timeout", &seconds(picked.value), picked.origin);
        picked.value
    });
    Ok(LimitsPlan {
        memory,
        cpus_milli,
        pids,
        disk,
        timeout,
        // Fewer than the caller's own: what he runs can then pass descriptors on, whatever a cube has under way.
        open_files: OPEN_FILES.min(input.hard_open_files - input.hard_open_files / 8),
        cgroup: if others || pids_enforcer == Enforcer::Cgroup { cgroup(facts, input.id) } else { None },
    })
}

fn disk(
    places: &Places<'_>,
    input: &LimitsInput<'_>,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> Result<Option<(ByteSize, Enforcer)>, Failure> {
    let picked = places.pick(|s| s.limits.disk);
    match (input.upper, picked) {
        (UpperPlan::Tmpfs { size }, picked) => {
            record.add("disk", size, picked.map_or(Origin::BuiltIn, |picked| picked.origin));
            Ok(Some((*size, Enforcer::TmpfsSize)))
        }
        (UpperPlan::Disk { .. } | UpperPlan::Nothing, None) => Ok(None),
        (UpperPlan::Nothing, Some(picked)) => {
            Err(refusal("disk", picked.origin, "what is written in place goes to the host's own disk"))
        }
        (UpperPlan::Disk { .. }, Some(picked)) => {
            if picked.value.required {
                return Err(refusal(
                    "disk",
                    picked.origin,
                    "the cube's changes lie on a disk without quotas",
                )
                .hint("drop the `!`, and the keeper watches it; or launch without `--keep`"));
            }
            warnings.push(
                "disk is watched by the keeper, which ends the cube when it is passed; a quick burst may pass it"
                    .to_owned(),
            );
            Ok(Some((note(record, "disk", picked), Enforcer::Watch)))
        }
    }
}

fn note<T: std::fmt::Display>(record: &mut Record, key: &str, picked: Picked<Limit<T>>) -> T {
    record.note(key, Picked { value: picked.value.value, origin: picked.origin })
}

fn required<T>(key: &str, picked: Picked<Limit<T>>, facts: &CgroupFacts) -> Result<(), Failure> {
    if !picked.value.required {
        return Ok(());
    }
    let controller = if key == "cpus" { "cpu" } else { key };
    Err(refusal(key, picked.origin, &why_not(facts, controller))
        .hint(format!("drop the `!`, and `{key}` is enforced as well as this host can"))
        .hint(format!(
            "let systemd delegate the controller: `systemd-run --user --scope -p Delegate=yes`, or \
             `Delegate={controller}` in user@.service; `tripmine doctor` says more"
        )))
}

fn refusal(key: &str, origin: Origin, why: &str) -> Failure {
    Failure::new(
        FailureKind::Unsupported,
        format!(
            "the {key} limit ({}) is required, and the kernel cannot enforce it here: {why}",
            origin.word()
        ),
    )
}

/// True when a cgroup with this controller can be made.
fn has(facts: &CgroupFacts, controller: &str) -> bool {
    match facts {
        CgroupFacts::None { .. } => false,
        CgroupFacts::V2 { controllers, .. } => controllers.iter().any(|name| name == controller),
        CgroupFacts::V1 { bases } => bases.iter().any(|(name, _)| name == controller),
    }
}

fn why_not(facts: &CgroupFacts, controller: &str) -> String {
    match facts {
        CgroupFacts::None { why } => format!("no cgroup can be made ({why})"),
        _ => format!("the cgroup controller `{controller}` is not delegated"),
    }
}

/// The cgroup of a cube.
fn cgroup(facts: &CgroupFacts, id: &TripId) -> Option<CgroupPlan> {
    match facts {
        CgroupFacts::None { .. } => None,
        CgroupFacts::V2 { base, .. } => Some(CgroupPlan::V2 { dir: base.join(id.as_str()) }),
        CgroupFacts::V1 { bases } => {
            let dirs: Vec<_> = bases
                .iter()
                .filter(|(name, _)| V1_CONTROLLERS.contains(&name.as_str()))
                .map(|(name, base)| (name.clone(), base.join(id.as_str())))
                .collect();
            if dirs.is_empty() { None } else { Some(CgroupPlan::V1 { dirs }) }
        }
    }
}

/// Thousandths of a CPU for a person: `2`, `0.5`.
#[must_use]
pub fn cpus_text(milli: u32) -> String {
    if milli.is_multiple_of(1000) {
        (milli / 1000).to_string()
    } else {
        format!("{}.{:03}", milli / 1000, milli % 1000).trim_end_matches('0').to_owned()
    }
}

/// A duration for a person: `1h 30m`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// Each limit with who enforces it, for a person.
#[must_use]
pub fn lines(limits: &LimitsPlan) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((size, by)) = limits.memory {
        lines.push(format!("memory {size}, {}", by.word()));
    }
    if let Some((milli, by)) = limits.cpus_milli {
        lines.push(format!("cpus {}.{:03}, {}", milli / 1000, milli % 1000, by.word()));
    }
    if let Some((count, by)) = limits.pids {
        lines.push(format!("pids {count}, {}", by.word()));
    }
    if let Some((size, by)) = limits.disk {
        lines.push(format!("disk {size}, {}", by.word()));
    }
    if let Some(timeout) = limits.timeout {
        lines.push(format!("timeout {}, by the keeper", humantime::format_duration(timeout)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Limits, Settings, limits};

    fn v2(controllers: &[&str]) -> CgroupFacts {
        CgroupFacts::V2 {
            base: "/sys/fs/cgroup/user".into(),
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn none() -> CgroupFacts {
        CgroupFacts::None { why: "the tree is read-only".to_owned() }
    }

    fn run(
        wanted: &[(&str, &str)],
        cgroups: &CgroupFacts,
        on_disk: bool,
    ) -> Result<(LimitsPlan, Vec<String>), Failure> {
        let mut asked = Limits::default();
        for (key, text) in wanted {
            match *key {
                "memory" => asked.memory = limits::parse_size(text).ok(),
                "cpus" => asked.cpus_milli = limits::parse_cpus(text).ok(),
                "pids" => asked.pids = limits::parse_pids(text).ok(),
                "disk" => asked.disk = limits::parse_size(text).ok(),
                _ => asked.timeout = limits::parse_timeout(text).ok(),
            }
        }
        let size = asked.disk.map_or(ByteSize::mib(512), |limit| limit.value);
        let upper = if on_disk { UpperPlan::Disk { dir: "/x".into() } } else { UpperPlan::Tmpfs { size } };
        let settings = Settings { limits: asked, ..Settings::default() };
        let id = TripId::from_parts(0, [0; 16]);
        let input = LimitsInput { id: &id, cgroups, upper: &upper, hard_open_files: 1 << 20 };
        let (mut record, mut warnings) = (Record::default(), Vec::new());
        let places = Places::new([(Origin::Flag, &settings)]);
        plan(&places, &input, &mut record, &mut warnings).map(|plan| (plan, warnings))
    }

    #[test]
    fn who_enforces() {
        let all = v2(&["memory", "cpu", "pids"]);
        let wanted = [("memory", "64M"), ("cpus", "0.5"), ("pids", "32"), ("disk", "10M"), ("time", "5s")];
        let cases = [
            (&all, false, [Enforcer::Cgroup, Enforcer::Cgroup, Enforcer::Cgroup, Enforcer::TmpfsSize], 0),
            (&none(), false, [Enforcer::Watch, Enforcer::Nice, Enforcer::Rlimit, Enforcer::TmpfsSize], 2),
            (&all, true, [Enforcer::Cgroup, Enforcer::Cgroup, Enforcer::Cgroup, Enforcer::Watch], 1),
            (&v2(&["pids"]), true, [Enforcer::Watch, Enforcer::Nice, Enforcer::Cgroup, Enforcer::Watch], 3),
        ];
        for (facts, on_disk, [memory, cpus, pids, disk], warned) in cases {
            let (plan, warnings) = run(&wanted, facts, on_disk).expect("allowed");
            assert_eq!(plan.memory, Some((ByteSize::mib(64), memory)), "{facts:?}");
            assert_eq!(plan.cpus_milli, Some((500, cpus)), "{facts:?}");
            assert_eq!(plan.pids, Some((32, pids)), "{facts:?}");
            assert_eq!(plan.disk, Some((ByteSize::mib(10), disk)), "{facts:?}");
            assert_eq!(plan.timeout, Some(Duration::from_secs(5)));
            assert_eq!(warnings.len(), warned, "{warnings:?}");
        }
    }

    #[test]
    fn too_little_memory_is_refused_by_name() {
        let error = run(&[("memory", "1M")], &none(), false).expect_err("too little");
        assert_eq!(error.message, "a memory limit of 1M (flag) is too little: a cube needs at least 2M");
        assert!(run(&[("memory", "2M")], &none(), false).is_ok());
    }

    #[test]
    fn defaults() {
        let (plan, warnings) = run(&[], &none(), false).expect("allowed");
        assert_eq!((plan.memory, plan.cpus_milli, plan.timeout), (None, None, None));
        assert_eq!(plan.pids, Some((PIDS, Enforcer::Rlimit)));
        assert_eq!(plan.disk, Some((ByteSize::mib(512), Enforcer::TmpfsSize)));
        assert_eq!(plan.open_files, OPEN_FILES);
        assert_eq!((plan.cgroup, warnings), (None, Vec::new()));
        assert_eq!(run(&[], &none(), true).expect("allowed").0.disk, None);
        for (total, want) in [(4_u64 << 30, 2_u64 << 30), (64 << 30, 8 << 30), (0, 64 << 20)] {
            assert_eq!(default_upper(ByteSize::bytes(total)).get(), want);
        }
    }

    #[test]
    fn required_limits_are_refused_where_only_the_keeper_could_act() {
        for (key, text, facts, on_disk, part) in [
            ("memory", "64M!", none(), false, "no cgroup can be made (the tree is read-only)"),
            ("memory", "64M!", v2(&["pids"]), false, "controller `memory` is not delegated"),
            ("cpus", "1!", none(), false, "the cpus limit (flag) is required"),
            ("cpus", "1!", v2(&["memory"]), false, "controller `cpu` is not delegated"),
            ("disk", "1G!", v2(&["memory"]), true, "disk without quotas"),
        ] {
            let error = run(&[(key, text)], &facts, on_disk).expect_err(key);
            assert_eq!(error.kind, FailureKind::Unsupported);
            assert!(error.message.contains(part), "{key}: {error}");
            assert!(error.hints[0].contains("drop the `!`"), "{key}: {:?}", error.hints);
        }
        for (key, text, facts) in [
            ("pids", "64!", none()),
            ("disk", "64M!", none()),
            ("memory", "64M!", v2(&["memory"])),
            ("cpus", "1!", v2(&["cpu"])),
        ] {
            assert!(run(&[(key, text)], &facts, false).is_ok(), "{key}");
        }
    }

    #[test]
    fn a_cgroup_is_made_when_it_enforces_what_was_asked_for() {
        let id = TripId::from_parts(0, [0; 16]);
        let (plan, _) = run(&[], &v2(&["memory", "cpu", "pids"]), false).expect("allowed");
        assert_eq!(
            (plan.cgroup, plan.pids),
            (None, Some((PIDS, Enforcer::Rlimit))),
            "a default waits for no cgroup"
        );
        assert_eq!(run(&[("memory", "64M")], &v2(&["pids"]), false).expect("allowed").0.cgroup, None);
        let asked = [("pids", "32")];
        let (plan, _) = run(&asked, &v2(&["pids"]), false).expect("allowed");
        let dir = std::path::PathBuf::from("/sys/fs/cgroup/user").join(id.as_str());
        assert_eq!(plan.cgroup, Some(CgroupPlan::V2 { dir }));
        let bases = ["memory", "net_cls", "pids", "freezer"]
            .iter()
            .map(|name| ((*name).to_owned(), format!("/cg/{name}").into()))
            .collect();
        let (plan, _) = run(&asked, &CgroupFacts::V1 { bases }, false).expect("allowed");
        let folders = plan.cgroup.expect("made").folders();
        assert_eq!(folders.len(), 3);
        assert!(folders.iter().all(|folder| folder.ends_with(id.as_str())));
        let empty = CgroupFacts::V1 { bases: Vec::new() };
        assert_eq!(run(&asked, &empty, false).expect("allowed").0.cgroup, None);
    }

    #[test]
    fn numbers_for_people() {
        for (milli, want) in [(500, "0.5"), (2000, "2"), (1250, "1.25"), (1, "0.001"), (10_000, "10")] {
            assert_eq!(cpus_text(milli), want);
        }
    }
}
