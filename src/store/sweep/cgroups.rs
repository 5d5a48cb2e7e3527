//! Emptying and removing the cgroup folders of a dead cube.
//!
//! Refuses every folder that is not named after the cube: a record is a file, and files get edited.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::model::TripId;
use crate::store::boot::wait_gone;

/// Nested groups deeper than this are not ours to have made.
const DEPTH: usize = 16;
/// The pause between two tries to remove a group whose last process is still going.
const PAUSE: Duration = Duration::from_millis(2);

/// Kills what is in the cgroup `folder` of the cube `id` and removes it. A missing one is fine.
///
/// # Errors
/// When the folder is not the cube's, or still in use after `patience`.
pub fn remove(folder: &Path, id: &TripId, patience: Duration) -> io::Result<()> {
    let plain = folder.is_absolute() && !folder.components().any(|part| part == Component::ParentDir);
    if !plain || folder.file_name().and_then(|name| name.to_str()) != Some(id.as_str()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the folder is not named after the cube"));
    }
    match fs::symlink_metadata(folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + patience;
    loop {
        kill_all(folder, DEPTH, deadline);
        match remove_groups(folder, DEPTH) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// Kills every process of a group and the groups in it.
fn kill_all(folder: &Path, depth: usize, deadline: Instant) {
    // Version 2 does it at once, nested groups and forks in flight included.
    let kill = fs::OpenOptions::new().write(true).open(folder.join("cgroup.kill"));
    if kill.is_ok_and(|mut file| file.write_all(b"1").is_ok()) {
        return;
    }
    let patience = || deadline.saturating_duration_since(Instant::now());
    let handles: Vec<(i32, OwnedFd)> = members(folder)
        .into_iter()
        .filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?)))
        .collect();
    // Listed still, now that the handle is taken: the number was not given to a stranger.
    let still = members(folder);
    let killed: Vec<&OwnedFd> = handles
        .iter()
        .filter(|(pid, handle)| still.contains(pid) && pidfd_send_signal(handle, Signal::KILL).is_ok())
        .map(|(_, handle)| handle)
        .collect();
    for handle in killed {
        if !wait_gone(handle, patience()) {
            break;
        }
    }
    if depth > 0 {
        for child in groups(folder) {
            kill_all(&child, depth - 1, deadline);
        }
    }
}

fn members(folder: &Path) -> Vec<i32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    // 0 is a process that our own pid namespace does not show.
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1).collect()
}

fn groups(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn remove_groups(folder: &Path, depth: usize) -> io::Result<()> {
    if depth > 0 {
        for child in groups(folder) {
            remove_groups(&child, depth - 1)?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_named_after_the_cube() {
        let base = tempfile::tempdir().expect("tempdir");
        let id = TripId::from_parts(1, [3; 16]);
        let own = base.path().join(id.as_str());
        let other = base.path().join("user.slice");
        fs::create_dir_all(own.join("nested")).expect("mkdir");
        fs::create_dir(&other).expect("mkdir");
        for bad in [other.clone(), base.path().join("x/..").join(id.as_str()), id.as_str().into(), "/".into()]
        {
            remove(&bad, &id, Duration::ZERO).expect_err("not the cube's");
        }
        assert!(other.exists() && own.exists());
        remove(&own, &id, Duration::ZERO).expect("removed");
        assert!(!own.exists());
        remove(&own, &id, Duration::ZERO).expect("a missing one is fine");
    }
}
