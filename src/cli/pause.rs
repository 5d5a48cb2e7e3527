//! `tripmine pause`: a microvm's memory and devices on disk, and the cube ended; `resume` lets it go on.

use super::ctx::Ctx;
use super::cube_ref;
use super::verb_args::PauseArgs;
use crate::engine::running;
use crate::model::Failure;

/// Carries the command out.
///
/// # Errors
/// The cube is none that can be saved, or its machine refuses. It runs on.
pub fn run(args: &PauseArgs, ctx: &Ctx) -> Result<(), Failure> {
    let entry = cube_ref::live(ctx, &args.cube)?;
    running::pause(&ctx.layout.run, &ctx.layout.mines_dir(), &entry.id)?;
    ctx.record("pause", entry.id.as_str(), None);
    let name = entry.record.as_ref().ok().and_then(|record| record.name.clone());
    let word = name.map_or_else(|| entry.id.short().to_owned(), |name| name.to_string());
    ctx.out.line(entry.id.as_str());
    ctx.out.note(format!("paused: `tripmine resume {word}` goes on where it was, also after a reboot"));
    Ok(())
}
