//! Deleting a tree that a stranger filled.
//!
//! Owns removal that follows no link, crosses no mount, opens folders without permission bits, and
//! needs neither stack nor file descriptors in proportion to the depth: folders deeper than
//! `DEPTH` are first moved up to the top of the tree. A crash half way leaves a smaller tree.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, chmod, fchmod, fstat, openat,
    openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// Nesting up to which folders are removed in place.
const DEPTH: usize = 48;

/// Deletes an entry of a folder with other ids than the caller's.
pub type Finish = fn(BorrowedFd<'_>, &OsStr) -> io::Result<()>;

/// Who finishes what the caller's own id may not delete: the edge above knows how, and says so once.
static FINISH: OnceLock<Finish> = OnceLock::new();

/// Sets who finishes deletions that are refused to the caller's own id.
pub fn finish_with(finish: Finish) {
    // Whoever was first is the same.
    let _set = FINISH.set(finish);
}

/// Removes the entry `name` of the folder `parent`, whatever it is. Nothing there is fine.
///
/// # Errors
/// The first thing that could not be removed; the rest is removed nevertheless.
pub fn remove_in(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    match (remove_alone(parent.as_fd(), name), FINISH.get()) {
        (Err(error), Some(finish)) if error.kind() == io::ErrorKind::PermissionDenied => {
            finish(parent.as_fd(), name)
        }
        (result, _) => result,
    }
}

fn remove_alone(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let name = CString::new(name.as_bytes())?;
    let top = match open_folder(parent, &name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(parent, &name, AtFlags::empty())?),
        Err(error) => return Err(error.into()),
    };
    let mut work = Work { top: &top, next_free: 0, moved: false };
    loop {
        work.moved = false;
        work.clear(top.as_fd(), 0)?;
        // What was moved up waits at the top, shallow again.
        match unlinkat(parent, &name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if work.moved => {}
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// As [`remove_in`], by path.
///
/// # Errors
/// As [`remove_in`].
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match openat(CWD, parent, flags, Mode::empty()) {
                Ok(parent) => remove_in(parent, name),
                Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

struct Work<'a> {
    top: &'a OwnedFd,
    next_free: u64,
    moved: bool,
}

impl Work<'_> {
    /// Empties a folder.
    fn clear(&mut self, folder: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        loop {
            let (mut progress, mut first_error) = (false, None);
            for entry in Dir::read_from(folder)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                match self.remove_entry(folder, name, entry.file_type(), depth) {
                    Ok(gone) => progress |= gone,
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
            // Removing while reading may skip entries: look again as long as that helps.
            if !progress {
                return first_error.map_or(Ok(()), Err);
            }
        }
    }

    /// Removes one entry. `Ok(false)`: it stays for the next round.
    fn remove_entry(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> io::Result<bool> {
        let is_folder = match kind {
            FileType::Directory => true,
            FileType::Unknown => statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            _ => false,
        };
        if !is_folder {
            return match with_access(folder, || unlinkat(folder, name, AtFlags::empty())) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error.into()),
            };
        }
        if depth >= DEPTH {
            return self.move_up(folder, name);
        }
        let child = match open_folder(folder, name) {
            Ok(child) => child,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.clear(child.as_fd(), depth + 1)?;
        match with_access(folder, || unlinkat(folder, name, AtFlags::REMOVEDIR)) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        // To change its parent, a folder must be writable itself.
        drop(open_folder(folder, name)?);
        loop {
            let target = format!(".deep-{}", self.next_free);
            self.next_free += 1;
            let moved = with_access(folder, || {
                let to = target.as_str();
                match renameat_with(folder, name, self.top, to, RenameFlags::NOREPLACE) {
                    // Not every file system has the flag; an empty folder may then be replaced.
                    Err(Errno::INVAL | Errno::NOSYS) => renameat(folder, name, self.top, to),
                    other => other,
                }
            });
            match moved {
                Ok(()) => {
                    self.moved = true;
                    return Ok(true);
                }
                Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Runs `act`; when the folder forbids it, gives its owner all rights and tries once more.
fn with_access(folder: BorrowedFd<'_>, act: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    match act() {
        Err(Errno::ACCESS) => {
            fchmod(folder, Mode::RWXU)?;
            act()
        }
        other => other,
    }
}

/// Opens a folder, not a link and no other file system, and gives its owner all rights on it: one
/// that can be listed but not searched (0400) would fail at its first child.
fn open_folder(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match open_beneath(parent, name, flags | OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            // By descriptor: the name could have become a link meanwhile.
            let handle = open_beneath(parent, name, flags | OFlags::PATH)?;
            chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::RWXU)?;
            open_beneath(parent, name, flags | OFlags::RDONLY)?
        }
        other => other?,
    };
    if Mode::from_raw_mode(fstat(&folder)?.st_mode) & Mode::RWXU != Mode::RWXU {
        match fchmod(&folder, Mode::RWXU) {
            // Another owner's folder: deleting in it will say so.
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(folder)
}

fn open_beneath(parent: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match openat2(parent, name, flags, Mode::empty(), resolve) {
        // Older kernels, and containers whose filter does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => openat(parent, name, flags, Mode::empty()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn removes_links_closed_folders_and_depth_without_leaving_the_tree() {
        let base = tempfile::tempdir().expect("tempdir");
        let outside = base.path().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("precious"), "x").expect("write");
        let tree = base.path().join("tree");
        fs::create_dir_all(tree.join("work/work")).expect("mkdir");
        fs::set_permissions(tree.join("work/work"), fs::Permissions::from_mode(0o0)).expect("chmod");
        // Can be listed, not searched, and holds nothing but a folder.
        fs::create_dir_all(tree.join("listed/inner")).expect("mkdir");
        fs::set_permissions(tree.join("listed"), fs::Permissions::from_mode(0o400)).expect("chmod");
        symlink(&outside, tree.join("link")).expect("link");
        symlink("/nowhere", tree.join("dangling")).expect("link");
        for index in 0..300 {
            fs::write(tree.join(format!("file{index}")), "").expect("write");
        }
        // Deeper than DEPTH twice over; a name that collides with ours waits at the top.
        let mut deep = tree.clone();
        for index in 0..3 * DEPTH {
            deep.push(format!("d{index}"));
        }
        fs::create_dir_all(&deep).expect("deep");
        fs::write(deep.join("leaf"), "").expect("leaf");
        fs::create_dir_all(tree.join(".deep-0/full")).expect("collide");
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
        assert!(outside.join("precious").exists(), "a link was followed");
        remove_tree(&tree).expect("nothing there is fine");
    }

    #[test]
    fn a_link_itself_is_removed() {
        let base = tempfile::tempdir().expect("tempdir");
        fs::create_dir(base.path().join("target")).expect("mkdir");
        symlink("target", base.path().join("link")).expect("link");
        remove_tree(&base.path().join("link")).expect("removed");
        assert!(base.path().join("target").exists());
        assert!(base.path().join("link").symlink_metadata().is_err());
    }

    #[test]
    fn neither_path_length_nor_descriptors_bound_the_depth() {
        let base = tempfile::tempdir().expect("tempdir");
        let tree = base.path().join("tree");
        fs::create_dir(&tree).expect("mkdir");
        let mut at = openat(CWD, &tree, OFlags::DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "dir", Mode::RWXU).expect("mkdir");
            at = openat(&at, "dir", OFlags::DIRECTORY, Mode::empty()).expect("open");
        }
        for number in 0..5000 {
            fs::write(tree.join(number.to_string()), "").expect("write");
        }
        drop(at);
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
    }

    #[test]
    fn what_cannot_go_is_an_error() {
        assert!(remove_tree(Path::new("/")).is_err());
        assert!(remove_tree(Path::new("..")).is_err());
        assert!(remove_tree(Path::new("/proc/self/status")).is_err());
    }
}
