//! The jail in place: each of its layers is left out, the launch is refused by its name, and with a keeper that overlooks it
//! the rows of its battery break.

use std::collections::BTreeMap;

use crate::env::{Env, is_root};
use crate::{inside, run_weak};

const IN_PLACE: &[&str] = &["--jail", "landlock"];

/// Left out, and what the refusal says.
const REFUSALS: &[(&str, &str)] = &[
    ("no-new-privs", "the layer `no-new-privs` is not in force"),
    ("landlock", "checking Landlock: a forbidden folder could still be opened"),
    ("landlock-scopes", "checking Landlock: a process outside the cube could still be signalled"),
    ("seccomp", "the layer `seccomp` is not in force"),
    ("rlimits", "the layer `rlimits` is not in force"),
    ("init-sealed", "the layer `init-sealed` is not in force"),
    ("warden", "the layer `warden` is not in force"),
];

#[test]
fn a_missing_layer_ends_the_launch_by_name() {
    let env = Env::new();
    assert_eq!(inside(&env, "", "", IN_PLACE, "echo it ran").ok(0), "it ran", "the control");
    // An ordinary user holds none to leave in.
    let of_root =
        if is_root() { &[("capabilities", "the layer `capabilities` is not in force")][..] } else { &[] };
    for (out, says) in REFUSALS.iter().chain(of_root) {
        let output = inside(&env, out, "", IN_PLACE, "echo it ran");
        assert_eq!(output.code, 125, "without {out}: {output:?}");
        // Without privileges the kernel itself takes no rules of one who could still gain some.
        let says = if *out == "no-new-privs" && !is_root() { &"applying Landlock" } else { says };
        assert!(output.stderr.contains(says), "without {out}: {output:?}");
        assert_eq!(output.stdout, "", "without {out}: the entry ran");
    }
}

/// Left out, overlooked by child and keeper, rows that must break, rows that another layer still keeps.
const PROOFS: &[(&str, &str, &str, &str)] = &[
    ("", "", "", "L01 L02 L03 L04 L05 L06 L07 P09 N02 N07"),
    ("landlock", "landlock,scopes", "L01 L02 P09", "L03 L04 L06 N02"),
    ("landlock-scopes", "scopes", "P09", "L01 L02 N07"),
    ("landlock-tcp", "", "", "N02 N09"),
    ("seccomp", "seccomp", "L03 L04 L05 L06 S01 S09", "L01 L02 P09 N02"),
    ("seccomp,landlock-tcp", "seccomp", "N02", "L01 L02"),
    ("seccomp-socket", "", "L03", "L01"),
    ("seccomp-prlimit64", "", "L04", "L05"),
    ("seccomp-shmget", "", "L05", "L04"),
];

#[test]
fn rows_break_without_their_layer() {
    for (out, blind, must_break, must_hold) in PROOFS {
        let env = Env::new();
        let output = run_weak(&env, out, blind, &["verify-jail", "--json", "--jail", "landlock"]);
        let report: serde_json::Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{out}: {error}: {output:?}"));
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let rows: BTreeMap<String, String> = report["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (text(&row["id"]), text(&row["verdict"])))
            .collect();
        for id in must_break.split_whitespace() {
            assert_eq!(rows[id], "fail", "{id} without {out}");
        }
        for id in must_hold.split_whitespace() {
            assert_eq!(rows[id], "pass", "{id} without {out}");
        }
    }
}
