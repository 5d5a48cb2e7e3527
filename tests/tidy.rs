//! The rules of the house, as tests: which folder may use which, what is pure, how long a file may
//! be, and what no committed text may hold. Reads the tree and nothing else.
//!
//! Each check takes a [`Tree`] and returns what is wrong, one line each. Beside each check stands a
//! tree made to break it, so that a check that finds nothing anywhere is itself found.

#![allow(unreachable_pub, reason = "modules of one test program")]

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;

use tree::Tree;

type Check = fn(&Tree) -> Vec<String>;

#[test]
fn the_tree_is_tidy() {
    let tree = Tree::read();
    assert!(tree.files.len() > 50, "only {} files were found", tree.files.len());
    let checks: &[(&str, Check)] = &[
        ("arrows", arrows::arrows),
        ("purity", arrows::purity),
        ("size", files::size),
        ("essay", files::essay),
        ("orphans", files::orphans),
        ("architecture", files::architecture),
        ("unfinished", words::unfinished),
        ("unsafe", words::unsafe_code),
        ("ignored", words::ignored),
        ("machine", words::machine),
    ];
    let found: Vec<String> = checks
        .iter()
        .flat_map(|(name, check)| check(&tree).into_iter().map(move |line| format!("{name}: {line}")))
        .collect();
    println!("longest: {}", files::longest(&tree, 5).join(", "));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A check, a tree that it accepts, and one that it does not, with the word that must be in its complaint.
struct Broken {
    check: Check,
    good: &'static [(&'static str, &'static str)],
    bad: &'static [(&'static str, &'static str)],
    says: &'static str,
}

#[test]
fn every_check_can_fail() {
    let tables = [arrows::BROKEN, files::BROKEN, words::BROKEN];
    for Broken { check, good, bad, says } in tables.into_iter().flatten() {
        let accepted = check(&Tree::of(good));
        assert!(accepted.is_empty(), "refuses {good:?}: {accepted:?}");
        let complaints = check(&Tree::of(bad)).join("\n");
        assert!(complaints.contains(says), "{bad:?} must be told `{says}`, not `{complaints}`");
    }
    let long = "//! x\n".repeat(files::CAP + 1);
    assert!(files::size(&Tree::of(&[("src/a.rs", &long)])).join("").contains("lines"));
    let long = "//! x\n".repeat(files::USUAL + 1);
    assert!(files::size(&Tree::of(&[("src/a.rs", &long)])).join("").contains("of all files"));
    for word in words::MACHINE {
        assert!(!words::machine(&Tree::of(&[("README.md", word)])).is_empty(), "{word}");
    }
}
