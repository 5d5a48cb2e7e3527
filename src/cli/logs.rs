//! `tripmine logs`: what a cube printed.
//!
//! Owns tail, follow and timestamps. What reaches a terminal passes the caller's `filter` first;
//! a pipe gets the bytes as they came.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;

use super::ctx::Ctx;
use super::cube_ref::{self, Prefer};
use super::events::time;
use crate::model::Failure;
use crate::model::sanitize::printable;
use crate::store::cubes;
use crate::store::log::{LogFilter, LogReader, LogRecord, Stream};
use crate::term::{Filter, leave};

/// How long to sleep at most before looking whether the cube still lives.
const PATIENCE: Duration = Duration::from_millis(250);

/// Arguments of `tripmine logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct LogsArgs {
    /// TripID (or its start), name, or project with one running cube
    #[arg(value_name = "CUBE")]
    pub cube: String,
    /// Go on until the cube ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Only what came since: a time ago (`10m`), or a date and time (`2026-01-31T12:00:00Z`)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// The time before each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Only this stream: tty, out or err
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<Stream>,
}

/// Carries the command out.
///
/// # Errors
/// There is no such cube, `--since` is no time, or the log cannot be read.
pub fn run(args: &LogsArgs, ctx: &Ctx) -> Result<(), Failure> {
    let since = args
        .since
        .as_deref()
        .map(|text| parse_since(text, ctx.now_ms()))
        .transpose()
        .map_err(|why| Failure::usage(format!("--since: {why}")))?;
    let entry = cube_ref::one(ctx, &args.cube, Prefer::Live)?;
    let mines = ctx.layout.mines_dir();
    let terminal = io::stdout().is_terminal();
    let mut filter = Filter::new();
    let mut pass = |from: &[u8], to: &mut Vec<u8>| match terminal {
        true => filter.filter(from, to),
        false => to.extend_from_slice(from),
    };
    let mut alive = || cubes::load(&mines, &entry.id).is_ok_and(|entry| entry.live);
    let mut out = ctx.out.writer();
    let shown = show(&entry.log_dir(), args, since, &mut alive, &mut pass, &mut out);
    if terminal {
        // Whatever modes the text left on, the terminal comes back as it was, and the prompt to a line of its own.
        let _gone = out.write_all(&leave());
        if let Ok(true) = shown {
            let _gone = out.write_all(b"\n");
        }
    }
    let tty = entry.record.as_ref().is_ok_and(|record| record.tty);
    if !tty && shown.is_ok() && !entry.log_dir().join("log.jsonl").exists() {
        ctx.out.note("nothing is logged: what it prints goes straight to who launched it, unless it is detached or has a terminal");
    }
    match shown {
        Err(_) if ctx.out.is_closed() => Ok(()),
        other => {
            other.map(drop).map_err(|error| Failure::failed("cannot read the cube's log").because(&error))
        }
    }
}

/// Reads `--since`: milliseconds since 1970.
///
/// # Errors
/// A text that says how to write it.
pub fn parse_since(text: &str, now_unix_ms: u64) -> Result<u64, String> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now_unix_ms.saturating_sub(milliseconds(ago)));
    }
    match humantime::parse_rfc3339_weak(text) {
        Ok(time) => Ok(time.duration_since(UNIX_EPOCH).map_or(0, milliseconds)),
        Err(_) => Err(format!(
            "`{}` is no time: write how long ago (`10m`) or when (`2026-01-31T12:00:00Z`)",
            printable(text)
        )),
    }
}

/// Writes the log in the folder `dir`. `alive` tells whether the cube may still print; with
/// `--follow` this returns when it says no and everything is written. `filter` appends what may be
/// shown of its input. True when the last line has no end.
///
/// # Errors
/// When the log cannot be read or `out` cannot be written; a closed pipe is such an error.
pub fn show(
    dir: &Path,
    args: &LogsArgs,
    since_unix_ms: Option<u64>,
    alive: &mut dyn FnMut() -> bool,
    filter: &mut dyn FnMut(&[u8], &mut Vec<u8>),
    out: &mut dyn Write,
) -> io::Result<bool> {
    let mut reader = LogReader::open(dir, LogFilter { stream: args.stream, since_unix_ms });
    let mut printer = Printer { timestamps: args.timestamps, within_line: false, shown: Vec::new() };
    if args.follow {
        // Before the first read: what is written meanwhile must end the first wait.
        reader.watch();
    }
    if let Some(lines) = args.tail {
        for record in reader.tail(lines)? {
            printer.print(&record, filter, out)?;
        }
    }
    loop {
        // Asked before reading: what is read after the last sign of life is all there will be.
        let goes_on = args.follow && alive();
        while let Some(record) = reader.next_record()? {
            printer.print(&record, filter, out)?;
        }
        out.flush()?;
        if !goes_on {
            return Ok(printer.within_line);
        }
        reader.wait(PATIENCE);
    }
}

struct Printer {
    timestamps: bool,
    within_line: bool,
    shown: Vec<u8>,
}

impl Printer {
    fn print(
        &mut self,
        record: &LogRecord,
        filter: &mut dyn FnMut(&[u8], &mut Vec<u8>),
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if record.dropped > 0 {
            let note = format!("[tripmine: {} bytes are missing here, the disk was full]\n", record.dropped);
            if self.within_line {
                out.write_all(b"\n")?;
            }
            self.within_line = false;
            out.write_all(note.as_bytes())?;
        }
        self.shown.clear();
        filter(&record.data, &mut self.shown);
        if !self.timestamps {
            self.within_line = self.shown.last().map_or(self.within_line, |last| *last != b'\n');
            return out.write_all(&self.shown);
        }
        for line in self.shown.split_inclusive(|byte| *byte == b'\n') {
            if !self.within_line {
                write!(out, "{} ", time(record.unix_ms))?;
            }
            out.write_all(line)?;
            self.within_line = !line.ends_with(b"\n");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::LogWriter;

    fn pass(from: &[u8], to: &mut Vec<u8>) {
        to.extend_from_slice(from);
    }

    fn shown(dir: &Path, args: &LogsArgs) -> String {
        let mut out = Vec::new();
        show(dir, args, None, &mut || false, &mut pass, &mut out).expect("shown");
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn tails_times_and_the_filter() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = LogWriter::new(dir.path(), 1000, 3);
        for (time, text) in [(1, "one\ntw"), (2, "o\n"), (3, "three\n")] {
            log.append(time, Stream::Tty, text.as_bytes());
        }
        log.finish();
        let args = LogsArgs::default();
        assert_eq!(shown(dir.path(), &args), "one\ntwo\nthree\n");
        let tail = LogsArgs { tail: Some(1), ..args.clone() };
        assert_eq!(shown(dir.path(), &tail), "three\n");
        let timed = LogsArgs { timestamps: true, ..args.clone() };
        assert_eq!(
            shown(dir.path(), &timed),
            "1970-01-01T00:00:00.001Z one\n1970-01-01T00:00:00.001Z two\n1970-01-01T00:00:00.003Z three\n"
        );
        let mut out = Vec::new();
        let mut upper = |from: &[u8], to: &mut Vec<u8>| to.extend(from.iter().map(u8::to_ascii_uppercase));
        show(dir.path(), &args, None, &mut || false, &mut upper, &mut out).expect("shown");
        assert_eq!(out, b"ONE\nTWO\nTHREE\n");
        assert_eq!(shown(&dir.path().join("none"), &args), "", "no log is no error");
    }

    #[test]
    fn following_ends_with_the_cube_and_loses_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = LogWriter::new(dir.path(), 1000, 3);
        let args = LogsArgs { follow: true, tail: Some(0), ..LogsArgs::default() };
        let mut asked = 0;
        // It prints while it lives, and once more just before it is found dead.
        let mut alive = || {
            asked += 1;
            log.append(asked, Stream::Out, format!("{asked}\n").as_bytes());
            log.flush();
            asked < 4
        };
        let mut out = Vec::new();
        show(dir.path(), &args, None, &mut alive, &mut pass, &mut out).expect("shown");
        assert_eq!(out, b"1\n2\n3\n4\n");
    }

    #[test]
    fn since_is_ago_or_a_date() {
        assert_eq!(parse_since("10s", 50_000), Ok(40_000));
        assert_eq!(parse_since("1h", 50_000), Ok(0));
        assert_eq!(parse_since("1970-01-01T00:00:02Z", 0), Ok(2000));
        assert!(parse_since("yester\x1bday", 0).expect_err("no time").contains("\\u{1b}"));
    }
}
