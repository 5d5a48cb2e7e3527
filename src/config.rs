//! Text ↔ model: `config.toml`, machines and a project's `.tconfig.yml`.
//!
//! Everything but [`load`] is pure. Both formats become one small tree with places in the text, so
//! that one reader serves them and every error carries file, line and column. Unknown keys,
//! duplicate keys and wrong values are refused: a policy that is silently ignored is a hole.

pub mod edit;
pub mod error;
pub mod global;
pub mod load;
pub mod machine;
pub mod net;
pub mod project;
pub mod screen;
pub mod settings;
pub mod theme;
mod tree;

pub use error::ConfigError;
pub use global::{Config, Leader};
