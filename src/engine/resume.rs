//! `resume`: a cube launched again from a continuation, an image of its changes with what it was launched with; or a paused
//! cube, which goes on where it was.
//!
//! What an image says of a launch is obeyed only when this store made the image of a cube of its own. One that was pulled
//! or imported is a stranger's, and a stranger does not choose mounts, rules and forwards: it is run as any other image.

use super::again::of_spec;
use super::snapshot::{SOURCE, SPEC};
use super::vm::paused;
use super::{Engine, facts};
use crate::image::Store;
use crate::model::sanitize::printable;
use crate::model::{CubeSpec, Failure, FailureKind, ImageRef, Name};
use crate::plan::Typed;
use crate::store::cubes::{self, CubeEntry, Found};
use crate::store::{machines, projects};

/// A launch of a continuation or of a paused cube, and the names of the variables that it was once given and is not given now.
///
/// # Errors
/// There is no such image, it is no continuation, it was made elsewhere, or its machine is gone.
pub fn typed(engine: &Engine, image: &str, keep: Option<Name>) -> Result<(Typed, Vec<String>), Failure> {
    if keep.is_none()
        && let Some(entry) = paused::find(&engine.layout.mines_dir(), image)?
    {
        return Ok((again(engine, &entry)?, Vec::new()));
    }
    let store = Store::open(&engine.layout)?;
    let reference = ImageRef::parse(image).map_err(|error| Failure::usage(error.to_string()))?;
    let entry = store.find(&reference).map_err(|failure| not_paused(engine, image).unwrap_or(failure))?;
    let name = entry.reference();
    let (_, config) = store.read_image(&entry.descriptor, &name)?;
    let run = format!("`tripmine run {name}` starts a new cube from it");
    let Some(text) = config.labels.get(SPEC) else {
        return Err(Failure::new(FailureKind::Unsupported, format!("the image `{name}` is no continuation"))
            .hint(run)
            .hint("`tripmine image snapshot NAME CUBE --continuation` makes one"));
    };
    let digest = entry.descriptor.digest;
    let ours = |other: &crate::image::names::Entry| {
        other.descriptor.digest == digest && other.source() == Some(SOURCE)
    };
    if !store.entries()?.iter().any(ours) {
        return Err(Failure::new(
            FailureKind::Denied,
            format!("the continuation `{name}` was not made here: what it would launch with is a stranger's choice"),
        )
        .hint(run));
    }
    let spec = CubeSpec::parse(text).map_err(|error| {
        Failure::new(FailureKind::Unsupported, format!("the image `{name}` cannot be resumed"))
            .because(&error)
            .hint(run)
    })?;
    let machine = machines::load(&engine.layout, &spec.machine).map_err(|failure| {
        failure.hint(format!("the cube ran on that machine: without it, `tripmine run {name}`"))
    })?;
    let root = projects::root(Some(&machine), &engine.config, &engine.home);
    let mut typed = of_spec(&spec, keep, &root.canonicalize().unwrap_or(root), &facts::shell())?;
    // With its generation: the name may be given to another image while this is read.
    typed.settings.image = Some(ImageRef::Stored(match &entry.name {
        Some(name) => format!("{name}@{}", entry.generation),
        None => digest.to_string(),
    }));
    let lost = spec.given.env_names.iter().map(|name| printable(name)).collect();
    Ok((typed, lost))
}

/// What to say of a cube of this name that is not paused.
fn not_paused(engine: &Engine, word: &str) -> Option<Failure> {
    let Ok(Found::One(entry)) = cubes::find(&engine.layout.mines_dir(), word) else { return None };
    let name = entry.record.as_ref().ok().and_then(|record| record.name.as_ref());
    let shown = name.map_or_else(|| entry.id.short().to_owned(), ToString::to_string);
    let failure = |what| Failure::new(FailureKind::Busy, format!("the cube `{shown}` {what}"));
    Some(match (entry.live, name) {
        (true, _) => failure("is running").hint(format!("`tripmine attach {shown}` enters it")),
        (false, Some(_)) => {
            failure("is not paused").hint(format!("`tripmine attach {shown}` starts it again"))
        }
        (false, None) => failure("has ended, and was not kept"),
    })
}

/// The launch of a kept cube that has ended, once more; with or without a terminal as it was.
fn again(engine: &Engine, entry: &CubeEntry) -> Result<Typed, Failure> {
    let record = entry.record.as_ref().map_err(|error| Failure::failed(error.to_string()))?;
    let machine = machines::load(&engine.layout, &record.machine)?;
    let root = projects::root(Some(&machine), &engine.config, &engine.home);
    let typed = super::again::again(entry, &root.canonicalize().unwrap_or(root), &facts::shell())?;
    Ok(Typed { tty: Some(record.tty), ..typed })
}

/// What a user should know of variables that are not given again.
#[must_use]
pub fn warning(lost: &[String]) -> Option<String> {
    (!lost.is_empty()).then(|| {
        format!(
            "these variables were given then, and no value of them is kept: {}; give them with `-e`",
            lost.join(", ")
        )
    })
}
