//! The trash: what was deleted and can come back.
//!
//! Each deletion is a folder in `data/trash` with a `record.json`. The record is written before
//! anything is moved, and everything is moved by rename: after a crash each thing is either at its
//! old place or in the trash, and the record knows both. What lies on another file system goes to
//! a `.tripmine-trash` folder beside it.

mod record;

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::model::{Failure, FailureKind};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::atomic::{sync_folder, write_atomic};
use super::fail::{cannot, shown};
use super::layout::Layout;
use super::lock;
use super::remove::remove_tree;
use super::usage::Usage;

pub use record::{TRASH_VERSION, TrashId, TrashKind, TrashPart, TrashRecord};

/// The folder for what cannot be renamed into `data/trash`.
pub const SIBLING: &str = ".tripmine-trash";
const RECORD: &str = "record.json";
const LOCK: &str = "trash";
/// Starts the name of what is being deleted for good.
const PURGE: &str = ".purge-";

impl TrashRecord {
    fn folder(&self, layout: &Layout) -> PathBuf {
        layout.trash_dir().join(self.id.as_str())
    }

    fn stored(&self, layout: &Layout, index: usize) -> PathBuf {
        let folder = self.parts.get(index).and_then(|part| part.elsewhere.clone());
        folder.unwrap_or_else(|| self.folder(layout)).join(format!("part-{index}"))
    }

    fn stored_parts(&self, layout: &Layout) -> Vec<usize> {
        (0..self.parts.len()).filter(|index| exists(&self.stored(layout, *index))).collect()
    }

    fn save(&self, layout: &Layout) -> Result<(), Failure> {
        let path = self.folder(layout).join(RECORD);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| {
            Failure::failed(format!("cannot record the deletion of `{}`", self.name)).because(&error)
        })?;
        write_atomic(&path, &bytes, 0o600).map_err(|error| cannot("write", &path, error))
    }
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Moves `paths` to the trash as one deletion; those that do not exist are left out.
///
/// # Errors
/// Nothing exists, or a rename is impossible (then what was already moved is moved back).
pub fn put(
    layout: &Layout,
    kind: TrashKind,
    name: &str,
    paths: &[&Path],
    usage: Usage,
    now_ms: u64,
) -> Result<TrashRecord, Failure> {
    let _lock = lock::exclusive(layout, LOCK)?;
    let parts: Vec<TrashPart> = paths
        .iter()
        .filter(|path| exists(path))
        .map(|path| TrashPart { original: path.to_path_buf(), elsewhere: None, mode: None })
        .collect();
    if parts.is_empty() {
        return Err(Failure::new(
            FailureKind::Missing,
            format!("there is nothing to delete of {} `{name}`", kind.word()),
        ));
    }
    let mut record = TrashRecord {
        version: TRASH_VERSION,
        id: TrashId::new(now_ms, kind, name),
        kind,
        name: name.to_owned(),
        at_ms: now_ms,
        bytes: usage.bytes,
        files: usage.files,
        parts,
    };
    make_folder(layout, &mut record)?;
    let moved = record
        .save(layout)
        .and_then(|()| (0..record.parts.len()).try_for_each(|index| move_in(layout, &mut record, index)));
    if let Err(failure) = moved {
        return Err(match move_back(layout, &record) {
            Ok(()) => failure,
            Err(also) => failure.hint(format!("a part is still in the trash as {}: {also}", record.id)),
        });
    }
    Ok(record)
}

/// Makes the deletion's folder under an id that nobody has.
fn make_folder(layout: &Layout, record: &mut TrashRecord) -> Result<(), Failure> {
    let trash = layout.trash_dir();
    DirBuilder::new().recursive(true).mode(0o700).create(&trash).map_err(|e| cannot("create", &trash, e))?;
    loop {
        let folder = record.folder(layout);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                record.at_ms += 1;
                record.id = TrashId::new(record.at_ms, record.kind, &record.name);
            }
            Err(error) => return Err(cannot("create", &folder, error)),
        }
    }
}

fn move_in(layout: &Layout, record: &mut TrashRecord, index: usize) -> Result<(), Failure> {
    let original = record.parts[index].original.clone();
    let fail = |error: io::Error| match error.raw_os_error() {
        Some(libc::EBUSY | libc::EXDEV) => Failure::new(
            FailureKind::Busy,
            format!("{} cannot be moved to the trash: it is a mount point", shown(&original)),
        ),
        _ => cannot("move to the trash", &original, error),
    };
    match rename(&original, &record.stored(layout, index)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            // Moving a folder writes its `..`, which needs its own write permission.
            let found = fs::symlink_metadata(&original).map_err(fail)?;
            if !found.is_dir() || found.mode() & 0o200 != 0 {
                return Err(fail(error));
            }
            record.parts[index].mode = Some(found.mode() & 0o7777);
            record.save(layout)?;
            fs::set_permissions(&original, fs::Permissions::from_mode(found.mode() & 0o7777 | 0o700))
                .map_err(fail)?;
            move_in(layout, record, index)
        }
        Err(error)
            if error.raw_os_error() == Some(libc::EXDEV) && record.parts[index].elsewhere.is_none() =>
        {
            let Some(parent) = original.parent() else { return Err(fail(error)) };
            let elsewhere = parent.join(SIBLING).join(record.id.as_str());
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&elsewhere)
                .map_err(|error| cannot("create", &elsewhere, error))?;
            record.parts[index].elsewhere = Some(elsewhere);
            record.save(layout)?;
            move_in(layout, record, index)
        }
        other => other.map_err(fail),
    }
}

/// Renames without replacing anything, and makes it last.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system without the flag.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if exists(to) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)?;
        }
        other => other?,
    }
    for folder in [from.parent(), to.parent()].into_iter().flatten() {
        // The rename is done; a file system that cannot sync a folder does not undo it.
        drop(sync_folder(folder));
    }
    Ok(())
}

/// Moves everything that is in the trash back and forgets the deletion.
fn move_back(layout: &Layout, record: &TrashRecord) -> Result<(), Failure> {
    for index in record.stored_parts(layout) {
        let part = &record.parts[index];
        if let Some(parent) = part.original.parent() {
            fs::create_dir_all(parent).map_err(|error| cannot("create", parent, error))?;
        }
        rename(&record.stored(layout, index), &part.original)
            .map_err(|error| cannot("restore", &part.original, error))?;
    }
    // Also after a crash between the two steps of a part, hence not in the loop above.
    for part in &record.parts {
        let closed = part.mode.filter(|_| fs::symlink_metadata(&part.original).is_ok_and(|m| m.is_dir()));
        if let Some(mode) = closed {
            fs::set_permissions(&part.original, fs::Permissions::from_mode(mode))
                .map_err(|error| cannot("restore the permissions of", &part.original, error))?;
        }
    }
    forget(layout, record)
}

/// Removes the folders of a deletion whose parts are gone.
fn forget(layout: &Layout, record: &TrashRecord) -> Result<(), Failure> {
    remove_elsewhere(record)?;
    let folder = record.folder(layout);
    remove_tree(&folder).map_err(|error| cannot("delete", &folder, error))
}

/// What is in the trash, oldest first. Records that cannot be read are left out; see [`unreadable`].
///
/// # Errors
/// The trash cannot be listed.
pub fn list(layout: &Layout) -> Result<Vec<TrashRecord>, Failure> {
    Ok(read_all(layout)?.records)
}

/// Folders in the trash whose record is of another version or damaged.
///
/// # Errors
/// The trash cannot be listed.
pub fn unreadable(layout: &Layout) -> Result<Vec<PathBuf>, Failure> {
    Ok(read_all(layout)?.unreadable)
}

#[derive(Default)]
struct Found {
    records: Vec<TrashRecord>,
    /// A crash stopped them before anything was moved, or after everything was moved back.
    stale: Vec<TrashRecord>,
    unreadable: Vec<PathBuf>,
}

fn read_all(layout: &Layout) -> Result<Found, Failure> {
    let trash = layout.trash_dir();
    let mut found = Found::default();
    let entries = match fs::read_dir(&trash) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(cannot("list", &trash, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| cannot("list", &trash, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PURGE) {
            continue;
        }
        match read_record(&entry.path()).filter(|record| record.id.as_str() == name) {
            Some(record) if record.stored_parts(layout).is_empty() => found.stale.push(record),
            Some(record) => found.records.push(record),
            None => found.unreadable.push(entry.path()),
        }
    }
    found.records.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn read_record(folder: &Path) -> Option<TrashRecord> {
    let bytes = fs::read(folder.join(RECORD)).ok()?;
    serde_json::from_slice::<TrashRecord>(&bytes).ok().filter(|record| record.version == TRASH_VERSION)
}

/// Brings a deletion back: the one with this id or the latest of this name; without either, the
/// latest of all.
///
/// # Errors
/// There is none, or something stands at its old place again.
pub fn undo(layout: &Layout, which: Option<&str>) -> Result<TrashRecord, Failure> {
    let _lock = lock::exclusive(layout, LOCK)?;
    let records = list(layout)?;
    let found = records
        .iter()
        .rev()
        .find(|record| which.is_none_or(|which| record.id.as_str() == which || record.name == which));
    let Some(record) = found else {
        let message = match which {
            Some(which) => format!("nothing in the trash is called `{which}`"),
            None => "the trash is empty: there is nothing to undo".to_owned(),
        };
        let failure = Failure::new(FailureKind::Missing, message);
        return Err(if records.is_empty() { failure } else { failure.hint("see: tripmine undo --list") });
    };
    for index in record.stored_parts(layout) {
        let original = &record.parts[index].original;
        if exists(original) {
            return Err(Failure::new(
                FailureKind::Busy,
                format!(
                    "{} `{}` cannot come back: {} exists again",
                    record.kind.word(),
                    record.name,
                    shown(original)
                ),
            )
            .hint("rename or remove what is there now, then undo again"));
        }
    }
    move_back(layout, record)?;
    Ok(record.clone())
}

/// What a purge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// Deletions that are gone for good.
    pub count: u64,
    /// How much they held, in bytes.
    pub bytes: u64,
    /// What could not be deleted, and why.
    pub failures: Vec<Failure>,
}

/// Deletes for good what was put into the trash before `before_ms` (everything without it).
///
/// # Errors
/// The trash cannot be listed. What cannot be deleted is in [`Purged::failures`].
pub fn purge(layout: &Layout, before_ms: Option<u64>) -> Result<Purged, Failure> {
    let mut purged = Purged::default();
    let mut doomed = Vec::new();
    let trash = layout.trash_dir();
    {
        let _lock = lock::exclusive(layout, LOCK)?;
        let found = read_all(layout)?;
        let old = |record: &&TrashRecord| before_ms.is_none_or(|before| record.at_ms < before);
        for record in found.records.iter().filter(old).chain(&found.stale) {
            // One rename takes it out of reach of undo; the record says what else belongs to it.
            let (folder, away) = (record.folder(layout), trash.join(format!("{PURGE}{}", record.id)));
            match fs::rename(&folder, &away) {
                Ok(()) if found.stale.contains(record) => {}
                Ok(()) => {
                    purged.count += 1;
                    purged.bytes = purged.bytes.saturating_add(record.bytes);
                }
                Err(error) => purged.failures.push(cannot("delete", &folder, error)),
            }
        }
        // Also what an earlier purge could not finish.
        for entry in fs::read_dir(&trash).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PURGE) {
                doomed.push(entry.path());
            }
        }
    }
    // Without the lock: this may take long, and nobody can reach these any more.
    purged.failures.extend(doomed.iter().filter_map(|folder| delete(folder).err()));
    Ok(purged)
}

/// Deletes a purged deletion: what lies elsewhere first, as only the record knows of it.
fn delete(folder: &Path) -> Result<(), Failure> {
    if let Some(record) = read_record(folder) {
        remove_elsewhere(&record)?;
    }
    remove_tree(folder).map_err(|error| cannot("delete", folder, error))
}

fn remove_elsewhere(record: &TrashRecord) -> Result<(), Failure> {
    for elsewhere in record.parts.iter().filter_map(|part| part.elsewhere.as_deref()) {
        remove_tree(elsewhere).map_err(|error| cannot("delete", elsewhere, error))?;
        // Only when empty: others may be in it.
        if let Some(sibling) = elsewhere.parent() {
            drop(fs::remove_dir(sibling));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
