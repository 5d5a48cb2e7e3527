//! The microVM kind of jail: a VMM as the entry of an ordinary cube, and tripmine's own agent as PID 1 of its guest.
//!
//! [`wire`] is what the two sides say to each other. Whatever the guest says is hostile: the side that reads it (the
//! bridge) runs confined inside the cube, and everything it reads is bounded. Decides no policy: the guest reaches the net
//! only through the cube's own, where the gateway decides as for any other cube.

pub mod agent;
pub mod bridge;
mod channel;
mod flow;
pub mod initramfs;
pub mod kernel;
mod link;
mod stream;
pub mod wire;
