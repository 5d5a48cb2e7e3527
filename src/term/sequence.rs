//! Where a byte stream stands between two escape sequences. It owns one fact that `vte` keeps private
//! (is the parser in its ground state?) and two limits that `vte` does not have: how long an OSC may grow, and
//! how often one sequence may repeat a character.
//!
//! A mirror of the state machine of `vte` 0.15, without its actions. It must be shown every byte that the
//! parser is shown, and the parser must be shown only the bytes that this lets through.

/// Bytes of one OSC that are kept. What follows is dropped up to the terminator: `vte` would buffer
/// without end.
pub(super) const OSC_LIMIT: usize = 128 * 1024;

/// REP with a count of so many digits (leading zeros count) is cancelled: nine bytes could ask for 65535
/// characters.
const MANY_DIGITS: u8 = 4;

const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    EscapeIntermediate,
    /// Digits of the current parameter, or [`MANY_DIGITS`] once any had so many.
    Csi(u8),
    /// Bytes so far.
    Osc(usize),
    DcsEntry,
    DcsParam,
    DcsIntermediate,
    DcsData,
    /// Until ESC, CAN or SUB: a malformed DCS, and SOS, PM, APC.
    Ignored,
}

/// What the parser is shown of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Byte,
    Nothing,
    /// CAN in its place, which ends the sequence without effect.
    Cancel,
}

/// The state of the stream after the bytes seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Tracker {
    state: State,
}

impl Tracker {
    /// Whether the next byte is text or a control of its own, not part of a sequence.
    pub(super) fn is_ground(&self) -> bool {
        self.state == State::Ground
    }

    /// Follows all of `bytes`; `keep` gets the runs that may be parsed, in order.
    pub(super) fn follow<'a>(&mut self, bytes: &'a [u8], keep: impl FnMut(&'a [u8])) {
        let consumed = self.run(bytes, false, keep);
        debug_assert_eq!(consumed, bytes.len());
    }

    /// Follows `bytes` (the first of them may be the ESC that leaves the ground state) until the sequence
    /// ends; returns how many bytes it took.
    pub(super) fn follow_sequence<'a>(&mut self, bytes: &'a [u8], keep: impl FnMut(&'a [u8])) -> usize {
        self.run(bytes, true, keep)
    }

    fn run<'a>(&mut self, bytes: &'a [u8], one: bool, mut keep: impl FnMut(&'a [u8])) -> usize {
        let mut from = 0;
        let mut at = 0;
        while at < bytes.len() {
            if self.is_ground() {
                if one && at > 0 {
                    break;
                }
                if !one {
                    let Some(escape) = memchr::memchr(ESC, &bytes[at..]) else {
                        at = bytes.len();
                        break;
                    };
                    at += escape;
                }
            }
            let show = self.step(bytes[at]);
            at += 1;
            if show != Show::Byte {
                keep(&bytes[from..at - 1]);
                from = at;
            }
            if show == Show::Cancel {
                keep(&[CAN]);
            }
        }
        keep(&bytes[from..at]);
        at
    }

    /// Follows one byte; says what the parser may see of it.
    fn step(&mut self, byte: u8) -> Show {
        if let State::Osc(length) = self.state {
            self.state = match byte {
                BEL | CAN | SUB => State::Ground,
                ESC => State::Escape,
                _ if length < OSC_LIMIT => State::Osc(length + 1),
                _ => return Show::Nothing,
            };
            return Show::Byte;
        }
        if (self.state, byte) == (State::Csi(MANY_DIGITS), b'b') {
            self.state = State::Ground;
            return Show::Cancel;
        }
        self.state = match (self.state, byte) {
            (_, ESC) => State::Escape,
            (_, CAN | SUB) => State::Ground,
            (State::Ground, _) => State::Ground,
            (State::Escape, 0x20..=0x2f) => State::EscapeIntermediate,
            (State::Escape, b'[') => State::Csi(0),
            (State::Escape, b']') => State::Osc(0),
            (State::Escape, b'P') => State::DcsEntry,
            (State::Escape, b'X' | b'^' | b'_') => State::Ignored,
            (State::Escape | State::EscapeIntermediate, 0x30..=0x7e) => State::Ground,
            (State::Csi(_), 0x40..=0x7e) => State::Ground,
            (State::Csi(digits), b'0'..=b'9') => State::Csi(MANY_DIGITS.min(digits + 1)),
            (State::Csi(digits), b':' | b';') if digits < MANY_DIGITS => State::Csi(0),
            (State::DcsEntry | State::DcsParam | State::DcsIntermediate, 0x40..=0x7e) => State::DcsData,
            (State::DcsEntry | State::DcsParam, 0x20..=0x2f) => State::DcsIntermediate,
            (State::DcsEntry, 0x30..=0x3f) => State::DcsParam,
            (State::DcsParam, 0x3c..=0x3f) | (State::DcsIntermediate, 0x30..=0x3f) => State::Ignored,
            (State::DcsData, 0x9c) => State::Ground,
            (state, _) => state,
        };
        Show::Byte
    }
}

/// How many bytes at the end begin a character that is not complete.
pub(super) fn incomplete_end(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    // The last lead byte decides; from there on, the bytes must be a prefix of a character.
    let Some(lead) = tail.iter().rposition(|byte| *byte >= 0xc0) else { return 0 };
    match std::str::from_utf8(&tail[lead..]) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() == 0 => tail.len() - lead,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ground_state_is_known() {
        for (bytes, ground) in [
            (&b"text\n"[..], true),
            (b"\x1b", false),
            (b"\x1b[3", false),
            (b"\x1b[31m", true),
            (b"\x1b[3\n1m", true),
            (b"\x1b[3\x18", true),
            (b"\x1b(", false),
            (b"\x1b(0", true),
            (b"\x1b]0;x", false),
            (b"\x1b]0;x\x07", true),
            (b"\x1b]0;x\x1b", false),
            (b"\x1b]0;x\x1b\\", true),
            (b"\x1bP1$qm", false),
            (b"\x1bP1$qm\x1b\\", true),
            (b"\x1bPq\x9c", true),
            (b"\x1bP1<q\x9c", false),
            (b"\x1b_x\x07", false),
            (b"\x1b_x\x1b\\", true),
            (b"\x1b\x1b[\x80m", true),
        ] {
            let mut tracker = Tracker::default();
            tracker.follow(bytes, |_| ());
            assert_eq!(tracker.is_ground(), ground, "{bytes:?}");
        }
    }

    #[test]
    fn an_osc_is_cut_at_the_limit() {
        let mut bytes = b"a\x1b]0;".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 3 * OSC_LIMIT));
        bytes.extend(b"\x07b");
        let mut kept = 0;
        let mut tracker = Tracker::default();
        for chunk in bytes.chunks(1000) {
            tracker.follow(chunk, |run| kept += run.len());
        }
        assert_eq!(kept, OSC_LIMIT + 5, "a, ESC, ], BEL, b, and the limit");
    }

    #[test]
    fn a_great_repeat_is_cancelled() {
        for (bytes, shown) in [
            (&b"x\x1b[999b"[..], &b"x\x1b[999b"[..]),
            (b"x\x1b[1000by", b"x\x1b[1000\x18y"),
            (b"\x1b[65535;1b", b"\x1b[65535;1\x18"),
            (b"\x1b[12;34;56mb", b"\x1b[12;34;56mb"),
            (b"\x1b[10000A", b"\x1b[10000A"),
        ] {
            let mut kept = Vec::new();
            let mut tracker = Tracker::default();
            tracker.follow(bytes, |run| kept.extend_from_slice(run));
            assert_eq!(kept, shown);
            assert!(tracker.is_ground());
        }
    }

    #[test]
    fn a_sequence_is_followed_to_its_end() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.follow_sequence(b"\x1b[31mtext", |_| ()), 5);
        assert_eq!(tracker.follow_sequence(b"\x1b[", |_| ()), 2);
        assert_eq!(tracker.follow_sequence(b"1mtext", |_| ()), 2);
    }
}
