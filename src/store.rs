//! What lies on disk.

pub mod boot;
pub mod cubes;
pub mod events;
pub mod log;
pub mod skeleton;
pub mod sweep;
