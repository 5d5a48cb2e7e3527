//! The life of a launch: what is started, with what, how it ends, what stays and what goes.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::env::{Env, PATIENCE, finish, pid, until};
use crate::left;
use crate::pty::Pty;

/// The exit code of the entry is the exit code of the launch.
#[test]
fn exit_codes_arrive() {
    let env = Env::new();
    for code in [0, 1, 2, 42, 99, 124, 125, 126, 127, 128, 130, 254, 255] {
        assert_eq!(env.inside(&format!("exit {code}")).code, code);
    }
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("HUP", 129), ("SEGV", 139), ("ABRT", 134)] {
        let output = env.inside(&format!("kill -{signal} $$"));
        assert_eq!(output.code, code, "{signal}: {output:?}");
        assert_eq!(env.record()["exit"]["code"], code);
    }
}

#[test]
fn what_cannot_be_started_is_127_or_126() {
    let env = Env::new();
    for (command, code, part) in [
        ("no-such-command", 127, "no-such-command"),
        ("/no/such/file", 127, "/no/such/file"),
        ("/etc/passwd", 126, "/etc/passwd"),
        ("/etc", 126, "/etc"),
        ("/usr", 126, "/usr"),
    ] {
        let output = env.tripmine(["run", "host", "--", command]);
        output.fails(code, part);
        assert_eq!(env.record()["exit"]["reason"]["kind"], "not-started", "{command}");
    }
    let script = "printf '#!/no/interpreter\\n' > ~/x; chmod +x ~/x";
    env.inside(script).ok(0);
    let home = env.inside("echo $HOME").ok(0).to_owned();
    env.tripmine(["run", "host", "--", &format!("{home}/x")]).fails(127, "interpreter");
}

#[test]
fn arguments_arrive_as_they_are() {
    let env = Env::new();
    let odd = ["", " ", "a b", "*", "$HOME", "'", "\"", "\\", "-x", "--help", "--", "é", "\n", "a\tb"];
    let mut args = vec!["run", "host", "--", "printf", "<%s>"];
    args.extend(odd);
    let want: String = odd.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(env.tripmine(args).stdout, want);
    let long = "x".repeat(4096);
    assert_eq!(env.tripmine(["run", "host", "--", "printf", "%s", &long]).ok(0), long);
    assert_eq!(
        env.tripmine(["run", "host", "--", "printf", "%s", &"y".repeat(131_000)]).ok(0).len(),
        131_000
    );
    // One byte more than the kernel takes is refused by name, not by a mystery.
    env.tripmine(["run", "host", "--", "true", &"z".repeat(131_071)]).ok(0);
    // A face that gets more has it from another kernel; the shell cannot even say it here.
    env.inside_with(&["-e", &format!("LONG={}", "v".repeat(131_000))], "test ${#LONG} = 131000").ok(0);
}

#[test]
fn variables_are_only_those_that_were_named() {
    let env = Env::new();
    let file = env.root().join("vars.env");
    std::fs::write(&file, "# a comment\nFROM_FILE=a b\nCOPIED\n\nEMPTY=\n").unwrap();
    let mut command = env.command([
        "run",
        "host",
        "-e",
        "SET=one=two",
        "-e",
        "TAKEN",
        "-e",
        "NOT_THERE",
        "--env-file",
        file.to_str().unwrap(),
        "--",
        "env",
    ]);
    command.env("TAKEN", "t").env("COPIED", "c").env("SECRET", "s").env("LD_PRELOAD_X", "s");
    let output = finish(command.spawn().unwrap(), PATIENCE);
    let mut names: Vec<&str> = output.ok(0).lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "COPIED",
            "EMPTY",
            "FROM_FILE",
            "HOME",
            "LANG",
            "LOGNAME",
            "PATH",
            "SET",
            "SHELL",
            "TAKEN",
            "TERM",
            "TRIPMINE",
            "USER"
        ]
    );
    for line in ["SET=one=two", "TAKEN=t", "FROM_FILE=a b", "COPIED=c", "EMPTY="] {
        assert!(output.stdout.lines().any(|found| found == line), "{line}: {output:?}");
    }
    // Values are never written down.
    let record = env.record().to_string();
    assert!(!record.contains("one=two") && record.contains("SET"), "{record}");
}

/// A megabyte of environment works or is refused with a sentence; it never hangs or kills the keeper.
#[test]
fn a_megabyte_of_environment() {
    let env = Env::new();
    let file = env.root().join("big.env");
    let mut text = String::new();
    for index in 0..10 {
        text.push_str(&format!("BIG{index}={}\n", "x".repeat(100_000)));
    }
    std::fs::write(&file, &text).unwrap();
    let output = env.tripmine([
        "run",
        "host",
        "--env-file",
        file.to_str().unwrap(),
        "--",
        "/bin/sh",
        "-c",
        "env | wc -c",
    ]);
    assert!(output.ok(0).trim().parse::<u64>().unwrap() > 1_000_000);
    std::fs::write(&file, format!("BIG={}\n", "x".repeat(200_000))).unwrap();
    env.tripmine(["run", "host", "--env-file", file.to_str().unwrap(), "--", "true"])
        .fails(2, "`BIG` is too long");
    std::fs::write(&file, text.repeat(2).replace("BIG", "OTHER")).unwrap();
    assert!(matches!(
        env.tripmine(["run", "host", "--env-file", file.to_str().unwrap(), "--", "true"]).code,
        0 | 2 | 125
    ));
}

/// Home and project stay, everything else goes, `--ephemeral` drops the home's changes too.
#[test]
fn what_stays_and_what_goes() {
    let env = Env::new();
    let project = env.project("p");
    let write = "echo 1 > ~/kept; echo 1 > kept; echo 1 > /tmp/gone; echo 1 > /var/tmp/gone; echo 1 > /gone; echo 1 > /etc/gone; true";
    env.tripmine(["--user", "root", "p", "--", "/bin/sh", "-c", write]).ok(0);
    assert_eq!(std::fs::read_to_string(project.join("kept")).unwrap(), "1\n");
    let look = "ls ~/kept kept /tmp/gone /var/tmp/gone /gone /etc/gone 2>/dev/null | tr '\\n' ' '; pwd";
    let output = env.tripmine(["--user", "root", "p", "--", "/bin/sh", "-c", look]);
    assert!(
        output.ok(0).ends_with("kept kept /projects/p") || output.stdout.contains("kept /"),
        "{output:?}"
    );
    assert!(!output.stdout.contains("gone"), "{output:?}");
    env.tripmine([
        "--ephemeral",
        "p",
        "--",
        "/bin/sh",
        "-c",
        "test -e ~/.profile; echo 2 > ~/dropped; rm -f ~/kept; echo 2 > too",
    ])
    .ok(0);
    let output = env.inside("ls ~");
    assert!(output.ok(0).contains("kept") && !output.stdout.contains("dropped"), "{output:?}");
    assert!(project.join("too").exists(), "--ephemeral is about the home, not the project");
}

#[test]
fn a_kept_cube_keeps_its_system() {
    let env = Env::new();
    env.inside_with(&["--keep", "box"], "echo kept > /etc/kept; echo x > /tmp/gone").ok(0);
    let id = env.record()["id"].clone();
    assert_eq!(env.inside_with(&["--keep", "box"], "cat /etc/kept; ls /tmp").ok(0), "kept");
    assert_eq!(env.record()["id"], id, "the same cube");
    assert_eq!(env.records().len(), 1);
    // Another cube sees nothing of it.
    assert_eq!(env.inside("ls /etc/kept 2>/dev/null; echo none").ok(0), "none");
    // And one is enough at a time.
    let mut first = env.command(["run", "host", "--keep", "box", "--", "/bin/sh", "-c", "echo ready; cat"]);
    let mut first = first.stdin(Stdio::piped()).spawn().unwrap();
    let stdin = first.stdin.take();
    until("it runs", PATIENCE, || env.records().iter().any(|record| record["state"] == "running"));
    env.inside_with(&["--keep", "box"], "true").fails(125, "is running");
    drop(stdin);
    finish(first, PATIENCE).ok(0);
    env.tripmine(["rm", "--all", "--yes"]).ok(0);
}

/// Projects: `.` sees all, a name sees only itself, `--mount` sees one folder at /work.
#[test]
fn what_a_project_sees() {
    let env = Env::new();
    for name in ["one", "two"] {
        std::fs::write(env.project(name).join("file"), name).unwrap();
    }
    assert_eq!(
        env.tripmine(["one", "--", "/bin/sh", "-c", "pwd; ls /projects; cat file"]).ok(0),
        "/projects/one\none\none"
    );
    assert_eq!(env.tripmine([".", "--", "/bin/sh", "-c", "pwd; ls"]).ok(0), "/projects\none\ntwo");
    let elsewhere = env.root().join("elsewhere");
    std::fs::create_dir_all(elsewhere.join("inner")).unwrap();
    let folder = elsewhere.to_str().unwrap();
    assert_eq!(env.tripmine(["--mount", folder, "--", "/bin/sh", "-c", "pwd; ls"]).ok(0), "/work\ninner");
    assert_eq!(
        env.tripmine(["--mount", folder, "inner", "--", "/bin/sh", "-c", "touch made; pwd"]).ok(0),
        "/work"
    );
    assert!(elsewhere.join("inner/made").exists());
}

/// Standard input, output and error are separate and complete, in both directions and at any size.
#[test]
fn pipes_carry_everything() {
    let env = Env::new();
    let output = env.inside("echo out; echo err >&2");
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sum = env.tripmine_with(&["run", "host", "--", "sha256sum"], &big);
    use sha2::Digest;
    let want: String = sha2::Sha256::digest(&big).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(sum.ok(0).starts_with(&want), "{sum:?}");
    assert_eq!(env.inside("head -c 20000000 /dev/zero | tr '\\0' x").ok(0).len(), 20_000_000);
    // A reader that has enough ends its stream, nothing else.
    let piped = format!("{:?} run host -- /bin/sh -c 'yes; exit 0' | head -1", env.binary());
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", &piped])
        .env_clear()
        .envs(env.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    assert_eq!(finish(command.spawn().unwrap(), PATIENCE).ok(0), "y");
}

/// A shell on a terminal is what people start: job control, size, colours.
#[test]
fn a_shell_on_a_terminal() {
    let env = Env::new();
    env.project("p");
    let mut pty = Pty::tripmine(&env, &["--shell", "p"]);
    pty.wait_for("throwaway cube");
    pty.wait_for("@p:/projects/p");
    pty.type_text("stty size; tty; echo in-$((40+2)); pwd\r");
    pty.wait_for("in-42");
    pty.wait_for("30 120");
    pty.wait_for("/dev/pts/0");
    pty.wait_for("/projects/p");
    // Ctrl-C reaches the program in the foreground, not the shell, the face or the cube.
    pty.type_text("(echo go''ing; exec sleep 50)\r");
    pty.wait_for("going");
    pty.type_text("\x03");
    pty.wait_for("^C");
    pty.type_text("echo code-$?\r");
    pty.wait_for("code-130");
    pty.type_text("exit 6\r");
    assert_eq!(pty.wait_exit(PATIENCE), 6);
}

/// Signals to the face are meant for the entry.
#[test]
fn signals_are_passed_on() {
    let env = Env::new();
    let script = "trap 'echo got-int; exit 3' INT; trap 'echo got-term; exit 4' TERM; echo ready; while :; do sleep 0.05; done";
    for (sent, code, text) in [(Signal::INT, 3, "got-int"), (Signal::TERM, 4, "got-term")] {
        let out = env.root().join("out");
        let mut command = env.command(["run", "host", "--", "/bin/sh", "-c", script]);
        let child = command.stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap();
        until("it is ready", PATIENCE, || std::fs::read_to_string(&out).unwrap().contains("ready"));
        rustix::process::kill_process(pid(&child), sent).unwrap();
        finish(child, PATIENCE).ok(code);
        assert!(std::fs::read_to_string(&out).unwrap().contains(text));
    }
}

/// The face may die; the cube lives until it is done.
#[test]
fn the_cube_survives_its_face() {
    let env = Env::new();
    env.project("p");
    let mut pty = Pty::tripmine(
        &env,
        &[
            "p",
            "--",
            "/bin/sh",
            "-c",
            "echo ready; while ! test -e stop; do sleep 0.05; done; echo done > done",
        ],
    );
    pty.wait_for("ready");
    pty.kill();
    still_runs_then_stops(&env);
    let mut pty = Pty::tripmine(
        &env,
        &[
            "p",
            "--",
            "/bin/sh",
            "-c",
            "echo ready; while ! test -e stop; do sleep 0.05; done; echo done > done",
        ],
    );
    pty.wait_for("ready");
    pty.hang_up();
    still_runs_then_stops(&env);
    assert_eq!(pty.wait_exit(PATIENCE), 129, "as after a hang-up");
}

fn still_runs_then_stops(env: &Env) {
    let project = env.projects.join("p");
    assert!(!left::processes(env).is_empty(), "the cube is gone");
    std::fs::write(project.join("stop"), "").unwrap();
    until("the entry ends by itself", PATIENCE, || project.join("done").exists());
    until("its record says so", PATIENCE, || env.record()["state"] == "exited");
    assert_eq!(env.record()["exit"]["code"], 0);
    for name in ["stop", "done"] {
        std::fs::remove_file(project.join(name)).unwrap();
    }
}

/// Descendants end with their cube, whatever they did to hide.
#[test]
fn daemons_end_with_the_cube() {
    let env = Env::new();
    let output = env.inside("(setsid sh -c 'trap \"\" TERM HUP INT; sleep 300' </dev/null >/dev/null 2>&1 &) ; (nohup sleep 301 >/dev/null 2>&1 &); exit 8");
    output.ok(8);
    left::assert_nothing_left(&env);
}

/// A pipe that a daemon of the cube keeps open must not keep the face.
#[test]
fn a_lingering_pipe_does_not_keep_the_launch() {
    let env = Env::new();
    let mut child =
        env.command(["run", "host", "--", "/bin/sh", "-c", "sleep 300 & echo started"]).spawn().unwrap();
    drop(child.stdin.take());
    assert_eq!(finish(child, Duration::from_secs(15)).ok(0), "started");
}

/// Input that nobody reads is no error and no hang.
#[test]
fn unread_input_is_fine() {
    let env = Env::new();
    let output = env.tripmine_with(&["run", "host", "--", "true"], &vec![b'x'; 4 << 20]);
    output.ok(0);
    let mut child = env.command(["run", "host", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"abc").unwrap();
    drop(child.stdin.take());
    assert_eq!(finish(child, PATIENCE).ok(0), "abc");
}
