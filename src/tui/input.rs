//! From the terminal's bytes to keys, pastes and mouse presses. The escape parser is vte's, the one that reads the
//! cubes' screens; this owns only what its sequences mean.
//!
//! There is no reader thread and no buffer behind it: the terminal can be handed over between two bytes, and an end
//! of input is seen by who polls, so nothing spins when the terminal vanishes.

use alacritty_terminal::vte::{Params, Parser, Perform};

use super::key::{Code, Key};

/// The longest paste that is taken, in bytes; the rest is dropped.
const PASTE_MAX: usize = 1 << 20;

/// What the user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Pressed a key.
    Key(Key),
    /// Pasted a text; nothing in it is a key.
    Paste(String),
    /// Used the mouse. Column and row from 0.
    Mouse(Mouse, u16, u16),
}

/// What the mouse did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mouse {
    /// The main button was pressed.
    Press,
    /// The wheel turned away from the user.
    WheelUp,
    /// The wheel turned towards the user.
    WheelDown,
}

/// The decoder. A lone escape is the key Esc once [`Decoder::expire`] says that nothing followed it.
pub struct Decoder {
    parser: Parser,
    sink: Sink,
    /// The last byte was an escape.
    escape: bool,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("escape", &self.escape).finish_non_exhaustive()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self { parser: Parser::new(), sink: Sink::default(), escape: false }
    }
}

impl Decoder {
    /// Takes bytes, gives what they meant.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Input> {
        for byte in bytes {
            let escape = *byte == 0x1b;
            if escape && self.escape {
                self.lone_escape();
            }
            self.escape = escape;
            self.parser.advance(&mut self.sink, &[*byte]);
        }
        std::mem::take(&mut self.sink.found)
    }

    /// True while an escape waits for what may follow it.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.escape
    }

    /// Nothing followed.
    pub fn expire(&mut self) -> Vec<Input> {
        if self.escape {
            self.lone_escape();
            self.escape = false;
        }
        std::mem::take(&mut self.sink.found)
    }

    fn lone_escape(&mut self) {
        self.parser = Parser::new();
        if self.sink.paste.is_none() {
            self.sink.key(Key::plain(Code::Esc));
        }
    }
}

#[derive(Default)]
struct Sink {
    found: Vec<Input>,
    paste: Option<String>,
    /// `ESC O` came: the next character names a key.
    single: bool,
}

impl Sink {
    fn key(&mut self, key: Key) {
        self.found.push(Input::Key(key));
    }
}

impl Perform for Sink {
    fn print(&mut self, character: char) {
        if let Some(paste) = &mut self.paste {
            if paste.len() < PASTE_MAX {
                paste.push(character);
            }
            return;
        }
        if std::mem::take(&mut self.single) {
            if let Some(code) = letter(character) {
                self.key(Key::plain(code));
            }
            return;
        }
        self.key(match character {
            '\u{7f}' => Key::plain(Code::Backspace),
            character => Key::char(character),
        });
    }

    fn execute(&mut self, byte: u8) {
        if let Some(paste) = &mut self.paste {
            if matches!(byte, b'\r' | b'\n' | b'\t') && paste.len() < PASTE_MAX {
                paste.push(if byte == b'\t' { ' ' } else { '\n' });
            }
            return;
        }
        self.key(match byte {
            b'\r' | b'\n' => Key::plain(Code::Enter),
            b'\t' => Key::plain(Code::Tab),
            0x08 => Key::plain(Code::Backspace),
            0 => Key::ctrl(' '),
            1..=26 => Key::ctrl(char::from(byte + b'a' - 1)),
            0x1c..=0x1f => Key::ctrl(char::from(byte + b'@')),
            _ => return,
        });
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        if self.paste.is_some() || !intermediates.is_empty() {
            return;
        }
        if byte == b'O' {
            self.single = true;
        } else {
            self.key(Key { code: Code::Char(char::from(byte)), ctrl: false, alt: true });
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        let number = |index: usize| params.iter().nth(index).and_then(|part| part.first().copied());
        if action == '~' {
            match number(0) {
                Some(200) => self.paste = Some(String::new()),
                Some(201) => {
                    if let Some(text) = self.paste.take() {
                        self.found.push(Input::Paste(text));
                    }
                }
                _ => {}
            }
        }
        if self.paste.is_some() {
            return;
        }
        if intermediates == b"<" {
            return self.mouse(number(0), number(1), number(2), action);
        }
        let code = match action {
            '~' => match number(0) {
                Some(1 | 7) => Code::Home,
                Some(2) => Code::Insert,
                Some(3) => Code::Delete,
                Some(4 | 8) => Code::End,
                Some(5) => Code::PageUp,
                Some(6) => Code::PageDown,
                Some(number @ 11..=15) => Code::F(function(number - 10)),
                Some(number @ 17..=21) => Code::F(function(number - 11)),
                Some(number @ 23..=24) => Code::F(function(number - 12)),
                _ => return,
            },
            'Z' => Code::BackTab,
            other => match letter(other) {
                Some(code) if intermediates.is_empty() => code,
                _ => return,
            },
        };
        // xterm: 1 and the sum of shift 1, alt 2, ctrl 4.
        let modifiers = number(1).unwrap_or(1).saturating_sub(1);
        self.key(Key { code, ctrl: modifiers & 4 != 0, alt: modifiers & 2 != 0 });
    }
}

impl Sink {
    fn mouse(&mut self, button: Option<u16>, x: Option<u16>, y: Option<u16>, action: char) {
        let (Some(button), Some(x), Some(y)) = (button, x, y) else { return };
        let mouse = match (button & !0b1_1100, action) {
            (0, 'M') => Mouse::Press,
            (64, 'M') => Mouse::WheelUp,
            (65, 'M') => Mouse::WheelDown,
            _ => return,
        };
        self.found.push(Input::Mouse(mouse, x.saturating_sub(1), y.saturating_sub(1)));
    }
}

fn function(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(1)
}

const fn letter(character: char) -> Option<Code> {
    Some(match character {
        'A' => Code::Up,
        'B' => Code::Down,
        'C' => Code::Right,
        'D' => Code::Left,
        'H' => Code::Home,
        'F' => Code::End,
        'M' => Code::Enter,
        'P' => Code::F(1),
        'Q' => Code::F(2),
        'R' => Code::F(3),
        'S' => Code::F(4),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> String {
        let mut decoder = Decoder::default();
        let mut all = decoder.feed(bytes);
        all.extend(decoder.expire());
        let shown = all.iter().map(|input| match input {
            Input::Key(key) => key.to_string(),
            Input::Paste(text) => format!("paste:{text:?}"),
            Input::Mouse(mouse, x, y) => format!("{mouse:?}@{x},{y}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn bytes_are_keys() {
        for (bytes, says) in [
            (&b"aG?"[..], "a G ?"),
            (b"\r\n\t\x7f\x08", "enter enter tab backspace backspace"),
            (b"\x03\x1a\x1d\x00", "ctrl-c ctrl-z ctrl-] ctrl-space"),
            (b"\x1b[A\x1bOB\x1b[5~\x1b[Z\x1b[1;5C", "up down pageup shift-tab ctrl-right"),
            (b"\x1b", "esc"),
            (b"\x1b\x1b", "esc esc"),
            (b"\x1b\x1b[A", "esc up"),
            (b"\x1bx\x1b[15~\x1b[24~", "alt-x f5 f12"),
            ("ü漢".as_bytes(), "ü 漢"),
            (b"\x1b[200~a\x1b[Ab\rq\x1b[201~z", "paste:\"ab\\nq\" z"),
            (b"\x1b[<0;3;5M\x1b[<0;3;5m\x1b[<65;1;1M\x1b[<35;9;9M", "Press@2,4 WheelDown@0,0"),
            // Answers of a terminal that were asked for by somebody else are no keys.
            (b"\x1b[?62;c\x1b]11;rgb:0/0/0\x07\x1bP1$r\x1b\\a", "a"),
            (b"\xff\xfea", "\u{fffd} \u{fffd} a"),
        ] {
            assert_eq!(keys(bytes).replace("alt-\\ ", ""), says, "{bytes:?}");
        }
    }

    #[test]
    fn a_split_makes_no_difference() {
        let whole = b"\x1b[A\x1b[200~p\x1b[201~\x1b[<0;3;5Mx";
        for at in 0..whole.len() {
            let mut decoder = Decoder::default();
            let mut found = decoder.feed(&whole[..at]);
            found.extend(decoder.feed(&whole[at..]));
            assert_eq!(found.len(), 4, "split at {at}: {found:?}");
        }
    }
}
