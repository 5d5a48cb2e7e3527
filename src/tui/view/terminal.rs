//! A cube that is typed into, where the detail is.

use ratatui::layout::Rect;

use super::super::layer::Terminal;
use super::super::layout::Layout;
use super::super::model::Model;
use super::super::role::Role;
use super::boxes::Brush;
use super::{Zones, picture};

/// The room for the cube's own screen.
#[must_use]
pub fn area(layout: &Layout) -> Rect {
    let outer = outer(layout);
    Rect::new(outer.x + 1, outer.y + 1, outer.width.saturating_sub(2), outer.height.saturating_sub(2))
}

fn outer(layout: &Layout) -> Rect {
    layout.detail.filter(|area| area.width >= 60 && area.height >= 12).unwrap_or_else(|| {
        let below = layout.hints.y;
        Rect::new(0, 0, layout.hints.width, below)
    })
}

pub(super) fn draw(
    model: &Model,
    terminal: &Terminal,
    brush: &mut Brush<'_>,
    inside: Rect,
    zones: &mut Zones,
) {
    let area = Rect::new(
        inside.x.saturating_sub(1),
        inside.y.saturating_sub(1),
        inside.width + 2,
        inside.height + 2,
    );
    brush.clear(area);
    let shown = model.world.cubes.iter().find(|cube| cube.id == terminal.id).map(|cube| cube.title());
    let title = vec![
        (Role::TitleFocus, format!("{} {}", terminal.id.short(), shown.unwrap_or_default())),
        (
            Role::Dim,
            match terminal.writer {
                None => "",
                Some(true) => " · you type",
                Some(false) => " · another types: only watching",
            }
            .to_owned(),
        ),
    ];
    brush.frame(area, true, &title, "");
    match (&terminal.problem, &terminal.picture) {
        (Some(problem), _) => {
            brush.text(Rect { height: 1, ..inside }, Role::Error, problem);
        }
        (None, Some(shown)) => {
            if let Some(at) = picture::draw(brush, inside, shown) {
                zones.cursor = Some(at);
                zones.typing = true;
            }
        }
        (None, None) => {
            brush.text(Rect { height: 1, ..inside }, Role::Dim, "joining…");
        }
    }
}
