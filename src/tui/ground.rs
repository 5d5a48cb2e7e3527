//! Is the terminal's ground light? Asked once, before anything is read, and only when the configuration has a theme for
//! that: the terminal's own answer, else `COLORFGBG`, else dark. What was typed meanwhile is given back.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::watch::timespec;

/// How long the answer may take; ssh to far away needs some of it.
const PATIENCE: Duration = Duration::from_millis(150);
/// The colour of the ground, then what every terminal answers: who has answered that will not answer the first any more.
const QUESTION: &[u8] = b"\x1b]11;?\x07\x1b[c";

/// Whether it is light, and what else was read.
pub(super) fn light() -> (bool, Vec<u8>) {
    let mut read = Vec::new();
    let asked = std::io::stdout().write_all(QUESTION).and_then(|()| std::io::stdout().flush());
    let until = Instant::now() + PATIENCE;
    while asked.is_ok() && answer(&read).is_none() && !answered_all(&read) {
        let left = until.saturating_duration_since(Instant::now());
        let stdin = std::io::stdin();
        let mut fds = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        if left.is_zero() || !matches!(poll(&mut fds, Some(&timespec(left))), Ok(1..)) {
            break;
        }
        let mut space = [0; 1024];
        match rustix::io::read(&stdin, &mut space) {
            Ok(count @ 1..) => read.extend_from_slice(&space[..count]),
            _ => break,
        }
    }
    let said = answer(&read).or_else(|| std::env::var("COLORFGBG").ok().and_then(|text| by_variable(&text)));
    (said.unwrap_or(false), read)
}

/// `ESC [ ? … c`, the answer to the second question.
fn answered_all(bytes: &[u8]) -> bool {
    let start = bytes.windows(3).position(|part| part == b"\x1b[?");
    start.is_some_and(|start| bytes[start..].contains(&b'c'))
}

/// From `ESC ] 11 ; rgb:RRRR/GGGG/BBBB`, one to four digits each.
fn answer(bytes: &[u8]) -> Option<bool> {
    const HEAD: &[u8] = b"\x1b]11;rgb:";
    let start = bytes.windows(HEAD.len()).position(|part| part == HEAD)? + HEAD.len();
    let end = bytes[start..].iter().position(|byte| matches!(byte, 7 | 0x1b))? + start;
    let text = std::str::from_utf8(&bytes[start..end]).ok()?;
    let mut parts = text.split('/').map(|part| {
        let most = 16_u64.checked_pow(u32::try_from(part.len()).ok().filter(|length| *length <= 4)?)? - 1;
        (u64::from_str_radix(part, 16).ok()? * 1000).checked_div(most)
    });
    let (red, green, blue) = (parts.next()??, parts.next()??, parts.next()??);
    // Rec. 601: how bright it looks.
    Some(red * 299 + green * 587 + blue * 114 > 500_000)
}

/// From `FOREGROUND;BACKGROUND`, numbers of the 16 colours.
fn by_variable(text: &str) -> Option<bool> {
    let ground: u8 = text.rsplit(';').next()?.parse().ok()?;
    Some(ground == 7 || (9..=15).contains(&ground))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grounds_are_told_apart() {
        for (bytes, light) in [
            (&b"\x1b]11;rgb:ffff/ffff/ffff\x07"[..], Some(true)),
            (b"ab\x1b]11;rgb:fd/f6/e3\x1b\\\x1b[?62c", Some(true)),
            (b"\x1b]11;rgb:1d1d/2021/2222\x07", Some(false)),
            (b"\x1b]11;rgb:ffff/ffff", None),
            (b"\x1b]11;rgb:zz/00/00\x07", None),
            (b"\x1b]11;rgb:fffff/0/0\x07", None),
            (b"\x1b]11;rgb://\x07", None),
            (b"\x1b[?1;2c", None),
        ] {
            assert_eq!(answer(bytes), light, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(answered_all(b"x\x1b[?62;c") && !answered_all(b"c\x1b[?62;"));
        for (text, light) in
            [("0;15", Some(true)), ("15;0", Some(false)), ("0;default;7", Some(true)), ("x", None)]
        {
            assert_eq!(by_variable(text), light, "{text}");
        }
    }
}
