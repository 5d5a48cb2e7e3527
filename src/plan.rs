//! The decisions. Pure functions from what was meant to what will be done: no file, process,
//! socket, clock, environment or randomness is touched here; those come in as values.

pub mod battery;
pub mod built;
pub mod diagnose;
pub mod landlock;
pub mod launch;
pub mod seccomp;

pub use launch::LaunchPlan;
