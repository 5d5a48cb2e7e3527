//! Cubes that are kept: launched again as they were, and removed whatever their files' owners are. With what is told of cubes
//! on the way: events, figures, and what keepers found.

use std::io::{BufRead, BufReader};

use rustix::process::Signal;
use serde_json::Value;

use crate::env::{Env, PATIENCE, finish, is_root, signal, skip, until};
use crate::left;

/// `attach` of a kept cube that has ended gives it again what it was given: variables, limits, folder; and forgets nothing when
/// it is renamed meanwhile.
#[test]
fn a_kept_cube_is_launched_again_with_what_was_typed() {
    let env = Env::new();
    let file = env.home.join("vars");
    std::fs::write(&file, "FROM_FILE=filed\n").unwrap();
    let look = "echo $A-$FROM_FILE-$COPIED-$(pwd); grep 'Max processes' /proc/self/limits";
    let mut command = env.command([
        "run",
        "host",
        "--keep",
        "box",
        "-e",
        "A=secret",
        "-e",
        "COPIED",
        "--env-file",
        "vars",
        "--pids",
        "77",
        "--workdir",
        "/usr",
        "--",
        "/bin/sh",
        "-c",
        look,
    ]);
    let first = finish(command.env("COPIED", "now").spawn().unwrap(), PATIENCE);
    assert!(first.ok(0).starts_with("secret-filed-now-/usr\n"), "{first:?}");
    assert!(first.stdout.contains(" 77 "), "{first:?}");
    // What was typed may be a secret: nobody else may read it.
    let kept = env.tripmine_home.join("state/Mines").join(env.record()["id"].as_str().unwrap());
    let mode = std::fs::metadata(kept.join("headers/launch.json")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    env.tripmine(["rename", "box", "lab"]).ok(0);
    let mut command = env.command(["attach", "lab"]);
    let again = finish(command.env("COPIED", "later").current_dir("/").spawn().unwrap(), PATIENCE);
    assert_eq!(again.ok(0).trim_end(), first.stdout.replace("-now-", "-later-").trim_end());
    env.tripmine(["rm", "--yes", "lab"]).ok(0);
}

/// Root inside makes files of other owners, in the cube's system and in the home. The caller gets rid of all of them.
#[test]
fn what_belongs_to_other_ids_is_removed_too() {
    const NAME: &str = "what_belongs_to_other_ids_is_removed_too";
    let env = Env::new();
    let make = "for d in /var/x ~/x; do mkdir $d && touch $d/f && chown -R 5:5 $d && chmod 700 $d; done; grep -c . /proc/self/uid_map";
    let made = env.tripmine(["run", "host", "--user", "root", "--keep", "box", "--", "/bin/sh", "-c", make]);
    if !is_root() && made.stdout.trim() != "2" {
        // Nothing was chowned: one id inside.
        env.tripmine(["rm", "--yes", "box"]).ok(0);
        return skip(NAME, "there is one id in the cube (no newuidmap, or no subordinate ids)");
    }
    made.ok(0);
    let mines = env.tripmine_home.join("state/Mines");
    let files =
        std::fs::read_dir(mines.join(env.record()["id"].as_str().unwrap()).join("system-copy/upper/var/x"));
    assert!(is_root() || files.is_err(), "the caller can read what should be another's");
    env.tripmine(["rm", "--yes", "box"]).ok(0);
    let names = |folder: &str| -> Vec<_> {
        let entries = std::fs::read_dir(env.tripmine_home.join(folder)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with(".spare-")).collect()
    };
    assert_eq!(names("state/Mines"), [""; 0]);
    env.tripmine(["machine", "reset-home", "default", "--yes"]).ok(0);
    env.tripmine(["prune", "--yes"]).ok(0);
    assert_eq!(names("data/trash"), [""; 0]);
}

/// All that happens to a cube is in its events, in order.
#[test]
fn events_tell_the_whole_story() {
    let env = Env::new();
    let id = env.tripmine(["run", "host", "-d", "--keep", "box", "--", "sleep", "300"]).ok(0).to_owned();
    env.tripmine(["exec", "box", "--", "/bin/sh", "-c", "exit 3"]).ok(3);
    let watching = env.command(["attach", "--read-only", "box"]).spawn().unwrap();
    let kinds = || -> Vec<String> {
        let events: Value = serde_json::from_str(env.tripmine(["events", "--json", &id]).ok(0)).unwrap();
        let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
        events["events"].as_array().unwrap().iter().map(kind).collect()
    };
    until("somebody watches", PATIENCE, || kinds().iter().any(|kind| kind == "attached"));
    signal(i32::try_from(watching.id()).unwrap(), Signal::KILL);
    finish(watching, PATIENCE);
    until("nobody does", PATIENCE, || kinds().iter().any(|kind| kind == "left"));
    env.tripmine(["rename", "box", "lab"]).ok(0);
    let following = env.command(["events", "-f", "--json", &id]).spawn().unwrap();
    env.tripmine(["stop", "-t", "0", "lab"]).ok(0);
    let told = finish(following, PATIENCE);
    let lines: Vec<Value> = told.ok(0).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let story: Vec<_> = lines.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    let whole = ["started", "exec", "exec-ended", "attached", "left", "renamed", "stopping", "ended"];
    assert_eq!(story, whole, "{told:?}");
    assert_eq!(lines[2]["detail"]["code"], 3);
    assert_eq!(lines[6]["detail"]["kind"], "stopped");
    env.tripmine(["rm", "--yes", "lab"]).ok(0);
}

/// `stats -f` goes on until the cubes that were named have ended.
#[test]
fn figures_are_followed_until_the_end() {
    let env = Env::new();
    let id = env.tripmine(["run", "host", "-d", "--", "sleep", "300"]).ok(0).to_owned();
    let mut following = env.command(["stats", "-f", "--json", &id]).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["id"].as_str(), Some(id.as_str()));
        assert!(line["usage"]["memory"].as_u64().unwrap() > 0 && line["t"].is_number(), "{line}");
    }
    env.tripmine(["stop", "-t", "0", &id]).ok(0);
    let output = finish(following, PATIENCE);
    assert_eq!(output.code, 0, "{output:?}");
}

/// A keeper that ends clears what a killed one left, on nobody's time; the next command tells of it.
#[test]
fn what_a_keeper_found_lost_is_told_by_the_next_command() {
    let env = Env::new();
    let id = env.tripmine(["run", "host", "-d", "--", "sleep", "300"]).ok(0).to_owned();
    let keeper = env.record()["keeper"]["pid"].as_i64().unwrap();
    signal(i32::try_from(keeper).unwrap(), Signal::KILL);
    let owed = env.tripmine_home.join("state/lost");
    until("another cube's keeper has found it", PATIENCE, || {
        env.inside("true").ok(0);
        owed.exists()
    });
    left::assert_nothing_left(&env);
    let told = env.tripmine(["ps"]);
    assert!(told.stderr.contains("keepers that were lost") && told.stderr.contains(&id[25..]), "{told:?}");
    assert!(!env.tripmine(["ps"]).stderr.contains("lost"));
}
