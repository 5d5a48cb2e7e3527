//! See lib.rs.

pub mod probe;
