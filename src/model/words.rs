//! Small things said the same way everywhere: how old something is, a command as one would type it.

use super::sanitize::printable;

/// A time in its largest unit: `12s`, `5m`, `3h`, `2d`.
#[must_use]
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The command as one would type it, made harmless.
#[must_use]
pub fn command(argv: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=+./:,@%".contains(c);
    let words: Vec<String> = argv
        .iter()
        .map(|word| match word {
            word if !word.is_empty() && word.chars().all(plain) => word.clone(),
            word => printable(&format!("'{}'", word.replace('\'', "'\\''"))),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_typed_again_and_are_harmless() {
        let words = |words: &[&str]| command(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(words(&["sh", "-c", "echo it's"]), "sh -c 'echo it'\\''s'");
        assert_eq!(words(&["a\x1b[2J", ""]), "'a\\u{1b}[2J' ''");
    }

    #[test]
    fn ages_are_short() {
        for (milliseconds, text) in
            [(0, "0s"), (119_000, "119s"), (120_000, "2m"), (7_200_000, "2h"), (200_000_000, "2d")]
        {
            assert_eq!(age(milliseconds), text);
        }
    }
}
