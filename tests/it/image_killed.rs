//! Killed at every write, or out of disk: the store stays valid, and the next command clears what was left.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::env::{Env, Output, alone, finish, is_root, skip};
use crate::image_peers::has;
use crate::image_root::import;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Every call that changes something of a file system or of what another process sees.
const WRITES: &str = "write,writev,pwrite64,copy_file_range,rename,renameat,renameat2,fsync,fdatasync,mkdir,mkdirat,link,linkat,\
    symlink,symlinkat,mknod,mknodat,unlink,unlinkat,rmdir,ftruncate,fallocate,setxattr,fsetxattr,fchmod,fchmodat,fchown,fchownat,utimensat,flock";
/// More places than that are tried with a stride: a gate has other tests to run.
const PLACES: usize = 60;

fn traced(env: &Env, more: &[&str], args: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qqq", "-e", "signal=none"]).args(more).arg(env.binary()).args(args);
    command.env_clear().envs(env.variables()).current_dir(env.root());
    finish(
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
        PATIENCE,
    )
}

/// The store holds what it held, and nothing half done that another command would meet.
fn valid(env: &Env, names: &[&str], at: usize) {
    let checked = env.tripmine(["image", "check"]);
    assert_eq!(checked.code, 0, "killed at {at}: {checked:?}");
    let listed = env.tripmine(["image", "list"]);
    for name in names {
        assert!(listed.ok(0).contains(name), "killed at {at}: {listed:?}");
        let run = env.tripmine(["run", name, "--", "cat", "/opt/mark"]);
        assert_eq!(run.ok(0), "image", "killed at {at}: {name}");
    }
}

/// The same at instants: an ordinary user's strace would take the privilege of newuidmap(1) away.
fn killed_at_instants(env: &Env, args: &[&str], names: &[&str], undo: &[&str]) {
    const ROUNDS: u32 = 24;
    let begun = Instant::now();
    env.tripmine(args.iter()).ok(0);
    let whole = begun.elapsed();
    env.tripmine(undo.iter()).ok(0);
    let mut cut = 0;
    for round in 0..ROUNDS {
        let mut child = env.command(args.iter()).spawn().unwrap();
        let instant = Instant::now() + whole * round / ROUNDS;
        while Instant::now() < instant && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(std::time::Duration::from_micros(200));
        }
        // One that has just ended cannot be killed any more.
        let _ended = child.kill();
        let done = finish(child, PATIENCE).code == 0;
        cut += u32::from(!done);
        if round.is_multiple_of(4) {
            valid(env, names, round as usize);
        }
        if done {
            env.tripmine(undo.iter()).ok(0);
        }
    }
    assert!(cut > 0, "none was killed");
    env.tripmine(args.iter()).ok(0);
    valid(env, names, 0);
    let left = fs::read_dir(env.tripmine_home.join("data/ingest")).unwrap().flatten().count();
    assert_eq!(left, 0);
}

/// Runs `args` and kills all of its processes at once, as a power cut does, when together they have made so many calls that
/// change something. How many they made; fewer: it came to its end before.
fn cut_after(env: &Env, args: &[&str], calls: usize) -> usize {
    let trace = format!("trace={WRITES}");
    let mut command = Command::new("strace");
    command.args(["-f", "-qqq", "-e", "signal=none", "-e", &trace]).arg(env.binary()).args(args);
    command.env_clear().envs(env.variables()).current_dir(env.root()).process_group(0);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let group = Pid::from_child(&child);
    let mut made = 0;
    // To its end: by then whoever held it is gone.
    for line in BufReader::new(child.stderr.take().unwrap()).split(b'\n') {
        made += usize::from(line.unwrap().windows(4).any(|part| part == b") = "));
        if made == calls {
            // They may have ended just now.
            let _killed = kill_process_group(group, Signal::KILL);
        }
    }
    child.wait().unwrap();
    made
}

/// Cuts `args` off after its first write, its second, and so on to its end, wherever in its processes and threads that is.
fn cut_at_every_write(env: &Env, args: &[&str], names: &[&str], undo: &[&str]) {
    let calls = cut_after(env, args, usize::MAX);
    assert!(calls > 10, "{calls}");
    env.tripmine(undo.iter()).ok(0);
    env.tripmine(["prune", "--yes"]).ok(0);
    let stride = calls.div_ceil(PLACES).max(1);
    let (mut tried, mut cut) = (0, 0);
    for at in (1..=calls).step_by(stride) {
        cut_after(env, args, at);
        tried += 1;
        let done = env.tripmine(["image", "list"]).stdout.contains("more");
        cut += usize::from(!done);
        if at % (stride * 4) == 1 || done {
            valid(env, names, at);
        }
        // The next one succeeds, whatever the last left, and clears it.
        if at % (stride * 8) == 1 {
            env.tripmine(args.iter()).ok(0);
            cleared(env);
        }
        if done || at % (stride * 8) == 1 {
            env.tripmine(undo.iter()).ok(0);
        }
        // What it brought in stays for the next one, which would have less to do and to be cut off at.
        env.tripmine(["prune", "--yes"]).ok(0);
    }
    // What comes after the name is no cut any more, and where nothing slows it down it runs on while its calls are counted.
    assert!(cut * 3 > tried, "only {cut} of {tried} were cut off");
    env.tripmine(args.iter()).ok(0);
    valid(env, names, 0);
    env.tripmine(undo.iter()).ok(0);
    env.tripmine(["prune", "--yes"]).ok(0);
    cleared(env);
}

/// Nothing half done is left.
fn cleared(env: &Env) {
    for folder in ["data/ingest", "data/draft", "data/images/partial"] {
        let left: Vec<_> = fs::read_dir(env.tripmine_home.join(folder))
            .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}

/// Lets one process of `args` die at its first write, its second, and so on, while the others live; then the same for all of
/// them, and at instants.
fn killed_at_every_write(env: &Env, args: &[&str], names: &[&str], undo: &[&str]) {
    if !is_root() {
        return killed_at_instants(env, args, names, undo);
    }
    let log = env.root().join("calls");
    let trace = format!("trace={WRITES}");
    let whole = traced(env, &["-e", &trace, "-o", log.to_str().unwrap()], args);
    assert_eq!(whole.code, 0, "{whole:?}");
    env.tripmine(undo.iter()).ok(0);
    // The calls of each process on their own: that is how strace counts them.
    let mut most = std::collections::BTreeMap::<String, usize>::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        *most.entry(line.split_whitespace().next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let calls = most.values().copied().max().unwrap_or(0);
    assert!(calls > 10, "{most:?}");
    let stride = calls.div_ceil(PLACES / 2).max(1);
    let mut cut = 0;
    for at in (1..=calls).step_by(stride).chain([calls - 1, calls]) {
        let inject = format!("inject={WRITES}:signal=KILL:when={at}");
        let killed = traced(env, &["-e", &trace, "-e", &inject, "-o", "/dev/null"], args);
        cut += usize::from(killed.code != 0);
        if at % (stride * 4) == 1 || killed.code == 0 || at + 2 >= calls {
            valid(env, names, at);
        }
        if killed.code == 0 {
            // It came to its end before that write; a next one would find all of it there.
            env.tripmine(undo.iter()).ok(0);
        }
        // What it brought in stays for the next one, which would have less to do and to be killed at.
        env.tripmine(["prune", "--yes"]).ok(0);
    }
    assert!(cut > 0, "none of {calls} was killed");
    cut_at_every_write(env, args, names, undo);
    killed_at_instants(env, args, names, undo);
}

#[test]
fn an_import_killed_at_every_write_leaves_a_valid_store() {
    let name = "an_import_killed_at_every_write_leaves_a_valid_store";
    if !has(name, &["strace"]) {
        return;
    }
    let _alone = alone();
    let env = Env::new();
    import(&env, "kept", |_| {});
    let folder = env.root().join("more");
    crate::image_root::root(&folder);
    symlink("a", folder.join("opt/l")).unwrap();
    killed_at_every_write(
        &env,
        &["image", "import", "--compress", "gzip", folder.to_str().unwrap(), "more"],
        &["kept"],
        &["image", "rm", "--yes", "more"],
    );
}

#[test]
fn a_snapshot_killed_at_every_write_leaves_a_valid_store() {
    let name = "a_snapshot_killed_at_every_write_leaves_a_valid_store";
    if !has(name, &["strace"]) {
        return;
    }
    let _alone = alone();
    let env = Env::new();
    import(&env, "kept", |_| {});
    let script = "mkdir /opt/d; cat /opt/mark > /opt/d/a; : > /opt/b; : > /var/x";
    let script = script.replace("mkdir /opt/d; ", "").replace("/opt/d/a", "/opt/a");
    env.tripmine(["run", "kept", "--keep", "box", "--", "sh", "-c", &script]).ok(0);
    killed_at_every_write(
        &env,
        &["image", "snapshot", "more", "box"],
        &["kept"],
        &["image", "rm", "--yes", "more"],
    );
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

/// A pull of what is here already needs no layer: the image that it has goes first, so that all of it comes again.
pub(crate) fn pull_killed(env: &Env, pull: &[&str]) {
    let _alone = alone();
    env.tripmine(["image", "rm", "--yes", "kept"]).ok(0);
    env.tripmine(["prune", "--yes"]).ok(0);
    import(env, "other", |root| fs::write(root.join("opt/other"), "other").unwrap());
    let undo = ["image", "rm", "--yes", "more"];
    // An ordinary user's strace would take the privilege of newuidmap(1) away; a pull needs none, but what is launched does.
    if is_root() {
        cut_at_every_write(env, pull, &["other"], &undo);
    }
    killed_at_instants(env, pull, &["other"], &undo);
}

#[test]
fn a_snapshot_of_a_running_cube_that_is_killed_lets_the_cube_go_on() {
    let name = "a_snapshot_of_a_running_cube_that_is_killed_lets_the_cube_go_on";
    if !has(name, &["strace"]) {
        return;
    }
    let env = Env::new();
    let script = "i=0; while :; do i=$((i+1)); echo $i > /var/count; done";
    let id = env.tripmine(["run", "host", "-d", "--", "/bin/sh", "-c", script]).ok(0).to_owned();
    let trace = format!("trace={WRITES}");
    for at in [5, 15, 25, 40, 60] {
        let inject = format!("inject={WRITES}:signal=KILL:when={at}");
        traced(&env, &["-e", &trace, "-e", &inject, "-o", "/dev/null"], &["image", "snapshot", "x", &id]);
        let count = || env.tripmine(["exec", &id, "--", "cat", "/var/count"]).stdout;
        let before = count();
        crate::env::until("it goes on", PATIENCE, || count() != before);
    }
    env.tripmine(["image", "snapshot", "good", &id]).ok(0);
    env.tripmine(["image", "check"]).ok(0);
    env.tripmine(["kill", &id]).ok(0);
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    let name = "a_full_disk_leaves_the_store_as_it_was";
    if !is_root() {
        return skip(name, "only root can mount a small file system");
    }
    let env = Env::new();
    let data = env.tripmine_home.join("data");
    fs::create_dir(&data).unwrap();
    let mount = |argv: &[&str]| Command::new(argv[0]).args(&argv[1..]).stderr(Stdio::null()).status();
    let made = mount(&["mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", data.to_str().unwrap()]);
    if !made.is_ok_and(|status| status.success()) {
        return skip(name, "this host mounts nothing for its root");
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| full(&env)));
    assert!(mount(&["umount", "-l", data.to_str().unwrap()]).unwrap().success());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn full(env: &Env) {
    import(env, "kept", |_| {});
    let folder = env.root().join("large");
    crate::image_root::root(&folder);
    fs::write(folder.join("opt/large"), vec![7; 30 << 20]).unwrap();
    env.tripmine(["image", "import", folder.to_str().unwrap(), "large"]).fails(1, "No space left");
    let big = "i=0; while [ $i -lt 700 ]; do cat /bin/sh; i=$((i+1)); done > /opt/large";
    let run = env.tripmine([
        "run",
        "kept",
        "-d",
        "--",
        "sh",
        "-c",
        &format!("{big}; : > /tmp/ready; while :; do cat /opt/mark; done"),
    ]);
    let id = run.ok(0).to_owned();
    crate::env::until("it has written", PATIENCE, || {
        env.tripmine(["exec", &id, "--", "ls", "/tmp/ready"]).code == 0
    });
    env.tripmine(["image", "snapshot", "large", &id]).fails(1, "No space left");
    env.tripmine(["kill", &id]).ok(0);
    valid(env, &["kept"], 0);
    assert!(!env.tripmine(["image", "list"]).stdout.contains("large"));
    assert!(!env.tripmine_home.join("data/draft").exists());
    env.tripmine(["prune", "--yes"]).ok(0);
}
