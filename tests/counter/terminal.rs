//! Rows T: what stands between a cube's output and the user's terminal, left out.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::{Env, PATIENCE, alone, is_root, signal, until};
use crate::left;
use crate::pty::Pty;
use crate::run_weak;

/// Leader, then d.
const LEAVE: &str = "\x1dd";

/// The program on a terminal, with parts left out.
fn pty(env: &Env, out: &str, blind: &str, args: &[&str]) -> Pty {
    let (out, blind) = (format!("TRIPMINE_TAKE_OUT={out}"), format!("TRIPMINE_BLIND={blind}"));
    let program = env.binary().to_str().unwrap();
    Pty::start(env, "/usr/bin/env".as_ref(), &[&[out.as_str(), &blind, program], args].concat())
}

fn end(env: &Env) {
    run_weak(env, "", "", &["stop", "--all", "--time", "0"]).ok(0);
    left::assert_nothing_left(env);
}

/// T01: with the host's own devices, the terminals of the host are there.
#[test]
fn terminals_of_the_host_are_seen_without_the_cubes_own() {
    let env = Env::new();
    for (out, blind, only_its_own) in [("", "", true), ("dev", "mountns", false)] {
        let script = "echo $(ls /dev/pts | grep -c '^[0-9]') terminals";
        let mut pty = pty(&env, out, blind, &["run", "host", "--", "/bin/sh", "-c", script]);
        pty.wait_for(" terminals");
        assert_eq!(pty.shown().contains("1 terminals"), only_its_own, "without `{out}`: {}", pty.shown());
        pty.wait_exit(PATIENCE);
    }
}

/// T02.
#[test]
fn the_clipboard_is_reached_without_the_filter() {
    let env = Env::new();
    for (out, reached) in [("", false), ("terminal-filter", true), ("own-streams", true)] {
        let script = r"printf '\033]52;c;cHduCg==\007\033]0;pwned\007plain done\n'";
        let mut pty = pty(&env, out, "", &["run", "host", "--", "/bin/sh", "-c", script]);
        pty.wait_for("plain done");
        pty.wait_exit(PATIENCE);
        let seen = memchr::memmem::find(&pty.raw(), b"\x1b]52;c;").is_some();
        assert_eq!(seen, reached, "without `{out}`: {:?}", String::from_utf8_lossy(&pty.raw()));
    }
}

/// S15 on a real terminal: typed text arrives, where the kernel still allows it at all.
#[cfg(target_arch = "x86_64")]
#[test]
fn text_is_typed_into_the_terminal_without_the_filter() {
    const SCRIPT: &str = r#"use Errno; my $c = "x"; my $r = syscall(16, 0, 0x5412, $c);
my ($e) = $r == -1 ? grep { $!{$_} } sort keys %! : ("OK"); print "answer=$e done\n";"#;
    let env = Env::new();
    for (out, blind, refused) in [("", "", true), ("seccomp-ioctl", "", false)] {
        let mut pty = pty(&env, out, blind, &["run", "host", "--", "perl", "-e", SCRIPT]);
        pty.wait_for(" done");
        assert_eq!(pty.shown().contains("answer=EPERM"), refused, "without `{out}`: {}", pty.shown());
        pty.wait_exit(PATIENCE);
    }
}

/// T05.
#[test]
fn names_are_raw_without_the_escaping() {
    let env = Env::new();
    let evil = "x\x1b]0;pwned\x07\u{202e}y";
    for (out, raw) in [("", false), ("printable", true)] {
        for args in
            [&["run", evil, "--", "true"][..], &["--mount", evil, "--", "true"], &["run", "host", "--", evil]]
        {
            let output = run_weak(&env, out, "", args);
            assert_eq!(output.stderr.contains('\x1b'), raw, "without `{out}`: {args:?}: {output:?}");
        }
        run_weak(&env, "", "", &["run", "host", "--", "/bin/sh", "-c", "true", evil]).ok(0);
        let shown = run_weak(&env, out, "", &["ps", "-a"]).stdout;
        assert_eq!(shown.contains('\x1b'), raw, "without `{out}`: {shown:?}");
    }
}

/// T06: what a client that stands still does not read.
#[test]
fn the_keeper_grows_without_a_bound_on_its_queue() {
    let _alone = alone();
    for (out, grows) in [("", false), ("queue", true)] {
        let env = Env::new();
        let script = "echo begin; read x; yes | head -c 300M; sleep 60";
        let mut pty = pty(&env, out, "", &["run", "host", "--", "/bin/sh", "-c", script]);
        pty.wait_for("begin");
        pty.type_text("\n");
        pty.wait_bytes(100_000);
        signal(pty.pid(), Signal::STOP);
        let keeper = i32::try_from(env.record()["keeper"]["pid"].as_i64().unwrap()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(if grows { 90 } else { 4 });
        let mut worst = 0;
        while Instant::now() < deadline && worst <= 64 * 1024 {
            worst = worst.max(rss_kib(keeper));
            std::thread::park_timeout(Duration::from_millis(20));
        }
        println!("without `{out}`: {worst} KiB");
        assert_eq!(worst > 64 * 1024, grows, "without `{out}`: the keeper took {worst} KiB");
        pty.kill();
        end(&env);
    }
}

fn rss_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// T07.
#[test]
fn the_size_stays_old_without_passing_it_on() {
    let env = Env::new();
    for (out, arrives) in [("", true), ("resize", false)] {
        let script = "stty -echo; echo ready; while read x; do stty size; done; echo over";
        let mut pty = pty(&env, out, "", &["run", "host", "--", "/bin/sh", "-c", script]);
        pty.wait_for("ready");
        pty.resize(41, 97);
        let deadline = Instant::now() + Duration::from_secs(if arrives { 20 } else { 2 });
        while Instant::now() < deadline && !pty.shown().contains("41 97") {
            pty.type_text("\n");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        assert_eq!(pty.shown().contains("41 97"), arrives, "without `{out}`: {}", pty.shown());
        assert!(arrives || pty.shown().contains("30 120"), "{}", pty.shown());
        pty.type_text("\x04");
        pty.wait_exit(PATIENCE);
    }
}

/// T08.
#[test]
fn modes_stay_on_without_the_bytes_that_undo_them() {
    for (out, sane) in [("", true), ("terminal-leave", false)] {
        let env = Env::new();
        let script = r"printf '\033[?1049h\033[?1000h\033[?2004h\033[?25lalternate'; stty -echo; sleep 60";
        let mut pty = pty(&env, out, "", &["run", "host", "--", "/bin/sh", "-c", script]);
        pty.wait_for("alternate");
        pty.type_text(LEAVE);
        assert_eq!(pty.wait_exit(PATIENCE), 0);
        let is_sane = |pty: &Pty| {
            let modes = pty.screen(|screen| screen.modes());
            !modes.alternate && !modes.mouse && !modes.bracketed_paste && modes.cursor_visible
        };
        if sane {
            until("sane modes", PATIENCE, || is_sane(&pty));
        }
        assert_eq!(is_sane(&pty), sane, "without `{out}`");
        end(&env);
    }
}

/// The user whom these tests run as is the one that they are for.
#[test]
fn both_users_are_told_apart() {
    let env = Env::new();
    let output = run_weak(&env, "", "", &["run", "host", "--", "cat", "/proc/self/uid_map"]);
    let outside: u32 = output.ok(0).split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(outside == rustix::process::geteuid().as_raw(), !is_root(), "{output:?}");
}
