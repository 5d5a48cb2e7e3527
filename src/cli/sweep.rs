//! Clears what dead keepers left, and tells of it in one line. Never fails a command: what cannot be
//! cleared now is tried again by the next one.

use super::ctx::Ctx;
use crate::engine::running;
use crate::model::CubeRecord;
use crate::store::sweep::{self as store, KEEP_ENDED, SweepHooks};

/// Sweeps; lost cubes are told on stderr.
pub fn sweep(ctx: &Ctx) {
    let mines = ctx.layout.mines_dir();
    if !mines.is_dir() {
        return;
    }
    let mut lost = Vec::new();
    let mut on_lost = |record: &CubeRecord| lost.push(record.id.short().to_owned());
    let mut hooks = SweepHooks { now_unix_ms: ctx.now_ms(), keep_ended: KEEP_ENDED, on_lost: &mut on_lost };
    let problems = match store::sweep(&mines, &ctx.layout.run, &mut hooks) {
        // What belongs to subordinate ids takes their user namespace to remove.
        Ok(report)
            if !report.problems.is_empty()
                && running::clear(&ctx.layout, &mines, crate::store::cubes::DEAD, &|_| true) =>
        {
            Vec::new()
        }
        Ok(report) => report.problems,
        Err(error) => vec![error.into()],
    };
    if !lost.is_empty() {
        ctx.out.note(format!(
            "cleared away after keepers that were lost, with their cubes: {}",
            lost.join(", ")
        ));
    }
    if let Some(problem) = problems.first() {
        let more = match problems.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        ctx.out.note(format!("warning: not all could be cleared away: {problem}{more}"));
    }
}
