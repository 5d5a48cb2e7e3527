//! `HostName`: the one strict parser of names. Whatever a cube, a person or a file says goes
//! through here once, before anything compares, resolves or dials it.

use std::fmt;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};

use crate::model::sanitize::printable;

/// The longest name in characters, without the trailing dot (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;
/// The longest label (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// Names that mean the host itself, from inside a cube. Loopback of the host, so out of reach
/// unless a rule or hole names `127.0.0.1` with the port.
pub const HOST_ALIASES: [&str; 2] = ["host.tripmine.internal", "host.containers.internal"];

/// A canonical host name: lower-case ASCII labels of letters, digits, `-` and `_`, at most 253
/// characters, no trailing dot, and nothing that any program would read as an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(Box<str>);

/// Why a text is no [`HostName`]. The text in it is shown, never raw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Nothing was given.
    #[error("a host name is empty")]
    Empty,
    /// Longer than [`NAME_MAX`].
    #[error("the host name `{0}…` is too long: {1} characters, at most {NAME_MAX}")]
    TooLong(String, usize),
    /// Two dots in a row, or one at the start.
    #[error("the host name `{0}` has an empty part between two dots")]
    EmptyLabel(String),
    /// A label of more than [`LABEL_MAX`].
    #[error("the host name `{0}` has a part of more than {LABEL_MAX} characters")]
    LongLabel(String),
    /// A character that no host name has.
    #[error("the host name `{0}` holds {1}, which no host name does")]
    Character(String, String),
    /// A label that starts or ends with `-`.
    #[error("a part of the host name `{0}` starts or ends with `-`")]
    Hyphen(String),
    /// Some programs read it as an address: `127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`.
    #[error("`{0}` ends in a number: some programs read it as an address in another notation")]
    Number(String),
    /// Not valid under IDNA (UTS 46).
    #[error("`{0}` is not a valid international name")]
    International(String),
}

impl HostName {
    /// Parses what a person or a peer wrote. One trailing dot is taken away, capitals become
    /// small, international names become their ASCII form (IDNA, UTS 46, not transitional).
    ///
    /// # Errors
    /// A [`HostNameError`] that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        if text.is_ascii() {
            return Self::parse_ascii(text);
        }
        // Bounded before IDNA works on it: no valid name is longer, in whatever script.
        if text.chars().count() > NAME_MAX + 1 {
            return Err(too_long(text));
        }
        let ascii = to_ascii(text).ok_or_else(|| HostNameError::International(short(text)))?;
        Self::parse_ascii(&ascii)
    }

    /// Parses a name that must be ASCII already, as in DNS and SOCKS.
    ///
    /// # Errors
    /// As [`HostName::parse`]; anything that is not ASCII is a character no name has.
    pub fn parse_ascii(text: &str) -> Result<Self, HostNameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostNameError::Empty);
        }
        if name.len() > NAME_MAX {
            return Err(too_long(name));
        }
        if let Some(bad) = name.chars().find(|c| !is_allowed(*c)) {
            return Err(HostNameError::Character(short(name), shown(bad)));
        }
        for label in name.split('.') {
            if label.is_empty() {
                return Err(HostNameError::EmptyLabel(short(name)));
            }
            if label.len() > LABEL_MAX {
                return Err(HostNameError::LongLabel(short(name)));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(HostNameError::Hyphen(short(name)));
            }
        }
        let name = name.to_ascii_lowercase();
        if ends_in_number(&name) {
            return Err(HostNameError::Number(short(&name)));
        }
        let punycode = name.split('.').any(|label| label.starts_with("xn--"));
        // A punycode label that does not decode, or decodes to what should have been written otherwise.
        if punycode && to_ascii(&name).as_deref() != Some(name.as_str()) {
            return Err(HostNameError::International(short(&name)));
        }
        Ok(Self(name.into()))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when `self` lies beneath `parent`, by whole labels. A name does not lie beneath itself.
    #[must_use]
    pub fn is_beneath(&self, parent: &Self) -> bool {
        self.0.strip_suffix(&*parent.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }

    /// True for `localhost` and names beneath it: always the machine that asks (RFC 6761, 6.3).
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        &*self.0 == "localhost" || self.0.ends_with(".localhost")
    }

    /// True for `.onion` names, which no DNS server may be asked for (RFC 7686).
    #[must_use]
    pub fn is_onion(&self) -> bool {
        &*self.0 == "onion" || self.0.ends_with(".onion")
    }

    /// True for the names of the host itself ([`HOST_ALIASES`]).
    #[must_use]
    pub fn is_host_alias(&self) -> bool {
        HOST_ALIASES.contains(&&*self.0)
    }
}

fn to_ascii(text: &str) -> Option<String> {
    let deny = AsciiDenyList::EMPTY;
    let ascii = Uts46::new().to_ascii(text.as_bytes(), deny, Hyphens::Allow, DnsLength::Ignore);
    ascii.ok().map(std::borrow::Cow::into_owned)
}

/// The rule of the URL standard ("ends in a number"): the last label is decimal, or hexadecimal
/// after `0x`. Such a text is an address to inet_aton(3) and never a name in the public DNS.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
    hex || last.chars().all(|c| c.is_ascii_digit())
}

const fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn too_long(text: &str) -> HostNameError {
    HostNameError::TooLong(short(&text.chars().take(32).collect::<String>()), text.chars().count())
}

/// At most 80 characters of it, made visible.
fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(80).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    printable(&cut)
}

fn shown(c: char) -> String {
    match c {
        ' ' => "a space".to_owned(),
        c if c.is_ascii_graphic() => format!("`{c}`"),
        c => format!("the character U+{:04X}", u32::from(c)),
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for HostName {
    type Err = HostNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0.into()
    }
}
