//! Bringing images in and handing them out, with a bar for whoever waits.

use std::io::{IsTerminal, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ImportArgs;
use crate::cli::ctx::Ctx;
use crate::image::Store;
use crate::image::export::{self, Target};
use crate::image::helper::Limits;
use crate::image::import::{self, ImportOptions};
use crate::image::names::Entry;
use crate::model::image::image_name;
use crate::model::{Failure, ImageRef};
use crate::store::usage::usage;

/// A bar on standard error, if that is a terminal.
fn bar(what: &str, length: Option<u64>) -> ProgressBar {
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = if length.is_some() {
        "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}"
    } else {
        "{msg} {spinner} {bytes} {bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

pub(super) fn import(mut store: Store, args: &ImportArgs, ctx: &Ctx) -> Result<(), Failure> {
    if let Some(size) = args.max_size {
        store = store.with_limits(Limits { bytes: size.get(), ratio: u64::MAX, ..Limits::default() });
    }
    let name = args.name.as_deref().map(image_name).transpose();
    let options = ImportOptions {
        name: name.map_err(|error| Failure::usage(error.to_string()))?,
        tag: args.tag.clone(),
        compression: args.compress.map(Into::into),
        machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
        now: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
    };
    let entries = if args.path == Path::new("-") {
        let bar = bar("reading", None);
        let mut input = std::io::stdin().lock();
        import::import_stream(&store, &mut input as &mut dyn Read, &options, &mut |count| bar.inc(count))?
    } else {
        let length = match std::fs::metadata(&args.path) {
            Ok(found) if found.is_file() => Some(found.len()),
            _ => Some(usage(&args.path).bytes),
        };
        let bar = bar("importing", length);
        import::import(&store, &args.path, &options, &mut |count| bar.inc(count))?
    };
    done("import", &entries, ctx);
    Ok(())
}

fn done(act: &str, entries: &[Entry], ctx: &Ctx) {
    for entry in entries {
        let reference = entry.reference();
        ctx.record(&format!("image {act}"), &reference, Some(&format!("tripmine image rm {reference}")));
        ctx.out.line(entry.descriptor.digest.to_string());
        ctx.out.note(format!("`{reference}` is {}", entry.descriptor.digest.short()));
    }
}

pub(super) fn export(store: &Store, reference: &ImageRef, target: &str, ctx: &Ctx) -> Result<(), Failure> {
    let target = Target::parse(target)?;
    let bar = bar("exporting", None);
    export::export(store, reference, &target, &mut |count| bar.inc(count))?;
    bar.finish_and_clear();
    ctx.out.note(format!("exported `{reference}`"));
    Ok(())
}
