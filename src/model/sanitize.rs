//! Text that came from a cube, a file name or a stranger, made safe to show in one line.

/// Replaces everything that a terminal might act on, or that changes the reading order, by a
/// visible escape. Ordinary text of any script passes unchanged. C0 and C1 controls, DEL, the bidirectional
/// controls (Unicode UAX #9) and other invisible format characters do not.
#[must_use]
pub fn printable(text: &str) -> String {
    #[cfg(feature = "counterproof")]
    if counterproof::is_raw() {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if c.is_control() || is_invisible(c) => {
                shown.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// As [`printable`], for bytes: what is not UTF-8 is shown as `\xNN`.
#[must_use]
pub fn printable_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

const fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Leaves [`printable`] out, to show that tests notice.
#[cfg(feature = "counterproof")]
pub mod counterproof {
    use std::sync::atomic::{AtomicBool, Ordering};

    static RAW: AtomicBool = AtomicBool::new(false);

    /// From here on text is shown as it is.
    pub fn show_raw() {
        RAW.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_raw() -> bool {
        RAW.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_become_visible() {
        assert_eq!(printable("a\x1b]52;c;x\x07b"), "a\\u{1b}]52;c;x\\u{7}b");
        assert_eq!(printable("x\u{9b}2Jy\u{202e}z"), "x\\u{9b}2Jy\\u{202e}z");
        assert_eq!(printable("größe 漢字"), "größe 漢字");
        assert_eq!(printable_bytes(b"a\xffb\n"), "a\\xffb\\n");
    }
}
