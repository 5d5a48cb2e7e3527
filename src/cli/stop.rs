//! `tripmine stop` and the ending that `kill` and `rm` share: several cubes at once, so that many
//! graces cost one.

use std::thread;

use super::ctx::Ctx;
use super::cube_ref;
use super::verb_args::StopArgs;
use crate::engine::running::end;
use crate::model::Failure;
use crate::store::cubes::CubeEntry;

/// Carries the command out: prints the id of each cube as it has ended.
///
/// # Errors
/// The cubes cannot be listed. What fails for one cube is told, and the exit code is 1.
pub fn run(args: &StopArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let (found, failures) = running(&args.cubes, args.all, ctx)?;
    let grace_ms = args.time.map(|seconds| u64::from(seconds) * 1000);
    Ok(end_all(&found, failures, grace_ms, ctx))
}

/// The running cubes that were named, or all; and why others are not among them.
///
/// # Errors
/// The cubes cannot be listed.
pub fn running(words: &[String], all: bool, ctx: &Ctx) -> Result<(Vec<CubeEntry>, Vec<Failure>), Failure> {
    if all {
        let found = cube_ref::all_live(ctx)?;
        if found.is_empty() {
            ctx.out.note("no cube runs");
        }
        return Ok((found, Vec::new()));
    }
    Ok(cube_ref::each(words, |word| cube_ref::live(ctx, word)))
}

/// Ends cubes at once, prints the id of each, tells what failed; the exit code.
pub fn end_all(found: &[CubeEntry], mut failures: Vec<Failure>, grace_ms: Option<u64>, ctx: &Ctx) -> u8 {
    let (run, mines) = (&ctx.layout.run, &ctx.layout.mines_dir());
    let results: Vec<Result<(), Failure>> = thread::scope(|scope| {
        let threads: Vec<_> =
            found.iter().map(|entry| scope.spawn(|| end(run, mines, &entry.id, grace_ms))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Failure::failed("ending it went wrong"))))
            .collect()
    });
    for (entry, result) in found.iter().zip(results) {
        match result {
            Ok(()) => ctx.out.line(entry.id.as_str()),
            Err(mut failure) => {
                failure.message = format!("{}: {}", cube_ref::shown(entry), failure.message);
                failures.push(failure);
            }
        }
    }
    for failure in &failures {
        ctx.out.failure(failure);
    }
    failures.iter().map(Failure::exit_code).max().unwrap_or(0)
}
