//! Terminals, as bytes in and bytes out: what a cube's terminal shows ([`screen`]), how to paint it
//! again on another terminal ([`mod@replay`]), which of a cube's bytes may reach the user's own terminal
//! ([`filter`]), and the key that leaves a cube ([`leader`]).
//!
//! Nothing here opens a terminal, reads a file or starts a thread. A cube's bytes are hostile: memory and
//! time per byte are bounded, and no sequence of them ends the keeper.

pub mod cells;
pub mod filter;
mod guard;
pub mod leader;
pub mod replay;
pub mod screen;
mod sequence;
mod skip;
#[cfg(test)]
mod testing;

pub use filter::Filter;
pub use leader::{Action, Leader, LeaderKey};
pub use replay::{leave, replay};
pub use screen::{Replies, Screen};
