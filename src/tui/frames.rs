//! Frames as bytes: what differs between what a terminal shows and what it is to show. Nothing differs, nothing is written.

use std::io::Write;

use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;

use super::view::Zones;

/// What a terminal shows, as far as we wrote it.
#[derive(Debug)]
pub(super) struct Frames {
    shown: Buffer,
    next: Buffer,
    /// What the last frame said about the cursor.
    cursor: Option<(bool, Option<(u16, u16)>)>,
}

impl Frames {
    /// For a terminal of so many columns and rows, of which nothing is known.
    pub(super) fn new(size: (u16, u16)) -> Self {
        // Our own pass decides about colours; crossterm's would take bold and reverse along.
        crossterm::style::force_color_output(true);
        let mut frames = Self { shown: Buffer::default(), next: Buffer::default(), cursor: None };
        frames.forget(size);
        frames
    }

    /// Nothing is known of what the terminal shows: the next frame is drawn whole, over what is there.
    pub(super) fn forget(&mut self, size: (u16, u16)) {
        let area = Rect::new(0, 0, size.0, size.1);
        // No frame holds such a cell, so that every one differs.
        let mut strange = Cell::new("x");
        strange.modifier = ratatui::style::Modifier::all();
        self.shown = Buffer::filled(area, strange);
        self.next = Buffer::empty(area);
        self.cursor = None;
    }

    /// The bytes of a frame: only what differs from the last one, in one piece; none when nothing does.
    pub(super) fn draw(&mut self, render: &dyn Fn(&mut Buffer) -> Zones) -> (Zones, Vec<u8>) {
        self.next.reset();
        let zones = render(&mut self.next);
        let changes = self.shown.diff(&self.next);
        let cursor = (zones.typing, zones.cursor);
        if changes.is_empty() && self.cursor == Some(cursor) {
            return (zones, Vec::new());
        }
        let mut bytes = b"\x1b[?2026h\x1b[?25l".to_vec();
        {
            let mut backend = CrosstermBackend::new(&mut bytes);
            // Writing into memory does not fail.
            let _drawn = backend.draw(changes.into_iter());
            let _flushed = Backend::flush(&mut backend);
        }
        // The cursor is parked on what is selected, for those who have it read to them.
        if let Some((x, y)) = zones.cursor {
            let _moved = write!(bytes, "\x1b[{};{}H", y + 1, x + 1);
        }
        bytes.extend_from_slice(if zones.typing { b"\x1b[?25h".as_slice() } else { b"" });
        bytes.extend_from_slice(b"\x1b[?2026l");
        self.cursor = Some(cursor);
        std::mem::swap(&mut self.shown, &mut self.next);
        (zones, bytes)
    }
}
