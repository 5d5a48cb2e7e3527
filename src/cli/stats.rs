//! `tripmine stats`: what running cubes take, once or again and again. CPU is measured between two looks.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::ctx::Ctx;
use super::cube_ref;
use super::inspect::escape_invisible;
use super::verb_args::StatsArgs;
use crate::engine::client::Client;
use crate::engine::running::{cpu_percent, status};
use crate::keeper::protocol::Status;
use crate::model::{ByteSize, Failure, TripId};
use crate::store::cubes::CubeEntry;

/// Between the two looks at the CPU time.
const APART: Duration = Duration::from_millis(200);
/// Between the later ones of `--follow`.
const AGAIN: Duration = Duration::from_secs(1);

const HEAD: [&str; 8] = ["ID", "NAME", "CPU", "MEMORY", "PROCESSES", "THREADS", "VIEWERS", "AGE"];

/// A cube that is looked at, and what it took when it was looked at last.
struct Watched {
    id: TripId,
    client: Client,
    last: Status,
}

/// Carries the command out; 1 when one of the cubes could not be asked.
///
/// # Errors
/// There is no such cube, or the cubes cannot be listed.
pub fn run(args: &StatsArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let (found, mut failures) = if args.cubes.is_empty() {
        (cube_ref::all_live(ctx)?, Vec::new())
    } else {
        cube_ref::each(&args.cubes, |word| cube_ref::live(ctx, word))
    };
    let mut watched = Vec::new();
    for entry in &found {
        match watch(entry, ctx) {
            Ok(one) => watched.push(one),
            Err(failure) => failures.push(failure),
        }
    }
    for failure in &failures {
        ctx.out.failure(failure);
    }
    let code = failures.iter().map(Failure::exit_code).max().unwrap_or(0);
    if args.follow {
        return follow(args, ctx, watched).map(|()| code);
    }
    if !watched.is_empty() {
        thread::sleep(APART);
    }
    let samples = look(&mut watched);
    if args.json {
        let cubes: Vec<_> = samples.iter().map(|(cpu, status)| as_json(*cpu, status)).collect();
        ctx.out.json(&json!({ "version": 1, "cubes": cubes }))?;
    } else {
        let rows: Vec<_> = samples.iter().map(|(cpu, status)| row(*cpu, status)).collect();
        if rows.is_empty() && failures.is_empty() {
            ctx.out.note("no cube runs");
        }
        ctx.out.table(&HEAD, &rows);
    }
    Ok(code)
}

/// A look a second: until the cubes that were named have ended, or nobody reads any more. Without names, cubes that start
/// meanwhile come in.
fn follow(args: &StatsArgs, ctx: &Ctx, mut watched: Vec<Watched>) -> Result<(), Failure> {
    let mut pause = APART;
    loop {
        if args.cubes.is_empty() {
            for entry in cube_ref::all_live(ctx)? {
                // One that ends just now is not there any more.
                if watched.iter().all(|one| one.id != entry.id)
                    && let Ok(one) = watch(&entry, ctx)
                {
                    watched.push(one);
                }
            }
        } else if watched.is_empty() {
            return Ok(());
        }
        thread::sleep(pause);
        pause = AGAIN;
        let samples = look(&mut watched);
        if args.json {
            for (cpu, status) in &samples {
                let mut line = as_json(*cpu, status);
                line["t"] = ctx.now_ms().into();
                ctx.out.line(escape_invisible(&line.to_string()));
            }
        } else {
            let rows: Vec<_> = samples.iter().map(|(cpu, status)| row(*cpu, status)).collect();
            ctx.out.table(&HEAD, &rows);
        }
        if ctx.out.is_closed() {
            return Ok(());
        }
    }
}

fn watch(entry: &CubeEntry, ctx: &Ctx) -> Result<Watched, Failure> {
    let mut client = cube_ref::connect(ctx, entry)?;
    let last = status(&mut client)?;
    Ok(Watched { id: entry.id.clone(), client, last })
}

/// What each takes now; one that has ended takes nothing any more, and is not looked at again.
fn look(watched: &mut Vec<Watched>) -> Vec<(u64, Status)> {
    let mut samples = Vec::new();
    watched.retain_mut(|one| {
        let Ok(now) = status(&mut one.client) else { return false };
        // It answers still, while it tells others of its end.
        if now.record.state.is_over() {
            return false;
        }
        samples.push((cpu_percent(&one.last.usage, &now.usage), now.clone()));
        one.last = now;
        true
    });
    samples
}

fn row(cpu: u64, status: &Status) -> Vec<String> {
    let usage = &status.usage;
    vec![
        status.record.id.short().to_owned(),
        status.record.name.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        format!("{cpu}%"),
        ByteSize::bytes(usage.memory).to_string(),
        usage.processes.to_string(),
        usage.threads.to_string(),
        status.viewers.to_string(),
        crate::model::words::age(usage.age_ms),
    ]
}

fn as_json(cpu: u64, status: &Status) -> serde_json::Value {
    json!({
        "id": status.record.id,
        "name": status.record.name,
        "cpu_percent": cpu,
        "usage": status.usage,
        "viewers": status.viewers,
    })
}
