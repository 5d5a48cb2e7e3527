//! The screen under a person's hands: several viewers, several cubes at once, pastes, copies, a broken configuration.

use std::path::Path;

use crate::env::{Env, PATIENCE, until};
use crate::pty::Pty;
use crate::screen::{DETACH, answer, leave, running, stop_all};

/// Many may look, one types, and whoever wants to takes that over.
#[test]
fn one_types_and_another_takes_over() {
    let env = Env::new();
    env.tripmine(["run", "-d", "-t", "host", "--", "/bin/sh"]).ok(0);
    let mut first = Pty::tripmine(&env, &[]);
    let mut second = Pty::tripmine(&env, &[]);
    for screen in [&mut first, &mut second] {
        screen.wait_shown("1 running");
        screen.type_text("3");
        screen.wait_shown("attach");
    }
    first.type_text("\r");
    first.wait_for("comes back, it runs on");
    first.type_text("echo first-$((1+1))\r");
    first.wait_for("first-2");
    // The second sees it, in its list and attached, and types in vain.
    second.wait_shown("first-2");
    second.type_text("\r");
    second.wait_for("another terminal types");
    second.type_text("echo in-vain\r");
    second.type_text(DETACH);
    // The lists are back; that it runs on was said when it was joined, too.
    second.wait_shown("1 running");
    assert!(!first.shown().contains("in-vain"));
    second.type_text("T");
    first.wait_for("another terminal types now");
    second.wait_for("comes back, it runs on");
    second.type_text("echo second-$((1+1))\r");
    second.wait_for("second-2");
    first.wait_for("second-2");
    first.type_text(DETACH);
    first.wait_shown("1 running");
    leave(&mut first);
    second.type_text(DETACH);
    // The lists are back; that it runs on was said when it was joined, too.
    second.wait_shown("1 running");
    leave(&mut second);
    stop_all(&env);
}

#[test]
fn marked_cubes_are_stopped_when_their_number_is_typed() {
    let env = Env::new();
    for _ in 0..3 {
        env.tripmine(["run", "-d", "-t", "host", "--", "/bin/sleep", "600"]).ok(0);
    }
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("3 running");
    screen.type_text("3  x");
    screen.wait_shown("stop 2 cubes?");
    screen.wait_shown("enter leaves it");
    screen.type_text("y1\r");
    screen.wait_gone("sure?");
    assert_eq!(running(&env).len(), 3, "nothing but the number says yes");
    screen.type_text("x");
    screen.wait_shown("enter leaves it");
    screen.type_text("2");
    screen.wait_shown("1 running");
    until("two have ended", PATIENCE, || running(&env).len() == 1);
    leave(&mut screen);
    stop_all(&env);
}

#[test]
fn what_is_pasted_and_copied_is_said() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    // Nothing of a paste is a key, and several lines are asked about.
    screen.type_text("\x1b[200~qX\x1b[201~n\x1b[200~one\ntwo\x1b[201~");
    screen.wait_shown("paste 2 lines");
    screen.wait_shown("enter leaves it");
    screen.type_text("f");
    screen.wait_gone("paste 2 lines");
    screen.type_text("\r");
    screen.wait_shown("made project `one`");
    screen.type_text("y");
    let length = env.projects.join("one").to_str().unwrap().len();
    screen.wait_shown(&format!("copied {length} bytes via your terminal (OSC 52)"));
    use base64::Engine as _;
    let code = base64::engine::general_purpose::STANDARD.encode(env.projects.join("one").to_str().unwrap());
    let raw = screen.raw();
    let sent = format!("\x1b]52;c;{code}\x07");
    assert!(raw.windows(sent.len()).any(|part| part == sent.as_bytes()));
    // Within tmux the sequence is wrapped for the terminal around it.
    leave(&mut screen);
    let binary = env.binary().to_str().unwrap().to_owned();
    let mut inside = Pty::start(&env, Path::new("/usr/bin/env"), &["TMUX=/tmp/x,1,0", &binary]);
    inside.wait_shown("site");
    inside.type_text("y");
    inside.wait_shown("through tmux");
    let wrapped = b"\x1bPtmux;\x1b\x1b]52;c;";
    assert!(inside.raw().windows(wrapped.len()).any(|part| part == wrapped));
    leave(&mut inside);
}

/// The screen opens whatever `config.toml` says; what is launched does not.
#[test]
fn a_broken_configuration_is_told_and_launches_nothing() {
    let env = Env::new();
    env.project("site");
    env.config("version = 1\nmouze = true\n");
    // What runs is still seen, and nothing is launched.
    let seen = env.tripmine(["ps"]);
    seen.ok(0);
    assert!(seen.stderr.contains("config.toml:2:1"), "{seen:?}");
    env.tripmine(["run", "host", "--", "true"]).fails(125, "config.toml:2:1");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("config.toml:2:1");
    screen.wait_shown("nothing is launched until the file is mended");
    screen.type_text("\x1b");
    screen.wait_gone("nothing is launched");
    screen.type_text("\r");
    screen.wait_shown("cannot launch");
    screen.type_text("\x1b");
    screen.wait_gone("cannot launch");
    // Mended, it launches as the file says now, without another start.
    env.config("mouse = false\n[defaults]\nmemory = \"300M\"\n[keys]\nquit = \"ctlr-q\"\n");
    screen.type_text("\r");
    screen.wait_shown("container: the kernel is shared");
    screen.type_text("\x1b");
    screen.wait_gone("launch site");
    leave(&mut screen);
    // A key that is none is a warning with its place, and its command keeps its own.
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("config.toml:5:8");
    screen.wait_shown("`ctlr-q` is no key");
    leave(&mut screen);
}

#[test]
fn the_palette_and_a_full_log() {
    let env = Env::new();
    env.tripmine(["run", "-d", "-t", "host", "--", "/bin/sh", "-c", "seq 1 200; exec sleep 600"]).ok(0);
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("1 running");
    let id = env.record()["id"].as_str().unwrap()[25..].to_owned();
    screen.type_text(&format!(":logs {id}\r"));
    screen.wait_shown("following");
    screen.wait_shown("│ 200");
    screen.type_text("f");
    screen.wait_gone("following");
    assert!(screen.shown().lines().any(|line| line == "200"), "{}", screen.shown());
    screen.type_text("fq");
    screen.wait_shown("1 running");
    screen.type_text(&format!(":stop {id}\r"));
    answer(&mut screen, "y");
    screen.wait_shown("exited");
    leave(&mut screen);
}

/// A terminal with a light ground gets the theme for that; one that does not answer waits for nothing.
#[test]
fn a_light_ground_is_asked_for() {
    let env = Env::new();
    env.config("theme = \"nord\"\ntheme_light = \"solarized-light\"\ncolor = \"true\"\n");
    let mut screen = Pty::tripmine(&env, &[]);
    // The question is seen, and answered as a light terminal would.
    screen.wait_bytes(1);
    until("it asks", PATIENCE, || {
        let raw = screen.raw();
        raw.windows(6).any(|part| part == b"\x1b]11;?")
    });
    screen.type_text("\x1b]11;rgb:fdfd/f6f6/e3e3\x07");
    screen.wait_shown("1 machines");
    screen.type_text("t");
    // The one in use is selected.
    screen.wait_shown(":solarized-light");
    screen.type_text("\x1b");
    screen.wait_gone(":solarized-light");
    leave(&mut screen);
    let mut dark = Pty::tripmine(&env, &[]);
    dark.wait_shown("1 machines");
    dark.type_text("t");
    dark.wait_shown(":nord");
    dark.type_text("\x1b");
    dark.wait_gone(":nord");
    leave(&mut dark);
}
