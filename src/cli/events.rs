//! `tripmine events`: what happened to a cube.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value, json};

use super::ctx::Ctx;
use super::cube_ref::{self, Prefer};
use super::inspect::{JSON_VERSION, escape_invisible, write_json};
use crate::model::Failure;
use crate::model::sanitize::printable;
use crate::store::events::{self, Event};

/// Arguments of `tripmine events`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct EventsArgs {
    /// TripID (or its start), name, or project with one running cube
    #[arg(value_name = "CUBE")]
    pub cube: String,
    /// As JSON, with a version field
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such cube, or its events cannot be read.
pub fn run(args: &EventsArgs, ctx: &Ctx) -> Result<(), Failure> {
    let entry = cube_ref::one(ctx, &args.cube, Prefer::Live)?;
    let mut events = events::read(&entry.log_dir())
        .map_err(|error| Failure::failed("cannot read the cube's events").because(&error))?;
    // The keeper tells whoever waits of the end before it notes the event; the record is written by then.
    if let Ok(record) = &entry.record
        && let Some(exit) = &record.exit
        && !events.iter().any(|event| event.kind == "ended" && event.t >= record.created_unix_ms)
    {
        let detail = serde_json::to_value(exit).unwrap_or_default();
        events.push(Event::new(exit.ended_unix_ms, "ended", detail));
    }
    ctx.out.rendered(|out| render(&events, args.json, out))
}

/// Writes events, oldest first: time, kind, detail.
///
/// # Errors
/// When `out` cannot be written.
pub fn render(events: &[Event], as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        return write_json(&json!({ "version": JSON_VERSION, "events": events }), out);
    }
    for event in events {
        let detail = match &event.detail {
            Value::Null => String::new(),
            Value::String(text) => format!("  {}", printable(text)),
            other => format!("  {}", escape_invisible(&other.to_string())),
        };
        writeln!(out, "{}  {}{detail}", time(event.t), printable(&event.kind))?;
    }
    Ok(())
}

/// A time as people and programs read it: RFC 3339, UTC, milliseconds.
pub(super) fn time(unix_ms: u64) -> String {
    // The formatter knows years up to 9999 and panics past them.
    const LAST: u64 = 253_402_300_799_999;
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST));
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_harmless() {
        let events = [
            Event::new(0, "started", Value::Null),
            Event::new(1_700_000_000_123, "denied", "evil\x1b[2J"),
            Event::new(u64::MAX, "x\u{202e}", json!({ "code": 3, "t": "\u{9b}" })),
        ];
        let mut out = Vec::new();
        render(&events, false, &mut out).expect("written");
        assert_eq!(
            String::from_utf8(out).expect("utf-8"),
            "1970-01-01T00:00:00.000Z  started\n\
             2023-11-14T22:13:20.123Z  denied  evil\\u{1b}[2J\n\
             9999-12-31T23:59:59.999Z  x\\u{202e}  {\"code\":3,\"t\":\"\\u009b\"}\n"
        );
    }
}
