//! One place that carries a request out, whichever face asked: looks up what planning needs, launches,
//! and talks to keepers. Prints nothing, asks nothing.

pub mod changes;
pub mod client;
pub mod environment;
pub mod facts;
pub mod forward;
pub mod home;
pub mod host_base;
pub mod image_root;
pub mod launch;
mod secret;
pub mod snapshot;

use std::path::PathBuf;

use crate::config::Config;
use crate::store::layout::Layout;

/// Where things are and who asks: what every request needs.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Where things are on disk.
    pub layout: Layout,
    /// What `config.toml` says.
    pub config: Config,
    /// The caller's home.
    pub home: PathBuf,
    /// The effective user id.
    pub uid: u32,
}
