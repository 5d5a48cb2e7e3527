//! Failures of the file system, said alike everywhere.

use std::io::Error;
use std::path::Path;

use crate::model::Failure;
use crate::model::sanitize::printable_bytes;

/// A path for a person.
#[must_use]
pub fn shown(path: &Path) -> String {
    printable_bytes(path.as_os_str().as_encoded_bytes())
}

/// "cannot WHAT PATH: cause".
pub fn cannot(what: &str, path: &Path, error: impl Into<Error>) -> Failure {
    Failure::failed(format!("cannot {what} {}", shown(path))).because(&error.into())
}
