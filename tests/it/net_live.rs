//! The net of a running cube: what it says it did, rules that are added, phases, and deaths at the worst moment.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::env::{Env, signal, skip, until};
use crate::peers::Peer;

/// As the client of the policies' tests, as one word of a shell.
const GET: &str = r#"perl -e 'use IO::Socket::INET; alarm 8; my $s = IO::Socket::INET->new("$ARGV[0]:$ARGV[1]") or do { print "REFUSED"; exit };
print $s "GET / HTTP/1.0\r\n\r\n"; my $a = join "", <$s>; print $a =~ /hello/ ? "HELLO" : $a =~ /403/ ? "DENIED" : "RESET"' host.tripmine.internal"#;

struct Cube<'a> {
    env: &'a Env,
    id: String,
}

impl<'a> Cube<'a> {
    fn start(env: &'a Env, options: &[&str]) -> Self {
        let output = env.tripmine([&["run", "-d"], options, &["host", "--", "sleep", "300"]].concat());
        Self { env, id: output.ok(0).to_owned() }
    }

    fn get(&self, port: u16) -> String {
        self.env.tripmine(["exec", &self.id, "--", "sh", "-c", &format!("{GET} {port}")]).stdout
    }

    fn net(&self, words: &[&str]) -> crate::env::Output {
        self.env.tripmine([&["net", self.id.as_str()], words].concat())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.net(&["--json"]).stdout).unwrap()
    }
}

impl Drop for Cube<'_> {
    fn drop(&mut self) {
        let _ended = self.env.tripmine(["kill", &self.id]);
        until("the cube is gone", Duration::from_secs(10), || !self.env.runs(&self.id));
    }
}

fn has_perl() -> bool {
    std::path::Path::new("/usr/bin/perl").exists()
}

#[test]
fn a_rule_takes_effect_at_once() {
    if !has_perl() {
        return skip("a_rule_takes_effect_at_once", "there is no perl in /usr");
    }
    let (env, web, other) = (Env::new(), Peer::web(), Peer::web());
    let cube = Cube::start(&env, &["--allow", "unused.example:443"]);
    let rule = format!("127.0.0.1:{}", web.port());
    assert_eq!(cube.get(web.port()), "DENIED");
    cube.net(&["allow", &rule, "--once"]).ok(0);
    assert_eq!(cube.get(web.port()), "HELLO");
    assert_eq!(cube.get(web.port()), "DENIED", "once is once");
    cube.net(&["allow", &rule]).ok(0);
    assert_eq!((cube.get(web.port()), cube.get(web.port())), ("HELLO".into(), "HELLO".into()));
    assert_eq!(cube.get(other.port()), "DENIED");
    assert_eq!((web.seen().len(), other.seen().len()), (3, 0));
    // What happened, in order, with who decided; and figures.
    let json = cube.json();
    let kinds: Vec<_> =
        json["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "denied").count(), 3, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "opened").count(), 3, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "changed").count(), 2, "{kinds:?}");
    let asked = json["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "denied");
    let who: Vec<_> = asked.map(|event| event["connection"]["who"].as_str().unwrap_or_default()).collect();
    assert_eq!(who, ["perl"; 3], "which program it was");
    assert_eq!(json["status"]["gateway"]["policy"], "allow");
    assert_eq!(json["status"]["capture"]["state"], "full");
    let log = json["events"].as_array().unwrap().clone();
    let closed = log.iter().find(|event| event["kind"] == "closed").unwrap();
    assert!(closed["end"]["received"].as_u64().unwrap() > 18, "{closed}");
    let text = cube.net(&[]).stdout;
    assert!(
        text.contains("denied") && text.contains(&format!("host.tripmine.internal:{}", web.port())),
        "{text}"
    );
    for (words, code, part) in [
        (&["allow", "https://x.example/"][..], 2, "looks like a web address"),
        (&["allow", "localhost:1"], 2, "can never match"),
        (&["phase", "run"], 1, "already"),
        (&["phase", "back"], 2, "phase `run`"),
    ] {
        cube.net(words).fails(code, part);
    }
    env.tripmine(["net", "no-such-cube"]).fails(1, "no-such-cube");
}

/// With `none` too: the gateway is there, and says no.
#[test]
fn a_cube_that_reaches_nothing_can_be_allowed_something() {
    if !has_perl() {
        return skip("a_cube_that_reaches_nothing_can_be_allowed_something", "there is no perl in /usr");
    }
    let (env, web) = (Env::new(), Peer::web());
    let cube = Cube::start(&env, &[]);
    until("the gateway is there", Duration::from_secs(10), || cube.json()["status"]["gateway"].is_object());
    assert_eq!(cube.get(web.port()), "REFUSED");
    let rule = format!("127.0.0.1:{}", web.port());
    cube.net(&["allow", &rule, "--machine"]).ok(0);
    assert_eq!(cube.get(web.port()), "HELLO");
    // It is in the machine's file, in the user's words, and the next cube has it.
    let file = std::fs::read_to_string(env.tripmine_home.join("config/machines/default.toml")).unwrap();
    assert!(file.contains(&format!("allow = [\"{rule}\"]")) && file.contains("net = \"allow\""), "{file}");
    let next = Cube::start(&env, &[]);
    assert_eq!(next.get(web.port()), "HELLO");
}

#[test]
fn the_set_up_has_its_own_policy() {
    if !has_perl() {
        return skip("the_set_up_has_its_own_policy", "there is no perl in /usr");
    }
    let (env, web) = (Env::new(), Peer::web());
    let rule = format!("127.0.0.1:{}", web.port());
    env.tripmine(["machine", "create", "two", "--allow", &rule, "--setup", "allow", "--net", "none"]).ok(0);
    let cube = Cube::start(&env, &["-m", "two"]);
    assert_eq!(cube.get(web.port()), "HELLO");
    assert_eq!(cube.json()["status"]["then"], "none");
    cube.net(&["phase", "run"]).ok(0);
    assert_ne!(cube.get(web.port()), "HELLO");
    cube.net(&["phase", "run"]).fails(1, "already");
    assert_eq!(web.seen().len(), 1);
}

/// A keeper that is killed takes the listeners along: a connection of that moment reaches nobody.
#[test]
fn a_killed_keeper_leaks_nothing() {
    if !has_perl() {
        return skip("a_killed_keeper_leaks_nothing", "there is no perl in /usr");
    }
    let (env, web, canary) = (Env::new(), Peer::web(), Peer::canary());
    let rule = format!("127.0.0.1:{}", web.port());
    let script = format!(
        "use IO::Socket::INET; while (1) {{ for my $p ({}, {}) {{ my $s = IO::Socket::INET->new(\"host.tripmine.internal:$p\") or next; \
         print $s \"GET / HTTP/1.0\\r\\n\\r\\n\"; 1 while <$s> }} select(undef, undef, undef, 0.01) }}",
        web.port(),
        canary.port()
    );
    let output = env.tripmine(["run", "-d", "--allow", &rule, "host", "--", "perl", "-e", &script]);
    let id = output.ok(0).to_owned();
    until("it connects", Duration::from_secs(20), || web.seen().len() > 3);
    let keeper = i32::try_from(env.record()["keeper"]["pid"].as_i64().unwrap()).unwrap();
    signal(keeper, Signal::KILL);
    until("the cube ends", Duration::from_secs(10), || !env.runs(&id));
    assert_eq!(canary.seen(), Vec::<String>::new());
    let log = env.tripmine(["net", &id]).stdout;
    assert!(log.contains("opened") && log.contains("denied"), "{log}");
    // Whoever comes next clears what a killed keeper left.
    env.tripmine(["ps", "-a"]).ok(0);
}

/// What follows the log sees what comes, and ends with the cube.
#[test]
fn the_log_is_followed() {
    if !has_perl() {
        return skip("the_log_is_followed", "there is no perl in /usr");
    }
    let env = Env::new();
    let cube = Cube::start(&env, &["--allow", "unused.example:443"]);
    let follower = env.command(["net", "-f", "--json", &cube.id]).spawn().unwrap();
    assert_eq!(cube.get(81), "DENIED");
    drop(cube);
    let output = crate::env::finish(follower, Duration::from_secs(10));
    let lines: Vec<Value> = output.ok(0).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines.len(), &lines[0]["kind"], &lines[0]["connection"]["port"]),
        (1, &"denied".into(), &81.into())
    );
}
