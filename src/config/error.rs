//! `ConfigError`: what is wrong in a configuration file, and where.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::model::sanitize::{printable, printable_bytes};
use crate::model::{Failure, FailureKind};

/// A mistake in a file, with its place. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", printable_bytes(file.as_os_str().as_encoded_bytes()))]
pub struct ConfigError {
    /// The file as it was named.
    pub file: PathBuf,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The next step, if there is an obvious one.
    pub hint: Option<String>,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::new(FailureKind::Config, error.to_string());
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// A file's name and text: what an error needs to point into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    /// An error at the start of `span` (bytes).
    pub(crate) fn error(&self, span: &Range<usize>, message: impl Into<String>) -> ConfigError {
        let before = self.text.get(..span.start.min(self.text.len())).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ConfigError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: printable(&message.into()),
            hint: None,
        }
    }

    /// An error about a word that is none of `known`, with the nearest one as a hint.
    pub(crate) fn unknown(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        word: &str,
        known: &[&str],
    ) -> ConfigError {
        let mut error = self.error(span, message);
        error.hint = nearest(word, known).map(|near| format!("did you mean `{near}`?"));
        error
    }
}

/// The known word that is nearest to `word`, if one is near enough to be a slip of the fingers.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_ascii_lowercase();
    if word.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|near| (strsim::osa_distance(&word, near), *near))
        .filter(|(distance, near)| *distance <= 1 + near.len() / 4 && *distance < near.len())
        .min()
        .map(|(_, near)| near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let source = Source { file: Path::new("x.toml"), text: "a = 1\nü = \"x\"\n" };
        let at = source.text.find('x').unwrap_or(0);
        assert_eq!(source.error(&(at..at), "bad\x1b").to_string(), "x.toml:2:6: bad\\u{1b}");
        assert_eq!(source.error(&(999..999), "end").line, 3);
    }

    #[test]
    fn near_words() {
        let known = ["image", "memory", "cpus", "pids", "net"];
        for (word, near) in [
            ("imgae", Some("image")),
            ("memroy", Some("memory")),
            ("Image", Some("image")),
            ("cpu", Some("cpus")),
            ("mounts", None),
            ("zzz", None),
        ] {
            assert_eq!(nearest(word, &known), near, "{word}");
        }
        let verbs: Vec<&str> = crate::model::verbs::VERBS.iter().map(|verb| verb.name).collect();
        for (word, near) in [
            ("verfiy-jail", Some("verify-jail")),
            ("dcotor", Some("doctor")),
            ("atach", Some("attach")),
            ("sp", Some("ps")),
            ("", None),
            ("my-website", None),
        ] {
            assert_eq!(nearest(word, &verbs), near, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(5000), &verbs), None);
    }
}
