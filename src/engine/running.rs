//! A running cube, asked and told: its figures, signals, another name, its end; and one that has ended, removed.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::client::{Client, unexpected};
use super::launch::durable;
use crate::keeper::protocol::{Answer, Ask, Status, Usage};
use crate::model::{ExitReason, Failure, FailureKind, Name, TripId};
use crate::store::cubes::{self, CubeEntry, open_durable, socket_path};
use crate::store::layout::Layout;

/// A connection to the keeper of the cube `id`.
///
/// # Errors
/// It cannot be reached.
pub fn connect(run: &Path, id: &TripId) -> Result<Client, Failure> {
    Client::connect(&socket_path(run, id), [None, None, None])
}

/// State and figures, as the keeper tells them.
///
/// # Errors
/// The keeper is gone.
pub fn status(client: &mut Client) -> Result<Status, Failure> {
    client.ask(&Ask::Status)?;
    match client.answer()? {
        Answer::Status(status) => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

/// Hundredths of one processor between two looks; 250 is two and a half processors.
#[must_use]
pub fn cpu_percent(before: &Usage, now: &Usage) -> u64 {
    let wall = now.age_ms.saturating_sub(before.age_ms).max(1);
    // A process that ended between the looks, unreaped by the tree, may take its time along.
    now.cpu_ms.saturating_sub(before.cpu_ms) * 100 / wall
}

/// Sends `signal` to the entry of a running cube.
///
/// # Errors
/// Its keeper cannot be reached, or refuses.
pub fn signal(run: &Path, id: &TripId, signal: i32) -> Result<(), Failure> {
    let mut client = connect(run, id)?;
    client.ask(&Ask::Signal { signal })?;
    match client.answer()? {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Gives a kept cube, running or ended, another name. False when it has that name already.
///
/// # Errors
/// It is none that is kept, or the name is taken.
pub fn rename(run: &Path, mines: &Path, entry: &CubeEntry, new: &Name) -> Result<bool, Failure> {
    if let Some(other) = durable(mines, new)? {
        if other.id == entry.id {
            return Ok(false);
        }
        return Err(Failure::new(FailureKind::Busy, format!("another cube is called `{new}`"))
            .hint(format!("`tripmine inspect {new}` shows it")));
    }
    if entry.live {
        let mut client = connect(run, &entry.id)?;
        client.ask(&Ask::Rename { name: new.clone() })?;
        match client.answer()? {
            Answer::Done => {}
            other => return Err(unexpected(&other)),
        }
    } else {
        let (folder, mut record) = open_durable(mines, &entry.id)?;
        record.name = Some(new.clone());
        folder.write_record(&record)?;
    }
    Ok(true)
}

/// Deletes a cube with what it kept; one that runs is ended first.
///
/// # Errors
/// It cannot be ended, or something of it could not be deleted.
pub fn remove(layout: &Layout, entry: &CubeEntry) -> Result<(), Failure> {
    let mines = layout.mines_dir();
    if entry.live {
        end(&layout.run, &mines, &entry.id, Some(0))?;
    }
    match cubes::remove(&mines, &entry.id) {
        Err(cubes::CubeError::Missing(_)) => Ok(()),
        other => Ok(other?),
    }
}

/// Waits, a moment at most, until a cube that has ended is let go by its keeper, which cleans up meanwhile: whoever
/// reads our answer finds it ended.
pub fn settle(mines: &Path, id: &TripId) {
    const LOOKS: u32 = 400;
    const APART: Duration = Duration::from_millis(5);
    for _ in 0..LOOKS {
        if !lives(mines, id) {
            return;
        }
        thread::sleep(APART);
    }
}

/// Ends one cube and waits until it has ended.
///
/// # Errors
/// Its keeper cannot be reached, or went away and left it as it was.
pub fn end(run: &Path, mines: &Path, id: &TripId, grace_ms: Option<u64>) -> Result<(), Failure> {
    let asked = || -> Result<(), Failure> {
        let mut client = connect(run, id)?;
        client.ask(&Ask::Stop { grace_ms })?;
        match client.answer()? {
            Answer::Exited(_) => {
                settle(mines, id);
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    };
    match asked() {
        // It ended by itself just then, which is what was wanted.
        Err(failure) if failure.kind == FailureKind::Missing && !lives(mines, id) => Ok(()),
        other => other,
    }
}

/// Saves the memory of one cube and waits until it has ended.
///
/// # Errors
/// It cannot be saved, and runs on.
pub fn pause(run: &Path, mines: &Path, id: &TripId) -> Result<(), Failure> {
    let mut client = connect(run, id)?;
    client.ask(&Ask::Pause)?;
    match client.answer()? {
        Answer::Exited(exit) if exit.reason == ExitReason::Paused => {
            settle(mines, id);
            Ok(())
        }
        Answer::Exited(_) => {
            Err(Failure::failed(format!("the cube {} ended before it was saved", id.short())))
        }
        other => Err(unexpected(&other)),
    }
}

fn lives(mines: &Path, id: &TripId) -> bool {
    cubes::load(mines, id).is_ok_and(|entry| entry.live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_time_over_time() {
        let usage = |cpu_ms, age_ms| Usage { cpu_ms, age_ms, ..Usage::default() };
        for (before, now, percent) in [
            (usage(0, 0), usage(100, 200), 50),
            (usage(100, 1000), usage(600, 1200), 250),
            (usage(50, 10), usage(10, 20), 0),
            (usage(0, 5), usage(0, 5), 0),
        ] {
            assert_eq!(cpu_percent(&before, &now), percent);
        }
    }
}
