//! One list: title with its number, rows, the count below; and the line of names when only one list is drawn.

use ratatui::layout::Rect;

use super::super::model::{Model, Pane};
use super::super::role::{Line, Role};
use super::super::rows::{Row, Sign, count};
use super::super::text::{fit, pad, width};
use super::boxes::Brush;
use super::{Target, Zones};

/// The names of the lists in one line, with how many there are.
pub(super) fn tabs(model: &Model, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let mut x = area.x + 1;
    for pane in Pane::ALL {
        let text = if area.width < 70 {
            format!("{} {} ", pane.index() + 1, pane.word())
        } else {
            format!(" {} {} {} ", pane.index() + 1, pane.word(), count(model, pane))
        };
        let role = if pane == model.focus { Role::TitleFocus } else { Role::Title };
        let place = Rect { x, width: area.right().saturating_sub(x), ..area };
        let used = brush.text(place, role, &text);
        zones.add(Rect { x, width: used, ..area }, Target::Pane(pane));
        x += used;
    }
}

/// A list.
pub(super) fn draw(model: &Model, brush: &mut Brush<'_>, pane: Pane, area: Rect, zones: &mut Zones) {
    let focused = model.focus == pane;
    let list = &model.lists[pane.index()];
    let (narrowed, rows) = model.window(pane, usize::from(area.height));
    let all = count(model, pane);
    let mut title: Line = vec![
        (Role::Key, format!("{} ", pane.index() + 1)),
        (if focused { Role::TitleFocus } else { Role::Title }, pane.word().to_owned()),
    ];
    if pane == Pane::Projects {
        let room = usize::from(area.width).saturating_sub(20);
        title.push((Role::Dim, format!(" {}", super::super::text::fit_end(&model.world.root, room))));
    }
    if focused && model.filtering || !list.filter.is_empty() {
        title.push((Role::Match, format!(" /{}", list.filter)));
    }
    let note = match narrowed == all {
        true if all > 1 => format!("{} of {all}", list.at + 1),
        false => format!("{narrowed} of {all}"),
        true => String::new(),
    };
    let inside = brush.frame(area, focused && model.layers.is_empty(), &title, &note);
    zones.add(area, Target::Pane(pane));
    if rows.is_empty() {
        empty(model, brush, pane, inside);
    }
    for (row, y) in rows.iter().zip(inside.y..inside.bottom()) {
        let at = Rect { y, height: 1, ..inside };
        let selected = list.selected.as_ref() == Some(&row.id);
        draw_row(brush, at, row, selected, focused);
        zones.add(at, Target::Row(pane, row.id.clone()));
        if selected && focused {
            zones.cursor = Some((inside.x, y));
        }
    }
    if focused && model.filtering {
        let typed = width(&format!("{} {} /{}", pane.index() + 1, pane.word(), list.filter));
        let root = if pane == Pane::Projects {
            let room = usize::from(area.width).saturating_sub(20);
            width(&super::super::text::fit_end(&model.world.root, room)) + 1
        } else {
            0
        };
        let x = area.x + 3 + u16::try_from(typed + root).unwrap_or(0);
        zones.cursor = Some((x.min(area.right().saturating_sub(2)), area.y));
        zones.typing = true;
    }
}

fn draw_row(brush: &mut Brush<'_>, area: Rect, row: &Row, selected: bool, focused: bool) {
    let glyphs = brush.look.glyphs;
    let sign = match row.sign {
        Sign::None => " ",
        Sign::Chosen => glyphs.chosen,
        Sign::Running => glyphs.running,
        Sign::Starting => glyphs.starting,
        Sign::Exited => glyphs.exited,
        Sign::Failed => glyphs.failed,
        Sign::Kept => glyphs.kept,
    };
    let role = if row.grey { Role::Dim } else { Role::Text };
    let room = usize::from(area.width).saturating_sub(3);
    // The note keeps its place until the title has less than half of the row.
    let note = fit(&row.note, room / 2);
    let title = pad(&row.title, room.saturating_sub(width(&note) + 1));
    brush.text(Rect { x: area.x, width: 1.min(area.width), ..area }, row.sign.role(), sign);
    if row.marked && area.width > 1 {
        brush.text(Rect { x: area.x + 1, width: 1, ..area }, Role::Accent, "+");
    }
    let mut x = area.x + 2;
    for (at, character) in (0u32..).zip(title.chars()) {
        let role = if row.found.contains(&at) { Role::Match } else { role };
        let mut text = [0; 4];
        x += brush.text(
            Rect { x, width: area.right().saturating_sub(x), ..area },
            role,
            character.encode_utf8(&mut text),
        );
    }
    let wide = u16::try_from(width(&note)).unwrap_or(0);
    let at = area.right().saturating_sub(wide + 1);
    brush.text(Rect { x: at, width: wide, ..area }, Role::Dim, &note);
    if selected {
        brush.wash(area, if focused { Role::Selection } else { Role::SelectionIdle });
    }
}

/// What an empty list teaches.
fn empty(model: &Model, brush: &mut Brush<'_>, pane: Pane, area: Rect) {
    let list = &model.lists[pane.index()];
    let text = match pane {
        _ if !model.loaded => "looking…",
        _ if !list.filter.is_empty() => "nothing fits · esc shows all",
        Pane::Projects if !model.world.root_exists => "no such folder yet · n makes it with a first project",
        Pane::Projects => "no projects yet · n makes one",
        Pane::Cubes => "nothing runs · enter on a project launches",
        Pane::Machines => "no machines",
        Pane::Images => "no images",
    };
    brush.text(
        Rect { x: area.x + 1, width: area.width.saturating_sub(1), height: 1.min(area.height), ..area },
        Role::Dim,
        text,
    );
}
