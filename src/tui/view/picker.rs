//! A list to choose from: the help, the palette, the themes.

use ratatui::layout::Rect;

use super::super::layer::{Picker, PickerKind};
use super::super::role::Role;
use super::super::text::{fit, pad, width};
use super::boxes::{Brush, popup};
use super::{Target, Zones};

/// Columns and rows of a picker on a screen of this size.
const fn size(screen: (u16, u16)) -> (u16, u16) {
    let columns = if screen.0 < 100 { screen.0 } else { 96 };
    let rows = if screen.1 < 30 { screen.1.saturating_sub(2) } else { 28 };
    (columns, rows)
}

/// Columns of the themes: what they look like is seen beside them.
const THEMES: u16 = 30;

/// Where a picker goes.
pub(super) fn place(picker: &Picker, screen: (u16, u16), area: Rect) -> Rect {
    let (columns, rows) = size(screen);
    match picker.kind {
        PickerKind::Theme(_) if screen.0 >= 2 * THEMES => {
            let rows = rows.min(area.height.saturating_sub(2));
            Rect { x: area.right() - THEMES, y: area.y, width: THEMES, height: rows }
        }
        // A short list is a low box, so that what it is about can be seen; typing does not make it jump.
        _ => {
            let wanted = u16::try_from(picker.items.len()).unwrap_or(u16::MAX).saturating_add(7);
            popup(area, (columns, rows.min(wanted)))
        }
    }
}

/// Entries that fit.
#[must_use]
pub fn height(screen: (u16, u16)) -> usize {
    usize::from(size(screen).1.saturating_sub(6)).max(1)
}

pub(super) fn draw(picker: &Picker, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let shown = picker.shown();
    let note = format!("{} of {}", shown.len(), picker.items.len());
    let inside = brush.window(area, &picker.title, &note);
    let glyph = brush.look.glyphs.chosen;
    brush.text(Rect { height: 1, ..inside }, Role::Key, glyph);
    let row = Rect { x: inside.x + 2, width: inside.width.saturating_sub(2), height: 1, ..inside };
    super::prompt::field(brush, row, &picker.field, true, zones);
    let list = Rect { y: inside.y + 1, height: inside.height.saturating_sub(3), ..inside };
    let keys = shown.iter().map(|item| width(&item.key)).max().unwrap_or(0);
    let names = shown.iter().map(|item| width(&item.title)).max().unwrap_or(0).min(24);
    for ((at, item), y) in shown.iter().enumerate().skip(picker.top).zip(list.y..list.bottom()) {
        let row = Rect { y, height: 1, ..list };
        let (title, about) =
            if item.disabled.is_some() { (Role::Disabled, Role::Disabled) } else { (Role::Text, Role::Dim) };
        let mut line = Vec::new();
        if keys > 0 {
            line.push((Role::Key, format!("{}  ", pad(&item.key, keys))));
        }
        line.push((title, format!("{}  ", pad(&fit(&item.title, names.max(12)), names.max(12)))));
        let text = match &item.disabled {
            Some(why) => format!("({why}) {}", item.about),
            None => item.about.clone(),
        };
        line.push((about, text));
        brush.line(row, &line);
        if at == picker.at {
            brush.wash(row, Role::Selection);
        }
        zones.add(row, Target::Item(at));
    }
    // What is done is also a command: its name, and what does the same elsewhere, are shown so that they are learned.
    if let Some(item) = shown.get(picker.at) {
        let last = |from_end| Rect { y: inside.bottom().saturating_sub(from_end), height: 1, ..inside };
        brush.text(last(2), Role::Text, &item.about);
        let cli = if item.cli.is_empty() { String::new() } else { format!("  {}", item.cli) };
        if matches!(picker.kind, PickerKind::Command | PickerKind::Theme(_)) {
            brush.line(last(1), &vec![(Role::Accent, format!(":{}", item.id)), (Role::Dim, cli)]);
        }
    }
}
