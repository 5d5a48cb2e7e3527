//! `tripmine resume`: a cube launched again from a continuation.

use super::ctx::{self, Ctx};
use super::launch;
use super::verb_args::ResumeArgs;
use crate::engine::resume;
use crate::model::Failure;
use crate::plan::env::EnvChoice;

/// Carries the command out; the exit code is the cube's.
///
/// # Errors
/// The image is no continuation that was made here, or the cube cannot be launched.
pub fn run(args: &ResumeArgs, ctx: &Ctx) -> Result<u8, Failure> {
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
