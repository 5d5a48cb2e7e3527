//! Differences of texts, bounded in size and time: both sides may have been chosen by a cube.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use similar::{Algorithm, TextDiff};

/// The largest text that is compared line by line.
pub const MAX_TEXT: u64 = 512 << 10;
/// The longest difference that is told.
const MAX_DIFF: usize = 256 << 10;
/// The longest time that one comparison may take.
const TIME: Duration = Duration::from_millis(300);

/// How two contents differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "text")]
pub enum Diff {
    /// As `diff -u` shows it, without the two lines of its head.
    Text(String),
    /// One of them is no text.
    Binary,
    /// One of them is too long.
    Long,
}

/// The difference between two files; an absent one is empty.
#[must_use]
pub fn diff(old: Option<File>, new: Option<File>) -> Diff {
    match (text(old), text(new)) {
        (Ok(old), Ok(new)) => of(&old, &new),
        (Err(Diff::Long), _) | (_, Err(Diff::Long)) => Diff::Long,
        _ => Diff::Binary,
    }
}

fn of(old: &str, new: &str) -> Diff {
    let diff = TextDiff::configure().algorithm(Algorithm::Myers).timeout(TIME).diff_lines(old, new);
    let text = diff.unified_diff().context_radius(3).to_string();
    if text.len() > MAX_DIFF { Diff::Long } else { Diff::Text(text) }
}

fn text(file: Option<File>) -> Result<String, Diff> {
    let Some(file) = file else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    if file.take(MAX_TEXT + 1).read_to_end(&mut bytes).is_err() {
        return Err(Diff::Binary);
    }
    if bytes.len() as u64 > MAX_TEXT {
        return Err(Diff::Long);
    }
    if bytes.contains(&0) {
        return Err(Diff::Binary);
    }
    String::from_utf8(bytes).map_err(|_| Diff::Binary)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn file(bytes: &[u8]) -> Option<File> {
        let mut file = tempfile::tempfile().expect("tempfile");
        file.write_all(bytes).expect("write");
        file.rewind().expect("rewind");
        Some(file)
    }

    #[test]
    fn texts_differ_by_lines_and_the_rest_is_named() {
        assert_eq!(
            diff(file(b"a\nb\nc\n"), file(b"a\nB\nc\n")),
            Diff::Text("@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n".to_owned())
        );
        assert_eq!(diff(None, file(b"x\n")), Diff::Text("@@ -0,0 +1 @@\n+x\n".to_owned()));
        assert_eq!(diff(file(b"a\0"), file(b"b")), Diff::Binary);
        assert_eq!(diff(file(b"a"), file(b"\xff\xfe")), Diff::Binary);
        let long = vec![b'a'; 1 + usize::try_from(MAX_TEXT).expect("small")];
        assert_eq!(diff(file(&long), file(b"a")), Diff::Long);
    }

    #[test]
    fn what_would_take_for_ever_does_not() {
        let lines = |seed: u32| -> Vec<u8> {
            (0..60_000_u32).flat_map(|n| format!("{}\n", n.wrapping_mul(seed) % 977).into_bytes()).collect()
        };
        let begun = std::time::Instant::now();
        let _whatever = diff(file(&lines(31)), file(&lines(57)));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
