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
use crate::store::cubes::{self, CubeEntry};
use crate::store::events::{self, Event};

/// Between two looks at what came.
const LOOK: Duration = Duration::from_millis(250);

/// Arguments of `tripmine events`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct EventsArgs {
    /// TripID (or its start), name, or project with one running cube
    #[arg(value_name = "CUBE")]
    pub cube: String,
    /// Go on with what comes, until the cube has ended; with --json one object a line
    #[arg(short, long)]
    pub follow: bool,
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
    let events = read(&entry)?;
    if args.follow {
        return follow(args, ctx, &entry, events);
    }
    ctx.out.rendered(|out| render(&events, args.json, out))
}

/// Prints what is there and then what comes. Ends with the cube, or when nobody reads any more.
fn follow(args: &EventsArgs, ctx: &Ctx, entry: &CubeEntry, mut events: Vec<Event>) -> Result<(), Failure> {
    let mines = ctx.layout.mines_dir();
    let mut last: Option<Event> = None;
    loop {
        // Asked before the reading: what was written until the end is read once more after it.
        let live = cubes::load(&mines, &entry.id)?.live;
        let fresh = after(&events, last.as_ref());
        for event in fresh {
            ctx.out.rendered(|out| {
                if args.json {
                    writeln!(out, "{}", escape_invisible(&serde_json::to_string(event)?))
                } else {
                    render(std::slice::from_ref(event), false, out)
                }
            })?;
        }
        last = fresh.last().cloned().or(last);
        if !live || ctx.out.is_closed() {
            return Ok(());
        }
        std::thread::sleep(LOOK);
        events = read(entry)?;
    }
}

fn read(entry: &CubeEntry) -> Result<Vec<Event>, Failure> {
    let mut events = events::read(&entry.log_dir())
        .map_err(|error| Failure::failed("cannot read the cube's events").because(&error))?;
    // The keeper tells whoever waits of the end before it notes the event; the record is written by then.
    if let Ok(record) = &entry.record
        && let Some(exit) = &record.exit
        && !events.iter().any(|event| {
            matches!(event.kind.as_str(), "ended" | "keeper-lost") && event.t >= exit.ended_unix_ms
        })
    {
        let detail = serde_json::to_value(exit).unwrap_or_default();
        events.push(Event::new(exit.ended_unix_ms, "ended", detail));
    }
    Ok(events)
}

/// The events behind `last`; all of them when it is no longer there (the file is bounded).
fn after<'e>(events: &'e [Event], last: Option<&Event>) -> &'e [Event] {
    let at = last.and_then(|last| events.iter().rposition(|event| event == last)).map_or(0, |at| at + 1);
    &events[at..]
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
    fn what_was_shown_is_not_shown_again() {
        let list: Vec<Event> = ["a", "b", "c"].iter().map(|kind| Event::new(1, *kind, Value::Null)).collect();
        assert_eq!(after(&list, None).len(), 3);
        assert_eq!(after(&list, list.first()), &list[1..]);
        assert!(after(&list, list.last()).is_empty());
        assert_eq!(after(&list, Some(&Event::new(0, "gone", Value::Null))).len(), 3);
    }

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
