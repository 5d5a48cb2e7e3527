//! Clears what dead keepers left, and tells of it in one line. Never fails a command: what cannot be
//! cleared now is tried again by the next one.

use super::ctx::Ctx;
use crate::store::sweep::told;

/// Sweeps; lost cubes are told on stderr.
pub fn sweep(ctx: &Ctx) {
    let mines = ctx.layout.mines_dir();
    if !mines.is_dir() {
        return;
    }
    let (lost, problems) = told::aloud(&mines, &ctx.layout.run, ctx.now_ms(), ctx.config.log_retention);
    if let Some(lost) = lost {
        ctx.out.note(lost);
    }
    if let Some(problem) = problems.first() {
        let more = match problems.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        ctx.out.note(format!("warning: not all could be cleared away: {problem}{more}"));
    }
}
