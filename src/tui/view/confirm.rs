//! A question: what would be lost, and the answers with their keys. Enter is no.

use ratatui::layout::Rect;

use super::super::key::Key;
use super::super::layer::{Confirm, DEAF_MS};
use super::super::model::Model;
use super::super::role::Role;
use super::super::text::wrap;
use super::boxes::{Brush, popup};
use super::{Target, Zones};

pub(super) fn draw(model: &Model, confirm: &Confirm, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let width = 76.min(area.width);
    let room = usize::from(width.saturating_sub(4));
    let lines: Vec<String> = confirm.lines.iter().flat_map(|line| wrap(line, room)).collect();
    let title = wrap(&confirm.title, room);
    let measuring = usize::from(confirm.measures.is_some());
    let bulk = usize::from(confirm.bulk.is_some());
    let tall = title.len() + lines.len() + measuring + confirm.choices.len() + bulk + 4;
    let place = popup(area, (width, u16::try_from(tall).unwrap_or(u16::MAX)));
    let deaf = model.now_ms < confirm.opened_ms + DEAF_MS;
    // Keys are not heard yet: said, and not only drawn.
    let inside = brush.window(place, "sure?", if deaf { "a moment…" } else { "enter leaves it" });
    let mut y = inside.y;
    let mut put = |brush: &mut Brush<'_>, role: Role, text: &str| {
        brush.text(Rect { y, height: u16::from(y < inside.bottom()), ..inside }, role, text);
        y += 1;
    };
    for line in &title {
        put(brush, Role::Strong, line);
    }
    if measuring > 0 {
        put(brush, Role::Dim, "measuring…");
    }
    for line in &lines {
        put(brush, Role::Text, line);
    }
    let mut y = y + 1;
    for choice in &confirm.choices {
        let row = Rect { y, height: u16::from(y < inside.bottom()), ..inside };
        let key = if deaf || choice.disabled.is_some() { Role::Disabled } else { Role::Key };
        let used = brush.text(row, key, &format!("{}  ", choice.key));
        let rest = Rect { x: row.x + used, width: row.width.saturating_sub(used), ..row };
        match &choice.disabled {
            Some(why) => brush.text(rest, Role::Disabled, &format!("{} ({why})", choice.label)),
            None => brush.text(rest, Role::Text, &choice.label),
        };
        zones.add(row, Target::Key(Key::char(choice.key)));
        if choice.request.is_none() && choice.then.is_none() && choice.disabled.is_none() {
            zones.cursor = Some((row.x, y));
        }
        y += 1;
    }
    if let Some(bulk) = &confirm.bulk {
        let row = Rect { y, height: u16::from(y < inside.bottom()), ..inside };
        let asked = format!("type {} to do it: ", bulk.requests.len());
        let used = brush.text(row, if deaf { Role::Disabled } else { Role::Text }, &asked);
        let rest = Rect { x: row.x + used, width: row.width.saturating_sub(used), ..row };
        brush.text(rest, Role::Input, &bulk.typed);
        y += 1;
    }
    // The command that says the same.
    let command = confirm
        .choices
        .iter()
        .find_map(|choice| choice.request.as_ref())
        .map(|request| request.command_line())
        .or_else(|| confirm.bulk.as_ref().map(|bulk| super::super::acts::bulk_line(&bulk.requests)));
    if let Some(command) = command.filter(|_| y < inside.bottom()) {
        brush.text(Rect { y: inside.bottom() - 1, height: 1, ..inside }, Role::Dim, &command);
    }
}
