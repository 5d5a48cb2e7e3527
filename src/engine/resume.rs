//! `resume`: a cube launched again from a continuation, an image of its changes with what it was launched with.
//!
//! What an image says of a launch is obeyed only when this store made the image of a cube of its own. One that was pulled
//! or imported is a stranger's, and a stranger does not choose mounts, rules and forwards: it is run as any other image.

use super::again::of_spec;
use super::snapshot::{SOURCE, SPEC};
use super::{Engine, facts};
use crate::image::Store;
use crate::model::sanitize::printable;
use crate::model::{CubeSpec, Failure, FailureKind, ImageRef, Name};
use crate::plan::Typed;
use crate::store::{machines, projects};

/// A launch of a continuation, and the names of the variables that it was once given and is not given now.
///
/// # Errors
/// There is no such image, it is no continuation, it was made elsewhere, or its machine is gone.
pub fn typed(engine: &Engine, image: &str, keep: Option<Name>) -> Result<(Typed, Vec<String>), Failure> {
    let store = Store::open(&engine.layout)?;
    let reference = ImageRef::parse(image).map_err(|error| Failure::usage(error.to_string()))?;
    let entry = store.find(&reference)?;
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
