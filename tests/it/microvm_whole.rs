//! What a cube is elsewhere it is in a guest: kept, reviewed, attached to, limited, stopped, killed, as root, without a home.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use crate::env::{alone, until};
use crate::microvm::{BOOT, running, vm, world};
use crate::pty::Pty;

/// Serves one line to whoever connects: `perl -e SERVE PLACE`.
const SERVE: &str = "use IO::Socket::INET; use IO::Socket::UNIX; my $p = shift; unlink $p; my $s = $p =~ m!/! \
    ? IO::Socket::UNIX->new(Local => $p, Listen => 5) : IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $p, Listen => 5, ReuseAddr => 1); \
    while (my $c = $s->accept) { my $l = <$c>; print $c \"heard $l\"; close $c }";

#[test]
fn a_kept_guest_is_reviewed_limited_attached_to_and_stopped() {
    let _alone = alone();
    let name = "a_kept_guest_is_reviewed_limited_attached_to_and_stopped";
    let Some(env) = world(name) else { return };
    let project = env.project("site");
    std::fs::write(project.join("old"), "mine\n").unwrap();
    let script = "trap 'echo bye > /opt/bye; exit 3' TERM; echo made > /opt/made; echo theirs > old; echo new > new; echo is-up; \
                  while :; do if read -t 1 -r word; then echo heard $word; fi; done";
    let options = ["--jail", "microvm", "--keep", "box", "--review", "--pids", "40", "-d", "site"];
    vm(&env, &[&options[..], &["--", "/bin/bash", "-c", script]].concat()).ok(0);
    until("the guest is up", BOOT, || vm(&env, &["logs", "box"]).stdout.contains("is-up"));

    // Held for review: nothing of it in the project until it is taken over.
    assert_eq!(std::fs::read_to_string(project.join("old")).unwrap(), "mine\n");
    assert!(!project.join("new").exists());

    // Left and entered again, by whoever types.
    let mut pty = Pty::tripmine(&env, &["attach", "box"]);
    pty.wait_for("leaves it running");
    pty.type_text("first\n");
    pty.wait_for("heard first");
    pty.type_text("\u{1d}d");
    assert_eq!(pty.wait_exit(BOOT), 0);
    let mut pty = Pty::tripmine(&env, &["attach", "box"]);
    pty.wait_shown("heard first");
    pty.type_text("second\n");
    pty.wait_for("heard second");
    pty.type_text("\u{1d}d");
    assert_eq!(pty.wait_exit(BOOT), 0);

    // Limits are the guest's own.
    let exec = |script: &str| vm(&env, &["exec", "box", "--", "/bin/bash", "-c", script]);
    let most = exec("ulimit -n; ulimit -c");
    assert_eq!(most.ok(0), "65536\n0", "each process: this host's own limit is not the guest's");
    let flood = "for (1..100) { my $p = fork; last unless defined $p; sleep 100 if !$p; push @p, $p } print 0+@p; kill 9, @p";
    let made: usize = exec(&format!("perl -e '{flood}'")).ok(0).parse().unwrap();
    assert!((20..40).contains(&made), "{made} of 100 beside what runs already");

    // Stopped, it ends as it does by itself; entered again, what it changed is there.
    vm(&env, &["stop", "box"]).ok(0);
    assert_eq!(env.record()["exit"]["code"], 3, "{}", env.record());
    assert!(vm(&env, &["changes", "box"]).ok(0).contains("new"));
    vm(&env, &["apply", "box", "new"]).ok(0);
    assert_eq!(std::fs::read_to_string(project.join("new")).unwrap(), "new\n");
    assert_eq!(std::fs::read_to_string(project.join("old")).unwrap(), "mine\n");
    let cat = ["-T", "site", "--", "cat", "/opt/made", "/opt/bye", "old"];
    assert_eq!(vm(&env, &[&options[..5], &cat].concat()).ok(0), "made\nbye\ntheirs");
    vm(&env, &["rm", "--yes", "box"]).ok(0);
}

#[test]
fn a_guest_of_root_is_root_and_what_listens_in_it_is_reached() {
    let _alone = alone();
    let Some(env) = world("a_guest_of_root_is_root_and_what_listens_in_it_is_reached") else { return };
    let id = running(&env, &["--user", "root", "--ephemeral"], "echo lost > ~/lost");
    let exec = |script: &str| vm(&env, &["exec", &id, "--", "/bin/bash", "-c", script]);
    assert_eq!(exec("id -u; cat ~/lost; mount -t tmpfs none /mnt && echo mounted").ok(0), "0\nlost\nmounted");

    // A port that only root may listen on, and a unix socket.
    for place in ["80", "/tmp/s.sock"] {
        exec(&format!("perl -e '{}' {place} >/dev/null 2>&1 </dev/null &", SERVE.replace('\'', "\""))).ok(0);
    }
    until("the socket is there", BOOT, || exec("test -S /tmp/s.sock").code == 0);
    until("the port is seen", BOOT, || vm(&env, &["ports", &id]).stdout.contains("80"));
    let said = |stream: &mut dyn ReadWrite| {
        let mut answer = String::new();
        let asked = stream.write_all(b"this\n").and_then(|()| stream.read_to_string(&mut answer));
        asked.is_ok() && answer == "heard this\n"
    };
    let opened = vm(&env, &["forward", &id, "--port", "0:80", "-d"]);
    let port: u16 = opened.ok(0).split([':', ' ']).nth(1).unwrap().parse().unwrap();
    until("the guest's port 80 answers", BOOT, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| said(&mut stream))
    });
    let socket = env.home.canonicalize().unwrap().join("s");
    let map = format!("{}:/tmp/s.sock", socket.display());
    vm(&env, &["forward", &id, "--port", &map, "-d"]).ok(0);
    for _ in 0..3 {
        assert!(said(&mut UnixStream::connect(&socket).unwrap()), "the guest's unix socket");
    }
    // One that nothing listens on is closed at once.
    let nowhere = env.home.canonicalize().unwrap().join("n");
    vm(&env, &["forward", &id, "--port", &format!("{}:/tmp/none", nowhere.display()), "-d"]).ok(0);
    let mut end = Vec::new();
    let _reset = UnixStream::connect(&nowhere).unwrap().read_to_end(&mut end);
    assert!(end.is_empty());

    vm(&env, &["kill", &id]).ok(0);
    assert_eq!(env.record()["exit"]["signal"], 9, "{}", env.record());
    let homes = env.tripmine_home.join("data/homes/default/lost");
    assert!(!homes.exists(), "the home of a cube that is ephemeral");
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> ReadWrite for T {}
