//! `tripmine ps`: the cubes, newest first.

use std::io::{self, Write};

use clap::Args;
use serde_json::json;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::ctx::Ctx;
use super::inspect::{JSON_VERSION, cube_json, write_json};
use crate::host::tty;
use crate::model::sanitize::printable;
use crate::model::words::{age, command};
use crate::model::{CubeRecord, Failure, Keep};
use crate::store::cubes::{self, CubeEntry};

const HEADINGS: [&str; 7] = ["ID", "NAME", "MACHINE", "PROJECT", "STATE", "AGE", "COMMAND"];
/// The widest that a column other than the last gets, in cells.
const COLUMN_MAX: usize = 32;
/// What stands for nothing.
const NONE: &str = "-";

/// Arguments of `tripmine ps`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PsArgs {
    /// Also the cubes that have ended
    #[arg(short, long)]
    pub all: bool,
    /// As JSON, with a version field
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out: clears what is dead, then lists.
///
/// # Errors
/// The cubes cannot be listed.
pub fn run(args: &PsArgs, ctx: &Ctx) -> Result<(), Failure> {
    super::sweep::sweep(ctx);
    let entries = cubes::list(&ctx.layout.mines_dir())?;
    let width = tty::size(io::stdout()).map(|(_, cols)| usize::from(cols));
    ctx.out.rendered(|out| render(&entries, args, ctx.now_ms(), width, out))
}

/// Writes the list. `width` is that of the terminal in cells, to which lines are cut; `None` cuts nothing.
///
/// # Errors
/// When `out` cannot be written.
pub fn render(
    entries: &[CubeEntry],
    args: &PsArgs,
    now_unix_ms: u64,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut shown: Vec<&CubeEntry> = entries.iter().filter(|entry| args.all || running(entry)).collect();
    shown.sort_by(|a, b| b.id.cmp(&a.id));
    if args.json {
        let cubes: Vec<_> = shown.into_iter().map(cube_json).collect();
        return write_json(&json!({ "version": JSON_VERSION, "cubes": cubes }), out);
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(shown.into_iter().map(|entry| row(entry, now_unix_ms)));
    let mut widths = [0; HEADINGS.len()];
    for row in &mut rows {
        let last = row.len() - 1;
        for (cell, widest) in row[..last].iter_mut().zip(&mut widths) {
            *cell = cut(cell, COLUMN_MAX);
            *widest = cell.width().max(*widest);
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat((widest + 2).saturating_sub(cell.width())));
        }
        let line = line.trim_end();
        writeln!(out, "{}", width.map_or_else(|| line.to_owned(), |width| cut(line, width)))?;
    }
    Ok(())
}

fn row(entry: &CubeEntry, now_unix_ms: u64) -> [String; 7] {
    let id = entry.id.short().to_owned();
    let none = || NONE.to_owned();
    match &entry.record {
        Ok(record) => [
            id,
            record.name.as_ref().map_or_else(none, ToString::to_string),
            machine(record),
            record.project.as_deref().map_or_else(none, printable),
            state(record, entry.live),
            age(now_unix_ms.saturating_sub(record.created_unix_ms)),
            command(&record.argv),
        ],
        Err(error) => {
            [id, none(), none(), none(), "unreadable".into(), none(), printable(&error.to_string())]
        }
    }
}

/// The machine, and the image that stood in for its own.
fn machine(record: &CubeRecord) -> String {
    if record.image_override {
        format!("{} -i {}", record.machine, record.image)
    } else {
        record.machine.to_string()
    }
}

/// It runs: a keeper lives a moment longer than its cube.
fn running(entry: &CubeEntry) -> bool {
    entry.live && entry.record.as_ref().is_ok_and(|record| !record.state.is_over())
}

/// The state with the exit code, and `kept` for a durable cube that waits.
fn state(record: &CubeRecord, live: bool) -> String {
    let kept = if record.keep == Keep::Durable && !live { ", kept" } else { "" };
    // What runs many times slower than the rest says why.
    let slow = if !record.state.is_over() && record.is_emulated() { " EMULATED" } else { "" };
    format!("{}{kept}{slow}", record.words())
}

/// At most `width` cells; what is cut off is marked.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        // The mark takes one cell.
        if used + 1 > width {
            break;
        }
        shown.push(character);
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cubes::tests::{durable, sample};
    use crate::store::cubes::{create, list};

    fn shown(entries: &[CubeEntry], args: &PsArgs, width: Option<usize>) -> String {
        let mut out = Vec::new();
        render(entries, args, 1_700_000_065_000, width, &mut out).expect("written");
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn columns_line_up_and_controls_are_shown() {
        let base = tempfile::tempdir().expect("tempdir");
        let mut wide = sample(1);
        wide.project = Some("漢字".into());
        wide.argv = vec!["sh".into(), "-c".into(), "echo \x1b[2J it's".into()];
        let plain = durable(2, "box");
        let held =
            (create(base.path(), &wide).expect("created"), create(base.path(), &plain).expect("created"));
        drop(create(base.path(), &sample(3)).expect("created"));
        let entries = list(base.path()).expect("list");
        let (a, b) = (wide.id.short(), plain.id.short());
        assert_eq!(
            shown(&entries, &PsArgs::default(), None),
            format!(
                "ID       NAME  MACHINE  PROJECT  STATE    AGE  COMMAND\n\
                 {b}  box   default  site     running  64s  bash\n\
                 {a}  -     default  漢字     running  64s  sh -c 'echo \\u{{1b}}[2J it'\\''s'\n"
            )
        );
        let narrow = shown(&entries, &PsArgs::default(), Some(40));
        assert!(narrow.lines().all(|line| line.width() <= 40), "{narrow}");
        drop(held);
        let entries = list(base.path()).expect("list");
        assert_eq!(shown(&entries, &PsArgs::default(), None).lines().count(), 1);
        let all = shown(&entries, &PsArgs { all: true, json: false }, None);
        assert!(all.contains("failed 125, kept") && all.lines().count() == 4, "{all}");
    }
}
