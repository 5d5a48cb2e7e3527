//! `ImageRef`: which read-only root a cube starts from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageRef {
    /// The built-in image, made of this host's own system folders.
    Host,
    /// A stored image, by name (`dev`, `dev@2`) or digest. The store of images is a later capability.
    Stored(String),
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
