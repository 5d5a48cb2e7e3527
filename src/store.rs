//! What lies on disk. Every write is whole or not there at all; every record has a version.

pub mod atomic;
pub mod boot;
pub mod cubes;
pub mod events;
pub mod fail;
pub mod homes;
pub mod journal;
pub mod layout;
pub mod lock;
pub mod log;
pub mod machines;
pub mod memory;
pub mod net_log;
pub mod projects;
pub mod remove;
pub mod skeleton;
pub mod sweep;
pub mod themes;
pub mod trash;
pub mod usage;
