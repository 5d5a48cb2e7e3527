//! The keeper's side of a cube's network: the capture at the start, then the gateway.
#![expect(unsafe_code, reason = "the capture forks, and the keeper has one thread until its runtime is made")]

use super::start::{Born, NotStarted};
use crate::host::capture::{self, CaptureError, Captured, Capturing};

/// Starts to capture the network of the child, beside what the child itself does.
///
/// # Errors
/// No process can be made.
pub fn begin(born: &Born) -> Result<Capturing, NotStarted> {
    // SAFETY: this is before any runtime is made: the keeper has one thread.
    unsafe { capture::begin(born.pid) }.map_err(|error| not_captured(&error))
}

/// Waits for the capture, and reads back that it is in force.
///
/// # Errors
/// The kernel refuses a part of it.
pub fn finish(capturing: Capturing) -> Result<Captured, NotStarted> {
    let captured = capturing.finish().map_err(|error| not_captured(&error))?;
    captured.verify().map_err(|error| {
        NotStarted::new(format!("the rules of the cube's network are not in force: {error}"))
    })?;
    Ok(captured)
}

fn not_captured(error: &CaptureError) -> NotStarted {
    NotStarted::new(format!("cannot set up the cube's network: {error}")).hint(error.hint())
}
