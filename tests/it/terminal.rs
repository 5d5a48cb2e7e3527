//! Rows T of the promises: what of a cube's output reaches the user's terminal, and that leaving always works.
//! Guards: the filter (`term::filter`), the bounded queues of the keeper, the replay, and the bytes of `term::leave`.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::{Env, PATIENCE, alone, signal, skip};
use crate::left;
use crate::pty::Pty;
use crate::verbs::verbs_missing;

/// Leader, then d.
const LEAVE: &str = "\x1dd";

/// The keeper of the newest cube.
fn keeper(env: &Env) -> i32 {
    let mut found = 0;
    crate::env::until("the record names the keeper", PATIENCE, || {
        let records = env.records();
        let pid = records.last().and_then(|record| record["keeper"]["pid"].as_i64());
        found = pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        found != 0
    });
    found
}

fn rss_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Ends a cube that was left running; without verbs, through its keeper.
fn end(env: &Env) {
    if verbs_missing(env) {
        // An orderly end is not to be had yet: take init, and let the keeper clean.
        let init = env.record()["init"]["pid"].as_i64().unwrap();
        signal(i32::try_from(init).unwrap(), Signal::KILL);
    } else {
        env.tripmine(["stop", "--all", "--time", "0"]).ok(0);
    }
    left::assert_nothing_left(env);
}

/// T02: clipboard, title, hyperlink, and strings of every kind.
#[test]
fn nothing_but_pictures_reaches_the_terminal() {
    let env = Env::new();
    let attack = r#"printf '\033]52;c;cHduCg==\007\033]0;pwned-title\007\033]2;pwned-title\033\\\033]8;;file:///etc\007X\033]8;;\007\033P$q"p\033\\\033_apc-text\033\\\033^pm-text\033\\\033Xsos-text\033\\\302\235only-text\302\234\033[21t\033[c\033[6n\033[5n\033]10;?\007\033]4;1;?\007\033[?1004h\033[20t\033[14t\033]1337;File=:QQ==\007\033]777;notify;a;b\007\033]9;x\007\033[5i\033c'"#;
    let script = format!("{attack}; printf '\\nplain \\033[31mred\\033[m done\\n'");
    let mut pty = Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", &script]);
    pty.wait_for("done");
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    let raw = pty.raw();
    let holds = |part: &[u8]| memchr::memmem::find(&raw, part).is_some();
    for part in [
        &b"\x1b]52"[..],
        b"\x1b]0;",
        b"\x1b]2;",
        b"\x1b]8;",
        b"\x1bP",
        b"\x1b_",
        b"\x1b^",
        b"\x1bX",
        b"\x1b]4",
        b"\x1b]1",
        b"\x1b]7",
        b"\x1b]9",
        b"\x1b[21t",
        b"\x1b[c",
        b"\x1b[6n",
        b"\x1b[5n",
        b"\x1b[20t",
        b"\x1b[14t",
        b"\x1b[5i",
        b"\xc2\x9d",
        b"\x9d52",
        b"cHduCg",
        b"pwned-title",
        b"apc-text",
    ] {
        assert!(
            !holds(part),
            "{:?} reached the terminal: {:?}",
            String::from_utf8_lossy(part),
            String::from_utf8_lossy(&raw)
        );
    }
    // Colour does, or the filter would be a wall.
    assert!(holds(b"\x1b[31m") || holds(b"[31m") || holds(b";31m"), "{:?}", String::from_utf8_lossy(&raw));
}

/// The answers to what a cube asks are the model's, so a program that asks is not stuck, and the real terminal is not asked.
#[test]
fn questions_are_answered_by_the_model() {
    let env = Env::new();
    let script = r#"stty raw -echo min 1 time 20; printf '\033[6n'; a=$(dd bs=1 count=6 2>/dev/null | od -An -c | tr -d ' \n'); stty sane; echo "got $a done""#;
    let mut pty = Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", script]);
    pty.wait_for("done");
    pty.wait_for("033[1;1R");
    pty.wait_exit(PATIENCE);
}

/// T06: leaving in the middle of a flood, and the keeper's memory meanwhile.
#[test]
fn a_flood_is_bounded_and_can_be_left() {
    let _alone = alone();
    let env = Env::new();
    let mut pty = Pty::tripmine(
        &env,
        &["run", "host", "--", "/bin/sh", "-c", "echo begin; yes | head -c 200M; sleep 60"],
    );
    pty.wait_for("begin");
    let keeper = keeper(&env);
    let mut worst = 0;
    for step in 1..=20 {
        pty.wait_bytes(step * 200_000);
        worst = worst.max(rss_kib(keeper));
    }
    let begun = Instant::now();
    pty.type_text(LEAVE);
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    let left = begun.elapsed();
    println!("keeper {worst} KiB, left within {left:?}");
    // Left alone it goes on, at full speed and with nobody reading.
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        worst = worst.max(rss_kib(keeper));
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(worst < 64 * 1024, "the keeper took {worst} KiB");
    assert!(left < Duration::from_secs(2), "leaving took {left:?}");
    end(&env);
}

/// T06: other shapes of a flood: random bytes, and one line without an end.
#[test]
fn odd_floods_are_bounded_too() {
    let _alone = alone();
    for flood in [
        "head -c 30M /dev/urandom",
        "tr '\\0' x </dev/zero | head -c 60M",
        "perl -e 'print \"\\e[31mA\\e[7mB\\e[0m\" x 2000000'",
        "perl -e 'print \"\\e]0;\" . \"x\" x 60000000'",
    ] {
        let env = Env::new();
        let script = format!(
            "echo begin; sleep 1; {flood}; printf '\\033c\\033\\\\\\033[2J\\033[H'; echo; echo fi''nished; sleep 60"
        );
        let mut pty = Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", &script]);
        pty.wait_for("begin");
        let keeper = keeper(&env);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut worst = 0;
        while !pty.shown().contains("finished") {
            worst = worst.max(rss_kib(keeper));
            assert!(Instant::now() < deadline, "{flood}: not through");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        assert!(worst < 64 * 1024, "{flood}: the keeper took {worst} KiB");
        pty.type_text(LEAVE);
        assert_eq!(pty.wait_exit(PATIENCE), 0, "{flood}");
        end(&env);
    }
}

/// T07: after any number of resizes the size inside is the last one.
#[test]
fn a_storm_of_resizes_ends_with_the_right_size() {
    let env = Env::new();
    let script = "stty -echo; echo ready; while read x; do stty size; done; echo done";
    let mut pty = Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", script]);
    pty.wait_for("ready");
    for round in 0..500_u16 {
        let (rows, cols) = if round % 2 == 0 { (1, 1) } else { (500, 200) };
        pty.resize(rows, cols);
        if round % 50 == 0 {
            pty.resize(round % 70 + 2, round % 300 + 2);
        }
    }
    pty.resize(41, 97);
    // The last change travels with a signal, so it is asked for until it has arrived.
    crate::env::until("the size arrives inside", PATIENCE, || {
        pty.type_text("\n");
        std::thread::park_timeout(Duration::from_millis(50));
        pty.shown().contains("41 97")
    });
    pty.type_text("\x04");
    pty.wait_for("done");
    assert_eq!(pty.wait_exit(PATIENCE), 0);
}

/// T08: whatever modes a program sets, the terminal is sane after leaving; they come back with attach.
#[test]
fn modes_are_undone_on_leaving_and_redone_on_attaching() {
    let env = Env::new();
    let script = r"printf '\033[?1049h\033[?1000h\033[?1006h\033[?2004h\033[>1u\033[?25l\033[4h\033[2;5r\033[?1h\033=alternate'; stty -echo; sleep 60";
    let mut pty = Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", script]);
    pty.wait_for("alternate");
    let set = pty.screen(|screen| screen.modes());
    assert!(set.alternate && set.mouse && set.bracketed_paste && !set.cursor_visible, "{set:?}");
    pty.type_text(LEAVE);
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    let sane = |modes: tripmine::term::screen::Modes| {
        !modes.alternate
            && !modes.mouse
            && !modes.bracketed_paste
            && !modes.kitty_keyboard
            && modes.cursor_visible
    };
    crate::env::until("sane modes", PATIENCE, || sane(pty.screen(|screen| screen.modes())));
    if verbs_missing(&env) {
        skip("modes_are_undone_on_leaving_and_redone_on_attaching (attach)", "the verbs are not wired");
        return end(&env);
    }
    let id = env.record()["id"].as_str().unwrap().to_owned();
    let mut again = Pty::tripmine(&env, &["attach", &id]);
    again.wait_for("alternate");
    let modes = again.screen(|screen| screen.modes());
    assert_eq!(modes, set);
    again.kill();
    // A face that was killed could not restore the terminal; the next one does.
    let mut third = Pty::tripmine(&env, &["attach", &id]);
    third.wait_for("alternate");
    third.type_text(LEAVE);
    assert_eq!(third.wait_exit(PATIENCE), 0);
    crate::env::until("sane modes", PATIENCE, || sane(third.screen(|screen| screen.modes())));
    end(&env);
}

/// T05: names that would draw on the terminal are shown escaped.
#[test]
fn hostile_names_are_shown_escaped() {
    let env = Env::new();
    let evil = "x\x1b]0;pwned\x07\u{202e}y\nz";
    for args in [
        &["run", "host", "-m", evil, "--", "true"][..],
        &["run", evil, "--", "true"],
        &[evil],
        &["--mount", evil, "--", "true"],
        &["run", "host", "--", evil],
        &["run", "host", "--memory", evil, "--", "true"],
        &["run", "host", "--env-file", evil],
        &["run", "host", "--workdir", &format!("/{evil}"), "--", "true"],
        &["run", "host", "--keep", evil],
        &["-e", evil, "x"],
    ] {
        let output = env.tripmine(args);
        assert_ne!(output.code, 0, "{args:?}");
        let text = format!("{}{}", output.stdout, output.stderr);
        assert!(
            !text.contains('\x1b') && !text.contains('\u{202e}') && !text.contains('\x07'),
            "{args:?}: {text:?}"
        );
    }
    // Folders of that name, too.
    std::fs::create_dir(env.projects.join(evil)).unwrap();
    let output =
        env.tripmine(["--mount", env.projects.join(evil).to_str().unwrap(), "--", "/bin/sh", "-c", "exit 5"]);
    assert!(!output.stderr.contains('\x1b'), "{output:?}");
}

/// T05: the same where names are listed: of projects, machines, sockets and processes, in arguments, events and logs.
#[test]
fn hostile_names_are_escaped_where_they_are_listed() {
    use std::os::unix::ffi::OsStrExt;
    let env = Env::new();
    let evil = "x\x1b]0;pwned\x07\u{202e}\u{9b}2Jy";
    let raw = |text: &str| text.contains(['\x1b', '\x07', '\u{202e}', '\u{9b}']);
    // Names of folders and files that a cube can make, also such as are no text at all, and the longest.
    for name in [evil.as_bytes(), b"a\xff\x1b[2J\nb", &[0x1b; 255]] {
        std::fs::create_dir(env.projects.join(std::ffi::OsStr::from_bytes(name))).unwrap();
    }
    let project = env.project("p");
    let _listener = std::os::unix::net::UnixListener::bind(project.join(format!("{evil}.sock"))).unwrap();
    env.tripmine(["machine", "list"]).ok(0);
    let machines = env.tripmine_home.join("config/machines");
    std::fs::create_dir_all(&machines).unwrap();
    std::fs::write(machines.join(format!("{evil}.toml")), "image = \"host\"\n").unwrap();
    let long = "\x1b[31m".repeat(800);
    let script = format!("printf '%s\\n' \"$0\"; perl -e '$0 = \"{evil}\"; sleep 60' & sleep 60");
    let started = env.tripmine(["-d", "p", "--", "/bin/sh", "-c", &script, evil, &long]);
    assert!(!raw(&started.stderr) && started.stderr.contains(".sock"), "{started:?}");
    let id = env.record()["id"].as_str().unwrap().to_owned();
    for args in [
        &["project", "list"][..],
        &["machine", "list"],
        &["machine", "show", evil],
        &["project", "rm", evil, "--yes"],
        &["ps"],
        &["ps", "-a"],
        &["inspect", &id],
        &["stats", &id],
        &["events"],
        &["attach", evil],
        &["exec", &id, "--", evil],
        &["exec", "-w", evil, &id, "--", "true"],
        &["logs", evil],
        &["stop", evil],
        &["rm", evil, "--yes"],
        &["rename", &id, evil],
        &["prune", "--dry-run"],
    ] {
        let output = env.tripmine(args);
        assert!(!raw(&output.stdout) && !raw(&output.stderr), "{args:?}: {output:?}");
    }
    // What it said passes the filter where a person reads it.
    let mut pty = Pty::tripmine(&env, &["logs", &id]);
    pty.wait_for("y");
    pty.wait_exit(PATIENCE);
    let seen = pty.raw();
    assert!(
        memchr::memmem::find(&seen, b"pwned").is_none() || !seen.contains(&7),
        "{:?}",
        String::from_utf8_lossy(&seen)
    );
    end(&env);
}

/// A terminal is a person's: a pipe gets the bytes as they are.
#[test]
fn pipes_are_not_filtered() {
    let env = Env::new();
    let output = env.inside(r"printf '\033]52;c;cHduCg==\007'");
    assert_eq!(output.ok(0), "\x1b]52;c;cHduCg==\x07");
}

/// T08. Guards: the bytes of `term::leave` where the cube itself has no terminal, because input is not one.
#[test]
fn a_terminal_that_only_shows_output_comes_back_as_it_was() {
    let env = Env::new();
    for stream in ["1", "2"] {
        let script = format!(
            r"printf '\\033[?1049h\\033[?1003h\\033[?1006h\\033[>1u\\033[?25l\\033[2;5r' >&{stream}; echo said"
        );
        let line = format!("{:?} run host -- /bin/sh -c \"{script}\" </dev/null; echo over", env.binary());
        let mut pty = Pty::start(&env, std::path::Path::new("/bin/sh"), &["-c", &line]);
        pty.wait_for("over");
        pty.wait_exit(PATIENCE);
        let raw = String::from_utf8_lossy(&pty.raw()).into_owned();
        let (before, after) = raw.rsplit_once("over").expect(&raw);
        assert!(before.contains("\x1b[?1003h"), "{stream}: {raw:?}");
        for undone in ["\x1b[?1049l", "\x1b[?1003l", "\x1b[?1006l", "\x1b[<64u", "\x1b[?25h", "\x1b[r"] {
            let (set, reset) = (before.rfind("\x1b[?1003h"), before.rfind(undone));
            assert!(reset > set, "{stream}: {undone:?} in {raw:?}");
        }
        assert!(!after.contains('\x1b'), "{after:?}");
    }
}
