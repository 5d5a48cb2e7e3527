//! A cube's screen, cell by cell. Never its bytes.

use ratatui::layout::Rect;

use super::super::look::cell_style;
use super::boxes::Brush;
use crate::term::cells::Picture;

/// Draws as much as fits: the rows around the cursor, from the left. Where the cursor came to be.
pub(super) fn draw(brush: &mut Brush<'_>, area: Rect, picture: &Picture) -> Option<(u16, u16)> {
    let height = usize::from(area.height);
    let filled = picture.rows.iter().rposition(|row| !row.is_empty()).map_or(0, |at| at + 1);
    let bottom = filled.max(picture.cursor.map_or(0, |(row, _)| row + 1));
    let skip = bottom.saturating_sub(height);
    for (row, y) in picture.rows.iter().skip(skip).zip(area.y..area.bottom()) {
        for (cell, x) in row.iter().zip(area.x..area.right()) {
            if cell.text.is_empty() || cell.wide && x + 1 >= area.right() {
                continue;
            }
            let target = &mut brush.buffer[(x, y)];
            target.set_symbol(&cell.text).set_style(cell_style(cell));
            if cell.wide {
                brush.buffer[(x + 1, y)].set_symbol("").set_style(cell_style(cell));
            }
        }
    }
    let (row, column) = picture.cursor?;
    let (x, y) = (u16::try_from(column).ok()?, u16::try_from(row.checked_sub(skip)?).ok()?);
    (x < area.width && y < area.height).then_some((area.x + x, area.y + y))
}
