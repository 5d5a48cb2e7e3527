//! `Layout`: the five folders of tripmine, and what stands where in them.
//!
//! Finding them is pure ([`Layout::from_env`]); only [`Layout::settle`] and [`Layout::ensure`] look
//! at the disk.

use std::ffi::OsString;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::model::{Failure, FailureKind, Name};

use super::fail::{cannot, shown};

/// A unix socket's path has 108 bytes with its NUL.
const SOCKET_PATH_MAX: usize = 107;
/// `/`, a TripID and `.sock`: the name that [`super::cubes::socket_path`] gives.
const SOCKET_NAME: usize = 38;

/// The five folders, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What the user wrote: config.toml, machines/, themes/.
    pub config: PathBuf,
    /// What is kept: homes/, trash/, images/, layers/, journal.jsonl.
    pub data: PathBuf,
    /// What runs leave: Mines/, locks/.
    pub state: PathBuf,
    /// What can be made again: vm/.
    pub cache: PathBuf,
    /// Sockets of what runs now.
    pub run: PathBuf,
}

impl Layout {
    /// Where the folders are, from the environment alone.
    ///
    /// `TRIPMINE_HOME` puts all under one folder; otherwise the XDG variables, each with its
    /// default. An empty variable counts as unset. The runtime folder is a first choice, see
    /// [`Layout::settle`].
    ///
    /// # Errors
    /// A variable holds a relative path, or neither it nor `HOME` is set.
    pub fn from_env(lookup: impl Fn(&str) -> Option<OsString>, uid: u32) -> Result<Self, Failure> {
        let folder = |variable: &str| -> Result<Option<PathBuf>, Failure> {
            match lookup(variable).filter(|value| !value.is_empty()).map(PathBuf::from) {
                Some(path) if path.is_absolute() => Ok(Some(path)),
                Some(path) => Err(Failure::new(
                    FailureKind::Config,
                    format!("{variable} must be an absolute path: `{}`", shown(&path)),
                )),
                None => Ok(None),
            }
        };
        if let Some(root) = folder("TRIPMINE_HOME")? {
            return Ok(Self::under(&root));
        }
        let home = folder("HOME")?;
        let base = |variable: &str, default: &str| -> Result<PathBuf, Failure> {
            let base = folder(variable)?.or_else(|| home.as_ref().map(|home| home.join(default)));
            base.map(|base| base.join("tripmine")).ok_or_else(|| {
                Failure::new(FailureKind::Config, format!("neither HOME nor {variable} is set"))
                    .hint("set HOME, or TRIPMINE_HOME to a folder for everything that tripmine keeps")
            })
        };
        let data = base("XDG_DATA_HOME", ".local/share")?;
        Ok(Self {
            config: base("XDG_CONFIG_HOME", ".config")?,
            // Whoever has no home and names no cache has named the others.
            cache: base("XDG_CACHE_HOME", ".cache").or_else(|failure| match home {
                None if folder("XDG_CACHE_HOME")?.is_none() => Ok(data.join("cache")),
                _ => Err(failure),
            })?,
            data,
            state: base("XDG_STATE_HOME", ".local/state")?,
            run: folder("XDG_RUNTIME_DIR")?
                .unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}")))
                .join("tripmine"),
        })
    }

    /// All of them under one folder.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self {
            config: root.join("config"),
            data: root.join("data"),
            state: root.join("state"),
            cache: root.join("cache"),
            run: root.join("run"),
        }
    }

    /// Decides on a runtime folder that this login really has: the one named, else `/run/user/UID`,
    /// else `/tmp/tripmine-UID`. Without a session manager (su, containers, cron) the first two may
    /// be missing or another user's. A `TRIPMINE_HOME` layout stays as it is.
    #[must_use]
    pub fn settle(mut self, uid: u32) -> Self {
        let own = |base: &Path| {
            std::fs::symlink_metadata(base).is_ok_and(|found| found.is_dir() && found.uid() == uid)
        };
        let one_root = self.run.parent() == self.data.parent();
        if one_root || self.run.parent().is_some_and(own) {
            return self;
        }
        let session = PathBuf::from(format!("/run/user/{uid}"));
        self.run = if own(&session) {
            session.join("tripmine")
        } else {
            PathBuf::from(format!("/tmp/tripmine-{uid}"))
        };
        self
    }

    /// Makes the data, state and runtime folders (0700) where they are missing. Three system calls
    /// when nothing is. The runtime folder must be the caller's own and closed to others: it may
    /// lie in `/tmp`, where anybody could have made it first.
    ///
    /// # Errors
    /// A folder cannot be made, is no folder, or is not safe to use.
    pub fn ensure(&self, uid: u32) -> Result<(), Failure> {
        for folder in [&self.data, &self.state] {
            match std::fs::metadata(folder) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(Failure::failed(format!("{} is no folder", shown(folder)))),
                Err(error) if error.kind() == ErrorKind::NotFound => make(folder)?,
                Err(error) => return Err(cannot("read", folder, error)),
            }
        }
        let found = match std::fs::symlink_metadata(&self.run) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(&self.run)?;
                std::fs::symlink_metadata(&self.run).map_err(|error| cannot("read", &self.run, error))?
            }
            other => other.map_err(|error| cannot("read", &self.run, error))?,
        };
        self.check_run(&found, uid)?;
        let length = self.run.as_os_str().len() + SOCKET_NAME;
        if length > SOCKET_PATH_MAX {
            return Err(Failure::new(
                FailureKind::Config,
                format!("the folder for sockets has too long a path: {}", shown(&self.run)),
            )
            .hint("choose a shorter TRIPMINE_HOME or XDG_RUNTIME_DIR"));
        }
        Ok(())
    }

    fn check_run(&self, found: &Metadata, uid: u32) -> Result<(), Failure> {
        let denied = |what: String| {
            Err(Failure::new(
                FailureKind::Denied,
                format!("the folder for sockets {what}: {}", shown(&self.run)),
            )
            .hint("remove it, or set TRIPMINE_HOME to a folder of your own"))
        };
        if !found.is_dir() {
            return denied("is no folder (links are not followed)".to_owned());
        }
        if found.uid() != uid {
            return denied(format!("belongs to user {}, not to you ({uid})", found.uid()));
        }
        if found.mode() & 0o077 == 0 {
            return Ok(());
        }
        // Ours, but open to others: what lies in it may be theirs already, unless nobody else
        // can reach it.
        if self.run.parent() == Some(Path::new("/tmp")) {
            return denied(format!("is open to others (mode {:03o})", found.mode() & 0o777));
        }
        std::fs::set_permissions(&self.run, Permissions::from_mode(0o700))
            .map_err(|error| cannot("close to others", &self.run, error))
    }

    /// `config.toml`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The machines' files.
    #[must_use]
    pub fn machines_dir(&self) -> PathBuf {
        self.config.join("machines")
    }

    /// A machine's file.
    #[must_use]
    pub fn machine_file(&self, name: &Name) -> PathBuf {
        self.machines_dir().join(format!("{name}.toml"))
    }

    /// Kernels made ready for microvms, and what was found out about their programs: all of it can be made again.
    #[must_use]
    pub fn vm_dir(&self) -> PathBuf {
        self.cache.join("vm")
    }

    /// The machines' homes.
    #[must_use]
    pub fn homes_dir(&self) -> PathBuf {
        self.data.join("homes")
    }

    /// A machine's home.
    #[must_use]
    pub fn home(&self, name: &Name) -> PathBuf {
        self.homes_dir().join(name.as_str())
    }

    /// What was deleted and can come back.
    #[must_use]
    pub fn trash_dir(&self) -> PathBuf {
        self.data.join("trash")
    }

    /// What was done.
    #[must_use]
    pub fn journal_file(&self) -> PathBuf {
        self.data.join("journal.jsonl")
    }

    /// Unpacked image layers.
    #[must_use]
    pub fn layers_dir(&self) -> PathBuf {
        self.data.join("layers")
    }

    /// The cubes, a folder each.
    #[must_use]
    pub fn mines_dir(&self) -> PathBuf {
        self.state.join("Mines")
    }

    /// Lock files.
    #[must_use]
    pub fn locks_dir(&self) -> PathBuf {
        self.state.join("locks")
    }
}

fn make(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        let cannot_write =
            matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
        let failure = cannot("create", folder, error);
        if cannot_write {
            failure.hint("set TRIPMINE_HOME to a folder of your own, for everything that tripmine keeps")
        } else {
            failure
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Layout, Failure> {
        Layout::from_env(
            |key| variables.iter().find(|(name, _)| *name == key).map(|(_, value)| value.into()),
            1000,
        )
    }

    #[test]
    fn folders_follow_the_environment() {
        let xdg = from(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("XDG_STATE_HOME", "")]).expect("xdg");
        assert_eq!(xdg.config, Path::new("/h/.config/tripmine"));
        assert_eq!(xdg.data, Path::new("/d/tripmine"));
        assert_eq!(xdg.state, Path::new("/h/.local/state/tripmine"));
        assert_eq!(xdg.vm_dir(), Path::new("/h/.cache/tripmine/vm"));
        let named = from(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]).expect("xdg");
        assert_eq!(named.cache, Path::new("/c/tripmine"));
        let homeless = ["CONFIG", "DATA", "STATE"].map(|name| (format!("XDG_{name}_HOME"), "/x"));
        let homeless: Vec<_> = homeless.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        assert_eq!(from(&homeless).expect("xdg").cache, Path::new("/x/tripmine/cache"));
        assert_eq!(xdg.run, Path::new("/run/user/1000/tripmine"));
        let one = from(&[("TRIPMINE_HOME", "/t"), ("XDG_DATA_HOME", "relative")]).expect("one");
        assert_eq!(one, Layout::under(Path::new("/t")));
        for (variables, part) in [
            (&[("HOME", "h")][..], "HOME must be an absolute path"),
            (&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "run")], "XDG_RUNTIME_DIR must be"),
            (&[("TRIPMINE_HOME", ".")], "TRIPMINE_HOME must be"),
            (&[], "neither HOME nor"),
        ] {
            assert!(from(variables).expect_err(part).message.contains(part), "{part}");
        }
    }

    #[test]
    fn a_socket_fits_where_ensure_says_so() {
        let id = crate::model::TripId::from_parts(1, [1; 16]);
        let socket = super::super::cubes::socket_path(Path::new("/t"), &id);
        assert_eq!(socket.as_os_str().len(), "/t".len() + SOCKET_NAME);
        let folder = tempfile::tempdir().expect("tempdir");
        let mut layout = Layout::under(folder.path());
        let uid = rustix::process::geteuid().as_raw();
        let base = folder.path().as_os_str().len() + 1;
        for (length, fits) in
            [(SOCKET_PATH_MAX - SOCKET_NAME, true), (SOCKET_PATH_MAX - SOCKET_NAME + 1, false)]
        {
            layout.run = folder.path().join("x".repeat(length - base));
            assert_eq!(layout.ensure(uid).is_ok(), fits, "{length}");
            let bound =
                std::os::unix::net::UnixListener::bind(super::super::cubes::socket_path(&layout.run, &id));
            assert_eq!(bound.is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn ensure_makes_private_folders_and_refuses_odd_ones() {
        let folder = tempfile::tempdir().expect("tempdir");
        let uid = rustix::process::geteuid().as_raw();
        let layout = Layout::under(folder.path());
        layout.ensure(uid).expect("ensure");
        layout.ensure(uid).expect("again");
        let mode = |path: &Path| std::fs::metadata(path).expect("stat").mode() & 0o777;
        assert_eq!((mode(&layout.data), mode(&layout.run)), (0o700, 0o700));
        std::fs::set_permissions(&layout.run, Permissions::from_mode(0o755)).expect("chmod");
        layout.ensure(uid).expect("closes it");
        assert_eq!(mode(&layout.run), 0o700);
        assert!(layout.ensure(uid + 1).expect_err("owner").message.contains("belongs to user"));
        std::fs::remove_dir(&layout.run).expect("rmdir");
        std::os::unix::fs::symlink(folder.path(), &layout.run).expect("link");
        assert!(layout.ensure(uid).expect_err("link").message.contains("is no folder"));
        let deep = Layout::under(&folder.path().join("x".repeat(90)));
        assert!(deep.ensure(uid).expect_err("deep").message.contains("too long"));
    }

    #[test]
    fn settle_falls_back_only_when_the_session_has_no_folder() {
        let folder = tempfile::tempdir().expect("tempdir");
        let uid = rustix::process::geteuid().as_raw();
        let mut layout = Layout::under(Path::new("/h"));
        layout.run = folder.path().join("tripmine");
        assert_eq!(layout.clone().settle(uid), layout);
        layout.run = folder.path().join("missing/tripmine");
        assert_ne!(layout.clone().settle(uid).run, layout.run);
        let one = Layout::under(Path::new("/not/there"));
        assert_eq!(one.clone().settle(uid), one);
    }
}
