//! Faces that stop reading, cannot write, or have half a terminal: the cube is ended when that is asked for, and what goes on is
//! said.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::{Env, PATIENCE, finish, signal, skip, until};
use crate::pty::Pty;

/// A terminal that is held (Ctrl-S, a stopped process, a window on a dead connection) keeps nobody from ending its cube, and the
/// end is written down.
#[test]
fn a_face_that_does_not_read_cannot_hold_the_end() {
    let env = Env::new();
    let face = Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", "echo ready; sleep 0.2; yes"]);
    face.wait_for("ready");
    let id = env.record()["id"].as_str().unwrap().to_owned();
    signal(face.pid(), Signal::STOP);
    let log = env.tripmine_home.join("state/Mines").join(&id).join("log");
    let mut before = 0;
    until("everything between the cube and its face is full", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(300));
        let files = std::fs::read_dir(&log).into_iter().flatten().flatten();
        let now = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>();
        std::mem::replace(&mut before, now) == now && now > 0
    });
    let begun = Instant::now();
    env.tripmine(["stop", "--time", "1", &id]).ok(0);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(env.record()["state"], "exited");
    assert_eq!(env.record()["exit"]["reason"]["kind"], "stopped");
    env.tripmine(["rm", &id]).ok(0);
    signal(face.pid(), Signal::CONT);
}

/// The end of a file or pipe is typed at a terminal that was asked for: what reads to the end comes to its end.
#[test]
fn the_end_of_input_reaches_a_terminal() {
    let env = Env::new();
    for input in [&b"one\ntwo\n"[..], b"one\ntwo", b""] {
        let output = env
            .tripmine_with(&["run", "host", "-t", "--", "/bin/sh", "-c", "stty -echo; echo r; wc -l"], input);
        let lines = input.iter().filter(|byte| **byte == b'\n').count().to_string();
        assert_eq!(output.ok(0).split_whitespace().last(), Some(lines.as_str()), "{input:?}: {output:?}");
    }
    // Who looks in from a script ends nobody's shell.
    let id = env
        .tripmine(["run", "host", "-d", "--", "/bin/sh", "-c", "echo here; cat; echo ended"])
        .ok(0)
        .to_owned();
    let mut watcher = env.command(["attach", &id]).spawn().unwrap();
    until("it was attached", PATIENCE, || env.tripmine(["events", &id]).stdout.contains("attached"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(env.runs(&id));
    signal(crate::env::pid(&watcher).as_raw_nonzero().get(), Signal::INT);
    watcher.wait().unwrap();
    env.tripmine(["stop", "--time", "0", &id]).ok(0);
}

/// A terminal that vanishes has typed nothing, the end of input neither: what reads on is there to come back to.
#[test]
fn a_vanished_terminal_types_nothing() {
    let env = Env::new();
    for _ in 0..3 {
        let mut pty =
            Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", "echo ready; cat; echo over"]);
        pty.wait_for("ready");
        let id = env.record()["id"].as_str().unwrap().to_owned();
        pty.hang_up();
        assert_eq!(pty.wait_exit(PATIENCE), 129);
        std::thread::sleep(Duration::from_millis(200));
        assert!(env.runs(&id), "it was ended");
        env.tripmine(["stop", "--time", "0", &id]).ok(0);
    }
}

/// Output that cannot be written ends the launch with a failure that says so, and that the cube runs on.
#[test]
fn a_full_disk_behind_the_output_is_said() {
    let env = Env::new();
    let mut command = env.command(["run", "host", "--", "/bin/sh", "-c", "echo x; sleep 300"]);
    let said = env.root().join("said");
    command.stdout(Stdio::from(File::options().write(true).open("/dev/full").unwrap()));
    command.stderr(Stdio::from(File::create(&said).unwrap()));
    assert_eq!(finish(command.spawn().unwrap(), PATIENCE).code, 125);
    let (id, said) =
        (env.record()["id"].as_str().unwrap().to_owned(), std::fs::read_to_string(said).unwrap());
    assert!(said.contains("No space left"), "{said}");
    assert!(said.contains(&format!("tripmine stop {}", &id[25..])), "{said}");
    assert!(env.runs(&id));
    env.tripmine(["stop", "--time", "0", &id]).ok(0);
}

/// Two homes of one user share the runtime folder. What one clears away is never the other's.
#[test]
fn a_sweep_leaves_the_cubes_of_another_home_alone() {
    let env = Env::new();
    let run = env.root().join("run");
    std::fs::create_dir(&run).unwrap();
    let in_home = |name: &str, args: &[&str]| {
        let home = env.root().join(name);
        let mut command = env.command(args);
        command.env_remove("TRIPMINE_HOME").env("HOME", &home).env("XDG_RUNTIME_DIR", &run);
        finish(command.spawn().unwrap(), PATIENCE)
    };
    for name in ["a", "b"] {
        std::fs::create_dir(env.root().join(name)).unwrap();
    }
    let id = in_home("a", &["run", "host", "-d", "--", "sleep", "300"]).ok(0).to_owned();
    in_home("b", &["run", "host", "--", "true"]).ok(0);
    in_home("b", &["ps"]).ok(0);
    in_home("a", &["exec", &id, "--", "true"]).ok(0);
    in_home("a", &["stop", "--time", "0", &id]).ok(0);
    until("nothing is left", PATIENCE, || std::fs::read_dir(run.join("tripmine")).unwrap().count() == 0);
}

/// A cube that is at its limit of processes says so to whoever would start another, and a log that is not kept is no empty one.
#[test]
fn limits_and_logs_explain_themselves() {
    let env = Env::new();
    if env.tripmine(["run", "host", "--", "perl", "-e", "1"]).code == 127 {
        return skip("limits_and_logs_explain_themselves", "there is no perl in /usr");
    }
    // Asked again for a while: the helper that captures the net is one of the cube's processes for a moment.
    let fill = "my $full = 0; while ($full < 25) { my $p = fork; if (!defined $p) { $full++; select undef, undef, undef, 0.02; next } if (!$p) { sleep 100; exit } } print qq(full\n); sleep 100";
    let id =
        env.tripmine(["run", "host", "-d", "--pids", "3", "--", "perl", "-e", &format!("$| = 1; {fill}")]);
    let id = id.ok(0).to_owned();
    until("it is full", PATIENCE, || env.tripmine(["logs", &id]).stdout.contains("full"));
    env.tripmine(["exec", &id, "--", "true"]).fails(126, "limit of processes");
    env.tripmine(["stop", "--time", "0", &id]).ok(0);
    env.tripmine(["run", "host", "--", "echo", "hi"]).ok(0);
    let last = env.record()["id"].as_str().unwrap().to_owned();
    let logs = env.tripmine(["logs", &last]);
    assert!(logs.ok(0).is_empty() && logs.stderr.contains("nothing is logged"), "{logs:?}");
}

/// A mistake in `config.toml` keeps nobody from seeing and ending what runs; nothing is started, and nothing is forgotten.
#[test]
fn what_runs_can_be_ended_whatever_the_configuration_says() {
    let env = Env::new();
    let id = env.tripmine(["run", "host", "-d", "--", "sleep", "300"]).ok(0).to_owned();
    env.config("version = 1\nlog_retention = \"1d\"\nleeder = \"none\"\n");
    for args in [&["ps"][..], &["inspect", &id], &["logs", &id], &["version"], &["stop", "--time", "0", &id]]
    {
        let output = env.tripmine(args);
        output.ok(0);
        assert!(output.stderr.contains("config.toml:3:1"), "{args:?}: {output:?}");
    }
    for args in [&["run", "host", "--", "true"][..], &["prune", "--yes"], &["project", "create", "x"]] {
        let output = env.tripmine(args);
        assert!(output.code != 0 && output.stderr.contains("did you mean `leader`"), "{args:?}: {output:?}");
    }
    assert_eq!(env.records().len(), 1);
}

/// `TRIPMINE_MACHINE` means the same to whatever looks for projects.
#[test]
fn the_machine_of_a_variable_is_everybodys() {
    let env = Env::new();
    let root = env.root().join("own");
    env.tripmine(["machine", "create", "work", "--projects", root.to_str().unwrap()]).ok(0);
    let on_work = |args: &[&str]| {
        let mut command = env.command(args);
        finish(command.env("TRIPMINE_MACHINE", "work").spawn().unwrap(), PATIENCE)
    };
    on_work(&["project", "create", "site"]).ok(0);
    assert!(root.join("site").is_dir());
    assert_eq!(on_work(&["site", "--", "pwd"]).ok(0), "/projects/site");
}

/// Of several launches at once that would keep a cube under one name, one makes it.
#[test]
fn a_name_is_given_once() {
    let env = Env::new();
    let args = ["run", "host", "--keep", "lab", "--", "/bin/sh", "-c", "sleep 1"];
    let children: Vec<_> = (0..4).map(|_| env.command(args).spawn().unwrap()).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| finish(child, PATIENCE)).collect();
    assert_eq!(env.records().len(), 1, "{outputs:?}");
    let busy = outputs.iter().filter(|output| output.code == 125 && output.stderr.contains("is running"));
    assert_eq!(busy.count(), 3, "{outputs:?}");
    env.tripmine(["rm", "--yes", "lab"]).ok(0);
}

/// What a person types first: a program in the folder where he stands, which no cube sees. He is told how it would.
#[test]
fn a_program_of_the_host_is_pointed_out() {
    let env = Env::new();
    std::fs::write(env.home.join("setup"), "#!/bin/sh\n").unwrap();
    let output = env.tripmine(["run", "host", "--", "./setup"]);
    output.fails(127, "tripmine --mount . -- ./setup");
    assert!(!env.tripmine(["run", "host", "--", "./other"]).stderr.contains("--mount"));
}

/// `log_size` in `config.toml` is how large a file of a log gets.
#[test]
fn the_size_of_a_log_is_as_configured() {
    let env = Env::new();
    env.config("version = 1\nlog_size = \"64K\"\n");
    env.tripmine(["run", "host", "-t", "--", "/bin/sh", "-c", "yes | head -c 500000"]).ok(0);
    let log = env.tripmine_home.join("state/Mines").join(env.record()["id"].as_str().unwrap()).join("log");
    let sizes: Vec<u64> = std::fs::read_dir(log)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with("log."))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= 2 * 65536), "{sizes:?}");
}

/// A limit that the keeper watches is named when it ends the cube.
#[test]
fn a_watched_limit_is_named() {
    let env = Env::new();
    let fill = "dd if=/dev/zero of=/var/tmp/full bs=1M count=24 2>/dev/null; sleep 60";
    let output = env.inside_with(&["--keep", "box", "--disk", "8M"], fill);
    output.fails(137, "`--disk`");
    assert_eq!(env.record()["exit"]["reason"]["kind"], "over-limit");
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

/// A kept cube belongs to its machine and lies on its image, whatever becomes of their names.
#[test]
fn a_kept_cube_follows_its_machine_and_keeps_its_image() {
    let env = Env::new();
    env.tripmine(["machine", "create", "work"]).ok(0);
    let make = [
        "run",
        "host",
        "-m",
        "work",
        "--keep",
        "lab",
        "--",
        "/bin/sh",
        "-c",
        "echo >> /var/tmp/x; wc -l < /var/tmp/x",
    ];
    assert_eq!(env.tripmine(make).ok(0).trim(), "1");
    env.tripmine(["machine", "rename", "work", "play"]).ok(0);
    assert_eq!(env.tripmine(["attach", "lab"]).ok(0).trim(), "2");
    // The machine starts from something else by now; this cube does not.
    let root = env.root().join("tree");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    env.tripmine(["image", "import", root.to_str().unwrap(), "other"]).ok(0);
    env.tripmine(["machine", "set-image", "play", "other"]).ok(0);
    assert_eq!(env.tripmine(["attach", "lab"]).ok(0).trim(), "3");
    // An image that something kept lies on, by a name that is another's by now, is not deleted beneath it.
    let base = env.root().join("base");
    std::fs::create_dir_all(base.join("etc")).unwrap();
    for version in ["one", "two"] {
        std::fs::write(base.join("etc/version"), version).unwrap();
        env.tripmine(["image", "import", base.to_str().unwrap(), "dev"]).ok(0);
        if version == "one" {
            // There is nothing in it to start: kept it is all the same.
            env.tripmine(["run", "dev", "--keep", "old", "--", "/none"]).fails(127, "/none");
        }
    }
    let refused = env.tripmine(["image", "rm", "--yes", "dev@1"]);
    assert!(refused.code == 1 && refused.stderr.contains("`old`"), "{refused:?}");
    env.tripmine(["attach", "old"]).fails(127, "/none");
    env.tripmine(["rm", "--yes", "old"]).ok(0);
    env.tripmine(["image", "rm", "--yes", "dev"]).ok(0);
    let asked = env.tripmine(["machine", "rm", "play"]);
    assert!(asked.code != 0 && asked.stderr.contains("`lab` stays"), "{asked:?}");
    env.tripmine(["machine", "rm", "--yes", "play"]).ok(0);
    let lost = env.tripmine(["attach", "lab"]);
    assert!(lost.code != 0 && lost.stderr.contains("tripmine undo play"), "{lost:?}");
    env.tripmine(["undo", "play"]).ok(0);
    assert_eq!(env.tripmine(["attach", "lab"]).ok(0).trim(), "4");
    env.tripmine(["rm", "--yes", "lab"]).ok(0);
}
