//! Unpacking: a stranger's tar into a folder, and never past it.
//!
//! Every name is resolved by the kernel with the folder as its root (openat2(2), `RESOLVE_IN_ROOT`), so a link in the
//! archive, however it came there, leads to a place inside or nowhere. What is there already is unlinked, never written
//! through. Sizes, counts, depths and the ratio of compression are bounded. An archive that breaks a rule is refused with
//! the member's name; the caller removes what was unpacked so far.

mod files;
mod place;
mod stream;

/// What packing and unpacking have in common.
pub(super) mod marks {
    pub(in crate::image) use super::files::{OPAQUE, OWNER, mtime};
}

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::BorrowedFd;

use crate::model::Failure;

use super::helper::{Limits, Request, Unpacked};
use super::tar::read::TarReader;
use super::tar::{Kind, Member, TarError, shown};

use place::Place;
use stream::Tar;

/// The longest name (a file system's limit), path and depth.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4000;
const DEPTH_MAX: usize = 256;

/// The prefix of a deletion's name, and the mark of a folder that hides the lower one (OCI image layer, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A member is refused.
    #[error("`{name}`: {why}")]
    Refused {
        /// The member, made printable.
        name: String,
        /// Why.
        why: String,
    },
    /// A member could not be made.
    #[error("cannot make `{name}`: {source}")]
    Make {
        /// The member, made printable.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds too much.
    #[error("it holds more than {0}")]
    TooMuch(String),
}

impl UnpackError {
    fn refused(path: &[u8], why: impl Into<String>) -> Self {
        Self::Refused { name: shown(path), why: why.into() }
    }

    fn make(path: &[u8], source: impl Into<std::io::Error>) -> Self {
        Self::Make { name: shown(path), source: source.into() }
    }
}

impl From<UnpackError> for Failure {
    fn from(error: UnpackError) -> Self {
        let failure = Self::failed(format!("the archive is refused: {error}"));
        let system = match &error {
            UnpackError::Make { source, .. } | UnpackError::Tar(TarError::Read(source)) => {
                source.raw_os_error()
            }
            _ => None,
        };
        match (&error, system) {
            (_, Some(libc::ENOSPC | libc::EDQUOT)) => {
                Self::failed(format!("the disk is full: {error}")).hint("`tripmine prune` makes room")
            }
            (UnpackError::TooMuch(_), _) => {
                failure.hint("`--max-size SIZE` lets an archive that you trust be larger")
            }
            _ => failure,
        }
    }
}

/// What a folder gets when all of its contents are there.
#[derive(Debug, Clone, Copy)]
struct FolderEnd {
    mode: u32,
    mtime: super::tar::Time,
}

/// Unpacks the archive in `blob` into the empty folder `root`.
///
/// # Errors
/// The archive is refused; what was unpacked so far stays for the caller to remove.
pub fn unpack(blob: File, root: BorrowedFd<'_>, request: &Request) -> Result<Unpacked, Failure> {
    let tar = Tar::open(blob, request)?;
    let mut reader = TarReader::new(tar);
    let mut place = Place::new(root, request.owners);
    let mut done = Unpacked::default();
    let mut folders: BTreeMap<Vec<u8>, FolderEnd> = BTreeMap::new();
    folders.insert(Vec::new(), FolderEnd { mode: 0o755, mtime: (0, 0) });
    while let Some(member) = reader.next_member().map_err(UnpackError::from)? {
        done.entries += 1;
        check(&member, &done, &request.limits)?;
        done.bytes += member.size;
        let path = split(&member.path)?;
        match path.split_last() {
            None => {
                // The root itself: only a folder makes sense.
                if member.kind == Kind::Folder {
                    place.own_root(&member)?;
                    folders.insert(Vec::new(), FolderEnd { mode: member.mode, mtime: member.mtime });
                }
            }
            Some((name, above)) => {
                if let Some(deleted) = name.strip_prefix(WHITEOUT) {
                    place.whiteout(above, name, deleted, &member)?;
                } else if member.kind == Kind::Device {
                    done.devices += 1;
                } else {
                    if member.kind == Kind::Folder {
                        folders
                            .insert(path.join(&b'/'), FolderEnd { mode: member.mode, mtime: member.mtime });
                    }
                    done.attributes += place.member(above, name, &member, &mut reader.contents())?;
                }
            }
        }
    }
    place.finish(&folders)?;
    done.diff_id = reader.into_inner().finish()?;
    Ok(done)
}

/// The digest of the tar in `blob`, which is not unpacked.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn hash(blob: File, request: &Request) -> Result<Unpacked, Failure> {
    let diff_id = Tar::open(blob, request)?.finish()?;
    Ok(Unpacked { diff_id, ..Unpacked::default() })
}

fn check(member: &Member, done: &Unpacked, limits: &Limits) -> Result<(), UnpackError> {
    if done.entries > limits.entries {
        return Err(UnpackError::TooMuch(format!("{} files and folders", limits.entries)));
    }
    if member.size > limits.bytes.saturating_sub(done.bytes) {
        let size = crate::model::ByteSize::bytes(limits.bytes);
        return Err(UnpackError::TooMuch(format!("{size}, at `{}`", member.shown())));
    }
    Ok(())
}

/// The parts of a name, from the root down. A leading slash counts for nothing, as for every tar.
fn split(path: &[u8]) -> Result<Vec<&[u8]>, UnpackError> {
    let refused = |why: &str| Err(UnpackError::refused(path, why));
    if path.len() > PATH_MAX {
        return refused(&format!("its path has {} bytes, more than {PATH_MAX}", path.len()));
    }
    if path.contains(&0) {
        return refused("its name holds a NUL byte");
    }
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.len() > DEPTH_MAX {
        return refused(&format!("it lies {} folders deep, more than {DEPTH_MAX}", parts.len()));
    }
    if parts.iter().any(|part| *part == b"..") {
        return refused("`..` leads out of the image");
    }
    if let Some(long) = parts.iter().find(|part| part.len() > NAME_MAX) {
        return refused(&format!("a name in it has {} bytes, more than {NAME_MAX}", long.len()));
    }
    let above = parts.len().saturating_sub(1);
    if parts[..above].iter().any(|part| part.starts_with(WHITEOUT)) {
        return refused("a folder in it is named like a deletion (`.wh.`)");
    }
    Ok(parts)
}

#[cfg(test)]
mod tests;
