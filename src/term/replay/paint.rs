//! Cells to bytes: rows in order, from the oldest line of the history to the last of the screen, and the
//! cursor. It writes characters, SGR, and as few movements as it can.

use alacritty_terminal::grid::{Cursor, Dimensions, Grid, Row};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{CharsetIndex, Color, NamedColor, StandardCharset};

/// What SGR can say of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pen {
    fg: Color,
    bg: Color,
    flags: Flags,
    underline: Option<Color>,
}

const PEN_FLAGS: Flags = Flags::INVERSE
    .union(Flags::BOLD)
    .union(Flags::ITALIC)
    .union(Flags::DIM)
    .union(Flags::HIDDEN)
    .union(Flags::STRIKEOUT)
    .union(Flags::ALL_UNDERLINES);

const NO_BACKGROUND: Color = Color::Named(NamedColor::Background);

impl Default for Pen {
    fn default() -> Self {
        Self::of(&Cell::default())
    }
}

impl Pen {
    pub(super) fn of(cell: &Cell) -> Self {
        let underline = cell.underline_color();
        Self { fg: cell.fg, bg: cell.bg, flags: cell.flags.intersection(PEN_FLAGS), underline }
    }

    fn write(self, out: &mut String) {
        out.push_str("\x1b[0");
        for (flag, code) in [
            (Flags::BOLD, ";1"),
            (Flags::DIM, ";2"),
            (Flags::ITALIC, ";3"),
            (Flags::UNDERLINE, ";4"),
            (Flags::DOUBLE_UNDERLINE, ";4:2"),
            (Flags::UNDERCURL, ";4:3"),
            (Flags::DOTTED_UNDERLINE, ";4:4"),
            (Flags::DASHED_UNDERLINE, ";4:5"),
            (Flags::INVERSE, ";7"),
            (Flags::HIDDEN, ";8"),
            (Flags::STRIKEOUT, ";9"),
        ] {
            if self.flags.contains(flag) {
                out.push_str(code);
            }
        }
        colour(out, self.fg, 30);
        colour(out, self.bg, 40);
        // With colons: a terminal that does not know 58 then skips all of it.
        match self.underline {
            Some(Color::Indexed(index)) => out.push_str(&format!(";58:5:{index}")),
            Some(Color::Spec(rgb)) => out.push_str(&format!(";58:2::{}:{}:{}", rgb.r, rgb.g, rgb.b)),
            Some(Color::Named(_)) | None => {}
        }
        out.push('m');
    }
}

fn colour(out: &mut String, colour: Color, base: usize) {
    match colour {
        Color::Named(name) if (name as usize) < 8 => out.push_str(&format!(";{}", base + name as usize)),
        Color::Named(name) if (name as usize) < 16 => {
            out.push_str(&format!(";{}", base + 52 + name as usize));
        }
        Color::Named(_) => {}
        Color::Indexed(index) => out.push_str(&format!(";{};5;{index}", base + 8)),
        Color::Spec(rgb) => out.push_str(&format!(";{};2;{};{};{}", base + 8, rgb.r, rgb.g, rgb.b)),
    }
}

/// Writes all lines of `grid` to a blank screen without margins, with the cursor at its first line.
pub(super) fn grid(out: &mut String, grid: &Grid<Cell>) {
    let mut writer = Writer { out, pen: Pen::default() };
    let bottom = grid.bottommost_line().0;
    let mut continues = false;
    for line in grid.topmost_line().0..=bottom {
        let row = &grid[Line(line)];
        let next = (line < bottom).then(|| &grid[Line(line + 1)]);
        if !continues && line != grid.topmost_line().0 {
            // A line that scrolls in takes the pen's background.
            writer.take(Pen::default());
            writer.out.push_str("\r\n");
        }
        let wraps = next.is_some() && row[grid.last_column()].flags.contains(Flags::WRAPLINE);
        writer.row(row, continues, if wraps { next } else { None });
        continues = wraps;
    }
    writer.take(Pen::default());
}

struct Writer<'a> {
    out: &'a mut String,
    pen: Pen,
}

impl Writer<'_> {
    fn take(&mut self, pen: Pen) {
        if self.pen != pen {
            pen.write(self.out);
            self.pen = pen;
        }
    }

    /// Writes `row`. When it `continues` the row above, its first character makes the terminal wrap; when it goes on
    /// in `next`, it is written to its last column.
    fn row(&mut self, row: &Row<Cell>, continues: bool, next: Option<&Row<Cell>>) {
        let cols = row.len();
        let mut end = if next.is_some() { cols } else { occupied(row) };
        if continues {
            // The line that wrapping scrolled in has the background of its first character.
            end = if row[Column(0)].bg == NO_BACKGROUND { end.max(1) } else { cols };
        }
        let mut column = 0;
        while column < end {
            let cell = &row[Column(column)];
            let makes_room = column + 1 == cols
                && cell.flags.contains(Flags::LEADING_WIDE_CHAR_SPACER)
                && next.is_some_and(|next| is_wide(next, 0) && Pen::of(&next[Column(0)]) == Pen::of(cell));
            if makes_room {
                break; // the wide character of the next row leaves it
            }
            column += self.cell(row, column);
        }
    }

    /// Writes the cell at `column`; returns how many columns it takes.
    fn cell(&mut self, row: &Row<Cell>, column: usize) -> usize {
        let cell = &row[Column(column)];
        self.take(Pen::of(cell));
        let wide = is_wide(row, column);
        let half = cell.flags.intersects(Flags::WIDE_CHAR | Flags::WIDE_CHAR_SPACER) && !wide;
        if half || cell.c == '\t' {
            self.out.push(' ');
            return 1;
        }
        self.out.push(cell.c);
        let width = 1 + usize::from(wide);
        let marks = cell.zerowidth().unwrap_or_default();
        if !marks.is_empty() {
            // The joiner would draw two cells as one.
            self.out.extend(marks.iter().filter(|mark| **mark != '\u{200d}'));
            // Terminals disagree on the width of marked characters.
            if column + width < row.len() {
                self.out.push_str(&format!("\x1b[{}G", column + width + 1));
            }
        }
        width
    }
}

/// Whether a whole wide character begins at `column`.
fn is_wide(row: &Row<Cell>, column: usize) -> bool {
    row[Column(column)].flags.contains(Flags::WIDE_CHAR)
        && column + 1 < row.len()
        && row[Column(column + 1)].flags.contains(Flags::WIDE_CHAR_SPACER)
}

/// Columns up to the last cell that differs from a blank one.
fn occupied(row: &Row<Cell>) -> usize {
    let is_blank = |cell: &Cell| {
        matches!(cell.c, ' ' | '\t')
            && Pen::of(cell) == Pen::default()
            && cell.zerowidth().unwrap_or_default().is_empty()
    };
    row[..].iter().rposition(|cell| !is_blank(cell)).map_or(0, |last| last + 1)
}

/// Puts the cursor where `cursor` is, with its pen and its character sets. `origin`: the margins that positions
/// count from, when the origin mode is on.
pub(super) fn cursor(
    out: &mut String,
    grid: &Grid<Cell>,
    cursor: &Cursor<Cell>,
    origin: Option<(usize, usize)>,
) {
    let (top, bottom) = origin.unwrap_or((0, grid.screen_lines()));
    let line = usize::try_from(cursor.point.line.0).unwrap_or(0).clamp(top, bottom - 1);
    let mut column = cursor.point.column.0.min(grid.columns() - 1);
    let row = &grid[Line(i32::try_from(line).unwrap_or(0))];
    // After a character in the last column the cursor is beyond it until the next one: write that one again. On a
    // line that wrapped since, that would undo the wrap.
    let beyond = cursor.input_needs_wrap
        && column + 1 == grid.columns()
        && !row[Column(column)].flags.contains(Flags::WRAPLINE);
    if beyond && is_wide(row, column - 1) {
        column -= 1;
    }
    out.push_str(&format!("\x1b[m\x1b[{};{}H", line - top + 1, column + 1));
    let mut writer = Writer { out, pen: Pen::default() };
    if beyond {
        // The cell holds what was shown: the sets of a cursor painted before must not change it again.
        writer.out.push_str("\x1b(B\x1b)B\x1b*B\x1b+B");
        writer.cell(row, column);
    }
    writer.take(Pen::of(&cursor.template));
    for (index, name) in
        [(CharsetIndex::G0, '('), (CharsetIndex::G1, ')'), (CharsetIndex::G2, '*'), (CharsetIndex::G3, '+')]
    {
        let set = if cursor.charsets[index] == StandardCharset::Ascii { 'B' } else { '0' };
        out.push_str(&format!("\x1b{name}{set}"));
    }
}
