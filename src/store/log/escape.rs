//! Text to the inside of a JSON string, fast.
//!
//! Owns the escaping of log chunks: `"`, `\`, every C0 and C1 control and DEL. Most output is plain
//! text with a line end now and then, so the scan goes over whole blocks and copies runs.

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Wide enough for the compiler to use vector instructions.
const BLOCK: usize = 32;
/// The longest escape of one byte: `\u001b`.
const LONGEST: usize = 6;

/// What stands for each byte, and its length; 0 for `0xC2`, which starts the C1 controls and so
/// depends on the byte after it.
const TABLE: [([u8; LONGEST], u8); 256] = {
    let mut table = [([0; LONGEST], 1); 256];
    let mut byte = 0_usize;
    while byte < 256 {
        let value = byte.to_le_bytes()[0];
        table[byte] = match value {
            b'"' | b'\\' => ([b'\\', value, 0, 0, 0, 0], 2),
            b'\n' => (*b"\\n\0\0\0\0", 2),
            b'\r' => (*b"\\r\0\0\0\0", 2),
            b'\t' => (*b"\\t\0\0\0\0", 2),
            0..0x20 | 0x7f => (unicode(value), 6),
            0xc2 => ([0; LONGEST], 0),
            _ => ([value, 0, 0, 0, 0, 0], 1),
        };
        byte += 1;
    }
    table
};

const fn unicode(byte: u8) -> [u8; LONGEST] {
    [b'\\', b'u', b'0', b'0', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]
}

/// Appends `text`, escaped, to `out`.
pub fn escape_into(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + bytes.len() / 8);
    // `copied..at` is a run that stands for itself.
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        let block = &bytes[at..bytes.len().min(at + BLOCK)];
        if is_plain(block) {
            at += block.len();
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        let consumed = escape_block(block, bytes.get(at + block.len()).copied(), out);
        at += consumed;
        copied = at;
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// Escapes a block of at most [`BLOCK`] bytes that `next` follows; how many bytes that took, which
/// is one more than the block when it ends in the first half of a C1 control.
fn escape_block(block: &[u8], next: Option<u8>, out: &mut Vec<u8>) -> usize {
    let mut local = [0_u8; BLOCK * LONGEST + LONGEST];
    let (mut filled, mut at) = (0, 0);
    while let Some(byte) = block.get(at) {
        at += 1;
        let (escape, length) = TABLE[usize::from(*byte)];
        let (escape, length) = if length == 0 {
            match block.get(at).copied().or(next) {
                Some(second @ 0x80..=0x9f) => {
                    at += 1;
                    (unicode(second), 6)
                }
                _ => ([*byte, 0, 0, 0, 0, 0], 1),
            }
        } else {
            (escape, length)
        };
        // A constant length is one store; what is too much is overwritten by the next.
        local[filled..filled + LONGEST].copy_from_slice(&escape);
        filled += usize::from(length);
    }
    out.extend_from_slice(&local[..filled]);
    at
}

/// True when every byte stands for itself.
fn is_plain(block: &[u8]) -> bool {
    // No early exit inside: that is what lets it be one comparison of vectors.
    let mut special = 0_u8;
    for byte in block {
        let is = (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\') | (*byte == 0x7f) | (*byte == 0xc2);
        special |= u8::from(is);
    }
    special == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_reads_is_what_was_written() {
        let mut all: String = (0..0x300_u32).filter_map(char::from_u32).collect();
        all.push_str(
            "plain text that is longer than one block, then a quote: \" and 漢字 😀 \u{9b}2J \u{a0}é",
        );
        for start in 0..40 {
            let text = format!("{}{all}", "x".repeat(start));
            let mut out = b"\"".to_vec();
            escape_into(&text, &mut out);
            out.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&out).expect("json"), text);
            let shown = String::from_utf8(out).expect("utf-8");
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
    }
}
