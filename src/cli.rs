//! The command-line face: arguments in, text out.

pub mod events;
pub mod inspect;
pub mod logs;
pub mod ps;
