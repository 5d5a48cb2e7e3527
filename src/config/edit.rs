//! Changes a machine's file in place: comments, order and spacing of the rest stay.
//!
//! Pure: text in, text out, and the result is parsed again before it is given back, so a change
//! that makes a bad file is refused with its place.

use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value as Toml};

use crate::model::{CarryGroup, EnvVar, Name, PortMap};

use super::error::{ConfigError, Source, nearest};
use super::machine::{machine_keys, parse_machine};
use super::tree::{Entry, Value, parse_toml};

/// One change to a machine's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Sets a key to a text.
    Set {
        /// The key.
        key: &'static str,
        /// Its value; written as a number where the key is a bare number.
        value: String,
    },
    /// Sets the command.
    Entry(Vec<String>),
    /// Sets a key to a list of texts.
    List {
        /// The key.
        key: &'static str,
        /// Its values.
        values: Vec<String>,
    },
    /// Adds a text to a list, unless it is in it.
    Add {
        /// The key.
        key: &'static str,
        /// The new text.
        value: String,
    },
    /// Sets the forwards.
    Ports(Vec<PortMap>),
    /// Sets one variable.
    Env(EnvVar),
    /// Sets one group of places that a copy of the home leaves out.
    Carry(CarryGroup),
    /// There is no such group, not even the usual ones.
    NoCarry,
    /// Removes a key, or one variable as `env.KEY`. Comments above it stay.
    Unset(String),
}

/// Applies `edits` in order; `file` is only for messages.
///
/// # Errors
/// The text is no valid machine, before or after; or a key to unset is not a key.
pub fn apply_edits(file: &Path, text: &str, edits: &[Edit]) -> Result<String, ConfigError> {
    let mut text = text.to_owned();
    for edit in edits {
        text = match edit {
            Edit::Unset(key) => unset(file, &text, key)?,
            _ => set(file, &text, edit)?,
        };
    }
    // Whatever the name, the file's text is judged alike.
    parse_machine(&Name::default_machine(), file, &text)?;
    Ok(text)
}

fn document(file: &Path, text: &str) -> Result<DocumentMut, ConfigError> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        Source { file, text }.error(&error.span().unwrap_or(0..0), error.message())
    })
}

fn set(file: &Path, text: &str, edit: &Edit) -> Result<String, ConfigError> {
    let mut document = document(file, text)?;
    match edit {
        Edit::Set { key, value } => put(document.as_table_mut(), key, toml_value(key, value)),
        Edit::Entry(argv) => {
            put(document.as_table_mut(), "entry", Toml::Array(argv.iter().collect::<Array>()));
        }
        Edit::List { key, values } => {
            put(document.as_table_mut(), key, Toml::Array(values.iter().collect::<Array>()));
        }
        Edit::Add { key, value } => add(&mut document, key, value),
        Edit::Ports(ports) => {
            let ports = ports.iter().map(ToString::to_string).collect::<Array>();
            put(document.as_table_mut(), "ports", Toml::Array(ports));
        }
        Edit::Env(variable) => {
            let env = document.as_table_mut().entry("env").or_insert_with(|| Item::Table(Table::new()));
            let span = env.span().unwrap_or(0..0);
            let Some(env) = env.as_table_like_mut() else {
                return Err(Source { file, text }.error(&span, "`env` wants a table"));
            };
            put(env, &variable.key, Toml::from(variable.value.as_str()));
        }
        Edit::NoCarry => drop(document.as_table_mut().insert("carry", Item::Table(Table::new()))),
        Edit::Carry(group) => {
            let carry = document.as_table_mut().entry("carry").or_insert_with(|| Item::Table(Table::new()));
            let span = carry.span().unwrap_or(0..0);
            let Some(carry) = carry.as_table_like_mut() else {
                return Err(Source { file, text }.error(&span, "`carry` wants a table"));
            };
            let places: Array = group.patterns.iter().map(ToString::to_string).collect();
            put(carry, group.name.as_str(), Toml::Array(places));
        }
        Edit::Unset(_) => {}
    }
    Ok(document.to_string())
}

/// Numbers stay numbers: `pids = 512` reads better than `pids = "512"`.
fn toml_value(key: &str, value: &str) -> Toml {
    if key == "lan"
        && let Ok(value) = value.parse::<bool>()
    {
        return Toml::from(value);
    }
    match value.parse::<i64>() {
        Ok(number) if number.to_string() == value => Toml::from(number),
        _ => Toml::from(value),
    }
}

/// Adds to a list in place: its comments and line breaks stay.
fn add(document: &mut DocumentMut, key: &str, value: &str) {
    match document.get_mut(key).and_then(Item::as_value_mut) {
        Some(Toml::Array(list)) => {
            if list.iter().any(|item| item.as_str() == Some(value)) {
                return;
            }
            // On a line of its own where the others are.
            let last = list.len().checked_sub(1).and_then(|at| list.get(at));
            let before = last.and_then(|item| item.decor().prefix()).and_then(|prefix| prefix.as_str());
            let prefix =
                before.map(|text| text.rsplit_once('\n').map_or(text, |(_, indent)| indent).to_owned());
            let lines = before.is_some_and(|text| text.contains('\n'));
            let mut item = Toml::from(value);
            if let Some(indent) = prefix {
                // What stands behind the last comma, such as a comment, stays with the item before it.
                let behind = list.trailing().as_str().unwrap_or_default().trim_end().to_owned();
                if lines && list.trailing_comma() {
                    item.decor_mut().set_prefix(format!("{behind}\n{indent}"));
                    list.set_trailing("\n");
                } else {
                    item.decor_mut().set_prefix(if lines { format!("\n{indent}") } else { " ".to_owned() });
                }
            }
            list.push_formatted(item);
        }
        Some(single) => {
            // Something else is no rule: it stays, and is named when the text is read again.
            let Some(old) = single.as_str().map(str::to_owned) else { return };
            let values: Array = [old, value.to_owned()].into_iter().collect();
            put(document.as_table_mut(), key, Toml::Array(values));
        }
        None => put(document.as_table_mut(), key, Toml::Array([value].into_iter().collect::<Array>())),
    }
}

/// Replaces a value and keeps what stands around it: spacing and the comment behind it.
fn put(table: &mut dyn TableLike, key: &str, mut new: Toml) {
    if let Some(old) = table.get_mut(key).and_then(Item::as_value_mut) {
        *new.decor_mut() = old.decor().clone();
        *old = new;
    } else {
        table.insert(key, Item::Value(new));
    }
}

/// Whether `key`, or `env.NAME`, is one that a machine's file may have and need not.
///
/// # Errors
/// It is none: the key that was probably meant, if there is one.
pub fn can_be_unset(key: &str) -> Result<(), Option<&'static str>> {
    let (top, variable) = key.split_once('.').map_or((key, None), |(top, rest)| (top, Some(rest)));
    let known = machine_keys();
    let good =
        top != "version" && known.contains(&top) && (variable.is_none() || matches!(top, "env" | "carry"));
    if good { Ok(()) } else { Err(nearest(key, &known)) }
}

fn unset(file: &Path, text: &str, key: &str) -> Result<String, ConfigError> {
    let source = Source { file, text };
    let (top, variable) = key.split_once('.').map_or((key, None), |(top, rest)| (top, Some(rest)));
    if let Err(near) = can_be_unset(key) {
        let mut error = source.error(&(0..0), format!("`{key}` is no key that can be unset"));
        error.hint = near.map(|near| format!("did you mean `{near}`?"));
        return Err(error);
    }
    let entries = parse_toml(&source)?;
    let find = |entries: &[Entry], key: &str| entries.iter().position(|entry| entry.key == key);
    let Some(at) = find(&entries, top) else { return Ok(text.to_owned()) };
    let entry = &entries[at];
    match (&entry.node.value, variable) {
        (Value::Table(variables), Some(variable)) => {
            let Some(at) = find(variables, variable) else { return Ok(text.to_owned()) };
            // An inline table stands on one line with its neighbours.
            if text.get(entry.node.span.clone()).is_some_and(|inline| inline.starts_with('{')) {
                let mut document = document(file, text)?;
                if let Some(env) = document.get_mut(top).and_then(Item::as_table_like_mut) {
                    env.remove(variable);
                }
                return Ok(document.to_string());
            }
            Ok(without_lines(text, &variables[at]))
        }
        (Value::Table(_), None) => {
            let mut document = document(file, text)?;
            document.remove(top);
            Ok(document.to_string())
        }
        _ => Ok(without_lines(text, entry)),
    }
}

/// The text without the lines that `entry` stands on.
fn without_lines(text: &str, entry: &Entry) -> String {
    let start = text[..entry.key_span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = entry.node.span.end.max(entry.key_span.end);
    let end = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
    format!("{}{}", &text[..start], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# my machine\nversion = 1 # first\n\n# the image\nimage = \"host\"  # always\n\
        pids = 5\n[env] # vars\n# a\nA = \"1\" # one\nB = \"2\"\n# end\n";

    fn apply(text: &str, edits: &[Edit]) -> Result<String, ConfigError> {
        apply_edits(Path::new("m.toml"), text, edits)
    }

    #[test]
    fn lists_are_set_and_added_to_in_place() {
        let add = |value: &str| Edit::Add { key: "allow", value: value.to_owned() };
        let list = |values: &[&str]| Edit::List {
            key: "allow",
            values: values.iter().map(ToString::to_string).collect(),
        };
        for (text, edit, wanted) in [
            ("# a\n", add("b.example:1"), "allow = [\"b.example:1\"]\n# a\n"),
            (
                "allow = [\"a.example\"] # c\n",
                add("b.example:1"),
                "allow = [\"a.example\", \"b.example:1\"] # c\n",
            ),
            ("allow = [\"a.example\"] # c\n", add("a.example"), "allow = [\"a.example\"] # c\n"),
            ("allow = \"a.example\"\n", add("b.example"), "allow = [\"a.example\", \"b.example\"]\n"),
            ("allow = []\n", add("b.example"), "allow = [\"b.example\"]\n"),
            (
                "allow = [\n  \"a.example\",\n  \"c.example\", # see\n]\n",
                add("b.example"),
                "allow = [\n  \"a.example\",\n  \"c.example\", # see\n  \"b.example\",\n]\n",
            ),
            (
                "allow = [\"a.example\"] # c\n",
                list(&["b.example", "c.example"]),
                "allow = [\"b.example\", \"c.example\"] # c\n",
            ),
            ("lan = true\n", Edit::Set { key: "lan", value: "false".into() }, "lan = false\n"),
        ] {
            let got = apply(text, std::slice::from_ref(&edit)).expect(text);
            // What it says counts first, then how it reads.
            assert_eq!(got.replace("\n\n", "\n").trim(), wanted.trim(), "{edit:?} on {text:?}");
        }
        assert!(apply("", &[add("https://x/")]).is_err(), "a bad rule is not written");
        assert!(apply("allow = 3\n", &[add("a.example")]).is_err());
    }

    fn var(key: &str, value: &str) -> Edit {
        Edit::Env(EnvVar::new(key, value).expect("variable"))
    }

    #[test]
    fn comments_stay() {
        let set = |key, value: &str| Edit::Set { key, value: value.to_owned() };
        for (edit, from, to) in [
            (set("image", "dev"), "image = \"host\"  # always", "image = \"dev\"  # always"),
            (set("pids", "512"), "pids = 5\n", "pids = 512\n"),
            (set("net", "none"), "pids = 5\n", "pids = 5\nnet = \"none\"\n"),
            (var("A", "x\"y"), "A = \"1\" # one", "A = 'x\"y' # one"),
            (var("C", "3"), "B = \"2\"\n", "B = \"2\"\nC = \"3\"\n"),
            (Edit::Unset("image".into()), "image = \"host\"  # always\n", ""),
            (Edit::Unset("env.B".into()), "B = \"2\"\n", ""),
            (Edit::Unset("disk".into()), "", ""),
            (
                Edit::Entry(vec!["a".into(), "b c".into()]),
                "pids = 5\n",
                "pids = 5\nentry = [\"a\", \"b c\"]\n",
            ),
        ] {
            assert_eq!(apply(TEXT, &[edit]).expect("edit"), TEXT.replacen(from, to, 1));
        }
    }

    #[test]
    fn tables_of_every_form_can_be_changed() {
        assert_eq!(
            apply("env = { A = \"1\", B = \"2\" }\n", &[Edit::Unset("env.A".into())]).as_deref(),
            Ok("env = { B = \"2\" }\n")
        );
        assert_eq!(
            apply("env.A = \"1\"\nenv.B = \"2\"\n", &[Edit::Unset("env.A".into())]).as_deref(),
            Ok("env.B = \"2\"\n")
        );
        assert_eq!(
            apply("entry = [\n \"a\",\n]\npids = 4\n", &[Edit::Unset("entry".into())]).as_deref(),
            Ok("pids = 4\n")
        );
        let gone = apply("pids = 4\n[env]\nA = \"1\"\n", &[Edit::Unset("env".into())]).expect("env");
        assert_eq!(gone, "pids = 4\n");
        assert_eq!(apply("pids = 4\n", &[var("A", "1")]).as_deref(), Ok("pids = 4\n\n[env]\nA = \"1\"\n"));
    }

    #[test]
    fn bad_changes_are_refused() {
        assert!(apply("pids = 4\n", &[Edit::Set { key: "memory", value: "lots".into() }]).is_err());
        let error = apply("pids = 4\n", &[Edit::Unset("imgae".into())]).expect_err("key");
        assert_eq!(error.hint.as_deref(), Some("did you mean `image`?"));
        assert!(apply("pids = 4\n", &[Edit::Unset("version".into())]).is_err());
        assert!(apply("pids = {", &[var("A", "1")]).is_err());
    }
}
