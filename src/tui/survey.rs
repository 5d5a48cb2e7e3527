//! Looks at the world: machines, projects, cubes, images. Everything that comes back is harmless to show.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::text::clean;
use super::world::{CubeItem, ImageItem, MachineItem, ProjectItem, World};
use crate::config::load::load_project;
use crate::engine::Engine;
use crate::image::Store;
use crate::image::names::Entry;
use crate::keeper::state::now_ms;
use crate::model::words::command;
use crate::model::{ByteSize, Failure, Name, TripId};
use crate::store::cubes::{Listed, Stamp};
use crate::store::sweep::{self, told};
use crate::store::{cubes, machines, projects};

fn shown(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

/// What there is now, the projects being those of `machine`.
pub(super) fn survey(engine: &Engine, machine: &Name, seen: &mut Seen, first: bool) -> World {
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
        match seen.cubes.look(&mines) {
            Ok(list) => world.cubes = list,
            Err(error) => problem(&error.into()),
        }
    }
    // Newest first already; those that run come first.
    world.cubes.sort_by_key(|cube| !cube.runs());
    let host = ImageItem { name: "host".into(), about: "this host's system".into(), detail: Vec::new() };
    world.images = vec![host];
    // Images are read a moment after the first look: the first frame waits for nothing that can be large.
    if !first {
        match seen.images.look(engine) {
            Ok(list) => world.images.extend(list.iter().cloned()),
            Err(failure) => world.problems.push(clean(&failure.to_string())),
        }
    }
    world
}

/// What was read before, and is read again only when it looks different.
#[derive(Default)]
pub(super) struct Seen {
    cubes: Cubes,
    images: Images,
}

/// The cubes that have ended, by what their records looked like.
#[derive(Default)]
struct Cubes(HashMap<TripId, (Stamp, CubeItem)>);

impl Cubes {
    /// All cubes, the newest first.
    fn look(&mut self, mines: &Path) -> Result<Vec<CubeItem>, cubes::CubeError> {
        let known = |id: &TripId, stamp: &Stamp| self.0.get(id).is_some_and(|(before, _)| before == stamp);
        let listed = cubes::list_unknown(mines, &known)?;
        let mut next = HashMap::with_capacity(listed.len());
        let items = listed.into_iter().rev().filter_map(|found| match found {
            Listed::Known(id) => {
                let (stamp, item) = self.0.remove(&id)?;
                next.insert(id, (stamp, item.clone()));
                Some(item)
            }
            Listed::Read(entry, stamp) => {
                let item = cube(*entry);
                if let (Some(stamp), false) = (stamp, item.live) {
                    next.insert(item.id.clone(), (stamp, item.clone()));
                }
                Some(item)
            }
        });
        let items = items.collect();
        self.0 = next;
        Ok(items)
    }
}

/// The images, read again only when their list has changed.
#[derive(Default)]
struct Images {
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
        record: entry.record.map(Arc::new).map_err(|error| clean(&Failure::from(error).to_string())),
    }
}

/// Clears what dead keepers left, if there is something; what a person should know of it.
pub(super) fn sweep(engine: &Engine) -> Vec<String> {
    let (mines, run) = (engine.layout.mines_dir(), &engine.layout.run);
    if !mines.is_dir() || !(sweep::worth_it(&mines, run) || told::is_owed(&mines)) {
        return Vec::new();
    }
    let (lost, problems) = told::aloud(&mines, run, now_ms(), engine.config.log_retention);
    let problems = problems.iter().take(1).map(|failure| clean(&failure.to_string()));
    problems.chain(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CubeState;
    use crate::store::cubes::create;
    use crate::store::cubes::tests::sample;

    /// What has ended and looks as it did is not read again; what lives always is.
    #[test]
    fn what_looks_as_it_did_is_not_read_again() {
        let mines = tempfile::tempdir().expect("a folder");
        let mut ended = sample(1);
        ended.state = CubeState::Exited;
        drop(create(mines.path(), &ended).expect("made"));
        let alive = create(mines.path(), &sample(2)).expect("made");
        let mut cubes = Cubes::default();
        let records = |cubes: &mut Cubes| -> Vec<(bool, Arc<crate::model::CubeRecord>)> {
            let items = cubes.look(mines.path()).expect("read");
            items.into_iter().map(|item| (item.live, item.record.expect("good"))).collect()
        };
        let same = |one: &[(bool, Arc<_>)], two: &[(bool, Arc<_>)]| -> Vec<bool> {
            one.iter().zip(two).map(|(one, two)| Arc::ptr_eq(&one.1, &two.1)).collect()
        };
        let (first, second) = (records(&mut cubes), records(&mut cubes));
        assert_eq!(
            first.iter().map(|(live, _)| *live).collect::<Vec<_>>(),
            [true, false],
            "the newest first"
        );
        assert_eq!(same(&first, &second), [false, true]);
        // Its keeper died without a word.
        drop(alive);
        let third = records(&mut cubes);
        assert_eq!(third.iter().map(|(live, _)| *live).collect::<Vec<_>>(), [false, false]);
        assert!(third[0].1.state.is_over());
        // Written anew, it is read anew.
        let path = mines.path().join(ended.id.as_str()).join("headers/record.json");
        let text = std::fs::read_to_string(&path).expect("read").replace("\"site\"", "\"elsewhere\"");
        std::fs::write(path.with_extension("new"), text).expect("written");
        std::fs::rename(path.with_extension("new"), &path).expect("renamed");
        let fourth = records(&mut cubes);
        assert_eq!(same(&third, &fourth), [true, false]);
        assert_eq!(fourth[1].1.project.as_deref(), Some("elsewhere"));
        std::fs::remove_dir_all(mines.path().join(ended.id.as_str())).expect("gone");
        assert_eq!(records(&mut cubes).len(), 1);
    }
}
