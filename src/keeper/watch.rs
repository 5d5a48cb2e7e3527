//! Limits that nothing in the kernel enforces here: looked at four times a second, and the cube is ended when one is
//! exceeded.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::state::Keeper;
use super::stats;
use crate::jail::taken_out::{Part, taken_out};
use crate::model::ExitReason;
use crate::plan::launch::{Enforcer, UpperPlan};

/// How often limits are looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// Watches until the cube ends. Returns at once when there is nothing to watch.
pub async fn watch(keeper: Rc<Keeper>) {
    let limits = &keeper.plan.limits;
    let memory = limits
        .memory
        .filter(|(_, by)| *by == Enforcer::Watch && !taken_out(Part::Watch))
        .map(|(size, _)| size);
    let disk = limits.disk.filter(|(_, by)| *by == Enforcer::Watch).map(|(size, _)| size);
    let pids = limits
        .pids
        .filter(|(_, by)| *by == Enforcer::Watch && !taken_out(Part::Watch))
        .map(|(count, _)| count);
    if memory.is_none() && disk.is_none() && pids.is_none() {
        return;
    }
    let mut round = 0_u32;
    loop {
        tokio::time::sleep(INTERVAL).await;
        round = round.wrapping_add(1);
        if let Some(limit) = memory
            && stats::usage(keeper.pid).memory > limit.get()
        {
            let why = format!("more than {limit} of memory, seen by the keeper");
            return keeper.end(ExitReason::OutOfMemory(why), Some(0));
        }
        if let Some(limit) = pids
            // Tasks, as a cgroup counts them; init is ours.
            && stats::usage(keeper.pid).threads > limit.saturating_add(1)
        {
            let why = format!("more than {limit} processes (`--pids`), seen by the keeper");
            return keeper.end(ExitReason::OverLimit(why), Some(0));
        }
        // A walk over a tree: every two seconds is enough for a limit that is not exact anyway.
        if let (Some(limit), UpperPlan::Disk { dir }) = (disk, &keeper.plan.root.upper)
            && round.is_multiple_of(8)
            && size_of_tree(dir) > limit.get()
        {
            let why = format!("more than {limit} written to its system (`--disk`), seen by the keeper");
            return keeper.end(ExitReason::OverLimit(why), Some(0));
        }
    }
}

/// Bytes on disk beneath `dir`, without following links.
fn size_of_tree(dir: &Path) -> u64 {
    crate::store::usage::usage(dir).bytes
}
