//! The seam: what tripmine asks of a VMM, whichever it is. No word of one VMM stands here.
//!
//! An engine is pure until [`Engine::start`]; a machine is driven from one thread, and dies with its handle.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::model::VmAccel;
use crate::plan::vm::VmSpec;

/// What a machine is connected to. Descriptors only: it is given no place to look for others.
#[derive(Debug)]
pub struct Plugs {
    /// The port of the agent: a connected stream.
    pub agent: OwnedFd,
    /// The share daemon: a connected stream.
    pub share: OwnedFd,
}

/// Where a machine begins.
#[derive(Debug)]
pub enum From {
    /// With its kernel.
    Boot,
    /// Where another one was saved, from this file.
    Saved(OwnedFd),
}

/// Why a machine could not do something: for a person.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The VMM could not be started.
    #[error("`{program}` cannot be started: {source}")]
    Start {
        /// It.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The VMM does not answer, or answers nonsense.
    #[error("the VMM does not answer: {0}")]
    Deaf(io::Error),
    /// The VMM refuses.
    #[error("the VMM refuses: {0}")]
    Refused(String),
    /// It did not get done in time.
    #[error("the VMM was not done within {} s", .0.as_secs())]
    Slow(Duration),
}

/// A kind of VMM.
pub trait Engine {
    /// Its command line for a machine: the program, then its arguments, with `{agent}`, `{share}`, `{monitor}`, `{console}`
    /// and `{saved}` where descriptors go. Pure.
    fn describe(&self, spec: &VmSpec, khz: Option<u64>, restored: bool) -> Vec<String>;

    /// Starts a machine. Nothing of it has run when this returns.
    ///
    /// # Errors
    /// No process could be made.
    fn start(&self, spec: &VmSpec, plugs: Plugs, from: From) -> Result<Box<dyn Machine>, VmError>;
}

/// A machine.
pub trait Machine {
    /// Becomes readable when it has ended.
    fn ended(&self) -> BorrowedFd<'_>;

    /// Becomes readable when its console, or the VMM itself, has said something.
    fn console(&self) -> BorrowedFd<'_>;

    /// Takes what they have said into the bounded memory of the last lines.
    fn listen(&mut self);

    /// The last lines, harmless.
    fn last_lines(&mut self, most: usize) -> Vec<String>;

    /// Waits until the VMM answers. The guest's readiness is its agent's to tell.
    ///
    /// # Errors
    /// It does not, or the accelerator is not the one that was asked for.
    fn wait_ready(&mut self, patience: Duration) -> Result<VmAccel, VmError>;

    /// Stops all processors.
    ///
    /// # Errors
    /// The VMM refuses.
    fn pause(&mut self) -> Result<(), VmError>;

    /// Lets them go on.
    ///
    /// # Errors
    /// The VMM refuses.
    fn go_on(&mut self) -> Result<(), VmError>;

    /// Writes memory and devices of a paused machine to a file.
    ///
    /// # Errors
    /// The VMM refuses, with its own words: a device that cannot be saved.
    fn save(&mut self, file: BorrowedFd<'_>, patience: Duration) -> Result<(), VmError>;

    /// Waits until a machine that begins where another was saved has read all of it, and lets it run.
    ///
    /// # Errors
    /// It cannot be read.
    fn restored(&mut self, patience: Duration) -> Result<(), VmError>;

    /// Ends it. How it ended, in words, if it had ended already.
    fn stop(&mut self) -> Option<String>;
}
