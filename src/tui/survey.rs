//! Looks at the world: machines, projects, cubes, images. Everything that comes back is harmless to show.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::text::clean;
use super::world::{CubeItem, ImageItem, MachineItem, ProjectItem, World};
use crate::config::load::load_project;
use crate::engine::Engine;
use crate::image::Store;
use crate::image::names::Entry;
use crate::keeper::state::now_ms;
use crate::model::words::command;
use crate::model::{ByteSize, Failure, Name};
use crate::store::sweep::{self, told};
use crate::store::{cubes, machines, projects};

fn shown(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

/// What there is now, the projects being those of `machine`.
pub(super) fn survey(engine: &Engine, machine: &Name, images: &mut Images, first: bool) -> World {
    let mut world = World::default();
    let mut problem = |failure: &Failure| world.problems.push(clean(&failure.to_string()));
    match machines::list(&engine.layout) {
        Ok(list) => {
            world.machines = list
                .into_iter()
                .map(|(name, machine)| MachineItem {
                    file: shown(&engine.layout.machine_file(&name)),
                    home: shown(&engine.layout.home(&name)),
                    seeded: engine.layout.home(&name).exists(),
                    machine: machine.map_err(|failure| clean(&failure.to_string())),
                    name,
                })
                .collect();
        }
        Err(failure) => problem(&failure),
    }
    match engine.projects_root(machine) {
        Ok(root) => {
            (world.root, world.root_exists) = (shown(&root), root.is_dir());
            match projects::list(&root) {
                Ok(list) => world.projects = list.into_iter().map(project).collect(),
                Err(failure) => problem(&failure),
            }
        }
        Err(failure) => problem(&failure),
    }
    let mines = engine.layout.mines_dir();
    if mines.is_dir() {
        match cubes::list(&mines) {
            Ok(list) => world.cubes = list.into_iter().rev().map(cube).collect(),
            Err(error) => problem(&error.into()),
        }
    }
    // Newest first already; those that run come first.
    world.cubes.sort_by_key(|cube| !cube.runs());
    let host = ImageItem { name: "host".into(), about: "this host's system".into(), detail: Vec::new() };
    world.images = vec![host];
    // Images are read a moment after the first look: the first frame waits for nothing that can be large.
    if !first {
        match images.look(engine) {
            Ok(list) => world.images.extend(list.iter().cloned()),
            Err(failure) => world.problems.push(clean(&failure.to_string())),
        }
    }
    world
}

/// The images, read again only when their list has changed.
#[derive(Default)]
pub(super) struct Images {
    seen: Option<(SystemTime, u64)>,
    list: Vec<ImageItem>,
}

impl Images {
    fn look(&mut self, engine: &Engine) -> Result<&[ImageItem], Failure> {
        let store = Store::open(&engine.layout)?;
        let stamp = std::fs::metadata(store.images_dir().join("index.json"))
            .ok()
            .and_then(|found| Some((found.modified().ok()?, found.len())));
        if stamp.is_none() {
            self.list.clear();
        } else if stamp != self.seen {
            let entries = store.entries()?;
            let shown = entries.iter().filter(|entry| entry.newest || entry.name.is_none());
            self.list = shown.map(|entry| image(&store, entry, &entries)).collect();
            self.list.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.seen = stamp;
        Ok(&self.list)
    }
}

/// Steps of an image's history that are shown.
const STEPS: usize = 12;

fn image(store: &Store, entry: &Entry, all: &[Entry]) -> ImageItem {
    let name = clean(&entry.reference());
    let mut detail = vec![("digest".to_owned(), entry.descriptor.digest.to_string())];
    let mut add = |label: &str, text: &str| detail.push((label.to_owned(), clean(text)));
    if let Some(source) = entry.source() {
        add("source", source);
    }
    if let Some(stored) =
        entry.stored_ms().and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)))
    {
        add("stored", &humantime::format_rfc3339_seconds(stored).to_string());
    }
    let (manifest, config) = match store.read_image(&entry.descriptor, &name) {
        Ok(read) => read,
        Err(failure) => {
            add("problem", &failure.to_string());
            return ImageItem { name, about: "damaged".into(), detail };
        }
    };
    let bytes = manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    let count = manifest.layers.len();
    let layers = if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") };
    for (key, value) in &config.labels {
        if let Some(key) = key.strip_prefix("dev.tripmine.source.") {
            add("from", &format!("{key} {value}"));
        }
    }
    for layer in manifest.layers.iter().rev().take(STEPS) {
        add("layer", &format!("{} {}", layer.digest.short(), ByteSize::bytes(layer.size)));
    }
    for step in config.history.iter().rev().take(STEPS) {
        let by = step.created_by.as_deref().or(step.comment.as_deref()).unwrap_or("-");
        let by: String = by.chars().take(200).collect();
        add("step", &by);
    }
    let older = all.iter().filter(|other| entry.name.is_some() && other.name == entry.name && !other.newest);
    for other in older.rev().take(STEPS) {
        add("before", &format!("{} {}", other.reference(), other.descriptor.digest.short()));
    }
    ImageItem { name, about: format!("{} · {layers}", ByteSize::bytes(bytes)), detail }
}

fn project(project: projects::Project) -> ProjectItem {
    let own = if project.link { Ok(None) } else { load_project(&project.path) };
    let (entry, problem) = match own {
        Ok(settings) => {
            (settings.and_then(|settings| settings.entry).map(|entry| clean(&command(&entry))), None)
        }
        Err(failure) => (None, Some(clean(&failure.to_string()))),
    };
    ProjectItem {
        shown: shown(&project.path),
        // As cubes' records have it.
        path: project.path.canonicalize().unwrap_or(project.path),
        name: project.name,
        link: project.link,
        modified_ms: project.modified_ms,
        entry,
        problem,
    }
}

fn cube(entry: cubes::CubeEntry) -> CubeItem {
    CubeItem {
        id: entry.id,
        live: entry.live,
        record: entry.record.map(Box::new).map_err(|error| clean(&Failure::from(error).to_string())),
    }
}

/// Clears what dead keepers left, if there is something; what a person should know of it.
pub(super) fn sweep(engine: &Engine) -> Vec<String> {
    let (mines, run) = (engine.layout.mines_dir(), &engine.layout.run);
    if !mines.is_dir() || !(sweep::worth_it(&mines, run) || told::is_owed(&mines)) {
        return Vec::new();
    }
    let (lost, problems) = told::aloud(&mines, run, now_ms());
    let problems = problems.iter().take(1).map(|failure| clean(&failure.to_string()));
    problems.chain(lost).collect()
}
