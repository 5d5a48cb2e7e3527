//! The screen without cubes: projects, machines, themes, sizes, no colours, no terminal, line by line.

use std::time::Duration;

use crate::env::{Env, PATIENCE, alone, until};
use crate::pty::Pty;
use crate::screen::{DETACH, answer, leave};

#[test]
fn projects_are_made_removed_and_brought_back() {
    let env = Env::new();
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("check what this host can enforce");
    screen.type_text("nshop\r");
    screen.wait_shown("made project `shop`");
    assert!(env.projects.join("shop").is_dir());
    screen.type_text("X");
    screen.wait_shown("delete project shop");
    answer(&mut screen, "d");
    screen.wait_shown("u brings it back");
    assert!(!env.projects.join("shop").exists());
    screen.type_text("u");
    screen.wait_shown("is back");
    assert!(env.projects.join("shop").is_dir());
    screen.type_text("@");
    for line in [
        "tripmine project create -m default shop",
        "tripmine project rm -m default --yes shop",
        "tripmine undo",
    ] {
        screen.wait_shown(line);
    }
    screen.type_text("q");
    leave(&mut screen);
}

#[test]
fn machines_are_made_changed_and_used() {
    let env = Env::new();
    let mut screen = Pty::tripmine(&env, &["-m", "default"]);
    screen.wait_shown("default");
    screen.type_text("1nlab\r");
    screen.wait_shown("made machine `lab`");
    screen.type_text("Ememory=2G\r");
    screen.wait_shown("changed machine `lab`");
    screen.wait_shown("memory 2G");
    screen.type_text("\r");
    screen.wait_shown("launches happen on machine lab");
    screen.type_text("1X");
    screen.wait_shown("delete machine lab");
    screen.type_text("\x1b");
    screen.wait_gone("sure?");
    leave(&mut screen);
    env.tripmine(["machine", "show", "lab"]).ok(0);
    env.tripmine(["-m", "nobody"]).fails(1, "nobody");
}

#[test]
fn a_theme_is_tried_and_kept() {
    let env = Env::new();
    env.config("# mine\nmouse = false\n");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("1 machines");
    screen.type_text("t");
    screen.wait_shown("colour-blind-safe");
    screen.type_text("nord\r");
    screen.wait_shown("theme nord, from now on");
    leave(&mut screen);
    let text = std::fs::read_to_string(env.tripmine_home.join("config/config.toml")).unwrap();
    assert_eq!(text, "# mine\nmouse = false\ntheme = \"nord\"\n");
    // A theme that is broken is told with its place, and the default is used.
    std::fs::create_dir(env.tripmine_home.join("config/themes")).unwrap();
    std::fs::write(env.tripmine_home.join("config/themes/nord.toml"), "[roles]\ntext = \"rde\"\n").unwrap();
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("`rde`");
    leave(&mut screen);
}

#[test]
fn every_size_and_a_storm_of_them() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("site");
    for (rows, columns) in [(10, 40), (12, 40), (24, 80), (60, 200), (200, 500), (30, 99), (20, 100)] {
        screen.resize(rows, columns);
        screen.wait_shown("site");
        screen.wait_shown("nothing runs");
    }
    screen.resize(8, 30);
    screen.wait_shown("40x10 needed");
    for turn in 0..200_u16 {
        screen.resize(8 + turn * 7 % 60, 20 + turn * 13 % 200);
    }
    screen.resize(30, 120);
    screen.wait_shown("enter launch");
    screen.wait_shown("changed");
    screen.resize(5, 10);
    screen.type_text("q");
    assert_eq!(screen.wait_exit(PATIENCE), 0, "q works even where nothing fits");
}

#[test]
fn without_colour_what_is_selected_still_shows() {
    let env = Env::new();
    env.project("site");
    let binary = env.binary().to_str().unwrap().to_owned();
    let mut screen = Pty::start(&env, std::path::Path::new("/usr/bin/env"), &["NO_COLOR=1", &binary]);
    screen.wait_shown("site");
    leave(&mut screen);
    let raw = String::from_utf8_lossy(&screen.raw()).into_owned();
    let codes: Vec<&str> = raw
        .split("\x1b[")
        .filter_map(|part| part.split_once(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':')))
        .filter_map(|(code, _)| raw.contains(&format!("\x1b[{code}m")).then_some(code))
        .collect();
    assert!(codes.contains(&"7"), "nothing is reversed");
    let coloured = |code: &&str| {
        code.starts_with("38")
            || code.starts_with("48")
            || code.parse::<u8>().is_ok_and(|n| matches!(n, 30..=37 | 40..=47 | 90..=107))
    };
    assert_eq!(codes.iter().find(|code| coloured(code)), None, "a colour was sent");
}

#[test]
fn without_a_terminal_there_is_a_list() {
    let env = Env::new();
    let output = env.tripmine(Vec::<&str>::new());
    assert_eq!(output.code, 0);
    assert!(output.stderr.contains("no terminal") && !output.stdout.contains('\x1b'), "{output:?}");
    env.tripmine(["tui"]).fails(2, "needs a terminal");
}

#[test]
fn line_by_line() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &["--plain"]);
    // What is typed before the question would be echoed into it. A line of the screen has no blanks at its end.
    screen.wait_shown("q to leave:");
    screen.type_text("n shop\r");
    screen.wait_shown("made project `shop`");
    // What the screen can do, any command can.
    screen.type_text("machine create lab --memory 1G\r");
    screen.wait_shown("made machine `lab`");
    screen.type_text("77\r");
    screen.wait_shown("number of the list");
    screen.type_text("s 1\r");
    screen.wait_for(":/projects/s");
    screen.type_text(DETACH);
    screen.wait_for("runs on");
    screen.wait_for("3 attach cube");
    screen.type_text("x 3\r");
    screen.wait_for("y or n");
    screen.type_text("y\r");
    screen.wait_for("has ended");
    screen.type_text("q\r");
    assert_eq!(screen.wait_exit(PATIENCE), 0);
    // What is typed is echoed by the terminal; what we say holds no sequence but those of the joined cube.
    let raw = screen.raw();
    let before = raw.windows(8).position(|part| part == b"d comes ").unwrap();
    assert!(!raw[..before].contains(&0x1b), "line by line, and yet a sequence");
    let binary = env.binary().to_str().unwrap().to_owned();
    let mut dumb = Pty::start(&env, std::path::Path::new("/usr/bin/env"), &["TERM=dumb", &binary]);
    dumb.wait_shown("launch project site");
    dumb.type_text("q\r");
    assert_eq!(dumb.wait_exit(PATIENCE), 0);
}

/// Nothing happens, so nothing is drawn and no time is used.
#[test]
fn an_idle_screen_is_idle() {
    let _alone = alone();
    let env = Env::new();
    let mut screen = Pty::tripmine(&env, &[]);
    screen.wait_shown("check what this host can enforce");
    let used = |pid: i32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    // What the start still has to do is over when a second goes by without a byte.
    let mut last = 0;
    until("the screen is quiet", PATIENCE, || {
        let now = screen.total();
        let quiet = now == last;
        last = now;
        std::thread::park_timeout(Duration::from_secs(1));
        quiet && screen.total() == now
    });
    let (bytes, ticks) = (screen.total(), used(screen.pid()));
    std::thread::park_timeout(Duration::from_secs(4));
    assert_eq!(screen.total(), bytes, "something was drawn");
    let taken = used(screen.pid()) - ticks;
    assert!(taken <= 2, "{taken} hundredths of a second in four seconds");
    let status = std::fs::read_to_string(format!("/proc/{}/status", screen.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 30 * 1024, "the screen has {kib} KiB");
    println!("idle: {taken} ticks in 4 s, {kib} KiB");
    leave(&mut screen);
}
