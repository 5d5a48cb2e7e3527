//! Registries: pull and push by the OCI distribution protocol, over HTTPS, or plain HTTP to this very host when asked.
//!
//! Every byte that comes is checked by its digest before anything reads it. Threads rather than an async runtime: a pull is
//! a handful of streams. ureq rather than reqwest for the same reason, and because nothing of it runs before it is used.

pub mod client;
pub mod credentials;
pub mod pull;
pub mod push;

use crate::model::image::Digest;

/// Hears how it goes on: which blob, how long it is, how many bytes more of it are there. From several threads.
pub type Progress<'a> = &'a (dyn Fn(&Digest, u64, u64) + Sync);

/// How many streams at once.
const STREAMS: usize = 4;
