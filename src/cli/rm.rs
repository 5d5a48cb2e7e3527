//! `tripmine rm`: deletes cubes that have ended, with what they kept.

use super::ctx::Ctx;
use super::cube_ref::{self, Prefer};
use super::verb_args::RmArgs;
use crate::engine::running;
use crate::model::{Failure, FailureKind, Keep};
use crate::store::cubes::{self, CubeEntry};
use crate::store::usage::{Usage, usage};

/// Carries the command out: prints the id of each cube that is gone.
///
/// # Errors
/// It was not confirmed, or the cubes cannot be listed. What fails for one cube is told, and the exit
/// code is 1.
pub fn run(args: &RmArgs, ctx: &Ctx) -> Result<u8, Failure> {
    super::sweep::sweep(ctx);
    let mines = ctx.layout.mines_dir();
    let (found, mut failures) = if args.all {
        let ended: Vec<_> = cubes::list(&mines)?.into_iter().filter(|entry| !entry.live).collect();
        if ended.is_empty() {
            ctx.out.note("no cube has ended: nothing to delete");
        }
        (ended, Vec::new())
    } else {
        cube_ref::each(&args.cubes, |word| {
            let entry = cube_ref::one(ctx, word, Prefer::Any)?;
            if entry.live && !args.force { Err(is_running(&entry)) } else { Ok(entry) }
        })
    };
    // What kept nothing but a record needs no question.
    let kept: Vec<&CubeEntry> = found.iter().filter(|entry| is_kept(entry)).collect();
    if !kept.is_empty() {
        let size = kept.iter().fold(Usage { complete: true, ..Usage::default() }, |sum, entry| {
            sum.plus(usage(&entry.path.join("system-copy/upper")))
                .plus(usage(&entry.path.join("review/upper")))
        });
        let names: Vec<String> = kept.iter().map(|entry| cube_ref::shown(entry)).collect();
        let (what, hold) =
            if kept.len() == 1 { ("the kept cube", "it holds") } else { ("the kept cubes", "they hold") };
        let question = format!(
            "delete {what} {} with the changes that {hold}, for good: {}?",
            names.join(", "),
            size.text()
        );
        ctx.out.confirm(&question, args.yes)?;
    }
    for entry in found {
        match running::remove(&ctx.layout, &entry) {
            Ok(()) => {
                ctx.record("rm", entry.id.as_str(), None);
                ctx.out.line(entry.id.as_str());
            }
            Err(failure) => failures.push(failure),
        }
    }
    for failure in &failures {
        ctx.out.failure(failure);
    }
    Ok(failures.iter().map(Failure::exit_code).max().unwrap_or(0))
}

/// A cube whose record cannot be read may be one that was kept; one under review waits for a decision.
fn is_kept(entry: &CubeEntry) -> bool {
    entry.record.as_ref().map_or(true, |record| record.keep == Keep::Durable)
        || entry.path.join("review/upper").is_dir()
}

fn is_running(entry: &CubeEntry) -> Failure {
    let (shown, id) = (cube_ref::shown(entry), entry.id.short());
    Failure::new(FailureKind::Busy, format!("the cube {shown} runs"))
        .hint(format!("`tripmine stop {id}` ends it, `tripmine rm --force {id}` ends and deletes it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctx::testing;
    use crate::store::cubes::create;
    use crate::store::cubes::tests::{durable, sample};

    #[test]
    fn only_the_ended_go_and_kept_ones_after_a_question() {
        let (_folder, ctx) = testing::ctx();
        let mines = ctx.layout.mines_dir();
        let live = sample(1);
        let held = create(&mines, &live).expect("created");
        drop(create(&mines, &sample(2)).expect("created"));
        drop(create(&mines, &durable(3, "box")).expect("created"));
        let named = |word: &str| RmArgs { cubes: vec![word.to_owned()], ..RmArgs::default() };
        assert_eq!(run(&named(live.id.short()), &ctx), Ok(1));
        let failure = run(&named("box"), &ctx).expect_err("asks");
        assert_eq!(failure.kind, FailureKind::Denied);
        assert!(failure.message.contains("`box`") && failure.message.contains("files"), "{failure}");
        assert_eq!(run(&RmArgs { all: true, yes: true, ..RmArgs::default() }, &ctx), Ok(0));
        let left = cubes::list(&mines).expect("list");
        assert_eq!((left.len(), &left[0].id), (1, &live.id));
        drop(held);
    }
}
