//! What an upper layer changed against its lowers: a pure walk over plain entry values.
//!
//! Owns the meaning of whiteouts, opaque folders and copies without a difference (overlayfs(5)), and what of it is a
//! change for a person. Reads nothing: the trees are asked through [`Trees`], so that the same walk serves `changes`,
//! the question on exit, `--review` and a snapshot. Its memory grows with the largest folder, never with the tree.

mod ground;
mod walk;

pub use ground::{GROUND_VERSION, Ground, Region, UpperPlace};
pub use walk::{Trees, Visit, walk};

use serde::{Deserialize, Serialize};

/// The deepest folder that is looked into, and the longest path: what no program could open by its path is not walked.
pub const MAX_DEPTH: usize = 512;
/// `PATH_MAX` of limits.h, less its NUL.
pub const MAX_PATH: usize = 4095;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device node.
    Device,
}

impl Kind {
    /// The word shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Link => "link",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Device => "device",
        }
    }
}

/// Extended attributes: names and values, sorted.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// An entry of a tree, as lstat(2), readlink(2) and listxattr(2) tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky: 12 bits.
    pub mode: u32,
    /// Owner, as seen inside.
    pub uid: u32,
    /// Group, as seen inside.
    pub gid: u32,
    /// Bytes of a file; 0 for anything else.
    pub size: u64,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
    /// Last modification, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Where a link leads.
    pub target: Option<Vec<u8>>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Its extended attributes, without overlayfs's own.
    pub xattrs: Attributes,
    /// File system and inode, when it has more than one name.
    pub hard_link: Option<(u64, u64)>,
}

impl Entry {
    /// Last modification: whole seconds since 1970, and nanoseconds.
    #[must_use]
    pub fn mtime(&self) -> (i64, u32) {
        const SECOND: i128 = 1_000_000_000;
        (
            i64::try_from(self.mtime_ns.div_euclid(SECOND)).unwrap_or(0),
            u32::try_from(self.mtime_ns.rem_euclid(SECOND)).unwrap_or(0),
        )
    }
}

/// An entry of an upper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// What was here beneath is deleted.
    Whiteout,
    /// Something is here.
    Entry {
        /// What.
        entry: Entry,
        /// A folder that hides all that was here beneath.
        opaque: bool,
    },
}

/// In which way something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// It is something else now: a file became a folder.
    Kind,
    /// What a file holds, where a link leads, which device it is.
    Content,
    /// Permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// Extended attributes.
    Attributes,
}

/// What happened to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added(Entry),
    /// It was there and is different.
    Changed {
        /// As it was.
        old: Entry,
        /// As it is.
        new: Entry,
        /// In which ways.
        aspects: Vec<Aspect>,
    },
    /// It is gone, with everything in it.
    Deleted(Entry),
}

impl What {
    /// The letter shown, as version control has it.
    #[must_use]
    pub const fn letter(&self) -> char {
        match self {
            Self::Added(_) => 'A',
            Self::Changed { .. } => 'M',
            Self::Deleted(_) => 'D',
        }
    }

    /// The entry as it is now, or was before it was deleted.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        match self {
            Self::Added(entry) | Self::Deleted(entry) => entry,
            Self::Changed { new, .. } => new,
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the root of the region, without a leading slash.
    pub path: Vec<u8>,
    /// What happened.
    pub what: What,
}

/// In which ways `new` differs from `old`; times do not count. `same_content` is asked only where nothing cheaper
/// tells.
///
/// # Errors
/// Whatever `same_content` answers.
pub fn aspects<E>(
    old: &Entry,
    new: &Entry,
    same_content: impl FnOnce() -> Result<bool, E>,
) -> Result<Vec<Aspect>, E> {
    if old.kind != new.kind {
        return Ok(vec![Aspect::Kind]);
    }
    let mut aspects = Vec::new();
    let content = match new.kind {
        Kind::File => old.size != new.size || !same_content()?,
        Kind::Link => old.target != new.target,
        Kind::Device => old.device != new.device,
        Kind::Folder | Kind::Pipe | Kind::Socket => false,
    };
    if content {
        aspects.push(Aspect::Content);
    }
    // A link's own mode means nothing (symlink(7)).
    if old.mode != new.mode && new.kind != Kind::Link {
        aspects.push(Aspect::Mode);
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        aspects.push(Aspect::Owner);
    }
    if old.xattrs != new.xattrs {
        aspects.push(Aspect::Attributes);
    }
    Ok(aspects)
}

/// Joins a folder's path and a name: the root's path is empty.
#[must_use]
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// True when `path` is `above` or lies in it.
#[must_use]
pub fn within(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests;
