//! `tripmine net`: what a cube reached and was denied, and what it may reach from now on.

mod lines;

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::ctx::Ctx;
use super::cube_ref::{self, Prefer};
use super::inspect::escape_invisible;
use crate::engine::client::unexpected;
use crate::engine::net as engine;
use crate::engine::request::Until;
use crate::keeper::net::{NetAnswer, NetAsk, NetStatus};
use crate::keeper::protocol::{Answer, Ask};
use crate::model::Failure;
use crate::model::net::Rule;
use crate::store::cubes::CubeEntry;
use crate::store::net_log;

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The version of what `--json` prints.
const JSON_VERSION: u32 = 1;

/// Arguments of `tripmine net`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(
    override_usage = "tripmine net CUBE [-f] [--json]\n       tripmine net CUBE allow NAME[:PORT] [--once|--cube|--machine]\n       tripmine net CUBE phase run"
)]
pub struct NetArgs {
    /// TripID (or its start), name, or project with one running cube
    #[arg(value_name = "CUBE")]
    pub cube: String,
    /// `allow` lets it reach something at once; `phase run` ends the set-up
    #[arg(value_name = "ACTION", requires = "what")]
    pub action: Option<NetAction>,
    /// For `allow`: a name, `*.name`, address or network, with its port; for `phase`: `run`
    #[arg(value_name = "WHAT")]
    pub what: Option<String>,
    /// For the next connection only
    #[arg(long, requires = "action", conflicts_with_all = ["for_cube", "machine"])]
    pub once: bool,
    /// Until the cube ends (the default)
    #[arg(long = "cube", requires = "action", conflicts_with = "machine")]
    pub for_cube: bool,
    /// For this cube, and written into its machine for every later one
    #[arg(long, requires = "action")]
    pub machine: bool,
    /// Go on with what happens, until the cube ends
    #[arg(short, long, conflicts_with = "action")]
    pub follow: bool,
    /// As JSON: with `--follow` one event a line
    #[arg(long, conflicts_with = "action")]
    pub json: bool,
}

/// What is done to a cube's net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetAction {
    /// Let it reach something.
    Allow,
    /// End the set-up.
    Phase,
}

/// Carries the command out.
///
/// # Errors
/// There is no such cube, or it refuses.
pub fn run(args: &NetArgs, ctx: &Ctx) -> Result<(), Failure> {
    match (args.action, args.what.as_deref()) {
        (Some(NetAction::Allow), Some(what)) => allow(args, what, ctx),
        (Some(NetAction::Phase), Some("run")) => {
            let entry = cube_ref::live(ctx, &args.cube)?;
            ask(ctx, &entry, NetAsk::Run)?;
            ctx.out.note(format!("{} is in the phase `run`", cube_ref::shown(&entry)));
            Ok(())
        }
        (Some(NetAction::Phase), Some(_)) => {
            Err(Failure::usage("a cube can only go from the phase `setup` to the phase `run`")
                .hint("write `tripmine net CUBE phase run`"))
        }
        _ => show(args, ctx),
    }
}

/// Asks a cube's keeper; `None` when it answered "done".
fn ask(ctx: &Ctx, entry: &CubeEntry, ask: NetAsk) -> Result<Option<NetStatus>, Failure> {
    let mut client = cube_ref::connect(ctx, entry)?;
    client.ask(&Ask::Net(ask))?;
    match client.answer()? {
        Answer::Done => Ok(None),
        Answer::Net(NetAnswer::Status(status)) => Ok(Some(*status)),
        other => Err(unexpected(&other)),
    }
}

fn allow(args: &NetArgs, what: &str, ctx: &Ctx) -> Result<(), Failure> {
    let rule = Rule::parse(what).map_err(|error| Failure::usage(error.to_string()))?;
    let entry = cube_ref::live(ctx, &args.cube)?;
    let until = match (args.once, args.machine) {
        (true, _) => Until::Once,
        (_, true) => Until::Machine,
        _ => Until::Cube,
    };
    for note in engine::allow(&ctx.engine(), &entry, &rule, until)? {
        ctx.out.note(note);
    }
    Ok(())
}

fn show(args: &NetArgs, ctx: &Ctx) -> Result<(), Failure> {
    let entry = cube_ref::one(ctx, &args.cube, Prefer::Live)?;
    let mut log = net_log::Follower::new(entry.log_dir());
    let mut read =
        || log.more().map_err(|error| Failure::failed("cannot read what the cube reached").because(&error));
    // One that ends just now is shown from its log.
    let status = if entry.live { ask(ctx, &entry, NetAsk::Status).unwrap_or_default() } else { None };
    let events = read()?;
    if args.json && !args.follow {
        return ctx.out.json(&json!({ "version": JSON_VERSION, "status": status, "events": events }));
    }
    let write = |events: &[crate::model::net::NetEvent]| {
        ctx.out.rendered(|out| {
            for event in events {
                if args.json {
                    writeln!(out, "{}", escape_invisible(&serde_json::to_string(event)?))?;
                } else {
                    writeln!(out, "{}", lines::event(event))?;
                }
            }
            out.flush()
        })
    };
    if !args.json {
        let record = entry.record.as_ref().ok();
        for line in lines::summary(record.map(|record| record.net), status.as_ref(), &events) {
            ctx.out.line(&line);
        }
    }
    write(&events)?;
    if !args.follow || !entry.live {
        return Ok(());
    }
    loop {
        let alive =
            crate::store::cubes::load(&ctx.layout.mines_dir(), &entry.id).is_ok_and(|entry| entry.live);
        write(&read()?)?;
        if !alive || ctx.out.is_closed() {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}
