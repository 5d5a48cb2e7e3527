//! The verbs on cubes: ps, logs, exec, attach, stop, kill, wait, rm, rename, inspect, stats.

use std::time::{Duration, Instant};

use crate::env::{Env, Output, PATIENCE, skip, until};
use crate::left;
use crate::pty::Pty;

const LEAVE: &str = "\x1dd";

/// True while the verbs only hold their reserved places.
pub(crate) fn verbs_missing(env: &Env) -> bool {
    let output = env.tripmine(["ps"]);
    output.code != 0 && output.stderr.contains("not wired")
}

/// An environment, unless the verbs are missing.
fn with_verbs(test: &str) -> Option<Env> {
    let env = Env::new();
    if verbs_missing(&env) {
        skip(test, "the verbs are not wired");
        return None;
    }
    Some(env)
}

/// Launches detached; the TripID.
fn detached(env: &Env, options: &[&str], script: &str) -> String {
    let args = [&["run", "host", "-d"], options, &["--", "/bin/sh", "-c", script]].concat();
    let output = env.tripmine(args);
    let id = output.ok(0).trim().to_owned();
    assert_eq!(id.len(), 32, "{output:?}");
    id
}

/// Waits until a file is there inside: what the entry says in its output may still be on its way to the log.
fn wait_inside(env: &Env, id: &str, file: &str) {
    until(file, PATIENCE, || env.tripmine(["exec", id, "--", "test", "-e", file]).code == 0);
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(output.ok(0)).unwrap()
}

#[test]
fn a_detached_cube_from_birth_to_removal() {
    let Some(env) = with_verbs("a_detached_cube_from_birth_to_removal") else { return };
    let id = detached(
        &env,
        &[],
        "echo to-out; echo to-err >&2; while ! test -e /tmp/stop; do sleep 0.05; done; exit 9",
    );
    let ps = env.tripmine(["ps"]);
    assert!(ps.ok(0).contains(&id[25..]) && ps.stdout.contains("running"), "{ps:?}");
    let ps = json(&env.tripmine(["ps", "--json"]));
    assert!(ps["version"].is_number(), "{ps}");
    assert!(ps.to_string().contains(&id), "{ps}");
    until("the log has both streams", PATIENCE, || {
        let logs = env.tripmine(["logs", &id]);
        format!("{}{}", logs.stdout, logs.stderr).contains("to-err") && logs.stdout.contains("to-out")
    });
    assert_eq!(env.tripmine(["exec", &id, "--", "/bin/sh", "-c", "echo inside; exit 4"]).ok(4), "inside");
    let inspected = env.tripmine(["inspect", &id]);
    assert!(inspected.ok(0).contains("seccomp"), "{inspected:?}");
    env.tripmine(["exec", &id, "--", "touch", "/tmp/stop"]).ok(0);
    let waited = env.tripmine(["wait", &id]);
    assert_eq!(waited.ok(0).split_whitespace().last(), Some("9"), "{waited:?}");
    let ended = env.tripmine(["ps", "-a"]);
    assert!(ended.ok(0).contains(&id[25..]) && ended.stdout.contains("exited"), "{ended:?}");
    assert!(!env.tripmine(["ps"]).ok(0).contains(&id[25..]));
    // What kept nothing needs no question; what was kept does.
    env.tripmine(["rm", &id]).ok(0);
    assert!(!env.tripmine(["ps", "-a"]).ok(0).contains(&id[25..]));
    assert!(env.records().is_empty());
}

/// `exec` has the same jail: nothing of it is weaker than the entry's.
#[test]
fn exec_has_the_same_jail() {
    let Some(env) = with_verbs("exec_has_the_same_jail") else { return };
    let look = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status; cat /proc/self/cgroup; readlink /proc/self/ns/*; ulimit -a; cat /proc/self/mountinfo; ls /proc/self/fd; pwd; umask";
    for options in [&[][..], &["--user", "root"], &["--seccomp", "strict"]] {
        let id = detached(&env, options, &format!("({look}) > /tmp/entry; touch /tmp/done; sleep 300"));
        until("the entry has looked", PATIENCE, || {
            env.tripmine(["exec", &id, "--", "test", "-e", "/tmp/done"]).code == 0
        });
        let entry = env.tripmine(["exec", &id, "--", "cat", "/tmp/entry"]).ok(0).to_owned();
        let exec = env.tripmine([
            "exec",
            &id,
            "--",
            "/bin/sh",
            "-c",
            &format!("({look}) > /tmp/exec; cat /tmp/exec"),
        ]);
        assert_eq!(exec.ok(0), entry, "{options:?}");
        let mut command = env.command(["exec", &id, "--", "env"]);
        command.env("API_TOKEN", "canary-4711");
        let output = crate::env::finish(command.spawn().unwrap(), PATIENCE);
        assert!(!output.ok(0).contains("canary-4711"));
        env.tripmine(["kill", &id]).ok(0);
    }
}

#[test]
fn exec_codes_streams_and_terminal() {
    let Some(env) = with_verbs("exec_codes_streams_and_terminal") else { return };
    let id = detached(&env, &[], "sleep 300");
    for code in [0, 1, 77, 255] {
        assert_eq!(env.tripmine(["exec", &id, "--", "/bin/sh", "-c", &format!("exit {code}")]).code, code);
    }
    assert_eq!(env.tripmine(["exec", &id, "--", "/bin/sh", "-c", "kill -KILL $$"]).code, 137);
    assert_eq!(env.tripmine(["exec", &id, "--", "no-such"]).code, 127);
    assert_eq!(env.tripmine(["exec", &id, "--", "/etc/passwd"]).code, 126);
    let output = env.tripmine(["exec", &id, "--", "/bin/sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let big = vec![b'z'; 3 << 20];
    assert_eq!(env.tripmine_with(&["exec", &id, "--", "wc", "-c"], &big).ok(0).trim(), big.len().to_string());
    assert_eq!(
        env.tripmine(["exec", "-e", "A=b", "-w", "/usr", &id, "--", "/bin/sh", "-c", "echo $A; pwd"]).ok(0),
        "b\n/usr"
    );
    let mut pty = Pty::tripmine(
        &env,
        &["exec", &id, "--", "/bin/sh", "-c", "tty; stty size; read x; echo got-$x; exit 3"],
    );
    pty.wait_for("30 120");
    pty.type_text("word\r");
    pty.wait_for("got-word");
    assert_eq!(pty.wait_exit(PATIENCE), 3);
    // Leaving a terminal session of exec ends nothing but the session.
    assert!(env.tripmine(["ps"]).ok(0).contains(&id[25..]));
    env.tripmine(["stop", "--time", "0", &id]).ok(0);
}

/// Two look, one types; typing can be taken over.
#[test]
fn two_viewers_one_writer() {
    let Some(env) = with_verbs("two_viewers_one_writer") else { return };
    let mut first = Pty::tripmine(
        &env,
        &["run", "host", "--", "/bin/sh", "-c", "echo ready; while read x; do echo heard-$x; done"],
    );
    first.wait_for("ready");
    let id = env.record()["id"].as_str().unwrap().to_owned();
    let mut second = Pty::tripmine(&env, &["attach", "--read-only", &id]);
    second.wait_for("ready");
    first.type_text("one\r");
    first.wait_for("heard-one");
    second.wait_for("heard-one");
    second.type_text("two\r");
    first.type_text("three\r");
    second.wait_for("heard-three");
    assert!(!first.shown().contains("heard-two"), "a viewer typed");
    let mut third = Pty::tripmine(&env, &["attach", "--take-over", &id]);
    third.wait_for("heard-three");
    third.type_text("four\r");
    third.wait_for("heard-four");
    first.wait_for("heard-four");
    first.wait_for("another terminal types now");
    first.type_text(LEAVE);
    assert_eq!(first.wait_exit(PATIENCE), 0);
    third.type_text("five\r");
    third.wait_for("heard-five");
    third.type_text("\x04");
    third.wait_exit(PATIENCE);
    second.wait_exit(PATIENCE);
    left::assert_nothing_left(&env);
}

/// Leaving and coming back shows the screen as it was.
#[test]
fn leaving_and_coming_back() {
    let Some(env) = with_verbs("leaving_and_coming_back") else { return };
    let mut pty = Pty::tripmine(
        &env,
        &[
            "run",
            "host",
            "--",
            "/bin/sh",
            "-c",
            "printf 'line one\\n\\033[1;32mgreen\\033[m\\nprompt> '; read x; echo got-$x; read y",
        ],
    );
    pty.wait_for("prompt>");
    pty.type_text(LEAVE);
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    pty.wait_for("tripmine attach");
    let id = env.record()["id"].as_str().unwrap().to_owned();
    let mut again = Pty::tripmine(&env, &["attach", &id[..12]]);
    again.wait_for("prompt>");
    again.wait_for("line one");
    again.type_text("back\r");
    again.wait_for("got-back");
    env.tripmine(["stop", "--time", "1", &id]).ok(0);
    again.wait_exit(PATIENCE);
}

/// What a quiet cube said a moment ago is in its log now, not when a buffer is full.
#[test]
fn logs_are_current() {
    let Some(env) = with_verbs("logs_are_current") else { return };
    for options in [&["-T"][..], &["-t"]] {
        let id = detached(&env, options, "echo said; touch /tmp/said; sleep 300");
        wait_inside(&env, &id, "/tmp/said");
        until(&format!("{options:?}: the log has it"), Duration::from_secs(5), || {
            env.tripmine(["logs", &id]).stdout.contains("said")
        });
        env.tripmine(["stop", "--time", "0", &id]).ok(0);
    }
}

/// stop: TERM, grace, KILL. Quick for what listens, certain for what does not.
#[test]
fn stop_is_polite_then_certain() {
    let Some(env) = with_verbs("stop_is_polite_then_certain") else { return };
    for options in [&["-T"][..], &["-t"]] {
        let polite = detached(
            &env,
            options,
            "trap 'sleep 0.1; exit 21' TERM; touch /tmp/ready; while :; do sleep 0.05; done",
        );
        wait_inside(&env, &polite, "/tmp/ready");
        env.tripmine(["stop", &polite]).ok(0);
        assert_eq!(env.record()["exit"]["code"], 21, "{options:?}: its own way of ending");
        assert_eq!(env.record()["exit"]["reason"]["kind"], "stopped");
        let deaf =
            detached(&env, options, "trap '' TERM HUP INT; touch /tmp/ready; while :; do sleep 0.05; done");
        wait_inside(&env, &deaf, "/tmp/ready");
        let begun = Instant::now();
        env.tripmine(["stop", "--time", "1", &deaf]).ok(0);
        assert!(
            begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(6),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(env.record()["exit"]["code"], 137);
    }
    let ids: Vec<String> = (0..3).map(|_| detached(&env, &[], "sleep 300")).collect();
    env.tripmine(["kill", "--all"]).ok(0);
    for id in ids {
        assert_eq!(env.tripmine(["wait", &id]).ok(0).split_whitespace().last(), Some("137"));
    }
    env.tripmine(["stop", "nope"]).fails(1, "nope");
}

#[test]
fn cubes_are_found_by_prefix_name_and_project() {
    let Some(env) = with_verbs("cubes_are_found_by_prefix_name_and_project") else { return };
    env.project("site");
    let id = env.tripmine(["-d", "site", "--", "sleep", "300"]).ok(0).trim().to_owned();
    env.tripmine(["run", "host", "-d", "--keep", "box", "--", "sleep", "300"]).ok(0);
    assert_eq!(env.tripmine(["exec", "site", "--", "pwd"]).ok(0), "/projects/site");
    assert_eq!(env.tripmine(["exec", &id[..15], "--", "pwd"]).ok(0), "/projects/site");
    env.tripmine(["exec", "box", "--", "true"]).ok(0);
    env.tripmine(["rename", "box", "crate"]).ok(0);
    env.tripmine(["exec", "crate", "--", "true"]).ok(0);
    env.tripmine(["-d", "site", "--", "sleep", "300"]).ok(0);
    let ambiguous = env.tripmine(["exec", "site", "--", "true"]);
    assert!(ambiguous.code != 0 && ambiguous.stderr.contains(&id[25..]), "it lists them: {ambiguous:?}");
    let stats = env.tripmine(["stats"]);
    assert!(stats.ok(0).contains("crate"), "{stats:?}");
    env.tripmine(["stop", "--all", "--time", "0"]).ok(0);
    assert_ne!(env.tripmine(["rm", "crate"]).code, 0, "nobody was there to say yes");
    env.tripmine(["exec", "crate", "--", "true"]).fails(125, "has ended");
    env.tripmine(["rm", "--yes", "--all"]).ok(0);
    assert!(env.tripmine(["ps", "-a", "--json"]).ok(0).len() < 80);
}

/// A machine or project in use is not removed under its cube.
#[test]
fn what_is_in_use_is_not_removed() {
    let Some(env) = with_verbs("what_is_in_use_is_not_removed") else { return };
    env.project("site");
    env.tripmine(["machine", "create", "work"]).ok(0);
    env.tripmine(["-m", "work", "-d", "site", "--", "sleep", "300"]).ok(0);
    for args in [
        &["machine", "rm", "work", "--yes"][..],
        &["machine", "reset-home", "work", "--yes"],
        &["project", "rm", "site", "--yes"],
        &["machine", "rename", "work", "play"],
    ] {
        let output = env.tripmine(args);
        assert!(output.code != 0, "{args:?}: {output:?}");
    }
    env.tripmine(["stop", "--all", "--time", "0"]).ok(0);
    env.tripmine(["project", "rm", "site", "--yes"]).ok(0);
    assert!(!env.projects.join("site").exists());
    env.tripmine(["undo"]).ok(0);
    assert!(env.projects.join("site").exists());
    env.tripmine(["machine", "rm", "work", "--yes"]).ok(0);
    env.tripmine(["prune", "--yes"]).ok(0);
}
