//! `tripmine prune`: deletes for good what is left over: the trash, the records and logs of throwaways
//! that ended long ago, skeletons of `/etc` that no cube uses, and what no image needs of the image store. Kept cubes stay.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use crate::cli::ctx::Ctx;
use crate::engine::running;
use crate::model::limits::parse_timeout;
use crate::model::{ByteSize, Failure, Keep, TripId};
use crate::store::trash::{self, TrashRecord};
use crate::store::usage::usage;
use crate::store::{cubes, skeleton};

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

/// What is to go.
#[derive(Serialize)]
struct Doomed {
    version: u32,
    bytes: u64,
    deletions: Vec<TrashRecord>,
    cubes: Vec<Ended>,
    images: super::image::Swept,
}

/// A throwaway that has ended.
#[derive(Serialize)]
struct Ended {
    id: TripId,
    ended_unix_ms: u64,
    bytes: u64,
}

/// Carries the command out.
///
/// # Errors
/// What failed, for a person; what could be deleted is gone all the same.
pub fn run(args: &PruneArgs, ctx: &Ctx) -> Result<(), Failure> {
    super::sweep::sweep(ctx);
    let ago = |age: Duration| ctx.now_ms().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let before = args.older_than.map(ago);
    let doomed = look(ctx, before, before.unwrap_or_else(|| ago(ctx.config.log_retention)))?;
    if args.dry_run {
        return show(&doomed, args.json, ctx);
    }
    let images = doomed.images.blobs + doomed.images.layers > 0;
    if !doomed.deletions.is_empty() || !doomed.cubes.is_empty() || images {
        ctx.out.confirm(&format!("delete {} for good?", doomed.text()), args.yes)?;
    }
    // Also when nothing is listed: an earlier purge may have been interrupted.
    let purged = trash::purge(&ctx.layout, before)?;
    let mut failures = purged.failures;
    if !failures.is_empty()
        && running::clear(&ctx.layout, &ctx.layout.trash_dir(), trash::PURGE, &trash::is_whole)
    {
        failures.clear();
    }
    let (mut count, mut bytes) = (0, purged.bytes);
    for cube in &doomed.cubes {
        match cubes::remove(&ctx.layout.mines_dir(), &cube.id) {
            Ok(()) => {
                count += 1;
                bytes = bytes.saturating_add(cube.bytes);
            }
            // Somebody else was faster.
            Err(cubes::CubeError::Missing(_)) => {}
            Err(error) => failures.push(error.into()),
        }
    }
    let skeletons = match prune_skeletons(ctx) {
        Ok(count) => count,
        Err(failure) => {
            failures.push(failure);
            0
        }
    };
    let images = match super::image::sweep(ctx, false) {
        Ok(images) => images,
        Err(failure) => {
            failures.push(failure);
            super::image::Swept::default()
        }
    };
    bytes = bytes.saturating_add(images.bytes);
    let layers = (images.blobs + images.layers) as u64;
    let done = format!("{}, {}", parts(purged.count, count, layers), ByteSize::bytes(bytes));
    if purged.count + count + layers > 0 {
        ctx.record("prune", &done, None);
    }
    if args.json {
        #[derive(Serialize)]
        struct Whole {
            version: u32,
            count: u64,
            cubes: u64,
            skeletons: usize,
            images: super::image::Swept,
            bytes: u64,
            failures: Vec<String>,
        }
        let failures = failures.iter().map(ToString::to_string).collect();
        ctx.out.json(&Whole {
            version: 1,
            count: purged.count,
            cubes: count,
            skeletons,
            images,
            bytes,
            failures,
        })?;
    } else if purged.count + count + layers == 0 {
        ctx.out.note(if skeletons == 0 { "nothing to delete" } else { "deleted: unused system skeletons" });
    } else {
        ctx.out.note(format!("deleted for good: {done}"));
    }
    match failures.into_iter().next() {
        Some(failure) => Err(failure.hint("what could not be deleted is tried again by the next prune")),
        None => Ok(()),
    }
}

/// What the trash and the cubes hold that is older.
fn look(ctx: &Ctx, trash_before: Option<u64>, cubes_before: u64) -> Result<Doomed, Failure> {
    let mut deletions = trash::list(&ctx.layout)?;
    deletions.retain(|record| trash_before.is_none_or(|before| record.at_ms < before));
    let mut ended = Vec::new();
    for entry in cubes::list(&ctx.layout.mines_dir())? {
        let Ok(record) = &entry.record else { continue };
        let at = record.exit.as_ref().map_or(record.created_unix_ms, |exit| exit.ended_unix_ms);
        if !entry.live && record.keep == Keep::Throwaway && at < cubes_before {
            ended.push(Ended { id: entry.id, ended_unix_ms: at, bytes: usage(&entry.path).bytes });
        }
    }
    let sizes = deletions.iter().map(|record| record.bytes).chain(ended.iter().map(|cube| cube.bytes));
    let images = super::image::sweep(ctx, true)?;
    let bytes = sizes.fold(images.bytes, u64::saturating_add);
    Ok(Doomed { version: 1, bytes, deletions, cubes: ended, images })
}

fn prune_skeletons(ctx: &Ctx) -> Result<usize, Failure> {
    let oldest = (ctx.live)().iter().map(|record| record.created_unix_ms).min();
    let oldest = oldest.map(|at| UNIX_EPOCH + Duration::from_millis(at));
    Ok(skeleton::prune(&ctx.layout.layers_dir(), &[], oldest)?)
}

impl Doomed {
    fn text(&self) -> String {
        let layers = (self.images.blobs + self.images.layers) as u64;
        let parts = parts(self.deletions.len() as u64, self.cubes.len() as u64, layers);
        format!("{parts}: {}", ByteSize::bytes(self.bytes))
    }
}

fn parts(deletions: u64, cubes: u64, layers: u64) -> String {
    let some = |count: u64, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {more}")),
    };
    let parts: Vec<String> = [
        some(deletions, "deletion", "deletions"),
        some(cubes, "record of an ended cube", "records of ended cubes"),
        some(layers, "unused part of images", "unused parts of images"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" and ") }
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
