//! The leader key: the one key that a cube never gets alone. It owns the decision which typed bytes go to
//! the cube and which are for us, and decides on time stamps it is given; it reads no clock.
//!
//! Leader then `d` leaves the cube, leader twice sends it once, leader `?` shows help; anything else, or half a second
//! of nothing, sends what was held, in order. Pasted text is never searched. The key is also recognised in the
//! encodings that a cube can switch on: kitty's (`CSI 93;5u`) and xterm's (`CSI 27;5;93~`).

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long the second key may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long the rest of a sequence may take. A lone Escape key waits this long.
const SEQUENCE_PATIENCE: Duration = Duration::from_millis(20);
/// No key's sequence is longer; what is, is not held.
const SEQUENCE_LIMIT: usize = 64;
/// Releases and modifier keys that may follow the leader before the second key.
const HELD_LIMIT: usize = 512;

const PASTE_BEGIN: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// Which key leads: a control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderKey {
    /// The character typed with Ctrl, lower case.
    character: char,
    /// The byte that it sends.
    byte: u8,
}

impl Default for LeaderKey {
    /// Ctrl-], as telnet, virsh and nspawn have it.
    fn default() -> Self {
        Self { character: ']', byte: 0x1d }
    }
}

/// A text that names no leader key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaderKeyError {
    /// It is not `ctrl-` and one character.
    #[error("a leader key is written like `ctrl-]` or `ctrl-a`: {0}")]
    Notation(String),
    /// The key types something else that is needed all the time.
    #[error("this key is also Tab, Enter or Escape and cannot lead: {0}")]
    Taken(String),
}

impl LeaderKey {
    /// Reads `ctrl-]` or `ctrl-a`; `none` gives no leader.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse_setting(text: &str) -> Result<Option<Self>, LeaderKeyError> {
        if text.trim().eq_ignore_ascii_case("none") { Ok(None) } else { text.parse().map(Some) }
    }
}

impl FromStr for LeaderKey {
    type Err = LeaderKeyError;

    fn from_str(text: &str) -> Result<Self, LeaderKeyError> {
        let quoted = || crate::model::sanitize::printable(text);
        let lower = text.trim().to_ascii_lowercase();
        let name = lower.strip_prefix("ctrl-").or_else(|| lower.strip_prefix('^'));
        let character = match name {
            Some("space") => ' ',
            Some(name) if name.len() == 1 => char::from(name.as_bytes()[0]),
            _ => return Err(LeaderKeyError::Notation(quoted())),
        };
        let byte = match character {
            'a'..='z' | '[' | '\\' | ']' | '^' | '_' => character.to_ascii_uppercase() as u8 - b'@',
            '@' | ' ' => 0,
            _ => return Err(LeaderKeyError::Notation(quoted())),
        };
        if matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b) {
            return Err(LeaderKeyError::Taken(quoted()));
        }
        Ok(Self { character, byte })
    }
}

impl fmt::Display for LeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.character {
            ' ' => f.write_str("Ctrl-Space"),
            character => write!(f, "Ctrl-{character}"),
        }
    }
}

/// What to do with what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// These bytes are for the cube.
    Forward(Vec<u8>),
    /// The user leaves the cube.
    Detach,
    /// The user asks what the leader can do.
    Help,
}

/// The matcher. One per attached terminal.
#[derive(Debug)]
pub struct Leader {
    key: Option<LeaderKey>,
    /// The sequence being read, and since when.
    partial: Vec<u8>,
    partial_since: Option<Instant>,
    /// The leader and what came with it, and since when.
    held: Vec<u8>,
    held_since: Option<Instant>,
    /// Inside a paste: how much of its end was seen.
    paste: Option<usize>,
}

impl Leader {
    /// A matcher for `key`; without one, everything is forwarded.
    #[must_use]
    pub fn new(key: Option<LeaderKey>) -> Self {
        Self {
            key,
            partial: Vec::new(),
            partial_since: None,
            held: Vec::new(),
            held_since: None,
            paste: None,
        }
    }

    /// Takes what was typed at `now`; says what to do, in order.
    pub fn feed(&mut self, bytes: &[u8], now: Instant) -> Vec<Action> {
        let mut actions = Actions::default();
        self.lapse(now, &mut actions);
        if self.key.is_none() {
            actions.forward(bytes);
            return actions.0;
        }
        for &byte in bytes {
            match self.paste {
                Some(seen) => self.pasted(byte, seen, &mut actions),
                None => self.typed(byte, now, &mut actions),
            }
        }
        actions.0
    }

    /// When [`Leader::expire`] must be called if nothing is typed before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let partial = self.partial_since.map(|since| since + SEQUENCE_PATIENCE);
        let held = self.held_since.map(|since| since + PATIENCE);
        [partial, held].into_iter().flatten().min()
    }

    /// Lets go of what has been held for too long at `now`.
    pub fn expire(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Actions::default();
        self.lapse(now, &mut actions);
        actions.0
    }

    fn lapse(&mut self, now: Instant, actions: &mut Actions) {
        if self.partial_since.is_some_and(|since| now >= since + SEQUENCE_PATIENCE) {
            self.release(actions);
            self.partial_since = None;
            actions.forward(&std::mem::take(&mut self.partial));
        }
        if self.held_since.is_some_and(|since| now >= since + PATIENCE) {
            self.release(actions);
        }
    }

    /// Forwards what was held for the leader's sake.
    fn release(&mut self, actions: &mut Actions) {
        self.held_since = None;
        actions.forward(&std::mem::take(&mut self.held));
    }

    fn pasted(&mut self, byte: u8, seen: usize, actions: &mut Actions) {
        actions.forward(&[byte]);
        let seen = if byte == PASTE_END[seen] { seen + 1 } else { usize::from(byte == PASTE_END[0]) };
        self.paste = (seen < PASTE_END.len()).then_some(seen);
    }

    fn typed(&mut self, byte: u8, now: Instant, actions: &mut Actions) {
        match (self.partial.as_slice(), byte) {
            // A sequence begins; one that was cut short by it is over.
            (_, 0x1b) => {
                self.finish(now, actions);
                self.partial.push(byte);
                self.partial_since = Some(now);
            }
            ([], _) => self.token(&[byte], now, actions),
            ([_], b'[') | ([_, _, ..], 0x20..=0x3f) if self.partial.len() < SEQUENCE_LIMIT => {
                self.partial.push(byte);
            }
            ([_], 0x20..=0x7e) | ([_, _, ..], 0x40..=0x7e) => {
                self.partial.push(byte);
                self.finish(now, actions);
            }
            _ => {
                self.finish(now, actions);
                self.token(&[byte], now, actions);
            }
        }
    }

    fn finish(&mut self, now: Instant, actions: &mut Actions) {
        self.partial_since = None;
        let token = std::mem::take(&mut self.partial);
        if !token.is_empty() {
            self.token(&token, now, actions);
        }
    }

    /// One key, or one byte of something else.
    fn token(&mut self, token: &[u8], now: Instant, actions: &mut Actions) {
        let key = self.read(token);
        if self.held_since.is_some() {
            match key {
                Key::Leader => {
                    self.held.clear();
                    self.held_since = None;
                    return actions.forward(token);
                }
                Key::Character(command @ ('d' | '?')) => {
                    self.held.clear();
                    self.held_since = None;
                    return actions.0.push(if command == 'd' { Action::Detach } else { Action::Help });
                }
                Key::Silent if self.held.len() < HELD_LIMIT => return self.held.extend_from_slice(token),
                _ => self.release(actions),
            }
        } else if key == Key::Leader {
            self.held.extend_from_slice(token);
            self.held_since = Some(now);
            return;
        }
        if key == Key::Paste {
            self.paste = Some(0);
        }
        actions.forward(token);
    }

    fn read(&self, token: &[u8]) -> Key {
        match token {
            [byte] if self.key.is_some_and(|key| key.byte == *byte) => Key::Leader,
            [byte @ 0x20..=0x7e] => Key::Character(char::from(*byte)),
            PASTE_BEGIN => Key::Paste,
            [0x1b, b'[', params @ .., last @ (b'u' | b'~')] => match Encoded::parse(params, *last) {
                Some(encoded) => self.judge(&encoded),
                None => Key::Other,
            },
            _ => Key::Other,
        }
    }

    fn judge(&self, encoded: &Encoded) -> Key {
        const SHIFT: u32 = 1;
        const CTRL: u32 = 4;
        // Caps lock and num lock are not held down.
        let modifiers = encoded.modifiers & 0b11_1111;
        let is = |wanted: char| encoded.codes.contains(&Some(u32::from(wanted)));
        let code = encoded.codes[0].unwrap_or(0);
        let leads = self.key.is_some_and(|key| modifiers == CTRL && is(key.character));
        let is_lock_or_modifier = matches!(code, 57358..=57360 | 57441..=57454);
        match encoded.event {
            3 => Key::Silent,
            2 if leads => Key::Silent,
            _ if leads => Key::Leader,
            _ if is_lock_or_modifier => Key::Silent,
            _ if modifiers == 0 && code == u32::from('d') => Key::Character('d'),
            _ if modifiers & !SHIFT == 0 && (is('?') || encoded.text == Some(u32::from('?'))) => {
                Key::Character('?')
            }
            _ => Key::Other,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Leader,
    Character(char),
    /// A release, a repeat of the leader, a modifier alone: says nothing.
    Silent,
    Paste,
    Other,
}

/// A key as `CSI code:shifted:base ; modifiers:event ; text u` or `CSI 27 ; modifiers ; code ~` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Encoded {
    /// The key, the shifted key, the key of the base layout.
    codes: [Option<u32>; 3],
    modifiers: u32,
    /// 1 pressed, 2 repeated, 3 released.
    event: u32,
    text: Option<u32>,
}

impl Encoded {
    fn parse(params: &[u8], last: u8) -> Option<Self> {
        let fields: Vec<Vec<Option<u32>>> = std::str::from_utf8(params)
            .ok()?
            .split(';')
            .map(|field| field.split(':').map(|number| number.parse().ok()).collect())
            .collect();
        let at = |field: usize, part: usize| fields.get(field)?.get(part).copied().flatten();
        let held = |number: Option<u32>| number.unwrap_or(1).saturating_sub(1);
        if last == b'~' {
            return (at(0, 0) == Some(27) && fields.len() == 3).then(|| Self {
                codes: [at(2, 0), None, None],
                modifiers: held(at(1, 0)),
                event: 1,
                text: None,
            });
        }
        at(0, 0)?;
        Some(Self {
            codes: [at(0, 0), at(0, 1), at(0, 2)],
            modifiers: held(at(1, 0)),
            event: at(1, 1).unwrap_or(1),
            text: at(2, 0),
        })
    }
}

/// Actions in order; bytes that follow each other are one action.
#[derive(Debug, Default)]
struct Actions(Vec<Action>);

impl Actions {
    fn forward(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Action::Forward(before)) => before.extend_from_slice(bytes),
            _ => self.0.push(Action::Forward(bytes.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests;
