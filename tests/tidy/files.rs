//! The files themselves: how long, how they begin, whether anything refers to them.

use super::Broken;
use super::tree::{File, Tree, places};

/// No file is longer, but those of [`TOO_LONG`].
pub const CAP: usize = 600;
/// Nine files in ten are not longer.
pub const USUAL: usize = 400;
/// Files above the cap. The list only shrinks.
const TOO_LONG: &[&str] = &[];

/// Files that are too long.
pub fn size(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in tree.rust() {
        let (length, excused) = (lines(file), TOO_LONG.contains(&file.path.as_str()));
        if length > CAP && !excused {
            wrong.push(format!("{} has {length} lines, more than {CAP}", file.path));
        } else if length <= CAP && excused {
            wrong.push(format!("{} is short enough: take it from the list", file.path));
        }
    }
    wrong.extend(
        TOO_LONG.iter().filter(|path| tree.get(path).is_none()).map(|path| format!("{path} is gone")),
    );
    let (long, all) = (tree.rust().filter(|file| lines(file) > USUAL).count(), tree.rust().count());
    if long * 10 > all {
        wrong.push(format!("{long} of all files ({all}) have more than {USUAL} lines"));
    }
    wrong
}

fn lines(file: &File) -> usize {
    file.text.lines().count()
}

/// The longest files, for people.
pub fn longest(tree: &Tree, count: usize) -> Vec<String> {
    let mut all: Vec<&File> = tree.rust().collect();
    all.sort_by_key(|file| std::cmp::Reverse(lines(file)));
    all.iter().take(count).map(|file| format!("{} {}", file.path, lines(file))).collect()
}

/// Modules that do not begin by saying what they own.
pub fn essay(tree: &Tree) -> Vec<String> {
    let silent = tree.rust().filter(|file| {
        !file.text.starts_with("//! ") && (!file.test_only || file.path.starts_with("tests/"))
    });
    silent.map(|file| format!("{} does not begin with `//!`", file.path)).collect()
}

/// Files that no module declares.
pub fn orphans(tree: &Tree) -> Vec<String> {
    let mut reached = vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()];
    let mut at = 0;
    while at < reached.len() {
        if let Some(file) = tree.get(&reached[at]) {
            let more = file.modules.iter().flat_map(|(name, _)| places(&file.path, name));
            reached.extend(more.collect::<Vec<_>>());
        }
        at += 1;
    }
    let lost = tree.source().filter(|file| !reached.contains(&file.path));
    lost.map(|file| format!("no module declares {}", file.path)).collect()
}

const MAP: &str = "docs/ARCHITECTURE.md";

/// Folders that the map does not name.
pub fn architecture(tree: &Tree) -> Vec<String> {
    let map = tree.get(MAP).map_or("", |file| file.text.as_str());
    let missing = |folder: &&str| !map.contains(&format!("`src/{folder}/`"));
    tree.folders().iter().filter(|it| missing(it)).map(|it| format!("{MAP} lacks `src/{it}/`")).collect()
}

pub const BROKEN: &[Broken] = &[
    Broken {
        check: essay,
        good: &[("src/a.rs", "//! Owns a.\n#[cfg(test)]\nmod tests;"), ("src/a/tests.rs", "use super::*;")],
        bad: &[("src/a.rs", "use x;\n//! late")],
        says: "src/a.rs does not begin",
    },
    Broken {
        check: orphans,
        good: &[
            ("src/lib.rs", "pub mod a;"),
            ("src/a.rs", "mod b;\n#[cfg(test)]\nmod tests;"),
            ("src/a/b.rs", ""),
            ("src/a/tests.rs", ""),
        ],
        bad: &[("src/lib.rs", "pub mod a;"), ("src/a.rs", "// mod b;"), ("src/a/b.rs", "")],
        says: "no module declares src/a/b.rs",
    },
    Broken {
        check: architecture,
        good: &[(MAP, "**`src/a/`** is"), ("src/a.rs", ""), ("src/lib.rs", "")],
        bad: &[(MAP, "**`src/a/`** is"), ("src/a.rs", ""), ("src/b/c.rs", "")],
        says: "lacks `src/b/`",
    },
];
