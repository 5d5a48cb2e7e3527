//! `tripmine prune`: empties the trash for good.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::ctx::Ctx;
use crate::model::limits::parse_timeout;
use crate::model::{ByteSize, Failure};
use crate::store::trash::{self, TrashRecord};

/// Delete for good what is in the trash
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PruneArgs {
    /// Only what was deleted longer ago than this, for example 7d
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub older_than: Option<Duration>,
    /// Show what would be deleted, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    parse_timeout(text).map_err(|error| error.to_string())
}

/// Carries the command out.
///
/// # Errors
/// What failed, for a person; what could be deleted is gone all the same.
pub fn run(args: &PruneArgs, ctx: &Ctx) -> Result<(), Failure> {
    let before = args
        .older_than
        .map(|age| ctx.now_ms().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    let mut doomed = trash::list(&ctx.layout)?;
    doomed.retain(|record| before.is_none_or(|before| record.at_ms < before));
    let bytes = doomed.iter().fold(0_u64, |sum, record| sum.saturating_add(record.bytes));
    if args.dry_run {
        return show(&doomed, bytes, args.json, ctx);
    }
    if !doomed.is_empty() {
        let size = ByteSize::bytes(bytes);
        let question = format!("delete {} for good: {size}?", count(doomed.len()));
        ctx.out.confirm(&question, args.yes)?;
    }
    // Also when nothing is listed: an earlier purge may have been interrupted.
    let purged = trash::purge(&ctx.layout, before)?;
    if purged.count > 0 {
        ctx.record("prune", &format!("{} deletions, {} bytes", purged.count, purged.bytes), None);
    }
    if args.json {
        #[derive(Serialize)]
        struct Whole {
            version: u32,
            count: u64,
            bytes: u64,
            failures: Vec<String>,
        }
        let failures = purged.failures.iter().map(ToString::to_string).collect();
        ctx.out.json(&Whole { version: 1, count: purged.count, bytes: purged.bytes, failures })?;
    } else if purged.count == 0 {
        ctx.out.note("nothing to delete");
    } else {
        ctx.out.note(format!(
            "deleted for good: {} deletions, {}",
            purged.count,
            ByteSize::bytes(purged.bytes)
        ));
    }
    match purged.failures.into_iter().next() {
        Some(failure) => Err(failure.hint("what could not be deleted is tried again by the next prune")),
        None => Ok(()),
    }
}

fn count(deletions: usize) -> String {
    if deletions == 1 { "1 deletion".to_owned() } else { format!("{deletions} deletions") }
}

fn show(doomed: &[TrashRecord], bytes: u64, json: bool, ctx: &Ctx) -> Result<(), Failure> {
    if json {
        #[derive(Serialize)]
        struct Whole<'r> {
            version: u32,
            bytes: u64,
            deletions: &'r [TrashRecord],
        }
        return ctx.out.json(&Whole { version: 1, bytes, deletions: doomed });
    }
    ctx.out.table(&["ID", "WHAT", "NAME", "DELETED", "SIZE"], &super::undo::rows(doomed));
    ctx.out.note(format!("would delete {} for good: {}", count(doomed.len()), ByteSize::bytes(bytes)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::ctx::testing;
    use crate::cli::undo::{self, UndoArgs};
    use crate::model::FailureKind;
    use crate::store::trash::TrashKind;
    use crate::store::usage::usage;

    #[test]
    fn undo_and_prune() {
        let (folder, ctx) = testing::ctx();
        let list = UndoArgs { list: true, ..UndoArgs::default() };
        undo::run(&list, &ctx).expect("empty");
        for name in ["a", "b"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect("mkdir");
            fs::write(path.join("f"), [0; 1024]).expect("write");
            trash::put(&ctx.layout, TrashKind::Project, name, &[&path], usage(&path), 1000).expect("put");
        }
        undo::run(&list, &ctx).expect("list");
        undo::run(&UndoArgs { what: Some("a".into()), ..UndoArgs::default() }, &ctx).expect("undo");
        assert!(folder.path().join("a/f").exists());
        run(&PruneArgs { dry_run: true, ..PruneArgs::default() }, &ctx).expect("dry run");
        assert_eq!(run(&PruneArgs::default(), &ctx).expect_err("ask").kind, FailureKind::Denied);
        run(&PruneArgs { yes: true, json: true, ..PruneArgs::default() }, &ctx).expect("prune");
        assert!(!folder.path().join("b").exists());
        assert_eq!(undo::run(&UndoArgs::default(), &ctx).expect_err("gone").kind, FailureKind::Missing);
        let (data, talk) = ctx.out.text();
        assert!(data.contains("\"count\": 1") && data.contains("1970-01-01T00:00:01Z"), "{data}");
        assert!(talk.contains("would delete 1 deletion for good: 1K"), "{talk}");
        run(&PruneArgs { yes: true, ..PruneArgs::default() }, &ctx).expect("nothing left");
    }
}
