//! One line to be typed.

use ratatui::layout::Rect;

use super::super::layer::Prompt;
use super::super::role::Role;
use super::super::text::{pad, width};
use super::Zones;
use super::boxes::{Brush, popup};

pub(super) fn draw(prompt: &Prompt, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let place = popup(area, (64.min(area.width), 5));
    let inside = brush.window(place, &prompt.kind.title(), "");
    let row = Rect { height: 1.min(inside.height), ..inside };
    field(brush, row, &prompt.field, true, zones);
    let (role, text) = match &prompt.error {
        Some(error) => (Role::Error, error.as_str()),
        None => (Role::Dim, prompt.kind.examples()),
    };
    let lines = super::super::text::wrap(text, usize::from(inside.width));
    for (line, y) in lines.iter().zip(row.y + 1..inside.bottom()) {
        brush.text(Rect { y, height: 1, ..inside }, role, line);
    }
}

/// A field that is typed into, scrolled so that its cursor can be seen.
pub(super) fn field(
    brush: &mut Brush<'_>,
    area: Rect,
    field: &tui_input::Input,
    focused: bool,
    zones: &mut Zones,
) {
    let room = usize::from(area.width).saturating_sub(1);
    let skip = field.visual_scroll(room);
    let mut used = 0;
    let shown: String = field
        .value()
        .chars()
        .skip_while(|character| {
            let before = used < skip;
            used += unicode_width::UnicodeWidthChar::width(*character).unwrap_or(0);
            before
        })
        .collect();
    brush.text(area, Role::Input, &pad(&super::super::text::clean(&shown), usize::from(area.width)));
    if focused {
        let at = field.visual_cursor().saturating_sub(skip).min(width(&shown)).min(room);
        zones.cursor = Some((area.x + u16::try_from(at).unwrap_or(0), area.y));
        zones.typing = true;
    }
}
