//! Rows N of the promises for `net none`. Guards: the network namespace, which has nothing but loopback.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use crate::env::{Env, skip};

/// N01.
#[test]
fn there_is_no_interface_but_loopback() {
    let env = Env::new();
    let output = env.inside("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; tail -n +2 /proc/net/route; cat /proc/net/ipv6_route | grep -v ' lo$'; true");
    assert_eq!(output.ok(0), "lo");
}

/// N02 to N06, N09: what connects at all, and that it fails at once.
#[test]
fn connections_fail_at_once() {
    let env = Env::new();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        r#"use Socket; use Errno;
sub try {{ my ($name, $type, $host, $port) = @_; socket(my $s, PF_INET, $type, 0) or do {{ print "$name nosocket\n"; return }};
  alarm 3; local $SIG{{ALRM}} = sub {{ die "timeout\n" }};
  my $ok = eval {{ connect($s, sockaddr_in($port, inet_aton($host))) && ($type == SOCK_STREAM ? sysread($s, my $b, 1) : defined(send($s, "x", 0)) && defined recv($s, $b, 1, 0)) }};
  my ($e) = $@ ? "HANG" : $ok ? "REACHED" : grep {{ $!{{$_}} }} sort keys %!; print "$name $e\n"; alarm 0; }}
try("tcp", SOCK_STREAM, "192.0.2.1", 443); try("udp", SOCK_DGRAM, "192.0.2.1", 123);
try("host", SOCK_STREAM, "127.0.0.1", {port}); try("meta", SOCK_STREAM, "169.254.169.254", 80);
try("broadcast", SOCK_DGRAM, "255.255.255.255", 9);
socket(my $f, PF_INET, SOCK_STREAM, 0); my $r = send($f, "x", 0x20000000, sockaddr_in({port}, inet_aton("127.0.0.1")));
print "fastopen ", (defined $r ? "REACHED" : "refused"), "\n";"#
    );
    // The first launch of a world makes its home and root, which is not what is timed.
    env.inside("true").ok(0);
    let begun = Instant::now();
    let output = env.tripmine(["run", "host", "--", "perl", "-e", &script]);
    if output.code == 127 {
        return skip("connections_fail_at_once", "there is no perl in /usr");
    }
    // Once captured, a connection is accepted by the gateway and reset without a byte.
    let good = ["ECONNRESET", "ENETUNREACH", "ECONNREFUSED", "EPERM", "EACCES", "refused"];
    assert_eq!(output.ok(0).lines().count(), 6, "{output:?}");
    for line in output.ok(0).lines() {
        let (name, answer) = line.split_once(' ').unwrap();
        assert!(good.contains(&answer), "{name}: {answer}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(listener.accept().is_err(), "the host's listener was reached");
}

/// N05.
#[test]
fn names_are_not_resolved() {
    let env = Env::new();
    env.inside("true").ok(0);
    let begun = Instant::now();
    let output = env.inside("getent ahosts example.com; echo $?");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_ne!(output.ok(0).lines().last(), Some("0"), "{output:?}");
}

/// N07. Guards: the network namespace, and Landlock's scope as a second wall.
#[test]
fn abstract_sockets_of_the_host_are_out_of_reach() {
    let env = Env::new();
    let name = format!("tm-canary-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let script = format!(
        "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0); print connect($s, pack_sockaddr_un(\"\\0{name}\")) ? 'REACHED' : 'no'"
    );
    let output = env.tripmine(["run", "host", "--", "perl", "-e", &script]);
    if output.code == 127 {
        return skip("abstract_sockets_of_the_host_are_out_of_reach", "there is no perl in /usr");
    }
    assert_eq!(output.ok(0), "no");
    // The same script outside does reach it: the test could fail.
    let outside = std::process::Command::new("perl").args(["-e", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&outside.stdout), "REACHED");
}

/// N11. Guards: no CAP_NET_ADMIN, also not for root inside.
#[test]
fn the_network_cannot_be_changed() {
    let env = Env::new();
    for options in [&[][..], &["--user", "root"]] {
        // SIOCSIFFLAGS on lo, without IFF_UP.
        let script = r#"socket(my $s, 2, 2, 0) or die; my $r = pack('a16 s x22', 'lo', 0); my $x = ioctl($s, 0x8914, $r); print defined $x ? 'CHANGED' : $!{EPERM} ? 'EPERM' : "other $!""#;
        let output = env.tripmine([&["run", "host"], options, &["--", "perl", "-e", script]].concat());
        if output.code == 127 {
            return skip("the_network_cannot_be_changed", "there is no perl in /usr");
        }
        assert_eq!(output.ok(0), "EPERM", "{options:?}");
    }
}

/// Loopback inside works: tools talk to their own servers.
#[test]
fn its_own_loopback_works() {
    let env = Env::new();
    let script = r#"use Socket; socket(my $l, PF_INET, SOCK_STREAM, 0); bind($l, sockaddr_in(0, INADDR_LOOPBACK)) or die; listen($l, 1);
my ($port) = sockaddr_in(getsockname($l)); if (!fork) { socket(my $c, PF_INET, SOCK_STREAM, 0); connect($c, sockaddr_in($port, INADDR_LOOPBACK)) or die; syswrite($c, "hello"); exit }
accept(my $p, $l); print scalar <$p>; wait"#;
    let output = env.tripmine(["run", "host", "--", "perl", "-e", script]);
    if output.code == 127 {
        return skip("its_own_loopback_works", "there is no perl in /usr");
    }
    assert_eq!(output.ok(0), "hello");
}
