//! The rows of `verify-jail` against the layers that they guard.

use std::collections::BTreeMap;

use tripmine::plan::battery::{LAUNCHES, ROWS};

use crate::env::{Env, is_root};
use crate::run_weak;

/// Left out, overlooked by the keeper, as whom the cube runs, rows that must break, and rows that must still be kept
/// because another layer promises the same.
type Proof = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// Everything but the filter, which has a table of its own.
const LAYERS: &[Proof] = &[
    ("pidns", "pidns,mountns", "me", "P04 P09 P20", ""),
    ("netns", "netns,net-capture", "me", "N01 N02 N09 N12 P20", "N07"),
    ("landlock-scopes", "", "me", "", "N07"),
    ("netns,landlock-scopes", "netns,net-capture", "me", "N01 N07", ""),
    ("ipcns", "ipcns", "me", "P20", ""),
    ("utsns", "utsns", "me", "P12 P20", ""),
    ("etc", "", "me", "P12", ""),
    ("cgroupns", "cgroupns", "me", "P20", ""),
    ("timens", "timens", "me", "P20", ""),
    ("no-new-privs", "no-new-privs", "me", "P01", "P13"),
    ("capabilities", "capabilities", "me", "P01", "F05"),
    ("capabilities", "capabilities", "root", "P01", "F02 F05"),
    ("init-sealed", "init-sealed", "me", "P21", "P03 P05 P08"),
    ("keeper-env", "", "me", "", "P03"),
    ("keeper-env,init-sealed", "init-sealed", "me", "P03 P21", ""),
    ("close-child", "", "me", "", "P02"),
    ("close-spawn", "", "me", "", "P02"),
    ("close-child,close-spawn", "", "me", "P02", ""),
    ("old-root", "landlock,mountns", "me", "F01 F06 F13", ""),
    ("hidden-home", "", "me", "F01", ""),
    ("proc-covers", "mountns", "me", "F03", "F02"),
    ("proc-covers", "mountns", "root", "F03", "F02"),
    ("proc-covers,capabilities", "mountns,capabilities", "root", "F02 F03", ""),
    ("dev", "mountns", "me", "F04 F13", "F05"),
    ("nosuid", "mountns", "me", "F06", "P13"),
    ("nodev", "mountns", "me", "F06", "F05"),
    ("nodev,capabilities", "mountns,capabilities", "root", "F06 P01", "F05"),
    ("system-read-only", "mountns", "me", "F14", ""),
    ("upper", "mountns", "me", "F08", ""),
    ("identity", "", "me", "F10", "F09"),
    ("rlimits", "", "me", "R01", ""),
    ("rlimits,cgroup", "cgroup", "me", "R01 R02", ""),
    ("cgroup", "cgroup", "me", "", "R01 R02"),
    ("cgroup,watch", "cgroup", "me", "R03", ""),
    ("tmpfs-size", "", "me", "R04", ""),
];

/// The filter: as a whole, and the rule of each call.
const FILTER: &[Proof] = &[
    (
        "seccomp",
        "seccomp",
        "me",
        "P01 P06 S01 S02 S03 S04 S05 S06 S07 S08 S09 S10 S11 S13 S14 S15 S18 F07 N11",
        "P05 S16 S17",
    ),
    ("seccomp,init-sealed", "seccomp,init-sealed", "me", "P05", ""),
    ("seccomp,capabilities", "seccomp,capabilities", "root", "S05 S13 F07", "F05"),
];

/// Rows and the calls whose rules they guard: without those, exactly these rows are broken.
#[cfg(target_arch = "x86_64")]
const RULES: &[(&str, &str)] = &[
    ("S01", "unshare"),
    ("S02", "clone"),
    ("S03", "clone3"),
    ("S04", "setns"),
    ("S05", "umount2"),
    ("S06", "open_tree"),
    ("S07", "keyctl"),
    ("S08", "bpf"),
    ("S09", "io_uring_setup"),
    ("S10", "userfaultfd"),
    ("S11", "kcmp,seccomp-process_madvise"),
    ("S13", "clock_settime"),
    ("S15", "ioctl"),
    ("N11 S18", "socket"),
    ("P06", "process_vm_readv"),
    ("F07 S05", "mount"),
];

/// Rows that no test here breaks, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("P08", "the kernel itself refuses to write a program that runs (ETXTBSY), and PID 1 always runs"),
    ("P13", "`escape.rs` does, with a second id in the cube; with one, nothing can be gained"),
    ("N03", "where packets go without a network of their own is up to the host's routes"),
    ("N13", "`net_policies.rs` does, with servers of its own: the battery's name exists nowhere else"),
    ("S16", "the kernel itself answers ENOSYS; the ceiling is tested against the compiled filter"),
    ("S17", "what must work: a filter that refuses too much breaks it"),
    (
        "F05",
        "devices need a capability over the host's own user namespace; no launch is possible without ours",
    ),
];

/// Runs the battery; the verdict and detail by row.
fn battery(out: &str, blind: &str, user: &str) -> BTreeMap<String, (String, String)> {
    let env = Env::new();
    let output = run_weak(&env, out, blind, &["verify-jail", "--json", "--user", user]);
    let report: serde_json::Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{out}: {error}: {output:?}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let rows = report["rows"].as_array().unwrap();
    rows.iter().map(|row| (text(&row["id"]), (text(&row["verdict"]), text(&row["detail"])))).collect()
}

fn broken(rows: &BTreeMap<String, (String, String)>) -> Vec<&str> {
    rows.iter().filter(|(_, (verdict, _))| verdict != "pass").map(|(id, _)| id.as_str()).collect()
}

#[track_caller]
fn prove(proofs: &[Proof]) {
    for (out, blind, user, must_break, must_hold) in proofs {
        let rows = battery(out, blind, user);
        println!("without {out}, user {user}: {:?}", broken(&rows));
        for id in must_break.split_whitespace() {
            assert_eq!(rows[id].0, "fail", "{id} without {out}, user {user}: {}", rows[id].1);
        }
        for id in must_hold.split_whitespace() {
            assert_eq!(rows[id].0, "pass", "{id} without {out}, user {user}: {}", rows[id].1);
        }
    }
}

/// The control: the same program, nothing left out.
#[test]
fn with_nothing_left_out_every_row_is_kept() {
    for user in ["me", "root"] {
        let rows = battery("", "", user);
        assert_eq!(rows.len(), ROWS.len() + LAUNCHES.len());
        assert_eq!(broken(&rows), Vec::<&str>::new(), "{user}: {rows:#?}");
    }
}

#[test]
fn without_its_layer_a_row_is_broken() {
    prove(LAYERS);
    if !is_root() {
        // One wall only, where no cgroup can be made.
        prove(&[("rlimits", "", "me", "R02", ""), ("watch", "", "me", "R03", "")]);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn without_the_filter_its_rows_are_broken() {
    prove(FILTER);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn without_the_rule_of_a_call_its_row_is_broken_and_no_other() {
    for (guards, calls) in RULES {
        let rows = battery(&format!("seccomp-{calls}"), "", "me");
        let guards: Vec<&str> = guards.split_whitespace().collect();
        assert_eq!(broken(&rows), guards, "without {calls}: {rows:#?}");
    }
}

/// No row is forgotten.
#[test]
fn every_row_has_a_counter_proof_or_a_reason() {
    let proven: Vec<&str> =
        LAYERS.iter().chain(FILTER).flat_map(|proof| proof.3.split_whitespace()).collect();
    for row in ROWS {
        let excused = ELSEWHERE.iter().any(|(id, _)| *id == row.id);
        assert!(proven.contains(&row.id) != excused, "{}: {}", row.id, row.topic);
    }
}
