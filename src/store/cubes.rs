//! The folder of each cube, `Mines/<TripID>/`: `headers/record.json`, `headers/lock`,
//! `system-copy/` (the upper) and `log/`.
//!
//! The one rule: *a cube is alive exactly while its keeper holds the flock on `headers/lock`*. A
//! record is what was last written; a reader that finds the lock free knows better, and this
//! module corrects what it returns. It refuses records of another version and never changes them.
//!
//! Locks: who makes or reopens a cube holds the `Mines` folder itself shared for that moment, and
//! the sweep holds it exclusively, so that the sweep never meets half a cube. Readers probe a
//! cube's lock shared and hold it while they read.

mod error;
pub mod find;
mod record;
mod spare;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, flock, fsync, mkdirat, openat, renameat, statat,
};
use rustix::io::{Errno, retry_on_intr};

use crate::model::{CubeRecord, Keep, TripId};

use super::atomic::write_atomic;
use super::remove::remove_in;

pub use error::CubeError;
pub use find::{Found, find};
use record::{encode, errno, write_over};
pub(crate) use record::{mark_lost, read_record, write_record_at};
pub(crate) use spare::{is_begun, recycle};

/// The prefix of folders that are being deleted.
pub const DEAD: &str = ".dead-";
/// The prefix of folders that are being made.
pub(crate) const FRESH: &str = ".new-";
/// Present in a durable cube: not even a torn record makes it fair game for the sweep.
const DURABLE_MARK: &str = "headers/durable";
const LOCK: &str = "headers/lock";
const RECORD: &str = "headers/record.json";
/// What was typed to launch a durable cube.
const LAUNCH: &str = "headers/launch.json";
/// A cube's folder, held: the lock is ours as long as this value, or any copy of its descriptor, lives.
#[derive(Debug)]
pub struct CubeDir {
    /// `Mines/<TripID>`.
    pub path: PathBuf,
    /// The open file description that holds the lock; close-on-exec. Pass it over a socket to hand the life over.
    pub lock: OwnedFd,
}

impl CubeDir {
    /// Where the overlay's `upper/` and `work/` go.
    #[must_use]
    pub fn system_copy(&self) -> PathBuf {
        self.path.join("system-copy")
    }

    /// Where the log and the events go.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Replaces the record, whole or not at all. That of a durable cube is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_record(&self, record: &CubeRecord) -> Result<(), CubeError> {
        let path = self.path.join(RECORD);
        let headers = open_dir(CWD, self.path.join("headers"))
            .map_err(|error| CubeError::io("open", self.path.join("headers"), error))?;
        write_record_at(&headers, record).map_err(|error| CubeError::io("write", path, error))
    }

    /// Replaces what is kept of the launch. It may hold secrets, so nobody else may read it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_launch(&self, bytes: &[u8]) -> Result<(), CubeError> {
        let path = self.path.join(LAUNCH);
        write_atomic(&path, bytes, 0o600).map_err(|error| CubeError::io("write", path, error))
    }
}

/// What is kept of the launch of the cube in the folder `path`; `None` when there is nothing.
///
/// # Errors
/// When it cannot be read.
pub fn read_launch(path: &Path) -> Result<Option<Vec<u8>>, CubeError> {
    let path = path.join(LAUNCH);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CubeError::io("read", path, error)),
    }
}

/// One cube as it is found.
#[derive(Debug)]
pub struct CubeEntry {
    /// Its identity: the folder's name.
    pub id: TripId,
    /// Its record, the state corrected by what the lock says.
    pub record: Result<CubeRecord, CubeError>,
    /// Its keeper holds the lock.
    pub live: bool,
    /// Its folder.
    pub path: PathBuf,
}

impl CubeEntry {
    /// Where its log and events are.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.path.join("log")
    }
}

/// Where the keeper of a cube listens.
#[must_use]
pub fn socket_path(run: &Path, id: &TripId) -> PathBuf {
    run.join(format!("{id}.sock"))
}

/// Makes the folder of a new cube, locked and with its first record.
///
/// It appears under its name only when it is whole. Nothing is forced to the disk for a throwaway:
/// after a power loss its record may be torn, and is then cleared away as the remains it is.
///
/// # Errors
/// When something cannot be made; what was made is removed again.
pub fn create(mines: &Path, record: &CubeRecord) -> Result<CubeDir, CubeError> {
    let id = record.id.as_str();
    let path = mines.join(id);
    let fail = |error: Errno| CubeError::io("make the cube's folder", &path, error);
    let mines_fd = open_mines(mines)?;
    retry_on_intr(|| flock(&mines_fd, FlockOperation::LockShared)).map_err(fail)?;
    if record.keep == Keep::Throwaway
        && let Some(lock) = spare::take(&mines_fd, record)
    {
        return Ok(CubeDir { path, lock });
    }
    let fresh = format!("{FRESH}{id}");
    mkdirat(&mines_fd, &fresh, Mode::RWXU).map_err(fail)?;
    match fill(&mines_fd, &fresh, record) {
        Ok(lock) => Ok(CubeDir { path, lock }),
        Err(error) => {
            // Best effort: the sweep finishes what stays.
            drop(remove_in(&mines_fd, OsStr::new(&fresh)));
            Err(fail(error))
        }
    }
}

/// Makes folders ready for the throwaways to come, named after the cube `by` while they are made. A courtesy: what cannot be
/// made is made by the launch.
pub fn make_spares(mines: &Path, by: &TripId) {
    let made = open_mines(mines).and_then(|mines_fd| {
        // Never waits: while a sweep is at it there is no hurry.
        flock(&mines_fd, FlockOperation::NonBlockingLockShared)
            .and_then(|()| spare::make(&mines_fd, by.as_str()))
            .map_err(|error| CubeError::io("make a spare folder", mines, error))
    });
    drop(made);
}

fn fill(mines: &OwnedFd, fresh: &str, record: &CubeRecord) -> rustix::io::Result<OwnedFd> {
    let durable = record.keep == Keep::Durable;
    let folder = open_dir(mines, fresh)?;
    // The others are made by whoever first has something to put there: each costs a launch the making of an inode.
    mkdirat(&folder, "headers", Mode::RWXU)?;
    if durable {
        mkdirat(&folder, "system-copy", Mode::RWXU)?;
    }
    let headers = open_dir(&folder, "headers")?;
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let lock = openat(&headers, "lock", new, Mode::RUSR | Mode::WUSR)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    if durable {
        openat(&folder, DURABLE_MARK, new, Mode::RUSR | Mode::WUSR)?;
        write_record_at(&headers, record)?;
        fsync(&folder)?;
    } else {
        let mut file = File::from(openat(&headers, "record.json", new, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&encode(record)?).map_err(errno)?;
    }
    renameat(mines, fresh, mines, record.id.as_str())?;
    if durable {
        fsync(mines)?;
    }
    Ok(lock)
}

/// Takes the lock of a durable cube that has ended, to start it again.
///
/// # Errors
/// When it runs, is no durable cube, is not there, or cannot be read.
pub fn open_durable(mines: &Path, id: &TripId) -> Result<(CubeDir, CubeRecord), CubeError> {
    let mines_fd = open_mines(mines)?;
    retry_on_intr(|| flock(&mines_fd, FlockOperation::LockShared))
        .map_err(|error| CubeError::io("lock", mines, error))?;
    let lock = lock_exclusive(&mines_fd, mines, id)?;
    let path = mines.join(id.as_str());
    let (record, _) = read_record(mines_fd.as_fd(), &path, id)?;
    if record.keep != Keep::Durable {
        return Err(CubeError::NotDurable(id.clone()));
    }
    Ok((CubeDir { path, lock }, record))
}

/// What is known of one cube.
///
/// # Errors
/// When there is no such folder. A bad record is an error inside the entry.
pub fn load(mines: &Path, id: &TripId) -> Result<CubeEntry, CubeError> {
    let mines_fd = open_mines(mines)?;
    load_at(mines_fd.as_fd(), mines, id).ok_or_else(|| CubeError::Missing(id.clone()))
}

/// Every cube, oldest launch first.
///
/// # Errors
/// When the folder cannot be read. A bad record is an error inside its entry.
pub fn list(mines: &Path) -> Result<Vec<CubeEntry>, CubeError> {
    let mines_fd = open_mines(mines)?;
    let mut entries: Vec<CubeEntry> = names(&mines_fd)
        .map_err(|error| CubeError::io("read", mines, error))?
        .iter()
        .filter_map(|name| TripId::parse(name).ok())
        .filter_map(|id| load_at(mines_fd.as_fd(), mines, &id))
        .collect();
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(entries)
}

/// What the file of a record looks like from outside: while it looks the same, and nobody holds the cube, so is the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    size: i64,
    modified: (i64, i64),
}

/// A cube among all.
#[derive(Debug)]
pub enum Listed {
    /// It looks as it is known already.
    Known(TripId),
    /// What is known of it now, and what its record looked like before it was read.
    Read(Box<CubeEntry>, Option<Stamp>),
}

/// As [`list`], but reads only what is not `known` by the looks of its record. A cube that was alive is never known: its
/// keeper may die without a word.
///
/// # Errors
/// When the folder cannot be read.
pub fn list_unknown(mines: &Path, known: &dyn Fn(&TripId, &Stamp) -> bool) -> Result<Vec<Listed>, CubeError> {
    let mines_fd = open_mines(mines)?;
    let all = names(&mines_fd).map_err(|error| CubeError::io("read", mines, error))?;
    let mut ids: Vec<TripId> = all.iter().filter_map(|name| TripId::parse(name).ok()).collect();
    ids.sort();
    let look = |id: TripId| {
        let found = statat(&mines_fd, format!("{id}/{RECORD}"), AtFlags::SYMLINK_NOFOLLOW).ok();
        let stamp = found.map(|found| Stamp {
            inode: found.st_ino,
            size: found.st_size,
            modified: (found.st_mtime, i64::try_from(found.st_mtime_nsec).unwrap_or(0)),
        });
        if stamp.as_ref().is_some_and(|stamp| known(&id, stamp)) {
            return Some(Listed::Known(id));
        }
        load_at(mines_fd.as_fd(), mines, &id).map(|entry| Listed::Read(Box::new(entry), stamp))
    };
    Ok(ids.into_iter().filter_map(look).collect())
}

/// Deletes a cube that does not run: first renamed, so that a crash half way is finished by the sweep.
///
/// # Errors
/// When it runs, is not there, or something of it could not be deleted.
pub fn remove(mines: &Path, id: &TripId) -> Result<(), CubeError> {
    let mines_fd = open_mines(mines)?;
    retry_on_intr(|| flock(&mines_fd, FlockOperation::LockShared))
        .map_err(|error| CubeError::io("lock", mines, error))?;
    let path = mines.join(id.as_str());
    // A folder without a lock file never was a cube that runs.
    let held = match lock_exclusive(&mines_fd, mines, id) {
        Ok(lock) => Some(lock),
        Err(CubeError::Missing(_)) if statat(&mines_fd, id.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok() => {
            None
        }
        Err(error) => return Err(error),
    };
    let dead = set_aside(&mines_fd, id.as_str()).map_err(|error| CubeError::io("rename", &path, error))?;
    drop(held);
    retry_on_intr(|| flock(&mines_fd, FlockOperation::Unlock))
        .map_err(|error| CubeError::io("unlock", mines, error))?;
    remove_in(&mines_fd, OsStr::new(&dead)).map_err(|source| CubeError::Io {
        what: "delete all of",
        path,
        source,
    })
}

/// Renames an entry of the `Mines` folder to one that the sweep deletes; its new name.
pub(crate) fn set_aside(mines: &OwnedFd, name: &str) -> rustix::io::Result<String> {
    let base = name.replace('/', ".");
    for attempt in 0_u32.. {
        let dead = if attempt == 0 { format!("{DEAD}{base}") } else { format!("{DEAD}{base}.{attempt}") };
        match renameat(mines, name, mines, &dead) {
            Ok(()) => return Ok(dead),
            // Left by a removal that was cut short.
            Err(Errno::NOTEMPTY | Errno::EXIST) if attempt < 1000 => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

/// Opens the `Mines` folder, made when it is missing.
pub(crate) fn open_mines(mines: &Path) -> Result<OwnedFd, CubeError> {
    let opened = match open_dir(CWD, mines) {
        Err(Errno::NOENT) => {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(mines)
                .map_err(|error| CubeError::io("make", mines, error))?;
            open_dir(CWD, mines)
        }
        other => other,
    };
    opened.map_err(|error| CubeError::io("open", mines, error))
}

/// The names in a folder, without `.` and `..`; what is not UTF-8 is none of ours.
pub(crate) fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        if let Ok(name) = entry?.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Probes the lock of a cube. `Ok(None)`: somebody holds it. `Ok(Some)`: free, and held shared
/// until the descriptor is dropped.
pub(crate) fn probe(mines: BorrowedFd<'_>, folder: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = openat(mines, format!("{folder}/{LOCK}"), flags, Mode::empty())?;
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(lock)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True when the mark of a durable cube is there, or cannot be ruled out.
pub(crate) fn is_marked_durable(mines: BorrowedFd<'_>, id: &TripId) -> bool {
    let mark = statat(mines, format!("{id}/{DURABLE_MARK}"), AtFlags::SYMLINK_NOFOLLOW);
    !matches!(mark, Err(Errno::NOENT))
}

fn load_at(mines: BorrowedFd<'_>, root: &Path, id: &TripId) -> Option<CubeEntry> {
    let path = root.join(id.as_str());
    let (live, held) = match probe(mines, id.as_str()) {
        Ok(held) => (held.is_none(), held),
        Err(_) if statat(mines, id.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_err() => return None,
        Err(_) => (false, None),
    };
    let record = read_record(mines, &path, id).map(|(mut record, written)| {
        if !live && !record.state.is_over() {
            mark_lost(&mut record, written);
        }
        record
    });
    drop(held);
    Some(CubeEntry { id: id.clone(), record, live, path })
}

/// Takes a cube's lock exclusively. A reader may hold it for the blink of an eye, a keeper for long.
fn lock_exclusive(mines: &OwnedFd, root: &Path, id: &TripId) -> Result<OwnedFd, CubeError> {
    let path = || root.join(id.as_str()).join(LOCK);
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = openat(mines, format!("{id}/{LOCK}"), flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => CubeError::Missing(id.clone()),
        error => CubeError::io("open", path(), error),
    })?;
    for attempt in 0.. {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if attempt < 20 => std::thread::sleep(Duration::from_millis(2)),
            Err(Errno::WOULDBLOCK) => return Err(CubeError::Alive(id.clone())),
            Err(error) => return Err(CubeError::io("lock", path(), error)),
        }
    }
    // While we waited the folder may have been removed: then this is the lock of nothing.
    match statat(mines, format!("{id}/{LOCK}"), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if rustix::fs::fstat(&lock).is_ok_and(|ours| ours.st_ino == now.st_ino) => Ok(lock),
        _ => Err(CubeError::Missing(id.clone())),
    }
}

pub(crate) fn open_dir(at: impl AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
pub(crate) mod tests;
