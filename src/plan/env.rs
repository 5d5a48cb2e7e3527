//! The environment of an entry. Owns the `--env-file` format, the few variables every cube starts
//! with, the merging and the size check; takes nothing of the caller's environment that nobody named.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::facts::{CallerEnv, EnvFile};
use crate::model::sanitize::printable;
use crate::model::{EnvVar, Failure, FailureKind, RunAs, TripId};

/// execve(2) `MAX_ARG_STRLEN`: the longest single argument or variable, with its final NUL.
pub const STRING_MAX: usize = 131_072;
/// What arguments and variables may take together, in bytes. The kernel's own bound is a quarter of
/// the stack limit, 2 MiB by default; the rest is for the program that is started.
pub const TOTAL_MAX: usize = 3 << 19;

/// One `-e` or one line of an env file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvChoice {
    /// `K=V`.
    Set(EnvVar),
    /// `K`: the caller's own value, if there is one.
    Copy(String),
}

impl EnvChoice {
    /// Parses `K=V` or `K`.
    ///
    /// # Errors
    /// A bad name, or NUL in the value; the value itself is never in the message.
    pub fn parse(text: &str) -> Result<Self, crate::model::env::EnvError> {
        match text.split_once('=') {
            Some((key, value)) => EnvVar::new(key, value).map(Self::Set),
            None => EnvVar::new(text, "").map(|variable| Self::Copy(variable.key)),
        }
    }

    /// The name.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Set(variable) => &variable.key,
            Self::Copy(key) => key,
        }
    }

    /// The variable, or `None` when it is to be copied and the caller has none.
    #[must_use]
    pub fn resolve(&self, caller: &CallerEnv) -> Option<EnvVar> {
        match self {
            Self::Set(variable) => Some(variable.clone()),
            Self::Copy(key) => EnvVar::new(key, caller.get(key)?).ok(),
        }
    }
}

/// Parses an env file as podman does: one `K=V` or `K` a line, `#` starts a comment line, blank
/// lines count for nothing, values are taken as they stand (no quotes, no continuation).
///
/// # Errors
/// The first bad line, as `FILE:LINE`.
pub fn parse_file(file: &EnvFile) -> Result<Vec<EnvChoice>, Failure> {
    let mut choices = Vec::new();
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let choice = EnvChoice::parse(line).map_err(|error| {
            let place = format!("{}:{}", printable(&file.name), index + 1);
            Failure::new(FailureKind::Config, format!("{place}: {error}"))
                .hint("write one `NAME=VALUE`, or `NAME` to copy yours, on each line; `#` starts a comment")
        })?;
        choices.push(choice);
    }
    Ok(choices)
}

/// What the base environment depends on.
#[derive(Debug, Clone, Copy)]
pub struct BaseInput<'a> {
    /// The cube.
    pub id: &'a TripId,
    /// The user's name inside.
    pub user: &'a str,
    /// The home inside.
    pub home: &'a str,
    /// Who runs inside.
    pub run_as: RunAs,
    /// The shell.
    pub shell: &'a str,
    /// The cube has a terminal.
    pub terminal: bool,
    /// Where `TERM` and `LANG` come from.
    pub caller: &'a CallerEnv,
}

/// The variables that every cube starts with. Nothing else of the caller's is in it.
#[must_use]
pub fn base(input: &BaseInput<'_>) -> Vec<EnvVar> {
    const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
    const ROOT_PATH: &str =
        "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
    let path = if input.run_as == RunAs::Root || input.user == "root" { ROOT_PATH } else { USER_PATH };
    let term = term(input.caller, input.terminal);
    let mut pairs = vec![
        ("HOME", input.home),
        ("LOGNAME", input.user),
        ("PATH", path),
        ("SHELL", input.shell),
        ("TERM", term),
        ("TRIPMINE", input.id.as_str()),
        ("USER", input.user),
    ];
    if let Some(lang) = input.caller.get("LANG").filter(|lang| is_word(lang)) {
        pairs.push(("LANG", lang));
    }
    pairs.iter().filter_map(|(key, value)| EnvVar::new(key, value).ok()).collect()
}

/// The caller's kind of terminal, or one that fits.
#[must_use]
pub fn term(caller: &CallerEnv, terminal: bool) -> &str {
    match caller.get("TERM") {
        Some(term) if is_word(term) => term,
        _ if terminal => "xterm-256color",
        _ => "dumb",
    }
}

/// A value that can only be a name of a terminal or a locale.
fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-@".contains(&b))
}

/// Puts layers of variables over each other: later ones win, name by name. Sorted by name.
#[must_use]
pub fn merge(layers: impl IntoIterator<Item = Vec<EnvVar>>) -> Vec<EnvVar> {
    let mut merged: HashMap<String, EnvVar> = HashMap::new();
    for variable in layers.into_iter().flatten() {
        merged.insert(variable.key.clone(), variable);
    }
    let mut list: Vec<_> = merged.into_values().collect();
    list.sort_by(|a, b| a.key.cmp(&b.key));
    list
}

/// Checks that the kernel will take the command and its environment.
///
/// # Errors
/// Which string is too long, or by how much all together are.
pub fn check_size(argv: &[String], env: &[EnvVar]) -> Result<(), Failure> {
    let too_long = |what: String, length: usize| {
        Failure::usage(format!(
            "{what} is too long: {length} bytes, and the kernel takes at most {} (execve(2))",
            STRING_MAX - 1
        ))
        .hint("hand large data over in a file")
    };
    // A pointer and a NUL go with each string.
    let mut total = 0_usize;
    for (index, argument) in argv.iter().enumerate() {
        if argument.contains('\0') {
            return Err(Failure::usage(format!("argument {index} of the command holds a NUL byte")));
        }
        if argument.len() >= STRING_MAX {
            let what = if index == 0 {
                "the command's name".to_owned()
            } else {
                format!("argument {index} of the command")
            };
            return Err(too_long(what, argument.len()));
        }
        total += argument.len() + 9;
    }
    for variable in env {
        let length = variable.key.len() + 1 + variable.value.len();
        if length >= STRING_MAX {
            let key: String = variable.key.chars().take(64).collect();
            return Err(too_long(format!("the variable `{key}`"), length));
        }
        total += length + 9;
    }
    if total > TOTAL_MAX {
        return Err(Failure::usage(format!(
            "the command and its environment are too long: {total} bytes together, at most {TOTAL_MAX}"
        ))
        .hint("hand large data over in a file"));
    }
    Ok(())
}

/// True when a variable's value had better not be shown.
#[must_use]
pub fn looks_secret(variable: &EnvVar) -> bool {
    const NAMES: [&str; 13] = [
        "TOKEN",
        "SECRET",
        "PASS",
        "PWD",
        "KEY",
        "CREDENTIAL",
        "AUTH",
        "PRIVATE",
        "COOKIE",
        "SESSION",
        "CERT",
        "DSN",
        "JWT",
    ];
    const VALUES: [&str; 10] =
        ["ghp_", "gho_", "github_pat_", "glpat-", "sk-", "xox", "AKIA", "ASIA", "eyJ", "-----BEGIN"];
    let key = variable.key.to_ascii_uppercase();
    let value = variable.value.as_str();
    // `scheme://user:password@host`
    let in_url = value.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@'))
    });
    NAMES.iter().any(|name| key.contains(name))
        || VALUES.iter().any(|start| value.starts_with(start))
        || in_url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(key: &str, value: &str) -> EnvVar {
        EnvVar::new(key, value).expect("good")
    }

    fn file(text: &str) -> EnvFile {
        EnvFile { name: "dev.env".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn env_files_as_podman_reads_them() {
        let set = |key, value| EnvChoice::Set(variable(key, value));
        for (text, want) in [
            ("A=1\nB=two words \n", vec![set("A", "1"), set("B", "two words ")]),
            ("# note\n\n  # note\n  A=1", vec![set("A", "1")]),
            ("A=\"quoted\" # kept", vec![set("A", "\"quoted\" # kept")]),
            ("A=b=c\r\nB=\r\n", vec![set("A", "b=c"), set("B", "")]),
            ("\u{feff}A=1", vec![set("A", "1")]),
            ("EDITOR", vec![EnvChoice::Copy("EDITOR".to_owned())]),
            ("", vec![]),
        ] {
            assert_eq!(parse_file(&file(text)), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn bad_lines_are_named_and_values_are_not_shown() {
        for (text, part) in [
            ("A=1\n2X=secret", "dev.env:2: `2X` is not"),
            ("\n\nexport A=secret", "dev.env:3: `export A` is not"),
            ("=secret", "dev.env:1: `` is not"),
            ("A=sec\0ret", "dev.env:1: the value of `A` holds a NUL"),
            ("A =secret", "`A ` is not"),
            ("K*", "`K*` is not"),
        ] {
            let error = parse_file(&file(text)).expect_err(text);
            assert!(error.message.contains(part), "{text:?}: {error}");
            assert!(!error.message.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_bare_name_copies_or_is_nothing() {
        let caller = CallerEnv::new([("EDITOR".to_owned(), "vi".to_owned())]);
        let resolve = |text: &str| EnvChoice::parse(text).expect("good").resolve(&caller);
        assert_eq!(resolve("EDITOR"), Some(variable("EDITOR", "vi")));
        assert_eq!(resolve("EDITOR=ed"), Some(variable("EDITOR", "ed")));
        assert_eq!(resolve("PAGER"), None);
    }

    fn base_of(caller: &[(&str, &str)], run_as: RunAs, terminal: bool) -> Vec<EnvVar> {
        let id = TripId::from_parts(0, [0; 16]);
        let caller = CallerEnv::new(caller.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        base(&BaseInput {
            id: &id,
            user: "ann",
            home: "/home/ann",
            run_as,
            shell: "/bin/sh",
            terminal,
            caller: &caller,
        })
    }

    fn value<'a>(list: &'a [EnvVar], key: &str) -> Option<&'a str> {
        list.iter().find(|v| v.key == key).map(|v| v.value.as_str())
    }

    #[test]
    fn the_base_holds_nothing_else_of_the_caller() {
        let list = base_of(
            &[("TERM", "screen-256color"), ("LANG", "de_DE.UTF-8"), ("API_TOKEN", "x"), ("PATH", "/evil")],
            RunAs::Me,
            true,
        );
        let keys: Vec<_> = list.iter().map(|v| v.key.as_str()).collect();
        assert_eq!(keys, ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "TRIPMINE", "USER", "LANG"]);
        assert_eq!(value(&list, "TERM"), Some("screen-256color"));
        assert_eq!(value(&list, "LANG"), Some("de_DE.UTF-8"));
        assert!(
            value(&list, "PATH").is_some_and(|p| p.starts_with("/usr/local/bin:") && !p.contains("sbin"))
        );
        let root = base_of(&[], RunAs::Root, true);
        assert!(value(&root, "PATH").is_some_and(|p| p.starts_with("/usr/local/sbin:")));
    }

    #[test]
    fn only_sane_words_for_term_and_lang() {
        for (term, terminal, want) in [
            (Some("xterm"), false, "xterm"),
            (None, true, "xterm-256color"),
            (None, false, "dumb"),
            (Some("../../evil"), true, "xterm-256color"),
            (Some("a\x1b[m"), false, "dumb"),
            (Some(""), true, "xterm-256color"),
        ] {
            let caller: Vec<_> = term.map(|term| ("TERM", term)).into_iter().collect();
            assert_eq!(value(&base_of(&caller, RunAs::Me, terminal), "TERM"), Some(want), "{term:?}");
        }
        assert_eq!(value(&base_of(&[("LANG", "C;rm")], RunAs::Me, true), "LANG"), None);
    }

    #[test]
    fn later_layers_win() {
        let merged = merge([
            vec![variable("B", "1"), variable("A", "1")],
            vec![variable("B", "2")],
            vec![variable("C", "3"), variable("C", "4")],
        ]);
        assert_eq!(merged, [variable("A", "1"), variable("B", "2"), variable("C", "4")]);
    }

    #[test]
    fn sizes_are_bounded() {
        let long = |n: usize| "x".repeat(n);
        assert!(check_size(&["a".to_owned(), long(STRING_MAX - 1)], &[]).is_ok());
        assert!(check_size(&[long(4096)], &[variable("A", &long(STRING_MAX - 3))]).is_ok());
        for (argv, env, part) in [
            (vec![long(STRING_MAX)], vec![], "the command's name is too long: 131072 bytes"),
            (vec![long(1), long(STRING_MAX)], vec![], "argument 1 of the command is too long"),
            (vec![], vec![variable("BIG", &long(STRING_MAX - 4))], "the variable `BIG` is too long: 131072"),
            (vec![long(131_000); 13], vec![], "too long: 1703117 bytes together, at most 1572864"),
            (vec!["a\0b".to_owned()], vec![], "NUL"),
        ] {
            let error = check_size(&argv, &env).expect_err(part);
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn secrets_are_recognised() {
        for (key, text, want) in [
            ("API_TOKEN", "x", true),
            ("aws_secret_access_key", "x", true),
            ("DB", "postgres://u:p@db/x", true),
            ("DB", "postgres://db/x?to=a@b", false),
            ("X", "ghp_abc", true),
            ("EDITOR", "vi", false),
            ("PATH", "/usr/bin", false),
        ] {
            assert_eq!(looks_secret(&variable(key, text)), want, "{key}={text}");
        }
    }
}
