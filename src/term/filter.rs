//! `Filter`: a cube's raw output, made harmless for the user's own terminal. It owns the list of what may
//! pass; everything that is not on it is dropped, whole.
//!
//! Sequences are parsed and written anew, never copied: what comes out is always complete and well formed, so
//! the user's terminal is never left in the middle of one. The output does not depend on how the input is cut.
//! Dropped: every question (the cube's own [`Screen`](super::Screen) answers those: an answer that a cube provokes is typed
//! into it, or into the user's shell after it), titles, links, notifications, clipboard, device control strings,
//! window operations, printing, the user's scrollback (`CSI 3 J`), and 8-bit controls.

mod text;

use alacritty_terminal::vte::{Params, Parser, Perform};

use super::guard::CLIPBOARD_LIMIT;
use super::sequence::Tracker;

/// What `ESC c` becomes: a full reset would also forget the user's own settings.
const SOFT_RESET: &str = concat!(
    "\x1b[<64u\x1b[?1049l\x1b[<64u\x1b[=u",
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?2026l",
    "\x1b[?1l\x1b>\x1b[4l\x1b[20l\x1b[?5l\x1b[?6l\x1b[?7h\x1b[?12l\x1b[?25h\x1b[0 q",
    "\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[m\x1b[r\x1b[H\x1b[J",
);

/// Private modes that a cube may set and reset on the user's terminal.
const PRIVATE_MODES: &[u16] = &[
    1, 5, 6, 7, 12, 25, 47, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1047, 1048, 1049, 2004, 2026,
];
/// Insert and new-line mode. Not 2 (it locks the keyboard) and not 12 (local echo).
const ANSI_MODES: &[u16] = &[4, 20];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// A terminal that the cube has for itself.
    Terminal { clipboard: bool },
    /// Lines of a log: text, line feeds, tabs and colours.
    Log,
}

/// A filter in the middle of a stream.
pub struct Filter {
    policy: Policy,
    parser: Parser,
    tracker: Tracker,
    /// The beginning of a UTF-8 character whose end has not come yet.
    carry: Vec<u8>,
    /// A clipboard text that ESC ended; it counts once the terminator is complete.
    store: Option<Vec<u8>>,
    coloured: bool,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter {
    /// A filter for a terminal that the cube has for itself while it is attached.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Policy::Terminal { clipboard: false })
    }

    /// A filter for log lines on a terminal: only text, line feeds, tabs and SGR pass.
    #[must_use]
    pub fn log() -> Self {
        Self::with(Policy::Log)
    }

    /// Lets the cube put text into the user's clipboard (OSC 52; never read it).
    #[must_use]
    pub fn allow_clipboard(mut self, allow: bool) -> Self {
        if let Policy::Terminal { clipboard } = &mut self.policy {
            *clipboard = allow;
        }
        self
    }

    fn with(policy: Policy) -> Self {
        Self {
            policy,
            parser: Parser::new(),
            tracker: Tracker::default(),
            carry: Vec::new(),
            store: None,
            coloured: false,
        }
    }

    /// Filters the next `bytes` of the stream; appends what may pass to `out`.
    pub fn filter(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.carry.is_empty() {
            self.run(bytes, out);
        } else {
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(bytes);
            self.run(&joined, out);
        }
    }

    /// Ends the stream: what was incomplete is dropped, colours are reset.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.coloured {
            out.extend_from_slice(b"\x1b[m");
        }
        *self = Self::with(self.policy);
    }

    fn run(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let controls = match self.policy {
            Policy::Terminal { .. } => text::Controls::Terminal,
            Policy::Log => text::Controls::Log,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.tracker.is_ground() {
                let end = memchr::memchr(0x1b, rest).unwrap_or(rest.len());
                let (text, next) = rest.split_at(end);
                let open = text::pass(text, controls, next.is_empty(), out);
                self.carry.extend_from_slice(open);
                rest = next;
                if rest.is_empty() {
                    break;
                }
            }
            let Self { policy, parser, tracker, store, coloured, .. } = self;
            let mut writer = Writer { policy: *policy, controls, out, store, coloured };
            let used = tracker.follow_sequence(rest, |run| parser.advance(&mut writer, run));
            rest = &rest[used..];
        }
    }
}

/// A finished piece of a log, for a terminal: only text, line feeds, tabs and SGR, and colours end with it.
pub fn plain(bytes: &[u8], out: &mut Vec<u8>) {
    let mut filter = Filter::log();
    filter.filter(bytes, out);
    filter.finish(out);
}

/// Writes what the parser found and the policy allows.
struct Writer<'a> {
    policy: Policy,
    controls: text::Controls,
    out: &'a mut Vec<u8>,
    store: &'a mut Option<Vec<u8>>,
    coloured: &'a mut bool,
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn csi(&mut self, params: &str, middle: &str, action: char) {
        let (private, intermediate) = match middle {
            " " | "!" => ("", middle),
            _ => (middle, ""),
        };
        self.put(&format!("\x1b[{private}{params}{intermediate}{action}"));
    }

    fn modes(&mut self, params: &Params, private: &str, allowed: &[u16], action: char) {
        let modes: Vec<String> = params
            .iter()
            .filter(|param| param.len() == 1 && allowed.contains(&param[0]))
            .map(|param| param[0].to_string())
            .collect();
        if !modes.is_empty() {
            self.csi(&modes.join(";"), private, action);
        }
    }
}

/// The parameters as they are written; a lone 0 is left out, as programs do.
fn written(params: &Params) -> String {
    if params.len() == 1 && params.iter().next() == Some(&[0]) {
        return String::new();
    }
    let groups: Vec<String> =
        params.iter().map(|group| group.iter().map(u16::to_string).collect::<Vec<_>>().join(":")).collect();
    groups.join(";")
}

/// How many parameters (not counting one that is not given) a movement or an edit may have.
fn arity(action: char) -> Option<usize> {
    Some(match action {
        'H' | 'f' | 'r' => 2,
        '@'
        | 'A'..='G'
        | 'I'
        | 'J'
        | 'K'
        | 'L'
        | 'M'
        | 'P'
        | 'S'
        | 'T'
        | 'X'
        | 'Z'
        | '`'
        | 'a'
        | 'b'
        | 'd'
        | 'e'
        | 'g' => 1,
        // With parameters, `s` sets the left and right margins.
        's' | 'u' => 0,
        _ => return None,
    })
}

impl Perform for Writer<'_> {
    fn csi_dispatch(&mut self, params: &Params, middle: &[u8], ignore: bool, action: char) {
        *self.store = None;
        let (false, Ok(middle)) = (ignore, std::str::from_utf8(middle)) else { return };
        if (middle, action) == ("", 'm') {
            let written = written(params);
            *self.coloured = !written.is_empty();
            self.csi(&written, "", 'm');
            return;
        }
        if self.policy == Policy::Log {
            return;
        }
        let first = params.iter().next().map_or(0, |group| group[0]);
        let count = if params.len() == 1 && first == 0 { 0 } else { params.len() };
        match (middle, action) {
            ("", 'h' | 'l') => self.modes(params, "", ANSI_MODES, action),
            ("?", 'h' | 'l') => self.modes(params, "?", PRIVATE_MODES, action),
            ("", 'J') if first > 2 => {}
            ("", _) if arity(action).is_some_and(|most| count <= most) => {
                self.csi(&written(params), "", action);
            }
            (" ", 'q') if first <= 6 && count <= 1 => self.csi(&first.to_string(), " ", 'q'),
            ("!", 'p') if count == 0 => self.csi("", "!", 'p'),
            (">" | "<", 'u') if count <= 1 => self.csi(&written(params), middle, 'u'),
            ("=", 'u') if count <= 2 => self.csi(&written(params), "=", 'u'),
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, middle: &[u8], ignore: bool, byte: u8) {
        let store = self.store.take();
        if ignore || self.policy == Policy::Log {
            return;
        }
        match (middle, byte) {
            ([], b'\\') => {
                if let Some(store) = store {
                    self.out.extend_from_slice(&store);
                }
            }
            ([], b'7' | b'8' | b'=' | b'>' | b'D' | b'E' | b'M' | b'H') => {
                self.out.extend_from_slice(&[0x1b, byte]);
            }
            ([], b'c') => self.put(SOFT_RESET),
            ([b'#'], b'8') => self.put("\x1b#8"),
            ([set @ (b'(' | b')' | b'*' | b'+')], b'0' | b'A' | b'B') => {
                self.out.extend_from_slice(&[0x1b, *set, byte]);
            }
            _ => {}
        }
    }

    /// A control inside a sequence acts at once, before the sequence.
    fn execute(&mut self, byte: u8) {
        *self.store = None;
        if self.controls.allow(byte) {
            self.out.push(byte);
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], bell_terminated: bool) {
        *self.store = None;
        let (Policy::Terminal { clipboard: true }, [b"52", target, data]) = (self.policy, params) else {
            return;
        };
        let is_target = target.len() <= 8 && target.iter().all(|byte| b"cps01234567".contains(byte));
        let is_data = (1..=CLIPBOARD_LIMIT).contains(&data.len())
            && data.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte));
        if is_target && is_data {
            let store = [b"\x1b]52;", *target, b";", *data, b"\x07"].concat();
            if bell_terminated {
                self.out.extend_from_slice(&store);
            } else {
                *self.store = Some(store);
            }
        }
    }
}

#[cfg(test)]
mod tests;
