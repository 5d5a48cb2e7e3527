//! The full-screen face: what opens when a person types `tripmine`. Elm style: [`update`] is pure and says what the
//! screen becomes and what is to be done outside; [`view`] is pure and says what that looks like; `app` is the loop
//! around them, `run` sets it up on a terminal, and only the modules named edge below touch the world.
//!
//! Pure: `key`, `input`, `text`, `role`, `glyphs`, `look`, `world`, `model`, `rows`, `layout`, `keymap`, `command`,
//! `acts`, `layer`, `sheet`, `msg`, `update`, `view`, `frames`. Edge: `run`, `app`, `edge`, `terminal`, `mailbox`,
//! `survey`, `watch`, `lookout`, `viewer`, `work`, `join`, `plain`, `setup`, `ground`, `clipboard`, `errand`.

mod acts;
mod app;
mod clipboard;
pub mod command;
mod edge;
mod errand;
mod frames;
pub mod glyphs;
mod ground;
pub mod input;
mod join;
pub mod key;
pub mod keymap;
pub mod layer;
pub mod layout;
pub mod look;
mod lookout;
mod mailbox;
pub mod model;
pub mod msg;
mod plain;
pub mod role;
pub mod rows;
mod run;
mod setup;
pub mod sheet;
mod survey;
mod terminal;
pub mod text;
pub mod update;
pub mod view;
mod viewer;
mod watch;
mod work;
pub mod world;

pub use run::main;

#[cfg(test)]
mod testing;
