//! The four policies with real peers outside and programs that know nothing of a proxy inside. Guards: the redirect, the
//! gateway's decision, and that nothing else leads out. Every test has a peer that must be reached, so that a net that is
//! merely broken does not pass.

use std::time::{Duration, Instant};

use crate::env::{Env, Output, skip, until};
use crate::peers::Peer;

/// A web client of six lines that honours no proxy variable: prints the body, or how it failed.
const GET: &str = r#"
use IO::Socket::INET; $SIG{ALRM} = sub { print "HANG\n"; exit 1 }; alarm 8;
my ($host, $port) = @ARGV; my $s = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Proto => 'tcp');
if (!$s) { print "REFUSED\n"; exit 0 } print $s "GET / HTTP/1.0\r\nHost: $host\r\n\r\n";
my $all = join '', <$s>; print $all =~ /\r\n\r\n(.*)/s ? ($all =~ /^HTTP\S+ 403/ ? "DENIED\n" : $1) : "RESET\n";
"#;

fn get(env: &Env, options: &[&str], host: &str, port: u16) -> Option<Output> {
    let port = port.to_string();
    let output = env.tripmine([&["run", "host"], options, &["--", "perl", "-e", GET, host, &port]].concat());
    (output.code != 127).then_some(output)
}

macro_rules! got {
    ($name:literal, $get:expr) => {
        match $get {
            Some(output) => output,
            None => return skip($name, "there is no perl in /usr"),
        }
    };
}

#[test]
fn allow_reaches_what_a_rule_names_and_nothing_else() {
    let (env, web, canary) = (Env::new(), Peer::web(), Peer::canary());
    env.inside("true").ok(0);
    let rule = format!("127.0.0.1:{}", web.port());
    let name = "host.tripmine.internal";
    let output = got!("allow", get(&env, &["--allow", &rule], name, web.port()));
    assert_eq!(output.ok(0), "hello from outside", "{output:?}");
    assert_eq!(web.seen(), ["GET / HTTP/1.0"]);
    // The same host, another port; the host by its other addresses; metadata; nothing of it is named.
    for (host, port) in [
        (name, canary.port()),
        ("169.254.169.254", 80),
        ("192.0.2.1", 443),
        ("10.0.0.1", 80),
        ("100.100.100.200", 80),
        ("168.63.129.16", 80),
    ] {
        let begun = Instant::now();
        let output = got!("allow", get(&env, &["--allow", &rule], host, port));
        assert!(["DENIED", "RESET", "REFUSED"].contains(&output.ok(0)), "{host}:{port}: {output:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{host}:{port}: {:?}", begun.elapsed());
        assert!(output.stderr.contains("net: denied"), "{host}:{port}: {output:?}");
    }
    assert_eq!(canary.seen(), Vec::<String>::new());
}

/// N06, N14 under the widest policy: what is no TCP and no DNS goes nowhere, at once; and the host itself is not reached.
#[test]
fn what_is_not_decided_fails_at_once() {
    let (env, canary) = (Env::new(), Peer::canary());
    let script = r#"use Socket; use Socket qw(:all); use Errno; use Time::HiRes 'time';
sub report { my ($name, $begun, $ok) = @_; my ($e) = $ok ? "REACHED" : $@ ? "HANG" : sort grep { $!{$_} } keys %!;
  print "$name ", (time - $begun < 2 ? $e : "SLOW"), "\n"; alarm 0 }
sub attempt { my ($name, $code) = @_; my $begun = time; alarm 4; local $SIG{ALRM} = sub { die "hang\n" }; $@ = '';
  my $ok = eval { $code->() }; report($name, $begun, $ok) }
sub udp { my ($family, $to) = @_; return sub { socket(my $s, $family, SOCK_DGRAM, 0) or return 0; connect($s, $to) or return 0;
  defined send($s, "x", 0) or return 0; my $r = recv($s, my $b, 100, 0); defined $r ? 1 : 0 } }
attempt("quic", udp(PF_INET, pack_sockaddr_in(443, inet_aton("192.0.2.1"))));
attempt("ntp", udp(PF_INET, pack_sockaddr_in(123, inet_aton("192.0.2.1"))));
attempt("udp6", udp(PF_INET6, pack_sockaddr_in6(443, inet_pton(AF_INET6, "2001:db8::1"))));
attempt("loose", sub { socket(my $s, PF_INET, SOCK_DGRAM, 0); send($s, "x", 0, pack_sockaddr_in(443, inet_aton("192.0.2.1"))) or return 0; defined recv($s, my $b, 100, 0) });
attempt("loose6", sub { socket(my $s, PF_INET6, SOCK_DGRAM, 0); send($s, "x", 0, pack_sockaddr_in6(443, inet_pton(AF_INET6, "2001:db8::1"))) or return 0; defined recv($s, my $b, 100, 0) });
attempt("many", udp(PF_INET, pack_sockaddr_in(5353, inet_aton("224.0.0.251"))));
attempt("ping", sub { socket(my $s, PF_INET, SOCK_DGRAM, 1) or return 0; send($s, pack("CCnnn", 8, 0, 0xf7fe, 1, 0), 0, pack_sockaddr_in(0, inet_aton("192.0.2.1"))) or return 0; defined recv($s, my $b, 100, 0) });
attempt("raw", sub { socket(my $s, PF_INET, SOCK_RAW, 1) });
attempt("host", sub { socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, pack_sockaddr_in(PORT, INADDR_LOOPBACK)) });
attempt("zero", sub { socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, pack_sockaddr_in(PORT, inet_aton("0.0.0.0"))) });
attempt("host6", sub { socket(my $s, PF_INET6, SOCK_STREAM, 0); connect($s, pack_sockaddr_in6(PORT, inet_pton(AF_INET6, "::1"))) });
attempt("mapped", sub { socket(my $s, PF_INET6, SOCK_STREAM, 0); connect($s, pack_sockaddr_in6(PORT, inet_pton(AF_INET6, "::ffff:127.0.0.1"))) });
open(my $t, '<', '/proc/net/tcp'); my @ports = map { /^\s*\d+: 0100007F:(\w+) 00000000:0000 0A/ ? hex($1) : () } <$t>;
print "listeners ", scalar(@ports), "\n";
attempt("listener", sub { my $any = 0; for my $port (@ports) { socket(my $s, PF_INET, SOCK_STREAM, 0); $any ||= connect($s, pack_sockaddr_in($port, INADDR_LOOPBACK)) } $any });
"#
    .replace("PORT", &canary.port().to_string());
    let output = env.tripmine(["run", "host", "--net", "open", "--", "perl", "-e", &script]);
    if output.code == 127 {
        return skip("what_is_not_decided_fails_at_once", "there is no perl in /usr");
    }
    let good = [
        "ECONNREFUSED",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "EPERM",
        "EACCES",
        "EADDRNOTAVAIL",
        "EPROTONOSUPPORT",
    ];
    for line in output.ok(0).lines() {
        let (name, answer) = line.split_once(' ').unwrap();
        // Two listeners of IPv4: what is probed is really there.
        assert!(
            if name == "listeners" { answer == "2" } else { good.contains(&answer) },
            "{line}: {output:?}"
        );
    }
    assert_eq!(output.stdout.lines().count(), 14, "{output:?}");
    assert_eq!(canary.seen(), Vec::<String>::new());
}

/// N12: by name, whatever the program knows of proxies; the secret is shown.
#[test]
fn proxy_is_asked_by_name() {
    let env = Env::new();
    let proxy = Peer::socks(Some("me:s3cret"));
    let secret = env.home.join("secret");
    std::fs::write(&secret, "me:s3cret\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let url = format!("socks5h://{}", proxy.address);
    env.tripmine([
        "machine",
        "create",
        "work",
        "--net",
        "proxy",
        "--proxy",
        &url,
        "--proxy-auth-file",
        "~/secret",
    ])
    .ok(0);
    let output = got!("proxy", get(&env, &["-m", "work"], "www.example.com", 80));
    assert_eq!(output.ok(0), "through the proxy to www.example.com", "{output:?}");
    assert_eq!(proxy.seen(), ["3 www.example.com:80 me:s3cret"]);
    // A secret that others can read is none.
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    env.tripmine(["run", "host", "-m", "work", "--", "true"]).fails(125, "secret");
    assert_eq!(proxy.seen().len(), 1);
    // A command may print it, and finds the user's own things.
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let command = "sh -c 'cat \"$HOME/secret\"'";
    env.tripmine(["machine", "edit", "work", "--proxy-auth-command", command]).ok(0);
    let output = got!("proxy", get(&env, &["-m", "work"], "www.example.com", 80));
    assert_eq!(output.ok(0), "through the proxy to www.example.com", "{output:?}");
    env.tripmine(["machine", "edit", "work", "--proxy-auth-command", "false"]).ok(0);
    env.tripmine(["run", "host", "-m", "work", "--", "true"]).fails(125, "secret");
}

/// N13: a proxy that is not there, or goes, ends it; nothing is dialled past it.
#[test]
fn without_the_proxy_nothing() {
    let (env, canary) = (Env::new(), Peer::canary());
    env.inside("true").ok(0);
    let dead = Peer::socks(None);
    let url = format!("socks5h://{}", dead.address);
    drop(dead);
    for host in ["www.example.com", "127.0.0.1.nip.example", "host.tripmine.internal"] {
        let begun = Instant::now();
        let output = got!("dead proxy", get(&env, &["--proxy", &url], host, canary.port()));
        assert!(!output.stdout.contains("hello") && !output.stdout.contains("HANG"), "{output:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    // And one that dies in the middle.
    let proxy = Peer::socks(None);
    let url = format!("socks5h://{}", proxy.address);
    let script = "use IO::Socket::INET; alarm 20; my $s = IO::Socket::INET->new('endless.example:80') or die; my ($n, $b) = 0; \
                  $n += $_ while $_ = sysread($s, $b, 4096); print 'ended ', ($n > 0 ? 'after some' : 'empty');";
    let child = env.command(["run", "host", "--proxy", &url, "--", "perl", "-e", script]).spawn().unwrap();
    until("it streams", Duration::from_secs(15), || proxy.seen() == ["3 endless.example:80"]);
    std::thread::park_timeout(Duration::from_millis(100));
    drop(proxy);
    let begun = Instant::now();
    assert_eq!(crate::env::finish(child, Duration::from_secs(5)).ok(0), "ended after some");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(canary.seen(), Vec::<String>::new());
}

/// A proxy that is asked for and not named: the cube does not start.
#[test]
fn a_policy_that_lacks_a_part_does_not_start() {
    let env = Env::new();
    env.tripmine(["run", "host", "--net", "proxy", "--", "true"]).fails(125, "no proxy is given");
    env.tripmine(["run", "host", "--net", "allow", "--", "true"]).fails(125, "no rule is given");
    env.tripmine(["run", "host", "--allow", "https://x.example/", "--", "true"])
        .fails(2, "looks like a web address");
    env.tripmine(["run", "host", "--allow", "x.example", "--net", "none", "--", "true"])
        .fails(2, "contradicts");
    env.tripmine(["machine", "create", "m", "--net", "proxy", "--proxy", "http://x:1"]).fails(2, "socks5h");
    assert!(env.records().is_empty(), "{:?}", env.records());
}

/// The project's own file can be written by a cube: it cannot open the net of the next one.
#[test]
fn a_project_file_does_not_open_the_net() {
    let (env, web) = (Env::new(), Peer::web());
    let project = env.project("site");
    let ask = format!("net: allow\nallow: ['127.0.0.1:{}']\nuser: root\n", web.port());
    std::fs::write(project.join(".tconfig.yml"), ask).unwrap();
    let port = web.port().to_string();
    let output = env.tripmine(["site", "--", "perl", "-e", GET, "host.tripmine.internal", &port]);
    if output.code == 127 {
        return skip("a_project_file_does_not_open_the_net", "there is no perl in /usr");
    }
    assert_ne!(output.ok(0), "hello from outside");
    assert!(output.stderr.contains("asks for `net allow`"), "{output:?}");
    assert_eq!((env.record()["net"].as_str(), env.record()["user"].as_str()), (Some("none"), Some("me")));
    assert_eq!(web.seen(), Vec::<String>::new());
}
