//! The last line: where one is, what is going on, and how many run.

use ratatui::layout::Rect;

use super::super::model::Model;
use super::super::role::{Line, Role};
use super::super::text::width;
use super::boxes::Brush;

pub(super) fn draw(model: &Model, brush: &mut Brush<'_>, area: Rect) {
    let glyphs = brush.look.glyphs;
    let arrow = glyphs.chosen;
    let mut left: Line = vec![(Role::Accent, format!(" {}", model.machine))];
    left.push((Role::Status, format!(" {arrow} {}", model.focus.word())));
    if let Some(id) = model.selected() {
        let shown = model.cube().map_or(id, |cube| format!("{} {}", cube.id.short(), cube.title()));
        left.push((Role::Status, format!(" {arrow} {shown}")));
    }
    let runs = model.world.cubes.iter().filter(|cube| cube.runs()).count();
    let right = match runs {
        0 => "nothing runs ".to_owned(),
        count => format!("{} {count} running ", glyphs.running),
    };
    let wide = u16::try_from(width(&right)).unwrap_or(0).min(area.width);
    let at = area.right() - wide;
    brush.line(Rect { width: area.width.saturating_sub(wide + 2), ..area }, &left);
    brush.text(
        Rect { x: at, width: wide, ..area },
        if runs > 0 { Role::Running } else { Role::Status },
        &right,
    );
    if let Some(job) = model.jobs.last() {
        let frame = glyphs.spinner[model.frame % glyphs.spinner.len()];
        let more =
            if model.jobs.len() > 1 { format!(" and {} more", model.jobs.len() - 1) } else { String::new() };
        let text = format!("{frame} {}…{more}", job.verb);
        let wide = u16::try_from(width(&text)).unwrap_or(0);
        let x = area.x + (area.width.saturating_sub(wide)) / 2;
        brush.text(Rect { x, width: wide.min(area.right() - x), ..area }, Role::Accent, &text);
    }
}
