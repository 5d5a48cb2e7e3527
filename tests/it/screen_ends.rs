//! The ends of the screen: however it goes, the terminal is as it was, nothing spins, and cubes live on.

use std::path::Path;

use rustix::process::Signal;

use crate::env::{Env, PATIENCE, signal, skip, until};
use crate::pty::Pty;
use crate::screen::{DETACH, PROMPT, leave};

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
    let script = format!("trap '' HUP; exec {}", env.binary().to_str().unwrap());
    let mut screen = Pty::start(&env, Path::new("/bin/sh"), &["-c", &script]);
    screen.wait_shown("1 machines");
    screen.hang_up();
    screen.wait_exit(PATIENCE);
}

/// A terminal that takes nothing any more holds nobody who is told to end.
#[test]
fn a_stuck_terminal_does_not_keep_it_from_ending() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    screen.stuff();
    let (mut last, mut same, mut turn) = (0, 0, 0_u16);
    until("nothing more goes in", PATIENCE, || {
        turn = (turn + 1) % 40;
        screen.resize(30 + turn, 120 + turn);
        let now = screen.waiting();
        same = if now == last && now > 1000 { same + 1 } else { 0 };
        last = now;
        same > 200
    });
    signal(screen.pid(), Signal::TERM);
    assert_eq!(screen.wait_exit(PATIENCE), 143);
}

/// A fault of ours: the terminal is as it was, and what went wrong is said on it.
#[test]
fn a_panic_gives_the_terminal_back() {
    let env = Env::new();
    let binary = env.binary().to_str().unwrap().to_owned();
    let mut screen = Pty::start(&env, Path::new("/usr/bin/env"), &["TRIPMINE_DEBUG_PANIC=t", &binary]);
    screen.wait_shown("1 machines");
    // Where nothing panics, this opens the themes, closes them, and leaves.
    screen.type_text("t\x03q");
    if screen.wait_exit(PATIENCE) == 0 {
        return skip("a_panic_gives_the_terminal_back", "this is no debug build: nothing makes it panic");
    }
    until("the terminal is back", PATIENCE, || restored(&screen));
    assert!(screen.screen(|screen| !screen.modes().alternate && screen.modes().cursor_visible));
    screen.wait_for("asked to panic");
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
    leave(&mut screen);
}

/// The window is closed in the middle of a cube, with and without the signal that says so.
#[test]
fn closed_while_attached() {
    for script in ["exec", "trap '' HUP; exec"] {
        let env = Env::new();
        env.project("site");
        let script = format!("{script} {}", env.binary().to_str().unwrap());
        let mut screen = Pty::start(&env, Path::new("/bin/sh"), &["-c", &script]);
        screen.wait_shown("site");
        screen.type_text("S");
        screen.wait_for(PROMPT);
        screen.hang_up();
        screen.wait_exit(PATIENCE);
        let list = env.tripmine(["ps", "--json"]);
        assert!(list.ok(0).contains("\"site\""), "the cube lives: {list:?}");
        let id = env.record()["id"].as_str().unwrap().to_owned();
        env.tripmine(["exec", &id, "--", "true"]).ok(0);
        env.tripmine(["stop", "--all", "-t", "0"]).ok(0);
    }
}

/// A program that leaves the terminal in pieces: the screen is whole again.
#[test]
fn a_damaged_terminal_is_mended() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    screen.type_text("S");
    screen.wait_for(PROMPT);
    screen.type_text(
        "printf '\\033[?1049h\\033[?1000h\\033[?25l\\033(0\\033[5;10rqqq\\033[41m'; echo done-$((1+1))\r",
    );
    screen.wait_bytes(screen.total() + 1);
    screen.type_text(DETACH);
    screen.wait_shown("runs on");
    screen.wait_shown("1 machines");
    screen.wait_shown("enter attach");
    leave(&mut screen);
    assert!(screen.screen(|screen| !screen.modes().alternate
        && !screen.modes().mouse
        && screen.modes().cursor_visible));
    env.tripmine(["stop", "--all", "-t", "0"]).ok(0);
}
