//! tripmine: throwaway sandboxes ("cubes") on Linux.
//!
//! The map. A launch is data flowing one way:
//! what was typed (`cli`) → what was meant and what will be done (`plan`) → doing it (`engine`,
//! `keeper`, `jail`) → what happened (`store`: record, log, events).
//!
//! | folder | owns |
//! |---|---|
//! | [`model`] | the nouns; pure |
//! | [`plan`] | the decisions; pure |
//! | [`config`] | text ↔ model |
//! | [`store`] | what lies on disk |
//! | [`image`] | images: the store, import and export, registries |
//! | [`host`] | the Linux edge: probes, system-call wrappers, cgroups, processes |
//! | [`jail`] | inside the child: apply the plan, confine, then init |
//! | [`keeper`] | one process per cube: terminal, exec, logs, life and end |
//! | [`microvm`] | a virtual machine as the entry of a cube: its protocol, its agent, what it boots |
//! | [`gateway`] | a cube's network: policy per connection, names, proxy, relays |
//! | [`engine`] | carries a Request out, whichever face asked |
//! | [`term`] | bytes of a terminal: a cube's screen, replay, filter, leader key; pure |
//! | [`upper`] | reading what a cube changed, and taking it over |
//! | [`cli`] | the command-line face |
//!
//! Arrows (a table in `tests/tidy/arrows.rs`, checked): `model ← plan ← engine ← faces`; `config,
//! term → model`; `store → model, config`; `image → model, plan, store, host`; `host → model` and the plan's
//! types; `jail → model, plan, host`; `microvm → model, plan, host, jail`; `gateway → model, plan`; `keeper → model, plan, host, image, store, jail, term,
//! gateway, upper`. `model`, `plan` and `term` touch no file,
//! process, socket, clock, environment or randomness.

#[cfg(all(feature = "counterproof", not(debug_assertions)))]
compile_error!("the feature `counterproof` takes protections out: it is for tests, never for a release");

pub mod cli;
pub mod config;
pub mod engine;
pub mod gateway;
pub mod host;
pub mod image;
pub mod jail;
pub mod keeper;
pub mod microvm;
pub mod model;
pub mod plan;
pub mod store;
pub mod term;
#[cfg(feature = "tui")]
pub mod tui;
pub mod upper;
