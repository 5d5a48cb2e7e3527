//! The detail of a cube: what it is, what is in force, what it uses, and what its terminal shows.

use ratatui::layout::Rect;

use super::super::model::Model;
use super::super::role::{Line, Role, labelled, line};
use super::super::text::{bytes, clean, fit, wrap};
use super::super::world::{CubeItem, Samples};
use super::boxes::Brush;
use super::picture;
use crate::engine::ending::ending;
use crate::model::words::{age, command};
use crate::model::{CubeRecord, Enforcement, Keep};

pub(super) fn draw(model: &Model, cube: &CubeItem, brush: &mut Brush<'_>, area: Rect) {
    let title = format!("cube {} {}", cube.id.short(), cube.title());
    let outer = brush.frame(area, false, &line(Role::Strong, title), "");
    let inside = Rect { x: outer.x + 1, width: outer.width.saturating_sub(2), ..outer };
    let Some(record) = cube.good() else {
        let why = cube.record.as_ref().err().cloned().unwrap_or_default();
        let lines: Vec<Line> =
            wrap(&why, usize::from(inside.width)).into_iter().map(|text| line(Role::Error, text)).collect();
        return brush.lines(inside, &lines);
    };
    let mut lines = facts(model, cube, record, usize::from(inside.width));
    let mut badge = badge(brush, record, inside.width);
    if cube.runs() && usize::from(inside.height) < LOW && badge.len() > 1 && wholly(record) {
        // All in force in one line: what it uses is more news than their names.
        badge.truncate(1);
    }
    lines.extend(badge);
    if cube.runs() {
        lines.extend(plots(model, cube, brush, inside.width));
        lines.extend(ways(model, cube, record, usize::from(inside.width)));
    }
    // A low box keeps half of its room for what the terminal shows.
    let keep = match (cube.runs(), usize::from(inside.height)) {
        (false, _) => 0,
        (true, height @ ..LOW) => height * 2 / 5,
        (true, height) => height / 2,
    };
    lines.truncate(usize::from(inside.height).saturating_sub(keep).max(3));
    brush.lines(inside, &lines);
    let used = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    if cube.runs() && inside.height > used + 2 {
        let rest = Rect { y: inside.y + used, height: inside.height - used, ..inside };
        peek(model, cube, record, brush, rest);
    }
}

/// Rows of a box in which not everything has a place.
const LOW: usize = 22;

/// Every layer was seen in force.
fn wholly(record: &CubeRecord) -> bool {
    record.layers.iter().all(|status| status.enforcement.is_full())
}

fn facts(model: &Model, cube: &CubeItem, record: &CubeRecord, width: usize) -> Vec<Line> {
    let glyphs = "·";
    let mut lines = Vec::new();
    let since = age(model.now_ms.saturating_sub(record.created_unix_ms));
    let (role, state) = match (&record.exit, cube.runs()) {
        (_, true) => (Role::Running, format!("{} for {since}", record.state.word())),
        (Some(exit), false) => {
            let role = if exit.code == 0 { Role::Exited } else { Role::Failed };
            (role, format!("{} {} after {}", record.state.word(), exit.code, age(millis(exit.ran))))
        }
        (None, false) => (Role::Failed, record.state.word().to_owned()),
    };
    let kept = match record.keep {
        Keep::Durable => "kept",
        Keep::Throwaway if record.ephemeral => "throwaway, its home too",
        Keep::Throwaway => "throwaway",
    };
    lines.push(vec![
        (Role::Dim, format!("{:<10}", "state")),
        (role, state),
        (Role::Dim, format!(" {glyphs} {kept}")),
    ]);
    if let Some(why) = record.exit.as_ref().filter(|_| !cube.runs()).and_then(ending) {
        lines.extend(wrap(&why, width).into_iter().take(3).map(|text| line(Role::Error, text)));
    }
    let place =
        record.project.as_deref().map(|project| format!(" {glyphs} {}", clean(project))).unwrap_or_default();
    lines.push(labelled(
        "on",
        Role::Text,
        format!("{} {glyphs} image {}{place}", record.machine, clean(&record.image.to_string())),
    ));
    lines.push(labelled("runs", Role::Text, fit(&clean(&command(&record.argv)), width.saturating_sub(10))));
    lines.push(labelled(
        "confined",
        Role::Text,
        format!(
            "{} {glyphs} net {} {glyphs} user {} {glyphs} seccomp {}",
            record.jail, record.net, record.user, record.seccomp
        ),
    ));
    lines
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the kernel was seen to apply: read back by the keeper, not what was asked for.
fn badge(brush: &Brush<'_>, record: &CubeRecord, width: u16) -> Vec<Line> {
    let glyphs = brush.look.glyphs;
    if record.layers.is_empty() {
        return vec![labelled("in force", Role::Partial, "nothing was read back yet")];
    }
    let whole = record.layers.iter().filter(|status| status.enforcement.is_full()).count();
    let all = record.layers.len();
    let mut head = vec![(Role::Dim, format!("{:<10}", "in force"))];
    if whole == all {
        head.push((Role::Full, format!("{} all {all} layers", glyphs.full)));
    } else {
        head.push((Role::Partial, format!("{} {whole} of {all} layers", glyphs.partial)));
    }
    let mut lines = vec![head];
    let mut row: Line = vec![(Role::Dim, " ".repeat(10))];
    let mut used = 10;
    for status in &record.layers {
        let (role, sign) = match &status.enforcement {
            Enforcement::Full(_) => (Role::Full, glyphs.full),
            Enforcement::Partial(_) => (Role::Partial, glyphs.partial),
            Enforcement::None(_) => (Role::Missing, glyphs.missing),
        };
        let why = if status.enforcement.is_full() {
            String::new()
        } else {
            format!("({}) ", clean(status.enforcement.detail()))
        };
        let text = format!("{sign}{} {why}", status.layer.word());
        let wide = super::super::text::width(&text);
        if used + wide > usize::from(width) && row.len() > 1 {
            lines.push(std::mem::replace(&mut row, vec![(Role::Dim, " ".repeat(10))]));
            used = 10;
        }
        used += wide;
        row.push((role, text));
    }
    lines.push(row);
    lines
}

fn plots(model: &Model, cube: &CubeItem, brush: &Brush<'_>, width: u16) -> Vec<Line> {
    let none = Samples::default();
    let samples = model.samples.get(cube.id.as_str()).unwrap_or(&none);
    let room = usize::from(width.saturating_sub(26)).min(60);
    let cpu = samples.cpu.last().map_or_else(|| "—".to_owned(), |cpu| format!("{cpu}%"));
    let memory = samples.memory.last().map_or_else(|| "—".to_owned(), |last| bytes(*last));
    let most = samples.memory.iter().copied().max().unwrap_or(0);
    let mut lines = vec![
        plot(brush, "cpu", &cpu, &samples.cpu, 100.max(samples.cpu.iter().copied().max().unwrap_or(0)), room),
        plot(brush, "memory", &memory, &samples.memory, (most + most / 4).max(1), room),
    ];
    if samples.last.as_ref().is_none_or(|usage| usage.net.is_some()) {
        let net = samples.net.last().map_or_else(|| "—".to_owned(), |last| format!("{}/s", bytes(*last)));
        // A quiet network is a flat line, not a mountain of single packets.
        let most = samples.net.iter().copied().max().unwrap_or(0).max(10_240);
        lines.push(plot(brush, "network", &net, &samples.net, most, room));
    }
    if let Some(usage) = &samples.last {
        let others = samples.viewers.saturating_sub(1);
        let watch = if others > 0 { format!(" · {others} attached") } else { String::new() };
        lines.push(labelled(
            "inside",
            Role::Text,
            format!("{} processes, {} threads{watch}", usage.processes, usage.threads),
        ));
    }
    let changed = model.measured.get(&format!("changes {}", cube.id));
    if let Some(changed) = changed.filter(|text| !text.is_empty() && *text != "—") {
        lines.push(labelled("changed", Role::Text, fit(changed, usize::from(width).saturating_sub(10))));
    }
    lines
}

/// What leads in and what it wanted to reach: listening ports, forwards, denials.
fn ways(model: &Model, cube: &CubeItem, record: &CubeRecord, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let room = width.saturating_sub(10);
    let key = |id: &str| {
        let found = super::super::command::find(id, super::super::model::Pane::Cubes);
        found.map_or_else(String::new, |command| model.keymap.keys(command))
    };
    if let Some(found) = model.listening.get(cube.id.as_str()).filter(|found| !found.is_empty()) {
        let mut ports: Vec<String> = found
            .iter()
            .map(|found| match &found.program {
                Some(program) => format!("{} {}", found.port, clean(program)),
                None => found.port.to_string(),
            })
            .collect();
        ports.dedup();
        lines.push(labelled("listens", Role::Text, fit(&ports.join(" · "), room)));
    }
    if !record.forwards.is_empty() {
        let maps: Vec<String> = record
            .forwards
            .iter()
            .map(|map| clean(&format!("{} -> {}", crate::engine::forward::place(&map.host), map.cube)))
            .collect();
        lines.push(labelled("forwards", Role::Strong, fit(&maps.join(" · "), room)));
    }
    let denied: Vec<_> = model
        .denials
        .get(cube.id.as_str())
        .into_iter()
        .flatten()
        .filter(|denial| {
            let quiet = |(id, place): &(String, String)| id == cube.id.as_str() && *place == denial.place;
            !model.quiet.iter().any(quiet)
        })
        .collect();
    for (at, denial) in denied.iter().take(3).enumerate() {
        let label = if at == 0 { "denied" } else { "" };
        let times = if denial.count > 1 { format!(" ({})", denial.count) } else { String::new() };
        let text = format!("{}{times}: {}", denial.place, denial.why);
        lines.push(labelled(label, Role::Warn, fit(&clean(&text), room)));
    }
    if !denied.is_empty() {
        let more = if denied.len() > 3 { format!("{} more · ", denied.len() - 3) } else { String::new() };
        lines.push(labelled("", Role::Dim, format!("{more}{} decides", key("net"))));
    }
    lines
}

fn plot(brush: &Brush<'_>, label: &str, number: &str, values: &[u64], most: u64, room: usize) -> Line {
    let bars = brush.look.glyphs.bars;
    let mut line: Line = vec![(Role::Dim, format!("{label:<10}")), (Role::Strong, format!("{number:>8}  "))];
    for value in values.iter().skip(values.len().saturating_sub(room)) {
        let part = usize::try_from(value.saturating_mul(8) / most.max(1)).unwrap_or(7).min(7);
        let role = match part {
            0..4 => Role::Low,
            4..7 => Role::Mid,
            _ => Role::High,
        };
        let begun = line.len() > 2;
        match line.last_mut() {
            Some((last, text)) if begun && *last == role => text.push_str(bars[part]),
            _ => line.push((role, bars[part].to_owned())),
        }
    }
    line
}

fn peek(model: &Model, cube: &CubeItem, record: &CubeRecord, brush: &mut Brush<'_>, area: Rect) {
    let across = brush.look.glyphs.border[4];
    let shown = model.peek.as_ref().filter(|peek| peek.id == cube.id.as_str());
    let title =
        match shown.and_then(|peek| peek.picture.as_ref().ok()).and_then(|picture| picture.title.clone()) {
            Some(title) => format!("terminal: {title}"),
            None => "terminal".to_owned(),
        };
    let title = fit(&title, usize::from(area.width).saturating_sub(6));
    let rest = usize::from(area.width).saturating_sub(super::super::text::width(&title) + 4);
    let rule = vec![
        (Role::Border, across.repeat(2)),
        (Role::Title, format!(" {title} ")),
        (Role::Border, across.repeat(rest)),
    ];
    brush.line(Rect { height: 1, ..area }, &rule);
    let inside = Rect { y: area.y + 1, height: area.height - 1, ..area };
    match shown.map(|peek| &peek.picture) {
        Some(Ok(shown)) => {
            picture::draw(brush, inside, shown);
        }
        Some(Err(why)) => {
            brush.text(Rect { height: 1, ..inside }, Role::Dim, &clean(why));
        }
        None if record.tty => {
            brush.text(Rect { height: 1, ..inside }, Role::Dim, "looking…");
        }
        None => {
            brush.text(Rect { height: 1, ..inside }, Role::Dim, "no terminal: l shows its log");
        }
    }
}
