//! A cube that was paused: launched again it goes on where it was, and not otherwise.

use std::path::Path;

use super::file;
use crate::model::sanitize::printable;
use crate::model::{CubeRecord, Failure, FailureKind, Keep, TripId};
use crate::plan::LaunchPlan;
use crate::plan::launch::StdioPlan;
use crate::plan::vm::VmSpec;
use crate::store::cubes::find::choose;
use crate::store::cubes::{self, CubeEntry, Found, open_durable};
use crate::store::memory;

/// The paused cube that `word` names, if it names one: as its id, or as its name.
///
/// # Errors
/// The cubes cannot be listed.
pub fn find(mines: &Path, word: &str) -> Result<Option<CubeEntry>, Failure> {
    let paused = cubes::list(mines)?.into_iter().filter(|entry| memory::is_there(&entry.path)).collect();
    Ok(match choose(paused, word) {
        Found::One(entry) => Some(*entry),
        // A word that several are named by is an id that is too short: it may be an image's name as well.
        Found::Many(_) | Found::None => None,
    })
}

/// Lets a launch of a paused cube go on from its memory.
///
/// # Errors
/// The machine or the entry would be another one.
pub fn go_on(plan: &mut LaunchPlan, mines: &Path) -> Result<(), Failure> {
    let folder = mines.join(plan.id.as_str());
    if plan.keep != Keep::Durable || !memory::is_there(&folder) {
        return Ok(());
    }
    let entry = cubes::load(mines, &plan.id)?;
    if entry.live {
        // What is refused for that is refused where every launch of a running cube is.
        return Ok(());
    }
    let name = plan.name.as_ref().map(|name| printable(name.as_str())).unwrap_or_default();
    let failed = |failure: Failure| {
        failure
            .hint(format!("`tripmine resume {name}` goes on with it as it was"))
            .hint(format!("`tripmine resume --forget {name}` gives its memory up, and keeps its files"))
    };
    let before = entry.record.map_err(Failure::from)?;
    let was = read(&folder).map_err(failed)?;
    let differs = other(plan, &before);
    let machine = plan.vm.as_mut().filter(|_| differs.is_none());
    let Some(machine) = machine else {
        let what = differs.unwrap_or("this is no microvm");
        return Err(failed(Failure::new(
            FailureKind::Busy,
            format!("the cube `{name}` is paused, and would not go on as it was: {what}"),
        )));
    };
    machine.restore(&file(&memory::state(&folder)), &was).map_err(failed)
}

/// What is another than when it was paused, as far as the guest would notice.
fn other(plan: &LaunchPlan, before: &CubeRecord) -> Option<&'static str> {
    let terminal = matches!(plan.stdio, StdioPlan::Pty { .. });
    [
        ("another command", plan.entry.argv != before.argv),
        ("it had a terminal (`-t`)", before.tty && !terminal),
        ("it had no terminal (`-T`)", !before.tty && terminal),
        ("another user", plan.user.run_as != before.user),
        ("another net policy", plan.net.kind() != before.net),
        (
            "another project",
            plan.project.as_ref().map(|project| &project.path) != before.project_path.as_ref(),
        ),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

fn read(folder: &Path) -> Result<VmSpec, Failure> {
    let cannot = |error: &dyn std::error::Error| {
        Failure::failed("what was saved of the cube's machine cannot be read").because(error)
    };
    let bytes = memory::machine(folder).map_err(|error| cannot(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| cannot(&error))
}

/// Gives the memory of a paused cube up; its files stay. False when there is none.
///
/// # Errors
/// The cube runs, or it cannot be removed.
pub fn forget(mines: &Path, id: &TripId) -> Result<bool, Failure> {
    let (dir, mut record) = open_durable(mines, id)?;
    let was = memory::forget(&dir.path).map_err(|error| {
        Failure::failed("what was saved of the cube's machine cannot be removed").because(&error)
    })?;
    if record.is_paused()
        && let Some(exit) = &mut record.exit
    {
        exit.reason = crate::model::ExitReason::Stopped;
        dir.write_record(&record)?;
    }
    Ok(was)
}
