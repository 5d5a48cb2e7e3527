use std::str::FromStr;

use proptest::prelude::*;

use super::*;
use crate::model::net::NetPolicy;
use crate::plan::net::Scene;

const OPEN: NetPolicy = NetPolicy::Open { lan: false, rules: Vec::new() };

fn ask_as(policy: &NetPolicy, packet: &[u8], v6: bool) -> Answered {
    let scene = Scene { policy, live: &[], holes: &[] };
    answer(packet, &scene, &mut Pool::new(16), v6, Instant::now())
}

fn ask(packet: &[u8]) -> Option<Message> {
    let bytes = ask_as(&OPEN, packet, true).bytes?;
    Some(Message::from_vec(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}")))
}

/// A question with these labels, byte for byte.
fn packet(labels: &[&[u8]], kind: u16, class: u16) -> Vec<u8> {
    let mut packet = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0".to_vec();
    for label in labels {
        packet.push(u8::try_from(label.len()).expect("short"));
        packet.extend_from_slice(label);
    }
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&class.to_be_bytes());
    packet
}

const A_: u16 = 1;
const ANY: u16 = 255;

#[test]
fn kinds_and_classes_are_answered_sanely() {
    use ResponseCode::{NoError, Refused};
    for (kind, class, code, answers) in [
        (A_, 1, NoError, 1),
        (28, 1, NoError, 1),
        (ANY, 1, NoError, 2),
        (A_, 255, NoError, 1),
        (15, 1, NoError, 0),  // MX
        (16, 1, NoError, 0),  // TXT
        (33, 1, NoError, 0),  // SRV
        (65, 1, NoError, 0),  // HTTPS
        (2, 1, NoError, 0),   // NS
        (6, 1, NoError, 0),   // SOA
        (999, 1, NoError, 0), // nothing yet
        (252, 1, Refused, 0), // AXFR
        (A_, 3, Refused, 0),  // CHAOS
        (12, 1, NoError, 0),  // PTR of a name: the name is there all the same
    ] {
        let reply = ask(&packet(&[b"Example", b"COM"], kind, class)).expect("answer");
        let got = (reply.metadata.response_code, reply.answers.len());
        assert_eq!(got, (code, answers), "type {kind} class {class}");
        assert_eq!(reply.queries[0].name().to_ascii(), "Example.COM.", "the question comes back as it was");
        assert!(reply.metadata.recursion_available && reply.metadata.id == 0x1234);
        if code != Refused && answers == 0 {
            assert_eq!(reply.authorities.len(), 1, "type {kind}: how long nothing stays nothing");
        }
    }
    let without = ask_as(&OPEN, &packet(&[b"a", b"test"], 28, 1), false).bytes.expect("answer");
    assert_eq!(Message::from_vec(&without).expect("parses").answers.len(), 0, "no IPv6, no address");
}

/// That the root does not exist would mean that nothing does.
#[test]
fn the_root_is_there() {
    for (kind, policy) in [(2, &OPEN), (A_, &OPEN), (2, &NetPolicy::None)] {
        let answered = ask_as(policy, &packet(&[], kind, 1), true);
        assert!(answered.denied.is_none());
        let reply = Message::from_vec(&answered.bytes.expect("answer")).expect("parses");
        let got = (reply.metadata.response_code, reply.answers.len(), reply.authorities.len());
        assert_eq!(got, (ResponseCode::NoError, 0, 1));
    }
}

#[test]
fn browsers_are_asked_to_leave_names_to_us() {
    let answered = ask_as(&OPEN, &packet(&[b"use-application-dns", b"net"], A_, 1), true);
    assert!(answered.denied.is_none());
    let reply = Message::from_vec(&answered.bytes.expect("answer")).expect("parses");
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn what_is_no_question() {
    use ResponseCode::{FormErr, NotImp};
    let good = packet(&[b"a", b"test"], A_, 1);
    let changed = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    for (what, packet, code) in [
        ("an answer", changed(2, 0x81), None),
        ("eleven bytes", good[..11].to_vec(), None),
        ("nothing", Vec::new(), None),
        ("a head alone", good[..12].to_vec(), Some(FormErr)),
        ("no question", changed(5, 0), Some(FormErr)),
        ("two questions", changed(5, 2), Some(FormErr)),
        ("65281 questions", changed(4, 0xff), Some(FormErr)),
        ("an answer inside", changed(7, 1), Some(FormErr)),
        ("65280 records", changed(10, 0xff), Some(FormErr)),
        ("cut", good[..good.len() - 1].to_vec(), Some(FormErr)),
        ("a status request", changed(2, 0x10), Some(NotImp)),
        ("a notification", changed(2, 0x20), Some(NotImp)),
        ("an update", changed(2, 0x28), Some(NotImp)),
        ("a label that leads to itself", changed(12, 0xc0), Some(FormErr)),
        ("a long label", changed(12, 0x40), Some(FormErr)),
        ("too long", [good.clone(), vec![0; MAX_QUESTION]].concat(), Some(FormErr)),
    ] {
        let reply = ask(&packet);
        assert_eq!(reply.as_ref().map(|reply| reply.metadata.response_code), code, "{what}");
        if let Some(reply) = reply {
            assert_eq!(reply.metadata.id, 0x1234, "{what}");
            assert!(reply.answers.is_empty(), "{what}");
        }
    }
    let mut edns = Message::from_vec(&good).expect("parses");
    edns.edns = Some({
        let mut edns = Edns::new();
        edns.set_version(1);
        edns
    });
    let reply = ask(&edns.to_vec().expect("packet")).expect("answer");
    // 16, which is BADSIG with a signature and BADVERS with EDNS.
    assert_eq!(u16::from(reply.metadata.response_code), u16::from(ResponseCode::BADVERS));
}

#[test]
fn names_that_are_none_do_not_exist() {
    let long = [b'x'; 63];
    for labels in [
        &[&b"a\0b"[..], b"com"][..],
        &[b"evil#allowed", b"com"],
        &[b"a.b", b"com"],
        &[b"a b", b"com"],
        &[b"a\r\nb", b"com"],
        &[b"a%00", b"com"],
        &[b"[::1]"],
        &[b"127", b"1"],
        &[b"2130706433"],
        &[b"0x7f000001"],
        &[b"0177", b"0", b"0", b"1"],
        &[b"-a", b"com"],
        &[b"b\xc3\xbccher", b"de"],
        &[b"\xff\xfe", b"com"],
        &[b"xn--", b"com"],
    ] {
        let mut pool = Pool::new(16);
        let scene = Scene { policy: &OPEN, live: &[], holes: &[] };
        let answered = answer(&packet(labels, A_, 1), &scene, &mut pool, true, Instant::now());
        let reply = Message::from_vec(&answered.bytes.expect("answer")).expect("parses");
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{labels:?}");
        assert!(matches!(answered.denied, Some((None, Reason::BadName(_)))), "{labels:?}");
    }
    let full = ask(&packet(&[&long, &long, &long, &long[..61]], A_, 1)).expect("answer");
    assert_eq!(full.answers.len(), 1, "253 characters are a name");
    let more = ask(&packet(&[&long, &long, &long, &long[..62]], A_, 1)).expect("answer");
    assert_ne!(more.metadata.response_code, ResponseCode::NoError, "254 are none");
}

#[test]
fn without_a_net_no_name_exists() {
    let answered = ask_as(&NetPolicy::None, &packet(&[b"example", b"com"], A_, 1), true);
    let reply = Message::from_vec(&answered.bytes.expect("answer")).expect("parses");
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    let (name, _) = answered.denied.expect("told");
    assert_eq!(name, HostName::from_str("example.com").ok());
    let answered = ask_as(&NetPolicy::None, &packet(&[b"localhost"], A_, 1), true);
    let reply = Message::from_vec(&answered.bytes.expect("answer")).expect("parses");
    assert!(matches!(reply.answers[0].data, RData::A(A(std::net::Ipv4Addr::LOCALHOST))));
}

#[test]
fn a_full_pool_says_so_instead_of_lying() {
    let scene = Scene { policy: &OPEN, live: &[], holes: &[] };
    let (mut pool, now) = (Pool::new(2), Instant::now());
    let mut codes = Vec::new();
    for name in [b"a", b"b", b"c"] {
        let answered = answer(&packet(&[name, b"test"], A_, 1), &scene, &mut pool, true, now);
        codes.push(
            Message::from_vec(&answered.bytes.expect("answer")).expect("parses").metadata.response_code,
        );
    }
    assert_eq!(codes, [ResponseCode::NoError, ResponseCode::NoError, ResponseCode::ServFail]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes: no panic, and what is said is a well-formed answer to it.
    #[test]
    fn anything(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        check(&packet)?;
    }

    /// The same for packets that are nearly right.
    #[test]
    fn nearly_right(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..6),
        kind in any::<u16>(), class in 0u16..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
        let mut packet = packet(&labels, kind, class);
        for (at, byte) in changes {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        packet.extend(tail);
        check(&packet)?;
    }
}

fn check(packet: &[u8]) -> Result<(), TestCaseError> {
    let answered = ask_as(&OPEN, packet, true);
    let Some(bytes) = answered.bytes else { return Ok(()) };
    prop_assert!(packet.len() >= HEAD && packet[2] & 0x80 == 0, "an answer was answered");
    prop_assert!(bytes.len() <= 1232, "{} bytes", bytes.len());
    let reply = Message::from_vec(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&bytes[..2], &packet[..2]);
    prop_assert!(reply.metadata.message_type == MessageType::Response);
    // What is answered is what was asked, and the addresses are the pool's, or the cube's own.
    if let Some(query) = reply.queries.first() {
        let question = Message::from_vec(packet).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(query, &question.queries[0]);
        for record in &reply.answers {
            prop_assert!(record.name.eq_case(query.name()));
            let ours = match &record.data {
                RData::A(A(it)) => crate::model::net::POOL_V4.contains((*it).into()) || it.is_loopback(),
                RData::AAAA(AAAA(it)) => {
                    crate::model::net::POOL_V6.contains((*it).into()) || it.is_loopback()
                }
                RData::PTR(_) => true,
                _ => false,
            };
            prop_assert!(ours, "{record:?}");
        }
    } else {
        prop_assert!(reply.answers.is_empty());
    }
    Ok(())
}
