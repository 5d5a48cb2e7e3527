//! An upper with its lowers on file systems, as the walk asks for them.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, makedev, openat2, statat};
use rustix::io::Errno;

use super::again::{Again, First};
use super::ids::Shift;
use super::lowers::Lowers;
use super::meta::{describe, look, open_file, open_folder};
use crate::model::sanitize::printable_bytes;
use crate::plan::changes::{Entry, Found, Kind, Trees};

/// Bytes compared at once.
const CHUNK: usize = 64 * 1024;

/// What could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A path of the tree.
    #[error("cannot read `{}`: {errno}", printable_bytes(path))]
    Path {
        /// Which.
        path: Vec<u8>,
        /// Why.
        errno: Errno,
    },
    /// A layer.
    #[error("cannot open the layer `{}`: {errno}", printable_bytes(path.as_os_str().as_encoded_bytes()))]
    Layer {
        /// Which.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Something else, in words of its own.
    #[error("{0}")]
    Other(String),
}

/// A region of a cube.
#[derive(Debug)]
pub struct RegionReader {
    upper: OwnedFd,
    lowers: Lowers,
    shift: Shift,
    buffers: Box<[[u8; CHUNK]; 2]>,
    watch: Watch,
}

/// Whether a cube goes on meanwhile.
#[derive(Debug, Default)]
enum Watch {
    /// It stands still.
    #[default]
    Still,
    /// It goes on: what is seen is noted.
    First(First),
    /// It stands still now: only what may have changed is looked at.
    Again(Rc<Again>),
}

impl RegionReader {
    /// Over an opened upper.
    ///
    /// # Errors
    /// A layer cannot be opened.
    pub fn new(upper: OwnedFd, lowers: &[PathBuf], shift: Shift) -> Result<Self, ReadError> {
        let lowers = Lowers::open(lowers).map_err(|(path, errno)| ReadError::Layer { path, errno })?;
        Ok(Self { upper, lowers, shift, buffers: Box::new([[0; CHUNK]; 2]), watch: Watch::Still })
    }

    /// From here on notes what a second look goes by.
    pub(super) fn note(&mut self) {
        self.watch = Watch::First(First::default());
    }

    /// What was noted.
    pub(super) fn noted(self) -> First {
        match self.watch {
            Watch::First(first) => first,
            Watch::Still | Watch::Again(_) => First::default(),
        }
    }

    /// From here on finds out what need not be looked at.
    pub(super) fn compare(&mut self, again: Rc<Again>) {
        self.watch = Watch::Again(again);
    }

    /// The root of the upper.
    #[must_use]
    pub const fn root(&self) -> &OwnedFd {
        &self.upper
    }

    /// The file at `path`, as the upper has it.
    ///
    /// # Errors
    /// It is no plain file, or cannot be opened.
    pub fn new_file(&self, path: &[u8]) -> Result<std::fs::File, ReadError> {
        open_file(self.upper.as_fd(), path).map_err(|errno| at(path, errno))
    }

    /// The file at `path`, as the lowers have it.
    ///
    /// # Errors
    /// It is no plain file, or cannot be opened.
    pub fn old_file(&mut self, path: &[u8]) -> Result<std::fs::File, ReadError> {
        self.lowers.file(path).map_err(|errno| at(path, errno))
    }

    /// The entry at `path` of the upper, if the upper has one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new_entry(&self, path: &[u8]) -> Result<Option<Found>, ReadError> {
        let found = look(self.upper.as_fd(), path).map_err(|errno| at(path, errno))?;
        Ok(found.map(|(mut entry, marks)| {
            self.shift.apply(&mut entry);
            match marks.whiteout {
                true => Found::Whiteout,
                false => Found::Entry { entry, opaque: marks.opaque },
            }
        }))
    }
}

/// What is told of an entry that did not change: that it is there. Whoever asked for it goes no further.
fn unchanged(stat: &Stat) -> Found {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::CharacterDevice && stat.st_rdev == makedev(0, 0) {
        return Found::Whiteout;
    }
    let entry = Entry {
        kind: if kind == FileType::Symlink { Kind::Link } else { Kind::File },
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        allocated: 0,
        mtime_ns: 0,
        target: None,
        device: None,
        xattrs: Vec::new(),
        hard_link: None,
    };
    Found::Entry { entry, opaque: false }
}

fn at(path: &[u8], errno: Errno) -> ReadError {
    ReadError::Path { path: path.to_vec(), errno }
}

impl Trees for RegionReader {
    type Error = ReadError;

    fn upper(&mut self, folder: &[u8]) -> Result<Vec<(Vec<u8>, Found)>, ReadError> {
        let fail = |errno| at(folder, errno);
        let open = match open_folder(self.upper.as_fd(), folder) {
            Ok(open) => open,
            // Deleted while we walked: a running cube does what it wants.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !folder.is_empty() => return Ok(Vec::new()),
            Err(errno) => return Err(fail(errno)),
        };
        let known = match &mut self.watch {
            Watch::Still => None,
            Watch::First(first) => {
                first.note(folder, fstat(&open).map_err(fail)?.st_ino);
                None
            }
            Watch::Again(again) => {
                let inode = fstat(&open).map_err(fail)?.st_ino;
                again.knows(folder, inode).then(|| Rc::clone(again))
            }
        };
        let mut found = Vec::new();
        for entry in Dir::read_from(&open).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if let Some(again) = &known
                && let Ok(stat) = statat(&open, name, AtFlags::SYMLINK_NOFOLLOW)
                && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
                && again.look(&crate::plan::changes::join(folder, name.to_bytes()), &stat)
            {
                found.push((name.to_bytes().to_vec(), unchanged(&stat)));
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let looked = openat2(&open, name, flags, Mode::empty(), ResolveFlags::BENEATH)
                .and_then(|fd| describe(&fd));
            match looked {
                Ok((_, marks)) if marks.whiteout => found.push((name.to_bytes().to_vec(), Found::Whiteout)),
                Ok((mut entry, marks)) => {
                    self.shift.apply(&mut entry);
                    found.push((name.to_bytes().to_vec(), Found::Entry { entry, opaque: marks.opaque }));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(at(&crate::plan::changes::join(folder, name.to_bytes()), errno)),
            }
        }
        Ok(found)
    }

    fn lower(&mut self, path: &[u8]) -> Result<Option<Entry>, ReadError> {
        self.lowers.entry(path).map_err(|errno| at(path, errno))
    }

    fn lower_names(&mut self, folder: &[u8]) -> Result<Vec<Vec<u8>>, ReadError> {
        self.lowers.names(folder).map_err(|errno| at(folder, errno))
    }

    fn same_content(&mut self, path: &[u8]) -> Result<bool, ReadError> {
        let mut new = match self.new_file(path) {
            Ok(new) => new,
            Err(ReadError::Path { errno: Errno::NOENT, .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        // What may not be read cannot be compared: it was copied, so it is told as changed.
        let Ok(mut old) = self.old_file(path) else { return Ok(false) };
        let [a, b] = &mut *self.buffers;
        loop {
            let read = |file: &mut std::fs::File, buffer: &mut [u8]| -> std::io::Result<usize> {
                let mut filled = 0;
                while filled < buffer.len() {
                    match file.read(&mut buffer[filled..])? {
                        0 => break,
                        count => filled += count,
                    }
                }
                Ok(filled)
            };
            let fail = |error: std::io::Error| at(path, Errno::from_io_error(&error).unwrap_or(Errno::IO));
            let (left, right) = (read(&mut new, a).map_err(fail)?, read(&mut old, b).map_err(fail)?);
            if a[..left] != b[..right] {
                return Ok(false);
            }
            if left < CHUNK {
                return Ok(true);
            }
        }
    }
}
