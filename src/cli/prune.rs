//! `tripmine prune`: deletes for good what is left over: the trash, the records and logs of throwaways
//! that ended long ago, skeletons of `/etc` that no cube uses, and what no image needs of the image store. Kept cubes stay.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::ctx::Ctx;
use crate::engine::prune::{Doomed, carry, look, usual};
use crate::image::collect::Collected;
use crate::model::limits::parse_timeout;
use crate::model::{ByteSize, Failure};
use crate::store::usage::usage;

/// Delete for good what is left over
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PruneArgs {
    /// Only what was deleted, or ended, longer ago than this [default: the whole trash, and cubes past `log_retention`]
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
    super::sweep::sweep(ctx);
    let engine = ctx.engine();
    let ago = |age: Duration| ctx.now_ms().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let before = args.older_than.map(ago);
    let doomed = look(&engine, before, before.unwrap_or_else(|| usual(&engine)))?;
    if args.dry_run {
        return show(&doomed, args.json, ctx);
    }
    if !doomed.is_empty() {
        ctx.out.confirm(&format!("delete {} for good?", doomed.text()), args.yes)?;
    }
    let pruned = carry(&engine, &doomed, before)?;
    if !pruned.is_empty() {
        ctx.record("prune", &pruned.text(), None);
    }
    if args.json {
        #[derive(Serialize)]
        struct Whole {
            version: u32,
            count: u64,
            cubes: u64,
            skeletons: usize,
            images: Collected,
            bytes: u64,
            failures: Vec<String>,
        }
        ctx.out.json(&Whole {
            version: 1,
            count: pruned.count,
            cubes: pruned.cubes,
            skeletons: pruned.skeletons,
            images: pruned.images.clone(),
            bytes: pruned.bytes,
            failures: pruned.failures.iter().map(ToString::to_string).collect(),
        })?;
    } else if pruned.is_empty() {
        let none =
            if pruned.skeletons == 0 { "nothing to delete" } else { "deleted: unused system skeletons" };
        ctx.out.note(none);
    } else {
        ctx.out.note(format!("deleted for good: {}", pruned.text()));
    }
    match pruned.failures.into_iter().next() {
        Some(failure) => Err(failure.hint("what could not be deleted is tried again by the next prune")),
        None => Ok(()),
    }
}

fn show(doomed: &Doomed, json: bool, ctx: &Ctx) -> Result<(), Failure> {
    if json {
        return ctx.out.json(doomed);
    }
    let mut rows = super::undo::rows(&doomed.deletions);
    rows.extend(doomed.cubes.iter().map(|cube| {
        vec![
            cube.id.short().to_owned(),
            "ended cube".to_owned(),
            "-".to_owned(),
            super::undo::time(cube.ended_unix_ms),
            ByteSize::bytes(cube.bytes).to_string(),
        ]
    }));
    if doomed.images.bytes > 0 {
        let count = doomed.images.blobs + doomed.images.layers;
        let what = vec!["-".to_owned(), "of images".to_owned(), format!("{count} parts")];
        rows.push([what, vec!["-".to_owned(), ByteSize::bytes(doomed.images.bytes).to_string()]].concat());
    }
    ctx.out.table(&["ID", "WHAT", "NAME", "SINCE", "SIZE"], &rows);
    if rows.is_empty() {
        ctx.out.note("nothing to delete");
    } else {
        ctx.out.note(format!("would delete {} for good", doomed.text()));
    }
    let layers = ctx.layout.layers_dir();
    let mut skeletons = crate::store::usage::Usage { complete: true, ..Default::default() };
    for entry in std::fs::read_dir(&layers).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("host-") {
            skeletons = skeletons.plus(usage(&entry.path()));
        }
    }
    if skeletons.files > 0 {
        ctx.out.note(format!("and what no cube uses of the system skeletons, at most {}", skeletons.text()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::ctx::testing;
    use crate::cli::undo::{self, UndoArgs};
    use crate::model::FailureKind;
    use crate::store::cubes;
    use crate::store::trash::{self, TrashKind};

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
        assert!(talk.contains("would delete 1 deletion: 1K for good"), "{talk}");
        run(&PruneArgs { yes: true, ..PruneArgs::default() }, &ctx).expect("nothing left");
    }

    #[test]
    fn old_throwaways_go_and_kept_cubes_stay() {
        use crate::store::cubes::create;
        use crate::store::cubes::tests::{durable, sample};
        let (_folder, ctx) = testing::ctx();
        let mines = ctx.layout.mines_dir();
        let live = sample(1);
        let held = create(&mines, &live).expect("created");
        let kept = durable(3, "box");
        drop(create(&mines, &sample(2)).expect("created"));
        drop(create(&mines, &kept).expect("created"));
        // Ended cubes were lost just now, as far as their records tell.
        run(&PruneArgs { yes: true, ..PruneArgs::default() }, &ctx).expect("too young");
        assert_eq!(cubes::list(&mines).expect("list").len(), 3);
        let now = PruneArgs { yes: true, older_than: Some(Duration::ZERO), ..PruneArgs::default() };
        std::thread::sleep(Duration::from_millis(2));
        run(&now, &ctx).expect("pruned");
        let left: Vec<_> = cubes::list(&mines).expect("list").into_iter().map(|entry| entry.id).collect();
        assert_eq!(left, [live.id, kept.id]);
        drop(held);
    }
}
