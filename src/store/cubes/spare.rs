//! Spare folders for throwaways: `Mines/.spare-N`, made by a keeper that has told of its cube's end, on nobody's time.
//!
//! A launch takes one by renaming it. Making a folder means making half a dozen inodes, which takes some file systems
//! milliseconds; a rename takes none. A spare is an ordinary folder of a cube with an empty record and a free lock; one
//! that is missing, taken or strange only means that the launch makes its own.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, mkdirat, openat, renameat_with, statat,
};

use super::{FRESH, encode, errno, open_dir, remove_in, write_over};
use crate::model::CubeRecord;

/// Spares that are kept: launches in a quick row find one each while the next is being made.
const SLOTS: usize = 4;
/// Most that one ended cube makes.
const AT_ONCE: usize = 2;

fn slot(number: usize) -> String {
    format!(".spare-{number}")
}

/// Gives a spare to the cube of `record`: its lock, held. The caller holds `mines` shared.
pub(super) fn take(mines: &OwnedFd, record: &CubeRecord) -> Option<OwnedFd> {
    (0..SLOTS).find_map(|number| take_slot(mines, &slot(number), record).ok())
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

/// Makes spares where some are missing. The caller holds `mines` shared.
///
/// # Errors
/// A disk that is full, and the like; what is half made is cleared by the next sweep.
pub(super) fn make(mines: &OwnedFd, by: &str) -> rustix::io::Result<()> {
    let missing = (0..SLOTS).map(slot).filter(|name| statat(mines, name, AtFlags::SYMLINK_NOFOLLOW).is_err());
    for name in missing.take(AT_ONCE).collect::<Vec<_>>() {
        let fresh = format!("{FRESH}spare-{by}");
        mkdirat(mines, &fresh, Mode::RWXU)?;
        let folder = open_dir(mines, &fresh)?;
        for name in ["headers", "log"] {
            mkdirat(&folder, name, Mode::RWXU)?;
        }
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        for file in ["headers/lock", "headers/record.json", "headers/record.json.new", "log/events.jsonl"] {
            openat(&folder, file, new, Mode::RUSR | Mode::WUSR)?;
        }
        if let Err(error) = renameat_with(mines, &fresh, mines, &name, RenameFlags::NOREPLACE) {
            // Another keeper was quicker; nobody may come for a long time to clear this one.
            drop(remove_in(mines, OsStr::new(&fresh)));
            return Err(error);
        }
    }
    Ok(())
}
