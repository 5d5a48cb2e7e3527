//! `tripmine stats`: what running cubes take, once. CPU is measured over a fifth of a second.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::ctx::Ctx;
use super::cube_ref;
use super::verb_args::StatsArgs;
use crate::engine::client::Client;
use crate::engine::running::{cpu_percent, status};
use crate::keeper::protocol::Status;
use crate::model::{ByteSize, Failure};

/// Between the two looks at the CPU time.
const APART: Duration = Duration::from_millis(200);

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
    let mut asked: Vec<(Client, Status)> = Vec::new();
    for entry in &found {
        let first = || -> Result<_, Failure> {
            let mut client = cube_ref::connect(ctx, entry)?;
            let status = status(&mut client)?;
            Ok((client, status))
        };
        match first() {
            Ok(one) => asked.push(one),
            Err(failure) => failures.push(failure),
        }
    }
    if !asked.is_empty() {
        thread::sleep(APART);
    }
    let mut samples = Vec::new();
    for (mut client, before) in asked {
        // One that has ended meanwhile takes nothing any more.
        if let Ok(now) = status(&mut client) {
            samples.push((cpu_percent(&before.usage, &now.usage), now));
        }
    }
    if args.json {
        let cubes: Vec<_> = samples.iter().map(|(cpu, status)| as_json(*cpu, status)).collect();
        ctx.out.json(&json!({ "version": 1, "cubes": cubes }))?;
    } else {
        let rows: Vec<_> = samples.iter().map(|(cpu, status)| row(*cpu, status)).collect();
        if rows.is_empty() && failures.is_empty() {
            ctx.out.note("no cube runs");
        }
        ctx.out.table(&["ID", "NAME", "CPU", "MEMORY", "PROCESSES", "THREADS", "VIEWERS", "AGE"], &rows);
    }
    for failure in &failures {
        ctx.out.failure(failure);
    }
    Ok(failures.iter().map(Failure::exit_code).max().unwrap_or(0))
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
