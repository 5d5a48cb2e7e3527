//! Spare folders for throwaways: `Mines/.spare-N`, made by a keeper that has told of its cube's end, on nobody's time, or
//! emptied of what is to be deleted.
//!
//! A launch takes one by renaming it. Making a folder means making half a dozen inodes, which takes some file systems
//! milliseconds; a rename takes none. Deleting one is no better: ext4 then passes by every inode that was freed in the
//! last minute whenever it looks for a free one. A spare is an ordinary folder of a cube with an empty record and a free
//! lock; one that is missing, taken or strange only means that the launch makes its own.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, ftruncate, mkdirat, openat,
    renameat_with, statat,
};

use super::{FRESH, encode, errno, names, open_dir, remove_in, write_over};
use crate::model::CubeRecord;

/// Places for spares: as many as one sweep finds ended cubes too many, so that launches in a row use the same folders again.
const SLOTS: usize = 36;
/// Spares that are made where there are fewer: launches in a quick row find one each while the next is being made.
const WANTED: usize = 4;
/// Most that one ended cube makes.
const AT_ONCE: usize = 2;
/// What a spare has, beside its lock.
const FILES: [(&str, &[&str]); 2] =
    [("headers", &["lock", "record.json", "record.json.new"]), ("log", &["events.jsonl"])];

/// How their names begin.
const PREFIX: &str = ".spare-";

fn slot(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// Gives a spare to the cube of `record`: its lock, held. The caller holds `mines` shared.
pub(super) fn take(mines: &OwnedFd, record: &CubeRecord) -> Option<OwnedFd> {
    // Each begins elsewhere: nobody walks past all the places that others have emptied.
    let first =
        record.id.as_str().bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    (0..SLOTS).find_map(|step| take_slot(mines, &slot(first.wrapping_add(step) % SLOTS), record).ok())
}

fn take_slot(mines: &OwnedFd, name: &str, record: &CubeRecord) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let path = format!("{name}/headers/lock");
    let lock = openat(mines, &path, flags, Mode::empty())?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    // Whoever had the lock before us may have taken the folder, and another spare may stand here.
    if statat(mines, &path, AtFlags::SYMLINK_NOFOLLOW)?.st_ino != fstat(&lock)?.st_ino {
        return Err(rustix::io::Errno::BUSY);
    }
    let path = format!("{name}/headers/record.json");
    let mut file = File::from(openat(mines, path, flags, Mode::empty())?);
    write_over(&mut file, &encode(record)?).map_err(errno)?;
    renameat_with(mines, name, mines, record.id.as_str(), RenameFlags::NOREPLACE)?;
    Ok(lock)
}

/// True for a spare that a keeper had begun to take when it was killed: there is a record in it already. The caller holds `mines`
/// exclusively, so that nobody is taking one.
pub(crate) fn is_begun(mines: &OwnedFd, name: &str) -> bool {
    name.starts_with(PREFIX)
        && statat(mines, format!("{name}/headers/record.json"), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|record| record.st_size > 0)
}

/// Makes spares where too few are left. The caller holds `mines` shared.
///
/// # Errors
/// A disk that is full, and the like; what is half made is cleared by the next sweep.
pub(super) fn make(mines: &OwnedFd, by: &str) -> rustix::io::Result<()> {
    let is_free = |name: &String| statat(mines, name, AtFlags::SYMLINK_NOFOLLOW).is_err();
    let there = (0..SLOTS).map(slot).filter(|name| !is_free(name)).take(WANTED).count();
    let missing = (0..SLOTS).map(slot).filter(is_free);
    for name in missing.take((WANTED - there).min(AT_ONCE)).collect::<Vec<_>>() {
        let fresh = format!("{FRESH}spare-{by}");
        mkdirat(mines, &fresh, Mode::RWXU)?;
        let folder = open_dir(mines, &fresh)?;
        for (name, files) in FILES {
            mkdirat(&folder, name, Mode::RWXU)?;
            for file in files {
                create(&folder, &format!("{name}/{file}"))?;
            }
        }
        if let Err(error) = renameat_with(mines, &fresh, mines, &name, RenameFlags::NOREPLACE) {
            // Another keeper was quicker; nobody may come for a long time to clear this one.
            drop(remove_in(mines, OsStr::new(&fresh)));
            return Err(error);
        }
    }
    Ok(())
}

fn create(folder: &OwnedFd, file: &str) -> rustix::io::Result<OwnedFd> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(folder, file, new, Mode::RUSR | Mode::WUSR)
}

/// Makes a spare of the folder `dead` of a throwaway that is to be deleted, with nothing of it left inside. False when there
/// are enough, or when it is not what it should be: then it is still to be deleted.
///
/// Its folders, its lock, the files of its record and its events are used again; events that somebody still reads are his, and
/// are made anew.
pub(crate) fn recycle(mines: &OwnedFd, dead: &str) -> bool {
    let free = (0..SLOTS).map(slot).find(|name| statat(mines, name, AtFlags::SYMLINK_NOFOLLOW).is_err());
    free.is_some_and(|name| {
        empty(mines, dead)
            .is_ok_and(|_lock| renameat_with(mines, dead, mines, &name, RenameFlags::NOREPLACE).is_ok())
    })
}

/// Empties a dead cube's folder; its lock, held until it stands in its place.
fn empty(mines: &OwnedFd, dead: &str) -> std::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let folder = open_beneath(mines, dead)?;
    let lock = openat(&folder, "headers/lock", flags, Mode::empty())?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let clear = |folder: &OwnedFd, but: &[&str]| -> std::io::Result<()> {
        let all = names(folder)?;
        all.iter()
            .filter(|name| !but.contains(&name.as_str()))
            .try_for_each(|name| remove_in(folder, OsStr::new(name)))
    };
    let [(headers, kept), (log, events)] = FILES;
    clear(&folder, &[headers, log])?;
    let (headers, log) = (open_beneath(&folder, headers)?, open_beneath(&folder, log)?);
    clear(&headers, kept)?;
    clear(&log, events)?;
    for name in kept {
        truncate(&openat(&headers, *name, flags | OFlags::CREATE, Mode::RUSR | Mode::WUSR)?)?;
    }
    for name in events {
        let unread = openat(&log, *name, flags, Mode::empty()).and_then(|file| {
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            truncate(&file)
        });
        if unread.is_err() {
            remove_in(&log, OsStr::new(name))?;
            create(&log, name)?;
        }
    }
    Ok(lock)
}

/// Empties a file. One of our own making has one link; anything else is nothing that we would write into.
fn truncate(file: &OwnedFd) -> rustix::io::Result<()> {
    match fstat(file)?.st_nlink {
        1 => ftruncate(file, 0),
        _ => Err(rustix::io::Errno::MLINK),
    }
}

fn open_beneath(at: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}
