//! `tripmine exec`: another process in a running cube, on the caller's own streams.

use std::io;
use std::os::fd::AsFd;

use super::ctx::Ctx;
use super::cube_ref;
use super::launch;
use super::verb_args::ExecArgs;
use crate::engine::client::Client;
use crate::engine::facts;
use crate::engine::session::{self, Join};
use crate::host::tty;
use crate::keeper::protocol::Ask;
use crate::model::{EnvVar, Failure};
use crate::plan::env::{self, EnvChoice};
use crate::plan::facts::{CallerEnv, StreamKind};
use crate::plan::mounts;
use crate::store::cubes::socket_path;

/// Carries the command out; the exit code is the process's own.
///
/// # Errors
/// There is no such cube, it does not run, or its keeper refuses.
pub fn run(args: &ExecArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let argv = if args.command.is_empty() { vec![facts::shell()] } else { args.command.clone() };
    let cwd = args.workdir.as_deref().map(mounts::workdir).transpose()?;
    let caller = CallerEnv::new(
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    );
    let streams = facts::stdio();
    let tty = match (args.tty, args.no_tty) {
        (true, _) => true,
        (_, true) => false,
        _ => streams.stdin == StreamKind::Tty && streams.stdout == StreamKind::Tty,
    };
    let env = variables(&args.env, &caller, tty)?;
    env::check_size(&argv, &env)?;
    let entry = cube_ref::live(ctx, &args.cube)?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let direct = |kind| !tty && kind == StreamKind::Direct;
    let mut client = Client::connect(
        &socket_path(&ctx.layout.run, &entry.id),
        [
            direct(streams.stdin).then(|| stdin.as_fd()),
            direct(streams.stdout).then(|| stdout.as_fd()),
            direct(streams.stderr).then(|| stderr.as_fd()),
        ],
    )?;
    let (rows, cols) =
        if tty { tty::size(&stdout).or_else(|| tty::size(&stdin)).unwrap_or((24, 80)) } else { (0, 0) };
    client.ask(&Ask::Exec { argv, env, cwd, rows, cols })?;
    let relay_stdin = !direct(streams.stdin);
    // No leader: to leave would end the process, as closing its terminal does.
    let join = Join { tty, writes: true, passes_signals: true, relay_stdin, leader: None };
    let outcome = session::join(&mut client, join)?;
    Ok(launch::conclude(&outcome, entry.id.short(), ctx))
}

/// What `-e` gives; with a terminal also its kind.
fn variables(typed: &[String], caller: &CallerEnv, tty: bool) -> Result<Vec<EnvVar>, Failure> {
    let mut list = Vec::new();
    if tty {
        list.extend(EnvVar::new("TERM", env::term(caller, true)).ok());
    }
    for text in typed {
        let choice =
            EnvChoice::parse(text).map_err(|error| Failure::usage(format!("`-e {text}`: {error}")))?;
        list.extend(choice.resolve(caller));
    }
    Ok(env::merge([list]))
}
