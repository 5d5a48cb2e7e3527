//! What the screen answers, refuses and skips.

use proptest::prelude::*;

use super::*;
use crate::term::testing::{cases, flood, split, stream};

fn answers(bytes: &[u8]) -> String {
    String::from_utf8(Screen::new(24, 80, 100).feed(bytes).to_cube).expect("text")
}

#[test]
fn questions_are_answered_at_once() {
    for (question, answer) in [
        ("\x1b[c", "\x1b[?6c"),
        ("text\r\n\x1b[6n", "\x1b[2;1R"),
        ("\x1b[5n", "\x1b[0n"),
        ("\x1b[?2004h\x1b[?2004$p", "\x1b[?2004;1$y"),
        ("\x1b[18t", "\x1b[8;24;80t"),
        ("\x1b[14t", "\x1b[4;384;640t"),
        ("\x1b]11;?\x07", "\x1b]11;rgb:0000/0000/0000\x07"),
        ("\x1b]4;9;?\x1b\\", "\x1b]4;9;rgb:ffff/0000/0000\x1b\\"),
        ("\x1b]11;#102030\x07\x1b]11;?\x07", "\x1b]11;rgb:1010/2020/3030\x07"),
        ("\x1b[>1u\x1b[?u", "\x1b[?1u"),
        ("\x1b]52;c;?\x07", ""),
        ("\x1b[21t", ""),
    ] {
        assert_eq!(answers(question.as_bytes()), answer, "{question:?}");
    }
}

#[test]
fn requests_are_reported_not_done() {
    let mut screen = Screen::new(24, 80, 100);
    let replies = screen.feed(b"\x1b]52;c;cHduCg==\x07\x07\x1b]2;a\x1b\\");
    assert_eq!(replies.clipboard, Some(ClipboardStore { selection: false, text: "pwn\n".into() }));
    assert!(replies.bell && replies.title_changed);
    assert_eq!(screen.title(), Some("a"));
    screen.feed("\x1b]2;\u{202e}evil\x07".as_bytes());
    assert_eq!(screen.title(), Some("\\u{202e}evil"));
    let mut long = b"\x1b]52;c;".to_vec();
    long.extend(std::iter::repeat_n(b'A', 200_000));
    long.push(7);
    assert_eq!(screen.feed(&long).clipboard, None);
}

#[test]
fn plain_text_waits_until_somebody_looks() {
    let mut screen = Screen::new(3, 20, 10);
    screen.feed(b"one\r\ntwo\r\n");
    assert_eq!(screen.parsed_bytes(), 0);
    assert_eq!(screen.text(), ["one", "two", ""]);
    screen.feed("漢".as_bytes().split_at(1).0);
    screen.feed("漢".as_bytes().split_at(1).1);
    assert_eq!(screen.text()[2], "漢");
    assert_eq!(screen.cursor(), (2, 2));
}

#[test]
fn a_character_cut_in_two_takes_nothing_with_it() {
    let mut screen = Screen::new(3, 20, 10);
    screen.feed(b"\x1b[m\xc3");
    screen.feed("_\u{e9}h漢".as_bytes().split_at(2).1);
    assert_eq!(screen.text()[0], "éh漢");
}

#[test]
fn a_flood_is_skipped() {
    let mut screen = Screen::new(24, 80, 2000);
    let chunk = b"y\r\n".repeat(20_000);
    let mut fed = 0;
    while fed < 30_000_000 {
        screen.feed(&chunk);
        fed += chunk.len();
    }
    assert_eq!(screen.text().len(), 24);
    assert!(screen.parsed_bytes() < 400_000, "{} of {fed}", screen.parsed_bytes());
    assert!(screen.pending.capacity() <= PENDING_KEPT);
}

#[test]
fn a_synchronized_update_ends_in_time() {
    let mut screen = Screen::new(3, 20, 10);
    screen.feed(b"\x1b[?2026hhidden");
    assert!(screen.sync_deadline().is_some());
    assert_eq!(screen.text()[0], "");
    screen.flush_sync();
    assert!(screen.sync_deadline().is_none());
    assert_eq!(screen.text()[0], "hidden");
}

#[test]
fn hostile_streams_stay_bounded() {
    let mut screen = Screen::new(24, 80, 100);
    screen.feed(&b"\x1b[>1u".repeat(10_000));
    assert!(screen.memory.keyboard.len() < 100);
    screen.feed(&"e".bytes().chain("\u{301}".repeat(100_000).bytes()).collect::<Vec<_>>());
    assert!(screen.text()[0].chars().count() < 20);
    assert!(screen.feed(&b"\x1b[c".repeat(100_000)).to_cube.len() <= 64 * 1024);
    // REP: unbounded, these ask for a thousand million characters.
    screen.feed(&b"\x1b[65535b".repeat(20_000));
    screen.feed(&b"\x1b[999b".repeat(10_000));
    // Here the parser itself panics, where overflow is checked.
    screen.feed(b"\x1b]4;0;#00000000000000000000000000000000000000000000000000000001\x07");
    screen.feed(b"still\r\nhere");
    assert!(screen.text().iter().any(|line| line == "here"));
}

#[test]
fn an_idle_screen_is_small() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
        text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
    };
    let before = resident();
    let mut screens: Vec<Screen> = (0..200).map(|_| Screen::new(24, 80, HISTORY)).collect();
    for screen in &mut screens {
        screen.feed(b"\x1b[1m$ \x1b[m");
    }
    // Other tests run beside this one; 200 screens drown them.
    let each = resident().saturating_sub(before) / screens.len();
    assert!(each < 300 * 1024, "{each} bytes each");
}

#[test]
fn sizes_change_under_load() {
    let mut screen = Screen::new(24, 80, 200);
    for step in 0..200u16 {
        screen.feed("漢字 text \x1b[44mcoloured\x1b[m\r\n\x1b[3;5Hx\t".repeat(3).as_bytes());
        let (rows, cols) = if step % 2 == 0 { (0, 0) } else { (200 - step, 500 - step) };
        screen.resize(rows, cols);
        if step % 5 == 0 {
            screen.feed(b"\x1b[?1049h\x1b[2;3r\x1b7");
        }
        if step % 7 == 0 {
            screen.feed(b"\x1b8\x1b[?1049l");
        }
    }
    screen.resize(24, 80);
    assert_eq!(screen.text().len(), 24);
    screen.feed(b"\x1bcdone");
    assert_eq!(screen.text()[0], "done");
}

/// Fed at once and parsed in full: what all shortcuts must equal.
fn full(rows: u16, cols: u16, history: usize, bytes: &[u8]) -> Screen {
    let mut screen = Screen::new(rows, cols, history);
    screen.parse(bytes);
    screen
}

fn assert_equal(a: &mut Screen, b: &mut Screen) {
    a.settle();
    b.settle();
    assert_eq!(a.text_with_history(usize::MAX), b.text_with_history(usize::MAX));
    assert_eq!(a.term.history_size(), b.term.history_size());
    for line in a.term.topmost_line().0..=a.term.bottommost_line().0 {
        assert!(a.term.grid()[Line(line)] == b.term.grid()[Line(line)], "attributes differ in line {line}");
    }
    assert_eq!(a.term.grid().cursor, b.term.grid().cursor);
    assert_eq!(a.term.grid().saved_cursor, b.term.grid().saved_cursor);
    assert_eq!(a.term.mode(), b.term.mode());
    assert_eq!(a.memory.region, b.memory.region);
}

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn skipping_changes_nothing(
        setup in stream(), text in flood(), after in stream(), rows in 1u16..6, cols in 2u16..12, history in 0usize..8,
    ) {
        let bytes = [&setup[..], b"\x18\x1b[?2026l", &text, &after].concat();
        let mut screen = Screen::new(rows, cols, history);
        screen.feed(&setup);
        screen.feed(b"\x18\x1b[?2026l");
        screen.feed(&text);
        screen.feed(&after);
        assert_equal(&mut screen, &mut full(rows, cols, history, &bytes));
    }

    #[test]
    fn any_split_shows_the_same(bytes in stream(), cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
        let mut screen = Screen::new(5, 12, 10);
        let mut answers = Vec::new();
        for piece in split(&bytes, &cuts) {
            answers.extend(screen.feed(piece).to_cube);
        }
        let mut whole = Screen::new(5, 12, 10);
        assert_eq!(answers, whole.feed(&bytes).to_cube);
        assert_equal(&mut screen, &mut whole);
    }
}

#[test]
fn skipping_happens_in_odd_states() {
    let lines: String = (0..500).map(|number| format!("line {number} that wraps\r\n")).collect();
    for setup in [
        "",
        "\x1b[2;4r",
        "\x1b[1;4r",
        "\x1b[?7l",
        "\x1b[?1049h",
        "\x1b[44;31m",
        "\x1b[4h",
        "\x1b(0",
        "\x1b[2;3r\x1b[5;1H",
        "漢\x1b[?6h",
    ] {
        let mut screen = Screen::new(5, 12, 10);
        screen.feed(setup.as_bytes());
        screen.feed(lines.as_bytes());
        screen.settle();
        let all = format!("{setup}{lines}");
        let below_margin = setup.contains("5;1H");
        assert_eq!(screen.parsed_bytes() < 1000, !below_margin, "{setup:?}: {}", screen.parsed_bytes());
        assert_equal(&mut screen, &mut full(5, 12, 10, all.as_bytes()));
    }
}
