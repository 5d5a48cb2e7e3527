//! Deletes a tree that a cube may have made: links are not followed, folders without permissions
//! are opened up, and no depth is too deep.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, chmod, fchmod, fstat, openat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

/// Names read from a folder at once.
const BATCH: usize = 4096;

/// Deletes what lies at `path`; nothing there is success.
///
/// Folders deep in the tree are moved up to its top before they are emptied, so that neither the
/// stack, nor open files, nor the length of paths grow with the depth.
///
/// # Errors
/// The first thing that could not be deleted; the rest of the tree is gone.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    match unlinkat(CWD, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(error) => {
            let found = statat(CWD, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if !FileType::from_raw_mode(found.st_mode).is_dir() {
                return Err(error.into());
            }
        }
    }
    let top = open_folder(CWD, &name)?;
    let mut tree = Tree { top, next: 0, stuck: HashSet::new(), error: None };
    while tree.pass()? {}
    match tree.error {
        Some(error) => Err(error.into()),
        None => Ok(unlinkat(CWD, &name, AtFlags::REMOVEDIR)?),
    }
}

struct Tree {
    top: OwnedFd,
    /// The number of the next folder moved to the top.
    next: u64,
    /// Names at the top that could not be deleted.
    stuck: HashSet<CString>,
    error: Option<Errno>,
}

impl Tree {
    /// Deletes a batch at the top; false when nothing is left that can be deleted.
    fn pass(&mut self) -> io::Result<bool> {
        let batch = names(self.top.as_fd(), &self.stuck)?;
        for (name, maybe_folder) in &batch {
            let done = match unlink_file(self.top.as_fd(), name, *maybe_folder) {
                Err(Errno::ISDIR) => self.empty(name),
                other => other,
            };
            if let Err(error) = done {
                self.error.get_or_insert(error);
                self.stuck.insert(name.clone());
            }
        }
        Ok(!batch.is_empty())
    }

    /// Empties the folder `name` at the top and removes it.
    fn empty(&mut self, name: &CStr) -> Result<(), Errno> {
        let folder = open_folder(self.top.as_fd(), name)?;
        let mut stuck = HashSet::new();
        let mut first = None;
        loop {
            let batch = names(folder.as_fd(), &stuck)?;
            if batch.is_empty() {
                break;
            }
            for (child, maybe_folder) in batch {
                let done = match unlink_file(folder.as_fd(), &child, maybe_folder) {
                    Err(Errno::ISDIR) => self.lift(folder.as_fd(), &child),
                    other => other,
                };
                if let Err(error) = done {
                    first.get_or_insert(error);
                    stuck.insert(child);
                }
            }
        }
        match first {
            Some(error) => Err(error),
            None => ignore_missing(unlinkat(&self.top, name, AtFlags::REMOVEDIR)),
        }
    }

    /// Moves the folder `child` to the top under a new name.
    fn lift(&mut self, parent: BorrowedFd<'_>, child: &CStr) -> Result<(), Errno> {
        let mut opened_up = false;
        loop {
            let name = CString::new(format!(".lifted-{}", self.next)).map_err(|_| Errno::INVAL)?;
            self.next += 1;
            match renameat_with(parent, child, &self.top, &name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                // Moving a folder writes its `..`.
                Err(Errno::ACCESS) if !opened_up => {
                    drop(open_folder(parent, child)?);
                    opened_up = true;
                }
                other => return ignore_missing(other),
            }
        }
    }
}

/// Unlinks what is no folder; [`Errno::ISDIR`] for a folder.
fn unlink_file(parent: BorrowedFd<'_>, name: &CStr, maybe_folder: bool) -> Result<(), Errno> {
    if maybe_folder {
        let found = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            return Err(Errno::ISDIR);
        }
    }
    ignore_missing(unlinkat(parent, name, AtFlags::empty()))
}

/// Somebody else was faster.
fn ignore_missing(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Some names in a folder, and whether each may be a folder.
fn names(folder: BorrowedFd<'_>, skip: &HashSet<CString>) -> Result<Vec<(CString, bool)>, Errno> {
    let mut batch = Vec::new();
    // `read_from` opens the folder anew, so that each pass starts at its beginning.
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || skip.contains(name) {
            continue;
        }
        let maybe_folder = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        batch.push((name.to_owned(), maybe_folder));
        if batch.len() == BATCH {
            break;
        }
    }
    Ok(batch)
}

/// Opens a folder for reading and deleting, giving its owner the rights for it first if needed.
fn open_folder(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(parent, name, flags | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // chmod by descriptor: a name could have become a link meanwhile.
            let handle = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
            chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::RWXU)?;
            openat(parent, name, flags | OFlags::RDONLY, Mode::empty())?
        }
        other => other?,
    };
    if Mode::from_raw_mode(fstat(&folder)?.st_mode) & Mode::RWXU != Mode::RWXU {
        // Another owner's folder: deleting in it will say so.
        match fchmod(&folder, Mode::RWXU) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_are_not_followed_and_closed_folders_go() {
        let folder = tempfile::tempdir().expect("tempdir");
        let keep = folder.path().join("keep");
        fs::create_dir(&keep).expect("mkdir");
        fs::write(keep.join("file"), "x").expect("write");
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("a/closed/inner")).expect("mkdir");
        fs::write(tree.join("a/closed/inner/f"), "x").expect("write");
        symlink(&keep, tree.join("a/link")).expect("link");
        symlink("loop", tree.join("loop")).expect("link");
        for path in ["a/closed/inner", "a/closed", "a"] {
            fs::set_permissions(tree.join(path), Permissions::from_mode(0o000)).expect("chmod");
        }
        remove_tree(&tree).expect("remove");
        assert!(!tree.exists() && keep.join("file").exists());
        remove_tree(&tree).expect("nothing there");
        let link = folder.path().join("to-keep");
        symlink(&keep, &link).expect("link");
        remove_tree(&link).expect("a link");
        assert!(keep.join("file").exists());
    }

    #[test]
    fn deep_and_wide_trees_go() {
        let folder = tempfile::tempdir().expect("tempdir");
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).expect("mkdir");
        // Deeper than a path may be long and than there are descriptors.
        let mut at = openat(CWD, &tree, OFlags::DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "dir", Mode::RWXU).expect("mkdir");
            at = openat(&at, "dir", OFlags::DIRECTORY, Mode::empty()).expect("open");
        }
        for number in 0..5000 {
            fs::write(tree.join(number.to_string()), "").expect("write");
        }
        fs::create_dir(tree.join(".lifted-0")).expect("mkdir");
        drop(at);
        remove_tree(&tree).expect("remove");
        assert!(!tree.exists());
    }
}
