//! How much a tree holds, without following a link out of it.

use std::ffi::CString;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use serde::Serialize;

use crate::model::ByteSize;

/// After so many entries the count stops: a person waits for it.
const MAX_ENTRIES: u64 = 500_000;

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// Sum of the files' lengths, in bytes.
    pub bytes: u64,
    /// Files, links and everything else that is no folder.
    pub files: u64,
    /// False when some of it could not be read or there was too much to count.
    pub complete: bool,
}

impl Usage {
    /// "41M in 212 files".
    #[must_use]
    pub fn text(&self) -> String {
        let least = if self.complete { "" } else { "at least " };
        let files = if self.files == 1 { "file" } else { "files" };
        format!("{least}{} in {} {files}", ByteSize::bytes(self.bytes), self.files)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            files: self.files.saturating_add(other.files),
            complete: self.complete && other.complete,
        }
    }
}

/// Counts what lies at `path`; nothing there counts as nothing. Never fails: what cannot be read
/// makes the answer incomplete.
#[must_use]
pub fn usage(path: &Path) -> Usage {
    let mut usage = Usage { complete: true, ..Usage::default() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match openat(CWD, path, flags, Mode::empty()) {
        Ok(root) => root,
        Err(rustix::io::Errno::NOENT) => return usage,
        Err(_) => {
            match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if !FileType::from_raw_mode(found.st_mode).is_dir() => {
                    usage.files = 1;
                    usage.bytes = u64::try_from(found.st_size).unwrap_or(0);
                }
                _ => usage.complete = false,
            }
            return usage;
        }
    };
    // Folders are named from the root and opened beneath it, so a link put in the way meanwhile
    // leads nowhere, and the depth of the tree costs neither stack nor open files.
    let mut folders: Vec<Vec<u8>> = vec![b".".to_vec()];
    let mut seen = 0_u64;
    while let Some(folder) = folders.pop() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = CString::new(folder.clone())
            .ok()
            .and_then(|name| openat2(&root, &name, flags, Mode::empty(), resolve).ok())
            .and_then(|fd| Dir::read_from(&fd).ok().map(|dir| (fd, dir)));
        let Some((fd, dir)) = opened else {
            usage.complete = false;
            continue;
        };
        for entry in dir {
            let Ok(entry) = entry else {
                usage.complete = false;
                break;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            seen += 1;
            if seen > MAX_ENTRIES {
                usage.complete = false;
                return usage;
            }
            let Ok(found) = statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) else {
                usage.complete = false;
                continue;
            };
            if FileType::from_raw_mode(found.st_mode).is_dir() {
                folders.push([&folder[..], b"/", name.to_bytes()].concat());
            } else {
                usage.files += 1;
                usage.bytes = usage.bytes.saturating_add(u64::try_from(found.st_size).unwrap_or(0));
            }
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_without_following() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path();
        assert_eq!(usage(&path.join("missing")), Usage { complete: true, ..Usage::default() });
        std::fs::create_dir_all(path.join("a/b")).expect("mkdir");
        std::fs::write(path.join("a/b/f"), [0; 1000]).expect("write");
        std::fs::write(path.join("g"), [0; 24]).expect("write");
        std::os::unix::fs::symlink("/usr", path.join("a/l")).expect("link");
        let found = usage(path);
        assert_eq!((found.files, found.complete), (3, true));
        assert_eq!(found.bytes, 1024 + 4);
        assert_eq!(found.text(), "1K in 3 files");
        assert_eq!(usage(&path.join("g")).bytes, 24);
    }
}
