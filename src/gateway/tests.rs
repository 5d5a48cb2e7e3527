//! The gateway as a cube meets it: real sockets, the redirect replaced by a table of who goes where.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RData, RecordType};

use super::*;
use crate::model::net::{EndReason, EventKind, ProxyAuth, Reason, Scope};

mod proxied;
mod strict;

/// A gateway with its cube's side.
struct Cube {
    handle: Handle,
    tcp: SocketAddr,
    dns: SocketAddr,
    dns_tcp: SocketAddr,
    going: Arc<Mutex<HashMap<u16, SocketAddr>>>,
    looked_up: Arc<AtomicUsize>,
    written: Arc<Mutex<Vec<NetEvent>>>,
}

/// An address of the host of these tests, as if the internet's.
const OWN: &str = "8.8.8.9";

/// What the host's resolver says in these tests.
fn host_names(name: &HostName) -> io::Result<Vec<IpAddr>> {
    let addresses: &[&str] = match name.as_str() {
        "rebind.test" => &["169.254.169.254", "127.0.0.1", "10.0.0.1"],
        "proxy.test" => &["127.0.0.1"],
        "home.test" => &[OWN],
        "slow.test" => {
            thread::sleep(Duration::from_millis(300));
            &["127.0.0.1"]
        }
        name if name.ends_with("local.test") => &["127.0.0.1"],
        _ => return Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
    };
    Ok(addresses.iter().map(|it| it.parse().expect("address")).collect())
}

impl Cube {
    fn new(policy: NetPolicy) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("listener");
        let dns = UdpSocket::bind("127.0.0.1:0").expect("dns");
        let dns_tcp = TcpListener::bind("127.0.0.1:0").expect("dns over tcp");
        let (tcp_at, dns_at) = (tcp.local_addr().expect("address"), dns.local_addr().expect("address"));
        let dns_tcp_at = dns_tcp.local_addr().expect("address");
        let going: Arc<Mutex<HashMap<u16, SocketAddr>>> = Arc::default();
        let looked_up = Arc::new(AtomicUsize::new(0));
        let (table, count) = (Arc::clone(&going), Arc::clone(&looked_up));
        let own: Own = Arc::new(|address| address == OWN.parse::<IpAddr>().expect("address"));
        let mut facts = GatewayFacts::new("web".into(), true, own);
        facts.original = Arc::new(move |stream| {
            let port = stream.peer_addr()?.port();
            table.lock().expect("lock").get(&port).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        });
        facts.lookup = Arc::new(move |name| {
            count.fetch_add(1, Ordering::SeqCst);
            host_names(name)
        });
        facts.who = Some(Arc::new(|_| Some("curl".into())));
        let written: Arc<Mutex<Vec<NetEvent>>> = Arc::default();
        let ours = Arc::clone(&written);
        let sink: Sink = Box::new(move |event| ours.lock().expect("lock").push(event.clone()));
        let capture = Capture {
            tcp4: tcp.into(),
            tcp6: None,
            dns_udp4: dns.into(),
            dns_udp6: None,
            dns_tcp4: OwnedFd::from(dns_tcp),
            dns_tcp6: None,
        };
        let terms = terms(&policy).expect("terms");
        let handle = start(capture, terms, facts, sink).expect("gateway");
        Self { handle, tcp: tcp_at, dns: dns_at, dns_tcp: dns_tcp_at, going, looked_up, written }
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        let mut question = Message::query();
        let mut asked = Name::from_ascii(name).expect(name);
        asked.set_fqdn(true);
        question.add_query(Query::query(asked, kind));
        let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        socket.send_to(&question.to_vec().expect("packet"), self.dns).expect("send");
        let mut packet = [0; 1500];
        let length = socket.recv(&mut packet).expect("answer");
        let answer = Message::from_vec(&packet[..length]).expect("parses");
        assert_eq!((answer.metadata.id, &answer.queries), (question.metadata.id, &question.queries));
        answer
    }

    fn address_of(&self, name: &str) -> Ipv4Addr {
        let answer = self.ask(name, RecordType::A);
        match answer.answers.first().map(|record| &record.data) {
            Some(RData::A(address)) => address.0,
            other => panic!("{name}: {other:?}, {}", answer.metadata.response_code),
        }
    }

    /// As a program inside connects to `to`.
    fn connect(&self, to: SocketAddr) -> TcpStream {
        use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, socket};
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("socket");
        bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
        let ours = SocketAddr::try_from(getsockname(&fd).expect("name")).expect("address");
        self.going.lock().expect("lock").insert(ours.port(), to);
        connect(&fd, &self.tcp).expect("connect");
        let stream = TcpStream::from(fd);
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        stream
    }

    fn connect_name(&self, name: &str, port: u16) -> TcpStream {
        self.connect((self.address_of(name), port).into())
    }

    /// Waits for an event.
    fn event(&self, kind: EventKind) -> NetEvent {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(event) = self.written.lock().expect("lock").iter().rev().find(|it| it.kind == kind) {
                return event.clone();
            }
            assert!(Instant::now() < deadline, "no {kind:?}: {:?}", self.written.lock().expect("lock"));
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn looked_up(&self) -> usize {
        self.looked_up.load(Ordering::SeqCst)
    }
}

/// A server on loopback that says back in capitals what it is told, once all of it has come.
fn shouter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = listener.local_addr().expect("address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            thread::spawn(move || {
                let mut said = Vec::new();
                let _read = stream.read_to_end(&mut said);
                let _wrote = stream.write_all(&said.to_ascii_uppercase());
            });
        }
    });
    port
}

fn rules(texts: &[String]) -> NetPolicy {
    NetPolicy::allow(texts.iter().map(|text| text.parse().expect(text)).collect()).expect("policy")
}

/// Sends, says that this was all, and returns what comes.
fn talk(mut stream: TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(text)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn is_reset(result: io::Result<Vec<u8>>) -> bool {
    matches!(result, Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected))
}

/// The shortest of a few: a busy machine makes one of them slow, not all.
fn quickest(one: impl Fn()) -> Duration {
    let times = (0..5).map(|_| {
        let start = Instant::now();
        one();
        start.elapsed()
    });
    times.min().unwrap_or_default()
}

#[test]
fn an_allowed_name_is_reached_with_half_close() {
    let port = shouter();
    let cube = Cube::new(rules(&[format!("echo.local.test:{port}"), format!("127.0.0.1:{port}")]));
    assert_eq!(cube.looked_up(), 0);
    let answer = talk(cube.connect_name("Echo.Local.Test.", port), b"hello").expect("talk");
    assert_eq!(answer, b"HELLO");
    let closed = cube.event(EventKind::Closed);
    let connection = closed.connection.expect("connection");
    assert_eq!(connection.name.as_ref().map(HostName::as_str), Some("echo.local.test"));
    assert_eq!((connection.address, connection.port), (Some(Ipv4Addr::LOCALHOST.into()), port));
    let end = closed.end.expect("end");
    assert_eq!((end.sent, end.received, end.reason), (5, 5, EndReason::Done));
    let opened = cube.event(EventKind::Opened);
    assert_eq!(opened.connection.and_then(|it| it.who).as_deref(), Some("curl"));
    let status = cube.handle.status();
    assert_eq!((status.asked, status.opened, status.denied, status.open), (1, 1, 0, 0));
    assert_eq!((status.sent, status.received), (5, 5));
}

#[test]
fn what_no_rule_names_is_reset_at_once_and_never_looked_up() {
    let port = shouter();
    let cube = Cube::new(rules(&[format!("echo.local.test:{port}")]));
    let took = quickest(|| {
        assert!(is_reset(talk(cube.connect_name("other.local.test", port), b"\x16\x03\x01 a handshake")));
    });
    assert!(took < limits::SNIFF, "took {took:?}");
    assert_eq!(cube.looked_up(), 0);
    let denied = cube.event(EventKind::Denied);
    assert_eq!(denied.decision.map(|it| (it.allowed, it.reason)), Some((false, Reason::NoRule)));
    assert_eq!(
        denied.connection.and_then(|it| it.name).map(String::from).as_deref(),
        Some("other.local.test")
    );
    // Allowed by name, but it leads to loopback, which no rule names.
    assert!(is_reset(talk(cube.connect_name("echo.local.test", port), b"\x16\x03\x01")));
    assert_eq!(cube.looked_up(), 1);
    assert_eq!(cube.handle.status().opened, 0);
}

#[test]
fn refused_http_gets_a_page_that_says_how_to_allow_it() {
    let cube = Cube::new(rules(&["allowed.test".to_owned()]));
    let request = b"GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n";
    let page = talk(cube.connect_name("denied.test", 8080), request).expect("page");
    let page = String::from_utf8(page).expect("text");
    assert!(page.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{page}");
    assert!(page.contains("tripmine net web allow denied.test:8080"), "{page}");
    assert!(page.contains("policy of this cube is `allow`"), "{page}");
    // In pieces, and with a body that is not read.
    let mut stream = cube.connect_name("denied.test", 80);
    stream.write_all(b"PO").expect("write");
    thread::sleep(Duration::from_millis(20));
    stream.write_all(b"ST / HTTP/1.1\r\n\r\n").expect("write");
    stream.write_all(&[b'x'; 100_000]).expect("write");
    let mut page = Vec::new();
    stream.read_to_end(&mut page).expect("page");
    assert!(page.starts_with(b"HTTP/1.1 403"));
    // A tunnel is not a page, and neither is silence.
    assert!(is_reset(talk(cube.connect_name("denied.test", 80), b"CONNECT a:443 HTTP/1.1\r\n\r\n")));
    let took = quickest(|| {
        assert!(is_reset(cube.connect_name("denied.test", 22).read(&mut [0; 1]).map(|_| Vec::new())));
    });
    assert!(took < limits::SNIFF, "took {took:?}");
    assert!(is_reset(cube.connect_name("denied.test", 8022).read(&mut [0; 1]).map(|_| Vec::new())));
    // Allowed, but not to be found: said as well.
    let page = talk(cube.connect_name("allowed.test", 80), request).expect("page");
    let page = String::from_utf8(page).expect("text");
    assert!(page.starts_with("HTTP/1.1 502 ") && page.contains("name not found"), "{page}");
}

#[test]
fn an_allowed_name_that_leads_home_is_refused() {
    let port = shouter();
    let open = NetPolicy::Open { lan: true, rules: Vec::new() };
    let cube = Cube::new(open);
    // Its private address passes with `lan`; nobody must answer there, and loopback is not tried.
    let cube_allow = Cube::new(rules(&["rebind.test".to_owned()]));
    assert!(is_reset(talk(cube_allow.connect_name("rebind.test", port), b"\x16")));
    let denied = cube_allow.event(EventKind::Denied);
    assert!(matches!(denied.decision.map(|it| it.reason), Some(Reason::Place(_) | Reason::OwnAddress)));
    // Addresses as such: the listener itself, loopback, a pool address that nobody asked for.
    for to in ["127.0.0.1", "198.18.7.7", "169.254.169.254", "0.0.0.0", "224.0.0.1"] {
        let to = SocketAddr::new(to.parse().expect("address"), port);
        assert!(is_reset(talk(cube.connect(to), b"\x16")), "{to}");
    }
    assert!(is_reset(talk(cube.connect(SocketAddr::new(Ipv4Addr::new(8, 8, 8, 8).into(), 0)), b"\x16")));
    assert_eq!(cube.handle.status().opened, 0);
}

#[test]
fn a_rule_for_one_connection_is_used_up() {
    let port = shouter();
    let cube = Cube::new(NetPolicy::None);
    assert_eq!(cube.ask("host.tripmine.internal", RecordType::A).answers.len(), 0);
    let rule: crate::model::net::Rule = format!("host.tripmine.internal:{port}").parse().expect("rule");
    cube.handle.allow(LiveRule { rule: rule.clone(), scope: Scope::Once }).expect("allow");
    let at = cube.address_of("host.tripmine.internal");
    assert_eq!(talk(cube.connect((at, port).into()), b"once").expect("talk"), b"ONCE");
    assert!(is_reset(talk(cube.connect((at, port).into()), b"\x16twice")));
    cube.handle.allow(LiveRule { rule, scope: Scope::Cube }).expect("allow");
    for _ in 0..3 {
        assert_eq!(talk(cube.connect((at, port).into()), b"more").expect("talk"), b"MORE");
    }
    assert_eq!(cube.handle.status().live.len(), 1);
    let notes: Vec<_> = cube.handle.events_since(0).into_iter().filter_map(|event| event.note).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn another_phase_ends_what_it_does_not_allow() {
    let port = shouter();
    let both = rules(&[format!("host.tripmine.internal:{port}"), "127.0.0.1".to_owned()]);
    let cube = Cube::new(both.clone());
    let mut open = cube.connect_name("host.tripmine.internal", port);
    open.write_all(b"x").expect("write");
    cube.event(EventKind::Opened);
    cube.handle.phase(terms(&both).expect("terms"));
    thread::sleep(Duration::from_millis(50));
    assert_eq!(cube.handle.status().open, 1, "the same terms end nothing");
    cube.handle.phase(terms(&NetPolicy::None).expect("terms"));
    assert!(is_reset(open.read(&mut [0; 1]).map(|_| Vec::new())));
    let closed = cube.event(EventKind::Closed);
    assert_eq!(closed.end.map(|end| end.reason), Some(EndReason::Stopped));
}

#[test]
fn stopping_ends_every_connection_and_tells() {
    let port = shouter();
    let cube = Cube::new(rules(&[format!("host.tripmine.internal:{port}")]));
    let mut open = cube.connect_name("host.tripmine.internal", port);
    cube.event(EventKind::Opened);
    let Cube { handle, written, tcp, .. } = cube;
    assert!(handle.is_running());
    handle.stop();
    assert!(matches!(open.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(tcp).is_err(), "nothing listens any more");
    assert!(written.lock().expect("lock").iter().any(|event| event.kind == EventKind::Closed));
}

#[test]
fn a_slow_look_up_does_not_hold_others_up() {
    let port = shouter();
    let cube = Cube::new(rules(&[
        "slow.test".to_owned(),
        format!("quick.local.test:{port}"),
        format!("127.0.0.1:{port}"),
    ]));
    let slow = cube.connect_name("slow.test", port);
    let start = Instant::now();
    let quick = talk(cube.connect_name("quick.local.test", port), b"q").expect("talk");
    assert_eq!(quick, b"Q");
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    assert_eq!(talk(slow, b"s").expect("talk"), b"S");
}

#[test]
fn names_over_both_transports_and_back() {
    let cube = Cube::new(NetPolicy::Open { lan: false, rules: Vec::new() });
    let at = cube.address_of("a.example");
    assert_eq!(cube.address_of("A.EXAMPLE"), at, "one name, one address");
    assert_ne!(cube.address_of("b.example"), at);
    let octets = at.octets();
    let arpa = format!("{}.{}.{}.{}.in-addr.arpa.", octets[3], octets[2], octets[1], octets[0]);
    let back = cube.ask(&arpa, RecordType::PTR);
    assert!(matches!(&back.answers[0].data, RData::PTR(name) if name.0.to_ascii() == "a.example."));
    assert!(matches!(cube.ask("a.example", RecordType::AAAA).answers[0].data, RData::AAAA(_)));
    assert_eq!(cube.looked_up(), 0, "a question for a name asks nobody");
    // The same over TCP, two questions on one stream; then one that is too long to be one.
    let mut stream = TcpStream::connect(cube.dns_tcp).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    for _ in 0..2 {
        let question = b"\0\0\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";
        let length = u16::try_from(question.len() - 2).expect("short").to_be_bytes();
        stream.write_all(&length).and_then(|()| stream.write_all(&question[2..])).expect("write");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("length");
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).expect("answer");
        let answer = Message::from_vec(&answer).expect("parses");
        assert!(matches!(&answer.answers[0].data, RData::A(address) if address.0 == at));
    }
    stream.write_all(b"\xff\xff").expect("write");
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}

/// 5,000 connections as fast as they can be made, all refused: nothing is left of them, and a
/// good one beside them is served.
#[test]
fn a_flood_of_refused_connections_starves_nobody() {
    let port = shouter();
    let cube = Cube::new(rules(&[format!("host.tripmine.internal:{port}")]));
    let good = cube.address_of("host.tripmine.internal");
    let slowest = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for _ in 0..5000 {
                let stream = cube.connect((Ipv4Addr::new(203, 0, 114, 1), 443).into());
                drop(stream);
            }
        });
        let mut slowest = Duration::ZERO;
        while !flood.is_finished() {
            let start = Instant::now();
            assert_eq!(talk(cube.connect((good, port).into()), b"x").expect("talk"), b"X");
            slowest = slowest.max(start.elapsed());
        }
        slowest
    });
    assert!(slowest < Duration::from_secs(2), "a good connection took {slowest:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while cube.handle.status().denied < 5000 {
        assert!(Instant::now() < deadline, "{:?}", cube.handle.status());
        thread::sleep(Duration::from_millis(10));
    }
    let status = cube.handle.status();
    assert!(status.left_out > 0 && status.open == 0, "{status:?}");
    drop(cube.handle);
    let written = cube.written.lock().expect("lock");
    let told: u64 = written.iter().map(|event| event.left_out.unwrap_or(1)).sum();
    assert!(told >= 5000, "every event is written or counted: {told}");
    assert!(written.len() < 1500, "{}", written.len());
}
