//! Reading files of one JSON object a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

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
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
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
