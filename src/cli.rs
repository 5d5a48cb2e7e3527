//! See lib.rs.

pub mod doctor;
