//! What a face and the helper say to each other: one request with descriptors, then lines of JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plan::changes::{Aspect, Kind, Region};

/// Bytes that need not be UTF-8, as base64.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine;
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

/// With whose ids the helper reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ids")]
pub enum Ids {
    /// Ours: root on the host. What the upper's files show is turned into ids inside.
    Own {
        /// How.
        shift: super::ids::Shift,
    },
    /// Those of the cube's user namespace, whose descriptor came along.
    Enter,
    /// Those of a new user namespace with the cube's maps.
    Fresh {
        /// `uid_map`.
        uid_map: String,
        /// `gid_map`.
        gid_map: String,
        /// `newuidmap` writes them; otherwise the helper may itself.
        by_helper: bool,
    },
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "want")]
pub enum Want {
    /// Every change.
    List {
        /// With differences of text.
        diffs: bool,
        /// Beneath these places inside only, without a leading slash; none: all.
        only: Vec<Bytes>,
        /// At most so many; then it is said that there are more.
        most: u64,
    },
    /// A copy of the system's uppers as a layer, into the folder that came along.
    Copy {
        /// Places inside that stay out.
        leave_out: Vec<Bytes>,
        /// The cube runs: it is held still for the second of two looks only.
        twice: Option<Twice>,
    },
    /// The system's uppers as a layer, packed into the pipe that came along; what looks like a secret is told.
    Pack {
        /// Places inside that stay out.
        leave_out: Vec<Bytes>,
        /// Ids inside as the layer tells them.
        owners: super::ids::Shift,
        /// Files say in an attribute whose they truly are.
        noted: bool,
    },
    /// What looks like a secret in the folder that came along.
    Scan,
    /// The entry of the folder that came along deleted, whatever it is.
    Remove {
        /// Its name.
        name: Bytes,
    },
}

/// What the second look at a running cube goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twice {
    /// What changed at this time or later is looked at again: nanoseconds since 1970.
    pub since_ns: i64,
    /// Files that processes of the cube had mapped to write at that time, as paths inside.
    pub mapped: Vec<Bytes>,
}

/// What the helper is asked. Descriptors: the cube's store if `store`, then its user namespace for [`Ids::Enter`], then
/// the target of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// With whose ids.
    pub ids: Ids,
    /// The store came along.
    pub store: bool,
    /// The regions.
    pub regions: Vec<Region>,
    /// What is wanted.
    pub want: Want,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// New.
    Added,
    /// Different.
    Changed,
    /// Gone.
    Deleted,
}

/// One change, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which region.
    pub region: usize,
    /// The path in it.
    pub path: Bytes,
    /// What happened.
    pub fate: Fate,
    /// What it is, or was.
    pub kind: Kind,
    /// What it was, if that changed.
    pub old_kind: Option<Kind>,
    /// Its permissions.
    pub mode: u32,
    /// What they were.
    pub old_mode: Option<u32>,
    /// Bytes of a file.
    pub size: u64,
    /// Bytes that it had.
    pub old_size: Option<u64>,
    /// Where a link leads.
    pub target: Option<Bytes>,
    /// In which ways it changed.
    pub aspects: Vec<Aspect>,
    /// The difference of its text.
    pub diff: Option<super::text::Diff>,
}

/// A line of the helper's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say")]
pub enum Line {
    /// Write my maps: I am this process.
    Maps {
        /// Its number, as it sees itself: the namespaces of numbers are the same.
        pid: i32,
    },
    /// A change.
    Change(Box<Told>),
    /// A folder too deep to be looked into.
    TooDeep {
        /// Its region.
        region: usize,
        /// Its path.
        path: Bytes,
    },
    /// There are more changes than were wanted.
    More,
    /// One of the largest files of a copy.
    Large {
        /// Its path inside.
        path: Bytes,
        /// Its size in bytes.
        size: u64,
    },
    /// A file of a copy looks like a secret.
    Secret {
        /// Its path inside.
        path: Bytes,
        /// What it is.
        what: String,
    },
    /// Hold the cube still, and say when it is: the first look is done.
    Hold,
    /// The cube may go on.
    Release,
    /// A copy is complete.
    Copied {
        /// Entries.
        entries: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Something that cannot go into a layer stays out.
    LeftOut {
        /// Its path inside.
        path: Bytes,
        /// Why.
        why: String,
    },
    /// All of it.
    Done,
    /// It failed.
    Failed {
        /// One line.
        message: String,
    },
}
