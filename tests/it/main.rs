//! Whole-program tests: the real binary, real cubes, seen from outside.
//!
//! One binary with one module a concern. `TRIPMINE_BIN` names the program under test; without it, it is the one that
//! cargo has just built. Run as root and as an ordinary user: both are promises. What cannot run on a host prints
//! `SKIPPED name: why`, so that it can be counted. No test sleeps for a time that it hopes is enough: each polls a
//! condition and has a deadline. Every [`env::Env`] checks when it goes that nothing of its cubes is left.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say why"
)]

mod env;
mod left;
mod peers;
mod perl;
mod pty;

mod bad_input;
mod changes;
mod continuation;
mod escape_files;
mod escape_process;
mod escape_syscalls;
mod faults;
mod forward;
mod image_bad;
mod image_debian;
mod image_killed;
mod image_peers;
mod image_registry;
mod image_root;
mod kept;
mod landlock_life;
mod landlock_promises;
mod landlock_refusals;
mod life;
mod links;
mod microvm;
mod microvm_ends;
mod microvm_pause;
mod microvm_whole;
mod net_bulk;
mod net_counters;
mod net_live;
mod net_peers;
mod net_policies;
mod net_together;
mod net_tools;
mod network;
mod odd_faces;
mod ports;
mod program;
mod resources;
mod review;
mod screen;
mod screen_cubes;
mod screen_ends;
mod screen_hands;
mod screen_lists;
mod screen_outside;
mod snapshot;
mod terminal;
mod verbs;

/// No module of this folder is forgotten: a file that no `mod` line names is never compiled.
#[test]
fn every_file_is_a_module() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return env::skip("every_file_is_a_module", "the sources are not here");
    };
    let main = include_str!("main.rs");
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name} is not compiled");
    }
}
