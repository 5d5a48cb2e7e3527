//! Streams as programs, and enemies, write them: for the property tests of this folder.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const SEQUENCES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\t",
    "\x08",
    "\x07",
    "\x0e",
    "\x0f",
    "\x0b",
    "\x0c",
    "\x00",
    "\x18",
    "\x1a",
    "\x7f",
    "\x1b7",
    "\x1b8",
    "\x1b=",
    "\x1b>",
    "\x1bD",
    "\x1bE",
    "\x1bM",
    "\x1bH",
    "\x1b(0",
    "\x1b(B",
    "\x1b)0",
    "\x1b#8",
    "\x1bc",
    "\x1b[!p",
    "\x1b\\",
    "\x1bZ",
    "\x1b[c",
    "\x1b[>c",
    "\x1b[6n",
    "\x1b[5n",
    "\x1b[?6$p",
    "\x1b[18t",
    "\x1b[14t",
    "\x1b[H",
    "\x1b[J",
    "\x1b[1J",
    "\x1b[2J",
    "\x1b[3J",
    "\x1b[K",
    "\x1b[1K",
    "\x1b[2K",
    "\x1b[m",
    "\x1b[1m",
    "\x1b[7m",
    "\x1b[4:3m",
    "\x1b[58:2::1:2:3m",
    "\x1b[31m",
    "\x1b[44m",
    "\x1b[38;5;99m",
    "\x1b[48;2;9;8;7m",
    "\x1b[9m",
    "\x1b[r",
    "\x1b[s",
    "\x1b[u",
    "\x1b[g",
    "\x1b[3g",
    "\x1b[?1h",
    "\x1b[?1l",
    "\x1b[?6h",
    "\x1b[?6l",
    "\x1b[?7h",
    "\x1b[?7l",
    "\x1b[?25h",
    "\x1b[?25l",
    "\x1b[?1000h",
    "\x1b[?1002h",
    "\x1b[?1003;1006h",
    "\x1b[?1005h",
    "\x1b[?1003l",
    "\x1b[?1004h",
    "\x1b[?2004h",
    "\x1b[?2004l",
    "\x1b[?1007l",
    "\x1b[?1049h",
    "\x1b[?1049l",
    "\x1b[?47h",
    "\x1b[?1047l",
    "\x1b[?1048h",
    "\x1b[?1048l",
    "\x1b[?3h",
    "\x1b[?12h",
    "\x1b[4h",
    "\x1b[4l",
    "\x1b[20h",
    "\x1b[20l",
    "\x1b[3 q",
    "\x1b[0 q",
    "\x1b[>1u",
    "\x1b[>5u",
    "\x1b[<u",
    "\x1b[=3u",
    "\x1b[=1;2u",
    "\x1b[?u",
    "\x1b[>4;2m",
    "\x1b[>q",
    "\x1b[5i",
    "\x1b[21t",
    "\x1b]0;title\x07",
    "\x1b]8;;http://x\x1b\\",
    "\x1b]8;;\x1b\\",
    "\x1b]52;c;cHduCg==\x07",
    "\x1b]52;c;?\x07",
    "\x1b]11;?\x07",
    "\x1b]4;1;?\x1b\\",
    "\x1b]11;#123\x07",
    "\x1bP$qm\x1b\\",
    "\x1b_Gx\x1b\\",
    "\x1b^pm\x1b\\",
    "\x1bXsos\x1b\\",
    "\x1bP1;2|x",
    "\x1b]0;open",
    "\x1b_open",
    "\x1b[12",
    "\x1b[?",
    "\x1b",
    "\u{9b}31m",
    "\u{85}",
];

const TEXTS: &[&str] = &[
    "a",
    "hello",
    "0123456789",
    "漢",
    "漢字",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{2764}\u{fe0f}",
    "👩\u{200d}👧",
    "  ",
    "x y",
];

fn movement() -> impl Strategy<Value = String> {
    let finals = select("@ABCDEFGHIJKLMPSTXZ`abdefgr".chars().collect::<Vec<_>>());
    let number = prop_oneof![8 => 0u32..9, 1 => Just(99_999_999u32)];
    (number.clone(), number, any::<bool>(), finals).prop_map(|(one, two, both, last)| {
        // A screen limits how much REP may draw per call, so many of them depend on the split.
        let one = if last == 'b' { one % 9 } else { one };
        if both { format!("\x1b[{one};{two}{last}") } else { format!("\x1b[{one}{last}") }
    })
}

/// How many cases a property is tried on (`PROPTEST_CASES` for more); failures are not written to files.
pub(super) fn cases(count: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = if config.cases == 256 { count } else { config.cases };
    ProptestConfig { cases, failure_persistence: None, ..config }
}

/// Text and sequences of all kinds, also broken ones.
pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => select(TEXTS).prop_map(|text| text.as_bytes().to_vec()),
        4 => Just(b"\r\n".to_vec()),
        4 => select(SEQUENCES).prop_map(|text| text.as_bytes().to_vec()),
        4 => movement().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Text without sequences, in lines of any length.
pub(super) fn flood() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => select(TEXTS).prop_map(|text| text.as_bytes().to_vec()),
        8 => Just(b"\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\t".to_vec()),
        1 => Just(vec![0xe6, 0xbc]),
        1 => Just(vec![0x9b]),
    ];
    vec(piece, 0..400).prop_map(|pieces| pieces.concat())
}

/// `bytes` in pieces cut at `cuts`.
pub(super) fn split<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}
