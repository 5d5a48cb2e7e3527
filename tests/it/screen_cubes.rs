//! The screen with cubes: launched, left, entered again, watched, stopped. The real program on a real terminal.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::{Env, alone, signal};
use crate::pty::Pty;
use crate::screen::{DETACH, PROMPT, answer, leave, running, stop_all};

#[test]
fn launched_left_entered_again_and_ended() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    screen.type_text("\r");
    screen.wait_shown("launch site");
    screen.wait_shown("tripmine -m default site");
    // The plan that will be executed is on the sheet.
    screen.wait_shown("container: the kernel is shared");
    screen.type_text("\r");
    screen.wait_for(PROMPT);
    screen.type_text("echo answer-$((40+2)); export KEPT=yes\r");
    screen.wait_for("answer-42");
    screen.type_text(DETACH);
    screen.wait_shown("runs on");
    let cubes = running(&env);
    assert_eq!(cubes.len(), 1, "it runs on");
    // It is selected, and its terminal can be seen.
    screen.wait_shown("in force");
    screen.wait_shown("answer-42");
    screen.type_text("\r");
    screen.wait_gone("3 cubes");
    screen.wait_for("answer-42");
    screen.type_text("echo still-$KEPT\r");
    screen.wait_for("still-yes");
    screen.type_text("exit 3\r");
    screen.wait_shown("has ended with code 3");
    // Every change is in the log as its command.
    screen.type_text("@");
    screen.wait_shown("tripmine -m default site");
    screen.wait_shown(&format!("tripmine attach {}", &cubes[0][cubes[0].len() - 7..]));
    screen.type_text("q");
    leave(&mut screen);
    assert_eq!(running(&env), Vec::<String>::new());
}

#[test]
fn a_choice_for_one_launch_is_not_written_down() {
    let env = Env::new();
    env.project("alpha");
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    screen.type_text("/sit");
    screen.wait_shown("1 of 2");
    screen.type_text("\r\r");
    screen.wait_shown("launch site");
    // Down to `net`, which so far has one policy that is built.
    screen.type_text("jjj\x1b[C\x1b[C");
    screen.wait_shown("cannot launch");
    screen.wait_shown("hint");
    screen.type_text("\x1b[D");
    screen.wait_shown("tripmine -m default --net none site");
    screen.wait_gone("cannot launch");
    screen.type_text("\r");
    screen.wait_for(PROMPT);
    screen.type_text("exit\r");
    screen.wait_shown("has ended");
    leave(&mut screen);
    assert!(!env.tripmine_home.join("config/machines/default.toml").exists());
    let record = env.record();
    assert_eq!((record["project"].as_str(), record["net"].as_str()), (Some("site"), Some("none")));
}

#[test]
fn a_cube_is_typed_into_beside_the_lists() {
    let env = Env::new();
    env.tripmine(["run", "-d", "-t", "host", "--", "/bin/sh"]).ok(0);
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("1 running");
    screen.type_text("3i");
    screen.wait_shown("you type");
    screen.type_text("stty size; echo q-$((1+1))\r");
    screen.wait_shown("q-2");
    let shown = screen.shown();
    assert!(shown.contains("3 cubes") && shown.contains("1 machines"), "the lists stay: {shown}");
    // Keys of the screen are the cube's here, and its size is the pane's.
    screen.resize(50, 160);
    screen.type_text("stty size\r");
    screen.wait_shown("46 ");
    screen.type_text(DETACH);
    screen.wait_shown("attach");
    screen.type_text("x");
    screen.wait_shown("sure?");
    // What comes at once does not answer.
    screen.type_text("y");
    answer(&mut screen, "y");
    screen.wait_shown("exited");
    leave(&mut screen);
}

#[test]
fn the_screen_dies_and_the_cube_lives() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    screen.type_text("S");
    screen.wait_for(PROMPT);
    screen.type_text("echo here-$((1+1))\r");
    screen.wait_for("here-2");
    screen.kill();
    assert_eq!(running(&env).len(), 1, "killed while attached: the cube lives");
    let mut again = Pty::tripmine(&env, &[]);
    again.wait_shown("1 running");
    again.type_text("3");
    again.wait_shown("here-2");
    leave(&mut again);
    stop_all(&env);
}

#[test]
fn logs_are_read_searched_and_harmless() {
    let env = Env::new();
    let script = "for i in $(seq 1 300); do echo line $i; done; printf '\\033]0;PWN\\007\\033]52;c;eA==\\007bad\\n' >&2; sleep 600";
    env.tripmine(["run", "-d", "-T", "host", "--", "/bin/sh", "-c", script]).ok(0);
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("1 running");
    screen.type_text("3l");
    screen.wait_shown("following");
    screen.wait_shown("line 300");
    screen.wait_shown("! bad");
    screen.type_text("g");
    screen.wait_shown("paused");
    screen.type_text("/line 177\r");
    screen.wait_shown("line 177");
    screen.type_text("q");
    leave(&mut screen);
    let raw = String::from_utf8_lossy(&screen.raw()).into_owned();
    assert!(
        !raw.contains("\x1b]0;PWN") && !raw.contains("\x1b]52;c;eA"),
        "a sequence of a cube reached the terminal"
    );
    stop_all(&env);
}

/// A cube that prints without end takes no key away, and its keeper does not grow.
#[test]
fn a_flood_delays_no_key() {
    let _alone = alone();
    let env = Env::new();
    env.tripmine(["run", "-d", "-t", "host", "--", "/usr/bin/yes", "flood"]).ok(0);
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("1 running");
    screen.type_text("3");
    screen.wait_shown("flood");
    let mut delays: Vec<Duration> = (0..20)
        .map(|turn| {
            let (key, shown) =
                if turn % 2 == 0 { ("?", "help: cubes") } else { ("\x1bq".get(..1).unwrap(), "x stop") };
            let begun = Instant::now();
            screen.type_text(key);
            screen.wait_shown(shown);
            if turn % 2 == 1 {
                screen.wait_gone("help: cubes");
            }
            begun.elapsed()
        })
        .collect();
    delays.sort();
    // Loaded as this machine may be, ten times the promise is still no freeze.
    assert!(delays[18] < Duration::from_secs(1), "{delays:?}");
    let keeper = env.record()["keeper"]["pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 64 * 1024, "the keeper has {kib} KiB");
    println!("flood: key to screen, median {:?}, p95 {:?}; keeper {kib} KiB", delays[10], delays[18]);
    leave(&mut screen);
    stop_all(&env);
}

/// A keeper that does not answer is a line with a time, not a screen that hangs.
#[test]
fn a_keeper_that_hangs_is_told() {
    let env = Env::new();
    env.tripmine(["run", "-d", "-t", "host", "--", "/bin/sleep", "600"]).ok(0);
    let keeper = i32::try_from(env.record()["keeper"]["pid"].as_i64().unwrap()).unwrap();
    signal(keeper, Signal::STOP);
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("1 running");
    screen.type_text("3");
    screen.wait_shown("trying again in 5 s");
    screen.type_text("1");
    screen.wait_shown("machine default");
    signal(keeper, Signal::CONT);
    screen.type_text("3");
    screen.wait_gone("trying again");
    leave(&mut screen);
    stop_all(&env);
}
