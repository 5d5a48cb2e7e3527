//! What a cube printed, as JSON lines: `{"t":MS,"s":"tty","d":"text"}` in `log.jsonl`.
//!
//! Bytes that are not UTF-8 stand as base64 in `"b"`. Full files move on to `log.1.jsonl`,
//! `log.2.jsonl` …; the oldest is dropped. A disk that is full stops the log, never the cube: what
//! was lost is counted and noted as `"dropped"` in the next record that fits.
//! The format keeps every control character escaped, so that `cat` on a log is harmless.

pub mod escape;
pub mod read;
pub mod write;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use read::{LogFilter, LogReader};
pub use write::LogWriter;

/// How many files are kept, the current one among them.
pub const KEEP_FILES: u32 = 3;

/// Makes the folder of a log when that is why `error` came; it is made with the first thing in it.
pub(super) fn made_folder(dir: &Path, error: io::Error) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if error.kind() != io::ErrorKind::NotFound {
        return Err(error);
    }
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(again) if again.kind() == io::ErrorKind::AlreadyExists => Err(error),
        made => made,
    }
}

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The terminal.
    Tty,
    /// Standard output, when it is a pipe.
    Out,
    /// Standard error, when it is a pipe.
    Err,
}

impl Stream {
    /// The words that are accepted.
    pub const WORDS: &'static [&'static str] = &["tty", "out", "err"];

    /// The word in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tty => "tty",
            Self::Out => "out",
            Self::Err => "err",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Tty => 0,
            Self::Out => 1,
            Self::Err => 2,
        }
    }
}

impl std::str::FromStr for Stream {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Tty, Self::Out, Self::Err].into_iter().find(|stream| stream.word() == text).ok_or_else(|| {
            format!(
                "`{}` is no stream: one of {}",
                crate::model::sanitize::printable(text),
                Self::WORDS.join(", ")
            )
        })
    }
}

/// One chunk of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// When it was read from the cube, milliseconds since 1970.
    pub unix_ms: u64,
    /// From where.
    pub stream: Stream,
    /// What, byte for byte.
    pub data: Vec<u8>,
    /// Bytes that were lost just before it because the disk was full.
    pub dropped: u64,
}

/// The file number `index` of a log, 0 being the current one.
fn file_path(dir: &Path, index: u32) -> PathBuf {
    if index == 0 { dir.join("log.jsonl") } else { dir.join(format!("log.{index}.jsonl")) }
}

#[cfg(test)]
mod tests;
