//! Counter-proofs: each protection of a cube is left out, and the test of its promise must notice.
//!
//! Needs the feature `counterproof`, which no release has. With nothing left out every promise is kept; with a layer left
//! out its rows are reported as broken, or, where another layer promises the same, only with both left out: the tables say
//! which. And with a layer left out and a keeper that looks, no cube is started. Run as root and as an ordinary user.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say why"
)]

#[path = "../it/env.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests, which use more of it")]
mod env;
#[path = "../it/left.rs"]
mod left;
#[path = "../it/pty.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests, which use more of it")]
mod pty;

mod battery;
mod escape;
mod landlock;
mod race;
mod refused;
mod terminal;

use std::process::Command;

use env::{Env, Output, PATIENCE, finish};

/// The program with parts left out, and with a keeper that overlooks layers: both lists with commas.
fn weak<S: AsRef<std::ffi::OsStr>>(
    env: &Env,
    out: &str,
    blind: &str,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = env.command(args);
    command.env("TRIPMINE_TAKE_OUT", out).env("TRIPMINE_BLIND", blind);
    command
}

/// Runs it to its end.
fn run_weak(env: &Env, out: &str, blind: &str, args: &[&str]) -> Output {
    finish(weak(env, out, blind, args).spawn().unwrap(), 2 * PATIENCE)
}

/// A shell script in a weakened cube.
fn inside(env: &Env, out: &str, blind: &str, options: &[&str], script: &str) -> Output {
    run_weak(env, out, blind, &[&["run", "host"], options, &["--", "/bin/sh", "-c", script]].concat())
}
