//! Carry groups: which parts of a home belong to the work that was done on it rather than to the machine, such as an
//! assistant's conversations. Owns the patterns. A copy of a home leaves each group out unless it is asked for.

use serde::{Deserialize, Serialize};

use super::Name;
use super::sanitize::printable;

/// A place in a home: a path from it, in which `*` stands for any part of a name. It covers all that is beneath.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CarryPattern(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no place in a home: write a path from it, such as `.notes` or `.app/*/log`", printable(.0))]
pub struct CarryError(String);

impl CarryPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Empty, absolute, or with a part that is empty, `.` or `..`.
    pub fn parse(text: &str) -> Result<Self, CarryError> {
        let plain = text.strip_prefix("~/").unwrap_or(text);
        let plain = plain.strip_suffix('/').unwrap_or(plain);
        let odd = |part: &str| matches!(part, "" | "." | "..") || part.bytes().any(|byte| byte < b' ');
        if plain.len() > 1024 || plain.split('/').any(odd) {
            return Err(CarryError(text.chars().take(80).collect()));
        }
        Ok(Self(plain.to_owned()))
    }

    /// True when `path`, from the home, is such a place itself.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let (mut parts, mut names) = (self.0.as_bytes().split(is_slash), path.split(is_slash));
        loop {
            match (parts.next(), names.next()) {
                (None, None) => return true,
                (Some(part), Some(name)) if matches_name(part, name) => {}
                _ => return false,
            }
        }
    }
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// Linear in both but for going back to the last star.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == name.get(n) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, from)) = star {
            (p, n) = (at + 1, from + 1);
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl TryFrom<String> for CarryPattern {
    type Error = CarryError;
    fn try_from(text: String) -> Result<Self, CarryError> {
        Self::parse(&text)
    }
}

impl From<CarryPattern> for String {
    fn from(pattern: CarryPattern) -> Self {
        pattern.0
    }
}

impl std::fmt::Display for CarryPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Places that are asked about together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarryGroup {
    /// What they are called.
    pub name: Name,
    /// The places.
    pub patterns: Vec<CarryPattern>,
}

impl CarryGroup {
    /// True when `path` belongs to it.
    #[must_use]
    pub fn has(&self, path: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(path))
    }
}

/// The groups of a machine that names none: where assistants keep what was said on projects, and where shells and
/// interpreters keep what was typed.
#[must_use]
pub fn usual() -> Vec<CarryGroup> {
    const CONVERSATIONS: &[&str] = &[
        ".*/projects",
        ".*/sessions",
        ".*/conversations",
        ".*/chats",
        ".*/todos",
        ".*/history*",
        ".*/*history*",
        ".config/*/sessions",
        ".config/*/conversations",
        ".config/*/history*",
        ".local/share/*/sessions",
        ".local/share/*/conversations",
        ".local/share/*/storage",
        ".local/state/*/sessions",
        ".*.history*",
    ];
    const TYPED: &[&str] =
        &[".*_history", ".lesshst", ".viminfo", ".local/share/*/*history*", ".local/state/*/*history*"];
    [("conversations", CONVERSATIONS), ("typed", TYPED)]
        .into_iter()
        .filter_map(|(name, patterns)| {
            let patterns = patterns.iter().filter_map(|pattern| CarryPattern::parse(pattern).ok()).collect();
            Some(CarryGroup { name: Name::parse(name).ok()?, patterns })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (pattern, path, yes) in [
            (".notes", ".notes", true),
            ("~/.notes/", ".notes", true),
            (".notes", ".notes/a", false),
            (".notes", "x/.notes", false),
            (".*/projects", ".app/projects", true),
            (".*/projects", "app/projects", false),
            (".*_history", ".bash_history", true),
            (".*_history", ".bash_history.old", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", ".any", true),
            ("*", "a/b", false),
        ] {
            let found = CarryPattern::parse(pattern).expect(pattern).matches(path.as_bytes());
            assert_eq!(found, yes, "{pattern} {path}");
        }
        for wrong in ["", "/etc", "a//b", "../x", "a/./b", "~/", "a\n"] {
            assert!(CarryPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_usual_groups_know_the_usual_places() {
        let group = |path: &str| {
            let groups = usual();
            groups.iter().find(|group| group.has(path.as_bytes())).map(|group| group.name.to_string())
        };
        assert_eq!(usual().len(), 2);
        assert_eq!(group(".bash_history").as_deref(), Some("typed"));
        assert_eq!(group(".agent/projects").as_deref(), Some("conversations"));
        assert_eq!(group(".agent/history.jsonl").as_deref(), Some("conversations"));
        for kept in
            [".bashrc", ".agent", ".agent/settings.json", "projects", ".config/git/config", ".cargo/bin"]
        {
            assert_eq!(group(kept), None, "{kept}");
        }
    }
}
