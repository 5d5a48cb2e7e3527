//! `ByteSize`: an amount of memory or disk.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in bytes. Units are powers of 1024 whether written `M`, `MB` or `MiB`, as podman and
/// docker read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ByteSize(u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a size: {why}; write for example `512M` or `2G` (units b, k, m, g, t; powers of 1024)", text = super::sanitize::printable(.text))]
pub struct ByteSizeError {
    text: String,
    why: &'static str,
}

impl ByteSize {
    /// A size of so many bytes.
    #[must_use]
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// A size of so many MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Parses `512M`, `1.5GiB`, `4096`, `64k`.
    ///
    /// # Errors
    /// What is wrong: no number, an unknown unit, zero, too large.
    pub fn parse(text: &str) -> Result<Self, ByteSizeError> {
        let fail = |why| ByteSizeError { text: text.to_owned(), why };
        let trimmed = text.trim();
        let digits_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits_end);
        if number.is_empty() {
            return Err(fail("it starts with no number"));
        }
        let shift: u32 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(fail("the unit is unknown")),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || fraction.len() > 6 {
            return Err(fail("the number is malformed"));
        }
        let whole: u64 =
            if whole.is_empty() { 0 } else { whole.parse().map_err(|_| fail("the number is too large"))? };
        let scale = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let part: u64 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().map_err(|_| fail("the number is malformed"))?
        };
        let bytes = whole
            .checked_mul(1 << shift)
            .and_then(|b| {
                b.checked_add((u128::from(part) * (1_u128 << shift) / u128::from(scale)).try_into().ok()?)
            })
            .ok_or_else(|| fail("the number is too large"))?;
        if bytes == 0 {
            return Err(fail("it is zero"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
        for (unit, one) in UNITS {
            if self.0 >= one {
                let tenths = u128::from(self.0) * 10 / u128::from(one);
                return if tenths % 10 == 0 {
                    write!(f, "{}{unit}", tenths / 10)
                } else {
                    write!(f, "{}.{}{unit}", tenths / 10, tenths % 10)
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl std::str::FromStr for ByteSize {
    type Err = ByteSizeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Written as a plain count of bytes, so that nothing is rounded.
impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// Read from a count of bytes or from a text with a unit.
impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Count(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Count(count) => Ok(Self(count)),
            Either::Text(text) => Self::parse(&text).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("4096", 4096),
            ("64kb", 65536),
            ("2 T", 2 << 40),
            ("0.5k", 512),
        ] {
            assert_eq!(ByteSize::parse(text).map(ByteSize::get), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn bad_sizes_say_why() {
        for (text, part) in [
            ("", "no number"),
            ("M", "no number"),
            ("12x", "unit"),
            ("0", "zero"),
            ("1.2.3k", "malformed"),
            ("99999999999999999999", "too large"),
            ("99999999T", "too large"),
            ("-1", "no number"),
        ] {
            let message = ByteSize::parse(text).expect_err(text).to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn shown_short() {
        assert_eq!(ByteSize::bytes(1536).to_string(), "1.5K");
        assert_eq!(ByteSize::mib(512).to_string(), "512M");
        assert_eq!(ByteSize::bytes(12).to_string(), "12B");
    }
}
