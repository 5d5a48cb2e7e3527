//! Reading what a cube changed, and taking it over.
//!
//! Owns the edge beneath [`crate::plan::changes`]: uppers and lowers as they lie on file systems, the helper process that
//! reads them with the cube's own ids, what a project was before a review, and writing picked changes into it. Everything
//! read here was chosen by a cube: no link is followed, no path leaves its root, and of a tree nothing is held in memory but
//! some bytes for each of its names.

pub mod again;
pub mod apply;
pub mod copy;
pub mod discard;
pub mod helper;
pub mod home;
pub mod ids;
mod layer;
pub mod lowers;
pub mod manifest;
pub mod meta;
pub mod pack;
pub mod read;
pub mod secrets;
pub mod text;
pub mod wire;
