//! `Digest`: the name of some bytes, `sha256:` and 64 hexadecimal digits. Refuses every other algorithm.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::sanitize::printable;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a digest: write `sha256:` and 64 digits of 0-9a-f", printable(.0))]
pub struct DigestError(String);

impl Digest {
    /// From the 32 bytes of a hash.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses `sha256:HEX`, in lower case, as the OCI image specification has it.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        text.strip_prefix("sha256:")
            .and_then(Self::from_hex)
            .ok_or_else(|| DigestError(text.chars().take(80).collect()))
    }

    /// From 64 digits.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let hex = hex.as_bytes();
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (slot, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *slot = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The 64 digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first 12 digits, as lists show it.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha256_in_lower_case() {
        let good = format!("sha256:{}", "0af9".repeat(16));
        assert_eq!(Digest::parse(&good).map(|digest| digest.to_string()), Ok(good.clone()));
        for bad in [
            "",
            "sha256:",
            &good.to_uppercase(),
            &good[7..],
            &good[..70],
            &format!("{good}0"),
            &format!("sha512:{}", "0a".repeat(64)),
            "sha256:../../../../etc/passwd/../../../../etc/passwd/../../../../etc/0000",
            &format!("sha256:{}", "é0".repeat(21)),
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }
}
