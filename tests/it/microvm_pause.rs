//! `pause` and `resume` of a microvm: it goes on where it was, once, and nothing is lost or left behind.
//!
//! They need QEMU 8.2 and virtiofsd 1.13: the host's own, or those of a system unpacked in the folder that
//! `TRIPMINE_TEST_ENGINE` names.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::env::{Env, alone, finish, signal, skip, until};
use crate::microvm::{BOOT, inside, vm, world_with};

/// The folder of the only cube.
fn folder(env: &Env) -> PathBuf {
    env.tripmine_home.join("state/Mines").join(env.record()["id"].as_str().unwrap())
}

fn saved(env: &Env) -> bool {
    folder(env).join("memory/state").exists() && !folder(env).join("memory/used").exists()
}

#[test]
fn a_paused_guest_goes_on_where_it_was_and_only_once() {
    let _alone = alone();
    let name = "a_paused_guest_goes_on_where_it_was_and_only_once";
    let engine = std::env::var("TRIPMINE_TEST_ENGINE").ok().filter(|path| !path.is_empty());
    let options: Vec<&str> = engine.iter().flat_map(|path| ["--engine", path.as_str()]).collect();
    let Some(env) = world_with(name, &options) else { return };
    let project = env.project("site");
    let counted = || std::fs::read_to_string(project.join("count")).unwrap_or_default();
    // It counts in memory, writes into a file that it holds open, prints, and hears.
    let script = "exec 4>/projects/site/held; exec 3>>/projects/site/count; n=0; echo is-up; \
                  while :; do n=$((n+1)); echo $n >&3; if read -t 0.2 -r word; then echo heard $word at $n; fi; done";
    let launch = ["--jail", "microvm", "--keep", "box", "-d", "site", "--", "/bin/bash", "-c", script];
    vm(&env, &launch).ok(0);
    until("the guest is up", BOOT, || vm(&env, &["logs", "box"]).stdout.contains("is-up"));
    let version = vm(&env, &["vm", "show"]).stdout;
    let refused = env.record()["cannot_pause"].as_str().map(str::to_owned);
    if let Some(why) = refused {
        // An engine that cannot: said by name, and the cube runs on.
        let said = vm(&env, &["pause", "box"]);
        said.fails(1, "cannot be paused: ");
        assert!(said.stderr.contains("QEMU 8.2") || said.stderr.contains("1.13"), "{}", said.stderr);
        assert!(said.stderr.contains("tripmine vm setup --engine"), "{}", said.stderr);
        assert!(env.runs(env.record()["id"].as_str().unwrap()));
        vm(&env, &["kill", "box"]).ok(0);
        vm(&env, &["rm", "--yes", "box"]).ok(0);
        skip(name, &format!("{why}: {}", version.replace('\n', " ")));
        return;
    }
    let boot = || vm(&env, &["exec", "box", "--", "cat", "/proc/sys/kernel/random/boot_id"]).ok(0).to_owned();
    let first = boot();
    vm(&env, &["exec", "box", "--", "/bin/sh", "-c", "echo in-memory > /tmp/kept; echo on-disk > /opt/kept"])
        .ok(0);

    // A file that was deleted and is in use could not be given back: refused, and the cube runs on. In the guest's own memory
    // it can.
    let uses = |place: &str| {
        let script = format!("exec 3>{place}; rm {place}; sleep 300");
        let child = env.command(["exec", "box", "--", "/bin/sh", "-c", &script]).spawn().unwrap();
        let find = format!("for f in /proc/[0-9]*/fd/3; do readlink $f; done | grep -q '^{place} (deleted)'");
        until("it is deleted", BOOT, || vm(&env, &["exec", "box", "--", "/bin/sh", "-c", &find]).code == 0);
        child
    };
    let mut child = uses("/opt/gone");
    vm(&env, &["pause", "box"]).fails(1, "uses a file that was deleted");
    assert!(!saved(&env) && !folder(&env).join("memory.part").exists());
    rustix::process::kill_process(crate::env::pid(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    vm(&env, &["exec", "box", "--", "/bin/sh", "-c", "pkill -x sleep; true"]).ok(0);
    let mut child = uses("/tmp/gone");

    // Saved, ended, nothing left of it but its folder.
    vm(&env, &["pause", "box"]).ok(0);
    let shown: Value = serde_json::from_str(vm(&env, &["inspect", "box"]).ok(0)).unwrap();
    assert!(shown.to_string().contains("paused"), "{shown}");
    child.wait().unwrap();
    assert!(vm(&env, &["ps", "-a"]).ok(0).contains("paused, kept"));
    assert!(saved(&env));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder(&env).join("memory/state")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "memory holds secrets");
    let before = counted();
    let lines = before.lines().count();
    assert!(lines > 0);
    vm(&env, &["exec", "box", "--", "true"]).fails(125, "is paused");

    // What is deleted while it is paused is an error for whoever used it, and no more.
    std::fs::remove_file(project.join("held")).unwrap();

    // Two at once: one goes on, the other is told.
    let both = [0, 1].map(|_| env.command(["resume", "-d", "box"]).spawn().unwrap());
    let codes = both.map(|child| finish(child, BOOT));
    let good = codes.iter().filter(|output| output.code == 0).count();
    assert_eq!(good, 1, "{codes:?}");
    let told = codes.iter().find(|output| output.code != 0).unwrap();
    assert!(told.stderr.contains("runs") || told.stderr.contains("running"), "{}", told.stderr);
    vm(&env, &["resume", "-d", "box"]).fails(125, "running");

    // Where it was: the same boot, the same memory, the next number.
    assert_eq!(boot(), first, "it is the same guest");
    let kept = vm(&env, &["exec", "box", "--", "cat", "/tmp/kept", "/opt/kept"]);
    assert_eq!(kept.ok(0), "in-memory\non-disk");
    until("it counts on", BOOT, || counted().lines().count() > lines + 2);
    let after = counted();
    assert!(after.starts_with(&before), "nothing is written twice or lost");
    let numbers: Vec<usize> = after.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len()), "{numbers:?}");
    let mut pty = crate::pty::Pty::tripmine(&env, &["attach", "box"]);
    pty.wait_for("leaves it running");
    pty.type_text("you\n");
    pty.wait_for("heard you at");
    pty.type_text("\u{1d}d");
    assert_eq!(pty.wait_exit(BOOT), 0);

    // What was saved and cannot be read leaves it as it was; put right, it goes on.
    vm(&env, &["pause", "box"]).ok(0);
    let state = folder(&env).join("memory/state");
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    let broken = vm(&env, &["resume", "-d", "box"]);
    if broken.code == 0 {
        until("the cube has failed", BOOT, || env.record()["state"] == "failed");
        let logs = vm(&env, &["logs", "box"]).stdout;
        assert!(logs.contains("the saved machine cannot be read"), "{logs}");
    }
    assert!(saved(&env), "it can be tried again");
    // Another machine is not the one that was saved.
    std::fs::write(&state, &whole).unwrap();
    let other = vm(&env, &["--jail", "microvm", "--keep", "box", "-d", "site", "--", "true"]);
    other.fails(125, "is paused, and would not go on as it was: another command");
    vm(&env, &["attach", "box", "--read-only"]).fails(1, "is paused");
    vm(&env, &["resume", "-d", "box"]).ok(0);
    assert_eq!(boot(), first);

    // Killed while it runs on: its files are newer than its memory, which is of no use any more.
    let machine = inside(&env, "qemu-system");
    signal(i32::try_from(env.record()["keeper"]["pid"].as_i64().unwrap()).unwrap(), Signal::KILL);
    for pid in machine {
        until("the machine is gone", BOOT, || {
            !std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().starts_with("qemu")
        });
    }
    assert!(!saved(&env));
    assert_ne!(vm(&env, &["resume", "-d", "box"]).code, 0, "there is nothing to go on from");

    // It begins anew. Its memory given up, its files are kept, and nothing is left.
    vm(&env, &launch).ok(0);
    until("it has begun anew", BOOT, || vm(&env, &["logs", "box"]).stdout.matches("is-up").count() > 1);
    assert_ne!(boot(), first, "another boot");
    assert_eq!(vm(&env, &["exec", "box", "--", "cat", "/opt/kept"]).ok(0), "on-disk");
    vm(&env, &["pause", "box"]).ok(0);
    vm(&env, &["resume", "--forget", "box"]).ok(0);
    assert!(!folder(&env).join("memory").exists() && !folder(&env).join("memory.part").exists());
    assert!(!vm(&env, &["ps", "-a"]).ok(0).contains("paused"));
    vm(&env, &["resume", "box"]).fails(125, "is not paused");
    vm(&env, &["rm", "--yes", "box"]).ok(0);
}
