//! What the screen knows of the world: machines, projects, cubes, images, as they were found last. Values only, and
//! harmless: whoever builds them has cleaned every text.

use std::path::PathBuf;
use std::sync::Arc;

use crate::keeper::protocol::Usage;
use crate::model::{CubeRecord, CubeState, Keep, Machine, Name, TripId};

/// Everything that the lists show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    /// By name, `default` first.
    pub machines: Vec<MachineItem>,
    /// Of the projects root of the machine in use.
    pub projects: Vec<ProjectItem>,
    /// Running ones first, newest first.
    pub cubes: Vec<CubeItem>,
    /// By name.
    pub images: Vec<ImageItem>,
    /// The projects root.
    pub root: String,
    /// The projects root exists.
    pub root_exists: bool,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineItem {
    /// Its name.
    pub name: Name,
    /// The machine, or what is wrong with its file.
    pub machine: Result<Machine, String>,
    /// Where its file is.
    pub file: String,
    /// Where its home is.
    pub home: String,
    /// Its home exists.
    pub seeded: bool,
}

/// A project.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectItem {
    /// Its name.
    pub name: Name,
    /// Its folder, to look up cubes by.
    pub path: PathBuf,
    /// Its folder, to be shown.
    pub shown: String,
    /// A link to elsewhere.
    pub link: bool,
    /// When the folder changed, milliseconds since 1970.
    pub modified_ms: u64,
    /// What its own file starts.
    pub entry: Option<String>,
    /// What is wrong with its own file.
    pub problem: Option<String>,
}

/// A cube.
#[derive(Debug, Clone)]
pub struct CubeItem {
    /// Its identity.
    pub id: TripId,
    /// Its record, or what is wrong with it.
    pub record: Result<Arc<CubeRecord>, String>,
    /// Its keeper lives.
    pub live: bool,
}

impl PartialEq for CubeItem {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.record, &other.record) {
            // The very record that was read before is compared with itself most of the time.
            (Ok(one), Ok(another)) => Arc::ptr_eq(one, another) || one == another,
            (one, another) => one == another,
        };
        same && self.id == other.id && self.live == other.live
    }
}

impl CubeItem {
    /// It runs, starts or stops.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.live && self.record.as_ref().is_ok_and(|record| !record.state.is_over())
    }

    /// Its record.
    #[must_use]
    pub fn good(&self) -> Option<&CubeRecord> {
        self.record.as_ref().ok().map(|record| &**record)
    }

    /// It is kept, and can be entered again.
    #[must_use]
    pub fn kept(&self) -> bool {
        self.good().is_some_and(|record| record.keep == Keep::Durable)
    }

    /// Its state; `failed` when nothing can be read.
    #[must_use]
    pub fn state(&self) -> CubeState {
        self.good().map_or(CubeState::Failed, |record| record.state)
    }

    /// What a person calls it: its name, its project, or the command.
    #[must_use]
    pub fn title(&self) -> String {
        let Some(record) = self.good() else { return "unreadable".into() };
        match (&record.name, &record.project) {
            (Some(name), _) => name.to_string(),
            (None, Some(project)) => super::text::clean(project),
            (None, None) => super::text::clean(&crate::model::words::command(&record.argv)),
        }
    }
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageItem {
    /// How it is named.
    pub name: String,
    /// A line about it.
    pub about: String,
    /// More, by what it is: digest, layers, where it came from.
    pub detail: Vec<(String, String)>,
}

/// Samples of one cube, oldest first: one a second while it is looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Hundredths of a processor.
    pub cpu: Vec<u64>,
    /// Bytes.
    pub memory: Vec<u64>,
    /// Bytes a second over its own network; empty when it has none.
    pub net: Vec<u64>,
    /// The last figures.
    pub last: Option<Usage>,
    /// Clients attached, ours among them.
    pub viewers: u32,
}

/// Samples that are kept of one cube.
pub const RING: usize = 120;

impl Samples {
    /// Adds the figures of now.
    pub fn add(&mut self, usage: Usage, viewers: u32) {
        if let Some(before) = &self.last {
            // Two answers within a moment say nothing about the time between them.
            if usage.age_ms < before.age_ms + 200 {
                return;
            }
            push(&mut self.cpu, crate::engine::running::cpu_percent(before, &usage));
            if let (Some(old), Some(new)) = (before.net, usage.net) {
                push(&mut self.net, new.saturating_sub(old) * 1000 / (usage.age_ms - before.age_ms).max(1));
            }
        }
        push(&mut self.memory, usage.memory);
        (self.last, self.viewers) = (Some(usage), viewers);
    }
}

fn push(ring: &mut Vec<u64>, value: u64) {
    if ring.len() == RING {
        ring.remove(0);
    }
    ring.push(value);
}
