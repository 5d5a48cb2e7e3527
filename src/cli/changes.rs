//! `tripmine changes`: what a cube changed in its system and, under review, in its project.

use clap::Args;
use serde_json::{Value, json};

use super::ctx::Ctx;
use super::cube_ref;
use super::inspect::{JSON_VERSION, write_json};
use crate::engine::changes::Source;
pub(super) use crate::engine::told::Total;
use crate::engine::told::line;
use crate::model::Failure;
use crate::model::sanitize::{printable, printable_bytes};
use crate::upper::text::Diff;
use crate::upper::wire::{Line, Told};

/// The most changes that are shown, and that JSON holds.
const MOST: u64 = 1_000_000;
const MOST_JSON: u64 = 200_000;

/// Arguments of `tripmine changes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ChangesArgs {
    /// The cube: a TripID or its start, a name, or a project with one running cube
    pub cube: String,
    /// Only beneath these places; relative ones are in the project
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// Show how texts differ
    #[arg(short, long)]
    pub diff: bool,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such cube, its changes are gone, or they cannot be read.
pub fn run(args: &ChangesArgs, ctx: &Ctx) -> Result<(), Failure> {
    let entry = cube_ref::changed(ctx, &args.cube)?;
    let (source, _client) = Source::open(&ctx.engine(), &entry)?;
    let only = args.paths.iter().map(|path| source.place(path)).collect();
    let mut total = Total::default();
    if args.json {
        let mut changes = Vec::new();
        source.list(args.diff, only, MOST_JSON, &mut |line| {
            match line {
                Line::Change(told) => changes.push(value(&source, &told)),
                Line::More => total.more = true,
                _ => {}
            }
            Ok(())
        })?;
        let whole =
            json!({ "version": JSON_VERSION, "cube": entry.id, "changes": changes, "complete": !total.more });
        return ctx.out.rendered(|out| write_json(&whole, out));
    }
    source.list(args.diff, only, MOST, &mut |line| {
        match line {
            Line::Change(told) => {
                total.count(&told);
                if !ctx.out.is_closed() {
                    show(&source, &told, ctx);
                }
            }
            Line::More => total.more = true,
            Line::TooDeep { path, .. } => {
                ctx.out
                    .note(format!("warning: not looked into, it is too deep: {}", printable_bytes(&path.0)));
            }
            _ => {}
        }
        Ok(())
    })?;
    ctx.out.note(total.text());
    Ok(())
}

/// One line a change, then its difference.
pub(super) fn show(source: &Source, told: &Told, ctx: &Ctx) {
    ctx.out.line(line(source, told));
    match &told.diff {
        Some(Diff::Text(text)) => {
            for line in text.lines() {
                ctx.out.line(format!("    {line}"));
            }
        }
        Some(Diff::Binary) => ctx.out.line("    (no text)"),
        Some(Diff::Long) => ctx.out.line("    (too long to be compared line by line)"),
        None => {}
    }
}

fn value(source: &Source, told: &Told) -> Value {
    let inside = source.inside(told);
    let mut value = json!({
        "path": printable_bytes(&inside),
        "what": told.fate,
        "kind": told.kind,
        "mode": format!("{:04o}", told.mode),
        "size": told.size,
        "project": source.regions.get(told.region).is_some_and(|region| region.project),
    });
    let Some(fields) = value.as_object_mut() else { return value };
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    if !told.aspects.is_empty() {
        put("aspects", json!(told.aspects));
    }
    if std::str::from_utf8(&inside).map_or(true, |text| printable(text) != text) {
        put("path_base64", json!(crate::upper::wire::Bytes(inside)));
    }
    if let Some(kind) = told.old_kind {
        put("old_kind", json!(kind));
    }
    if let Some(mode) = told.old_mode {
        put("old_mode", json!(format!("{mode:04o}")));
    }
    if let Some(size) = told.old_size {
        put("old_size", json!(size));
    }
    if let Some(target) = &told.target {
        put("target", json!(printable_bytes(&target.0)));
    }
    if let Some(diff) = &told.diff {
        put("diff", json!(diff));
    }
    value
}
