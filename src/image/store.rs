//! `Store`: where images lie, who owns what is unpacked, and the locks between those who add, use and collect.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::host::probe;
use crate::model::host::{HelperFacts, IdSpan};
use crate::model::image::Digest;
use crate::model::{Failure, RunAs};
use crate::plan::facts::{Caller, CallerEnv, IdRange, SubordinateIds};
use crate::plan::idmap;
use crate::plan::launch::{IdMap, MapWriter};
use crate::store::fail::cannot;
use crate::store::layout::Layout;
use crate::store::lock::{self, Lock};

use super::helper::Runner;

/// Who owns unpacked files; see the page of [`crate::image`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// The true ids, made by the host's root.
    Root,
    /// The true ids, through these maps.
    Mapped {
        /// User ids.
        uid_map: Vec<IdMap>,
        /// Group ids.
        gid_map: Vec<IdMap>,
    },
    /// The caller alone.
    One,
}

impl Ownership {
    /// What this host gives `uid`, whose login name is `name`. The same decision as that of a launch with `--user root`.
    #[must_use]
    pub fn of_host(uid: u32, gid: u32, name: &str) -> Self {
        if uid == 0 {
            return Self::Root;
        }
        let facts = probe::subordinate_ids(name);
        let range = |span: IdSpan| IdRange { start: span.start, count: span.count };
        let ids = facts
            .uids
            .zip(facts.gids)
            .map(|(uids, gids)| SubordinateIds { uids: range(uids), gids: range(gids) });
        let ready = |helper: &HelperFacts| matches!(helper, HelperFacts::Ready(_));
        let helpers = ready(&facts.newuidmap) && ready(&facts.newgidmap);
        let caller = Caller {
            uid,
            gid,
            name: name.to_owned(),
            home: PathBuf::from("/"),
            hard_open_files: 0,
            env: CallerEnv::default(),
        };
        let (user, _) = idmap::user(RunAs::Root, &caller, ids, helpers);
        match user.map_writer {
            MapWriter::Helper => Self::Mapped { uid_map: user.uid_map, gid_map: user.gid_map },
            MapWriter::Keeper | MapWriter::Own | MapWriter::Nobody => Self::One,
        }
    }

    /// True when unpacked files have their true owners.
    #[must_use]
    pub const fn is_true(&self) -> bool {
        !matches!(self, Self::One)
    }
}

/// A held lock that says that an image is in use.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

/// The images of one user.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) layout: Layout,
    pub(super) ownership: Ownership,
    pub(super) runner: Runner,
    pub(super) limits: super::helper::Limits,
}

impl Store {
    /// The store of `layout`. Looks at nothing but the password file and the caller's subordinate ids; what is not there
    /// yet is an empty store.
    ///
    /// # Errors
    /// The program's own file cannot be found: it is run again to unpack.
    pub fn open(layout: &Layout) -> Result<Self, Failure> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let name = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
        let name = name.map_or_else(|| uid.to_string(), |user| user.name);
        Ok(Self {
            layout: layout.clone(),
            ownership: Ownership::of_host(uid, gid, &name),
            runner: Runner::Process,
            limits: super::helper::Limits::default(),
        })
    }

    /// A store whose helper works in this process, for unit tests: they are not the program that could be run again.
    #[cfg(test)]
    pub(crate) fn for_tests(root: &Path) -> Self {
        let uid = rustix::process::geteuid();
        Self {
            layout: Layout::under(root),
            ownership: if uid.is_root() { Ownership::Root } else { Ownership::One },
            runner: Runner::Here,
            limits: super::helper::Limits::default(),
        }
    }

    /// Changes how much an archive may unpack to.
    #[must_use]
    pub fn with_limits(mut self, limits: super::helper::Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Who owns unpacked files here.
    #[must_use]
    pub const fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The OCI image layout.
    #[must_use]
    pub fn images_dir(&self) -> PathBuf {
        self.layout.data.join("images")
    }

    /// A blob's file.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs_dir().join(digest.hex())
    }

    pub(super) fn blobs_dir(&self) -> PathBuf {
        self.images_dir().join("blobs/sha256")
    }

    pub(super) fn partial_dir(&self) -> PathBuf {
        self.images_dir().join("partial")
    }

    pub(super) fn quarantine_dir(&self) -> PathBuf {
        self.images_dir().join("quarantine")
    }

    pub(super) fn index_file(&self) -> PathBuf {
        self.images_dir().join("index.json")
    }

    pub(super) fn ingest_dir(&self) -> PathBuf {
        self.layout.data.join("ingest")
    }

    /// The folder of an unpacked layer; `root/` in it is what an overlay takes.
    #[must_use]
    pub fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        let one = if self.ownership.is_true() { "" } else { ".one" };
        self.layout.layers_dir().join(format!("sha256-{}{one}", diff_id.hex()))
    }

    /// Says that the image of this manifest is in use until the value is dropped or the process ends: neither its blobs
    /// nor its layers are collected meanwhile.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub fn hold(&self, digest: &Digest) -> Result<Hold, Failure> {
        // A collection that is under way has not seen this lock.
        let _adding = lock::shared(&self.layout, GC)?;
        let path = self.hold_file(digest);
        let file = lock::file(&self.layout, &format!("image-{}", digest.hex()))?;
        file.lock_shared().map_err(|error| cannot("lock", &path, error))?;
        Ok(Hold { _file: file })
    }

    pub(super) fn hold_file(&self, digest: &Digest) -> PathBuf {
        self.layout.locks_dir().join(format!("image-{}", digest.hex()))
    }

    /// Manifests that something holds now.
    pub(super) fn held(&self) -> Result<Vec<Digest>, Failure> {
        let folder = self.layout.locks_dir();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &folder, error)),
        };
        let mut held = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| cannot("read", &folder, error))?;
            let name = entry.file_name();
            let Some(digest) =
                name.to_str().and_then(|name| name.strip_prefix("image-")).and_then(Digest::from_hex)
            else {
                continue;
            };
            let file = File::open(entry.path()).map_err(|error| cannot("open", &entry.path(), error))?;
            match file.try_lock() {
                // Nobody: the lock file itself may stay, it is empty and small.
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => held.push(digest),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(cannot("lock", &entry.path(), error));
                }
            }
        }
        Ok(held)
    }

    /// Makes the folders of the store, and the files that make it an OCI image layout.
    pub(super) fn ensure(&self) -> Result<(), Failure> {
        for folder in [self.blobs_dir(), self.layout.layers_dir(), self.ingest_dir()] {
            make(&folder)?;
        }
        let mark = self.images_dir().join("oci-layout");
        if !mark.exists() {
            crate::store::atomic::write_atomic(&mark, br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)
                .map_err(|error| cannot("write", &mark, error))?;
        }
        if !self.index_file().exists() {
            let _alone = lock::exclusive(&self.layout, INDEX)?;
            if !self.index_file().exists() {
                self.write_index(&crate::model::image::Index::default())?;
            }
        }
        Ok(())
    }

    pub(super) fn adding(&self) -> Result<Lock, Failure> {
        lock::shared(&self.layout, GC)
    }

    /// As [`Store::collecting`], if nobody adds now.
    pub(super) fn collecting_now(&self) -> Result<Option<Lock>, Failure> {
        lock::exclusive_now(&self.layout, GC)
    }

    pub(super) fn collecting(&self) -> Result<Lock, Failure> {
        lock::exclusive(&self.layout, GC)
    }
}

/// The lock between those who add and those who collect.
const GC: &str = "images";
/// The lock of those who change index.json.
pub(super) const INDEX: &str = "images-index";

pub(super) fn make(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| cannot("create", folder, error))
}
