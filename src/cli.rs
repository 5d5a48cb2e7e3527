//! The command-line face: turns what a person typed into a request, and a reply into what they see.

pub mod args;
pub mod ctx;
pub mod doctor;
pub mod events;
pub mod inspect;
pub mod launch_args;
pub mod logs;
pub mod machine;
pub mod out;
pub mod project;
pub mod prune;
pub mod ps;
pub mod typed;
pub mod undo;
pub mod verb_args;
pub mod verify_jail;
