//! The brush: text in a role at a place, frames, boxes in the middle. All text is cut to its place.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_segmentation::UnicodeSegmentation;

use super::super::look::Look;
use super::super::role::{Line, Role};
use super::super::text::{fit, width};

/// Draws on a buffer.
#[derive(Debug)]
pub struct Brush<'a> {
    /// On which.
    pub buffer: &'a mut Buffer,
    /// How.
    pub look: &'a Look,
}

impl Brush<'_> {
    /// A text in one row of a place; how many columns it took.
    pub fn text(&mut self, area: Rect, role: Role, text: &str) -> u16 {
        let style = self.look.style(role);
        self.styled(area, style, text)
    }

    /// The same in a style.
    pub fn styled(&mut self, area: Rect, style: Style, text: &str) -> u16 {
        let area = area.intersection(self.buffer.area);
        if area.height == 0 {
            return 0;
        }
        let mut x = area.x;
        for grapheme in fit(text, usize::from(area.width)).graphemes(true) {
            let wide = u16::try_from(width(grapheme)).unwrap_or(1);
            // What is not text was made so before; this is the last place where it could get through.
            if wide == 0 || x + wide > area.right() || grapheme.chars().any(char::is_control) {
                continue;
            }
            self.buffer[(x, area.y)].set_symbol(grapheme).set_style(style);
            for rest in 1..wide {
                self.buffer[(x + rest, area.y)].reset();
                self.buffer[(x + rest, area.y)].set_style(style).set_symbol("");
            }
            x += wide;
        }
        x - area.x
    }

    /// Pieces one behind the other.
    pub fn line(&mut self, area: Rect, line: &Line) -> u16 {
        let mut used = 0;
        for (role, text) in line {
            let left = Rect { x: area.x + used, width: area.width.saturating_sub(used), ..area };
            if left.width == 0 {
                break;
            }
            used += self.text(left, *role, text);
        }
        used
    }

    /// Lines below one another, as many as there is room for.
    pub fn lines(&mut self, area: Rect, lines: &[Line]) {
        for (line, y) in lines.iter().zip(area.y..area.bottom()) {
            self.line(Rect { y, height: 1, ..area }, line);
        }
    }

    /// A style over a place, the text stays.
    pub fn wash(&mut self, area: Rect, role: Role) {
        let area = area.intersection(self.buffer.area);
        let mut style = self.look.style(role);
        if matches!(role, Role::Selection | Role::SelectionIdle) {
            // What is dim elsewhere would be hard to read on another ground.
            style = style.remove_modifier(ratatui::style::Modifier::DIM);
        }
        self.buffer.set_style(area, style);
    }

    /// Empties a place.
    pub fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        for y in area.y..area.bottom() {
            // Half of a wide character beside the place would be drawn over it.
            if area.x > 0 && width(self.buffer[(area.x - 1, y)].symbol()) > 1 {
                self.buffer[(area.x - 1, y)].set_symbol(" ");
            }
            for x in area.x..area.right() {
                self.buffer[(x, y)].reset();
            }
        }
        self.wash(area, Role::Text);
    }

    /// A frame with a title above and a note below; the room inside.
    pub fn frame(&mut self, area: Rect, focused: bool, title: &Line, note: &str) -> Rect {
        let role = if focused { Role::BorderFocus } else { Role::Border };
        if area.width < 2 || area.height < 2 {
            return Rect { width: 0, height: 0, ..area };
        }
        let [top_left, top_right, bottom_left, bottom_right, across, down] = self.look.glyphs.border;
        let (right, bottom) = (area.right() - 1, area.bottom() - 1);
        let middle = across.repeat(usize::from(area.width) - 2);
        let row = |y| Rect { y, height: 1, ..area };
        self.text(row(area.y), role, &format!("{top_left}{middle}{top_right}"));
        self.text(row(bottom), role, &format!("{bottom_left}{middle}{bottom_right}"));
        for y in area.y + 1..bottom {
            self.text(Rect::new(area.x, y, 1, 1), role, down);
            self.text(Rect::new(right, y, 1, 1), role, down);
        }
        let room = area.width.saturating_sub(4);
        if !title.is_empty() && room > 2 {
            let mut padded = title.clone();
            padded.insert(0, (role, " ".into()));
            let total: usize = padded.iter().map(|(_, text)| width(text)).sum();
            if total < usize::from(room) {
                padded.push((role, " ".into()));
            }
            self.line(Rect { x: area.x + 2, width: room, ..row(area.y) }, &padded);
        }
        let wide = u16::try_from(width(note)).unwrap_or(u16::MAX);
        if wide > 0 && wide + 2 <= room {
            let at = Rect { x: right - wide - 3, width: wide + 2, ..row(bottom) };
            self.text(at, Role::Dim, &format!(" {note} "));
        }
        Rect::new(area.x + 1, area.y + 1, area.width - 2, area.height - 2)
    }

    /// An emptied box in the middle, framed; the room inside.
    pub fn window(&mut self, area: Rect, title: &str, note: &str) -> Rect {
        self.clear(area);
        let title = vec![(Role::TitleFocus, title.to_owned())];
        let inside = self.frame(area, true, &title, note);
        Rect { x: inside.x + 1, width: inside.width.saturating_sub(2), ..inside }
    }
}

/// A place of at most this size in the middle of `area`.
#[must_use]
pub fn popup(area: Rect, (columns, rows): (u16, u16)) -> Rect {
    let (width, height) = (columns.min(area.width), rows.min(area.height));
    Rect::new(area.x + (area.width - width) / 2, area.y + (area.height - height) / 3, width, height)
}
