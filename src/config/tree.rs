//! The one tree that TOML and YAML both become: scalars as their text, with places in the source.
//!
//! Scalars keep the text that was written (`1.10` stays `1.10`), because what they mean is decided
//! by the key they stand under, not by the format.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Source};

/// A value and where it stands, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Text, a number, a bool or a date.
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the file.
    Table(Vec<Entry>),
    /// A YAML key without a value.
    Empty,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

impl Value {
    /// What it is, for messages.
    pub(crate) const fn what(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Empty => "nothing",
        }
    }
}

/// Parses TOML. Duplicate keys are refused by the parser.
pub(crate) fn parse_toml(source: &Source<'_>) -> Result<Vec<Entry>, ConfigError> {
    let table = DeTable::parse(source.text)
        .map_err(|error| source.error(&error.span().unwrap_or(0..0), error.message()))?;
    Ok(toml_entries(table.get_ref()))
}

fn toml_entries(table: &DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().clone().into_owned(),
            key_span: key.span(),
            node: toml_node(value.get_ref(), value.span()),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

fn toml_node(value: &DeValue<'_>, span: Range<usize>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Scalar(text.clone().into_owned()),
        DeValue::Integer(number) => Value::Scalar(
            // A hexadecimal count of bytes is rare enough to be written in decimal here.
            i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.as_str().to_owned(), |n| n.to_string()),
        ),
        DeValue::Float(number) => Value::Scalar(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Value::Scalar(truth.to_string()),
        DeValue::Datetime(time) => Value::Scalar(time.to_string()),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| toml_node(item.get_ref(), item.span())).collect())
        }
        DeValue::Table(table) => Value::Table(toml_entries(table)),
    };
    Node { span, value }
}

/// Parses one YAML document whose top is a mapping (or nothing at all).
///
/// The budget is small: a project file is a stranger's, and a few aliases can stand for gigabytes.
pub(crate) fn parse_yaml(source: &Source<'_>) -> Result<Vec<Entry>, ConfigError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(1 << 20),
            max_events: 20_000,
            max_aliases: 64,
            max_anchors: 64,
            max_recorded_anchor_events: 2_000,
            max_recorded_anchor_bytes: 1 << 18,
            flow_nesting_limit: 16,
            max_depth: 16,
            max_documents: 1,
            max_nodes: 20_000,
            max_total_scalar_bytes: 1 << 20,
        },
        // `no` is a word, not false: YAML 1.2.
        strict_booleans: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
    };
    let top: serde_saphyr::Spanned<Yaml> = serde_saphyr::from_str_with_options(source.text, options)
        .map_err(|error| {
            let error = error.without_snippet();
            let at = error.location().map_or(0, |location| yaml_span(source.text, &location).start);
            source.error(&(at..at), yaml_message(error))
        })?;
    let node = yaml_node(source, top);
    match node.value {
        Value::Table(entries) => Ok(entries),
        Value::Empty => Ok(Vec::new()),
        other => Err(source.error(&node.span, format!("keys with values belong here, not {}", other.what()))),
    }
}

/// The message without the place (we say it ourselves) on one line.
fn yaml_message(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            return format!("duplicate key `{key}`");
        }
        serde_saphyr::Error::Budget { .. } => {
            return "this is more than a project file may hold (one document, small and flat)".to_owned();
        }
        _ => {}
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("not valid YAML");
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") && place.contains("column") => rest.to_owned(),
        _ => line.split(" at line ").next().unwrap_or(line).to_owned(),
    }
}

fn yaml_span(text: &str, location: &serde_saphyr::Location) -> Range<usize> {
    let span = location.span();
    if let (Some(start), Some(len)) = (span.byte_offset(), span.byte_len())
        && let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(len))
        && text.get(start..start + len).is_some()
    {
        return start..start + len;
    }
    // Without byte offsets, line and column (in characters) lead there.
    let line = usize::try_from(location.line()).unwrap_or(1).max(1);
    let column = usize::try_from(location.column()).unwrap_or(1).max(1);
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.get(start..).unwrap_or("");
    let start = start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at);
    start..start
}

fn yaml_node(source: &Source<'_>, yaml: serde_saphyr::Spanned<Yaml>) -> Node {
    let span = yaml_span(source.text, &yaml.referenced);
    let value = match yaml.value {
        Yaml::Text(text) => Value::Scalar(text),
        // The parser gives numbers as numbers and `True` as true; the text as written is what was meant.
        Yaml::Bare(parsed) => {
            let written = source.text.get(span.clone()).map(str::trim).filter(|text| {
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
            });
            Value::Scalar(written.map_or(parsed, str::to_owned))
        }
        Yaml::Empty => Value::Empty,
        Yaml::List(items) => Value::List(items.into_iter().map(|item| yaml_node(source, item)).collect()),
        Yaml::Table(items) => Value::Table(
            items
                .into_iter()
                .map(|(key, value)| Entry {
                    key_span: yaml_span(source.text, &key.referenced),
                    key: key.value,
                    node: yaml_node(source, value),
                })
                .collect(),
        ),
    };
    Node { span, value }
}

#[derive(Debug)]
enum Yaml {
    Text(String),
    /// A number or a bool.
    Bare(String),
    Empty,
    List(Vec<serde_saphyr::Spanned<Yaml>>),
    Table(Vec<(serde_saphyr::Spanned<String>, serde_saphyr::Spanned<Yaml>)>),
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Yaml;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Bare(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Yaml, E> {
        Ok(Yaml::Bare(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Yaml, E> {
        Ok(Yaml::Bare(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Yaml, E> {
        Ok(Yaml::Bare(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(value.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Empty)
    }
    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Empty)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        Yaml::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Yaml, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Yaml::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Yaml, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = items.next_entry()? {
            table.push(entry);
        }
        Ok(Yaml::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn yaml(text: &str) -> Result<Vec<Entry>, ConfigError> {
        parse_yaml(&Source { file: Path::new("p.yml"), text })
    }

    fn toml(text: &str) -> Result<Vec<Entry>, ConfigError> {
        parse_toml(&Source { file: Path::new("m.toml"), text })
    }

    fn scalar<'e>(entries: &'e [Entry], key: &str) -> Option<&'e str> {
        entries.iter().find(|e| e.key == key).and_then(|e| match &e.node.value {
            Value::Scalar(text) => Some(text.as_str()),
            _ => None,
        })
    }

    #[test]
    fn scalars_keep_their_text_in_both_formats() {
        for entries in [
            yaml("a: 1.10\nb: no\nc: 7\nd: \"x y\"\ne: true\n").expect("yaml"),
            toml("a = 1.10\nb = \"no\"\nc = 7\nd = \"x y\"\ne = true\n").expect("toml"),
        ] {
            for (key, text) in [("a", "1.10"), ("b", "no"), ("c", "7"), ("d", "x y"), ("e", "true")] {
                assert_eq!(scalar(&entries, key), Some(text), "{key}");
            }
        }
    }

    #[test]
    fn wrong_files_have_a_place() {
        for (text, line) in [("a: 1\na: 2\n", 2), ("a: [1\n", 0), ("- x\n", 1), ("a: 1\n---\nb: 2\n", 0)] {
            let error = yaml(text).expect_err(text);
            assert!(line == 0 || error.line == line, "{text:?}: {error}");
            assert!(!error.message.contains('\n'), "{error}");
            assert!(line != 2 || error.message == "duplicate key `a`", "{error}");
        }
        assert_eq!(toml("a = 1\na = 2\n").expect_err("duplicate").line, 2);
        assert!(yaml("").expect("empty").is_empty());
    }

    #[test]
    fn an_alias_bomb_is_stopped() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let of = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![of; 10].join(",")));
        }
        assert!(yaml(&text).is_err());
    }
}
