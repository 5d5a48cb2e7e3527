//! `tripmine ports`: what listens in cubes, seen from outside. Works whatever is installed inside.

use clap::Args;
use serde_json::{Value, json};

use super::ctx::Ctx;
use super::cube_ref;
use super::forward::place;
use super::inspect::JSON_VERSION;
use crate::engine::forward as engine;
use crate::model::{CubeEnd, CubeRecord, Failure, Listening, PortMap};

const HEADINGS: [&str; 7] = ["PORT", "ADDRESS", "ANSWERS", "PROGRAM", "PID", "FORWARDED", "CUBE"];

/// Arguments of `tripmine ports`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PortsArgs {
    /// The cube: a TripID or its start, a name, or a project with one running cube; none: every running one
    pub cube: Option<String>,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such cube, or it cannot be looked at.
pub fn run(args: &PortsArgs, ctx: &Ctx) -> Result<(), Failure> {
    let entries = match &args.cube {
        Some(word) => vec![cube_ref::live(ctx, word)?],
        None => cube_ref::all_live(ctx)?,
    };
    let mut cubes: Vec<(CubeRecord, Vec<Listening>)> = Vec::new();
    for record in entries.into_iter().filter_map(|entry| entry.record.ok()) {
        match engine::ports(&record) {
            Ok(listening) => cubes.push((record, listening)),
            Err(failure) if args.cube.is_some() => return Err(failure),
            // One of many that has just ended.
            Err(_) => {}
        }
    }
    if args.json {
        let cubes: Vec<Value> = cubes.iter().map(|(record, found)| as_json(record, found)).collect();
        return ctx.out.json(&json!({ "version": JSON_VERSION, "cubes": cubes }));
    }
    let rows: Vec<Vec<String>> =
        cubes.iter().flat_map(|(record, found)| found.iter().map(|found| row(record, found))).collect();
    if rows.is_empty() {
        ctx.out.note(if cubes.is_empty() { "no cube runs" } else { "nothing listens" });
    }
    ctx.out.table(&HEADINGS, &rows);
    Ok(())
}

/// The host's places that lead to a port.
fn forwarded(record: &CubeRecord, port: u16) -> Vec<String> {
    let leads = |map: &&PortMap| matches!(map.cube, CubeEnd::Tcp(cube) if cube.get() == port);
    record.forwards.iter().filter(leads).map(|map| place(&map.host)).collect()
}

fn row(record: &CubeRecord, found: &Listening) -> Vec<String> {
    let none = || "-".to_owned();
    let forwarded = forwarded(record, found.port).join(" ");
    vec![
        found.port.to_string(),
        found.address.to_string(),
        found.scope(),
        // Made printable where it is printed.
        found.program.clone().unwrap_or_else(none),
        found.pid.map_or_else(none, |pid| pid.to_string()),
        if forwarded.is_empty() { none() } else { forwarded },
        record.name.as_ref().map_or_else(|| record.id.short().to_owned(), ToString::to_string),
    ]
}

fn as_json(record: &CubeRecord, found: &[Listening]) -> Value {
    let ports: Vec<Value> = found
        .iter()
        .map(|found| {
            json!({
                "port": found.port,
                "address": found.address,
                "scope": found.scope(),
                "program": found.program.as_deref().map(crate::model::sanitize::printable),
                "pid": found.pid,
                "forwarded": forwarded(record, found.port),
            })
        })
        .collect();
    json!({ "id": record.id, "name": record.name, "project": record.project, "ports": ports })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cubes::tests::sample;

    #[test]
    fn a_hostile_program_is_shown_harmless() {
        let mut record = sample(1);
        record.forwards = vec!["8080:3000".parse().expect("a forward")];
        let found = Listening {
            port: 3000,
            address: [127, 0, 0, 1].into(),
            program: Some("evil\x1b[2J\u{202e}".into()),
            pid: Some(7),
        };
        let (_folder, ctx) = crate::cli::ctx::testing::ctx();
        ctx.out.table(&HEADINGS, &[row(&record, &found)]);
        let (shown, _) = ctx.out.text();
        assert!(shown.contains("3000") && shown.contains("127.0.0.1:8080"), "{shown}");
        assert!(!shown.contains('\x1b') && !shown.contains('\u{202e}'), "{shown:?}");
        let json = as_json(&record, &[found]).to_string();
        assert!(json.contains("evil\\\\u{1b}") && !json.contains('\u{202e}'), "{json}");
    }
}
