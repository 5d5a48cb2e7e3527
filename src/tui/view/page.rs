//! Lines to read: a log, what a command printed, messages.

use ratatui::layout::Rect;

use super::super::layer::{Page, PageKind};
use super::super::model::{Loud, Model};
use super::super::role::Role;
use super::super::text::{pad, wrap};
use super::Zones;
use super::boxes::Brush;

/// Where a page is drawn.
#[must_use]
pub(super) fn area(screen: (u16, u16)) -> Rect {
    Rect::new(0, 0, screen.0, screen.1.saturating_sub(2))
}

pub(super) fn draw(_model: &Model, page: &Page, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let log = matches!(page.kind, PageKind::Log(_));
    let note = match (log, page.follow) {
        (true, true) => "following".to_owned(),
        (true, false) if page.unseen > 0 => format!("paused · G to follow, {} new", page.unseen),
        (true, false) => "paused · G to follow".to_owned(),
        (false, _) => String::new(),
    };
    let last = page.lines.len();
    let inside = brush.window(area, &page.title, &note);
    let height = usize::from(inside.height);
    let top = page.top.min(last.saturating_sub(height));
    let count = format!("{}-{} of {last}", if last == 0 { 0 } else { top + 1 }, (top + height).min(last));
    let wide = u16::try_from(count.len()).unwrap_or(0) + 2;
    if area.width > wide + 30 {
        let at = Rect { x: area.right() - wide - 2, y: area.y, width: wide, height: 1 };
        brush.text(at, Role::Dim, &format!(" {count} "));
    }
    zones.cursor = Some((inside.x, inside.y));
    if page.lines.is_empty() {
        let text = if page.waiting { "looking…" } else { "nothing yet" };
        brush.text(Rect { height: 1.min(inside.height), ..inside }, Role::Dim, text);
        return;
    }
    let search = page.search.to_lowercase();
    let mut y = inside.y;
    for line in page.lines.iter().skip(top) {
        let time =
            if page.times && !line.time.is_empty() { format!("{}  ", line.time) } else { String::new() };
        let role = match line.loud {
            None | Some(Loud::Info) => Role::Text,
            Some(Loud::Warn) => Role::Warn,
            Some(Loud::Error) => Role::Error,
        };
        let room = usize::from(inside.width).saturating_sub(time.len() + line.mark.len());
        let parts = if page.wrap { wrap(&line.text, room) } else { vec![line.text.clone()] };
        for part in parts {
            if y >= inside.bottom() {
                return;
            }
            let row = Rect { y, height: 1, ..inside };
            let found = !search.is_empty() && part.to_lowercase().contains(&search);
            let text = vec![
                (Role::Dim, pad(&time, time.len())),
                (Role::Warn, line.mark.to_owned()),
                (if found { Role::Match } else { role }, part),
            ];
            brush.line(row, &text);
            y += 1;
        }
    }
}
