//! What a cube reached and was denied: `net.jsonl` beside its log, one [`NetEvent`] a line, only ever added to.
//!
//! Owns the bound: a full file moves to `net.1.jsonl`, replacing the one before. It is written by the gateway's thread and read
//! by whoever asks, so it outlives cube and keeper.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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

/// Reads the log in a folder, and then what is added to it: each event once, in the order in which it was written. Torn lines,
/// and those of another version, are skipped. Numbers start
/// over when a kept cube is entered again, so the place in the file is what counts, and nothing is read twice.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    file: Option<File>,
    /// The start of a line whose end is still to come.
    torn: Vec<u8>,
    begun: bool,
}

impl Follower {
    /// From the first event that the folder `dir` still has.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir, file: None, torn: Vec::new(), begun: false }
    }

    /// What has come since the last time.
    ///
    /// # Errors
    /// When a file cannot be read; a missing one is no events.
    pub fn more(&mut self) -> io::Result<Vec<NetEvent>> {
        let mut found = Vec::new();
        if !self.begun {
            self.begun = true;
            self.file = opened(&path(&self.dir, false))?;
            // What was put aside before, unless it is what was just opened.
            let aside = opened(&path(&self.dir, true))?;
            if let Some(aside) = aside.filter(|aside| !same(Some(aside), self.file.as_ref())) {
                let current = self.file.replace(aside);
                self.read(&mut found)?;
                self.file = current;
            }
        }
        self.read(&mut found)?;
        // A full file was put aside, whole; the next one begins. There are never two such moves between two looks.
        let current = opened(&path(&self.dir, false))?;
        if current.is_some() && !same(current.as_ref(), self.file.as_ref()) {
            self.read(&mut found)?;
            self.file = current;
            self.torn.clear();
            self.read(&mut found)?;
        }
        Ok(found)
    }

    fn read(&mut self, found: &mut Vec<NetEvent>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = std::mem::take(&mut self.torn);
        file.read_to_end(&mut bytes)?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.torn = bytes.split_off(end);
        if self.torn.len() as u64 > LINE_MAX {
            self.torn.clear();
        }
        let lines = bytes.split(|byte| *byte == b'\n');
        let events = lines.filter_map(|line| serde_json::from_slice::<NetEvent>(line).ok());
        found.extend(events.filter(|event| event.v == NET_EVENT_VERSION));
        Ok(())
    }
}

fn opened(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same(one: Option<&File>, other: Option<&File>) -> bool {
    let number =
        |file: Option<&File>| file.and_then(|file| file.metadata().ok()).map(|it| (it.dev(), it.ino()));
    number(one) == number(other)
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

    fn read(dir: &Path) -> io::Result<Vec<NetEvent>> {
        Follower::new(dir.to_path_buf()).more()
    }

    #[test]
    fn events_come_back_and_bad_lines_do_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(read(dir.path()).expect("none"), []);
        let mut log = NetLog::new(dir.path().to_path_buf());
        log.append(&event(1, "a")).expect("append");
        let mut file = OpenOptions::new().append(true).open(path(dir.path(), false)).expect("file");
        file.write_all(b"{\"v\":9,\"seq\":7}\n\xff\n{\"v\":1,\"se\n").expect("write");
        log.append(&event(2, "b")).expect("append");
        assert_eq!(read(dir.path()).expect("read"), [event(1, "a"), event(2, "b")]);
    }

    /// As a kept cube writes it that was entered twice, and one that fills its file.
    #[test]
    fn each_event_is_followed_once_whatever_its_number() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut follower = Follower::new(dir.path().to_path_buf());
        assert_eq!(follower.more().expect("none"), []);
        let mut log = NetLog::new(dir.path().to_path_buf());
        for seq in [1, 2, 3] {
            log.append(&event(seq, "first")).expect("append");
        }
        assert_eq!(follower.more().expect("read").len(), 3);
        let mut log = NetLog::new(dir.path().to_path_buf());
        log.append(&event(1, "second")).expect("append");
        assert_eq!(follower.more().expect("read"), [event(1, "second")]);
        assert_eq!(follower.more().expect("read"), []);
        // Half a line waits for its other half.
        let mut file = OpenOptions::new().append(true).open(path(dir.path(), false)).expect("file");
        let mut line = serde_json::to_vec(&event(2, "torn")).expect("json");
        line.push(b'\n');
        file.write_all(&line[..9]).expect("write");
        assert_eq!(follower.more().expect("read"), []);
        file.write_all(&line[9..]).expect("write");
        assert_eq!(follower.more().expect("read"), [event(2, "torn")]);
        let note = "x".repeat(60_000);
        let mut seen = 0;
        for seq in 3..400 {
            log.append(&event(seq, &note)).expect("append");
            if seq % 50 == 0 {
                seen += follower.more().expect("read").len();
            }
        }
        seen += follower.more().expect("read").len();
        assert_eq!(seen, 397, "a full file is read to its end before the next one");
        let mut late = Follower::new(dir.path().to_path_buf());
        let all = late.more().expect("read");
        assert_eq!(all.last().map(|event| event.seq), Some(399));
        assert!(all.windows(2).all(|two| two[1].seq == two[0].seq + 1), "both files, the older one first");
        assert_eq!(late.more().expect("read"), []);
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
        assert!(read(dir.path()).expect("read").last().is_some_and(|last| last.seq == 499));
    }
}
