//! `tripmine [OPTIONS] PROJECT` and `tripmine run`: from what was typed to the entry's exit code.

use std::path::Path;

use super::args::Launch;
use super::ctx::Ctx;
use super::forward;
use super::image::progress::HowShown;
use super::typed::typed;
use crate::engine::ending::{code, ending};
use crate::engine::launch::{self as engine, Waiting};
use crate::engine::registry::Way;
use crate::engine::session::{self, Join, Outcome};
use crate::keeper::protocol::Answer;
use crate::model::sanitize::printable;
use crate::model::{ExitReason, ExitRecord, Failure, FailureKind, ImageRef, Keep, TripId};
use crate::plan::explain::explain;
use crate::plan::launch::StdioPlan;
use crate::plan::{LaunchPlan, Typed};
use crate::term::LeaderKey;

/// The exit code when tripmine itself could not run the cube.
pub const NOT_RUN: u8 = 125;

/// Launches, stays until the end unless detached, and gives the exit code.
///
/// # Errors
/// Whatever kept the cube from starting.
pub fn run(launch: &Launch, ctx: &Ctx, waiting: Option<Waiting>) -> Result<u8, Failure> {
    let mut typed = typed(launch)?;
    for map in &mut typed.settings.ports {
        *map = crate::engine::forward::settled(map.clone());
    }
    let engine = ctx.engine();
    if launch.options.dry_run {
        let planned = engine::plan(&engine, &typed, Vec::new(), true)?;
        return show(&planned.plan, launch.options.json, ctx);
    }
    engine.layout.ensure(ctx.uid)?;
    get_image(launch, &typed, ctx)?;
    carry_out(&typed, launch.options.json, ctx, waiting)
}

/// Launches what was typed, stays until the end unless detached, and gives the exit code.
///
/// # Errors
/// Whatever kept the cube from starting.
pub(super) fn carry_out(
    typed: &Typed,
    json: bool,
    ctx: &Ctx,
    waiting: Option<Waiting>,
) -> Result<u8, Failure> {
    let engine = ctx.engine();
    engine.layout.ensure(ctx.uid)?;
    let waiting = match waiting {
        Some(waiting) => waiting,
        None => engine::start_keeper()?,
    };
    let planned = engine::plan(&engine, typed, Vec::new(), false)?;
    for warning in &planned.plan.warnings {
        ctx.out.note(format!("warning: {warning}"));
    }
    let attached = !typed.detach;
    let mut client = engine::launch(&engine, &planned, waiting, attached)?;
    let plan = planned.plan;
    if !attached {
        let started = client.answer()?;
        drop(planned.locks);
        tell_forwards(&started, ctx);
        announce(&plan, json, ctx)?;
        return Ok(0);
    }
    let mut locks = Some(planned.locks);
    if !plan.forwards.is_empty() {
        tell_forwards(&client.answer()?, ctx);
        locks = None;
    }
    let (tty, relay_stdin) = match plan.stdio {
        StdioPlan::Pty { .. } => (true, true),
        StdioPlan::Pipes { stdin_direct, .. } => (false, !stdin_direct),
    };
    let leader = leader(ctx);
    if tty && plan.entry.shell {
        greet(&plan, leader, ctx);
    }
    let join = Join { tty, writes: true, passes_signals: true, relay_stdin, leader };
    let joined = session::join_holding(&mut client, join, locks);
    let outcome = joined.map_err(|failure| runs_on(failure, &plan, ctx))?;
    if matches!(outcome, Outcome::Exited(_)) {
        super::exit_question::ask(&plan, tty, ctx);
    }
    drop(client);
    let code = conclude(&outcome, plan.id.short(), ctx);
    if let Outcome::Exited(exit) = &outcome
        && let Some(hint) = not_inside(exit, &plan)
    {
        ctx.out.note(hint);
    }
    Ok(code)
}

/// What to do about a program that is here and not in the cube.
fn not_inside(exit: &ExitRecord, plan: &LaunchPlan) -> Option<String> {
    let program = plan.entry.argv.first().filter(|program| program.contains('/'))?;
    if exit.code != 127 || !matches!(exit.reason, ExitReason::NotStarted(_)) {
        return None;
    }
    let path = Path::new(program);
    let (folder, file) = (path.parent()?, path.file_name()?.to_str()?);
    if !path.is_file() {
        return None;
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Some(format!(
        "hint: it is a file of this host, and a cube sees only what is mounted: `tripmine --mount {} -- ./{}`",
        printable(&folder.to_string_lossy()),
        printable(file)
    ))
}

/// A session that broke (its output could not be written, say) ends no cube: who reads the failure must know.
fn runs_on(failure: Failure, plan: &LaunchPlan, ctx: &Ctx) -> Failure {
    let live = crate::store::cubes::load(&ctx.layout.mines_dir(), &plan.id)
        .is_ok_and(|entry| entry.live && entry.record.is_ok_and(|record| !record.state.is_over()));
    if !live && std::env::var("TRIPMINE").is_ok_and(|id| TripId::parse(&id).is_ok()) {
        return failure.hint("this is inside a cube already (`TRIPMINE` is set): cubes do not nest");
    }
    if !live {
        return failure;
    }
    let id = plan.id.short();
    failure.hint(format!("the cube runs on: `tripmine stop {id}` ends it, `tripmine attach {id}` enters it"))
}

/// Brings the image in first, if that was asked for; never otherwise.
fn get_image(launch: &Launch, typed: &crate::plan::Typed, ctx: &Ctx) -> Result<(), Failure> {
    let options = &launch.options;
    let always = match options.pull.as_deref() {
        Some("always") => true,
        Some("missing") => false,
        _ => return Ok(()),
    };
    let image = match &typed.settings.image {
        Some(image) => image.clone(),
        None => {
            let machine = typed.machine.clone().unwrap_or_else(|| ctx.default_machine());
            let machine = crate::store::machines::load(&ctx.layout, &machine)?;
            machine.settings.image.unwrap_or(ImageRef::Host)
        }
    };
    if image == ImageRef::Host {
        return Err(Failure::usage("`--pull`: `host` is built in, no registry has it"));
    }
    let store = crate::image::Store::open(&ctx.layout)?;
    let missing = match store.find(&image) {
        Ok(_) => false,
        Err(failure) if failure.kind == FailureKind::Missing => true,
        Err(failure) => return Err(failure),
    };
    if always || missing {
        let remote = super::image::transfer::remote(&image.to_string())?;
        // As the cube itself would go, were it up already: through the machine's proxy, if that is its way.
        let way = Way {
            plain_http: options.plain_http,
            proxy: None,
            machine: typed.machine.clone(),
            typed: typed.settings.clone(),
        };
        let client = ctx.engine().registry(&remote, &way, false)?;
        super::image::transfer::fetch(&store, &remote, None, &client, HowShown::default())?;
    }
    Ok(())
}

/// The key that leaves, as configured.
pub(super) fn leader(ctx: &Ctx) -> Option<LeaderKey> {
    LeaderKey::parse_setting(&ctx.config.leader.to_string()).ok().flatten()
}

/// What the user reads when a session is over, and the exit code.
pub fn conclude(outcome: &Outcome, cube: &str, ctx: &Ctx) -> u8 {
    match outcome {
        Outcome::Left => {
            ctx.out.note(format!("left the cube {cube} running; back to it: tripmine attach {cube}"));
            0
        }
        Outcome::Hangup => 129,
        Outcome::Exited(exit) => {
            if let Some(line) = ending(exit) {
                ctx.out.note(&line);
            }
            code(exit)
        }
    }
}

fn show(plan: &LaunchPlan, json: bool, ctx: &Ctx) -> Result<u8, Failure> {
    if json {
        let value = super::plan_json::plan(plan);
        ctx.out.json(&value)?;
    } else {
        for line in explain(plan) {
            ctx.out.line(&line);
        }
    }
    Ok(0)
}

fn announce(plan: &LaunchPlan, json: bool, ctx: &Ctx) -> Result<(), Failure> {
    if json {
        return ctx.out.json(&serde_json::json!({ "version": 1, "id": plan.id, "name": plan.name }));
    }
    ctx.out.line(plan.id.as_str());
    Ok(())
}

/// Where the forwards of this launch listen: it may be elsewhere than asked.
fn tell_forwards(answer: &Answer, ctx: &Ctx) {
    let Answer::Started { forwards, .. } = answer else { return };
    for status in forwards {
        forward::tell(status, ctx);
        ctx.out.note(format!("{} -> {} of the cube", forward::place(&status.map.host), status.map.cube));
    }
}

/// One quiet line before a shell: where one is, and how to leave.
fn greet(plan: &LaunchPlan, leader: Option<LeaderKey>, ctx: &Ctx) {
    let what = match plan.keep {
        Keep::Throwaway => "throwaway cube",
        Keep::Durable => "cube",
    };
    let leave = leader.map(|key| format!(" · {key} d leaves it running")).unwrap_or_default();
    let place = plan.project.as_ref().map(|p| format!(" · {}", printable(&p.target))).unwrap_or_default();
    ctx.out.note(format!(
        "{what} {} on {}{place} · net {}{leave}",
        plan.id.short(),
        plan.machine,
        plan.net.kind()
    ));
}
