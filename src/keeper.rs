//! One process per cube, outside its jail: owns the terminal, the log, the control socket and the
//! exit code. No central daemon; a keeper ends with its cube, and its cube ends with it.

pub mod connection;
pub mod end;
pub mod forward;
pub mod ground;
pub mod in_place;
pub mod input;
pub mod life;
pub mod net;
pub mod output;
pub mod protocol;
pub mod readback;
pub mod serve;
pub mod start;
pub mod state;
pub mod stats;
pub mod watch;
