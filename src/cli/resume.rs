//! `tripmine resume`: a paused cube that goes on, or a cube launched again from a continuation.

use super::ctx::{self, Ctx};
use super::cube_ref;
use super::launch;
use super::verb_args::ResumeArgs;
use crate::engine::resume;
use crate::engine::vm::paused;
use crate::model::{Failure, FailureKind};
use crate::plan::env::EnvChoice;

/// Carries the command out; the exit code is the cube's.
///
/// # Errors
/// The image is no continuation that was made here, or the cube cannot be launched.
pub fn run(args: &ResumeArgs, ctx: &Ctx) -> Result<u8, Failure> {
    if args.forget {
        return forget(&args.image, ctx);
    }
    let keep = args.keep.as_deref().map(ctx::name).transpose()?;
    let (mut typed, mut lost) = resume::typed(&ctx.engine(), &args.image, keep)?;
    for text in &args.env {
        let choice = EnvChoice::parse(text).map_err(|error| Failure::usage(format!("-e: {error}")))?;
        lost.retain(|name| name != choice.key());
        typed.env.push(choice);
    }
    typed.detach = args.detach;
    typed.yes_really = args.yes_really;
    if let Some(warning) = resume::warning(&lost) {
        ctx.out.note(format!("warning: {warning}"));
    }
    launch::carry_out(&typed, args.json, ctx, None)
}

fn forget(word: &str, ctx: &Ctx) -> Result<u8, Failure> {
    let mines = ctx.layout.mines_dir();
    let Some(entry) = paused::find(&mines, word)? else {
        return Err(Failure::new(
            FailureKind::Missing,
            format!("there is no paused cube `{}`", crate::model::sanitize::printable(word)),
        )
        .hint("`tripmine ps -a` shows which cubes are paused"));
    };
    paused::forget(&mines, &entry.id)?;
    ctx.record("resume --forget", entry.id.as_str(), None);
    ctx.out
        .note(format!("the memory of the cube {} is given up; its files are kept", cube_ref::shown(&entry)));
    Ok(0)
}
