//! The rows of the lists, and how a filter narrows them.

use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use super::model::{Model, Pane};
use super::role::Role;
use super::text::clean;
use super::world::CubeItem;
use crate::model::words::age;
use crate::model::{CubeState, Keep};

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which thing; stable while it exists.
    pub id: String,
    /// Its sign and what that means.
    pub sign: Sign,
    /// What it is called.
    pub title: String,
    /// Beside it, at the right.
    pub note: String,
    /// It is marked.
    pub marked: bool,
    /// Shown as if it were not quite there.
    pub grey: bool,
    /// Characters of the title that the filter found.
    pub found: Vec<u32>,
}

/// The sign before a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// None.
    None,
    /// In use.
    Chosen,
    /// A cube runs.
    Running,
    /// It starts, stops or is frozen.
    Starting,
    /// It has ended.
    Exited,
    /// It failed, or cannot be read.
    Failed,
    /// It is kept and waits.
    Kept,
}

impl Sign {
    /// How it is drawn.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::None | Self::Kept => Role::Dim,
            Self::Chosen => Role::Accent,
            Self::Running => Role::Running,
            Self::Starting => Role::Starting,
            Self::Exited => Role::Exited,
            Self::Failed => Role::Failed,
        }
    }
}

fn row(id: &str, sign: Sign, title: String, note: String) -> Row {
    Row { id: id.to_owned(), sign, title, note, marked: false, grey: false, found: Vec::new() }
}

/// How many rows a list has, unfiltered.
#[must_use]
pub fn count(model: &Model, pane: Pane) -> usize {
    let world = &model.world;
    match pane {
        Pane::Machines => world.machines.len(),
        Pane::Projects => world.projects.len(),
        Pane::Cubes => world.cubes.len(),
        Pane::Images => world.images.len(),
    }
}

/// The ids of all rows of a list, unfiltered. Cheap, where rows are not.
#[must_use]
pub fn ids(model: &Model, pane: Pane) -> Vec<&str> {
    let world = &model.world;
    match pane {
        Pane::Machines => world.machines.iter().map(|item| item.name.as_str()).collect(),
        Pane::Projects => world.projects.iter().map(|item| item.name.as_str()).collect(),
        Pane::Cubes => world.cubes.iter().map(|cube| cube.id.as_str()).collect(),
        Pane::Images => world.images.iter().map(|image| image.name.as_str()).collect(),
    }
}

/// All rows of a list.
#[must_use]
pub fn rows(model: &Model, pane: Pane) -> Vec<Row> {
    some(model, pane, 0, usize::MAX)
}

/// At most `count` rows of a list, from `from` on.
#[must_use]
pub fn some(model: &Model, pane: Pane, from: usize, count: usize) -> Vec<Row> {
    let world = &model.world;
    let running = |matches: &dyn Fn(&CubeItem) -> bool| match world
        .cubes
        .iter()
        .filter(|cube| cube.runs() && matches(cube))
        .count()
    {
        0 => None,
        count => Some(format!("{count} running")),
    };
    match pane {
        Pane::Machines => world
            .machines
            .iter()
            .skip(from)
            .take(count)
            .map(|item| {
                let sign = if item.name == model.machine { Sign::Chosen } else { Sign::None };
                let (note, bad) = match &item.machine {
                    Ok(machine) => {
                        let of =
                            |cube: &CubeItem| cube.good().is_some_and(|record| record.machine == item.name);
                        let image =
                            machine.settings.image.as_ref().map_or("host".into(), ToString::to_string);
                        (running(&of).unwrap_or_else(|| clean(&image)), false)
                    }
                    Err(_) => ("broken file".into(), true),
                };
                let sign = if bad { Sign::Failed } else { sign };
                row(item.name.as_str(), sign, item.name.to_string(), note)
            })
            .collect(),
        Pane::Projects => world
            .projects
            .iter()
            .skip(from)
            .take(count)
            .map(|item| {
                let of = |cube: &CubeItem| {
                    cube.good().is_some_and(|record| record.project_path.as_ref() == Some(&item.path))
                };
                let note = running(&of)
                    .unwrap_or_else(|| format!("{} ago", age(model.now_ms.saturating_sub(item.modified_ms))));
                row(item.name.as_str(), Sign::None, item.name.to_string(), note)
            })
            .collect(),
        Pane::Cubes => world.cubes.iter().skip(from).take(count).map(|cube| cube_row(model, cube)).collect(),
        Pane::Images => world
            .images
            .iter()
            .skip(from)
            .take(count)
            .map(|image| {
                let note = doing(model, &image.name).unwrap_or_else(|| image.about.clone());
                row(&image.name, Sign::None, image.name.clone(), note)
            })
            .collect(),
    }
}

/// What is being done to this row.
fn doing(model: &Model, id: &str) -> Option<String> {
    let job = model.jobs.iter().find(|job| job.row.as_deref() == Some(id))?;
    let percent = job.progress.and_then(|progress| progress.percent());
    Some(match percent {
        Some(percent) => format!("{} {percent} %…", job.verb),
        None => format!("{}…", job.verb),
    })
}

fn cube_row(model: &Model, cube: &CubeItem) -> Row {
    let id = cube.id.as_str();
    let Some(record) = cube.good() else {
        return row(id, Sign::Failed, format!("{}  unreadable", cube.id.short()), String::new());
    };
    let sign = match record.state {
        CubeState::Running => Sign::Running,
        CubeState::Failed => Sign::Failed,
        CubeState::Exited if record.keep == Keep::Durable => Sign::Kept,
        CubeState::Exited => Sign::Exited,
        _ => Sign::Starting,
    };
    let doing = doing(model, id);
    let silent = model.silent.get(id).filter(|_| cube.runs());
    let waits =
        silent.map(|at| format!("no answer, again in {}s", at.saturating_sub(model.now_ms).div_ceil(1000)));
    let state = doing
        .or(waits)
        .unwrap_or_else(|| if cube.runs() { record.state.word().to_owned() } else { record.words() });
    let since = match (&record.exit, cube.runs()) {
        (Some(exit), false) => exit.ended_unix_ms,
        _ => record.created_unix_ms,
    };
    let note = format!("{state} {:>4}", age(model.now_ms.saturating_sub(since)));
    let mut row = row(id, sign, format!("{}  {}", cube.id.short(), cube.title()), note);
    row.marked = model.marked.contains(id);
    row.grey = !cube.runs() || silent.is_some();
    row
}

/// The rows that `filter` leaves: fuzzy, several words, `!word` for what must not be there. The order stays.
#[must_use]
pub fn narrowed(rows: Vec<Row>, filter: &str) -> Vec<Row> {
    if filter.trim().is_empty() {
        return rows;
    }
    let mut search = Search::new(filter);
    rows.into_iter()
        .filter_map(|mut row| {
            let text = format!("{} {}", row.title, row.note);
            row.found = search.look(&text)?.1;
            let length = u32::try_from(row.title.chars().count()).unwrap_or(u32::MAX);
            row.found.retain(|at| *at < length);
            Some(row)
        })
        .collect()
}

/// A fuzzy search.
#[derive(Debug)]
pub struct Search {
    pattern: Pattern,
    matcher: Matcher,
}

impl Search {
    /// For what was typed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            pattern: Pattern::parse(text, CaseMatching::Smart, Normalization::Smart),
            matcher: Matcher::new(Config::DEFAULT),
        }
    }

    /// How well it fits, and where; `None` when it does not.
    pub fn look(&mut self, text: &str) -> Option<(u32, Vec<u32>)> {
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        let score = self.pattern.indices(Utf32Str::new(text, &mut buffer), &mut self.matcher, &mut found)?;
        found.sort_unstable();
        found.dedup();
        Some((score, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_fuzzy_and_can_say_no() {
        let rows =
            || ["site", "webshop", "website"].map(|t| row(t, Sign::None, t.into(), "x".into())).to_vec();
        for (filter, left) in [
            ("", "site webshop website"),
            ("site", "site website"),
            ("wbs", "webshop website"),
            ("site !web", "site"),
            ("zzz", ""),
        ] {
            let titles: Vec<String> = narrowed(rows(), filter).into_iter().map(|row| row.title).collect();
            assert_eq!(titles.join(" "), left, "{filter}");
        }
        assert_eq!(narrowed(rows(), "shop")[0].found, [3, 4, 5, 6]);
    }
}
