//! Round trips: what a stream made, replayed on a blank screen, is the same screen.

use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::vte::ansi::Color;
use proptest::prelude::*;

use super::paint::Pen;
use super::*;
use crate::term::testing::{cases, stream};

type Look = (char, Vec<char>, Pen);

/// A cell as it looks: halves of overwritten wide characters and tabs are blanks.
fn look(grid: &Grid<Cell>, line: i32, column: usize) -> Look {
    let row = &grid[Line(line)];
    let cell = &row[Column(column)];
    let pair = |at: usize| {
        at + 1 < row.len()
            && row[Column(at)].flags.contains(Flags::WIDE_CHAR)
            && row[Column(at + 1)].flags.contains(Flags::WIDE_CHAR_SPACER)
    };
    if column > 0 && pair(column - 1) {
        return ('\0', Vec::new(), Pen::default());
    }
    let half = cell.flags.intersects(Flags::WIDE_CHAR | Flags::WIDE_CHAR_SPACER) && !pair(column);
    if half || cell.c == '\t' {
        return (' ', Vec::new(), Pen::of(cell));
    }
    if cell.flags.contains(Flags::LEADING_WIDE_CHAR_SPACER) {
        return (' ', Vec::new(), Pen::of(cell));
    }
    let marks = cell.zerowidth().unwrap_or_default().iter().copied().filter(|c| *c != '\u{200d}').collect();
    (cell.c, marks, Pen::of(cell))
}

fn looks(grid: &Grid<Cell>) -> Vec<Vec<Look>> {
    let lines = grid.topmost_line().0..=grid.bottommost_line().0;
    lines.map(|line| (0..grid.columns()).map(|column| look(grid, line, column)).collect()).collect()
}

/// As `assert_eq` of the looks, with a report that a person can read.
fn assert_looks(one: &Grid<Cell>, two: &Grid<Cell>) {
    let (one, two) = (looks(one), looks(two));
    assert_eq!(one.len(), two.len(), "lines");
    for (line, (one, two)) in one.iter().zip(&two).enumerate() {
        for (column, (one, two)) in one.iter().zip(two).enumerate() {
            assert_eq!(one, two, "line {line} column {column}");
        }
    }
}

fn wraps(grid: &Grid<Cell>) -> Vec<bool> {
    let lines = grid.topmost_line().0..grid.bottommost_line().0;
    lines.map(|line| grid[Line(line)][grid.last_column()].flags.contains(Flags::WRAPLINE)).collect()
}

fn assert_same(a: &mut Screen, b: &mut Screen) {
    a.settle();
    b.settle();
    let urgency = TermMode::URGENCY_HINTS;
    assert_eq!(*a.term.mode() - urgency, *b.term.mode() - urgency);
    assert_eq!(a.memory.region, b.memory.region);
    assert_eq!(a.memory.tabs, b.memory.tabs);
    assert_eq!(a.memory.keyboard, b.memory.keyboard);
    assert_eq!(a.memory.shifted_out, b.memory.shifted_out);
    assert_eq!(a.term.cursor_style(), b.term.cursor_style());
    let (one, two) = (a.term.grid(), b.term.grid());
    assert_looks(one, two);
    assert_eq!(wraps(one), wraps(two));
    for (one, two) in [(&one.cursor, &two.cursor), (&one.saved_cursor, &two.saved_cursor)] {
        assert_eq!(one.point, two.point);
        assert_eq!(one.charsets, two.charsets);
        assert_eq!(Pen::of(&one.template), Pen::of(&two.template));
    }
    if a.term.mode().contains(TermMode::ALT_SCREEN) {
        assert_eq!(a.memory.other_keyboard, b.memory.other_keyboard);
        let (one, two) = (behind(a), behind(b));
        assert_looks(&one, &two);
        assert_eq!(wraps(&one), wraps(&two));
        assert_eq!(one.cursor.point, two.cursor.point);
    }
}

/// Positions above the margins cannot be named in origin mode.
fn is_reachable(screen: &mut Screen) -> bool {
    screen.settle();
    let line = usize::try_from(screen.term.grid().cursor.point.line.0).unwrap_or(0);
    let (top, bottom) = screen.memory.region;
    !screen.term.mode().contains(TermMode::ORIGIN) || (top..bottom).contains(&line)
}

fn round_trip(rows: u16, cols: u16, bytes: &[u8]) {
    let mut a = Screen::new(rows, cols, 30);
    a.feed(bytes);
    if !is_reachable(&mut a) {
        return;
    }
    let painted = replay(&mut a);
    let mut b = Screen::new(rows, cols, 30);
    let replies = b.feed(&painted);
    assert_eq!(replies.to_cube, b"", "a replay asks nothing");
    assert_same(&mut a, &mut b);
    assert_eq!(replay(&mut a), painted, "looking changes nothing");
}

#[test]
fn states_round_trip() {
    for bytes in [
        &b""[..],
        b"hello\r\nworld",
        b"0123456789",
        b"01234567890123456789012345678901234567890123456789",
        b"a\tb\r\n\x1b[31;1;4:3;58:5:9mred\x1b[0m \x1b[48;2;1;2;3mback\r\n\r\nx",
        "漢字漢字漢字漢字漢字\r\n1漢字漢字漢字e\u{301}\u{2764}\u{fe0f}x".as_bytes(),
        "漢字\r\x1b[Cx".as_bytes(),
        b"\x1b(0lqqk\x1b(B\x0ex\x0f\x1b)0\x0e",
        b"\x1b(0\x1b[?1048h\x1b(B\x1b[6;5Hhellos",
        b"one\r\ntwo\x1b[?1049halt\x1b[3;3H\x1b[?25l",
        b"\x1b[>1u\x1b[?1049h\x1b[>3u\x1b[=5u",
        b"\x1b[2;4r\x1b[?6h\x1b[2;2Hx\x1b[4h\x1b[?7l",
        b"\x1b[3g\x1b[4G\x1bH\x1b[1G\x1b7\x1b[2;2H",
        b"\x1b[?1h\x1b=\x1b[?1003;1006;1004;2004h\x1b[5 q\x1b[?1007l",
        b"0123456789\x1b[A\x1b[B",
        b"a\r\nb\r\nc\r\nd\r\ne\r\nf\r\ng\r\nh",
        b"\x1b[44ma\r\nb\r\nc\r\nd\r\ne\r\nf\r\ng\r\nh\x1b[m",
    ] {
        round_trip(6, 10, bytes);
    }
}

proptest! {
    #![proptest_config(cases(400))]
    #[test]
    fn any_stream_round_trips(bytes in stream(), rows in 1u16..8, cols in 2u16..24) {
        round_trip(rows, cols, &bytes);
    }

    #[test]
    fn leaving_restores_a_terminal(bytes in stream(), rows in 1u16..8, cols in 2u16..24) {
        let mut screen = Screen::new(rows, cols, 30);
        screen.feed(&bytes);
        screen.feed(b"\x18");
        screen.flush_sync();
        screen.feed(b"\x1b[?6l\x1b[2;2H");
        let alternate = screen.modes().alternate;
        let line = screen.cursor().0;
        screen.feed(&leave());
        let mode = *screen.term.mode() - TermMode::URGENCY_HINTS - TermMode::ALTERNATE_SCROLL;
        assert_eq!(mode, TermMode::SHOW_CURSOR | TermMode::LINE_WRAP);
        assert_eq!(screen.memory.region, (0, screen.size().0));
        assert!(screen.memory.keyboard.is_empty());
        let cursor = &screen.term.grid().cursor;
        assert_eq!(Pen::of(&cursor.template), Pen::default());
        assert_eq!(cursor.charsets, alacritty_terminal::grid::Charsets::default());
        assert_eq!(screen.term.cursor_style(), CursorStyle::default());
        if !alternate {
            assert_eq!(screen.cursor().0, line);
        }
    }
}

#[test]
fn pens_name_colours_as_programs_do() {
    let mut screen = Screen::new(2, 20, 0);
    screen.feed(b"\x1b[97;104ma\x1b[38;5;200mb");
    let painted = String::from_utf8(replay(&mut screen)).expect("text");
    assert!(painted.contains("\x1b[0;97;104ma\x1b[0;38;5;200;104mb"), "{painted:?}");
    assert!(matches!(screen.term.grid()[Line(0)][Column(1)].fg, Color::Indexed(200)));
}
