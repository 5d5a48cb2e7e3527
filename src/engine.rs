//! One place that carries a request out, whichever face asked: looks up what planning needs, launches,
//! and talks to keepers. Asks nothing, and prints nothing but a joined cube's own output.

pub mod again;
pub mod carry;
pub mod changes;
pub mod client;
pub mod denial;
pub mod ending;
pub mod environment;
pub mod facts;
pub mod forward;
pub mod home_copy;
pub mod host_base;
pub mod image_root;
pub mod images;
pub mod launch;
pub mod net;
pub mod prune;
pub mod registry;
pub mod request;
pub mod resume;
pub mod running;
mod secret;
pub mod session;
pub mod snapshot;
pub mod told;
pub mod vm;

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
    /// The caller's login name.
    pub user: String,
    /// The caller's home.
    pub home: PathBuf,
    /// The effective user id.
    pub uid: u32,
    /// Who is told that a launch waits for layers of its image to be unpacked.
    pub unpacking: Option<crate::image::layers::Telling>,
}

#[cfg(test)]
impl Engine {
    /// One of a test's own: everything beneath `folder`, nothing configured.
    pub(crate) fn in_folder(folder: &std::path::Path) -> Self {
        Self {
            layout: Layout::under(folder),
            config: Config::default(),
            user: "user".to_owned(),
            home: folder.join("user"),
            uid: rustix::process::geteuid().as_raw(),
            unpacking: None,
        }
    }
}

/// How the menu was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Menu {
    /// `-m`.
    pub machine: Option<crate::model::Name>,
    /// Line by line instead of the full screen.
    pub plain: bool,
    /// `--color`.
    pub color: Option<crate::config::screen::ColorDepth>,
    /// What is wrong with `config.toml`, which is left out then.
    pub problem: Option<crate::model::Failure>,
}

/// What shows the menu, handed to the command line: a face does not know the others.
pub type ShowMenu = fn(&Engine, &Menu) -> Result<u8, crate::model::Failure>;
