//! What a cube reached and was denied: `net.jsonl` beside its log, one [`NetEvent`] a line, only ever added to.
//!
//! Owns the bound: a full file moves to `net.1.jsonl`, replacing the one before. It is written by the gateway's thread and read
//! by whoever asks, so it outlives cube and keeper.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::model::net::{NET_EVENT_VERSION, NetEvent};

/// The size at which the file is full, in bytes.
const MAX_BYTES: u64 = 8 << 20;
/// A longer line is none of ours.
const LINE_MAX: u64 = 1 << 16;

/// The log, open for adding.
#[derive(Debug)]
pub struct NetLog {
    dir: PathBuf,
    file: Option<File>,
    length: u64,
}

impl NetLog {
    /// The log in the folder `dir`. The file is made when there is something to say.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir, file: None, length: 0 }
    }

    /// Adds an event, in one write.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, event: &NetEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if self.length + line.len() as u64 > MAX_BYTES {
            self.file = None;
            fs::rename(path(&self.dir, false), path(&self.dir, true))?;
        }
        if self.file.is_none() {
            let file =
                OpenOptions::new().append(true).create(true).mode(0o600).open(path(&self.dir, false))?;
            self.length = file.metadata()?.len();
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&line)?;
            self.length += line.len() as u64;
        }
        Ok(())
    }
}

/// Every event in the folder `dir` with a number above `after`, oldest first. Torn lines and those of another version are
/// skipped. Numbers start over when a kept cube is entered again: with `after` 0 all of them are given.
///
/// # Errors
/// When a file cannot be read; a missing one is no events.
pub fn read(dir: &Path, after: u64) -> io::Result<Vec<NetEvent>> {
    super::json_lines::read([true, false].map(|old| path(dir, old)), LINE_MAX, |event: &NetEvent| {
        event.v == NET_EVENT_VERSION && (after == 0 || event.seq > after)
    })
}

/// The events in the last `bytes` of the log in the folder `dir`, oldest first. A full log that was just put aside is not
/// looked at.
///
/// # Errors
/// When the file cannot be read; a missing one is no events.
pub fn tail(dir: &Path, bytes: u64) -> io::Result<Vec<NetEvent>> {
    let mut file = match File::open(path(dir, false)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    let lines = text.split(|byte| *byte == b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice::<NetEvent>(line).ok());
    Ok(events.filter(|event| event.v == NET_EVENT_VERSION).collect())
}

fn path(dir: &Path, old: bool) -> PathBuf {
    dir.join(if old { "net.1.jsonl" } else { "net.jsonl" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::net::EventKind;

    fn event(seq: u64, note: &str) -> NetEvent {
        NetEvent {
            v: NET_EVENT_VERSION,
            seq,
            time_ms: 1,
            kind: EventKind::Changed,
            connection: None,
            decision: None,
            end: None,
            left_out: None,
            note: Some(note.to_owned()),
        }
    }

    #[test]
    fn events_come_back_and_bad_lines_do_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(read(dir.path(), 0).expect("none"), []);
        let mut log = NetLog::new(dir.path().to_path_buf());
        log.append(&event(1, "a")).expect("append");
        let mut file = OpenOptions::new().append(true).open(path(dir.path(), false)).expect("file");
        file.write_all(b"{\"v\":9,\"seq\":7}\n\xff\n{\"v\":1,\"se\n").expect("write");
        log.append(&event(2, "b")).expect("append");
        assert_eq!(read(dir.path(), 0).expect("read"), [event(1, "a"), event(2, "b")]);
        assert_eq!(read(dir.path(), 1).expect("read"), [event(2, "b")]);
    }

    #[test]
    fn the_file_is_bounded() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = NetLog::new(dir.path().to_path_buf());
        let note = "x".repeat(60_000);
        for seq in 1..500 {
            log.append(&event(seq, &note)).expect("append");
        }
        let size: u64 = fs::read_dir(dir.path())
            .expect("dir")
            .map(|entry| entry.expect("entry").metadata().expect("meta").len())
            .sum();
        assert!(size <= 2 * MAX_BYTES, "{size}");
        assert!(read(dir.path(), 0).expect("read").last().is_some_and(|last| last.seq == 499));
    }
}
