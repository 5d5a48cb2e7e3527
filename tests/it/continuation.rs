//! Continuations: a cube's changes with what it was launched with, resumed; and homes that are copied for new machines.

use std::fs;

use crate::env::{Env, PATIENCE, until};
use crate::pty::Pty;

/// A kept cube of the project `site` with changes, limits and variables, ended.
fn ended(env: &Env) {
    fs::write(env.project("site").join("mine"), "project\n").unwrap();
    let script = "echo sys > /etc/mine; rm /etc/fstab; echo \"$SECRET_ONE\" > /dev/null; pwd; cat /etc/mine";
    let options = ["--memory", "300M", "-e", "SECRET_ONE=hunter2", "--keep", "box", "-w", "/tmp", "site"];
    env.tripmine([&options[..], &["--", "/bin/sh", "-c", script]].concat()).ok(0);
}

#[test]
fn a_continuation_launches_the_same_with_the_same_changes() {
    let env = Env::new();
    ended(&env);
    let made = env.tripmine(["image", "snapshot", "later", "box", "--continuation"]);
    assert_eq!(made.ok(0), "later");
    env.tripmine(["rm", "--yes", "box"]).ok(0);
    let resumed = env.tripmine(["resume", "later", "-e", "EXTRA=1"]);
    assert_eq!(resumed.ok(0), "/tmp\nsys", "{resumed:?}");
    assert!(resumed.stderr.contains("no value of them is kept: SECRET_ONE;"), "{}", resumed.stderr);
    let record = env.record();
    assert_eq!((&record["project"], &record["image"]), (&"site".into(), &"later@1".into()));
    assert!(record["limits"].to_string().contains("memory 300M"), "{record}");
    // The value of a variable is nowhere.
    let blobs = fs::read_dir(env.tripmine_home.join("data/images/blobs/sha256")).unwrap().flatten();
    for blob in blobs {
        let bytes = fs::read(blob.path()).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{:?}", blob.path());
    }
    // Given again, it is not missed; and what this launch changes can be kept as well.
    let again = env.tripmine(["resume", "later", "-e", "SECRET_ONE=x", "--keep", "more"]);
    assert!(again.ok(0).ends_with("sys") && !again.stderr.contains("SECRET_ONE"), "{again:?}");
    env.tripmine(["rm", "--yes", "more"]).ok(0);
}

#[test]
fn resuming_is_for_continuations_that_were_made_here() {
    let env = Env::new();
    ended(&env);
    env.tripmine(["image", "snapshot", "plain", "box"]).ok(0);
    env.tripmine(["resume", "plain"]).fails(125, "the image `plain` is no continuation");
    env.tripmine(["image", "snapshot", "later", "box", "--continuation"]).ok(0);
    // An image on top of it is made for new cubes again.
    env.tripmine(["run", "later", "--keep", "top", "--", "/bin/sh", "-c", "echo > /etc/top"]).ok(0);
    env.tripmine(["image", "snapshot", "top", "top"]).ok(0);
    env.tripmine(["resume", "top"]).fails(125, "no continuation");
    // What comes from elsewhere chooses nothing.
    let out = env.root().join("out");
    env.tripmine(["image", "export", "later", &format!("oci:{}:later", out.display())]).ok(0);
    // Not beneath what is kept on it.
    env.tripmine(["image", "rm", "--yes", "later"]).fails(1, "`top` lies on");
    env.tripmine(["rm", "--yes", "top"]).ok(0);
    env.tripmine(["image", "rm", "--yes", "later"]).ok(0);
    env.tripmine(["image", "import", out.to_str().unwrap(), "later"]).ok(0);
    env.tripmine(["resume", "later"]).fails(125, "was not made here");
    assert_eq!(env.tripmine(["run", "later", "--", "cat", "/etc/mine"]).ok(0), "sys");
    env.tripmine(["resume", "nothing"]).fails(125, "there is no image `nothing`");
    // Not without its machine.
    env.tripmine(["machine", "create", "work"]).ok(0);
    env.tripmine(["-m", "work", "--keep", "w", "site", "--", "true"]).ok(0);
    env.tripmine(["image", "snapshot", "w", "w", "--continuation"]).ok(0);
    env.tripmine(["rm", "--yes", "box", "w"]).ok(0);
    env.tripmine(["machine", "rm", "--yes", "work"]).ok(0);
    env.tripmine(["resume", "w"]).fails(125, "there is no machine `work`");
}

#[test]
fn a_kept_cube_is_entered_again_with_what_it_was_given() {
    let env = Env::new();
    env.project("site");
    let launch = ["--memory", "200M", "--keep", "box", "-d", "site", "--", "/bin/sh", "-c", "sleep 600"];
    let id = env.tripmine(launch).ok(0).to_owned();
    env.tripmine(["kill", &id]).ok(0);
    let mut pty = Pty::tripmine(&env, &["attach", "box"]);
    until("it runs again", PATIENCE, || env.tripmine(["exec", "box", "--", "true"]).code == 0);
    assert!(env.record()["limits"].to_string().contains("memory 200M"), "{}", env.record());
    env.tripmine(["kill", "box"]).ok(0);
    assert_ne!(pty.wait_exit(PATIENCE), 0);
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

/// A machine whose home has settings, conversations and notes.
fn lived_in(env: &Env) {
    env.tripmine(["machine", "create", "work"]).ok(0);
    let script = "mkdir -p ~/.agent/sessions/a ~/.notes && echo said > ~/.agent/sessions/a/1 && echo set > ~/.agent/settings && \
        echo typed > ~/.bash_history && echo note > ~/.notes/n && ln -s /etc/hostname ~/link && echo x > /etc/mine";
    let launch = ["-m", "work", "--keep", "box", "--shell", "-T"];
    env.tripmine_with(&launch, script.as_bytes()).ok(0);
}

fn has(env: &Env, machine: &str, path: &str) -> bool {
    env.tripmine_home.join("data/homes").join(machine).join(path).symlink_metadata().is_ok()
}

#[test]
fn a_new_machines_home_is_a_copy_without_what_was_said() {
    let env = Env::new();
    lived_in(&env);
    let made = env.tripmine(["image", "snapshot", "dev", "box", "--create-machine", "lab"]);
    made.ok(0);
    for part in ["left out of the new home: `conversations` (1 file", "`--carry typed` takes it along"] {
        assert!(made.stderr.contains(part), "`{part}`: {}", made.stderr);
    }
    for (path, there) in [
        (".agent/settings", true),
        (".notes/n", true),
        ("link", true),
        (".agent/sessions", false),
        (".bash_history", false),
    ] {
        assert_eq!(has(&env, "lab", path), there, "{path}");
    }
    let launched = env.tripmine_with(&["-m", "lab", "--shell", "-T"], b"cat ~/.agent/settings /etc/mine\n");
    assert_eq!(launched.ok(0), "set\nx");
    // Asked for by name, and the machine's own groups instead of the usual ones.
    env.tripmine(["image", "snapshot", "dev", "box", "--create-machine", "l2", "--carry", "typed"]).ok(0);
    assert!(has(&env, "l2", ".bash_history") && !has(&env, "l2", ".agent/sessions"));
    env.tripmine(["machine", "edit", "work", "--carry", "notes=.notes,.none/*/x"]).ok(0);
    let unknown = ["image", "snapshot", "dev", "box", "--create-machine", "l3", "--carry", "typed"];
    env.tripmine(unknown).fails(2, "no carry group `typed`");
    assert!(!has(&env, "l3", ""));
    assert!(!env.tripmine(["image", "list", "-a"]).stdout.contains("dev@2"), "nothing was made for nothing");
    env.tripmine(["image", "snapshot", "dev", "box", "--create-machine", "l3"]).ok(0);
    assert!(has(&env, "l3", ".agent/sessions/a/1") && !has(&env, "l3", ".notes"));
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

#[test]
fn the_groups_are_asked_about_one_by_one_and_the_default_is_no() {
    let env = Env::new();
    lived_in(&env);
    let mut pty = Pty::tripmine(&env, &["image", "snapshot", "dev", "box", "--create-machine", "lab"]);
    pty.wait_for("copy `conversations` (1 file");
    pty.type_text("y\r");
    pty.wait_for("copy `typed` (1 file");
    pty.type_text("\r");
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    assert!(has(&env, "lab", ".agent/sessions/a/1") && !has(&env, "lab", ".bash_history"));
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}
