//! `machine edit NAME` without options: the user's editor on a copy, checked before it counts.

use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;

use crate::cli::ctx::Ctx;
use crate::config::load::read_text;
use crate::config::machine::parse_machine;
use crate::model::{Failure, Machine, Name};
use crate::store::fail::{cannot, shown};
use crate::store::machines;

/// Opens the editor until the text is right or the user gives up; false when nothing was changed.
pub(super) fn edit(name: &Name, ctx: &Ctx) -> Result<bool, Failure> {
    let Some(editor) = ctx.editor.as_deref().filter(|editor| !editor.trim().is_empty()) else {
        return Err(Failure::failed("no editor is set").hint("set VISUAL or EDITOR").hint(format!(
            "or change single keys: tripmine machine edit {name} --memory 512M (see --help)"
        )));
    };
    let before = machines::text(&ctx.layout, name)?;
    // Not beside the real file: the copy must never look like a machine.
    let folder = tempfile::Builder::new()
        .prefix("tripmine-edit-")
        .tempdir()
        .map_err(|error| cannot("create a folder in", &std::env::temp_dir(), error))?;
    let copy = folder.path().join(format!("{name}.toml"));
    write(&copy, &before).map_err(|error| cannot("write", &copy, error))?;
    loop {
        open(editor, &copy)?;
        let Some(after) = read_text(&copy, false)? else {
            return Err(Failure::failed(format!("the editor removed {}", shown(&copy))));
        };
        if after == before {
            return Ok(false);
        }
        let checked = check(name, &ctx.layout.machine_file(name), &after)
            .and_then(|_| machines::replace_text(&ctx.layout, name, &before, &after));
        match checked {
            Ok(_) => return Ok(true),
            Err(failure) if ctx.out.can_ask() => {
                ctx.out.note(format!("error: {failure}"));
                failure.hints.iter().for_each(|hint| ctx.out.note(format!("hint: {hint}")));
                if !ctx.out.ask("edit it again? (the old file is still in place)") {
                    return Ok(false);
                }
            }
            Err(failure) => return Err(failure.hint("the old file is still in place")),
        }
    }
}

fn check(name: &Name, file: &Path, text: &str) -> Result<Machine, Failure> {
    let machine = parse_machine(name, file, text)?;
    Ok(machine)
}

fn write(copy: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(copy)?;
    file.write_all(text.as_bytes())?;
    file.rewind()
}

/// `$EDITOR` is a command line, so a shell reads it, as git does.
fn open(editor: &str, copy: &Path) -> Result<(), Failure> {
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(copy).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::failed(format!("the editor `{editor}` failed: {status}"))
            .hint("the old file is still in place")),
        Err(error) => Err(Failure::failed(format!("cannot start the editor `{editor}`")).because(&error)),
    }
}
