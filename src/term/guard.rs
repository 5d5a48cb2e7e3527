//! The layer between the parser of a cube's bytes and the emulator. It passes calls on; it bounds what a
//! hostile stream could grow (marks on one cell, titles, links, keyboard modes, repeats) and remembers
//! what the emulator keeps private but a repaint needs (scroll region, tab stops, keyboard stacks).
//!
//! It answers colour and pixel-size questions from fixed values: the user's real ones are not the cube's business.

use alacritty_terminal::Term;
use alacritty_terminal::event::{Event, EventListener};
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::Column;
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::term::{ClipboardType, TermMode};
use alacritty_terminal::vte::ansi::{
    Attr, CharsetIndex, ClearMode, CursorShape, CursorStyle, Handler, Hyperlink, KeyboardModes,
    KeyboardModesApplyBehavior, LineClearMode, Mode, NamedColor, NamedPrivateMode, PrivateMode, Rgb,
    StandardCharset, TabulationClearMode,
};
use std::sync::{Arc, Mutex, PoisonError};
use unicode_width::UnicodeWidthChar;

use super::screen::{ClipboardStore, Replies};
use crate::model::sanitize::printable;

/// Base64 characters of a clipboard text that are accepted; longer ones are dropped.
pub(super) const CLIPBOARD_LIMIT: usize = 100_000;
const REPLY_LIMIT: usize = 64 * 1024;
const MARKS_PER_CELL: usize = 8;
const KEYBOARD_DEPTH: usize = 64;
const TITLE_LENGTH: usize = 200;

/// Collects what the emulator wants to tell. Shared, because the emulator owns its listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Sink(Arc<Mutex<Replies>>);

impl Sink {
    pub(super) fn take(&self) -> Replies {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, change: impl FnOnce(&mut Replies)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn answer(&self, text: &str) {
        self.tell(|replies| {
            if replies.to_cube.len() + text.len() <= REPLY_LIMIT {
                replies.to_cube.extend_from_slice(text.as_bytes());
            }
        });
    }
}

impl EventListener for Sink {
    fn send_event(&self, event: Event) {
        match event {
            Event::PtyWrite(text) => self.answer(&text),
            Event::Bell => self.tell(|replies| replies.bell = true),
            Event::ClipboardStore(kind, text) => self.tell(|replies| {
                let selection = kind == ClipboardType::Selection;
                replies.clipboard = Some(ClipboardStore { selection, text });
            }),
            _ => {}
        }
    }
}

/// What is remembered beside the emulator.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    /// First line of the scroll region, and the line after its last; from 0.
    pub(super) region: (usize, usize),
    pub(super) tabs: Vec<bool>,
    pub(super) shifted_out: bool,
    pub(super) keyboard: Vec<KeyboardModes>,
    pub(super) other_keyboard: Vec<KeyboardModes>,
    pub(super) title: Option<String>,
}

impl Memory {
    pub(super) fn new(rows: usize, cols: usize) -> Self {
        Self {
            region: (0, rows),
            tabs: default_tabs(cols),
            shifted_out: false,
            keyboard: Vec::new(),
            other_keyboard: Vec::new(),
            title: None,
        }
    }

    /// As the emulator does: the region is lost, tab stops are kept.
    pub(super) fn resize(&mut self, rows: usize, cols: usize) {
        self.region = (0, rows);
        let fresh = default_tabs(cols);
        self.tabs.truncate(cols);
        let kept = self.tabs.len();
        self.tabs.extend_from_slice(&fresh[kept..]);
    }
}

/// A tab stop every 8 columns.
pub(super) fn default_tabs(cols: usize) -> Vec<bool> {
    (0..cols).map(|column| column % 8 == 0).collect()
}

/// The handler that the parser calls.
pub(super) struct Guard<'a> {
    pub(super) term: &'a mut Term<Sink>,
    pub(super) sink: &'a Sink,
    pub(super) memory: &'a mut Memory,
    /// Characters that may still be drawn. REP asks for 65535 of them with nine bytes.
    pub(super) budget: usize,
}

impl Guard<'_> {
    /// Whether the cell that a zero-width character would join is full.
    fn is_mark_too_many(&self) -> bool {
        let grid = self.term.grid();
        let mut column = grid.cursor.point.column.0;
        if !grid.cursor.input_needs_wrap {
            column = column.saturating_sub(1);
        }
        let row = &grid[grid.cursor.point.line];
        if row[Column(column)].flags.contains(Flags::WIDE_CHAR_SPACER) {
            column = column.saturating_sub(1);
        }
        row[Column(column)].zerowidth().is_some_and(|marks| marks.len() >= MARKS_PER_CELL)
    }

    fn swap_screens(&mut self, to_alternate: bool) {
        if self.term.mode().contains(TermMode::ALT_SCREEN) != to_alternate {
            std::mem::swap(&mut self.memory.keyboard, &mut self.memory.other_keyboard);
        }
        let mode = NamedPrivateMode::SwapScreenAndSetRestoreCursor.into();
        if to_alternate {
            Handler::set_private_mode(self.term, mode);
        } else {
            Handler::unset_private_mode(self.term, mode);
        }
    }
}

macro_rules! pass_on {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $name(&mut self, $($argument: $type),*) { Handler::$name(self.term, $($argument),*); })*
    };
}

impl Handler for Guard<'_> {
    pass_on! {
        set_cursor_style(style: Option<CursorStyle>);
        set_cursor_shape(shape: CursorShape);
        goto(line: i32, column: usize);
        goto_line(line: i32);
        goto_col(column: usize);
        insert_blank(count: usize);
        move_up(count: usize);
        move_down(count: usize);
        identify_terminal(intermediate: Option<char>);
        device_status(which: usize);
        move_forward(count: usize);
        move_backward(count: usize);
        move_down_and_cr(count: usize);
        move_up_and_cr(count: usize);
        put_tab(count: u16);
        backspace();
        carriage_return();
        linefeed();
        bell();
        substitute();
        newline();
        scroll_up(count: usize);
        scroll_down(count: usize);
        insert_blank_lines(count: usize);
        delete_lines(count: usize);
        erase_chars(count: usize);
        delete_chars(count: usize);
        move_backward_tabs(count: u16);
        move_forward_tabs(count: u16);
        save_cursor_position();
        restore_cursor_position();
        clear_line(mode: LineClearMode);
        clear_screen(mode: ClearMode);
        reverse_index();
        terminal_attribute(attribute: Attr);
        set_mode(mode: Mode);
        unset_mode(mode: Mode);
        report_mode(mode: Mode);
        report_private_mode(mode: PrivateMode);
        set_keypad_application_mode();
        unset_keypad_application_mode();
        configure_charset(index: CharsetIndex, charset: StandardCharset);
        set_color(index: usize, colour: Rgb);
        reset_color(index: usize);
        decaln();
        text_area_size_chars();
        report_keyboard_mode();
        set_keyboard_mode(mode: KeyboardModes, behaviour: KeyboardModesApplyBehavior);
    }

    fn input(&mut self, character: char) {
        if self.budget == 0 {
            return;
        }
        self.budget -= 1;
        if character >= '\u{80}' && character.width() == Some(0) && self.is_mark_too_many() {
            return;
        }
        self.term.input(character);
    }

    fn set_title(&mut self, title: Option<String>) {
        self.memory.title = title.map(|text| printable(&text.chars().take(TITLE_LENGTH).collect::<String>()));
        self.sink.tell(|replies| replies.title_changed = true);
    }

    // Links are neither shown nor replayed, and a stack of titles is memory for nothing.
    fn set_hyperlink(&mut self, _link: Option<Hyperlink>) {}
    fn push_title(&mut self) {}
    fn pop_title(&mut self) {}

    fn set_horizontal_tabstop(&mut self) {
        let column = self.term.grid().cursor.point.column.0;
        self.memory.tabs[column] = true;
        self.term.set_horizontal_tabstop();
    }

    fn clear_tabs(&mut self, mode: TabulationClearMode) {
        match mode {
            TabulationClearMode::Current => {
                let column = self.term.grid().cursor.point.column.0;
                self.memory.tabs[column] = false;
            }
            TabulationClearMode::All => self.memory.tabs.fill(false),
        }
        self.term.clear_tabs(mode);
    }

    fn reset_state(&mut self) {
        let (rows, cols) = (self.term.screen_lines(), self.term.columns());
        *self.memory = Memory::new(rows, cols);
        self.term.reset_state();
        self.sink.tell(|replies| replies.title_changed = true);
    }

    fn set_private_mode(&mut self, mode: PrivateMode) {
        match mode {
            PrivateMode::Named(NamedPrivateMode::SwapScreenAndSetRestoreCursor)
            | PrivateMode::Unknown(47 | 1047) => self.swap_screens(true),
            PrivateMode::Unknown(1048) => self.term.save_cursor_position(),
            // 132 columns never reach the user's terminal, so they must not clear this one.
            PrivateMode::Named(NamedPrivateMode::ColumnMode) => {}
            mode => self.term.set_private_mode(mode),
        }
    }

    fn unset_private_mode(&mut self, mode: PrivateMode) {
        match mode {
            PrivateMode::Named(NamedPrivateMode::SwapScreenAndSetRestoreCursor)
            | PrivateMode::Unknown(47 | 1047) => self.swap_screens(false),
            PrivateMode::Unknown(1048) => self.term.restore_cursor_position(),
            PrivateMode::Named(NamedPrivateMode::ColumnMode) => {}
            mode => self.term.unset_private_mode(mode),
        }
    }

    fn set_scrolling_region(&mut self, top: usize, bottom: Option<usize>) {
        let rows = self.term.screen_lines();
        let bottom = bottom.unwrap_or(rows).min(rows);
        // Terminals ignore a region without lines; the emulator would keep it.
        if top == 0 || top >= bottom {
            return;
        }
        self.memory.region = (top - 1, bottom);
        self.term.set_scrolling_region(top, Some(bottom));
    }

    fn set_active_charset(&mut self, index: CharsetIndex) {
        self.memory.shifted_out = matches!(index, CharsetIndex::G1);
        self.term.set_active_charset(index);
    }

    fn dynamic_color_sequence(&mut self, prefix: String, index: usize, terminator: &str) {
        let colour = self.term.colors()[index].unwrap_or_else(|| usual_colour(index));
        let Rgb { r, g, b } = colour;
        self.sink
            .answer(&format!("\x1b]{prefix};rgb:{r:02x}{r:02x}/{g:02x}{g:02x}/{b:02x}{b:02x}{terminator}"));
    }

    fn clipboard_store(&mut self, clipboard: u8, base64: &[u8]) {
        if base64.len() <= CLIPBOARD_LIMIT {
            self.term.clipboard_store(clipboard, base64);
        }
    }

    /// What the user copied elsewhere is never told.
    fn clipboard_load(&mut self, _clipboard: u8, _terminator: &str) {}

    fn text_area_size_pixels(&mut self) {
        let (height, width) = (self.term.screen_lines() * 16, self.term.columns() * 8);
        self.sink.answer(&format!("\x1b[4;{height};{width}t"));
    }

    fn push_keyboard_mode(&mut self, mode: KeyboardModes) {
        // The emulator itself panics on a stack of 4096.
        if self.memory.keyboard.len() < KEYBOARD_DEPTH {
            self.memory.keyboard.push(mode);
            self.term.push_keyboard_mode(mode);
        }
    }

    fn pop_keyboard_modes(&mut self, count: u16) {
        let left = self.memory.keyboard.len().saturating_sub(usize::from(count));
        self.memory.keyboard.truncate(left);
        self.term.pop_keyboard_modes(count);
    }
}

/// The colours of xterm: what a program is told that asks.
fn usual_colour(index: usize) -> Rgb {
    const ANSI: [u32; 16] = [
        0x00_0000, 0xcd_0000, 0x00_cd00, 0xcd_cd00, 0x00_00ee, 0xcd_00cd, 0x00_cdcd, 0xe5_e5e5, 0x7f_7f7f,
        0xff_0000, 0x00_ff00, 0xff_ff00, 0x5c_5cff, 0xff_00ff, 0x00_ffff, 0xff_ffff,
    ];
    let level = |step: usize| if step == 0 { 0 } else { 55 + 40 * step };
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    match index {
        0..16 => {
            let [_, r, g, b] = ANSI[index].to_be_bytes();
            Rgb { r, g, b }
        }
        16..232 => {
            let cube = index - 16;
            Rgb { r: byte(level(cube / 36)), g: byte(level(cube / 6 % 6)), b: byte(level(cube % 6)) }
        }
        232..256 => {
            let grey = byte(8 + 10 * (index - 232));
            Rgb { r: grey, g: grey, b: grey }
        }
        _ if index == NamedColor::Background as usize => Rgb { r: 0, g: 0, b: 0 },
        _ => Rgb { r: 0xe5, g: 0xe5, b: 0xe5 },
    }
}
