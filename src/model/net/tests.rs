use core::net::IpAddr;

use proptest::prelude::*;

use super::*;

#[test]
fn names_are_canonical() {
    for (text, want) in [
        ("example.com", "example.com"),
        ("EXAMPLE.Com.", "example.com"),
        ("a", "a"),
        ("_dmarc.my_bucket.test", "_dmarc.my_bucket.test"),
        ("r3---sn-x.googlevideo.com", "r3---sn-x.googlevideo.com"),
        ("1.example", "1.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("straße.de", "xn--strae-oqa.de"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("ｅｘａｍｐｌｅ．com", "example.com"),
    ] {
        assert_eq!(HostName::parse(text).map(String::from).as_deref(), Ok(want), "{text}");
    }
    let long = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "x".repeat(61));
    assert_eq!(HostName::parse(&format!("{long}.")).map(String::from), Ok(long));
}

#[test]
fn what_is_no_name_is_refused_and_shown_safely() {
    let long = "x".repeat(300);
    let label = format!("{}.com", "x".repeat(64));
    for (text, part) in [
        ("", "empty"),
        (".", "empty"),
        ("..", "empty part"),
        ("a..b", "empty part"),
        (".a", "empty part"),
        ("a.com..", "empty part"),
        (&long, "too long: 300"),
        (&label, "more than 63"),
        ("a\0.com", "U+0000"),
        ("a\r\nHost: b", "U+000D"),
        ("a b.com", "a space"),
        ("a%00.com", "`%`"),
        ("evil#allowed.com", "`#`"),
        ("evil@allowed.com", "`@`"),
        ("evil/allowed.com", "`/`"),
        ("evil\\allowed.com", "`\\`"),
        ("[::1]", "`[`"),
        ("::1", "`:`"),
        ("*.example.com", "`*`"),
        ("-a.com", "starts or ends with `-`"),
        ("a-.com", "starts or ends with `-`"),
        ("127.0.0.1", "ends in a number"),
        ("127.1", "ends in a number"),
        ("2130706433", "ends in a number"),
        ("0177.0.0.1", "ends in a number"),
        ("0x7f.0.0.1", "ends in a number"),
        ("0x7f000001", "ends in a number"),
        ("0x", "ends in a number"),
        ("1.2.3.4.", "ends in a number"),
        ("a.0X7F", "ends in a number"),
        ("xn--.com", "starts or ends"),
        ("xn--a.com", "international"),
        ("xn--BCHER-KVA-.com", "starts or ends"),
        ("１２７.0.0.1", "ends in a number"),
        ("a\u{202e}b.com", "international"),
    ] {
        let message = HostName::parse(text).map(String::from).expect_err(text).to_string();
        assert!(message.contains(part), "{text:?}: {message}");
        assert!(!message.chars().any(char::is_control) && message.len() < 300, "{message:?}");
    }
    assert!(HostName::parse_ascii("bücher.example").is_err(), "DNS carries the ASCII form");
}

#[test]
fn beneath_means_whole_labels() {
    let name = |text: &str| HostName::parse(text).expect(text);
    for (child, parent, want) in [
        ("a.example.com", "example.com", true),
        ("a.b.example.com", "example.com", true),
        ("example.com", "example.com", false),
        ("badexample.com", "example.com", false),
        ("example.com.evil.net", "example.com", false),
        ("com", "example.com", false),
    ] {
        assert_eq!(name(child).is_beneath(&name(parent)), want, "{child} {parent}");
    }
}

#[test]
fn addresses_by_the_place_they_lead_to() {
    use Class::{Embedded, Global, LinkLocal, Loopback, Metadata, Pool, Private, SharedNat, Special};
    for (class, addresses) in [
        (
            Global,
            &[
                "1.1.1.1",
                "172.15.0.1",
                "172.32.0.1",
                "100.63.0.1",
                "100.128.0.1",
                "198.17.0.1",
                "198.20.0.1",
                "2606:4700::1",
                "2001:4860::8888",
            ][..],
        ),
        (Loopback, &["127.0.0.1", "127.255.255.255", "::1"]),
        (
            Metadata,
            &[
                "169.254.169.254",
                "169.254.170.2",
                "168.63.129.16",
                "100.100.100.200",
                "192.0.0.192",
                "fd00:ec2::254",
                "fd20:ce::254",
            ],
        ),
        (LinkLocal, &["169.254.0.1", "fe80::1", "febf::1"]),
        (
            Private,
            &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::1", "fec0::1"],
        ),
        (SharedNat, &["100.64.0.1", "100.127.255.255"]),
        (
            Embedded,
            &[
                "::ffff:1.1.1.1",
                "::ffff:169.254.169.254",
                "::1.1.1.1",
                "::ffff:0:1.1.1.1",
                "64:ff9b::1.1.1.1",
                "64:ff9b:1::1",
                "2002:a9fe:a9fe::",
                "2001:0:1::",
                "2606:4700::5efe:7f00:1",
                "fe80::200:5efe:a00:1",
            ],
        ),
        (Pool, &["198.18.0.0", "198.19.255.255", "fd74:7269:706d::1"]),
        (
            Special,
            &[
                "0.0.0.0",
                "0.1.2.3",
                "255.255.255.255",
                "224.0.0.1",
                "240.0.0.1",
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "192.88.99.1",
                "::",
                "ff02::1",
                "2001:db8::1",
                "100::1",
                "4000::1",
                "3fff::1",
                "2001:2::1",
            ],
        ),
    ] {
        for address in addresses {
            assert_eq!(classify(address.parse().expect(address)), class, "{address}");
        }
    }
}

#[test]
fn rules_read_as_they_are_written() {
    for (text, shown) in [
        ("example.com", "example.com"),
        ("EXAMPLE.com.:443", "example.com:443"),
        ("*.bücher.example:80", "*.xn--bcher-kva.example:80"),
        ("192.0.3.1", "192.0.3.1"),
        ("192.0.3.1:80", "192.0.3.1:80"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
        ("0.0.0.0/0:443", "0.0.0.0/0:443"),
        ("2606:4700::1111", "2606:4700::1111"),
        ("[2606:4700::1111]:443", "[2606:4700::1111]:443"),
        ("[2606:4700::]:443", "[2606:4700::]:443"),
        ("2606:4700::/32", "2606:4700::/32"),
        ("[2606:4700::/32]:443", "[2606:4700::/32]:443"),
        ("::/0", "::/0"),
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("169.254.169.254:80", "169.254.169.254:80"),
        ("host.tripmine.internal:3000", "host.tripmine.internal:3000"),
    ] {
        let rule: Rule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(rule.to_string(), shown);
        assert_eq!(shown.parse::<Rule>().as_ref(), Ok(&rule), "reads itself");
        let json = serde_json::to_string(&rule).expect("json");
        assert_eq!(serde_json::from_str::<Rule>(&json).expect("json"), rule);
    }
}

#[test]
fn rules_that_cannot_match_are_refused() {
    for (text, part) in [
        ("", "empty"),
        (":443", "empty"),
        ("https://example.com", "looks like a web address"),
        ("https://example.com:443/x", "looks like a web address"),
        ("example.com/path", "looks like a web address"),
        ("example.com:443/path", "looks like a web address"),
        ("user@example.com", "looks like a web address"),
        ("evil#allowed.com", "looks like a web address"),
        ("example.com:0", "no port"),
        ("example.com:65536", "no port"),
        ("example.com:https", "no port"),
        ("example.com:+80", "no port"),
        ("example.com:", "no port"),
        ("example.com:0443", "no port"),
        ("*", "may only stand"),
        ("*:443", "may only stand"),
        ("a.*.com", "may only stand"),
        ("*.*.com", "may only stand"),
        ("ex*.com", "may only stand"),
        ("127.1:80", "ends in a number"),
        ("0x7f000001", "ends in a number"),
        ("010.0.0.1", "ends in a number"),
        ("10.0.0.1/8", "write `10.0.0.0/8`"),
        ("10.0.0.0/33", "no prefix length"),
        ("10.0.0.0/08", "no prefix length"),
        ("10.0.0.0/", "no prefix length"),
        ("2606::1/32", "write `2606::/32`"),
        ("fe80::1%eth0", "no address"),
        ("[::1", "no address"),
        ("example.com:53", "name service"),
        ("localhost:80", "the cube itself"),
        ("*.localhost", "the cube itself"),
        ("x.onion:80", "policy `proxy`"),
        ("host.tripmine.internal", "write a port"),
        ("198.18.0.1", "only stands for names"),
        ("198.18.0.0/15", "reserved"),
        ("224.0.0.1", "reserved"),
        ("224.0.0.0/8", "reserved"),
        ("224.0.0.0/3", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("203.0.113.64/26", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("2001:30::/28", "reserved"),
        ("fe00::/9", "reserved"),
        ("4000::/2", "reserved"),
        ("ff00::/8", "reserved"),
        ("::/8", "reserved"),
        ("0.0.0.0", "reserved"),
        ("255.255.255.255:1", "reserved"),
        ("::ffff:10.0.0.1", "write the IPv4 address"),
        ("64:ff9b::/96", "write the IPv4 addresses"),
        ("2002::/16", "write the IPv4 addresses"),
    ] {
        let message = text.parse::<Rule>().expect_err(text).to_string();
        assert!(message.contains(part), "{text:?}: {message}");
    }
}

#[test]
fn proxies() {
    for (text, shown) in [
        ("socks5h://127.0.0.1:9050", "socks5h://127.0.0.1:9050"),
        ("SOCKS5H://Proxy.Example", "socks5h://proxy.example:1080"),
        ("socks5h://work@[::1]:9050/", "socks5h://work@[::1]:9050"),
        ("socks5h://a@b@proxy.example:1", "socks5h://a@b@proxy.example:1"),
    ] {
        let url: ProxyUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url.to_string(), shown);
        assert_eq!(shown.parse::<ProxyUrl>(), Ok(url));
    }
    for (text, part) in [
        ("127.0.0.1:9050", "no scheme"),
        ("socks5://127.0.0.1:9050", "write `socks5h://`"),
        ("socks4://h", "write `socks5h://`"),
        ("http://proxy:3128", "no proxy that cubes can use"),
        ("socks5h://user:hunter2@h:1", "mode 0600"),
        ("socks5h://@h", "user name"),
        ("socks5h://u\n@h", "user name"),
        ("socks5h://h:0", "no port"),
        ("socks5h://h:1/path", "after the port"),
        ("socks5h://", "empty"),
    ] {
        let message = text.parse::<ProxyUrl>().expect_err(text).to_string();
        assert!(message.contains(part) && !message.contains("hunter2"), "{text}: {message}");
    }
}

#[test]
fn holes() {
    for text in
        ["192.168.1.5:445", "127.0.0.1:5432", "[fd00::5]:80", "nas.lan:445", "host.tripmine.internal:80"]
    {
        let hole: Hole = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(hole.to_string(), text);
    }
    for (text, part) in [
        ("192.168.1.5", "has no port"),
        ("192.168.1.1:53", "name service"),
        ("192.168.1.1:853", "name service"),
        ("192.168.1.1:5353", "name service"),
        ("127.0.0.1:9050", "proxy's port"),
        ("nas.lan:1080", "proxy's port"),
        ("nas.lan:3128", "proxy's port"),
        ("8.8.8.8:80", "public address"),
        ("169.254.169.254:80", "metadata-service"),
        ("[fd00:ec2::254]:80", "metadata-service"),
        ("169.254.1.1:80", "link-local"),
        ("100.64.0.1:80", "carrier-NAT"),
        ("[::ffff:127.0.0.1]:80", "IPv4-in-IPv6"),
        ("198.18.0.1:80", "name-pool"),
        ("localhost:80", "host.tripmine.internal"),
        ("10.0.0.0/8:80", "`/`"),
    ] {
        let message = text.parse::<Hole>().expect_err(text).to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
    let named: Hole = "nas.lan:80".parse().expect("hole");
    assert!(named.check("192.168.1.1".parse().expect("ip")).is_ok());
    assert!(named.check("1.1.1.1".parse().expect("ip")).is_err());
}

#[test]
fn policies_hold_what_they_need() {
    assert!(matches!(NetPolicy::proxy(None, ProxyAuth::None, Vec::new()), Err(PolicyError::NoProxy)));
    assert!(matches!(NetPolicy::allow(Vec::new()), Err(PolicyError::NoRules)));
    let url: ProxyUrl = "socks5h://10.0.0.1:4000".parse().expect("url");
    let hole: Hole = "10.0.0.1:4000".parse().expect("hole");
    assert!(NetPolicy::proxy(Some(url.clone()), ProxyAuth::None, vec![hole]).is_err(), "the proxy itself");
    // By any of its names.
    for (url, hole, refused) in [
        ("socks5h://localhost:4000", "127.0.0.1:4000", true),
        ("socks5h://127.0.0.1:4000", "[::1]:4000", true),
        ("socks5h://127.0.0.1:4000", "127.0.0.2:4000", true),
        ("socks5h://127.0.0.1:4000", "host.tripmine.internal:4000", true),
        ("socks5h://p.lan:4000", "P.lan.:4000", true),
        ("socks5h://127.0.0.1:4000", "127.0.0.1:4001", false),
        ("socks5h://p.lan:4000", "127.0.0.1:4000", false),
    ] {
        let made =
            NetPolicy::proxy(Some(url.parse().expect(url)), ProxyAuth::None, vec![hole.parse().expect(hole)]);
        assert_eq!(matches!(made, Err(PolicyError::Hole(HoleError::Itself(_)))), refused, "{url} {hole}");
    }
    for policy in [
        NetPolicy::None,
        NetPolicy::proxy(Some(url), ProxyAuth::Command(vec!["pass".into()]), Vec::new()).expect("policy"),
        NetPolicy::allow(vec!["a.test:1".parse().expect("rule")]).expect("policy"),
        NetPolicy::Open { lan: true, rules: Vec::new() },
    ] {
        let json = serde_json::to_string(&policy).expect("json");
        assert_eq!(serde_json::from_str::<NetPolicy>(&json).expect(&json), policy);
    }
    assert!(
        serde_json::from_str::<NetPolicy>(r#"{"kind":"open","lna":true}"#).is_err(),
        "no key is left out"
    );
    assert!(serde_json::from_str::<NetPolicy>(r#"{"kind":"allow","rules":["localhost"]}"#).is_err());
}

#[test]
fn events_are_lines_of_json() {
    let live = LiveRule { rule: "a.test:443".parse().expect("rule"), scope: Scope::Once };
    let decision = Decision { allowed: true, via: Some(Via::Direct), reason: Reason::Live(live) };
    let event = NetEvent {
        v: NET_EVENT_VERSION,
        seq: 7,
        time_ms: 1_700_000_000_000,
        kind: EventKind::Closed,
        connection: Some(Connection {
            id: 3,
            transport: Transport::Tcp,
            who: Some("curl".into()),
            name: HostName::parse("a.test").ok(),
            address: "192.0.3.1".parse().ok(),
            port: 443,
        }),
        decision: Some(decision),
        end: Some(End { sent: 1, received: 2, open_ms: 3, reason: EndReason::Unreachable("no".into()) }),
        left_out: None,
        note: None,
    };
    let line = serde_json::to_string(&event).expect("json");
    assert_eq!(
        line,
        r#"{"v":1,"seq":7,"time_ms":1700000000000,"kind":"closed","connection":{"id":3,"transport":"tcp","who":"curl","name":"a.test","address":"192.0.3.1","port":443},"decision":{"allowed":true,"via":"direct","by":"live","what":{"rule":"a.test:443","scope":"once"}},"end":{"sent":1,"received":2,"open_ms":3,"reason":{"unreachable":"no"}}}"#
    );
    assert_eq!(serde_json::from_str::<NetEvent>(&line).expect("json"), event);
    for reason in
        [Reason::NoRule, Reason::Place(Class::Metadata), Reason::BadName("x".into()), Reason::OwnAddress]
    {
        let decision = Decision { allowed: false, via: None, reason };
        let json = serde_json::to_string(&decision).expect("json");
        assert_eq!(serde_json::from_str::<Decision>(&json).expect(&json), decision);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever text: no panic, and what is a name is canonical, reads itself, and is no address to anyone.
    #[test]
    fn any_name(text in "(\\PC|[a-zA-Z0-9._%#@\\[\\]:\\x00\\r\\n-]){0,300}") {
        if let Ok(name) = HostName::parse(&text) {
            let shown = name.as_str();
            prop_assert!(shown.len() <= 253 && !shown.is_empty());
            prop_assert!(shown.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)));
            prop_assert!(shown.split('.').all(|label| (1..=63).contains(&label.len())));
            prop_assert!(shown.parse::<IpAddr>().is_err());
            prop_assert_eq!(HostName::parse_ascii(shown), Ok(name.clone()));
        }
        for message in [HostName::parse(&text).err().map(|e| e.to_string()), text.parse::<Rule>().err().map(|e| e.to_string())].into_iter().flatten() {
            prop_assert!(!message.chars().any(char::is_control), "{message:?}");
        }
    }

    /// What a rule, hole, proxy or destination prints is what it reads.
    #[test]
    fn printed_is_read(text in "[a-z0-9.*:/@\\[\\]-]{1,40}") {
        if let Ok(it) = text.parse::<Rule>() { prop_assert_eq!(it.to_string().parse::<Rule>(), Ok(it)); }
        if let Ok(it) = text.parse::<Destination>() { prop_assert_eq!(it.to_string().parse::<Destination>(), Ok(it)); }
        if let Ok(it) = text.parse::<Hole>() { prop_assert_eq!(it.to_string().parse::<Hole>(), Ok(it)); }
        if let Ok(it) = format!("socks5h://{text}").parse::<ProxyUrl>() { prop_assert_eq!(it.to_string().parse::<ProxyUrl>(), Ok(it)); }
    }

    /// A network of any length contains what shares its first bits, and nothing else.
    #[test]
    fn networks(bits in any::<u128>(), other in any::<u128>(), length in 0u8..=128) {
        let (a, b) = (core::net::Ipv6Addr::from(bits), core::net::Ipv6Addr::from(other));
        let shift = 128 - u32::from(length);
        let first = if shift == 128 { 0 } else { bits >> shift << shift };
        let network: Cidr = format!("{}/{length}", core::net::Ipv6Addr::from(first)).parse().expect("network");
        let same = shift == 128 || bits >> shift == other >> shift;
        prop_assert!(network.contains(a.into()));
        prop_assert_eq!(network.contains(b.into()), same);
        prop_assert!(!network.contains(IpAddr::V4(core::net::Ipv4Addr::LOCALHOST)));
    }
}
