//! `journal.jsonl`: what was done, one line each, only ever appended to.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use serde::{Deserialize, Serialize};

use crate::model::Failure;

use super::fail::cannot;
use super::layout::Layout;

/// The version of the lines that this program writes.
pub const JOURNAL_VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// [`JOURNAL_VERSION`].
    pub version: u32,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// The verb: `machine rm`, `launch`.
    pub act: String,
    /// What it was done to.
    pub what: String,
    /// The command line that takes it back, if there is one.
    #[serde(default)]
    pub undo: Option<String>,
}

/// Appends a line with one write, so that lines of several processes do not mix.
///
/// # Errors
/// The file cannot be opened or written.
pub fn append(layout: &Layout, at_ms: u64, act: &str, what: &str, undo: Option<&str>) -> Result<(), Failure> {
    let path = layout.journal_file();
    let entry = JournalEntry {
        version: JOURNAL_VERSION,
        at_ms,
        act: act.to_owned(),
        what: what.to_owned(),
        undo: undo.map(str::to_owned),
    };
    let mut line = serde_json::to_vec(&entry)
        .map_err(|error| Failure::failed("cannot write the journal").because(&error))?;
    line.push(b'\n');
    let open = || File::options().append(true).create(true).mode(0o600).open(&path);
    open()
        .or_else(|error| match error.kind() {
            ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&layout.data)?;
                open()
            }
            _ => Err(error),
        })
        .and_then(|mut file| file.write_all(&line))
        .map_err(|error| cannot("write", &path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended() {
        let folder = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(folder.path());
        append(&layout, 1, "machine rm", "a\nb", Some("tripmine undo")).expect("append");
        append(&layout, 2, "machine create", "c", None).expect("append");
        let text = std::fs::read_to_string(layout.journal_file()).expect("read");
        let lines: Vec<JournalEntry> =
            text.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].what.as_str(), lines[1].at_ms), ("a\nb", 2));
    }
}
