//! The tree as the checks see it: every text that is committed, and the Rust among it as code alone.

use std::fs;
use std::path::Path;

use super::code;

/// One text.
pub struct File {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// As it stands.
    pub text: String,
    /// For Rust: the text without comments, the insides of strings, and tests; as many lines.
    pub code: String,
    /// For Rust: the same with tests.
    pub with_tests: String,
    /// The modules it declares: name, and whether only for tests.
    pub modules: Vec<(String, bool)>,
    /// Rust that is only compiled for tests.
    pub test_only: bool,
}

/// All of them.
pub struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    /// This repository.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut texts = Vec::new();
        walk(root, "", &mut texts);
        texts.sort();
        Self::of(&texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>())
    }

    /// A tree of these paths and texts.
    pub fn of(texts: &[(&str, &str)]) -> Self {
        let mut files: Vec<File> = texts.iter().map(|(path, text)| file(path, text)).collect();
        let tests: Vec<String> = files
            .iter()
            .flat_map(|file| {
                file.modules.iter().filter(|(_, test)| *test).flat_map(|(name, _)| places(&file.path, name))
            })
            .collect();
        for file in &mut files {
            let below = |test: &String| file.path.starts_with(&format!("{}/", test.trim_end_matches(".rs")));
            if tests.contains(&file.path) || tests.iter().any(below) || file.path.starts_with("tests/") {
                file.test_only = true;
                file.code = String::new();
            }
        }
        Self { files }
    }

    /// The Rust below `src/`.
    pub fn source(&self) -> impl Iterator<Item = &File> {
        self.rust().filter(|file| file.path.starts_with("src/"))
    }

    /// All Rust.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The file of this path.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The folders right below `src/`, each once.
    pub fn folders(&self) -> Vec<&str> {
        let mut folders: Vec<&str> = self.source().map(File::folder).filter(|name| *name != "lib").collect();
        folders.retain(|name| *name != "main");
        folders.sort_unstable();
        folders.dedup();
        folders
    }
}

impl File {
    /// `jail` for `src/jail.rs` and everything in `src/jail/`.
    pub fn folder(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }
}

/// Where the file of a module may lie that the file `path` declares.
pub fn places(path: &str, module: &str) -> Vec<String> {
    let folder = match path.rsplit_once('/') {
        Some((folder, "lib.rs" | "main.rs")) => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    };
    vec![format!("{folder}/{module}.rs")]
}

fn file(path: &str, text: &str) -> File {
    let rust = Path::new(path).extension().is_some_and(|end| end == "rs");
    let with_tests = if rust { code::without_comments(text) } else { String::new() };
    let modules = code::modules(&with_tests);
    let code = code::without_tests(&with_tests);
    File { path: path.to_owned(), text: text.to_owned(), code, with_tests, modules, test_only: false }
}

/// Every text below `folder`, but what is built and what belongs to version control.
fn walk(root: &Path, folder: &str, into: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(root.join(folder)).expect("the repository can be listed");
    for entry in entries.map(|entry| entry.expect("an entry can be read")) {
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().expect("a type can be read");
        if kind.is_dir() && name != "target" && name != ".git" {
            walk(root, &path, into);
        } else if kind.is_file() && name != ".git" && name != "Cargo.lock" {
            // What is not UTF-8 is no text.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                into.push((path, text));
            }
        }
    }
}
