//! How a cube ended, in a line for a person and as an exit code.

use crate::model::sanitize::printable;
use crate::model::{ExitReason, ExitRecord};

/// The code of an exit record as a process's exit code.
#[must_use]
pub fn code(exit: &ExitRecord) -> u8 {
    u8::try_from(exit.code).unwrap_or(125)
}

/// One line for an end that the exit code alone does not explain.
#[must_use]
pub fn ending(exit: &ExitRecord) -> Option<String> {
    let why = match &exit.reason {
        ExitReason::Ended => return None,
        ExitReason::Stopped => "the cube was stopped".to_owned(),
        ExitReason::Paused => {
            "the cube was paused: its memory is on disk (`tripmine resume` goes on)".to_owned()
        }
        ExitReason::Timeout => "the cube was stopped: its time was up (`--timeout`)".to_owned(),
        ExitReason::OutOfMemory(detail) => format!("the cube ran out of memory: {detail}"),
        ExitReason::OverLimit(detail) => format!("the cube was ended: {detail}"),
        ExitReason::NotStarted(detail) => format!("error: {detail}"),
        ExitReason::LayerMissing(layer) => format!("error: the layer `{layer}` is not in force"),
        ExitReason::SetupFailed(detail) => format!("error: {detail}"),
        ExitReason::KeeperLost => "error: the cube's keeper was lost, and the cube with it".to_owned(),
    };
    Some(printable(&why))
}
