//! Clearing what dead cubes left.
//!
//! A cube whose lock is free is dead. Its remains are killed (only processes and cgroups that are
//! provably its own), its record is put right, and what no one can use any more is deleted. The
//! decisions are made while the `Mines` folder is held exclusively, so that no cube is being made
//! meanwhile; the deleting happens after, on folders that were renamed out of sight. Refuses to
//! touch records of another version and durable cubes whose record it cannot read.

pub mod cgroups;
pub mod told;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, flock, statat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::cubes::{
    CubeError, DEAD, FRESH, is_begun, is_marked_durable, mark_lost, names, open_dir, open_mines, probe,
    read_record, recycle, set_aside, socket_path, write_record_at,
};
use super::events::{self, Event};
use super::remove::remove_in;
use crate::model::{CubeRecord, Failure, Keep, PortMap, TripId};

/// How many ended throwaways stay for `ps -a` and `logs`.
pub const KEEP_ENDED: usize = 50;
/// How long a killed cube may take to vanish.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a sweep needs from outside.
pub struct SweepHooks<'a> {
    /// The present, milliseconds since 1970.
    pub now_unix_ms: u64,
    /// How many ended throwaways stay: [`KEEP_ENDED`].
    pub keep_ended: usize,
    /// Throwaways that ended before this go whatever their number, milliseconds since 1970.
    pub ended_before: Option<u64>,
    /// Called for each cube that was found without its keeper, its record already put right.
    pub on_lost: &'a mut dyn FnMut(&CubeRecord),
}

impl std::fmt::Debug for SweepHooks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SweepHooks").field("now_unix_ms", &self.now_unix_ms).finish_non_exhaustive()
    }
}

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Another one is at it, or a cube is being made: nothing was done.
    pub busy: bool,
    /// Cubes that had lost their keeper.
    pub lost: Vec<TripId>,
    /// Cubes of whom a process was still there to kill.
    pub killed: Vec<TripId>,
    /// Cubes of whom nothing is left now.
    pub removed: Vec<TripId>,
    /// Sockets that nobody listened on any more.
    pub sockets: Vec<PathBuf>,
    /// What could not be done; the next sweep tries again.
    pub problems: Vec<Failure>,
}

/// Whether a sweep has much to do, at a glance: a socket whose cube is dead, or many ended cubes. For a keeper that ends,
/// where a whole sweep after each of many launches would be too much.
#[must_use]
pub fn worth_it(mines: &Path, run: &Path) -> bool {
    /// Ended cubes beyond those that stay.
    const SURPLUS: usize = 32;
    /// Sockets that are looked at; with more cubes alive than that, others end and look too.
    const LOOKED_AT: usize = 64;
    let names = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let sockets = names(run);
    let cubes = names(mines).iter().filter(|name| !name.starts_with('.')).count();
    if cubes > sockets.len() + KEEP_ENDED + SURPLUS {
        return true;
    }
    let Ok(mines_fd) = open_mines(mines) else { return false };
    sockets.iter().take(LOOKED_AT).filter_map(|name| name.strip_suffix(".sock")).any(|id| {
        // A lock that can be had, or is not there at all, is a dead keeper's.
        matches!(probe(mines_fd.as_fd(), id), Ok(Some(_)) | Err(rustix::io::Errno::NOENT))
    })
}

/// Clears what dead cubes left in `mines` and `run`. Cheap when there is nothing to do: a handful
/// of system calls a cube. Call it after a launch, not before.
///
/// # Errors
/// When the `Mines` folder cannot be read at all.
pub fn sweep(mines: &Path, run: &Path, hooks: &mut SweepHooks<'_>) -> Result<SweepReport, CubeError> {
    let mines_fd = open_mines(mines)?;
    let mut sweep = Sweep {
        mines,
        run,
        mines_fd,
        report: SweepReport::default(),
        trash: vec![],
        ended: vec![],
        spared: HashSet::new(),
    };
    match flock(&sweep.mines_fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(_) => return Ok(SweepReport { busy: true, ..SweepReport::default() }),
    }
    let decided = sweep.decide(hooks);
    // From here on only what was renamed is touched: launches need not wait for the deleting.
    if let Err(error) = flock(&sweep.mines_fd, FlockOperation::Unlock) {
        sweep.problem("unlock the cubes' folder", mines, error);
    }
    decided.map_err(|error| CubeError::Io { what: "read", path: mines.to_owned(), source: error.into() })?;
    let recycled = std::mem::take(&mut sweep.ended);
    sweep.trash.extend(recycled.into_iter().filter(|name| !recycle(&sweep.mines_fd, name)));
    for name in std::mem::take(&mut sweep.trash) {
        if let Err(error) = remove_in(&sweep.mines_fd, OsStr::new(&name)) {
            sweep.problem("delete all of", &mines.join(name), error);
        }
    }
    Ok(sweep.report)
}

/// Removes the host's end of a unix forward, if it is a socket and nobody listens on it. False when nothing was removed.
fn remove_dead_socket(path: &Path) -> bool {
    let socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    socket && nobody_listens(path) && fs::remove_file(path).is_ok()
}

/// True when the kernel says so. Never waits: who listens and is busy listens.
fn nobody_listens(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let tried = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    tried == Err(Errno::CONNREFUSED)
}

struct Sweep<'a> {
    mines: &'a Path,
    run: &'a Path,
    mines_fd: OwnedFd,
    report: SweepReport,
    /// Names in `mines` to delete.
    trash: Vec<String>,
    /// Names in `mines` of throwaways that ended as they should, to delete or to use again.
    ended: Vec<String>,
    /// Cubes whose sockets stay: alive, or not for us to judge.
    spared: HashSet<TripId>,
}

impl Sweep<'_> {
    fn decide(&mut self, hooks: &mut SweepHooks<'_>) -> rustix::io::Result<()> {
        // Ended throwaways: when, and who.
        let mut ended: Vec<(u64, TripId)> = Vec::new();
        for name in names(&self.mines_fd)? {
            if name.starts_with(DEAD) {
                self.trash.push(name);
            } else if name.starts_with(FRESH) || is_begun(&self.mines_fd, &name) {
                // Who makes a cube holds the folder shared; we have it alone, so nobody does.
                self.bury(&name);
            } else if let Ok(id) = TripId::parse(&name)
                && let Some(time) = self.look_at(&id, hooks)
            {
                ended.push((time, id));
            }
        }
        // The newest first.
        ended.sort_by(|a, b| b.cmp(a));
        let young =
            ended.iter().take_while(|(time, _)| hooks.ended_before.is_none_or(|before| *time >= before));
        let stay = young.count().min(hooks.keep_ended);
        for (_, id) in ended.drain(stay..) {
            let dead = self.set_aside(id.as_str());
            self.ended.extend(dead);
            self.report.removed.push(id);
        }
        self.clear_sockets();
        Ok(())
    }

    /// Looks at one cube. `Some`: it is a throwaway that ended at this time.
    fn look_at(&mut self, id: &TripId, hooks: &mut SweepHooks<'_>) -> Option<u64> {
        // Held until the function ends, so that nobody starts it again meanwhile.
        let held = match probe(self.mines_fd.as_fd(), id.as_str()) {
            Ok(None) => {
                self.spared.insert(id.clone());
                return None;
            }
            Ok(held) => held,
            Err(rustix::io::Errno::NOENT) => None,
            Err(error) => {
                self.spared.insert(id.clone());
                self.problem("look at", &self.mines.join(id.as_str()), error);
                return None;
            }
        };
        let path = self.mines.join(id.as_str());
        let outcome = match read_record(self.mines_fd.as_fd(), &path, id) {
            Ok((record, written)) => self.tend(record, written, hooks),
            Err(CubeError::Torn { .. }) if !is_marked_durable(self.mines_fd.as_fd(), id) => {
                // Remains of a power loss: there is no telling whose they were.
                self.bury(id.as_str());
                self.report.removed.push(id.clone());
                None
            }
            Err(error) => {
                self.spared.insert(id.clone());
                self.report.problems.push(error.into());
                None
            }
        };
        drop(held);
        outcome
    }

    /// Puts a dead cube with a good record right.
    fn tend(&mut self, mut record: CubeRecord, written: u64, hooks: &mut SweepHooks<'_>) -> Option<u64> {
        let path = self.mines.join(record.id.as_str());
        // Even an orderly end is checked: a process that outlived its cube is worth two calls.
        // A keeper that lives while its lock is free holds another one: this folder is a copy, and the processes are the
        // original's.
        let orphaned = !record.keeper.as_ref().is_some_and(|keeper| keeper.is_alive());
        if orphaned && record.init.as_ref().is_some_and(|init| init.kill(PATIENCE)) {
            self.report.killed.push(record.id.clone());
        }
        for folder in record.cgroups.iter().filter(|_| orphaned) {
            if let Err(error) = cgroups::remove(folder, &record.id, PATIENCE) {
                self.problem("remove the cgroup", folder, error);
            }
        }
        for path in record.forwards.iter().filter(|_| orphaned).filter_map(PortMap::host_socket) {
            if remove_dead_socket(path) {
                self.report.sockets.push(path.to_owned());
            }
        }
        if !record.state.is_over() {
            record.forwards.clear();
            mark_lost(&mut record, last_sign(&path, written));
            let saved =
                open_dir(CWD, path.join("headers")).and_then(|headers| write_record_at(&headers, &record));
            if let Err(error) = saved {
                self.problem("put right the record of", &path, error);
            }
            let event = Event::new(hooks.now_unix_ms, "keeper-lost", serde_json::Value::Null);
            if let Err(error) = events::append(&path.join("log"), &event) {
                self.problem("note an event for", &path, error);
            }
            (hooks.on_lost)(&record);
            self.report.lost.push(record.id.clone());
        }
        if record.keep == Keep::Durable {
            return None;
        }
        let upper = format!("{}/system-copy", record.id);
        if statat(&self.mines_fd, &upper, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            self.bury(&upper);
        }
        // Changes that wait for a decision: only `rm` drops them.
        let review = format!("{}/review/upper", record.id);
        if statat(&self.mines_fd, &review, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return None;
        }
        Some(record.exit.map_or(record.created_unix_ms, |exit| exit.ended_unix_ms))
    }

    /// Renames something to where only the deleting finds it.
    fn bury(&mut self, name: &str) {
        let dead = self.set_aside(name);
        self.trash.extend(dead);
    }

    /// Renames an entry out of sight; its new name.
    fn set_aside(&mut self, name: &str) -> Option<String> {
        match set_aside(&self.mines_fd, name) {
            Ok(dead) => return Some(dead),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => self.problem("set aside", &self.mines.join(name), error),
        }
        None
    }

    /// Removes sockets named after cubes that do not live. Of a folder that several places of cubes share (one user with two
    /// homes) the others' cubes are not ours to judge: their keepers listen.
    fn clear_sockets(&mut self) {
        let Ok(folder) = fs::read_dir(self.run) else { return };
        for entry in folder.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_suffix(".sock"))
                .and_then(|stem| TripId::parse(stem).ok());
            let Some(id) = id.filter(|id| !self.spared.contains(id)) else { continue };
            let path = socket_path(self.run, &id);
            if entry.file_type().is_ok_and(|kind| kind.is_socket()) && nobody_listens(&path) {
                match fs::remove_file(&path) {
                    Ok(()) => self.report.sockets.push(path),
                    Err(error) => self.problem("remove the socket", &path, error),
                }
            }
        }
    }

    fn problem(&mut self, what: &str, path: &Path, error: impl Into<std::io::Error>) {
        let failure = Failure::failed(format!("cannot {what} `{}`", path.display()));
        self.report.problems.push(failure.because(&error.into()));
    }
}

/// When a lost cube last gave a sign of life: its record or its log, whichever is later.
fn last_sign(path: &Path, written: u64) -> u64 {
    let logged = fs::metadata(path.join("log/log.jsonl"))
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_millis()).ok());
    logged.map_or(written, |logged| logged.max(written))
}

#[cfg(test)]
mod tests;
