//! Messages over the top right corner: three at most.

use ratatui::layout::Rect;

use super::super::model::{Loud, Model};
use super::super::role::Role;
use super::super::text::{width, wrap};
use super::boxes::Brush;

const WIDEST: u16 = 64;

pub(super) fn draw(model: &Model, brush: &mut Brush<'_>, area: Rect) {
    let mut y = area.y;
    for notice in model.toasts() {
        let room = WIDEST.min(area.width.saturating_sub(4));
        let role = match notice.loud {
            Loud::Info => Role::Ok,
            Loud::Warn => Role::Warn,
            Loud::Error => Role::Error,
        };
        let sign = match notice.loud {
            Loud::Info => "",
            Loud::Warn => "warning: ",
            Loud::Error => "error: ",
        };
        let mut lines: Vec<(Role, String)> = wrap(&format!("{sign}{}", notice.text), usize::from(room))
            .into_iter()
            .take(4)
            .map(|line| (role, line))
            .collect();
        for hint in notice.hints.iter().take(2) {
            lines.extend(
                wrap(&format!("hint: {hint}"), usize::from(room)).into_iter().take(2).map(|l| (Role::Dim, l)),
            );
        }
        let wide = lines.iter().map(|(_, line)| width(line)).max().unwrap_or(0);
        let wide = u16::try_from(wide).unwrap_or(room).min(room) + 4;
        let tall = u16::try_from(lines.len()).unwrap_or(1) + 2;
        if y + tall > area.bottom() {
            break;
        }
        let place = Rect::new(area.right() - wide.min(area.width), y, wide.min(area.width), tall);
        brush.clear(place);
        let inside = brush.frame(place, notice.loud == Loud::Error, &Vec::new(), "");
        for ((role, line), y) in lines.iter().zip(inside.y..inside.bottom()) {
            brush.text(
                Rect { x: inside.x + 1, y, width: inside.width.saturating_sub(1), height: 1 },
                *role,
                line,
            );
        }
        y += tall;
    }
}
