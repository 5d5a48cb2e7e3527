//! The decisions. Pure functions from what was meant to what will be done: no file, process,
//! socket, clock, environment or randomness is touched here; those come in as values.

pub mod battery;
pub mod built;
pub mod changes;
pub mod collect;
pub mod diagnose;
pub mod env;
pub mod explain;
pub mod facts;
pub mod idmap;
pub mod images;
pub mod jails;
pub mod landlock;
pub mod launch;
pub mod layers;
pub mod leaks;
pub mod limits;
pub mod mounts;
pub mod net;
pub mod pick;
pub mod ports;
pub mod reach;
pub mod resolve;
#[cfg(test)]
pub(crate) mod samples;
pub mod seccomp;
pub mod secrets;
pub mod tighten;

pub use facts::Facts;
pub use launch::LaunchPlan;
pub use resolve::{Typed, resolve};
