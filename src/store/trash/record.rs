//! What is written down of a deletion.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::sanitize::printable;

/// The version of the records that this program writes and reads.
pub const TRASH_VERSION: u32 = 1;
/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrashKind {
    /// A machine's home.
    Home,
    /// A machine: its file and its home.
    Machine,
    /// A project's folder.
    Project,
    /// A kept cube.
    Cube,
}

impl TrashKind {
    /// The word shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Machine => "machine",
            Self::Project => "project",
            Self::Cube => "cube",
        }
    }
}

/// Which deletion: `<milliseconds since 1970>-<kind>-<name>`. Sorts by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrashId(String);

impl TrashId {
    pub(super) fn new(at_ms: u64, kind: TrashKind, name: &str) -> Self {
        let name: String = name
            .chars()
            .take(80)
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .collect();
        Self(format!("{at_ms:013}-{}-{name}", kind.word()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for TrashId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TrashId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let good = text.starts_with(|c: char| c.is_ascii_digit())
            && text.len() <= 120
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if good { Ok(Self(text)) } else { Err(format!("`{}` is no id of the trash", printable(&text))) }
    }
}

impl From<TrashId> for String {
    fn from(id: TrashId) -> Self {
        id.0
    }
}

/// One deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashRecord {
    /// [`TRASH_VERSION`]; an unknown one is refused.
    pub version: u32,
    /// Which.
    pub id: TrashId,
    /// What kind of thing.
    pub kind: TrashKind,
    /// Its name.
    pub name: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// How much, in bytes.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// The things that were moved, together.
    pub parts: Vec<TrashPart>,
}

/// One file or folder of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashPart {
    /// Where it was.
    pub original: PathBuf,
    /// The folder it was moved to when that is not the deletion's own: on another file system.
    pub elsewhere: Option<PathBuf>,
    /// Permissions of a folder that had to be opened up to be moved; they come back with it.
    pub mode: Option<u32>,
}
