//! The helper's own jail: it can write beneath one folder and open nothing else, and its memory is bounded.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::model::Failure;

/// The helper's address space: threads, buffers, and the window of a Zstandard frame (128 MiB).
const MEMORY: u64 = 1 << 30;

/// Confines this process to what lies beneath `folder`. Does nothing in a test, whose process must live on.
///
/// Landlock is the second wall: the first is that no name of an archive is ever resolved outside of the folder. A kernel
/// without it is therefore no reason to refuse.
pub(super) fn here(folder: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    if cfg!(test) {
        return Ok(());
    }
    let wrong = |error: &dyn std::error::Error| Failure::failed("cannot confine the helper").because(error);
    let all = AccessFs::from_all(ABI::V5);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V5)))
        .and_then(|ruleset| ruleset.create())
        .map_err(|error| wrong(&error))?;
    if let Some(folder) = folder {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, all)).map_err(|error| wrong(&error))?;
    }
    ruleset.restrict_self().map_err(|error| wrong(&error))?;
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) })
        .map_err(|error| wrong(&error))
}
