//! `tripmine apply`: taking the changes of a review over into the project.

use clap::Args;

use super::ctx::Ctx;
use super::cube_ref;
use crate::engine::changes;
use crate::model::Failure;
use crate::model::sanitize::printable_bytes;

/// Arguments of `tripmine apply`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ApplyArgs {
    /// The cube: a TripID or its start, a name, or its project
    pub cube: String,
    /// Only beneath these places of the project; none: everything
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// Also over what was changed in the project meanwhile
    #[arg(long)]
    pub force: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such cube or review, or an original was changed meanwhile.
pub fn run(args: &ApplyArgs, ctx: &Ctx) -> Result<(), Failure> {
    let entry = cube_ref::changed(ctx, &args.cube)?;
    let applied = changes::apply(&ctx.engine(), &entry, &args.paths, args.force)?;
    for path in &applied.paths {
        ctx.out.line(printable_bytes(path));
    }
    for note in &applied.notes {
        ctx.out.note(format!("note: {note}"));
    }
    let count = applied.paths.len();
    if count > 0 {
        ctx.record("apply", &format!("{count} changes of {}", entry.id.short()), None);
    }
    ctx.out.note(if count == 0 { "nothing to take over".to_owned() } else { format!("{count} taken over") });
    Ok(())
}
