use super::*;
use crate::model::net::ProxyAuth;

fn destination(text: &str) -> Destination {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn allow(rules: &[&str]) -> NetPolicy {
    NetPolicy::allow(rules.iter().map(|rule| rule.parse().expect(rule)).collect()).expect("rules")
}

fn open(lan: bool, rules: &[&str]) -> NetPolicy {
    NetPolicy::Open { lan, rules: rules.iter().map(|rule| rule.parse().expect(rule)).collect() }
}

fn proxy() -> NetPolicy {
    let url = "socks5h://127.0.0.1:9050".parse().expect("proxy");
    let holes = ["192.168.1.5:445", "nas.lan:80", "127.0.0.1:5432"];
    let holes = holes.iter().map(|hole| hole.parse().expect(hole)).collect();
    NetPolicy::proxy(Some(url), ProxyAuth::None, holes).expect("policy")
}

fn open_holes() -> Vec<OpenHole> {
    let open = |hole: &str, addresses: &[&str]| OpenHole {
        hole: hole.parse().expect(hole),
        addresses: addresses.iter().map(|it| it.parse().expect("address")).collect(),
    };
    vec![
        open("192.168.1.5:445", &["192.168.1.5"]),
        // The second answer is one that a hole may not lead to.
        open("nas.lan:80", &["192.168.1.6", "8.8.8.8"]),
        open("127.0.0.1:5432", &["127.0.0.1"]),
    ]
}

/// The whole way of a connection: `dial ADDRESS`, `proxy` or `deny REASON`.
fn outcome(policy: &NetPolicy, live: &[LiveRule], to: &str, resolved: &str) -> String {
    let holes = open_holes();
    let scene = Scene { policy, live, holes: &holes };
    let to = destination(to);
    let mut verdict = decide(&scene, &to, None);
    if verdict.step == Step::Resolve {
        let own = resolved.starts_with('=');
        let text = resolved.trim_start_matches('=');
        let address = match to.host {
            Host::Address(address) => address,
            Host::Name(_) => text.parse().unwrap_or_else(|_| panic!("{to}: resolved `{text}`")),
        };
        verdict = decide(&scene, &to, Some(Candidate { address, own }));
    }
    match verdict.step {
        Step::Resolve => "resolve".to_owned(),
        Step::Proxy => "proxy".to_owned(),
        Step::Deny => format!("deny: {}", verdict.reason),
        Step::Dial(addresses) => {
            let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("dial {}", list.join(" "))
        }
    }
}

#[test]
fn allow_dials_what_a_rule_names_and_nothing_else() {
    let policy = allow(&["example.com:443", "*.pypi.org", "10.1.0.0/16:5432", "203.0.114.7", "intra.lan"]);
    for (to, resolved, want) in [
        ("example.com:443", "93.184.215.14", "dial 93.184.215.14"),
        ("example.com:80", "", "deny: no rule allows it"),
        ("EXAMPLE.com.:443", "93.184.215.14", "dial 93.184.215.14"),
        ("evil-example.com:443", "", "deny: no rule allows it"),
        ("example.com.evil.net:443", "", "deny: no rule allows it"),
        ("files.pypi.org:8080", "151.101.0.223", "dial 151.101.0.223"),
        ("a.b.pypi.org:1", "151.101.0.223", "dial 151.101.0.223"),
        ("pypi.org:443", "", "deny: no rule allows it"),
        ("notpypi.org:443", "", "deny: no rule allows it"),
        ("10.1.2.3:5432", "", "dial 10.1.2.3"),
        ("10.1.2.3:5433", "", "deny: it leads to a private"),
        ("10.2.2.3:5432", "", "deny: it leads to a private"),
        ("203.0.114.7:1", "", "dial 203.0.114.7"),
        ("203.0.114.8:1", "", "deny: no rule allows it"),
        // A name that is allowed does not allow wherever it leads (N16).
        ("example.com:443", "127.0.0.1", "deny: it leads to a loopback"),
        ("example.com:443", "10.0.0.1", "deny: it leads to a private"),
        ("example.com:443", "169.254.169.254", "deny: it leads to a metadata"),
        ("example.com:443", "100.100.100.200", "deny: it leads to a metadata"),
        ("example.com:443", "168.63.129.16", "deny: it leads to a metadata"),
        ("example.com:443", "fd00:ec2::254", "deny: it leads to a metadata"),
        ("example.com:443", "::ffff:a9fe:a9fe", "deny: it leads to a IPv4-in-IPv6"),
        ("example.com:443", "64:ff9b::a9fe:a9fe", "deny: it leads to a IPv4-in-IPv6"),
        ("example.com:443", "2002:a9fe:a9fe::1", "deny: it leads to a IPv4-in-IPv6"),
        ("example.com:443", "2001:0:a9fe::1", "deny: it leads to a IPv4-in-IPv6"),
        ("example.com:443", "0.0.0.0", "deny: it leads to a reserved"),
        ("example.com:443", "224.0.0.1", "deny: it leads to a reserved"),
        ("example.com:443", "198.18.0.1", "deny: it leads to a name-pool"),
        ("example.com:443", "=93.184.215.14", "deny: it leads to the host itself"),
        ("intra.lan:5432", "10.1.9.9", "dial 10.1.9.9"),
        ("intra.lan:80", "10.1.9.9", "deny: it leads to a private"),
        ("198.18.0.9:80", "", "deny: the address stands for no name"),
        ("localhost:443", "", "deny: the name leads nowhere"),
        ("x.onion:443", "", "deny: the name leads nowhere"),
    ] {
        let got = outcome(&policy, &[], to, resolved);
        assert!(got.starts_with(want), "{to} -> {resolved}: {got}, not {want}");
    }
}

#[test]
fn a_wide_network_does_not_mean_the_neighbourhood() {
    let policy = allow(&["0.0.0.0/0", "::/0"]);
    for (to, want) in [
        ("1.1.1.1:443", "dial"),
        ("[2606:4700::1111]:443", "dial"),
        ("127.0.0.1:22", "deny"),
        ("10.0.0.1:22", "deny"),
        ("192.168.0.1:22", "deny"),
        ("169.254.169.254:80", "deny"),
        ("[::1]:22", "deny"),
        ("[fe80::1]:22", "deny"),
        ("[fd00::1]:22", "deny"),
        ("100.64.0.1:22", "deny"),
    ] {
        let got = outcome(&policy, &[], to, "");
        assert!(got.starts_with(want), "{to}: {got}");
    }
    // Exactly named, even the worst is the user's to open.
    let named = allow(&["169.254.169.254:80", "127.0.0.1:5432", "[::1]:5432"]);
    assert_eq!(outcome(&named, &[], "169.254.169.254:80", ""), "dial 169.254.169.254");
    assert_eq!(outcome(&named, &[], "host.tripmine.internal:5432", "127.0.0.1"), "dial 127.0.0.1");
    assert!(outcome(&named, &[], "host.tripmine.internal:22", "").starts_with("deny"));
}

#[test]
fn open_reaches_the_internet_and_not_the_neighbourhood() {
    for (lan, rules, to, resolved, want) in [
        (false, &[][..], "example.com:25", "93.184.215.14", "dial 93.184.215.14"),
        (false, &[], "8.8.8.8:443", "", "dial 8.8.8.8"),
        (false, &[], "8.8.8.8:443", "=", "deny: it leads to the host itself"),
        (false, &[], "router.lan:80", "192.168.1.1", "deny: it leads to a private"),
        (false, &[], "192.168.1.1:80", "", "deny: it leads to a private"),
        (true, &[], "192.168.1.1:80", "", "dial 192.168.1.1"),
        (true, &[], "192.168.1.1:80", "=", "deny: it leads to the host itself"),
        (true, &[], "router.lan:80", "100.64.9.9", "dial 100.64.9.9"),
        (true, &[], "evil.test:80", "127.0.0.1", "deny: it leads to a loopback"),
        (true, &[], "evil.test:80", "169.254.1.1", "deny: it leads to a link-local"),
        (true, &[], "evil.test:80", "169.254.169.254", "deny: it leads to a metadata"),
        (true, &[], "evil.test:80", "fd00:ec2::254", "deny: it leads to a metadata"),
        (false, &["127.0.0.1:3000"], "host.containers.internal:3000", "127.0.0.1", "dial 127.0.0.1"),
        (false, &["host.tripmine.internal:3000"], "host.tripmine.internal:3000", "127.0.0.1", "dial"),
        (false, &["192.168.1.0/24"], "nas.lan:80", "192.168.1.7", "dial 192.168.1.7"),
        (false, &["192.168.1.0/24"], "nas.lan:80", "=192.168.1.7", "deny: it leads to the host itself"),
        (false, &["192.168.1.7"], "nas.lan:80", "=192.168.1.7", "dial 192.168.1.7"),
    ] {
        let got = outcome(&open(lan, rules), &[], to, resolved);
        assert!(got.starts_with(want), "lan={lan} {rules:?} {to} -> {resolved}: {got}, not {want}");
    }
}

#[test]
fn proxy_gets_names_and_holes_go_past_it() {
    for (to, want) in [
        ("example.com:443", "proxy"),
        ("abcdef.onion:80", "proxy"),
        ("8.8.8.8:443", "proxy"),
        ("192.168.1.5:445", "dial 192.168.1.5"),
        ("192.168.1.5:446", "deny: it leads to a private"),
        ("nas.lan:80", "dial 192.168.1.6"),
        ("nas.lan:81", "proxy"),
        ("host.tripmine.internal:5432", "dial 127.0.0.1"),
        ("host.tripmine.internal:22", "deny: it leads to a loopback"),
        ("127.0.0.1:22", "deny: it leads to a loopback"),
        ("169.254.169.254:80", "deny: it leads to a metadata"),
        ("[::ffff:1.2.3.4]:80", "deny: it leads to a IPv4-in-IPv6"),
        ("localhost:80", "deny: the name leads nowhere"),
        ("Metadata.Google.Internal:80", "deny: it leads to a metadata"),
        ("instance-data:80", "deny: it leads to a metadata"),
    ] {
        let got = outcome(&proxy(), &[], to, "");
        assert!(got.starts_with(want), "{to}: {got}, not {want}");
    }
}

fn live(rule: &str, scope: Scope) -> LiveRule {
    LiveRule { rule: rule.parse().expect(rule), scope }
}

#[test]
fn rules_added_to_a_running_cube() {
    let added = [live("example.com:443", Scope::Once), live("127.0.0.1:8080", Scope::Cube)];
    let got = outcome(&NetPolicy::None, &added, "example.com:443", "93.184.215.14");
    assert_eq!(got, "dial 93.184.215.14");
    assert_eq!(outcome(&NetPolicy::None, &added, "example.com:80", ""), "deny: policy `none`");
    assert_eq!(outcome(&NetPolicy::None, &[], "example.com:443", ""), "deny: policy `none`");
    assert_eq!(outcome(&proxy(), &added, "host.tripmine.internal:8080", ""), "dial 127.0.0.1");
    // What a rule for one connection allowed is told, so that it can be taken away.
    let policy = allow(&["203.0.114.7"]);
    let scene = Scene { policy: &policy, live: &added, holes: &[] };
    let public = Some(Candidate { address: "93.184.215.14".parse().expect("ip"), own: false });
    assert_eq!(decide(&scene, &destination("example.com:443"), public).uses, [added[0].clone()]);
    assert!(decide(&scene, &destination("203.0.114.7:1"), None).uses.is_empty());
    // By name for once and by address from then on: the first is used up all the same.
    let both = [live("db.test:5432", Scope::Once), live("10.0.0.9:5432", Scope::Cube)];
    let scene = Scene { policy: &policy, live: &both, holes: &[] };
    let private = Some(Candidate { address: "10.0.0.9".parse().expect("ip"), own: false });
    assert_eq!(decide(&scene, &destination("db.test:5432"), private).uses, [both[0].clone()]);
}

#[test]
fn rules_without_effect_are_refused() {
    for (rule, part) in [
        ("example.com:443", "every name goes to the proxy"),
        ("10.0.0.0/8:80", "opens no hole"),
        ("10.0.0.1", "opens no hole"),
        ("8.8.8.8:443", "opens no hole"),
        ("10.0.0.1:9050", "opens no hole"),
    ] {
        let failure = check_live(&proxy(), &rule.parse().expect(rule)).expect_err(rule);
        assert!(failure.message.contains(part), "{failure}");
    }
    assert_eq!(check_live(&proxy(), &"10.0.0.1:80".parse().expect("rule")), Ok(()));
    // The proxy itself, on a port that is no usual one: whoever speaks to it himself asks for what he likes.
    let unusual = NetPolicy::proxy("socks5h://localhost:4000".parse().ok(), ProxyAuth::None, Vec::new());
    let unusual = unusual.expect("policy");
    let rule: Rule = "127.0.0.1:4000".parse().expect("rule");
    assert!(check_live(&unusual, &rule).is_err());
    let live = [LiveRule { rule, scope: Scope::Cube }];
    let scene = Scene { policy: &unusual, live: &live, holes: &[] };
    let verdict = decide(&scene, &destination("host.tripmine.internal:4000"), None);
    assert_eq!(verdict.step, Step::Deny, "also when it was added under another policy");
    assert_eq!(check_live(&NetPolicy::None, &"example.com".parse().expect("rule")), Ok(()));
}

#[test]
fn questions_for_names() {
    let name = |text: &str| HostName::parse(text).expect(text);
    let added = [live("example.com:443", Scope::Cube), live("127.0.0.1:80", Scope::Cube)];
    let (none, allow) = (NetPolicy::None, allow(&["a.test"]));
    for (policy, live, text, want) in [
        (&none, &[][..], "example.com", NameAnswer::Nowhere(Reason::Policy(NetPolicyKind::None))),
        (&none, &added, "example.com", NameAnswer::Pool),
        (&none, &added, "host.tripmine.internal", NameAnswer::Pool),
        (&none, &added, "example.org", NameAnswer::Nowhere(Reason::Policy(NetPolicyKind::None))),
        (&none, &[], "localhost", NameAnswer::Loopback),
        (&allow, &[], "denied.test", NameAnswer::Pool),
        (&allow, &[], "x.onion", NameAnswer::Nowhere(Reason::NameNowhere)),
        (&proxy(), &[], "x.onion", NameAnswer::Pool),
    ] {
        let scene = Scene { policy, live, holes: &[] };
        assert_eq!(answer_name(&scene, &name(text)), want, "{text} under {policy:?}");
    }
}

#[test]
fn the_remedy_is_one_that_helps() {
    let policy = allow(&["a.test"]);
    let near = "10.0.0.5".parse().ok();
    for (policy, to, reason, led, rule) in [
        (&policy, "example.com:443", Reason::NoRule, None, Some("example.com:443")),
        // The address that it leads to is what no rule names.
        (&policy, "example.com:443", Reason::Place(Class::Private), near, Some("10.0.0.5:443")),
        (&policy, "example.com:443", Reason::OwnAddress, "8.8.8.8".parse().ok(), Some("8.8.8.8:443")),
        (&policy, "example.com:443", Reason::Place(Class::Private), None, None),
        (&policy, "example.com:80", Reason::Place(Class::Metadata), "169.254.169.254".parse().ok(), None),
        (&policy, "169.254.169.254:80", Reason::Place(Class::Metadata), None, None),
        (&policy, "example.com:80", Reason::Place(Class::Embedded), "64:ff9b::1".parse().ok(), None),
        (&policy, "224.0.0.1:1", Reason::Place(Class::Special), None, None),
        (&policy, "192.168.0.1:80", Reason::Place(Class::Private), None, Some("192.168.0.1:80")),
        (&policy, "a.test:1", Reason::NameNowhere, None, None),
        (&proxy(), "8.8.8.8:53", Reason::NoRule, None, None),
        (&proxy(), "host.tripmine.internal:80", Reason::Place(Class::Loopback), None, Some("127.0.0.1:80")),
        (&proxy(), "host.tripmine.internal:9050", Reason::Place(Class::Loopback), None, None),
    ] {
        let command = remedy(policy, &destination(to), &reason, led, "web");
        let want = rule.map(|rule| format!("tripmine net web allow {rule}"));
        assert_eq!(command, want, "{to} {reason} {led:?}");
    }
}
