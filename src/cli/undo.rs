//! `tripmine undo`: brings back what was deleted last, or what is named.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use crate::cli::ctx::Ctx;
use crate::model::{ByteSize, Failure};
use crate::store::fail::shown;
use crate::store::trash::{self, TrashRecord};

/// Bring back a deleted machine, home or project
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct UndoArgs {
    /// What to bring back: a name or an id of the list [default: the last deletion]
    pub what: Option<String>,
    /// List what can come back
    #[arg(short, long, conflicts_with = "what")]
    pub list: bool,
    /// Print the list as JSON
    #[arg(long, requires = "list")]
    pub json: bool,
}

/// Carries the command out.
///
/// # Errors
/// What failed, for a person.
pub fn run(args: &UndoArgs, ctx: &Ctx) -> Result<(), Failure> {
    if args.list {
        return list(args.json, ctx);
    }
    let record = trash::undo(&ctx.layout, args.what.as_deref())?;
    ctx.record("undo", record.id.as_str(), None);
    ctx.out.note(format!("{} `{}` is back:", record.kind.word(), record.name));
    for part in &record.parts {
        ctx.out.note(format!("  {}", shown(&part.original)));
    }
    Ok(())
}

fn list(json: bool, ctx: &Ctx) -> Result<(), Failure> {
    let records = trash::list(&ctx.layout)?;
    if json {
        #[derive(Serialize)]
        struct Whole<'r> {
            version: u32,
            deletions: &'r [TrashRecord],
        }
        return ctx.out.json(&Whole { version: 1, deletions: &records });
    }
    if records.is_empty() {
        ctx.out.note("the trash is empty");
    }
    ctx.out.table(&["ID", "WHAT", "NAME", "DELETED", "SIZE"], &rows(&records));
    for folder in trash::unreadable(&ctx.layout)? {
        ctx.out.note(format!("warning: cannot read the record in {}", shown(&folder)));
    }
    Ok(())
}

/// A moment, in milliseconds since 1970, to the second. The formatter knows years up to 9999.
pub(super) fn time(unix_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms.min(253_402_300_799_000));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The deletions as rows of a table.
pub(super) fn rows(records: &[TrashRecord]) -> Vec<Vec<String>> {
    records
        .iter()
        .map(|record| {
            vec![
                record.id.to_string(),
                record.kind.word().to_owned(),
                record.name.clone(),
                time(record.at_ms),
                ByteSize::bytes(record.bytes).to_string(),
            ]
        })
        .collect()
}
