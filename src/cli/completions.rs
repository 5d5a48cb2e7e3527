//! `tripmine completions`: a script for a shell, made from the grammar; names of cubes, machines and
//! projects are asked for when Tab is pressed.

use super::args;
use super::ctx::Out;
use super::verb_args::CompletionsArgs;
use crate::model::Failure;

/// Carries the command out.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &CompletionsArgs, out: &Out) -> Result<(), Failure> {
    out.rendered(|to| {
        let mut script = Vec::new();
        clap_complete::generate(args.shell, &mut args::command(), "tripmine", &mut script);
        to.write_all(&script)
    })
}
