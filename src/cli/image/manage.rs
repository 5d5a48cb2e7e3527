//! Naming, deleting and checking images, and the images' part of `prune`.

use crate::cli::ctx::Ctx;
use crate::image::Store;
use crate::image::collect::Collected;
use crate::image::names::Entry;
use crate::model::image::{Digest, ImageTarget, image_name};
use crate::model::{ByteSize, Failure, ImageRef};
use crate::store::cubes;

pub(super) fn tag(store: &Store, reference: &ImageRef, name: &str, ctx: &Ctx) -> Result<(), Failure> {
    let name = image_name(name).map_err(|error| Failure::usage(error.to_string()))?;
    let entry = store.find(reference)?;
    // Names point at what can be used.
    store.read_image(&entry.descriptor, &entry.reference())?;
    let made = store.name(Some(&name), &entry.descriptor)?;
    ctx.record(
        "image tag",
        &format!("{} {name}", entry.reference()),
        Some(&format!("tripmine image rm {name}")),
    );
    ctx.out.note(format!("`{}` is {}", made.reference(), made.descriptor.digest.short()));
    Ok(())
}

pub(super) fn rm(store: &Store, images: &[String], yes: bool, ctx: &Ctx) -> Result<(), Failure> {
    let all = store.entries()?;
    let mut doomed: Vec<Entry> = Vec::new();
    for image in images {
        let reference = super::reference(image)?;
        let found = store.find(&reference)?;
        let more = all.iter().filter(|entry| match reference.target() {
            // A name goes with its history, a digest with all its names.
            Some(ImageTarget::Name { generation: None, .. }) => entry.name == found.name,
            Some(ImageTarget::Name { .. }) => {
                entry.name == found.name && entry.generation == found.generation
            }
            Some(ImageTarget::Short(_)) if found.name.as_deref() == Some(image) => entry.name == found.name,
            _ => entry.descriptor.digest == found.descriptor.digest,
        });
        for entry in more {
            if !doomed.contains(entry) {
                doomed.push(entry.clone());
            }
        }
    }
    let names: Vec<String> = doomed.iter().map(Entry::reference).collect();
    ctx.out.confirm(&format!("delete {}?", names.join(", ")), yes)?;
    let gone = store.forget(&|entry| doomed.contains(entry))?;
    let collected = store.collect(&used(ctx)?, false)?;
    let text = format!("{}: {}", names.join(", "), freed(&collected));
    ctx.record("image rm", &text, None);
    for entry in gone {
        let digest = entry.descriptor.digest;
        let in_use = store.blob_path(&digest).exists()
            && !store.entries()?.iter().any(|entry| entry.descriptor.digest == digest);
        let note =
            if in_use { " (a cube uses it: its layers stay until `tripmine prune` after that)" } else { "" };
        ctx.out.note(format!("deleted `{}`{note}", entry.reference()));
    }
    ctx.out.note(freed(&collected));
    Ok(())
}

fn freed(collected: &Collected) -> String {
    format!("{} freed", ByteSize::bytes(collected.bytes))
}

pub(super) fn check(store: &Store, json: bool, ctx: &Ctx) -> Result<u8, Failure> {
    let checked = store.check(&mut |_| {})?;
    let bad = !checked.damaged.is_empty() || !checked.images.is_empty();
    if json {
        ctx.out.json(&checked)?;
        return Ok(u8::from(bad));
    }
    for digest in &checked.damaged {
        ctx.out.line(format!("damaged     {digest}"));
    }
    for (image, why) in &checked.images {
        ctx.out.line(format!("unusable    {image}: {why}"));
    }
    ctx.out.note(format!("read {} blobs, {}", checked.blobs, ByteSize::bytes(checked.bytes)));
    if !checked.damaged.is_empty() {
        ctx.out.note("damaged blobs were put aside, in images/quarantine");
    }
    if bad {
        ctx.out.note("hint: pull or import the images that are named once more, or `tripmine image rm` them");
    } else {
        ctx.out.note("all good");
    }
    Ok(u8::from(bad))
}

/// Images that cubes with a record need, running or kept.
///
/// # Errors
/// The records cannot be listed.
pub fn used(ctx: &Ctx) -> Result<Vec<Digest>, Failure> {
    let mut used = Vec::new();
    let store = Store::open(&ctx.layout)?;
    for entry in cubes::list(&ctx.layout.mines_dir())? {
        let Ok(record) = &entry.record else { continue };
        match record.image.target() {
            Some(ImageTarget::Digest(digest)) => used.push(digest),
            // What a name named then is not known; what it names now is a guess that only keeps more.
            Some(_) => used.extend(store.find(&record.image).ok().map(|entry| entry.descriptor.digest)),
            None => {}
        }
    }
    Ok(used)
}

/// What `prune` finds among the images.
pub type Swept = Collected;

/// Deletes, or only counts, what no image or cube needs.
///
/// # Errors
/// As [`Store::collect`].
pub fn sweep(ctx: &Ctx, dry: bool) -> Result<Swept, Failure> {
    let store = Store::open(&ctx.layout)?;
    store.collect(&used(ctx)?, dry)
}
