//! The terminal handed over: a launch, an attach, an exec, until it ends or is left. The screen is down meanwhile;
//! what is said here is said on the user's own terminal.

use std::io::Write;

use super::terminal::size;
use crate::engine::changes::Source;
use crate::engine::client::{Client, unexpected};
use crate::engine::ending::ending;
use crate::engine::request::Request;
use crate::engine::session::{self, Join, Outcome};
use crate::engine::told::Total;
use crate::engine::{Engine, again, facts, launch, resume};
use crate::keeper::protocol::{Answer, Ask, Kind};
use crate::model::{EnvVar, ExitRecord, Failure, Keep, TripId};
use crate::plan::facts::CallerEnv;
use crate::plan::launch::StdioPlan;
use crate::plan::{LaunchPlan, Typed, env};
use crate::store::cubes::{self, CubeEntry, socket_path};
use crate::store::{machines, projects};
use crate::term::LeaderKey;

/// How it was when the terminal came back.
#[derive(Debug)]
pub(super) struct Joined {
    /// What to say.
    pub(super) text: String,
    /// The cube that was left running.
    pub(super) runs_on: Option<TripId>,
    /// The terminal is gone.
    pub(super) hung_up: bool,
    /// A throwaway that changed its system, and the connection that keeps what it changed.
    pub(super) question: Option<(TripId, Vec<String>, Client)>,
}

/// The key that leaves, as configured.
pub(super) fn leader(engine: &Engine) -> Option<LeaderKey> {
    LeaderKey::parse_setting(&engine.config.leader.to_string()).ok().flatten()
}

fn say(text: &str) {
    let line = format!("{}\r\n", crate::model::sanitize::printable(text));
    // A terminal that is gone shows in what follows.
    let _said = std::io::stdout().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush());
}

/// Carries `request` out on the user's terminal; what to say when the screen is back.
///
/// # Errors
/// What kept it from beginning, or broke it off.
pub(super) fn join(
    engine: &Engine,
    request: &Request,
    ahead: &[u8],
    leave: &dyn Fn(),
) -> Result<Joined, Failure> {
    match request {
        Request::Launch(typed) => start(engine, typed, ahead, leave),
        Request::Resume { image, keep } => {
            let (typed, lost) = resume::typed(engine, image, keep.clone())?;
            resume::warning(&lost).iter().for_each(|warning| say(&format!("warning: {warning}")));
            start(engine, &Typed { tty: typed.tty.or(Some(true)), ..typed }, ahead, leave)
        }
        Request::Attach { cube, take_over } => {
            let entry = cubes::load(&engine.layout.mines_dir(), cube)?;
            match &entry.record {
                Ok(record) if !entry.live && record.keep == Keep::Durable => {
                    let machine = machines::load(&engine.layout, &record.machine)?;
                    let root = projects::root(Some(&machine), &engine.config, &engine.home);
                    let mut typed =
                        again::again(&entry, &root.canonicalize().unwrap_or(root), &facts::shell())?;
                    typed.tty = crate::store::memory::is_there(&entry.path).then_some(record.tty);
                    start(engine, &typed, ahead, leave)
                }
                _ => attach(engine, cube, *take_over, ahead, leave),
            }
        }
        Request::Exec { cube, argv } => exec(engine, cube, argv, ahead, leave),
        _ => Err(Failure::usage("this needs no terminal")),
    }
}

/// A launch where no screen is up.
///
/// # Errors
/// As [`join`].
pub(super) fn start_plain(engine: &Engine, typed: &Typed) -> Result<String, Failure> {
    start(engine, typed, &[], &|| {}).map(|joined| joined.text)
}

/// An attach where no screen is up.
///
/// # Errors
/// As [`join`].
pub(super) fn attach_plain(engine: &Engine, cube: &TripId) -> Result<String, Failure> {
    let request = Request::Attach { cube: cube.clone(), take_over: false };
    join(engine, &request, &[], &|| {}).map(|joined| joined.text)
}

/// What was typed before the terminal was handed over is the cube's.
fn type_ahead(client: &mut Client, ahead: &[u8]) -> Result<(), Failure> {
    if ahead.is_empty() {
        return Ok(());
    }
    client
        .send(Kind::Input, ahead)
        .map_err(|error| Failure::failed("cannot hand over what was typed").because(&error))
}

fn start(engine: &Engine, typed: &Typed, ahead: &[u8], leave: &dyn Fn()) -> Result<Joined, Failure> {
    let engine = &super::setup::fresh(engine)?;
    engine.layout.ensure(engine.uid)?;
    let waiting = launch::start_keeper()?;
    // What keeps it from starting is said on the screen.
    let planned = launch::plan(engine, typed, Vec::new(), false)?;
    leave();
    for warning in &planned.plan.warnings {
        say(&format!("warning: {warning}"));
    }
    let mut client = launch::launch(engine, &planned, waiting, true)?;
    let plan = planned.plan;
    let leader = leader(engine);
    greet(&plan, leader);
    let tty = matches!(plan.stdio, StdioPlan::Pty { .. });
    let join = Join { tty, writes: true, passes_signals: true, relay_stdin: true, leader };
    type_ahead(&mut client, ahead)?;
    let outcome = session::join_holding(&mut client, join, planned.locks)?;
    let mut joined = told(&outcome, &plan.id);
    if matches!(outcome, Outcome::Exited(_)) && tty {
        // The cube has ended well whatever becomes of this.
        match changed(engine, &plan) {
            Ok(Some(lines)) => joined.question = Some((plan.id.clone(), lines, client)),
            Ok(None) => {}
            Err(failure) => joined.text.push_str(&format!("; what it changed is not known: {failure}")),
        }
    }
    Ok(joined)
}

/// What a cube that has just ended changed, if there is something to ask.
fn changed(engine: &Engine, plan: &LaunchPlan) -> Result<Option<Vec<String>>, Failure> {
    let entry = cubes::load(&engine.layout.mines_dir(), &plan.id)?;
    if !entry.live || plan.keep == Keep::Durable || plan.in_place.is_some() {
        return Ok(None);
    }
    let (system, project) = totals(engine, &entry)?;
    if system.is_empty() {
        return Ok(None);
    }
    let mut lines = vec![format!("in its system: {}", system.text())];
    if !project.is_empty() {
        lines.push(format!("under review, and kept in any case: {}", project.text()));
    }
    Ok(Some(lines))
}

/// What a cube changed: in its system, and in a project that is held for review.
///
/// # Errors
/// It cannot be read.
pub(super) fn totals(engine: &Engine, entry: &CubeEntry) -> Result<(Total, Total), Failure> {
    let (source, _client) = Source::open(engine, entry)?;
    Total::of(&source)
}

fn greet(plan: &LaunchPlan, leader: Option<LeaderKey>) {
    let what = match plan.keep {
        Keep::Throwaway => "throwaway cube",
        Keep::Durable => "cube",
    };
    let place = plan.project.as_ref().map(|project| format!(" · {}", project.target)).unwrap_or_default();
    let how = leader.map(|key| format!(" · {key} d comes back, it runs on")).unwrap_or_default();
    say(&format!("{what} {} on {}{place} · net {}{how}", plan.id.short(), plan.machine, plan.net.kind()));
}

fn attach(
    engine: &Engine,
    id: &TripId,
    take_over: bool,
    ahead: &[u8],
    leave: &dyn Fn(),
) -> Result<Joined, Failure> {
    let mut client = Client::connect(&socket_path(&engine.layout.run, id), [None, None, None])?;
    leave();
    let (cols, rows) = size();
    client.ask(&Ask::Attach { rows, cols, write: true, take_over })?;
    let (tty, writer) = match client.answer()? {
        Answer::Attached { tty, writer, .. } => (tty, writer),
        other => return Err(unexpected(&other)),
    };
    let leader = leader(engine);
    let how = match leader {
        Some(key) if tty => format!("{key} d comes back, it runs on"),
        _ if tty && writer => "there is no leader key: stop it from elsewhere".to_owned(),
        _ => "Ctrl-C comes back, it runs on".to_owned(),
    };
    let watching = if writer { "" } else { "another terminal types, this one only watches · " };
    say(&format!("cube {} · {watching}{how}", id.short()));
    let join = Join { tty, writes: writer, passes_signals: false, relay_stdin: true, leader };
    if writer {
        type_ahead(&mut client, ahead)?;
    }
    let outcome = session::join(&mut client, join)?;
    Ok(told(&outcome, id))
}

fn exec(
    engine: &Engine,
    id: &TripId,
    argv: &[String],
    ahead: &[u8],
    leave: &dyn Fn(),
) -> Result<Joined, Failure> {
    let caller = CallerEnv::new(
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    );
    let variables: Vec<EnvVar> = EnvVar::new("TERM", env::term(&caller, true)).into_iter().collect();
    env::check_size(argv, &variables)?;
    let mut client = Client::connect(&socket_path(&engine.layout.run, id), [None, None, None])?;
    leave();
    say(&format!("cube {} · {}", id.short(), crate::model::words::command(argv)));
    let (cols, rows) = size();
    client.ask(&Ask::Exec { argv: argv.to_vec(), env: variables, cwd: None, rows, cols })?;
    // No leader: to leave would end the process, as closing its terminal does.
    let join = Join { tty: true, writes: true, passes_signals: true, relay_stdin: true, leader: None };
    type_ahead(&mut client, ahead)?;
    let outcome = session::join(&mut client, join)?;
    let text = match &outcome {
        Outcome::Exited(exit) => ended(exit, &crate::model::words::command(argv)),
        _ => String::new(),
    };
    Ok(Joined { text, hung_up: matches!(outcome, Outcome::Hangup), runs_on: None, question: None })
}

fn told(outcome: &Outcome, id: &TripId) -> Joined {
    let joined = |text, runs_on, hung_up| Joined { text, runs_on, hung_up, question: None };
    match outcome {
        Outcome::Left => joined(format!("cube {} runs on", id.short()), Some(id.clone()), false),
        Outcome::Hangup => joined(String::new(), None, true),
        Outcome::Exited(exit) => joined(ended(exit, &format!("cube {}", id.short())), None, false),
    }
}

fn ended(exit: &ExitRecord, what: &str) -> String {
    match ending(exit) {
        Some(why) => format!("{what}: {why}"),
        None if exit.code == 0 => format!("{what} has ended"),
        None => format!("{what} has ended with code {}", exit.code),
    }
}
