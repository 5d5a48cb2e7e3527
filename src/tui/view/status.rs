//! The last line: where one is, what is going on, and how many run.

use ratatui::layout::Rect;

use super::super::layer::Layer;
use super::super::model::{Job, Model};
use super::super::role::{Line, Role};
use super::super::text::width;
use super::boxes::Brush;
use crate::model::CubeRecord;

pub(super) fn draw(model: &Model, brush: &mut Brush<'_>, area: Rect) {
    let glyphs = brush.look.glyphs;
    let arrow = glyphs.chosen;
    let mut left: Line = vec![(Role::Accent, format!(" {}", model.machine))];
    left.push((Role::Status, format!(" {arrow} {}", model.focus.word())));
    if let Some(id) = model.selected() {
        let shown = model.cube().map_or(id, |cube| format!("{} {}", cube.id.short(), cube.title()));
        left.push((Role::Status, format!(" {arrow} {shown}")));
    }
    if let Some(mode) = mode(model) {
        left.push((Role::Accent, format!(" {arrow} {mode}")));
    }
    let running: Vec<_> = model.world.cubes.iter().filter(|cube| cube.runs()).collect();
    let mut right: Line = Vec::new();
    let created = running.iter().filter_map(|cube| cube.good()).map(|record| record.created_unix_ms).max();
    if created.is_some_and(|created| created > model.now_ms + SKEW_MS) {
        right.push((Role::Warn, "the clock went back  ".into()));
    }
    if !model.silent.is_empty() {
        right.push((Role::Warn, format!("{} silent  ", model.silent.len())));
    }
    // What the kernel was seen to apply, over all that run.
    let weak = running.iter().filter_map(|cube| cube.good()).filter(|record| !whole(record)).count();
    match (running.len(), weak) {
        (0, _) => right.push((Role::Status, "nothing runs ".into())),
        (_, 0) if area.width < 60 => {}
        (_, 0) => right.push((Role::Full, format!("{} all in force  ", glyphs.full))),
        (_, weak) => right.push((Role::Partial, format!("{} {weak} not in full  ", glyphs.partial))),
    }
    if !running.is_empty() {
        right.push((Role::Running, format!("{} {} running ", glyphs.running, running.len())));
    }
    if !model.jobs.is_empty() && area.width < 60 {
        // What is under way wants the room.
        right.drain(..right.len().saturating_sub(1));
    }
    let total: usize = right.iter().map(|(_, text)| width(text)).sum();
    let wide = u16::try_from(total).unwrap_or(0).min(area.width);
    let at = area.right() - wide;
    brush.line(Rect { width: area.width.saturating_sub(wide + 2), ..area }, &left);
    brush.line(Rect { x: at, width: wide, ..area }, &right);
    if let Some(job) = model.jobs.last() {
        // In the middle; where that is taken, the left gives way.
        let free = usize::from(at.saturating_sub(area.x + 3));
        let line = under_way(model, job, brush, free);
        let wide = u16::try_from(line.iter().map(|(_, text)| width(text)).sum::<usize>()).unwrap_or(0);
        let middle = area.x + area.width.saturating_sub(wide) / 2;
        let x = middle.min(at.saturating_sub(wide + 3)).max(area.x);
        brush.text(Rect { x, width: (wide + 2).min(area.right() - x), ..area }, Role::Status, "  ");
        brush.line(
            Rect { x: x + 1, width: (wide + 1).min(area.right().saturating_sub(x + 1)), ..area },
            &line,
        );
    }
}

/// Columns of a gauge.
const GAUGE: usize = 16;

/// What is under way, in as many words as there is room for: its verb, how much of it is done, how many more there are.
fn under_way(model: &Model, job: &Job, brush: &Brush<'_>, room: usize) -> Line {
    let glyphs = brush.look.glyphs;
    let frame = glyphs.spinner[model.frame % glyphs.spinner.len()];
    let head = format!("{frame} {}…", job.verb);
    let more =
        if model.jobs.len() > 1 { format!(" and {} more", model.jobs.len() - 1) } else { String::new() };
    let Some(progress) = job.progress else {
        return vec![(Role::Accent, format!("{head}{more}"))];
    };
    let figures = format!(" {}", progress.text());
    let mut line = vec![(Role::Accent, head)];
    let short = width(&line[0].1) + width(&figures) + width(&more);
    match progress.percent() {
        Some(percent) if short + GAUGE < room => {
            let full = usize::try_from(percent).unwrap_or(0) * GAUGE / 100;
            line.push((Role::Mid, format!(" {}", glyphs.gauge[0].repeat(full))));
            line.push((Role::Dim, glyphs.gauge[1].repeat(GAUGE - full)));
            line.push((Role::Status, figures));
        }
        Some(percent) if short > room => line.push((Role::Status, format!(" {percent} %"))),
        _ => line.push((Role::Status, figures)),
    }
    line.push((Role::Accent, more));
    line
}

/// A record from further ahead than this was written by another clock.
const SKEW_MS: u64 = 5_000;

fn whole(record: &CubeRecord) -> bool {
    // Before anything was read back, nothing is known to be in force.
    !record.layers.is_empty() && record.layers.iter().all(|status| status.enforcement.is_full())
}

/// What has the keys, when it is not the list.
fn mode(model: &Model) -> Option<&'static str> {
    match model.layers.last() {
        Some(Layer::Sheet(_)) => Some("launch"),
        Some(Layer::Confirm(_)) => Some("sure?"),
        Some(Layer::Prompt(_)) => Some("type"),
        Some(Layer::Picker(_)) => Some("choose"),
        Some(Layer::Page(_)) => Some("read"),
        Some(Layer::Terminal(_)) => Some("inside"),
        None if model.filtering => Some("filter"),
        None => None,
    }
}
