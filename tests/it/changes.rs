//! `tripmine changes`: what a cube changed in its system, while it runs and after it was kept.

use std::time::Duration;

use serde_json::Value;

use crate::env::{Env, PATIENCE, is_root, skip, until};

/// The changes of a cube, as `A path` lines.
fn changes(env: &Env, cube: &str) -> Vec<String> {
    let output = env.tripmine(["changes", "--json", cube]);
    let value: Value = serde_json::from_str(output.ok(0)).unwrap();
    assert_eq!((&value["version"], &value["complete"]), (&Value::from(1), &Value::from(true)));
    let letter = |change: &Value| match change["what"].as_str().unwrap() {
        "added" => "A",
        "changed" => "M",
        _ => "D",
    };
    let line = |change: &Value| format!("{} {}", letter(change), change["path"].as_str().unwrap());
    value["changes"].as_array().unwrap().iter().map(line).collect()
}

/// Launches a cube that runs `script`, says when it is through, and stays.
fn running(env: &Env, options: &[&str], script: &str) -> String {
    let script = format!("{script}\ntouch /tmp/ready; exec sleep 600");
    let output = env.tripmine([&["run", "host", "-d"], options, &["--", "/bin/sh", "-c", &script]].concat());
    let id = output.ok(0).to_owned();
    until("the script is through", PATIENCE, || {
        env.tripmine(["exec", &id, "--", "test", "-e", "/tmp/ready"]).code == 0
    });
    id
}

const SCRIPT: &str = "cd /etc && echo one > added && chmod 600 hosts && rm fstab && echo more >> profile && \
    ln -s /etc/shadow link && mkdir -p /opt/a/b && mkfifo /opt/a/pipe && touch -d 2001-01-01 group && \
    echo x > /tmp/not-told && echo x > /run/not-told && echo x > ~/not-told && printf 'x' > \"$(printf 'evil\\033[2J\\nname')\"";

const WANT: [&str; 9] = [
    "A /etc/added",
    "A /etc/evil\\u{1b}[2J\\nname",
    "D /etc/fstab",
    "M /etc/hosts",
    "A /etc/link",
    "M /etc/profile",
    "A /opt/a",
    "A /opt/a/b",
    "A /opt/a/pipe",
];

#[test]
fn a_running_throwaway_tells_what_it_changed_and_nothing_else() {
    let env = Env::new();
    let id = running(&env, &[], SCRIPT);
    assert_eq!(changes(&env, &id), WANT);
    let shown = env.tripmine(["changes", "--diff", &id]);
    for part in ["D /etc/fstab", "mode 0644 → 0600", "+one", "+more", "→ /etc/shadow", "pipe"] {
        assert!(shown.ok(0).contains(part), "`{part}`: {}", shown.stdout);
    }
    assert!(!shown.stdout.contains('\u{1b}') && !shown.stdout.contains("group"), "{}", shown.stdout);
    let some = env.tripmine(["changes", &id, "/opt"]);
    assert_eq!(some.ok(0), "A /opt/a/\nA /opt/a/b/\nA /opt/a/pipe  pipe");
    env.tripmine(["kill", &id]).ok(0);
    until("it has ended", PATIENCE, || env.tripmine(["ps"]).stdout.lines().count() <= 1);
    env.tripmine(["changes", &id]).fails(1, "its changes went with it");
}

#[test]
fn a_kept_cube_tells_it_after_its_end() {
    let env = Env::new();
    env.inside_with(&["--keep", "box"], SCRIPT).ok(0);
    assert_eq!(changes(&env, "box"), WANT);
    // Taken back, nothing is changed: what was only copied does not count.
    env.inside_with(&["--keep", "box"], "cd /etc && rm -r added link evil* /opt/a && chmod 644 hosts").ok(0);
    assert_eq!(changes(&env, "box"), ["D /etc/fstab", "M /etc/profile"]);
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

#[test]
fn modes_that_keep_the_owner_out_keep_no_change_hidden() {
    let env = Env::new();
    let script = "mkdir -p /opt/closed/in && echo x > /opt/closed/in/f && chmod 000 /opt/closed/in/f /opt/closed/in /opt/closed";
    env.inside_with(&["--keep", "box"], script).ok(0);
    assert_eq!(changes(&env, "box"), ["A /opt/closed", "A /opt/closed/in", "A /opt/closed/in/f"]);
    let id = running(&env, &[], script);
    assert_eq!(changes(&env, &id), ["A /opt/closed", "A /opt/closed/in", "A /opt/closed/in/f"]);
    env.tripmine(["kill", &id]).ok(0);
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

#[test]
fn root_inside_is_root_in_what_is_told() {
    let env = Env::new();
    let many =
        is_root() || std::fs::read_to_string("/etc/subuid").is_ok_and(|text| text.contains("tripmine-test"));
    if !many {
        return skip("root_inside_is_root_in_what_is_told", "no subordinate ids");
    }
    let script = "mkdir /opt/own && chown 7:8 /opt/own && cp /bin/true /opt/suid && chown 0:0 /opt/suid && chmod 4755 /opt/suid";
    let id = running(&env, &["--user", "root"], script);
    let shown = env.tripmine(["changes", &id]);
    assert!(shown.ok(0).contains("A /opt/suid  mode 4755"), "{}", shown.stdout);
    env.tripmine(["kill", &id]).ok(0);
    env.inside_with(&["--user", "root", "--keep", "box"], script).ok(0);
    let owner = env.inside_with(&["--user", "root", "--keep", "box"], "stat -c %u:%g /opt/own");
    assert_eq!(owner.ok(0), "7:8");
    assert_eq!(changes(&env, "box"), ["A /opt/own", "A /opt/suid"]);
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

#[test]
fn ten_thousand_files_take_a_moment() {
    let env = Env::new();
    let script =
        "mkdir /opt/many && cd /opt/many && i=0; while [ $i -lt 10000 ]; do : > f$i; i=$((i+1)); done";
    env.inside_with(&["--keep", "box"], script).ok(0);
    let begun = std::time::Instant::now();
    assert_eq!(changes(&env, "box").len(), 10_001);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}
