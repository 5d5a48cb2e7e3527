//! Writing a log: buffered, rotated, and harmless when the disk is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::escape::escape_into;
use super::{Stream, file_path, made_folder};

/// How much waits in memory before it is written without being asked.
const PENDING_MAX: usize = 64 << 10;
/// The most output in one record: it bounds the length of a line.
const CHUNK_MAX: usize = 32 << 10;

/// Appends chunks to a log. Nothing it meets on the disk is an error to its user: see
/// [`LogWriter::dropped_bytes`].
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    max_bytes: u64,
    keep: u32,
    /// `None` until the first write, and after a failure to make the file.
    file: Option<File>,
    /// Bytes of whole records in the file.
    written: u64,
    /// Whole records that wait.
    pending: Vec<u8>,
    /// Bytes of output in `pending`.
    pending_raw: u64,
    /// The beginning of a character whose end has not come yet, per stream.
    held: [Vec<u8>; 3],
    /// Lost since the last note of it.
    unnoted: u64,
    dropped: u64,
    last: (u64, Stream),
}

impl LogWriter {
    /// A log in the folder `dir`, files of at most about `max_bytes`, `keep` of them (at least 1).
    /// An existing log is continued. Touches the disk only when something is written.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, max_bytes: u64, keep: u32) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: max_bytes.max(1),
            keep: keep.max(1),
            file: None,
            written: 0,
            pending: Vec::new(),
            pending_raw: 0,
            held: [const { Vec::new() }; 3],
            unnoted: 0,
            dropped: 0,
            last: (0, Stream::Tty),
        }
    }

    /// Adds output that was read at `unix_ms`. Cheap; writes to the file only when 64 KiB wait.
    pub fn append(&mut self, unix_ms: u64, stream: Stream, mut bytes: &[u8]) {
        let held = &mut self.held[stream.index()];
        if !held.is_empty() && !bytes.is_empty() {
            // Complete the held character with as few bytes as that takes.
            let mut joined = std::mem::take(held);
            let more = bytes.len().min(4);
            let before = joined.len();
            joined.extend_from_slice(&bytes[..more]);
            let used = first_unit(&joined).unwrap_or(joined.len());
            if used == joined.len() && incomplete_tail(&joined) == joined.len() {
                // Still not whole, and all of `bytes` is in it.
                self.held[stream.index()] = joined;
                return;
            }
            let used = used.max(before);
            joined.truncate(used);
            self.record(unix_ms, stream, &joined);
            bytes = &bytes[used - before..];
        }
        while bytes.len() > CHUNK_MAX {
            let window = &bytes[..CHUNK_MAX];
            let cut = CHUNK_MAX - incomplete_tail(window);
            self.record(unix_ms, stream, &bytes[..cut]);
            bytes = &bytes[cut..];
        }
        let tail = incomplete_tail(bytes);
        let (now, later) = bytes.split_at(bytes.len() - tail);
        if !now.is_empty() {
            self.record(unix_ms, stream, now);
        }
        self.held[stream.index()].extend_from_slice(later);
    }

    /// Writes what waits. The beginning of a character stays held.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match self.write_pending() {
            Ok(()) => self.unnoted = 0,
            Err(_) => {
                self.dropped += self.pending_raw;
                self.unnoted += self.pending_raw;
            }
        }
        self.pending.clear();
        self.pending_raw = 0;
    }

    /// Writes everything, also the beginnings of characters that will not be completed.
    pub fn finish(&mut self) {
        let (unix_ms, _) = self.last;
        for stream in [Stream::Tty, Stream::Out, Stream::Err] {
            let held = std::mem::take(&mut self.held[stream.index()]);
            if !held.is_empty() {
                self.record(unix_ms, stream, &held);
            }
        }
        self.flush();
    }

    /// Output that is in no file because the disk would not take it, in bytes.
    #[must_use]
    pub const fn dropped_bytes(&self) -> u64 {
        self.dropped
    }

    fn record(&mut self, unix_ms: u64, stream: Stream, data: &[u8]) {
        self.last = (unix_ms, stream);
        let out = &mut self.pending;
        open_record(out, unix_ms, stream);
        if let Ok(text) = std::str::from_utf8(data) {
            out.extend_from_slice(b"\"d\":\"");
            escape_into(text, out);
        } else {
            out.extend_from_slice(b"\"b\":\"");
            out.extend_from_slice(STANDARD.encode(data).as_bytes());
        }
        out.extend_from_slice(b"\"}\n");
        self.pending_raw += data.len() as u64;
        if self.pending.len() >= PENDING_MAX {
            self.flush();
        }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        if self.written > 0 && self.written + self.pending.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        let mut note = Vec::new();
        if self.unnoted > 0 {
            let (unix_ms, stream) = self.last;
            open_record(&mut note, unix_ms, stream);
            note.extend_from_slice(format!("\"d\":\"\",\"dropped\":{}}}\n", self.unnoted).as_bytes());
        }
        let Some(file) = &mut self.file else { return Err(io::Error::from(io::ErrorKind::NotFound)) };
        match file.write_all(&note).and_then(|()| file.write_all(&self.pending)) {
            Ok(()) => {
                self.written += (note.len() + self.pending.len()) as u64;
                Ok(())
            }
            Err(error) => {
                // Half a record must not spoil the next one; cutting works on a full disk too.
                if file.set_len(self.written).is_err() {
                    self.file = None;
                }
                Err(error)
            }
        }
    }

    fn open(&mut self) -> io::Result<()> {
        let path = file_path(&self.dir, 0);
        // Appending: a cut-off file must be continued at its new end, not at the old one.
        let open = || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let mut file = open().or_else(|error| made_folder(&self.dir, error).and_then(|()| open()))?;
        let end = file.seek(SeekFrom::End(0))?;
        self.written = end;
        if end > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(end - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // The previous writer was cut off: its torn line ends here.
                file.write_all(b"\n")?;
                self.written += 1;
            }
        }
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.keep == 1 {
            fs::remove_file(file_path(&self.dir, 0))?;
        }
        for index in (1..self.keep).rev() {
            match fs::rename(file_path(&self.dir, index - 1), file_path(&self.dir, index)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.open()
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.finish();
    }
}

fn open_record(out: &mut Vec<u8>, unix_ms: u64, stream: Stream) {
    out.extend_from_slice(b"{\"t\":");
    out.extend_from_slice(unix_ms.to_string().as_bytes());
    out.extend_from_slice(b",\"s\":\"");
    out.extend_from_slice(stream.word().as_bytes());
    out.extend_from_slice(b"\",");
}

/// How many bytes at the end begin a character that is not whole: 0 to 3.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let near = &bytes[bytes.len().saturating_sub(3)..];
    let Some(start) = near.iter().rposition(|byte| *byte & 0xc0 != 0x80) else { return 0 };
    match std::str::from_utf8(&near[start..]) {
        Err(error) if error.error_len().is_none() => near.len() - start,
        _ => 0,
    }
}

/// The length of the first character, or of the first bytes that are none. `None`: not whole.
fn first_unit(bytes: &[u8]) -> Option<usize> {
    let chunk = bytes.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(character) => Some(character.len_utf8()),
        None => (incomplete_tail(bytes) != bytes.len()).then(|| chunk.invalid().len()),
    }
}
