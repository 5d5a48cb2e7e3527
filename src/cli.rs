//! See lib.rs.

pub mod doctor;
pub mod verify_jail;
