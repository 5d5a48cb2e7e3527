//! Words that have no place in the product, or in anything that is committed.

use super::Broken;
use super::tree::{File, Tree};

/// Folders where `unsafe` is allowed.
const UNSAFE: &[&str] = &["host", "jail"];
/// Files elsewhere that may: the fork into the jail, which is the keeper's, and the one into the keeper, which is the
/// engine's: both are sound only where there is one thread, which they know; and what a microvm's shim does between fork and
/// exec, and when it ends itself by a signal. The list only shrinks.
const UNSAFE_FILES: &[&str] = &["src/keeper/start.rs", "src/microvm/child.rs", "src/microvm/shim.rs"];

/// Paths and names of the machine that something was written on. Split, so that this file holds none.
pub const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("far", "m-"), concat!("bash_", "jobs")];

/// Lines of code that hold one of `words`, the character before being no part of a name.
fn lines_with(file: &File, code: &str, words: &[&str]) -> Vec<String> {
    let named = |c: char| c.is_alphanumeric() || c == '_';
    let holds = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
            let starts_name = word.starts_with(named) && before.is_some_and(named);
            let goes_on = word.ends_with(named) && after.is_some_and(named);
            !starts_name && !goes_on
        })
    };
    let mut found = Vec::new();
    for (at, line) in code.lines().enumerate() {
        for word in words.iter().filter(|word| holds(line, word)) {
            found.push(format!("{}:{}: {word}", file.path, at + 1));
        }
    }
    found
}

/// Code that gives up, or is not done.
pub fn unfinished(tree: &Tree) -> Vec<String> {
    let words = [".unwrap()", "todo!", "unimplemented!", "dbg!"];
    tree.source().flat_map(|file| lines_with(file, &file.code, &words)).collect()
}

/// `unsafe` outside of the edge.
pub fn unsafe_code(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.source().filter(|file| !UNSAFE.contains(&file.folder())) {
        let lines = lines_with(file, &file.code, &["unsafe"]);
        if !UNSAFE_FILES.contains(&file.path.as_str()) {
            found.extend(lines);
        } else if lines.is_empty() {
            found.push(format!("{} needs no unsafe any more: take it from the list", file.path));
        }
    }
    found
}

/// Tests that nobody runs.
pub fn ignored(tree: &Tree) -> Vec<String> {
    tree.rust().flat_map(|file| lines_with(file, &file.with_tests, &["#[ignore"])).collect()
}

/// Traces of the machine that something was written on.
pub fn machine(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in &tree.files {
        for (at, line) in file.text.lines().enumerate() {
            for word in MACHINE.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", file.path, at + 1));
            }
        }
    }
    found
}

pub const BROKEN: &[Broken] = &[
    Broken {
        check: unfinished,
        good: &[(
            "src/a.rs",
            "fn f<'a>() { x.unwrap_or(1); '\"'; r#\"a\" dbg!\"#; }\n/* todo!() */\n#[cfg(test)]\nmod tests { fn g() { x.unwrap(); } }",
        )],
        bad: &[("src/a.rs", "fn f() {\n    x.unwrap();\n}")],
        says: "src/a.rs:2: .unwrap()",
    },
    Broken {
        check: unfinished,
        good: &[("src/a.rs", "#[cfg(test)]\nmod b;"), ("src/a/b.rs", "fn f() { todo!() }")],
        bad: &[("src/a.rs", "#[cfg(test)]\nuse x::{a, b};\nfn f() { '\\''; todo!() }")],
        says: "src/a.rs:3: todo!",
    },
    Broken {
        check: unsafe_code,
        good: &[("src/plan/a.rs", "// unsafe\n#![deny(unsafe_code)]"), ("src/jail/a.rs", "unsafe { x() }")],
        bad: &[("src/plan/a.rs", "fn f() { unsafe { x() } }")],
        says: "src/plan/a.rs:1: unsafe",
    },
    Broken {
        check: unsafe_code,
        good: &[("src/keeper/start.rs", "unsafe { x() }")],
        bad: &[("src/keeper/start.rs", "x()")],
        says: "needs no unsafe",
    },
    Broken {
        check: ignored,
        good: &[("tests/a.rs", "\"#[ignore]\"; // #[ignore]")],
        bad: &[("tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}")],
        says: "tests/a.rs:2",
    },
];
