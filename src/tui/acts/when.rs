//! When the commands of the registry can be given; if not, why.

use super::super::command::Enabled;
use super::super::model::Model;
use super::super::world::CubeItem;
use super::{machine, project};
use crate::engine::request::Request;
use crate::model::Name;

fn no(why: &str) -> Enabled {
    Err(why.to_owned())
}

pub(in crate::tui) fn has_row(model: &Model) -> Enabled {
    if model.selected().is_some() { Ok(()) } else { no("there is nothing here") }
}

pub(in crate::tui) fn has_jobs(model: &Model) -> Enabled {
    if model.jobs.is_empty() { no("nothing is under way") } else { Ok(()) }
}

pub(in crate::tui) fn has_last(model: &Model) -> Enabled {
    if model.log.is_empty() { no("nothing was changed yet") } else { Ok(()) }
}

pub(in crate::tui) fn can_repeat(model: &Model) -> Enabled {
    match &model.last {
        Some(Request::Launch(_) | Request::Resume { .. } | Request::Attach { .. } | Request::Exec { .. }) => {
            Ok(())
        }
        Some(_) => no("the last change is not one to repeat"),
        None => no("nothing was done yet"),
    }
}

fn cube_with(model: &Model, good: impl Fn(&CubeItem) -> Enabled) -> Enabled {
    model.cube().map_or_else(|| no("there is no cube here"), good)
}

pub(in crate::tui) fn cube_runs(model: &Model) -> Enabled {
    cube_with(model, |cube| if cube.runs() { Ok(()) } else { no("it has ended") })
}

pub(in crate::tui) fn can_pause(model: &Model) -> Enabled {
    cube_runs(model)?;
    cube_with(model, |cube| match cube.good().map(|record| &record.cannot_pause) {
        Some(Some(why)) => Err(super::super::text::clean(why)),
        _ => Ok(()),
    })
}

pub(in crate::tui) fn is_paused(model: &Model) -> Enabled {
    cube_ended(model)?;
    let paused = |cube: &CubeItem| cube.good().is_some_and(crate::model::CubeRecord::is_paused);
    cube_with(model, |cube| if paused(cube) { Ok(()) } else { no("it is not paused") })
}

/// Several are marked: the question says which of them it is about.
pub(in crate::tui) fn runs_or_marked(model: &Model) -> Enabled {
    if model.marked.is_empty() { cube_runs(model) } else { Ok(()) }
}

/// The same for those that have ended.
pub(in crate::tui) fn ended_or_marked(model: &Model) -> Enabled {
    if model.marked.is_empty() { cube_ended(model) } else { Ok(()) }
}

pub(in crate::tui) fn cube_ended(model: &Model) -> Enabled {
    cube_with(model, |cube| if cube.live { no("it runs: stop it first") } else { Ok(()) })
}

pub(in crate::tui) fn cube_kept(model: &Model) -> Enabled {
    cube_with(model, |cube| if cube.kept() { Ok(()) } else { no("only a cube that is kept has a name") })
}

pub(in crate::tui) fn has_terminal(model: &Model) -> Enabled {
    cube_runs(model)?;
    cube_with(model, |cube| {
        if cube.good().is_some_and(|record| record.tty) {
            Ok(())
        } else {
            no("it has no terminal: look at its log")
        }
    })
}

pub(in crate::tui) fn can_attach(model: &Model) -> Enabled {
    cube_with(
        model,
        |cube| if cube.runs() || cube.kept() { Ok(()) } else { no("it has ended, and was not kept") },
    )
}

pub(in crate::tui) fn project_idle(model: &Model) -> Enabled {
    let Some(project) = project(model) else { return no("there is no project here") };
    let path = model.world.projects.iter().find(|item| item.name == project).map(|item| &item.path);
    let uses = |cube: &&CubeItem| cube.runs() && cube.good().is_some_and(|r| r.project_path.as_ref() == path);
    match model.world.cubes.iter().find(uses) {
        Some(cube) => Err(format!("cube {} runs in it", cube.id.short())),
        None => Ok(()),
    }
}

pub(in crate::tui) fn machine_good(model: &Model) -> Enabled {
    let Some(name) = machine(model) else { return no("there is no machine here") };
    match model.world.machines.iter().find(|item| item.name == name).map(|item| &item.machine) {
        Some(Err(why)) => Err(why.clone()),
        _ => Ok(()),
    }
}

pub(in crate::tui) fn has_changes(model: &Model) -> Enabled {
    cube_with(
        model,
        |cube| if cube.runs() || cube.kept() { Ok(()) } else { no("it has ended, and was not kept") },
    )
}

pub(in crate::tui) fn has_forwards(model: &Model) -> Enabled {
    cube_runs(model)?;
    cube_with(model, |cube| match cube.good() {
        Some(record) if !record.forwards.is_empty() => Ok(()),
        _ => no("nothing is forwarded into it"),
    })
}

pub(in crate::tui) fn stored_image(model: &Model) -> Enabled {
    match model.selected() {
        None => no("there is nothing here"),
        Some(image) if image == "host" => no("`host` is this host's own system: it lies in no store"),
        Some(_) => Ok(()),
    }
}

fn machine_idle(model: &Model) -> Enabled {
    let Some(name) = machine(model) else { return no("there is no machine here") };
    let on = |cube: &&CubeItem| cube.runs() && cube.good().is_some_and(|record| record.machine == name);
    match model.world.cubes.iter().find(on) {
        Some(cube) => Err(format!("cube {} runs on it", cube.id.short())),
        None => Ok(()),
    }
}

pub(in crate::tui) fn machine_not_default(model: &Model) -> Enabled {
    if machine(model) == Some(Name::default_machine()) {
        return no("`default` always exists under this name");
    }
    machine_idle(model)
}

pub(in crate::tui) fn machine_seeded(model: &Model) -> Enabled {
    machine_idle(model)?;
    let name = machine(model);
    let seeded = model.world.machines.iter().any(|item| Some(&item.name) == name.as_ref() && item.seeded);
    if seeded { Ok(()) } else { no("it has no home yet") }
}
