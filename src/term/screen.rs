//! `Screen`: what one cube's terminal shows, and the answers to what the cube asks its terminal. It never
//! touches the user's terminal, and it executes no request (clipboard, title): it reports them.
//!
//! Lazy: plain text cannot ask anything, so it is only kept until somebody looks ([`Screen::settle`]), until a
//! sequence arrives, or until a mebibyte waits. Then what has scrolled away anyway is skipped unparsed.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use alacritty_terminal::Term;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::{Config, TermMode};
use alacritty_terminal::vte::ansi::Processor;

use super::guard::{Guard, Memory, Sink};
use super::sequence::{Tracker, incomplete_end};
use super::skip::{self, plain_prefix};
use crate::model::sanitize::printable;

/// Lines of history that a cube's terminal keeps, unless told otherwise.
pub const HISTORY: usize = 2000;
/// Bytes of plain text that may wait unparsed.
const PENDING_LIMIT: usize = 1024 * 1024;
/// A buffer that grew beyond this in a flood is given back.
const PENDING_KEPT: usize = 64 * 1024;
const ROWS: std::ops::RangeInclusive<u16> = 1..=1000;
const COLS: std::ops::RangeInclusive<u16> = 2..=2000;

/// What feeding bytes led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replies {
    /// Answers to the cube's questions: write them to its terminal as if typed.
    pub to_cube: Vec<u8>,
    /// The last text that the cube wants in the user's clipboard. A policy decides.
    pub clipboard: Option<ClipboardStore>,
    /// The bell rang.
    pub bell: bool,
    /// [`Screen::title`] may have changed.
    pub title_changed: bool,
}

/// A text for the clipboard, as the cube gave it: not sanitised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipboardStore {
    /// For the primary selection, not the clipboard.
    pub selection: bool,
    /// The text.
    pub text: String,
}

/// Modes that change what the user's keys and mouse send, or how the screen is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// The alternate screen is shown.
    pub alternate: bool,
    /// Mouse reports of any kind are wanted.
    pub mouse: bool,
    /// Pastes are bracketed.
    pub bracketed_paste: bool,
    /// Any flag of the kitty keyboard protocol is on.
    pub kitty_keyboard: bool,
    /// The cursor is shown.
    pub cursor_visible: bool,
}

/// The model of one terminal.
pub struct Screen {
    pub(super) term: Term<Sink>,
    pub(super) memory: Memory,
    sink: Sink,
    parser: Processor,
    tracker: Tracker,
    /// Plain text that was not parsed yet.
    pending: Vec<u8>,
    /// The beginning of a UTF-8 character whose end has not come yet.
    carry: Vec<u8>,
    rows: usize,
    cols: usize,
    history: usize,
    parsed: u64,
}

#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    cols: usize,
}

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.rows
    }
    fn screen_lines(&self) -> usize {
        self.rows
    }
    fn columns(&self) -> usize {
        self.cols
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("rows", &self.rows).field("cols", &self.cols).finish_non_exhaustive()
    }
}

impl Screen {
    /// A blank screen that keeps `history` lines above it ([`HISTORY`] is the usual number). Sizes no terminal can have are brought
    /// into range.
    #[must_use]
    pub fn new(rows: u16, cols: u16, history: usize) -> Self {
        let (rows, cols) = clamp(rows, cols);
        let sink = Sink::default();
        Self {
            term: new_term(Size { rows, cols }, history, &sink),
            memory: Memory::new(rows, cols),
            sink,
            parser: Processor::new(),
            tracker: Tracker::default(),
            pending: Vec::new(),
            carry: Vec::new(),
            rows,
            cols,
            history,
            parsed: 0,
        }
    }

    /// Takes what the cube wrote. Cheap for plain text; everything that may want an answer is answered
    /// before this returns.
    pub fn feed(&mut self, bytes: &[u8]) -> Replies {
        let mut rest = bytes;
        while self.is_idle() && !rest.is_empty() {
            let plain = plain_prefix(rest);
            let fits = plain.min(PENDING_LIMIT - self.pending.len());
            self.pending.extend_from_slice(&rest[..fits]);
            rest = &rest[fits..];
            if self.pending.len() == PENDING_LIMIT {
                self.settle();
            } else if fits == plain {
                break;
            }
        }
        if !rest.is_empty() {
            self.settle();
            self.parse(rest);
        }
        self.sink.take()
    }

    /// Parses what waits. Call it before looking, and when the cube has been quiet for a moment.
    pub fn settle(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        match skip::plan(&pending, self.rows, self.history) {
            None => self.parse(&pending),
            Some(cut) => {
                self.parse(&pending[..cut.head]);
                let next = if self.is_at_bottom() { cut.tail } else { cut.head };
                self.parse(&pending[next..]);
            }
        }
        if pending.capacity() <= PENDING_KEPT {
            pending.clear();
            self.pending = pending;
        }
    }

    /// Changes the size; lines reflow.
    pub fn resize(&mut self, rows: u16, cols: u16) {
        self.settle();
        (self.rows, self.cols) = clamp(rows, cols);
        let size = Size { rows: self.rows, cols: self.cols };
        let resized = catch_unwind(AssertUnwindSafe(|| self.term.resize(size)));
        self.memory.resize(self.rows, self.cols);
        if resized.is_err() {
            self.start_over();
        }
    }

    /// When the synchronized update that is under way must end even without the cube's word.
    #[must_use]
    pub fn sync_deadline(&self) -> Option<Instant> {
        self.parser.sync_timeout().sync_timeout()
    }

    /// Ends the synchronized update: shows what it holds back.
    pub fn flush_sync(&mut self) -> Replies {
        if self.sync_deadline().is_some() {
            self.guarded(0, |parser, _, guard| parser.stop_sync(guard));
        }
        self.sink.take()
    }

    /// The window title that the cube set, safe to show in one line.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.memory.title.as_deref()
    }

    /// The visible lines, without attributes and trailing blanks; safe to show.
    pub fn text(&mut self) -> Vec<String> {
        self.settle();
        (0..self.rows).map(|line| self.line_text(i32::try_from(line).unwrap_or(0))).collect()
    }

    /// The last `count` lines of the history and all visible lines, as [`Screen::text`].
    pub fn text_with_history(&mut self, count: usize) -> Vec<String> {
        self.settle();
        let above = i32::try_from(count.min(self.term.history_size())).unwrap_or(0);
        let below = i32::try_from(self.rows).unwrap_or(0);
        (-above..below).map(|line| self.line_text(line)).collect()
    }

    /// Rows and columns.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// The cursor's row and column, from 0.
    pub fn cursor(&mut self) -> (usize, usize) {
        self.settle();
        let point = self.term.grid().cursor.point;
        (usize::try_from(point.line.0).unwrap_or(0), point.column.0)
    }

    /// The modes in force.
    #[must_use]
    pub fn modes(&self) -> Modes {
        let mode = self.term.mode();
        Modes {
            alternate: mode.contains(TermMode::ALT_SCREEN),
            mouse: mode.intersects(TermMode::MOUSE_MODE),
            bracketed_paste: mode.contains(TermMode::BRACKETED_PASTE),
            kitty_keyboard: mode.intersects(TermMode::KITTY_KEYBOARD_PROTOCOL),
            cursor_visible: mode.contains(TermMode::SHOW_CURSOR),
        }
    }

    /// How many bytes were really parsed, of all that were fed.
    #[must_use]
    pub fn parsed_bytes(&self) -> u64 {
        self.parsed
    }

    /// Whether the next byte is not part of a sequence or of a synchronized update.
    fn is_idle(&self) -> bool {
        self.tracker.is_ground() && self.sync_deadline().is_none()
    }

    /// Whether every further line feed scrolls the region by one, from column 0.
    fn is_at_bottom(&self) -> bool {
        let cursor = &self.term.grid().cursor;
        let line = usize::try_from(cursor.point.line.0).unwrap_or(0);
        line + 1 == self.memory.region.1
            && line >= self.memory.region.0
            && cursor.point.column == Column(0)
            && !cursor.input_needs_wrap
    }

    fn parse(&mut self, bytes: &[u8]) {
        self.parsed += bytes.len() as u64;
        let mut joined = std::mem::take(&mut self.carry);
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let (whole, open) = bytes.split_at(bytes.len() - incomplete_end(bytes));
        self.advance(whole);
        // The parser (vte 0.15) can lose a character that follows one cut in two, so it never sees half of one.
        if self.tracker.is_ground() {
            self.carry = open.to_vec();
        } else {
            self.advance(open);
        }
    }

    fn advance(&mut self, bytes: &[u8]) {
        self.guarded(bytes.len(), |parser, tracker, guard| {
            tracker.follow(bytes, |run| parser.advance(guard, run));
        });
    }

    /// Runs the emulator. A stream that makes it panic costs the cube its screen, not the keeper its life.
    fn guarded(&mut self, length: usize, run: impl FnOnce(&mut Processor, &mut Tracker, &mut Guard<'_>)) {
        let budget = length + self.parser.sync_bytes_count() + 4 * self.rows * self.cols;
        let mut guard = Guard { term: &mut self.term, sink: &self.sink, memory: &mut self.memory, budget };
        let (parser, tracker) = (&mut self.parser, &mut self.tracker);
        if catch_unwind(AssertUnwindSafe(|| run(parser, tracker, &mut guard))).is_err() {
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        let size = Size { rows: self.rows, cols: self.cols };
        self.term = new_term(size, self.history, &self.sink);
        self.memory = Memory::new(self.rows, self.cols);
        self.parser = Processor::new();
        self.tracker = Tracker::default();
        self.carry.clear();
    }

    fn line_text(&self, line: i32) -> String {
        let mut text = String::with_capacity(self.cols);
        for cell in &self.term.grid()[Line(line)] {
            if !cell.flags.intersects(Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER) {
                push_cell(&mut text, cell);
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn push_cell(text: &mut String, cell: &Cell) {
    text.push(if cell.c == '\t' { ' ' } else { cell.c });
    for mark in cell.zerowidth().unwrap_or_default() {
        let shown = printable(mark.encode_utf8(&mut [0; 4]));
        // Joiners and direction marks would change how their neighbours are laid out.
        if shown.starts_with(*mark) {
            text.push(*mark);
        }
    }
}

fn clamp(rows: u16, cols: u16) -> (usize, usize) {
    (rows.clamp(*ROWS.start(), *ROWS.end()).into(), cols.clamp(*COLS.start(), *COLS.end()).into())
}

fn new_term(size: Size, history: usize, sink: &Sink) -> Term<Sink> {
    let config = Config { scrolling_history: history, kitty_keyboard: true, ..Config::default() };
    Term::new(config, &size, sink.clone())
}

#[cfg(test)]
mod tests;
