//! `Failure`: an error as a person meets it, whichever face shows it.

use std::error::Error;
use std::fmt;

use super::sanitize::printable;

/// What kind of failure; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The command line is wrong: exit code 2.
    Usage,
    /// A configuration file is wrong.
    Config,
    /// Refused: by a rule, or because it was not confirmed.
    Denied,
    /// What was named does not exist.
    Missing,
    /// It is in use.
    Busy,
    /// This host, or this build, cannot do it.
    Unsupported,
    /// Anything else that failed.
    Failed,
}

/// One line that says what failed, on which thing and why; then causes; then what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// The one line: lower case, no full stop.
    pub message: String,
    /// Causes, outermost first; none repeats the message.
    pub causes: Vec<String>,
    /// One next step each.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure of `kind` that says `message`. Controls in it are made visible.
    pub fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: one_line(message.as_ref()), causes: Vec::new(), hints: Vec::new() }
    }

    /// A failure of kind [`FailureKind::Failed`].
    pub fn failed(message: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Failed, message)
    }

    /// A failure of kind [`FailureKind::Usage`].
    pub fn usage(message: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// Adds a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hints.push(one_line(hint.as_ref()));
        self
    }

    /// Adds `error` and its sources as causes.
    #[must_use]
    pub fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(one_line(&error.to_string()));
            next = error.source();
        }
        self
    }

    /// The exit code of the command that met this failure.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.kind {
            FailureKind::Usage => 2,
            _ => 1,
        }
    }
}

/// A message may quote file names; line breaks we made stay, other controls are shown.
fn one_line(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl Error for Failure {}
