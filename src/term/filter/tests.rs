//! What must never pass, what must, and that the cut of the input does not matter.

use alacritty_terminal::vte;
use proptest::prelude::*;

use super::*;
use crate::term::testing::{cases, split, stream};
use crate::term::{Screen, replay};

fn filtered(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    Filter::new().filter(bytes, &mut out);
    String::from_utf8(out).expect("the output is UTF-8")
}

#[test]
fn what_may_pass_passes_unchanged() {
    for text in [
        "plain\r\n",
        "\x07\x08\t\n\x0b\x0c\r\x0e\x0f",
        "\x1b7\x1b8\x1b=\x1b>\x1bD\x1bE\x1bM\x1bH",
        "\x1b(0\x1b)B\x1b*A\x1b+0",
        "\x1b#8",
        "\x1b[A\x1b[2;3H\x1b[2J\x1b[K\x1b[3@\x1b[2L\x1b[M\x1b[4P\x1b[5S\x1b[6T\x1b[7X\x1b[Z\x1b[8`\x1b[9d\x1b[3g\x1b[s\x1b[u\x1b[2;5r",
        "\x1b[m\x1b[1;31m\x1b[4:3m\x1b[38;2;1;2;3m\x1b[58:2:0:1:2:3m",
        "\x1b[?1049h\x1b[?25l\x1b[?1003;1006h\x1b[?2004l\x1b[?2026h",
        "\x1b[4h\x1b[20l",
        "\x1b[5 q\x1b[0 q",
        "\x1b[!p",
        "\x1b[>1u\x1b[<2u\x1b[=5;2u",
        "\x1b[7b",
    ] {
        assert_eq!(filtered(text.as_bytes()), text);
    }
}

#[test]
fn what_may_not_pass_is_dropped_whole() {
    for text in [
        // SECURITY T02
        "\x1b]52;c;cHduCg==\x07",
        "\x1b]0;pwn\x07",
        "\x1b]8;;file:///etc\x07",
        "\x1b]8;;\x07",
        "\x1bP$q\"p\x1b\\",
        "\x1b_x\x1b\\",
        // questions
        "\x1b[c",
        "\x1b[>c",
        "\x1b[=c",
        "\x1b[5n",
        "\x1b[6n",
        "\x1b[?6n",
        "\x1b[?1$p",
        "\x1b[4$p",
        "\x1b[>q",
        "\x1b[?u",
        "\x1b[18t",
        "\x1b[21t",
        "\x1b[x",
        "\x1bZ",
        "\x05",
        "\x1b]11;?\x07",
        "\x1b]4;1;?\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\x1b[?1;1;0S",
        "\x1b[1$w",
        "\x1b[1;1;1;1;1;1*y",
        // other operating system commands, strings and windows
        "\x1b]52;c;?\x07",
        "\x1b]9;hi\x07",
        "\x1b]777;notify;a;b\x07",
        "\x1b]1337;File=:AAAA\x07",
        "\x1b]133;A\x07",
        "\x1b]10;#fff\x07",
        "\x1b^pm\x1b\\",
        "\x1bXsos\x1b\\",
        "\x1b_Ga=d\x1b\\",
        "\x1bPtmux;\x1b\x1b\\",
        "\x1b[8;1;1t",
        "\x1b[5i",
        "\x1b[?5i",
        // 8-bit controls, keyboard lock, margins, scrollback, columns, key encodings, unknown modes
        "\u{9b}c",
        "\u{90}q",
        "\u{9d}0;x",
        "\x1b[2h",
        "\x1b[12l",
        "\x1b[1;5s",
        "\x1b[3J",
        "\x1b[?3h",
        "\x1b[?45h",
        "\x1b[>4;2m",
        "\x1b[?9h",
        "\x1b[?69h",
        "\x1b[1;2;3;4;5T",
        "\x1b%G",
        "\x1b#3",
        "\x1bN",
        "\x1bn",
        "\x1b[\"q",
        "\x1b[?2J",
        "\x1b[1;2 A",
        "\x1b[4\"p",
        "\x7f",
        "\x00",
        "\x18",
        // never ended, nested, cancelled
        "\x1b]0;open",
        "\x1bPopen",
        "\x1b_open",
        "\x1b[12;",
        "\x1b[?",
        "\x1b(",
        "\x1b",
        "\x1b]0;a\x1b]52;c;YQ==\x07",
        "\x1bP\x1b]0;x\x07",
        "\x1b]0;\x18",
        "\x1bPq\x1a",
        "\x1b[31\x18",
        "\x1b_\x1b_\x1b\\",
    ] {
        let passed = filtered(text.as_bytes());
        // Of an 8-bit control, what follows it is text.
        let harmless = !passed.contains(|c: char| c.is_control()) && (passed.is_empty() || !text.is_ascii());
        assert!(harmless, "{text:?} gives {passed:?}");
    }
}

#[test]
fn the_rest_of_the_stream_survives() {
    for (text, passed) in [
        ("a\x1b]0;x\x07b", "ab"),
        ("a\x1bPq\x1b\\b", "ab"),
        ("a\x1b[31\x18b", "ab"),
        ("a\x1b]0;x\x1b[31mb", "a\x1b[31mb"),
        ("\x1b[3\r1m", "\r\x1b[31m"),
        ("\x1b[?25;9999;1049h", "\x1b[?25;1049h"),
        ("\x1b[99999999999A", "\x1b[65535A"),
        ("\x1b[60000bx", "x"),
        ("\x1bc", SOFT_RESET),
    ] {
        assert_eq!(filtered(text.as_bytes()), passed, "{text:?}");
    }
    let long = format!("\x1b]0;{}\x07ok", "x".repeat(1_000_000));
    assert_eq!(filtered(long.as_bytes()), "ok");
    let many = format!("\x1b[{}mok", "1;".repeat(100));
    assert_eq!(filtered(many.as_bytes()), "ok");
}

#[test]
fn the_clipboard_is_opt_in_and_write_only() {
    let stored = |text: &str| {
        let mut out = Vec::new();
        Filter::new().allow_clipboard(true).filter(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("text")
    };
    let good = "\x1b]52;c;cHduCg==\x07";
    assert_eq!(stored(good), good);
    assert_eq!(stored("\x1b]52;c;cHduCg==\x1b\\"), good);
    for bad in [
        "\x1b]52;c;?\x07",
        "\x1b]52;c;\x07",
        "\x1b]52;c;a\nb!\x07",
        "\x1b]52;x;YQ==\x07",
        "\x1b]52;c;YQ==;x\x07",
        "\x1b]52;c;YQ==\x18",
        "\x1b]52;c;YQ==\x1b",
        "\x1b]0;x\x07",
    ] {
        assert_eq!(stored(bad), "", "{bad:?}");
    }
    assert_eq!(stored("\x1b]52;c;YQ==\x1b[A\x1b\\"), "\x1b[A");
    assert_eq!(stored(&format!("\x1b]52;c;{}\x07", "A".repeat(CLIPBOARD_LIMIT + 1))), "");
    assert_eq!(stored(&format!("\x1b]52;c;{}\x07", "A".repeat(1_000_000))), "");
}

#[test]
fn a_log_keeps_its_colours_and_nothing_else() {
    let mut out = Vec::new();
    plain(b"\x1b[31mred\x1b[2J\x1b]0;x\x07\r\n\x1b[?1049h\tend\x08", &mut out);
    assert_eq!(out, b"\x1b[31mred\n\tend\x1b[m");
    out.clear();
    plain(b"\x1b[48;5;0mx", &mut out);
    assert_eq!(out, b"\x1b[48;5;0mx\x1b[m");
    out.clear();
    plain(b"\x1b[1mx\x1b[0m\x1b[2", &mut out);
    assert_eq!(out, b"\x1b[1mx\x1b[m");
}

/// Fails on everything that the user's terminal must never see.
#[derive(Default)]
struct Judge {
    log: bool,
}

impl vte::Perform for Judge {
    fn print(&mut self, character: char) {
        assert!(!character.is_control(), "{character:?} printed");
    }
    fn execute(&mut self, byte: u8) {
        let good = if self.log { matches!(byte, 9 | 10) } else { matches!(byte, 7..=15) };
        assert!(good, "control {byte}");
    }
    fn hook(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
        panic!("device control string {action}");
    }
    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        panic!("operating system command {params:?}");
    }
    fn csi_dispatch(&mut self, params: &vte::Params, middle: &[u8], ignore: bool, action: char) {
        assert!(!ignore);
        assert!(!self.log || action == 'm');
        let first = params.iter().next().map_or(0, |group| group[0]);
        match (middle, action) {
            ([], 'J') => assert!(first <= 2),
            ([], action) => assert!("@ABCDEFGHIKLMPSTXZ`abdefghlmrsu".contains(action), "CSI {action}"),
            ([b'?'], 'h' | 'l') => {
                assert!(params.iter().all(|mode| PRIVATE_MODES.contains(&mode[0])), "mode {params:?}");
            }
            ([b' '], 'q') | ([b'!'], 'p') | ([b'<' | b'>' | b'='], 'u') => {}
            other => panic!("CSI {other:?}"),
        }
    }
    fn esc_dispatch(&mut self, middle: &[u8], ignore: bool, byte: u8) {
        assert!(!ignore && !self.log);
        match middle {
            [] => assert!(b"78=>DEMH".contains(&byte), "ESC {byte}"),
            [b'#'] => assert_eq!(byte, b'8'),
            [b'(' | b')' | b'*' | b'+'] => assert!(b"0AB".contains(&byte)),
            other => panic!("ESC {other:?} {byte}"),
        }
    }
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => proptest::sample::select(b"\x1b\x1b\x1b[]P_^X\\;:?<>=!$ 0123456789mhlcntqJu\x07\x18\x1a\x9b\x9c\x9d\x90".to_vec()),
        1 => any::<u8>(),
    ];
    prop_oneof![stream(), proptest::collection::vec(byte, 0..200)]
}

proptest! {
    #![proptest_config(cases(1000))]
    #[test]
    fn only_what_is_allowed_comes_out(bytes in hostile(), log in any::<bool>()) {
        let mut out = Vec::new();
        let mut filter = if log { Filter::log() } else { Filter::new() };
        filter.filter(&bytes, &mut out);
        prop_assert!(std::str::from_utf8(&out).is_ok());
        vte::Parser::new().advance(&mut Judge { log }, &out);
        // Nothing is left open: what is written next is seen as it is.
        let mut tracker = Tracker::default();
        tracker.follow(&out, |_| ());
        prop_assert!(tracker.is_ground());
    }

    #[test]
    fn any_split_gives_the_same(bytes in hostile(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        let mut whole = Vec::new();
        Filter::new().allow_clipboard(true).filter(&bytes, &mut whole);
        let mut pieces = Vec::new();
        let mut filter = Filter::new().allow_clipboard(true);
        for piece in split(&bytes, &cuts) {
            filter.filter(piece, &mut pieces);
        }
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn a_replay_has_only_what_is_allowed(bytes in stream()) {
        let mut screen = Screen::new(5, 20, 10);
        screen.feed(&bytes);
        vte::Parser::new().advance(&mut Judge { log: false }, &replay(&mut screen));
    }

    #[test]
    fn filtering_twice_changes_nothing(bytes in hostile()) {
        let mut once = Vec::new();
        Filter::new().filter(&bytes, &mut once);
        let mut twice = Vec::new();
        Filter::new().filter(&once, &mut twice);
        prop_assert_eq!(once, twice);
    }
}
