//! The ends of the screen: however it goes, the terminal is as it was, nothing spins, and cubes live on.

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
    // And one that vanishes without a word, as when a parent ignores the signal for us.
    let binary = env.binary().to_str().unwrap().to_owned();
    let mut screen = Pty::start(&env, std::path::Path::new("/bin/sh"), &["-c", &format!("trap '' HUP; exec {binary}")]);
    screen.wait_shown("1 machines");
    screen.vanish();
    screen.wait_exit(PATIENCE);
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
    screen.type_text("printf '\\033[?1049h\\033[?1000h\\033[?25l\\033(0\\033[5;10rqqq\\033[41m'; echo done-$((1+1))\r");
    screen.wait_bytes(screen.total() + 1);
    screen.type_text("\x1dd");
    screen.wait_shown("runs on");
    screen.wait_shown("1 machines");
    screen.wait_shown("enter attach");
    screen.type_text("q");
    assert_eq!(screen.wait_exit(PATIENCE), 0);
    assert!(screen.screen(|screen| !screen.modes().alternate && !screen.modes().mouse && screen.modes().cursor_visible));
    env.tripmine(["stop", "--all", "-t", "0"]).ok(0);
}
