//! `tripmine attach`: the user's terminal on a running cube; a kept cube that has ended is started
//! again.

use super::ctx::Ctx;
use super::cube_ref::{self, Prefer};
use super::launch;
use super::verb_args::AttachArgs;
use crate::engine::again::again;
use crate::engine::client::unexpected;
use crate::engine::facts;
use crate::engine::session::{self, Join};
use crate::host::tty;
use crate::keeper::protocol::{Answer, Ask};
use crate::model::{Failure, Keep};
use crate::store::cubes::CubeEntry;
use crate::store::{machines, projects};

/// Carries the command out; the exit code is the cube's when it ends meanwhile.
///
/// # Errors
/// There is no such cube, or it cannot be entered.
pub fn run(args: &AttachArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let entry = cube_ref::one(ctx, &args.cube, Prefer::Live)?;
    if !entry.live {
        return start_again(args, &entry, ctx);
    }
    let mut client = cube_ref::connect(ctx, &entry)?;
    let (rows, cols) = tty::size(std::io::stdout()).or_else(|| tty::size(std::io::stdin())).unwrap_or((0, 0));
    client.ask(&Ask::Attach { rows, cols, write: !args.read_only, take_over: args.take_over })?;
    let (tty, writer) = match client.answer()? {
        Answer::Attached { tty, writer, .. } => (tty, writer),
        other => return Err(unexpected(&other)),
    };
    let leader = launch::leader(ctx);
    let id = entry.id.short();
    let leave = match leader {
        Some(key) if tty && writer => format!("{key} d leaves it running"),
        None if tty && writer => "there is no leader key: `tripmine stop` from elsewhere ends it".to_owned(),
        _ => "Ctrl-C leaves it running".to_owned(),
    };
    let watching = match (writer, args.read_only) {
        (true, _) => "",
        (false, true) => "only watching · ",
        (false, false) => "another terminal types, this one only watches (--take-over changes that) · ",
    };
    ctx.out.note(format!("cube {id} · {watching}{leave}"));
    let join = Join { tty, writes: writer, passes_signals: false, relay_stdin: true, leader };
    let outcome = session::join(&mut client, join)?;
    Ok(launch::conclude(&outcome, id, ctx))
}

/// Starts a kept cube again, as it was launched.
fn start_again(args: &AttachArgs, entry: &CubeEntry, ctx: &Ctx) -> Result<u8, Failure> {
    let record = match &entry.record {
        Ok(record) if record.keep == Keep::Durable && record.name.is_some() => record,
        _ => return Err(cube_ref::ended(entry)),
    };
    if args.read_only {
        return Err(cube_ref::ended(entry));
    }
    let root = match machines::load(&ctx.layout, &record.machine) {
        Ok(machine) => projects::root(Some(&machine), &ctx.config, &ctx.home),
        Err(failure) => return Err(failure),
    };
    let mut typed = again(entry, &root.canonicalize().unwrap_or(root), &facts::shell())?;
    if crate::store::memory::is_there(&entry.path) {
        typed.tty = Some(record.tty);
        ctx.out.note(format!("the cube {} is paused: it goes on where it was", cube_ref::shown(entry)));
    } else {
        ctx.out.note(format!("the cube {} has ended: starting it again", cube_ref::shown(entry)));
    }
    launch::carry_out(&typed, false, ctx, None)
}
