//! tar members in and out: pax, ustar, GNU and old archives; sparse files, long names and extended attributes of each.
//!
//! The fields of a header are read and written by the `tar` crate. Walking the archive is ours, because the crate's walk
//! reads a name or a pax record of any length into memory, and splits pax records at line ends, although an attribute's
//! value may hold one. Owns what one member is; refuses lengths without a bound.

pub mod read;
pub mod source;
pub mod sparse;
pub mod write;

use crate::model::sanitize::printable_bytes;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with contents.
    File,
    /// Another name of a member before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A folder.
    Folder,
    /// A named pipe.
    Fifo,
    /// A device node.
    Device,
}

/// A time: seconds since 1970, nanoseconds.
pub type Time = (i64, u32);

/// A piece of a sparse file that has contents: offset and length, in bytes.
pub type Piece = (u64, u64);

/// One member of an archive, without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, as it stands in the archive.
    pub path: Vec<u8>,
    /// What a link leads to.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Last change.
    pub mtime: Time,
    /// The file's length, holes included.
    pub size: u64,
    /// Where a sparse file has contents, in order; `None`: everywhere.
    pub pieces: Option<Vec<Piece>>,
    /// Extended attributes, in the order of the archive.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    /// A member without contents, owned by 0:0.
    #[must_use]
    pub fn new(path: &[u8], kind: Kind, mode: u32) -> Self {
        Self {
            path: path.to_vec(),
            link: Vec::new(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            pieces: None,
            attributes: Vec::new(),
        }
    }

    /// Its name for a person.
    #[must_use]
    pub fn shown(&self) -> String {
        shown(&self.path)
    }

    /// How many bytes of contents stand in the archive.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.pieces.as_ref().map_or(self.size, |pieces| pieces.iter().map(|piece| piece.1).sum())
    }
}

/// A name of an archive for a person: printable, and not longer than a line.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    const LONG: usize = 120;
    if name.len() <= LONG {
        return printable_bytes(name);
    }
    format!("{}… ({} bytes)", printable_bytes(&name[..LONG]), name.len())
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes could not be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It ends early.
    #[error("the archive ends in the middle of `{0}`")]
    Short(String),
    /// It is none, or damaged.
    #[error("it is no tar archive, or a damaged one: {0}")]
    Damaged(String),
    /// Something is longer than it may be.
    #[error("`{name}`: its {what} is longer than {max} bytes")]
    TooLong {
        /// The member, as far as known.
        name: String,
        /// What.
        what: &'static str,
        /// How long it may be.
        max: u64,
    },
    /// A member of a kind that is not understood.
    #[error("`{0}`: {1}")]
    Member(String, String),
}
