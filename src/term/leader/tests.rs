//! The leader in all its encodings, in time and out of it, and bytes that are none of its business.

use proptest::prelude::*;

use super::*;
use crate::term::testing::{cases, split};

const LEADER: &str = "\x1d";
const KITTY: &str = "\x1b[93;5u";

fn leader() -> Leader {
    Leader::new(Some(LeaderKey::default()))
}

fn show(actions: &[Action]) -> String {
    actions
        .iter()
        .map(|action| match action {
            Action::Forward(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            Action::Detach => "detach".into(),
            Action::Help => "help".into(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn typed_keys_become_actions() {
    let now = Instant::now();
    for (typed, actions) in [
        ("ls\r", "\"ls\\r\""),
        ("\x1dd", "detach"),
        ("\x1d?", "help"),
        ("\x1d\x1d", "\"\\u{1d}\""),
        ("\x1dx", "\"\\u{1d}x\""),
        ("a\x1ddb", "\"a\" detach \"b\""),
        ("\x1d", ""),
        ("\x1d\x1b[A", "\"\\u{1d}\\u{1b}[A\""),
        ("\x1d\x1bd", "\"\\u{1d}\\u{1b}d\""),
        ("\x1b[93;5ud", "detach"),
        ("\x1b[27;5;93~d", "detach"),
        ("\x1b[93;5u\x1b[93;5u", "\"\\u{1b}[93;5u\""),
        ("\x1b[93;69u\x1b[100u", "detach"),
        ("\x1b[93;5:1u\x1b[93;5:3u\x1b[57442;1:3u\x1b[100;1:1u", "detach"),
        ("\x1b[93;5u\x1b[93;5:2u\x1b[57441;2u\x1b[47:63;2u", "help"),
        ("\x1b[43::93;5ud", "detach"),
        ("\x1b[93;5u\x1b[93;5:3ux", "\"\\u{1b}[93;5u\\u{1b}[93;5:3ux\""),
        ("\x1b[93;1ud", "\"\\u{1b}[93;1ud\""),
        ("\x1b[93;5:3ud", "\"\\u{1b}[93;5:3ud\""),
        ("\x1b[93;7ud", "\"\\u{1b}[93;7ud\""),
        ("\x1b[200~\x1dd\x1b[201~\x1dd", "\"\\u{1b}[200~\\u{1d}d\\u{1b}[201~\" detach"),
        ("\x1d\x1b[200~d\x1b[201~", "\"\\u{1d}\\u{1b}[200~d\\u{1b}[201~\""),
        ("\x1b\x1b[A", "\"\\u{1b}\\u{1b}[A\""),
        ("\x1b[1\x1dd", "\"\\u{1b}[1\" detach"),
    ] {
        assert_eq!(show(&leader().feed(typed.as_bytes(), now)), actions, "{typed:?}");
    }
}

#[test]
fn what_waits_too_long_is_forwarded() {
    let now = Instant::now();
    let later = |millis| now + Duration::from_millis(millis);
    let mut keys = leader();
    assert_eq!(keys.deadline(), None);
    assert!(keys.feed(LEADER.as_bytes(), now).is_empty());
    assert_eq!(keys.deadline(), Some(later(500)));
    assert!(keys.expire(later(499)).is_empty());
    assert_eq!(show(&keys.expire(later(500))), "\"\\u{1d}\"");
    assert_eq!(show(&keys.feed(b"d", later(501))), "\"d\"");
    // Nobody called `expire`: the next key finds out.
    keys.feed(LEADER.as_bytes(), later(1000));
    assert_eq!(show(&keys.feed(b"d", later(1500))), "\"\\u{1d}d\"");
    // The Escape key alone.
    assert!(keys.feed(b"\x1b", later(2000)).is_empty());
    assert_eq!(keys.deadline(), Some(later(2020)));
    assert_eq!(show(&keys.expire(later(2020))), "\"\\u{1b}\"");
    // A sequence that never ends takes the leader with it, in order.
    keys.feed(b"\x1d\x1b[1", later(3000));
    assert_eq!(show(&keys.expire(later(3020))), "\"\\u{1d}\\u{1b}[1\"");
    assert_eq!(keys.deadline(), None);
}

#[test]
fn keys_have_names() {
    for (text, byte, name) in [
        ("ctrl-]", 0x1d, "Ctrl-]"),
        ("Ctrl-A", 1, "Ctrl-a"),
        ("^b", 2, "Ctrl-b"),
        ("ctrl-\\", 0x1c, "Ctrl-\\"),
        ("ctrl-space", 0, "Ctrl-Space"),
    ] {
        let key: LeaderKey = text.parse().expect(text);
        assert_eq!((key.byte, key.to_string().as_str()), (byte, name));
    }
    for text in ["", "a", "ctrl-", "ctrl-ab", "alt-a", "ctrl-1", "ctrl-é"] {
        assert!(matches!(text.parse::<LeaderKey>(), Err(LeaderKeyError::Notation(_))), "{text}");
    }
    for text in ["ctrl-i", "ctrl-m", "ctrl-j", "ctrl-["] {
        assert!(matches!(text.parse::<LeaderKey>(), Err(LeaderKeyError::Taken(_))), "{text}");
    }
    assert_eq!(LeaderKey::parse_setting("none"), Ok(None));
    assert_eq!(LeaderKey::parse_setting("ctrl-]"), Ok(Some(LeaderKey::default())));
}

#[test]
fn other_keys_lead_as_well() {
    let mut keys = Leader::new("ctrl-a".parse().ok());
    assert_eq!(show(&keys.feed(b"\x1dd\x01d\x1b[97;5ud", Instant::now())), "\"\\u{1d}d\" detach detach");
}

fn typed() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "a",
            "d",
            "?",
            LEADER,
            KITTY,
            "\x1b[27;5;93~",
            "\x1b[93;5:3u",
            "\x1b[57442;5u",
            "\x1b[100u",
            "\x1b[200~",
            "\x1b[201~",
            "\x1b",
            "\x1b[",
            "\x1b[A",
            "\x1bOA",
            "漢",
            "\x1b[<0;1;1M",
            "\x1b[1;5",
            "\x03",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// As one call would have given them: neighbouring bytes together.
fn merge(actions: Vec<Action>) -> Vec<Action> {
    let mut merged = Actions::default();
    for action in actions {
        match action {
            Action::Forward(bytes) => merged.forward(&bytes),
            other => merged.0.push(other),
        }
    }
    merged.0
}

proptest! {
    #![proptest_config(cases(1000))]
    #[test]
    fn any_split_acts_the_same(bytes in typed(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        let now = Instant::now();
        let end = now + Duration::from_secs(9);
        let mut whole = leader();
        let mut expected = whole.feed(&bytes, now);
        expected.extend(whole.expire(end));
        let mut keys = leader();
        let mut actions = Vec::new();
        for piece in split(&bytes, &cuts) {
            actions.extend(keys.feed(piece, now));
        }
        actions.extend(keys.expire(end));
        prop_assert_eq!(merge(actions), merge(expected));
        prop_assert_eq!(keys.deadline(), None);
    }

    #[test]
    fn without_the_leader_all_passes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let now = Instant::now();
        for key in [None, Some(LeaderKey::default())] {
            let bytes: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0x1d).collect();
            let mut keys = Leader::new(key);
            let mut actions = keys.feed(&bytes, now);
            actions.extend(keys.expire(now + Duration::from_secs(9)));
            let passed = match &merge(actions)[..] {
                [] => Vec::new(),
                [Action::Forward(passed)] => passed.clone(),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(passed, bytes);
        }
    }
}
