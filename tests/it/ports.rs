//! `tripmine ports`: what listens in a cube, seen from outside.

use crate::env::{Env, PATIENCE, skip, until};
use crate::forward::Cube;

#[test]
fn what_listens_is_listed_with_its_program() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        return skip("what_listens_is_listed_with_its_program", "there is no python3");
    }
    let env = Env::new();
    for options in [&[][..], &["--user", "root"]] {
        let cube =
            Cube::launch(&env, options, &["127.0.0.1:3000", "0.0.0.0:3001", "::1:3002", "127.0.0.7:3003"]);
        let found: Vec<String> = cube
            .ports()
            .iter()
            .map(|port| {
                let text = |key: &str| port[key].as_str().unwrap_or_default().to_owned();
                format!("{} {} {} {}", port["port"], text("address"), text("scope"), text("program"))
            })
            .collect();
        let expected = [
            "3000 127.0.0.1 loopback python3",
            "3001 0.0.0.0 all python3",
            "3002 ::1 loopback python3",
            "3003 127.0.0.7 loopback python3",
        ];
        assert_eq!(found, expected, "{options:?}");
        assert_eq!(cube.ports()[0]["pid"], 2, "the number inside");
        let shown = env.tripmine(["ports"]);
        assert_eq!(shown.ok(0).lines().count(), 5, "{shown:?}");
    }
}

/// A name may hold anything that fits in 15 bytes.
#[test]
fn hostile_names_are_shown_harmless() {
    let env = Env::new();
    let script = r#"
use Socket; $0 = "\e[2J\e]0;x\a\xff\n";
open(my $f, '>', "/proc/self/comm"); syswrite($f, "\e[2J\e]0;x\a\xff"); close $f;
socket(my $l, PF_INET, SOCK_STREAM, 0); bind($l, sockaddr_in(9000, INADDR_LOOPBACK)); listen($l, 1); sleep 600"#;
    let output = env.tripmine(["run", "host", "-d", "--", "perl", "-e", script]);
    let id = output.ok(0).to_owned();
    let live = |env: &Env| env.tripmine(["ports", &id]);
    until("it listens, or there is no perl", PATIENCE, || {
        let shown = live(&env);
        shown.code != 0 || shown.stdout.contains("9000")
    });
    let shown = live(&env);
    if shown.code != 0 {
        return skip("hostile_names_are_shown_harmless", "there is no perl in /usr");
    }
    assert!(!shown.stdout.contains('\x1b') && shown.stdout.contains("\\u{1b}[2J"), "{shown:?}");
    let json = env.tripmine(["ports", "--json", &id]);
    assert!(!json.stdout.contains('\x1b') && json.stdout.contains("[2J"), "{json:?}");
    // The same where a forward has to be chosen.
    let output = env.tripmine(["forward", &id]);
    assert!(!output.stderr.contains('\x1b') && output.stderr.contains("9000"), "{output:?}");
    env.tripmine(["stop", "-t", "0", &id]).ok(0);
}

#[test]
fn only_running_cubes_have_ports() {
    let env = Env::new();
    assert!(env.tripmine(["ports"]).stderr.contains("no cube runs"));
    env.tripmine(["ports", "nobody"]).fails(1, "there is no cube `nobody`");
    let id = env.tripmine(["run", "host", "-d", "--", "sleep", "600"]).ok(0).to_owned();
    assert!(env.tripmine(["ports"]).stderr.contains("nothing listens"));
    env.tripmine(["stop", "-t", "0", &id]).ok(0);
    env.tripmine(["ports", &id]).fails(1, "has ended");
}
