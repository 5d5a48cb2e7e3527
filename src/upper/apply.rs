//! Taking picked changes of a review over into the project.
//!
//! Everything is checked before anything is written: that each original is still what it was when the review began, and
//! that each path stays in the project, through no link and no other mount. Files are written beside and renamed, so that
//! a reader of the project sees the old one or the new one. Set-id bits are not taken over: the cube wrote these files.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, chmod, fsync, futimens, mkdirat, openat, openat2,
    renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::manifest::{self, Identity, identity, open_root};
use super::meta::{BENEATH, open_folder};
use super::wire::{Fate, Told};
use crate::model::sanitize::printable_bytes;
use crate::plan::changes::{Aspect, Kind, within};
use crate::store::remove::remove_in;

/// Permissions that are taken over.
const PERMISSIONS: u32 = 0o777;

/// Why a change was not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its path in the project.
    pub path: Vec<u8>,
    /// Why.
    pub why: String,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Paths that were written or removed.
    pub paths: Vec<Vec<u8>>,
    /// What was left out of them.
    pub notes: Vec<String>,
}

/// What went wrong.
#[derive(Debug)]
pub enum ApplyError {
    /// The originals are not what they were. Nothing was written.
    Conflicts(Vec<Conflict>),
    /// Something could not be read or written; what came before is done.
    Failed {
        /// What was done until then.
        done: Applied,
        /// One line.
        message: String,
    },
}

/// A review: the project and the folder of the cube that holds its upper.
#[derive(Debug)]
pub struct Review {
    root: OwnedFd,
    upper: OwnedFd,
    base: std::path::PathBuf,
}

impl Review {
    /// Opens both. `expected` is the project's folder as it was mounted: device and inode.
    ///
    /// # Errors
    /// One line: something is missing, or the project is another folder now.
    pub fn open(project: &Path, expected: (u64, u64), dir: &Path) -> Result<Self, String> {
        let shown = |path: &Path| printable_bytes(path.as_os_str().as_bytes());
        let root =
            open_root(project).map_err(|errno| format!("cannot open `{}`: {errno}", shown(project)))?;
        let stat = rustix::fs::fstat(&root).map_err(|errno| errno.to_string())?;
        let now = Identity::of(&stat);
        if (now.dev, now.ino) != expected {
            return Err(format!("`{}` is another folder than the one under review", shown(project)));
        }
        let upper = open_root(&dir.join("upper"))
            .map_err(|errno| format!("cannot open the changes in `{}`: {errno}", shown(dir)))?;
        Ok(Self { root, upper, base: dir.join("base") })
    }

    /// Takes `picked` over, in the order in which they were told: a folder before what is in it. With `force` whatever
    /// happened to the originals meanwhile.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(&self, picked: &[Told], force: bool) -> Result<Applied, ApplyError> {
        let failed = |message: String| ApplyError::Failed { done: Applied::default(), message };
        let gone: Vec<&[u8]> =
            picked.iter().filter(|told| replaces_folder(told)).map(|told| told.path.0.as_slice()).collect();
        let named: BTreeMap<&[u8], ()> = picked.iter().map(|told| (told.path.0.as_slice(), ())).collect();
        let wanted = |path: &[u8]| named.contains_key(path) || gone.iter().any(|above| within(path, above));
        let base = manifest::read(&self.base, &wanted)
            .map_err(|error| failed(format!("cannot read what the project was: {error}")))?;
        let mut conflicts = Vec::new();
        for told in picked {
            if let Err(why) = self.check(told, &base, force) {
                conflicts.push(Conflict { path: told.path.0.clone(), why });
            }
        }
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
        let mut done = Applied::default();
        let mut records = Vec::new();
        let mut problem = None;
        for told in picked {
            match self.take(told, &mut done.notes) {
                Ok(()) => {
                    done.paths.push(told.path.0.clone());
                    records.push((
                        told.path.0.clone(),
                        identity(self.root.as_fd(), &told.path.0).ok().flatten(),
                    ));
                }
                Err(error) => {
                    problem = Some(format!("cannot take `{}` over: {error}", printable_bytes(&told.path.0)));
                    break;
                }
            }
        }
        if let Err(error) = manifest::append(&self.base, &records) {
            problem.get_or_insert_with(|| format!("cannot write down what was taken over: {error}"));
        }
        match problem {
            None => Ok(done),
            Some(message) => Err(ApplyError::Failed { done, message }),
        }
    }

    /// The original is what it was, and so is all that would go with it.
    fn check(&self, told: &Told, base: &HashMap<Vec<u8>, Identity>, force: bool) -> Result<(), String> {
        let path = &told.path.0;
        let now = identity(self.root.as_fd(), path).map_err(|errno| match errno {
            Errno::LOOP | Errno::XDEV | Errno::NOTDIR => {
                "its folder is a link, a file or another mount in the project now".to_owned()
            }
            errno => format!("the original cannot be looked at: {errno}"),
        })?;
        if !matches!(told.kind, Kind::File | Kind::Folder | Kind::Link) && told.fate != Fate::Deleted {
            return Err(format!("a {} is not taken over", told.kind.word()));
        }
        if force {
            return Ok(());
        }
        match (base.get(path), now) {
            (None, None) => {}
            (None, Some(_)) => return Err("somebody else made it meanwhile".to_owned()),
            (Some(_), None) if told.fate == Fate::Deleted => {}
            (Some(_), None) => return Err("the original was deleted meanwhile".to_owned()),
            (Some(was), Some(now)) if was.unchanged(&now) => {}
            (Some(_), Some(_)) => return Err("the original was changed meanwhile".to_owned()),
        }
        if replaces_folder(told) && now.is_some_and(|now| now.is_folder()) {
            let mut changed = None;
            let looked = manifest::each(self.root.as_fd(), path, &mut |inner, stat| {
                if !base.get(inner).is_some_and(|was| was.unchanged(&Identity::of(stat))) {
                    changed.get_or_insert_with(|| inner.to_vec());
                }
                Ok(())
            });
            looked.map_err(|error| format!("what is in it cannot be looked at: {error}"))?;
            if let Some(inner) = changed {
                return Err(format!("`{}` in it was made or changed meanwhile", printable_bytes(&inner)));
            }
        }
        Ok(())
    }

    fn take(&self, told: &Told, notes: &mut Vec<String>) -> std::io::Result<()> {
        let path = &told.path.0;
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path.as_slice()),
        };
        if told.fate == Fate::Deleted {
            return match open_folder(self.root.as_fd(), above) {
                Ok(folder) => remove_in(&folder, OsStr::from_bytes(name)),
                Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(errno.into()),
            };
        }
        self.folders(above)?;
        let folder = open_folder(self.root.as_fd(), above)?;
        if told.old_kind.is_some() {
            remove_in(&folder, OsStr::from_bytes(name))?;
        }
        if told.mode & !PERMISSIONS != 0 && told.kind != Kind::Link {
            notes.push(format!("`{}`: its set-id and sticky bits were left out", printable_bytes(path)));
        }
        let mode = Mode::from(told.mode & PERMISSIONS);
        let content =
            told.fate == Fate::Added || told.aspects.contains(&Aspect::Content) || told.old_kind.is_some();
        match told.kind {
            Kind::File if content => self.file(&folder, name, path, mode),
            Kind::Link if content => {
                let target = told.target.as_ref().map(|target| target.0.as_slice()).unwrap_or_default();
                let fresh = fresh(name)?;
                symlinkat(target, &folder, fresh.as_slice())?;
                Ok(renameat(&folder, fresh.as_slice(), &folder, name)?)
            }
            Kind::Folder => {
                match mkdirat(&folder, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                set_mode(&folder, name, mode)
            }
            Kind::File => set_mode(&folder, name, mode),
            _ => Ok(()),
        }
    }

    /// The folders above what is taken over: when they are not picked themselves they are made all the same.
    fn folders(&self, above: &[u8]) -> std::io::Result<()> {
        let ends = (0..above.len()).filter(|at| above[*at] == b'/').chain([above.len()]);
        for end in ends.filter(|end| *end > 0) {
            let place = &above[..end];
            let (parent, name) = match place.iter().rposition(|byte| *byte == b'/') {
                Some(at) => (&place[..at], &place[at + 1..]),
                None => (&b""[..], place),
            };
            match mkdirat(open_folder(self.root.as_fd(), parent)?, name, Mode::from(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn file(&self, folder: &OwnedFd, name: &[u8], path: &[u8], mode: Mode) -> std::io::Result<()> {
        let source = super::meta::open_file(self.upper.as_fd(), path)?;
        let fresh = fresh(name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(folder, fresh.as_slice(), flags, Mode::RUSR | Mode::WUSR)?;
        let write = || -> std::io::Result<()> {
            let mut out = File::from(made.try_clone()?);
            std::io::copy(&mut &source, &mut out)?;
            out.flush()?;
            rustix::fs::fchmod(&made, mode)?;
            let stat = rustix::fs::fstat(&source)?;
            let last_modification =
                Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) };
            let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            futimens(&made, &Timestamps { last_access, last_modification })?;
            fsync(&made)?;
            Ok(renameat(folder, fresh.as_slice(), folder, name)?)
        };
        let written = write();
        if written.is_err() {
            // The first error is the one that is told.
            let _removed = unlinkat(folder, fresh.as_slice(), AtFlags::empty());
        }
        written
    }
}

/// A folder of the project goes with all that is in it.
fn replaces_folder(told: &Told) -> bool {
    (told.fate == Fate::Deleted && told.kind == Kind::Folder) || told.old_kind == Some(Kind::Folder)
}

/// A name beside `name` that nobody has.
fn fresh(name: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut random = [0_u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let mut fresh = b".tripmine-".to_vec();
    for byte in random {
        fresh.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    // Only for whoever finds one after a power cut; cut so that it fits (NAME_MAX).
    fresh.push(b'-');
    fresh.extend_from_slice(&name[..name.len().min(200)]);
    Ok(fresh)
}

fn set_mode(folder: &OwnedFd, name: &[u8], mode: Mode) -> std::io::Result<()> {
    let fd =
        openat2(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH)?;
    if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == rustix::fs::FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    Ok(chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)?)
}
