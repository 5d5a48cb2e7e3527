//! `Name`: what a machine, a project or a kept cube may be called. Validated here and nowhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sanitize::printable;
use super::verbs::is_verb;

/// The longest name, in bytes: it must fit a file name with a suffix and a host name label.
pub const NAME_MAX: usize = 63;

/// A valid name: 1 to 63 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit, and no verb.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name is empty")]
    Empty,
    /// Longer than [`NAME_MAX`] bytes.
    #[error("the name `{}…` is too long: {} bytes, at most {NAME_MAX}", printable(.0), .1)]
    TooLong(String, usize),
    /// A character outside the allowed set.
    #[error("the name `{}` holds {}: only letters, digits, `.`, `_` and `-` are allowed", printable(.0), .1)]
    Character(String, String),
    /// Starts with `.`, `_` or `-`.
    #[error("the name `{}` must start with a letter or a digit", printable(.0))]
    Start(String),
    /// A verb of the command line.
    #[error("the name `{0}` is a command of tripmine: choose another, for example `{0}-1`")]
    Verb(String),
}

impl Name {
    /// Parses `text`.
    ///
    /// # Errors
    /// A [`NameError`] that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong(text.chars().take(24).collect(), text.len()));
        }
        for character in text.chars() {
            let ok = character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
            if !ok {
                let shown = match character {
                    '/' => "a `/`".to_owned(),
                    ' ' => "a space".to_owned(),
                    c if c.is_control() => format!("the control character U+{:04X}", u32::from(c)),
                    c if c.is_ascii() => format!("`{c}`"),
                    c => format!("U+{:04X}", u32::from(c)),
                };
                return Err(NameError::Character(text.to_owned(), shown));
            }
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(NameError::Start(text.to_owned()));
        }
        if is_verb(text) {
            return Err(NameError::Verb(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The machine that always exists.
    #[must_use]
    pub fn default_machine() -> Self {
        Self("default".to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names() {
        for text in ["a", "site", "web-2", "My_App.v1", &"x".repeat(63)] {
            assert_eq!(Name::parse(text).map(String::from).as_deref(), Ok(text));
        }
    }

    #[test]
    fn bad_names_say_why() {
        for (text, part) in [
            ("", "empty"),
            ("..", "must start"),
            (".hidden", "must start"),
            ("-x", "must start"),
            ("a/b", "a `/`"),
            ("a b", "a space"),
            ("a\x1b[2J", "control character U+001B"),
            ("a\u{202e}b", "U+202E"),
            ("run", "is a command"),
            ("verify-jail", "is a command"),
            (&"x".repeat(64), "too long: 64 bytes"),
        ] {
            let message = Name::parse(text).expect_err(text).to_string();
            assert!(message.contains(part), "{text:?}: {message}");
            assert!(!message.contains('\x1b') && !message.contains('\u{202e}'), "{message:?}");
        }
    }
}
