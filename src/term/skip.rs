//! Which part of a flood of plain text need not be parsed, because nothing of it can be left on the
//! screen or in the history. It decides on bytes alone; the screen checks that its own state allows it.

use memchr::{memchr_iter, memrchr_iter};

/// `text[..head]` is parsed, `text[head..tail]` is skipped, `text[tail..]` is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skip {
    pub(super) head: usize,
    pub(super) tail: usize,
}

/// Length of the prefix that is plain: printable ASCII, UTF-8 bytes, tab, line feed, carriage return. No byte of it can begin
/// a sequence, switch a character set or ask for an answer.
pub(super) fn plain_prefix(bytes: &[u8]) -> usize {
    const BLOCK: usize = 64;
    let dirty = |byte: u8| (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f;
    let mut at = 0;
    // Whole blocks without an early exit, so that the compiler can use vector instructions.
    for block in bytes.chunks(BLOCK) {
        if block.iter().fold(false, |any, &byte| any | dirty(byte)) {
            break;
        }
        at += block.len();
    }
    at + bytes[at..].iter().position(|&byte| dirty(byte)).unwrap_or(bytes.len() - at)
}

/// What may be skipped of plain `text` on a terminal of `rows` lines with `history` more above.
///
/// Both cuts follow `\r\n`, so that the cursor is in column 0 at each. The head has at least `rows` lines: after
/// it a cursor inside the scroll region is at its bottom. The tail scrolls more often than screen and history have
/// lines.
pub(super) fn plan(text: &[u8], rows: usize, history: usize) -> Option<Skip> {
    let after_return = |at: &usize| *at > 0 && text[at - 1] == b'\r';
    let head = memchr_iter(b'\n', text).skip(rows).find(after_return)? + 1;
    let tail = memrchr_iter(b'\n', text).skip(rows + history + 1).find(after_return)? + 1;
    // The last printed character is state (REP repeats it), so the tail must print one.
    let prints = || text[tail..].iter().any(|byte| (0x20..0x7f).contains(byte));
    (head < tail && prints()).then_some(Skip { head, tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ends_at_the_first_control() {
        for (bytes, length) in [
            (&b""[..], 0),
            (b"a\tb\r\n", 5),
            (b"ab\x1bc", 2),
            (b"ab\x07", 2),
            (b"\x7f", 0),
            ("漢字\n".as_bytes(), 7),
        ] {
            assert_eq!(plain_prefix(bytes), length, "{bytes:?}");
        }
        let mut long = vec![b'x'; 1000];
        long[777] = 0;
        assert_eq!(plain_prefix(&long), 777);
    }

    #[test]
    fn the_cuts_follow_a_return_and_leave_enough() {
        let text = b"0123456789\r\n".repeat(100);
        let skip = plan(&text, 5, 10).expect("long enough");
        assert!(text[..skip.head].ends_with(b"\r\n") && text[..skip.tail].ends_with(b"\r\n"));
        assert!(memchr_iter(b'\n', &text[..skip.head]).count() >= 5);
        assert_eq!(memchr_iter(b'\n', &text[skip.tail..]).count(), 16);
        assert_eq!(plan(&text[..12 * 20], 5, 10), None);
        assert_eq!(plan(&b"no return\n".repeat(100), 5, 10), None);
        assert_eq!(plan(&b"\r\n".repeat(100), 5, 10), None, "nothing printed");
    }
}
