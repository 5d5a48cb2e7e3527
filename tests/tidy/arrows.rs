//! Which folder may use which, and what the pure ones may not touch.

use super::tree::{File, Tree};
use super::{Broken, code};

/// A folder and what of ours it may name: a folder, or one module of it. Its own is always allowed.
type Row = (&'static str, &'static [&'static str]);

const ARROWS: &[Row] = &[
    ("model", &[]),
    ("plan", &["model"]),
    ("term", &["model"]),
    ("config", &["model"]),
    // Machines are kept as the text that people edit.
    ("store", &["model", "config"]),
    ("host", &["model", "plan::launch"]),
    // Owners of unpacked files are mapped as a launch maps them.
    ("image", &["model", "plan", "store", "host"]),
    ("jail", &["model", "host", "plan"]),
    ("gateway", &["model", "plan"]),
    // What a cube changed is packed right where it is read.
    ("upper", &["model", "plan", "host", "store", "image::tar"]),
    // The agent starts processes as init does.
    ("microvm", &["model", "plan", "host", "jail"]),
    ("keeper", &["model", "plan", "host", "image", "store", "jail", "term", "gateway", "upper"]),
    (
        "engine",
        &[
            "model", "plan", "term", "config", "store", "host", "image", "jail", "microvm", "keeper",
            "gateway", "upper",
        ],
    ),
    (
        "cli",
        &[
            "model", "plan", "term", "config", "store", "host", "image", "jail", "keeper", "engine",
            "gateway", "upper",
        ],
    ),
    (
        "tui",
        &[
            "model", "plan", "term", "config", "store", "host", "image", "keeper", "engine", "gateway",
            "upper",
        ],
    ),
];

const PURE: &[&str] = &["model", "plan", "term"];

/// Pure parts of a folder that is not: what the screen is, becomes and looks like.
const PURE_PARTS: &[&str] = &[
    "src/tui/acts",
    "src/tui/acts.rs",
    "src/tui/command.rs",
    "src/tui/frames.rs",
    "src/tui/input.rs",
    "src/tui/keymap.rs",
    "src/tui/layer.rs",
    "src/tui/glyphs.rs",
    "src/tui/key.rs",
    "src/tui/layout.rs",
    "src/tui/look.rs",
    "src/tui/model.rs",
    "src/tui/msg.rs",
    "src/tui/rows.rs",
    "src/tui/sheet.rs",
    "src/tui/text.rs",
    "src/tui/update",
    "src/tui/view",
    "src/tui/world.rs",
];

/// What touches the world, by the start of its path.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
    "std::thread",
    "std::os::unix::net",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "SystemTime::now",
    "Instant::now",
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "rand",
    "getrandom",
    "rustix",
    "libc",
    "nix",
    "landlock",
    "tokio",
    "tempfile",
];

/// Folders that use what they may not, and folders without a row.
pub fn arrows(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for folder in tree.folders() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
            wrong.push(format!("src/{folder} has no row among the arrows"));
            continue;
        };
        for file in tree.source().filter(|file| file.folder() == folder) {
            for (line, names) in code::paths(&file.code) {
                let Some(target) = ours(file, &names) else { continue };
                let is = |allowed: &str| target == *allowed || target.starts_with(&format!("{allowed}::"));
                if target.split("::").next() != Some(folder) && !allowed.iter().any(|it| is(it)) {
                    wrong.push(format!("{}:{line}: {folder} may not use {target}", file.path));
                }
            }
        }
    }
    wrong
}

/// `folder::module` of a path that leads into our own crate from its root.
fn ours(file: &File, names: &[String]) -> Option<String> {
    let inside = file.path.strip_prefix("src/")?;
    let depth = inside.split('/').count();
    let up = names.iter().take_while(|name| *name == "super").count();
    let rest = match names.first()?.as_str() {
        "crate" => &names[1..],
        "super" if up >= depth => &names[up..],
        _ => return None,
    };
    let end = rest.len().min(2);
    // A name in capitals is an item, not a module, and then the folder is what is meant.
    let modules: Vec<&str> = rest[..end]
        .iter()
        .map(String::as_str)
        .take_while(|name| name.starts_with(|c: char| c.is_lowercase()))
        .collect();
    (!modules.is_empty()).then(|| modules.join("::"))
}

/// Pure folders that touch the world.
pub fn purity(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    let pure = |file: &&File| {
        PURE.contains(&file.folder())
            || PURE_PARTS.iter().any(|part| {
                let rest = file.path.strip_prefix(part);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
            })
    };
    for file in tree.source().filter(pure) {
        for (line, names) in code::paths(&file.code) {
            let path = names.join("::");
            let touches = |it: &&&str| path == **it || path.starts_with(&format!("{it}::"));
            if let Some(what) = IMPURE.iter().find(touches) {
                wrong.push(format!("{}:{line}: {} is pure and may not use {what}", file.path, file.folder()));
            }
        }
    }
    wrong
}

const LIB: (&str, &str) = ("src/lib.rs", "pub mod cli;\npub mod keeper;\npub mod anything;");

pub const BROKEN: &[Broken] = &[
    Broken {
        check: arrows,
        good: &[
            LIB,
            ("src/plan/a.rs", "use crate::model::Name;\n// crate::cli::x\nfn f() { \"crate::cli\"; }"),
        ],
        bad: &[LIB, ("src/plan/a.rs", "fn f() {\n    crate::host::probe();\n}")],
        says: "src/plan/a.rs:2: plan may not use host::probe",
    },
    Broken {
        check: arrows,
        good: &[(
            "src/host/a.rs",
            "use crate::{model::X, plan::launch::{A, B}};\n#[cfg(test)]\nmod tests { use crate::cli; }",
        )],
        bad: &[("src/host/a.rs", "use crate::{model::X, plan::{launch::A, seccomp::{self, B}}};")],
        says: "host may not use plan::seccomp",
    },
    Broken {
        check: arrows,
        good: &[("src/store/a/b.rs", "use super::super::log;\nuse super::super::super::model;")],
        bad: &[("src/store/a/b.rs", "use super::super::super::keeper::X;\nuse crate::log;")],
        says: "store may not use keeper",
    },
    Broken {
        check: arrows,
        good: &[("src/model/a.rs", ""), ("src/model/tests.rs", ""), ("src/main.rs", "use crate::cli::x;")],
        bad: &[("src/odd/a.rs", "")],
        says: "src/odd has no row",
    },
    Broken {
        check: purity,
        good: &[
            ("src/model.rs", "mod a;\n#[cfg(test)]\nmod tests;"),
            ("src/model/tests.rs", "use std::fs;"),
            ("src/host/a.rs", "use std::fs;"),
            ("src/plan/a.rs", "use std::path::Path; // std::fs"),
        ],
        bad: &[("src/plan/a.rs", "use std::{fmt, fs::File};")],
        says: "plan is pure and may not use std::fs",
    },
    Broken {
        check: purity,
        good: &[("src/tui/run.rs", "use std::fs;"), ("src/tui/viewer.rs", "use std::thread;")],
        bad: &[("src/tui/view/a.rs", "fn f() { std::env::var(\"X\"); }")],
        says: "tui is pure and may not use std::env",
    },
    Broken {
        check: purity,
        good: &[("src/term/a.rs", "use std::time::Instant;\nfn f(now: Instant) {}")],
        bad: &[("src/term/a.rs", "use std::time::Instant;\nfn f() { Instant::now(); }")],
        says: "src/term/a.rs:2: term is pure and may not use Instant::now",
    },
];
