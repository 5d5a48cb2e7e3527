//! The root of the image `host`: empty folders, the host's own links (`/bin -> usr/bin`), and an
//! `/etc` that is partly made here and partly copied from the host by an allow-list.
//!
//! Owns which of the host's settings a cube sees. Refuses secrets: nothing that is not
//! world-readable, no shadow, no ssh, no password in a URL, never the host's machine id. A finished
//! skeleton is named by a hash of what went in and shared by every launch.

mod copy;
mod key;
mod made;
pub mod over;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, flock, openat, utimensat,
};
use rustix::io::{Errno, retry_on_intr};

use super::remove::remove_tree;
use crate::model::sanitize::printable;

/// The host name that stands in the skeleton until a cube gets its own.
pub const PLACEHOLDER_HOSTNAME: &str = "cube";
/// Skeletons that nobody used for this long may go, if no cube is older.
const IDLE: Duration = Duration::from_secs(600);
/// A use that was noted so short a time ago need not be noted again; far below [`IDLE`].
const FRESH: Duration = Duration::from_secs(60);
const PREFIX: &str = "host-";
const PREFIXES: [&str; 2] = [PREFIX, over::PREFIX];
const STAMP: &str = ".used";

/// Empty files that a launch covers with the host's device nodes.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links of /dev that programs rely on.
const DEV_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Folders that every root has, with their modes.
const FOLDERS: &[(&str, u32)] = &[
    ("proc", 0o755),
    ("sys", 0o755),
    ("dev", 0o755),
    ("dev/pts", 0o755),
    ("dev/shm", 0o1777),
    ("tmp", 0o1777),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("var", 0o755),
    ("var/tmp", 0o1777),
    ("var/log", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("home", 0o755),
    ("root", 0o700),
    ("usr", 0o755),
    ("mnt", 0o755),
    ("media", 0o755),
    ("opt", 0o755),
    ("srv", 0o755),
    ("projects", 0o755),
    ("work", 0o755),
    ("etc", 0o755),
];

/// The user that the skeleton's `/etc/passwd` knows, besides root and nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkeletonUser {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Name inside.
    pub name: String,
    /// Home inside, absolute.
    pub home: String,
    /// Login shell inside, absolute.
    pub shell: String,
}

/// The root of `host`: the skeleton, and what is laid over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skeleton {
    /// Its folder.
    pub folder: PathBuf,
    /// The host's folders that are laid over it, as [`system_trees`] gives them.
    pub system: Vec<PathBuf>,
}

/// Why there is no skeleton.
#[derive(Debug, thiserror::Error)]
pub enum SkeletonError {
    /// A field that would break the line of `/etc/passwd`, or is no absolute path.
    #[error("the {field} `{}` cannot stand in a passwd file", printable(value))]
    User {
        /// Which.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The system said no.
    #[error("cannot {what} `{}`", printable(&path.to_string_lossy()))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl SkeletonError {
    fn io(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { what, path: path.to_owned(), source: source.into() }
    }
}

impl From<SkeletonError> for crate::model::Failure {
    fn from(error: SkeletonError) -> Self {
        let failure = Self::failed(error.to_string());
        match &error {
            SkeletonError::Io { source, .. } => failure.because(source),
            SkeletonError::User { .. } => failure,
        }
    }
}

/// The skeleton for `user`, made when there is none yet: a folder of `layers` that is never
/// changed afterwards. `machine_id_seed` decides `/etc/machine-id`. When it exists this costs one
/// look at each top-level file that goes in.
///
/// # Errors
/// A user that cannot stand in a passwd file, or a failure to write.
pub fn ensure(layers: &Path, user: &SkeletonUser, machine_id_seed: &str) -> Result<Skeleton, SkeletonError> {
    ensure_from(Path::new("/"), layers, user, machine_id_seed)
}

/// The host folders that are laid over the skeleton, in order: `/usr`, those of `/bin`, `/lib` … that
/// are no links into it, and the stores of Nix and Guix.
#[must_use]
pub fn system_trees() -> Vec<PathBuf> {
    key::system_trees_of(Path::new("/"))
}

/// Removes skeletons that no cube can use: not among `current`, not used in the last ten minutes, and
/// last used before the oldest live cube was launched (`None`: no cube lives). How many went.
///
/// # Errors
/// When the folder cannot be read or a skeleton cannot be removed.
pub fn prune(
    layers: &Path,
    current: &[PathBuf],
    oldest_live: Option<SystemTime>,
) -> Result<usize, SkeletonError> {
    prune_before(layers, current, oldest_live, SystemTime::now() - IDLE)
}

fn prune_before(
    layers: &Path,
    current: &[PathBuf],
    oldest_live: Option<SystemTime>,
    idle_since: SystemTime,
) -> Result<usize, SkeletonError> {
    let limit = oldest_live.map_or(idle_since, |oldest| oldest.min(idle_since));
    let entries = match fs::read_dir(layers) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(SkeletonError::io("read", layers, error)),
    };
    let _alone = lock(layers)?;
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name
            .to_str()
            .filter(|name| PREFIXES.iter().any(|prefix| name.trim_start_matches('.').starts_with(prefix)))
        else {
            continue;
        };
        let folder = layers.join(name);
        if name.ends_with(STAMP) || current.contains(&folder) {
            continue;
        }
        // What begins with a dot was being made or removed when somebody died: we are alone here.
        if !name.starts_with('.') {
            let (stamp, aside) = (stamp_path(&folder), layers.join(format!(".{name}{STAMP}")));
            if fs::rename(&stamp, &aside).is_ok() {
                // Looked at after it was moved: who comes now finds no stamp and waits for the lock.
                let used = fs::metadata(&aside).and_then(|meta| meta.modified());
                if !used.is_ok_and(|used| used < limit) {
                    fs::rename(&aside, &stamp).map_err(|error| SkeletonError::io("rename", &aside, error))?;
                    continue;
                }
                fs::remove_file(&aside).map_err(|error| SkeletonError::io("remove", &aside, error))?;
            }
            removed += 1;
        }
        remove_tree(&folder).map_err(|error| SkeletonError::io("remove", &folder, error))?;
    }
    Ok(removed)
}

/// As [`ensure`], with another folder in the place of the host's root.
fn ensure_from(
    root: &Path,
    layers: &Path,
    user: &SkeletonUser,
    seed: &str,
) -> Result<Skeleton, SkeletonError> {
    made::check_user(user)?;
    let facts = key::gather(root, user, seed);
    let folder = layers.join(format!("{PREFIX}{}", facts.hash));
    if touch(&folder).is_err() {
        make(root, layers, user, seed, &facts, &folder)?;
    }
    Ok(Skeleton { folder, system: facts.trees })
}

fn make(
    root: &Path,
    layers: &Path,
    user: &SkeletonUser,
    seed: &str,
    facts: &key::Facts,
    folder: &Path,
) -> Result<(), SkeletonError> {
    fs::DirBuilder::new()
        .recursive(true)
        .create(layers)
        .map_err(|error| SkeletonError::io("make", layers, error))?;
    let _alone = lock(layers)?;
    // Somebody may have made it while we waited.
    if touch(folder).is_ok() {
        return Ok(());
    }
    // A folder without a stamp is one that was not finished, or is being pruned.
    remove_tree(folder).map_err(|error| SkeletonError::io("remove", folder, error))?;
    let fresh = tempfile::Builder::new()
        .prefix(".host-")
        .tempdir_in(layers)
        .map_err(|error| SkeletonError::io("make a folder in", layers, error))?;
    build(root, fresh.path(), user, seed, facts)
        .map_err(|error| SkeletonError::io("write the system's skeleton in", fresh.path(), error))?;
    fs::rename(fresh.path(), folder).map_err(|error| SkeletonError::io("rename", fresh.path(), error))?;
    // It has its name: nothing is there to clean up any more.
    drop(fresh.keep());
    File::create(stamp_path(folder)).map_err(|error| SkeletonError::io("write", folder, error))?;
    Ok(())
}

fn build(root: &Path, fresh: &Path, user: &SkeletonUser, seed: &str, facts: &key::Facts) -> io::Result<()> {
    fs::set_permissions(fresh, Permissions::from_mode(0o755))?;
    for (name, mode) in FOLDERS {
        make_folder(&fresh.join(name), *mode)?;
    }
    for name in DEVICES {
        std::fs::File::create(fresh.join("dev").join(name))?;
    }
    for (name, target) in DEV_LINKS {
        symlink(target, fresh.join("dev").join(name))?;
    }
    symlink("../run", fresh.join("var/run"))?;
    symlink("../run/lock", fresh.join("var/lock"))?;
    for (name, target) in &facts.links {
        symlink(target, fresh.join(name))?;
    }
    for tree in &facts.trees {
        let inside = fresh.join(tree.strip_prefix("/").unwrap_or(tree));
        fs::create_dir_all(inside)?;
    }
    // Where the home is mounted; `check_user` has seen to it that the path stays inside.
    fs::create_dir_all(fresh.join(user.home.trim_start_matches('/')))?;
    let etc = fresh.join("etc");
    copy::copy_etc(root, &etc, &key::allowed_in(root)?, &facts.trees)?;
    made::write_etc(root, &etc, user, seed)
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    // The mask of the caller must not decide.
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn stamp_path(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(STAMP);
    name.into()
}

/// Notes that the skeleton is used now, unless that was noted a moment ago: a change of an inode may have to wait for the disk.
/// Fails when there is none.
fn touch(folder: &Path) -> Result<(), Errno> {
    let noted = fs::symlink_metadata(stamp_path(folder)).and_then(|stamp| stamp.modified());
    if noted.is_ok_and(|noted| noted.elapsed().is_ok_and(|ago| ago < FRESH)) {
        return Ok(());
    }
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    utimensat(CWD, stamp_path(folder), &times, AtFlags::empty())
}

/// Held by who makes or removes skeletons.
fn lock(layers: &Path) -> Result<OwnedFd, SkeletonError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, layers, flags, Mode::empty())
        .and_then(|folder| retry_on_intr(|| flock(&folder, FlockOperation::LockExclusive)).map(|()| folder))
        .map_err(|error| SkeletonError::io("lock", layers, error))
}

#[cfg(test)]
mod tests;
