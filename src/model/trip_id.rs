//! `TripId`: the identity of one launch.

use std::fmt;

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters before the underscore.
const HEAD: usize = 24;
/// Characters after it.
const TAIL: usize = 7;

/// 24 letters and digits, `_`, 7 more. Sorts by launch time: the head starts with the time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TripId(String);

/// The text is not a TripID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a TripID: 24 letters and digits, `_`, 7 more", super::sanitize::printable(.0))]
pub struct TripIdError(String);

impl TripId {
    /// Makes an id of the launch time (milliseconds since 1970, 48 bits used) and 16 random bytes.
    ///
    /// The time comes first so that ids sort by age, and the tail is random so that a short prefix
    /// is not the only handle: 105 bits are random.
    #[must_use]
    pub fn from_parts(unix_millis: u64, random: [u8; 16]) -> Self {
        let mut text = String::with_capacity(HEAD + 1 + TAIL);
        // 10 characters of 5 bits hold 50 bits: the 48 bits of the time, as in ULID.
        for index in (0..10).rev() {
            text.push(letter((unix_millis >> (5 * index)) as u128));
        }
        let mut bits = u128::from_le_bytes(random);
        for index in 10..HEAD + TAIL {
            if index == HEAD {
                text.push('_');
            }
            text.push(letter(bits));
            bits >>= 5;
        }
        Self(text)
    }

    /// Parses a whole id.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn parse(text: &str) -> Result<Self, TripIdError> {
        let bytes = text.as_bytes();
        let good = bytes.len() == HEAD + 1 + TAIL
            && bytes
                .iter()
                .enumerate()
                .all(|(i, b)| if i == HEAD { *b == b'_' } else { b.is_ascii_alphanumeric() });
        if good { Ok(Self(text.to_owned())) } else { Err(TripIdError(text.chars().take(64).collect())) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What lists show: enough characters to type. The head's end is random, its start is the time.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[HEAD + 1..]
    }

    /// True when `prefix` names this id: the start of the whole id, or of its tail as lists show it.
    #[must_use]
    pub fn matches(&self, prefix: &str) -> bool {
        !prefix.is_empty() && (self.0.starts_with(prefix) || self.short().starts_with(prefix))
    }
}

fn letter(bits: u128) -> char {
    char::from(ALPHABET[(bits & 31) as usize])
}

impl fmt::Display for TripId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TripId {
    type Error = TripIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TripId> for String {
    fn from(id: TripId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_order() {
        let a = TripId::from_parts(1_700_000_000_000, [7; 16]);
        let b = TripId::from_parts(1_700_000_000_001, [0; 16]);
        assert_eq!(TripId::parse(a.as_str()).as_ref(), Ok(&a));
        assert_eq!(a.as_str().len(), 32);
        assert!(a < b);
        assert!(a.matches(&a.as_str()[..5]) && a.matches(a.short()) && !a.matches(""));
        assert!(TripId::parse("../../etc").is_err());
    }
}
