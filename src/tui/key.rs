//! Keys: what was pressed, and the one notation for it (`ctrl-x`, `enter`, `G`, `?`).

use std::fmt;
use std::str::FromStr;

/// Which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A character, as typed (`G`, not shift and `g`).
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Shift and Tab.
    BackTab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Insert.
    Insert,
    /// Up.
    Up,
    /// Down.
    Down,
    /// Left.
    Left,
    /// Right.
    Right,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// A function key.
    F(u8),
}

/// A key with its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which.
    pub code: Code,
    /// Ctrl is held.
    pub ctrl: bool,
    /// Alt is held.
    pub alt: bool,
}

impl Key {
    /// Without modifiers.
    #[must_use]
    pub const fn plain(code: Code) -> Self {
        Self { code, ctrl: false, alt: false }
    }

    /// A character.
    #[must_use]
    pub const fn char(character: char) -> Self {
        Self::plain(Code::Char(character))
    }

    /// Ctrl and a character.
    #[must_use]
    pub const fn ctrl(character: char) -> Self {
        Self { code: Code::Char(character), ctrl: true, alt: false }
    }
}

const NAMED: &[(&str, Code)] = &[
    ("enter", Code::Enter),
    ("esc", Code::Esc),
    ("tab", Code::Tab),
    ("shift-tab", Code::BackTab),
    ("backspace", Code::Backspace),
    ("delete", Code::Delete),
    ("insert", Code::Insert),
    ("up", Code::Up),
    ("down", Code::Down),
    ("left", Code::Left),
    ("right", Code::Right),
    ("home", Code::Home),
    ("end", Code::End),
    ("pageup", Code::PageUp),
    ("pagedown", Code::PageDown),
    ("space", Code::Char(' ')),
];

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("ctrl-")?;
        }
        if self.alt {
            f.write_str("alt-")?;
        }
        match (NAMED.iter().find(|(_, code)| *code == self.code), self.code) {
            (Some((name, _)), _) => f.write_str(name),
            (None, Code::F(number)) => write!(f, "f{number}"),
            (None, Code::Char(character)) => write!(f, "{character}"),
            (None, _) => Ok(()),
        }
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut rest, mut key) = (text, Self::plain(Code::Esc));
        loop {
            if let Some(more) = rest.strip_prefix("ctrl-").filter(|more| !more.is_empty()) {
                (rest, key.ctrl) = (more, true);
            } else if let Some(more) = rest.strip_prefix("alt-").filter(|more| !more.is_empty()) {
                (rest, key.alt) = (more, true);
            } else {
                break;
            }
        }
        let mut characters = rest.chars();
        key.code = match (NAMED.iter().find(|(name, _)| *name == rest), characters.next(), characters.next())
        {
            (Some((_, code)), ..) => *code,
            (None, Some(only), None) if !only.is_control() => Code::Char(only),
            (None, Some('f'), Some(_)) => match rest[1..].parse() {
                Ok(number @ 1..=24) => Code::F(number),
                _ => return Err(unknown(text)),
            },
            _ => return Err(unknown(text)),
        };
        Ok(key)
    }
}

fn unknown(text: &str) -> String {
    let shown = crate::model::sanitize::printable(text);
    format!("`{shown}` is no key: write a character, `enter`, `pagedown`, `f5`, or `ctrl-` and a character")
}

/// A key, or several in a row, as `g g`.
///
/// # Errors
/// The first word that is no key.
pub fn parse_keys(text: &str) -> Result<Vec<Key>, String> {
    let keys: Vec<Key> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    if keys.is_empty() { Err("there is no key".into()) } else { Ok(keys) }
}

/// Keys in a row, as they are written.
#[must_use]
pub fn show_keys(keys: &[Key]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_they_are_read() {
        for text in
            ["a", "G", "?", "ctrl-d", "ctrl-]", "alt-x", "enter", "space", "f12", "pagedown", "-", "g g"]
        {
            assert_eq!(show_keys(&parse_keys(text).expect(text)), text);
        }
        for text in ["", "ctlr-x", "f0", "f99", "ab", "\x1b"] {
            assert!(parse_keys(text).is_err(), "{text}");
        }
        assert_eq!(parse_keys("ctrl-x").expect("good"), [Key::ctrl('x')]);
    }
}
