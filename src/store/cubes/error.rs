//! Why a cube's folder cannot be used, for a person.

use std::io;
use std::path::PathBuf;

use crate::model::cube::RECORD_VERSION;
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind, TripId};

/// Why a cube's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CubeError {
    /// The system said no.
    #[error("cannot {what} `{}`", printable(&path.to_string_lossy()))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// Written by another version of this program.
    #[error("the record `{}` has version {version}, this tripmine reads version {RECORD_VERSION}", printable(&path.to_string_lossy()))]
    UnknownVersion {
        /// The record.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// Not a whole record: cut off by a power loss, or changed by hand.
    #[error("the record `{}` is damaged: {why}", printable(&path.to_string_lossy()))]
    Torn {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Its keeper holds the lock.
    #[error("the cube {} runs", .0.short())]
    Alive(TripId),
    /// No such folder.
    #[error("there is no cube {0}")]
    Missing(TripId),
    /// A throwaway cannot be entered again.
    #[error("the cube {} is a throwaway and has ended", .0.short())]
    NotDurable(TripId),
}

impl CubeError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { what, path: path.into(), source: source.into() }
    }
}

impl From<CubeError> for Failure {
    fn from(error: CubeError) -> Self {
        let kind = match &error {
            CubeError::Alive(_) => FailureKind::Busy,
            CubeError::Missing(_) => FailureKind::Missing,
            CubeError::UnknownVersion { .. } | CubeError::NotDurable(_) => FailureKind::Unsupported,
            CubeError::Io { .. } | CubeError::Torn { .. } => FailureKind::Failed,
        };
        let failure = Self::new(kind, error.to_string());
        match &error {
            CubeError::Io { source, .. } => failure.because(source),
            CubeError::UnknownVersion { .. } => {
                failure.hint("use the tripmine that wrote it, or a newer one")
            }
            CubeError::Alive(id) => failure.hint(format!("stop it first: `tripmine stop {}`", id.short())),
            CubeError::NotDurable(_) => failure.hint("`--keep NAME` makes a cube that can be entered again"),
            CubeError::Torn { .. } | CubeError::Missing(_) => failure,
        }
    }
}
