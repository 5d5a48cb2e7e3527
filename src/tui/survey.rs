//! Looks at the world: machines, projects, cubes, images. Everything that comes back is harmless to show.

use std::path::Path;

use super::text::clean;
use super::world::{CubeItem, ImageItem, MachineItem, ProjectItem, World};
use crate::config::load::load_project;
use crate::engine::Engine;
use crate::keeper::state::now_ms;
use crate::model::words::command;
use crate::model::{CubeRecord, Failure, Name};
use crate::store::sweep::{self, KEEP_ENDED, SweepHooks};
use crate::store::{cubes, machines, projects};

fn shown(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

/// What there is now, the projects being those of `machine`.
pub(super) fn survey(engine: &Engine, machine: &Name) -> World {
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
    world.images = vec![ImageItem { name: "host".into(), about: "this host's system, read-only".into() }];
    world
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
    if !mines.is_dir() || !sweep::worth_it(&mines, run) {
        return Vec::new();
    }
    let mut lost = Vec::new();
    let mut on_lost = |record: &CubeRecord| lost.push(record.id.short().to_owned());
    let mut hooks = SweepHooks { now_unix_ms: now_ms(), keep_ended: KEEP_ENDED, on_lost: &mut on_lost };
    let problems = match sweep::sweep(&mines, run, &mut hooks) {
        Ok(report) => report.problems,
        Err(error) => vec![error.into()],
    };
    let mut told: Vec<String> = problems.iter().take(1).map(|failure| clean(&failure.to_string())).collect();
    if !lost.is_empty() {
        told.push(format!(
            "cleared away after keepers that were lost, with their cubes: {}",
            lost.join(", ")
        ));
    }
    told
}
