//! `tripmine inspect`: all that is known of cubes, as JSON.
//!
//! Also owns how JSON is written for people and programs alike: control, bidirectional and
//! invisible characters stand escaped, so that a terminal shows it unharmed.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::ctx::Ctx;
use super::cube_ref::{self, Prefer};
use crate::engine::running;
use crate::model::Failure;
use crate::model::sanitize::printable;
use crate::store::cubes::CubeEntry;

/// The version of the JSON that lists and inspections print.
pub const JSON_VERSION: u32 = 1;

/// Arguments of `tripmine inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct InspectArgs {
    /// TripID (or its start), name, or project with one running cube
    #[arg(required = true, value_name = "CUBE")]
    pub cubes: Vec<String>,
    /// It prints JSON in any case
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out. What runs also tells its figures, as `usage` and `viewers`.
///
/// # Errors
/// There is no such cube.
pub fn run(args: &InspectArgs, ctx: &Ctx) -> Result<(), Failure> {
    let mut cubes = Vec::new();
    for word in &args.cubes {
        let entry = cube_ref::one(ctx, word, Prefer::Live)?;
        let mut cube = cube_json(&entry);
        // One that ends meanwhile is shown as it was found.
        let status = entry.live.then(|| running::status(&mut cube_ref::connect(ctx, &entry)?));
        if let (Some(Ok(status)), Some(fields)) = (status, cube.as_object_mut()) {
            fields.insert("usage".to_owned(), json!(status.usage));
            fields.insert("viewers".to_owned(), json!(status.viewers));
        }
        cubes.push(cube);
    }
    ctx.out.rendered(|out| write_json(&json!({ "version": JSON_VERSION, "cubes": cubes }), out))
}

/// Writes `{"version":1,"cubes":[…]}`, each cube its record with `live` and `path`.
///
/// # Errors
/// When `out` cannot be written.
pub fn render(entries: &[CubeEntry], out: &mut dyn Write) -> io::Result<()> {
    write_json(
        &json!({ "version": JSON_VERSION, "cubes": entries.iter().map(cube_json).collect::<Vec<_>>() }),
        out,
    )
}

/// A cube's record with `live`, `path` and, when it cannot be read, `error`.
#[must_use]
pub fn cube_json(entry: &CubeEntry) -> Value {
    let mut cube = match &entry.record {
        Ok(record) => match serde_json::to_value(record) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        },
        Err(error) => Map::from_iter([
            ("id".to_owned(), json!(entry.id)),
            ("error".to_owned(), json!(error.to_string())),
        ]),
    };
    cube.insert("live".to_owned(), json!(entry.live));
    cube.insert("path".to_owned(), json!(entry.path.to_string_lossy()));
    Value::Object(cube)
}

/// Writes indented JSON and a line end.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    writeln!(out, "{}", escape_invisible(&text))
}

/// Within JSON, what a terminal might act on can only be in a string, where an escape means the same.
#[must_use]
pub fn escape_invisible(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        let mut one = [0; 4];
        let one: &str = character.encode_utf8(&mut one);
        if character == '\n' || printable(one) == one {
            safe.push(character);
        } else {
            for unit in one.encode_utf16() {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cubes::tests::sample;
    use crate::store::cubes::{create, list};

    #[test]
    fn json_is_whole_and_harmless() {
        let base = tempfile::tempdir().expect("tempdir");
        let mut record = sample(1);
        record.argv = vec!["x\u{9b}2J\u{202e}\u{e0041}\x1b[0m".into()];
        let _held = create(base.path(), &record).expect("created");
        let mut out = Vec::new();
        render(&list(base.path()).expect("list"), &mut out).expect("written");
        let text = String::from_utf8(out).expect("utf-8");
        assert!(text.chars().all(|c| c == '\n' || printable(&c.to_string()) == c.to_string()), "{text:?}");
        let value: Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value["version"], JSON_VERSION);
        assert_eq!(value["cubes"][0]["argv"][0], record.argv[0].as_str());
        assert_eq!(value["cubes"][0]["live"], true);
    }
}
