//! The launch sheet: choices at the left, the plan at the right or below, the equal command at the bottom.

use ratatui::layout::Rect;

use super::super::role::Role;
use super::super::sheet::{AS_SET, Sheet, Value};
use super::super::text::{clean, pad, wrap};
use super::boxes::{Brush, popup};
use super::{Target, Zones};
use crate::plan::resolve::ProjectRef;

pub(super) fn draw(sheet: &Sheet, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let screen = Rect { height: area.height.saturating_sub(2), ..area };
    let place = popup(screen, (screen.width.min(132), screen.height.min(36)));
    let title = match &sheet.project {
        Some(ProjectRef::Named(name)) => format!("launch {name}"),
        Some(ProjectRef::Root) => "launch all projects".to_owned(),
        None => "launch without a project".to_owned(),
    };
    let inside = brush.window(place, &title, "for this launch only");
    let command = wrap(&sheet.command_line(), usize::from(inside.width));
    let below = u16::try_from(command.len().min(3)).unwrap_or(1);
    let body = Rect { height: inside.height.saturating_sub(below + 1), ..inside };
    for (line, y) in command.iter().take(3).zip(inside.bottom().saturating_sub(below)..) {
        brush.text(Rect { y, height: 1, ..inside }, Role::Accent, line);
    }
    let wide = inside.width >= 84;
    let left = if wide {
        Rect { width: 40, ..body }
    } else {
        Rect { height: body.height.saturating_sub(5).max(body.height * 2 / 3), ..body }
    };
    let right = if wide {
        Rect { x: body.x + 42, width: body.width - 42, ..body }
    } else {
        Rect { y: left.bottom(), height: body.height - left.height, ..body }
    };
    fields(sheet, brush, left, zones);
    plan(sheet, brush, right, wide);
}

fn fields(sheet: &Sheet, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let height = usize::from(area.height);
    let top = (sheet.at + 1).saturating_sub(height);
    let below = sheet.fields.len().saturating_sub(top + height);
    for ((at, field), y) in sheet.fields.iter().enumerate().skip(top).zip(area.y..area.bottom()) {
        let row = Rect { y, height: 1, ..area };
        let focused = at == sheet.at;
        brush.text(row, if focused { Role::Accent } else { Role::Dim }, &pad(field.label, 10));
        let value = Rect { x: row.x + 11, width: row.width.saturating_sub(11), ..row };
        match &field.value {
            Value::Text(text) if focused => {
                super::prompt::field(brush, value, text, true, zones);
                if text.value().is_empty() {
                    brush.text(value, Role::Dim, field.about);
                }
            }
            Value::Text(text) if text.value().is_empty() => as_set(sheet, field.id, AS_SET, brush, value),
            Value::Text(text) => {
                brush.text(value, Role::Strong, &clean(text.value()));
            }
            Value::Choice { words, at } => {
                let word = words.get(*at).map_or("", String::as_str);
                let refused = sheet.refusal(field.id, word).is_some();
                let role = Role::Strong;
                let why = if refused { " (refused)" } else { "" };
                let shown = if focused { format!("< {word} >{why}") } else { format!("{word}{why}") };
                if word == AS_SET {
                    as_set(sheet, field.id, &shown, brush, value);
                } else {
                    brush.text(value, role, &shown);
                }
                if focused {
                    brush.wash(value, Role::Selection);
                    zones.cursor = Some((value.x, y));
                }
            }
        }
        zones.add(row, Target::Item(at));
    }
    if below > 0 && area.height > 0 {
        let text = format!("{} {below} more", brush.look.glyphs.more);
        let wide = u16::try_from(super::super::text::width(&text)).unwrap_or(0).min(area.width);
        let place = Rect::new(area.right() - wide, area.bottom() - 1, wide, 1);
        brush.text(place, Role::Dim, &text);
    }
}

/// A field that is left as it is set, and what that comes to.
fn as_set(sheet: &Sheet, id: &str, shown: &str, brush: &mut Brush<'_>, area: Rect) {
    let used = brush.text(area, Role::Dim, shown);
    if let Some(value) = sheet.came_to(id) {
        let rest = Rect { x: area.x + used, width: area.width.saturating_sub(used), ..area };
        let dot = format!(" {} ", brush.look.glyphs.dot);
        brush.line(rest, &vec![(Role::Dim, dot), (Role::Text, value.to_owned())]);
    }
}

fn plan(sheet: &Sheet, brush: &mut Brush<'_>, area: Rect, wide: bool) {
    let room = usize::from(area.width);
    let mut lines: Vec<(Role, String)> = Vec::new();
    match &sheet.plan {
        None => lines.push((Role::Dim, "planning…".into())),
        Some(Err(failure)) => {
            lines.extend(
                wrap(&format!("cannot launch: {failure}"), room).into_iter().map(|line| (Role::Error, line)),
            );
            for hint in &failure.hints {
                lines.extend(wrap(&format!("hint: {hint}"), room).into_iter().map(|line| (Role::Text, line)));
            }
        }
        Some(Ok(planned)) => {
            for warning in &planned.warnings {
                lines.extend(
                    wrap(&format!("warning: {warning}"), room).into_iter().map(|line| (Role::Warn, line)),
                );
            }
            if !wide {
                lines.push((Role::Ok, "this can be launched · pagedown shows the plan".into()));
            }
            // Warnings stand above already.
            let plan = planned.lines.iter().filter(|line| !line.starts_with("warning"));
            lines.extend(plan.map(|line| (Role::Text, line.clone())));
        }
    }
    let top = sheet.top.min(lines.len().saturating_sub(usize::from(area.height)));
    let more = top + usize::from(area.height) < lines.len() && area.height > 0;
    for ((role, line), y) in lines.iter().skip(top).zip(area.y..area.bottom()) {
        // The mark in the last row has its own place.
        let mark = if more && y + 1 == area.bottom() { 3 } else { 0 };
        let row = Rect { y, height: 1, width: area.width.saturating_sub(mark), ..area };
        match line.split_at_checked(14).filter(|_| *role == Role::Text) {
            // A plan's line: its label, then what it says.
            Some((label, rest)) => {
                let used = brush.text(row, Role::Dim, label);
                brush.text(
                    Rect { x: row.x + used, width: row.width.saturating_sub(used), ..row },
                    Role::Text,
                    rest,
                );
            }
            None => {
                brush.text(row, *role, line);
            }
        }
    }
    if more {
        let more = brush.look.glyphs.more;
        brush.text(Rect::new(area.right().saturating_sub(2), area.bottom() - 1, 2, 1), Role::Dim, more);
    }
}
