//! Reading a log while it is written: over its rotated files in order, filtered, followed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::Deserialize;

use super::{LogRecord, Stream, file_path};

const BLOCK: usize = 64 << 10;
/// Without inotify: how long to wait before looking again.
const GLANCE: Duration = Duration::from_millis(50);
/// More files than any log has.
const FILES_MAX: u32 = 100;

/// Which records are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only this stream.
    pub stream: Option<Stream>,
    /// Only what came at or after this time, milliseconds since 1970.
    pub since_unix_ms: Option<u64>,
}

impl LogFilter {
    fn wants(&self, record: &LogRecord) -> bool {
        self.stream.is_none_or(|stream| stream == record.stream)
            && self.since_unix_ms.is_none_or(|since| record.unix_ms >= since)
    }
}

/// Reads records from the oldest on. A line that is no record is skipped; one without its end is
/// waited for.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    filter: LogFilter,
    /// The file being read; kept open so that its inode number is not given to another.
    current: Option<File>,
    /// Files after it, oldest first.
    later: VecDeque<File>,
    buffer: Vec<u8>,
    /// How much of `buffer` is consumed.
    start: usize,
    watch: Option<OwnedFd>,
}

impl LogReader {
    /// A reader of the log in `dir`, from its start. There need not be a log yet.
    #[must_use]
    pub fn open(dir: &Path, filter: LogFilter) -> Self {
        Self {
            dir: dir.to_owned(),
            filter,
            current: None,
            later: VecDeque::new(),
            buffer: Vec::new(),
            start: 0,
            watch: None,
        }
    }

    /// The next record, or `None` at what is the end now. Call again after [`LogReader::wait`].
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_record(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let record = parse_line(&rest[..end]);
                self.start += end + 1;
                if let Some(record) = record.filter(|record| self.filter.wants(record)) {
                    return Ok(Some(record));
                }
            } else if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// The records that hold the last `lines` lines of output, the first of them cut to begin
    /// with a line. Reads up to the present end.
    ///
    /// # Errors
    /// As [`LogReader::next_record`].
    pub fn tail(&mut self, lines: usize) -> io::Result<Vec<LogRecord>> {
        let mut kept: VecDeque<(usize, LogRecord)> = VecDeque::new();
        let mut total = 0;
        while let Some(record) = self.next_record()? {
            let ends = record.data.iter().filter(|byte| **byte == b'\n').count();
            total += ends;
            kept.push_back((ends, record));
            // The last line may be without its end, so one more than asked for is kept here.
            while let Some((first, _)) = kept.front()
                && total - first > lines
            {
                total -= first;
                kept.pop_front();
            }
        }
        let ended =
            kept.iter().rev().find(|(_, r)| !r.data.is_empty()).is_none_or(|(_, r)| r.data.ends_with(b"\n"));
        // Line ends that belong to lines before the wanted ones.
        let mut surplus = (total + usize::from(!ended)).saturating_sub(lines);
        if lines == 0 {
            return Ok(Vec::new());
        }
        let mut records = Vec::with_capacity(kept.len());
        for (ends, mut record) in kept {
            if surplus > 0 && ends < surplus {
                surplus -= ends;
                continue;
            }
            if surplus > 0 {
                let cut = nth_line_end(&record.data, surplus);
                surplus = 0;
                record.data.drain(..cut);
                if record.data.is_empty() {
                    continue;
                }
            }
            records.push(record);
        }
        Ok(records)
    }

    /// Waits until the log may have grown, at most `patience`.
    pub fn wait(&mut self, patience: Duration) {
        let Some(watch) = self.watch() else {
            std::thread::sleep(patience.min(GLANCE));
            return;
        };
        let Ok(timeout) = Timespec::try_from(patience) else { return };
        if matches!(poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout)), Ok(1..)) {
            // Only that something happened counts, not what.
            let mut space = [MaybeUninit::uninit(); 4096];
            while matches!(rustix::io::read(watch, &mut space), Ok((read, _)) if !read.is_empty()) {}
        }
    }

    /// Starts to notice changes. Call before reading up to the end, or a change in between is
    /// noticed only when the wait is over.
    pub fn watch(&mut self) -> Option<&OwnedFd> {
        if self.watch.is_none() {
            let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
            let events =
                WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF;
            inotify::add_watch(&watch, &self.dir, events).ok()?;
            self.watch = Some(watch);
        }
        self.watch.as_ref()
    }

    /// Reads more. False at the present end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.read_block()? {
            return Ok(true);
        }
        if self.later.is_empty() {
            self.later = self.newer_files()?;
        }
        if self.later.is_empty() {
            return Ok(false);
        }
        // It has been followed by another file, so what it holds now is final: read the last of it.
        if self.read_block()? {
            return Ok(true);
        }
        self.current = self.later.pop_front();
        // A line without its end stays one for ever.
        self.buffer.clear();
        self.start = 0;
        Ok(true)
    }

    fn read_block(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.current else { return Ok(false) };
        self.buffer.drain(..self.start);
        self.start = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + BLOCK, 0);
        let read = loop {
            match file.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    /// The files that follow the current one, oldest first. Opened newest first: a rotation in
    /// between then shows a file twice instead of hiding one.
    fn newer_files(&self) -> io::Result<VecDeque<File>> {
        let identity = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let current = self.current.as_ref().map(identity).transpose()?;
        let (mut files, mut seen) = (VecDeque::new(), Vec::new());
        for index in 0..FILES_MAX {
            let file = match File::open(file_path(&self.dir, index)) {
                Ok(file) => file,
                // Number 0 is missing for a moment while files are rotated.
                Err(error) if error.kind() == io::ErrorKind::NotFound && index == 0 => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let id = identity(&file)?;
            if Some(id) == current {
                break;
            }
            if !seen.contains(&id) {
                seen.push(id);
                files.push_front(file);
            }
        }
        Ok(files)
    }
}

/// The position after the `count`th line end.
fn nth_line_end(data: &[u8], count: usize) -> usize {
    data.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(count - 1)
        .map_or(data.len(), |(at, _)| at + 1)
}

#[derive(Deserialize)]
struct Line {
    t: u64,
    s: Stream,
    d: Option<String>,
    b: Option<String>,
    #[serde(default)]
    dropped: u64,
}

fn parse_line(line: &[u8]) -> Option<LogRecord> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let data = match (line.d, line.b) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(code)) => STANDARD.decode(code).ok()?,
        (None, None) => Vec::new(),
    };
    Some(LogRecord { unix_ms: line.t, stream: line.s, data, dropped: line.dropped })
}
