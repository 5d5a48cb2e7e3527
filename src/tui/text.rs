//! The only place that measures and cuts text. Everything shown passes here: it is made harmless, and a column is as
//! wide as it says.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::ByteSize;
use crate::model::sanitize::printable;

/// Marks that one character may carry; names made of nothing else would be drawn over their neighbours.
const MARKS: usize = 3;
/// Characters of one text that are looked at.
const LONGEST: usize = 2000;

/// Text from outside, harmless: controls escaped, joiners gone, marks counted, length bounded.
#[must_use]
pub fn clean(text: &str) -> String {
    let short: String = text.chars().take(LONGEST).collect();
    let mut out = String::with_capacity(short.len());
    let mut marks = 0;
    for character in printable(&short).chars() {
        // Variation selectors change widths on which terminals disagree.
        if matches!(character, '\u{fe00}'..='\u{fe0f}') {
            continue;
        }
        if character.width() == Some(0) {
            marks += 1;
            if marks > MARKS {
                continue;
            }
        } else {
            marks = 0;
        }
        out.push(character);
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// Bytes with one figure after the point.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    // Whole tenths are exact enough beside a plot.
    match bytes {
        0..10_240 => ByteSize::bytes(bytes).to_string(),
        10_240..1_048_576 => format!("{}K", bytes / 1024),
        1_048_576..1_073_741_824 => format!("{}.{}M", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
        _ => format!("{}.{}G", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

/// Columns that a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// At most `columns` columns; what is cut off is marked.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for grapheme in text.graphemes(true) {
        let wide = width(grapheme);
        if used + wide + 1 > columns {
            break;
        }
        out.push_str(grapheme);
        used += wide;
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// Exactly `columns` columns: cut or filled with blanks.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let mut out = fit(text, columns);
    out.push_str(&" ".repeat(columns.saturating_sub(width(&out))));
    out
}

/// The last `columns` columns of a path: its end says more than its start.
#[must_use]
pub fn fit_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut kept, mut used) = (Vec::new(), 1);
    for grapheme in text.graphemes(true).rev() {
        used += width(grapheme);
        if used > columns {
            break;
        }
        kept.push(grapheme);
    }
    kept.push(if columns > 0 { "…" } else { "" });
    kept.into_iter().rev().collect()
}

/// Lines of at most `columns` columns, broken at blanks where there are any.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    // Marks belong to the word they stand at: `key` is not torn from its quotes.
    for word in text.split_inclusive(char::is_whitespace) {
        let line = lines.last().map_or(0, |line| width(line));
        if line + width(word.trim_end()) > columns && line > 0 {
            lines.push(String::new());
        }
        for grapheme in word.graphemes(true) {
            if lines.last().is_some_and(|line| width(line) + width(grapheme) > columns) {
                if grapheme.trim().is_empty() {
                    break;
                }
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push_str(grapheme);
            }
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_say() {
        let marks = format!("e{}", "\u{301}".repeat(2000));
        for name in [
            "plain",
            "漢字漢字漢字",
            "a\x1b[2Jb\nc",
            "x\u{202e}y\u{200d}z",
            &marks,
            "👩\u{200d}👩\u{200d}👧",
            "",
        ] {
            let name = clean(name);
            assert!(!name.chars().any(char::is_control), "{name:?}");
            for columns in 0..14 {
                assert_eq!(width(&pad(&name, columns)), columns, "{name:?} in {columns}");
                assert!(width(&fit_end(&name, columns)) <= columns, "{name:?} in {columns}");
                assert!(
                    wrap(&name, columns.max(2)).iter().all(|line| width(line) <= columns.max(2)),
                    "{name:?}"
                );
            }
        }
        assert!(clean(&marks).len() < 20);
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit_end("/home/ann/site", 6), "…/site");
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("unknown key `mouze`", 15), ["unknown key", "`mouze`"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
    }
}
