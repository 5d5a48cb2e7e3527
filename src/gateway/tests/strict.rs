//! What must hold also at the edges: addresses of the host that look like the internet's, terms that change while a connection is
//! being made, proxies that take their time.

use super::proxied::{Manner, proxy_at, server};
use super::*;

#[test]
fn the_hosts_own_address_is_refused_however_it_is_reached() {
    let open = Cube::new(NetPolicy::Open { lan: true, rules: Vec::new() });
    let named = Cube::new(rules(&["home.test".to_owned()]));
    let literal = SocketAddr::new(OWN.parse().expect("address"), 80);
    for (cube, stream) in [
        (&open, open.connect_name("home.test", 80)),
        (&open, open.connect(literal)),
        (&named, named.connect_name("home.test", 80)),
    ] {
        assert!(is_reset(talk(stream, b"\x16")));
        let denied = cube.event(EventKind::Denied);
        assert_eq!(denied.decision.map(|it| it.reason), Some(Reason::OwnAddress));
        // Where a name led is told, so that it can be judged.
        assert_eq!(denied.connection.and_then(|it| it.address), Some(literal.ip()));
    }
    // A proxy on this host would reach it as the host does.
    let (port, asked) = server(Manner::Right);
    let cube = Cube::new(proxy_at(port, "", &[]));
    assert!(is_reset(talk(cube.connect(literal), b"\x16")));
    assert_eq!(cube.event(EventKind::Denied).decision.map(|it| it.reason), Some(Reason::OwnAddress));
    assert_eq!(talk(cube.connect("8.8.8.8:80".parse().expect("address")), b"x").expect("talk"), b"first X");
    assert_eq!(asked.lock().expect("lock").len(), 1);
}

/// A connection that was decided about before the switch, and made after it, is one of the policy that is over.
#[test]
fn a_switch_ends_what_was_still_being_made() {
    let (port, asked) = server(Manner::Tardy);
    let cube = Cube::new(proxy_at(port, "", &[]));
    let stream = cube.connect_name("a.test", 80);
    let deadline = Instant::now() + Duration::from_secs(5);
    while asked.lock().expect("lock").is_empty() {
        assert!(Instant::now() < deadline, "the proxy is asked");
        thread::sleep(Duration::from_millis(2));
    }
    cube.handle.phase(terms(&NetPolicy::None).expect("terms"));
    assert!(is_reset(talk(stream, b"after")));
    let end = cube.event(EventKind::Closed).end.expect("end");
    assert_eq!((end.sent, end.received, end.reason), (0, 0, EndReason::Stopped), "not a byte");
    assert_eq!(cube.handle.status().open, 0);
}

/// The second is one for all steps, not one for each.
#[test]
fn a_proxy_that_is_slow_at_each_step_is_given_up_within_a_second() {
    let (port, asked) = server(Manner::Tardy);
    let url = format!("socks5h://ann@slow.test:{port}").parse().expect("url");
    let by_name = NetPolicy::proxy(Some(url), ProxyAuth::None, Vec::new()).expect("policy");
    for policy in [proxy_at(port, "ann@", &[]), by_name] {
        let cube = Cube::new(policy);
        let stream = cube.connect_name("a.test", 22);
        let begun = Instant::now();
        assert!(is_reset(talk(stream, b"\x16")));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let failed = cube.event(EventKind::Failed);
        assert!(matches!(failed.end.map(|end| end.reason), Some(EndReason::Proxy(_))));
    }
    assert!(asked.lock().expect("lock").is_empty());
}

/// Looking for a program takes a while: not for each of a flood.
#[test]
fn not_every_asker_of_a_flood_is_looked_for() {
    let cube = Cube::new(NetPolicy::None);
    for _ in 0..100 {
        let to = SocketAddr::new(Ipv4Addr::new(8, 8, 8, 8).into(), 22);
        assert!(is_reset(talk(cube.connect(to), b"\x16")));
    }
    let events = cube.handle.events_since(0);
    let told = events.iter().filter(|it| it.connection.as_ref().is_some_and(|it| it.who.is_some())).count();
    assert_eq!(events.len(), 100);
    assert!((20..60).contains(&told), "{told}");
}

/// A byte of telnet's or ftp's that is sent as urgent is a byte all the same.
#[test]
fn an_urgent_byte_is_not_lost() {
    let port = shouter();
    let cube = Cube::new(rules(&[format!("host.tripmine.internal:{port}")]));
    let mut stream = cube.connect_name("host.tripmine.internal", port);
    stream.write_all(b"ab").expect("write");
    assert_eq!(rustix::net::send(&stream, b"c", rustix::net::SendFlags::OOB), Ok(1));
    assert_eq!(talk(stream, b"de").expect("talk"), b"ABCDE");
}
