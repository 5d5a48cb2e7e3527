//! The question when a throwaway has ended that changed its system: keep as an image, show, or discard.
//!
//! Asked only on a terminal. The face is still connected, so the cube's keeper, and with it the upper, waits for the
//! answer; whoever closes the terminal has discarded.

use super::changes::{Total, show};
use super::ctx::Ctx;
use super::image::snapshot::{SnapshotArgs, run};
use crate::engine::changes::Source;
use crate::engine::told::MOST;
use crate::model::{Failure, Keep};
use crate::plan::LaunchPlan;
use crate::store::cubes;
use crate::upper::wire::Line;

/// Asks, if there is anything to ask, and carries the answer out.
pub(super) fn ask(plan: &LaunchPlan, tty: bool, ctx: &Ctx) {
    // In place nothing of the system was changed.
    if !tty || plan.in_place.is_some() || !ctx.out.can_ask() {
        return;
    }
    // The cube has ended well whatever becomes of this: a failure is told, no more.
    if let Err(failure) = question(plan, ctx) {
        ctx.out.failure(&failure);
    }
}

fn question(plan: &LaunchPlan, ctx: &Ctx) -> Result<(), Failure> {
    let engine = ctx.engine();
    let entry = cubes::load(&ctx.layout.mines_dir(), &plan.id)?;
    if !entry.live {
        return Ok(());
    }
    let (source, _client) = Source::open(&engine, &entry)?;
    let (system, project) = Total::of(&source)?;
    let id = plan.id.short();
    if !project.is_empty() {
        ctx.out.note(format!("under review: {}", project.text()));
        ctx.out.note(format!(
            "`tripmine changes --diff {id}` shows them, `tripmine apply {id}` takes them over"
        ));
    }
    if system.is_empty() || plan.keep == Keep::Durable {
        return Ok(());
    }
    ctx.out.note(format!("the cube changed its system: {}", system.text()));
    loop {
        match ctx.out.question("[k]eep as an image, [s]how, or [D]iscard?").as_str() {
            "k" | "keep" => {
                let name = ctx.out.question("name of the image:");
                if name.is_empty() {
                    continue;
                }
                let args = SnapshotArgs { name, cube: Some(plan.id.to_string()), ..SnapshotArgs::default() };
                match run(&args, ctx) {
                    Ok(()) => return Ok(()),
                    // A bad name, or a secret: the question comes again.
                    Err(failure) => ctx.out.failure(&failure),
                }
            }
            "s" | "show" => source.list(true, Vec::new(), MOST, &mut |line| {
                if let Line::Change(told) = line {
                    show(&source, &told, ctx);
                }
                Ok(())
            })?,
            "" | "d" | "discard" => return Ok(()),
            _ => {}
        }
    }
}
