//! The command-line face: turns what a person typed into a request, and a reply into what they see.

pub mod args;
pub mod launch_args;
pub mod typed;
pub mod verb_args;
