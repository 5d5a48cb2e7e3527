//! The ends of the screen: however it goes, the terminal is as it was, nothing spins, and cubes live on.

use std::io::Read;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::process::Signal;

use crate::env::{Env, PATIENCE, signal, until};
use crate::pty::Pty;

/// Mouse off, paste off, attributes off, cursor on, the other screen left.
const RESTORED: &[u8] = b"\x1b[?1006l\x1b[?1000l\x1b[?2004l\x1b[0m\x1b[?25h\x1b[?1049l";

fn restored(screen: &Pty) -> bool {
    screen.raw().windows(RESTORED.len()).any(|part| part == RESTORED)
}

#[test]
fn signals_end_it_and_the_terminal_comes_back() {
    for (number, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130), (Signal::QUIT, 131)] {
        let env = Env::new();
        let mut screen = Pty::tripmine(&env, &[]);
        screen.wait_shown("1 machines");
        assert!(screen.screen(|screen| screen.modes().alternate));
        signal(screen.pid(), number);
        assert_eq!(screen.wait_exit(PATIENCE), code);
        until("the terminal is back", PATIENCE, || restored(&screen));
        assert!(screen.screen(|screen| !screen.modes().alternate && screen.modes().cursor_visible));
    }
}

#[test]
fn a_terminal_that_vanishes_ends_it() {
    let env = Env::new();
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("1 machines");
    screen.hang_up();
    screen.wait_exit(PATIENCE);
}

/// A terminal that vanishes without a word, as when a parent has the signal ignored for us: nothing spins.
#[test]
fn a_terminal_that_vanishes_without_a_signal_ends_it() {
    let env = Env::new();
    let size = PtySize { rows: 30, cols: 120, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).unwrap();
    let mut command = CommandBuilder::new("/bin/sh");
    command.args(["-c", &format!("trap '' HUP; exec {}", env.binary().to_str().unwrap())]);
    command.env_clear();
    for (key, value) in env.variables() {
        command.env(key, value);
    }
    command.cwd(&env.home);
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let mut reader = pair.master.try_clone_reader().unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !seen.windows(8).any(|part| part == b"machines") {
        let count = reader.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended before it was seen");
        seen.extend_from_slice(&buffer[..count]);
    }
    // Every end of it but the program's own is closed now.
    drop((reader, pair.master));
    until("it ends", PATIENCE, || child.try_wait().unwrap().is_some());
}

#[test]
fn stopped_and_continued() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    screen.type_text("\x1a");
    let state = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
    };
    until("it stops", PATIENCE, || state(screen.pid()) == 'T');
    until("the shell gets its terminal as it was", PATIENCE, || restored(&screen));
    signal(screen.pid(), Signal::CONT);
    screen.wait_shown("enter launch");
    assert!(screen.screen(|screen| screen.modes().alternate));
    screen.type_text("q");
    assert_eq!(screen.wait_exit(PATIENCE), 0);
}

#[test]
fn closed_while_attached() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    screen.type_text("S");
    screen.wait_for(":/projects/site");
    screen.hang_up();
    screen.wait_exit(PATIENCE);
    let list = env.tripmine(["ps", "--json"]);
    assert!(list.ok(0).contains("\"site\""), "the cube lives: {list:?}");
    env.tripmine(["stop", "--all", "-t", "0"]).ok(0);
}

/// A program that leaves the terminal in pieces: the screen is whole again.
#[test]
fn a_damaged_terminal_is_mended() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    screen.type_text("S");
    screen.wait_for(":/projects/site");
    screen.type_text(
        "printf '\\033[?1049h\\033[?1000h\\033[?25l\\033(0\\033[5;10rqqq\\033[41m'; echo done-$((1+1))\r",
    );
    screen.wait_bytes(screen.total() + 1);
    screen.type_text("\x1dd");
    screen.wait_shown("runs on");
    screen.wait_shown("1 machines");
    screen.wait_shown("enter attach");
    screen.type_text("q");
    assert_eq!(screen.wait_exit(PATIENCE), 0);
    assert!(screen.screen(|screen| !screen.modes().alternate
        && !screen.modes().mouse
        && screen.modes().cursor_visible));
    env.tripmine(["stop", "--all", "-t", "0"]).ok(0);
}
