//! The helper: this program once more, run to read what strangers wrote. It can write nowhere but in the folder that it
//! was given (Landlock), has bounded memory, dies with its parent, and where files belong to subordinate ids it works in
//! a user namespace that maps them.
//!
//! The parent trusts nothing of it but that it ends: it checks the digests itself or has them compared.

mod confine;
mod process;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Failure;
use crate::model::image::{Compression, Digest};
use crate::store::fail::cannot;

use super::pack::{self, PackOptions};
use super::store::{Ownership, Store};
use super::unpack;

/// The word that makes this program the helper.
pub const HELPER_VERB: &str = "__image-helper";

/// How much an archive may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Members.
    pub entries: u64,
    /// Bytes of files, holes included, and of the archive itself.
    pub bytes: u64,
    /// From this many bytes on, the archive may not be more than `ratio` times what it was compressed to.
    pub ratio_from: u64,
    /// See `ratio_from`. gzip reaches 1030 on zeros, real layers 20.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 900_000, bytes: 64 << 30, ratio_from: 1 << 30, ratio: 200 }
    }
}

/// What an unpacked archive held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unpacked {
    /// The digest of the tar, when it was asked for.
    pub diff_id: Option<Digest>,
    /// Members.
    pub entries: u64,
    /// Lengths of its files, in bytes.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub devices: u64,
    /// Extended attributes that were left out.
    pub attributes: u64,
}

/// What a packed folder held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Packed {
    /// Members.
    pub entries: u64,
    /// Lengths of its files, in bytes.
    pub bytes: u64,
    /// Sockets and device nodes that were left out.
    pub skipped: u64,
}

/// How owners are written when unpacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owners {
    /// With chown(2).
    True,
    /// In an attribute: all belong to the caller.
    Noted,
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub(super) compression: Packing,
    pub(super) hash: bool,
    pub(super) owners: Owners,
    pub(super) limits: Limits,
}

/// [`Compression`] as it goes to the helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packing {
    /// None.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl From<Compression> for Packing {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::Plain,
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

impl Request {
    pub(super) fn unpack(store: &Store, compression: Compression, hash: bool) -> Self {
        let owners = if store.ownership.is_true() { Owners::True } else { Owners::Noted };
        Self { compression: compression.into(), hash, owners, limits: store.limits }
    }
}

/// One piece of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Work {
    /// `blob` into the folder `root`.
    Unpack { blob: PathBuf, root: PathBuf, request: Request },
    /// The digest of the tar in `blob`.
    Hash { blob: PathBuf, request: Request },
    /// The folder that is standard input, to standard output.
    Pack { options: PackOptions },
}

/// What the helper answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Unpacked(Unpacked),
    Packed(Packed),
    Failed { message: String, hints: Vec<String> },
}

/// How the helper is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// As a process of its own.
    Process,
    /// Here; for unit tests.
    #[cfg(test)]
    Here,
}

/// Takes what the helper packs.
type Sink<'a> = &'a mut dyn FnMut(&mut dyn Read) -> Result<(), Failure>;

impl Runner {
    pub(super) fn unpack(
        self,
        store: &Store,
        blob: &Path,
        root: &Path,
        request: &Request,
    ) -> Result<Unpacked, Failure> {
        let work = Work::Unpack { blob: blob.to_owned(), root: root.to_owned(), request: *request };
        match self.run(store, work, None, &mut |_| Ok(()))? {
            Reply::Unpacked(done) => Ok(done),
            other => Err(odd(&other)),
        }
    }

    pub(super) fn hash(
        self,
        store: &Store,
        blob: &Path,
        compression: Compression,
    ) -> Result<Digest, Failure> {
        let request = Request::unpack(store, compression, true);
        match self.run(store, Work::Hash { blob: blob.to_owned(), request }, None, &mut |_| Ok(()))? {
            Reply::Unpacked(Unpacked { diff_id: Some(digest), .. }) => Ok(digest),
            other => Err(odd(&other)),
        }
    }

    pub(super) fn pack(
        self,
        store: &Store,
        folder: BorrowedFd<'_>,
        options: &PackOptions,
        sink: Sink<'_>,
    ) -> Result<Packed, Failure> {
        match self.run(store, Work::Pack { options: options.clone() }, Some(folder), sink)? {
            Reply::Packed(done) => Ok(done),
            other => Err(odd(&other)),
        }
    }

    fn run(
        self,
        store: &Store,
        work: Work,
        folder: Option<BorrowedFd<'_>>,
        sink: Sink<'_>,
    ) -> Result<Reply, Failure> {
        let reply = match self {
            Self::Process => process::run(&store.ownership, work, folder, sink)?,
            #[cfg(test)]
            Self::Here => {
                let mut packed = Vec::new();
                let reply = answer(carry_out(&work, folder, &mut packed));
                if matches!(reply, Reply::Packed(_)) {
                    sink(&mut &packed[..])?;
                }
                reply
            }
        };
        match reply {
            Reply::Failed { message, hints } => {
                let failure = Failure::failed(message);
                Err(hints.into_iter().fold(failure, Failure::hint))
            }
            reply => Ok(reply),
        }
    }
}

fn odd(reply: &Reply) -> Failure {
    Failure::failed(format!("the helper gave an answer to another question: {reply:?}"))
}

fn answer(result: Result<Reply, Failure>) -> Reply {
    result.unwrap_or_else(|failure| {
        let message = failure.to_string();
        Reply::Failed { message, hints: failure.hints }
    })
}

/// Does the work, in the helper.
fn carry_out(
    work: &Work,
    folder: Option<BorrowedFd<'_>>,
    out: &mut dyn std::io::Write,
) -> Result<Reply, Failure> {
    let open = |path: &Path| File::open(path).map_err(|error| cannot("open", path, error));
    match work {
        Work::Unpack { blob, root, request } => {
            let (blob, root) = (open(blob)?, open(root)?);
            confine::here(Some(root.as_fd()))?;
            unpack::unpack(blob, root.as_fd(), request).map(Reply::Unpacked)
        }
        Work::Hash { blob, request } => {
            let blob = open(blob)?;
            confine::here(None)?;
            unpack::hash(blob, request).map(Reply::Unpacked)
        }
        Work::Pack { options } => {
            let folder = folder.ok_or_else(|| Failure::failed("there is no folder to pack"))?;
            confine::here(Some(folder))?;
            pack::pack(folder, options, out).map(Reply::Packed)
        }
    }
}

pub use process::{main, widen};

/// True when the ownership needs a user namespace.
fn mapped(ownership: &Ownership) -> bool {
    matches!(ownership, Ownership::Mapped { .. })
}
