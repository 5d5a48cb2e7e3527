//! What happened to a cube: `events.jsonl` beside its log, one JSON object a line.
//!
//! Owns the format and its bound: a full file moves to `events.1.jsonl`, replacing the one before.
//! Kinds are an open set of kebab-case words; a reader shows those it does not know.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the events that this program writes and reads.
pub const EVENT_VERSION: u32 = 1;
/// The size at which the file is full, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// A longer line is none of ours.
const LINE_MAX: u64 = 1 << 20;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`EVENT_VERSION`].
    pub version: u32,
    /// When, milliseconds since 1970.
    pub t: u64,
    /// What: `started`, `exited`, `keeper-lost` …
    pub kind: String,
    /// More of it: a text or an object; `null` when there is no more.
    #[serde(default)]
    pub detail: Value,
}

impl Event {
    /// An event of the present version.
    pub fn new(unix_ms: u64, kind: impl Into<String>, detail: impl Into<Value>) -> Self {
        Self { version: EVENT_VERSION, t: unix_ms, kind: kind.into(), detail: detail.into() }
    }
}

/// Adds an event to the log folder `dir`, in one write.
///
/// # Errors
/// When it cannot be written. Callers for whom events are a courtesy ignore that.
pub fn append(dir: &Path, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut file = open_append(dir)?;
    if file.metadata()?.len() + line.len() as u64 > MAX_BYTES {
        fs::rename(path(dir, false), path(dir, true))?;
        file = open_append(dir)?;
    }
    file.write_all(&line)
}

/// Every event, oldest first. Torn lines and those of another version are skipped.
///
/// # Errors
/// When a file cannot be read; a missing one is no events.
pub fn read(dir: &Path) -> io::Result<Vec<Event>> {
    let mut found = Vec::new();
    for path in [true, false].map(|old| path(dir, old)) {
        let Some(file) = open(&path)? else { continue };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while {
            line.clear();
            (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line)? > 0
        } {
            let event = serde_json::from_slice::<Event>(&line).ok();
            found.extend(event.filter(|event| event.version == EVENT_VERSION));
        }
    }
    Ok(found)
}

/// Opens and locks, shared: meanwhile nobody empties it for another cube. `None` when there is no such file, or it went
/// elsewhere meanwhile.
fn open(path: &Path) -> io::Result<Option<File>> {
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(error),
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return missing(error),
    };
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockShared))?;
    // Between the two it may have been emptied, and may be another cube's by now.
    match std::fs::metadata(path) {
        Ok(now) => Ok((now.ino() == file.metadata()?.ino()).then_some(file)),
        Err(error) => missing(error),
    }
}

fn path(dir: &Path, old: bool) -> PathBuf {
    dir.join(if old { "events.1.jsonl" } else { "events.jsonl" })
}

fn open_append(dir: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path(dir, false));
    open().or_else(|error| super::log::made_folder(dir, error).and_then(|()| open()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_and_bad_lines_do_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(read(dir.path()).expect("none"), []);
        let first = Event::new(1, "started", "bash");
        let second = Event::new(2, "exited", serde_json::json!({ "code": 3 }));
        append(dir.path(), &first).expect("append");
        for bad in ["{\"version\":9,\"t\":1,\"kind\":\"x\"}\n", "\u{fffd}\n", "{\"version\":1,\"t\"\n"] {
            open_append(dir.path()).expect("open").write_all(bad.as_bytes()).expect("write");
        }
        append(dir.path(), &second).expect("append");
        assert_eq!(read(dir.path()).expect("read"), [first, second]);
    }

    #[test]
    fn the_file_is_bounded() {
        let dir = tempfile::tempdir().expect("tempdir");
        let event = Event::new(1, "denied", "x".repeat(700_000));
        for _ in 0..12 {
            append(dir.path(), &event).expect("append");
        }
        let size: u64 = fs::read_dir(dir.path())
            .expect("dir")
            .map(|entry| entry.expect("entry").metadata().expect("meta").len())
            .sum();
        assert!(size <= 2 * MAX_BYTES, "{size}");
        assert!(read(dir.path()).expect("read").len() >= 5);
    }
}
