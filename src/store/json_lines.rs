//! Reading files of one JSON object a line.
//!
//! A reader holds the file locked shared: while it does, nobody empties it for another cube.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;

/// What is in `files`, one after the other, as far as `keep` wants it. A missing file is nothing. Torn lines, those longer than
/// `longest` bytes and those that are no `T` are skipped.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn read<T: DeserializeOwned>(
    files: impl IntoIterator<Item = PathBuf>,
    longest: u64,
    keep: impl Fn(&T) -> bool,
) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for path in files {
        let Some(file) = open(&path)? else { continue };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while {
            line.clear();
            (&mut reader).take(longest).read_until(b'\n', &mut line)? > 0
        } {
            found.extend(serde_json::from_slice(&line).ok().filter(&keep));
        }
    }
    Ok(found)
}

/// Opens and locks; `None` when there is no such file, or it went elsewhere meanwhile.
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
