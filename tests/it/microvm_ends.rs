//! How a guest ends or stops answering, whatever it does: the cube ends with a reason, or is ended.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::{Env, alone, signal, until};
use crate::microvm::{BOOT, inside, running, vm, world};

/// A guest that has ended must not be waited for.
const SOON: Duration = Duration::from_secs(20);

/// Starts a guest whose root does `script` on its own kernel; the cube must have failed soon after, saying `words`.
fn ends(env: &Env, script: &str, words: &str) {
    // Nobody but a kernel of its own lets this root do such things. It sleeps first, so that "is-up" is seen.
    let id = running(env, &["--user", "root"], &format!("({script}) >/dev/null 2>&1 </dev/null &"));
    let begun = Instant::now();
    until(&format!("the cube has failed: {words}"), SOON, || env.record()["state"] == "failed");
    assert!(begun.elapsed() < SOON);
    let logs = vm(env, &["logs", &id]);
    assert!(logs.stdout.contains(words), "`{words}`: {}", logs.stdout);
    assert_eq!(env.record()["exit"]["code"], 125, "{}", env.record());
}

#[test]
fn a_guest_that_switches_itself_off_panics_or_lies_ends_its_cube_with_the_reason() {
    let _alone = alone();
    let name = "a_guest_that_switches_itself_off_panics_or_lies_ends_its_cube_with_the_reason";
    let Some(env) = world(name) else { return };
    // reboot(2): power off.
    let off = "sleep 3; perl -e 'syscall(169, 0xfee1dead, 672274793, 0x4321fedc, 0)'";
    ends(&env, off, "the guest was switched off");
    let panic = "sleep 3; mkdir /tmp/p; mount -t proc proc /tmp/p; echo 1 > /tmp/p/sys/kernel/sysrq; echo c > /tmp/p/sysrq-trigger";
    ends(&env, panic, "the guest's kernel panicked");
    // Its root takes the agent's own descriptor (pidfd_getfd(2)) and says what no agent says.
    let lie = "sleep 3; perl -e '$p = syscall(434, 1, 0); for $n (0..63) { next unless readlink(\"/proc/1/fd/$n\") =~ /vport/; \
               $d = syscall(438, $p, $n, 0); $b = \"\\xff\" x 64; syscall(1, $d, $b, 64) }'";
    ends(&env, lie, "the guest broke the agent's protocol");
}

#[test]
fn a_guest_that_floods_or_hangs_is_told_and_can_be_ended() {
    let _alone = alone();
    let Some(env) = world("a_guest_that_floods_or_hangs_is_told_and_can_be_ended") else { return };
    // A flood on its console, which nobody reads but the shim.
    let flood = "mknod /tmp/c c 4 64; (yes flood > /tmp/c) </dev/null >/dev/null 2>&1 &";
    let id = running(&env, &["--user", "root"], flood);
    let answer = vm(&env, &["exec", &id, "--", "echo", "still here"]);
    assert_eq!(answer.ok(0), "still here");
    let shim = inside(&env, "shim");
    let resident = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert!(!shim.is_empty());
    for pid in &shim {
        assert!(resident(pid) < 64 << 10, "{} KiB of a flood", resident(pid));
    }
    // Its processors stand still: it answers nothing any more.
    let machine = inside(&env, "qemu-system");
    machine.iter().for_each(|pid| signal(*pid, Signal::STOP));
    let mut exec = env.command(["exec", &id, "--", "true"]).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(exec.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
    assert!(said.contains("the guest has not answered for 10 s"), "{said}");
    let begun = Instant::now();
    vm(&env, &["stop", "-t", "1", &id]).ok(0);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let _gone = exec.wait().unwrap();
    machine.iter().for_each(|pid| signal(*pid, Signal::CONT));
    until("the machine is gone", BOOT, || {
        machine.iter().all(|pid| {
            !std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().starts_with("qemu")
        })
    });
    // Too little memory to boot in is refused, and so little that a program dies of it is the guest's own matter.
    vm(&env, &["run", "host", "--jail", "microvm", "--memory", "64M", "--", "true"]).fails(2, "96M at least");
    let hog =
        ["run", "host", "--jail", "microvm", "--memory", "128M", "--", "perl", "-e", "$x = 'x' x (400<<20)"];
    let died = vm(&env, &hog);
    assert!(![0, 125].contains(&died.code), "{died:?}");
}
