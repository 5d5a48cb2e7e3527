//! What a cube's screen shows, cell by cell, to be drawn again inside another screen. Only printable characters
//! leave here: no sequence, no joiner that would make two cells one.

use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::vte::ansi::{Color, NamedColor};
use unicode_width::UnicodeWidthChar;

use super::screen::Screen;

/// A colour as the cube chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ink {
    /// The terminal's own.
    #[default]
    Default,
    /// One of the palette's 256; the first 16 are the terminal's own.
    Index(u8),
    /// Red, green, blue.
    Rgb(u8, u8, u8),
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShownCell {
    /// Its text: a character with at most a few marks. Empty for the second half of a wide character.
    pub text: String,
    /// 1 or 2 columns.
    pub wide: bool,
    /// Its colour.
    pub fg: Ink,
    /// The colour behind it.
    pub bg: Ink,
    /// Bold.
    pub bold: bool,
    /// Dim.
    pub dim: bool,
    /// Italic.
    pub italic: bool,
    /// Underlined, in any way.
    pub underline: bool,
    /// Foreground and background exchanged.
    pub reverse: bool,
    /// Struck out.
    pub strike: bool,
}

/// A whole screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    /// The visible rows, trailing blanks cut.
    pub rows: Vec<Vec<ShownCell>>,
    /// Columns of the cube's terminal.
    pub cols: usize,
    /// Row and column of the cursor, if it is shown.
    pub cursor: Option<(usize, usize)>,
    /// The window title, safe to show.
    pub title: Option<String>,
}

impl Screen {
    /// What is shown now.
    pub fn picture(&mut self) -> Picture {
        self.settle();
        let (rows, cols) = self.size();
        let grid = self.term.grid();
        let shown = (0..rows.min(grid.screen_lines()))
            .map(|line| {
                let row = &grid[Line(i32::try_from(line).unwrap_or(0))];
                let mut cells: Vec<ShownCell> = (0..cols.min(grid.columns()))
                    .map(|column| {
                        let next = (column + 1 < cols).then(|| row[Column(column + 1)].flags);
                        shown(&row[Column(column)], next)
                    })
                    .collect();
                let blank = ShownCell { text: " ".into(), ..ShownCell::default() };
                while cells.last().is_some_and(|cell| *cell == blank) {
                    cells.pop();
                }
                cells
            })
            .collect();
        let cursor = self.modes().cursor_visible.then(|| self.cursor());
        Picture { rows: shown, cols, cursor, title: self.title().map(str::to_owned) }
    }
}

fn shown(cell: &alacritty_terminal::term::cell::Cell, next: Option<Flags>) -> ShownCell {
    let flags = cell.flags;
    let wide = flags.contains(Flags::WIDE_CHAR)
        && next.is_some_and(|next| next.contains(Flags::WIDE_CHAR_SPACER))
        && cell.c.width() == Some(2);
    let half = flags.contains(Flags::WIDE_CHAR_SPACER);
    let mut text = String::new();
    if !half {
        let plain = !flags.contains(Flags::HIDDEN) && cell.c.width() == Some(if wide { 2 } else { 1 });
        text.push(if plain { cell.c } else { ' ' });
        if plain {
            // Marks that change no width: a joiner or a selector would.
            let marks = cell.zerowidth().unwrap_or_default().iter().take(4);
            text.extend(marks.filter(|mark| is_mark(**mark)));
        }
    }
    ShownCell {
        text,
        wide,
        fg: ink(cell.fg),
        bg: ink(cell.bg),
        bold: flags.contains(Flags::BOLD),
        dim: flags.contains(Flags::DIM),
        italic: flags.contains(Flags::ITALIC),
        underline: flags.intersects(Flags::ALL_UNDERLINES),
        reverse: flags.contains(Flags::INVERSE),
        strike: flags.contains(Flags::STRIKEOUT),
    }
}

const fn is_mark(mark: char) -> bool {
    matches!(mark, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}')
}

fn ink(colour: Color) -> Ink {
    match colour {
        Color::Named(name) => match name as usize {
            index @ 0..16 => Ink::Index(u8::try_from(index).unwrap_or(0)),
            _ => match name {
                NamedColor::DimBlack => Ink::Index(0),
                NamedColor::DimRed => Ink::Index(1),
                NamedColor::DimGreen => Ink::Index(2),
                NamedColor::DimYellow => Ink::Index(3),
                NamedColor::DimBlue => Ink::Index(4),
                NamedColor::DimMagenta => Ink::Index(5),
                NamedColor::DimCyan => Ink::Index(6),
                NamedColor::DimWhite => Ink::Index(7),
                _ => Ink::Default,
            },
        },
        Color::Indexed(index) => Ink::Index(index),
        Color::Spec(rgb) => Ink::Rgb(rgb.r, rgb.g, rgb.b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_carry_colours_and_no_control() {
        let mut screen = Screen::new(3, 12, 0);
        let _replies = screen.feed("\x1b[1;31mhi\x1b[0m 漢\r\n\x1b]0;t\x07e\u{301}\u{200d}x".as_bytes());
        let picture = screen.picture();
        assert_eq!(
            picture.rows[0][0],
            ShownCell { text: "h".into(), bold: true, fg: Ink::Index(1), ..ShownCell::default() }
        );
        assert!(picture.rows[0][3].wide && picture.rows[0][4].text.is_empty());
        assert_eq!(picture.rows[1][0].text, "e\u{301}");
        assert_eq!((picture.rows[2].len(), picture.cursor), (0, Some((1, 2))));
        assert_eq!(picture.title.as_deref(), Some("t"));
    }
}
