//! `ImageRef`: which read-only root a cube starts from, and the nouns of the OCI image specification.

pub mod config;
pub mod digest;
pub mod document;
pub mod remote;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use config::{HistoryEntry, ImageConfig};
pub use digest::Digest;
pub use document::{Compression, Descriptor, DocumentError, Index, Manifest, MediaType, Platform};

/// A reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageRef {
    /// The built-in image, made of this host's own system folders.
    Host,
    /// A stored image, by name (`dev`, `dev@2`) or digest; [`ImageRef::target`] says which.
    Stored(String),
}

/// What a reference to a stored image names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageTarget {
    /// A name: its newest generation, or the one that is numbered.
    Name {
        /// Without `:latest`, `docker.io/` and `library/`: the short form that people type.
        name: String,
        /// `@N`, from 1.
        generation: Option<u32>,
    },
    /// A manifest's digest, perhaps with the name it was pulled by.
    Digest(Digest),
    /// The start of a digest, at least 6 digits, when no name is spelled like it.
    Short(String),
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an image: write `host`, a name, `name@N` or a digest", super::sanitize::printable(.0))]
pub struct ImageError(String);

impl ImageRef {
    /// Parses a reference.
    ///
    /// # Errors
    /// When it holds anything else than letters, digits and `._-/:@+`, or starts with none of the first two.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        if text == "host" {
            return Ok(Self::Host);
        }
        let good = text.len() <= 255
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@+".contains(&b))
            && !text.split('/').any(|part| part == ".." || part.is_empty());
        if good {
            Ok(Self::Stored(text.to_owned()))
        } else {
            Err(ImageError(text.chars().take(80).collect()))
        }
    }

    /// What it names; `None` for `host`.
    #[must_use]
    pub fn target(&self) -> Option<ImageTarget> {
        let Self::Stored(text) = self else { return None };
        if let Some((_, digest)) = text.rsplit_once('@')
            && let Ok(digest) = Digest::parse(digest)
        {
            return Some(ImageTarget::Digest(digest));
        }
        if let Ok(digest) = Digest::parse(text) {
            return Some(ImageTarget::Digest(digest));
        }
        let short = text.strip_prefix("sha256:").unwrap_or(text);
        let digits = short.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digits && (text.len() != short.len() || (6..=64).contains(&short.len())) {
            return Some(ImageTarget::Short(short.to_owned()));
        }
        let (name, generation) = match text.rsplit_once('@') {
            Some((name, number)) => match number.parse() {
                Ok(number) if number > 0 => (name, Some(number)),
                _ => (text.as_str(), None),
            },
            None => (text.as_str(), None),
        };
        Some(ImageTarget::Name { name: short_name(name).to_owned(), generation })
    }
}

/// The name that people type for what a registry calls `name`: Docker Hub and `:latest` go without saying.
#[must_use]
pub fn short_name(name: &str) -> &str {
    let name = name.strip_suffix(":latest").unwrap_or(name);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

/// A name that an image may be given: a reference to a name, without a generation.
///
/// # Errors
/// It is `host`, a digest, or has a generation or odd characters.
pub fn image_name(text: &str) -> Result<String, ImageError> {
    let wrong = || ImageError(text.chars().take(80).collect());
    match ImageRef::parse(text)?.target() {
        Some(ImageTarget::Name { name, generation: None }) if !name.contains('@') && !name.is_empty() => {
            Ok(name)
        }
        // Hexadecimal words are names too when they are given as such; only digests proper are not.
        Some(ImageTarget::Short(_)) if !text.starts_with("sha256:") && text.len() < 64 => Ok(text.to_owned()),
        _ => Err(wrong()),
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Stored(name) => f.write_str(name),
        }
    }
}

impl std::str::FromStr for ImageRef {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ImageError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, generation: Option<u32>) -> Option<ImageTarget> {
        Some(ImageTarget::Name { name: name.into(), generation })
    }

    #[test]
    fn what_references_name() {
        let digest = Digest::new([0xab; 32]);
        for (text, target) in [
            ("host", None),
            ("dev", named("dev", None)),
            ("dev@2", named("dev", Some(2))),
            ("dev@0", named("dev@0", None)),
            ("debian:12", named("debian:12", None)),
            ("debian:latest", named("debian", None)),
            ("docker.io/library/debian:12", named("debian:12", None)),
            ("localhost:5000/a/b:1@3", named("localhost:5000/a/b:1", Some(3))),
            (&digest.to_string(), Some(ImageTarget::Digest(digest))),
            (&format!("debian@{digest}"), Some(ImageTarget::Digest(digest))),
            ("abcdef0", Some(ImageTarget::Short("abcdef0".into()))),
            ("sha256:abc", Some(ImageTarget::Short("abc".into()))),
        ] {
            assert_eq!(ImageRef::parse(text).expect(text).target(), target, "{text}");
        }
        for bad in ["", "-x", "a b", "a/../b", "a//b", "\u{1b}", "a\u{202e}"] {
            assert!(ImageRef::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_may_be_given() {
        for (text, name) in [
            ("dev", Some("dev")),
            ("beef", Some("beef")),
            ("beefbeef", Some("beefbeef")),
            ("a:latest", Some("a")),
        ] {
            assert_eq!(image_name(text).ok().as_deref(), name, "{text}");
        }
        let digest = Digest::new([1; 32]).to_string();
        for bad in ["host", "dev@2", "dev@x", "sha256:abc", &digest, "a b", ""] {
            assert!(image_name(bad).is_err(), "{bad}");
        }
    }
}
