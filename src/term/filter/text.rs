//! Text between sequences: it passes as it is, long runs at once; controls that are not allowed and what is
//! not UTF-8 do not.

use memchr::memchr_iter;

use crate::term::sequence::incomplete_end;

/// Which C0 controls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controls {
    /// BEL BS HT LF VT FF CR SO SI.
    Terminal,
    /// HT LF.
    Log,
}

impl Controls {
    pub(super) fn allow(self, byte: u8) -> bool {
        match self {
            Self::Terminal => (0x07..=0x0f).contains(&byte),
            Self::Log => matches!(byte, b'\t' | b'\n'),
        }
    }

    /// Whether `byte` may be copied without a second look. Written without branches, for the vector unit.
    fn copies(self, byte: u8) -> bool {
        let (first, last) = match self {
            Self::Terminal => (0x07, 0x0f),
            Self::Log => (b'\t', b'\n'),
        };
        ((byte >= 0x20) & (byte != 0x7f)) | ((byte >= first) & (byte <= last))
    }
}

/// Appends what may pass of `text`, which has no ESC. With `open_end`, more may follow: returns the beginning of a
/// character that `text` ends with, to be seen again.
pub(super) fn pass<'a>(text: &'a [u8], controls: Controls, open_end: bool, out: &mut Vec<u8>) -> &'a [u8] {
    let open = if open_end { incomplete_end(text) } else { 0 };
    let (text, open) = text.split_at(text.len() - open);
    let mut rest = text;
    while !rest.is_empty() {
        let end = run_length(rest, controls);
        copy(&rest[..end], out);
        // The byte after a run is a control that does not pass.
        rest = &rest[rest.len().min(end + 1)..];
    }
    open
}

fn run_length(bytes: &[u8], controls: Controls) -> usize {
    const BLOCK: usize = 64;
    let mut at = 0;
    for block in bytes.chunks(BLOCK) {
        if !block.iter().fold(true, |all, &byte| all & controls.copies(byte)) {
            break;
        }
        at += block.len();
    }
    at + bytes[at..].iter().position(|&byte| !controls.copies(byte)).unwrap_or(bytes.len() - at)
}

/// Copies text that has no C0 control but those that pass.
fn copy(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_ascii() {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        copy_without_c1(chunk.valid().as_bytes(), out);
        match chunk.invalid() {
            // Empty at the end; a lone 8-bit control is not a character, and the cube's screen shows none either.
            [] | [0x80..=0x9f] => {}
            _ => out.extend_from_slice("\u{fffd}".as_bytes()),
        }
    }
}

/// U+0080 to U+009F are the 8-bit controls; in UTF-8, 0xC2 and their number.
fn copy_without_c1(valid: &[u8], out: &mut Vec<u8>) {
    let mut from = 0;
    for at in memchr_iter(0xc2, valid) {
        if valid[at + 1] <= 0x9f {
            out.extend_from_slice(&valid[from..at]);
            from = at + 2;
        }
    }
    out.extend_from_slice(&valid[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_passes_and_controls_do_not() {
        for (text, passed, open) in [
            (&b"plain\r\n\ttext"[..], &b"plain\r\n\ttext"[..], &b""[..]),
            (b"a\0b\x05c\x18d\x7fe", b"abcde", b""),
            ("größe 漢字".as_bytes(), "größe 漢字".as_bytes(), b""),
            ("a\u{9b}31mb\u{85}".as_bytes(), b"a31mb", b""),
            (b"a\x9b31m", b"a31m", b""),
            (b"\xffx\xe6\xbcy", "\u{fffd}x\u{fffd}y".as_bytes(), b""),
            (b"a\xe6\xbc", b"a", b"\xe6\xbc"),
            (b"a\xf0\x9f\x91", b"a", b"\xf0\x9f\x91"),
            (b"a\xe6\xbc\xa2", "a漢".as_bytes(), b""),
            (b"\xc0\x80", "\u{fffd}".as_bytes(), b""),
        ] {
            let mut out = Vec::new();
            assert_eq!(pass(text, Controls::Terminal, true, &mut out), open, "{text:?}");
            assert_eq!(out, passed, "{text:?}");
        }
    }

    #[test]
    fn an_end_that_is_not_open_is_replaced() {
        let mut out = Vec::new();
        assert_eq!(pass(b"a\xe6\xbc", Controls::Terminal, false, &mut out), b"");
        assert_eq!(out, "a\u{fffd}".as_bytes());
    }

    #[test]
    fn a_log_has_lines_and_tabs_only() {
        let mut out = Vec::new();
        pass(b"a\x08\x07\tb\r\n\x0e", Controls::Log, true, &mut out);
        assert_eq!(out, b"a\tb\n");
    }
}
