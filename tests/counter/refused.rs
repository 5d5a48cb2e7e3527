//! The keeper's read-back: a layer that is left out ends the launch by name, before the entry has run.

use crate::env::Env;
use crate::{inside, run_weak};

/// Left out, overlooked, and what the refusal must say: either, where child and keeper both notice at the same time.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("userns", "", "error:"),
    ("mountns", "", "cutting mount propagation"),
    ("pidns", "", "the layer `pidns` is not in force"),
    ("netns", "", "the layer `netns` is not in force"),
    ("ipcns", "", "the layer `ipcns` is not in force"),
    ("utsns", "", "the layer `utsns` is not in force"),
    ("cgroupns", "", "the layer `cgroupns` is not in force"),
    ("timens", "", "the layer `timens` is not in force"),
    ("no-new-privs", "", "the layer `no-new-privs` is not in force"),
    ("capabilities", "", "the layer `capabilities` is not in force"),
    ("seccomp", "", "the layer `seccomp` is not in force"),
    ("init-sealed", "", "the layer `init-sealed` is not in force"),
    ("landlock", "", "checking Landlock: a forbidden folder could still be opened"),
    (
        "old-root",
        "",
        "checking Landlock: a forbidden folder could still be opened|the layer `mountns` is not in force",
    ),
    ("old-root", "landlock", "the layer `mountns` is not in force"),
    ("nosuid", "", "is mounted without nosuid"),
    ("nodev", "", "is mounted without nodev"),
    ("system-read-only", "", "is mounted without ro"),
    ("proc-covers", "", "the layer `mountns` is not in force"),
    ("dev", "", "is mounted without nosuid"),
];

#[test]
fn a_missing_layer_ends_the_launch_by_name() {
    for (out, blind, says) in REFUSALS {
        for options in [&[][..], &["--user", "root"]] {
            let env = Env::new();
            // Root installs into the host's folders only through an overlay, where one can be had.
            let output = inside(&env, out, blind, options, "echo it ran");
            if *out == "system-read-only" && output.code == 0 {
                assert!(!options.is_empty(), "{output:?}");
                continue;
            }
            assert_eq!(output.code, 125, "without {out} {options:?}: {output:?}");
            let said = says.split('|').any(|says| output.stderr.contains(says));
            assert!(said, "without {out} {options:?}: {output:?}");
            assert_eq!(output.stdout, "", "without {out} {options:?}: the entry ran");
        }
    }
}

/// The control for all of the above: the keeper that overlooks something starts what has everything.
#[test]
fn a_blind_keeper_is_not_what_refuses() {
    let env = Env::new();
    for (out, blind) in [("", ""), ("", "netns,landlock"), ("netns", "netns")] {
        assert_eq!(inside(&env, out, blind, &[], "echo it ran").ok(0), "it ran", "{out} {blind}");
    }
}

#[test]
fn a_limit_whose_cgroup_was_not_entered_ends_the_launch() {
    let env = Env::new();
    let args = ["run", "host", "--memory", "64M!", "--", "true"];
    if run_weak(&env, "", "", &args).code != 0 {
        return crate::env::skip(
            "a_limit_whose_cgroup_was_not_entered_ends_the_launch",
            "no cgroup can be made here, and no limit claims one",
        );
    }
    run_weak(&env, "cgroup", "", &args).fails(125, "the layer `cgroup` is not in force");
}

/// A word that names nothing would prove nothing.
#[test]
fn an_unknown_part_is_no_counter_proof() {
    let env = Env::new();
    let output = run_weak(&env, "netnss", "", &["version"]);
    assert!(output.code != 0 && output.stderr.contains("`netnss` is no part of a jail"), "{output:?}");
}
