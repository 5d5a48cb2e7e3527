//! Naming, deleting and checking images, and the images' part of `prune`.

use crate::cli::ctx::Ctx;
use crate::engine::images;
use crate::image::Store;
use crate::image::collect::Collected;
use crate::image::names::Entry;
use crate::model::{ByteSize, Failure, ImageRef};

pub(super) fn tag(store: &Store, reference: &ImageRef, name: &str, ctx: &Ctx) -> Result<(), Failure> {
    let (entry, made) = images::tag(store, reference, name)?;
    let undo = format!("tripmine image rm {name}");
    ctx.record("image tag", &format!("{} {name}", entry.reference()), Some(&undo));
    ctx.out.note(format!("`{}` is {}", made.reference(), made.descriptor.digest.short()));
    Ok(())
}

pub(super) fn rm(store: &Store, names: &[String], yes: bool, ctx: &Ctx) -> Result<(), Failure> {
    let mut doomed: Vec<Entry> = Vec::new();
    for image in names {
        for entry in images::doomed(store, image)? {
            if !doomed.contains(&entry) {
                doomed.push(entry);
            }
        }
    }
    let names: Vec<String> = doomed.iter().map(Entry::reference).collect();
    ctx.out.confirm(&format!("delete {}?", names.join(", ")), yes)?;
    let (told, collected) = images::remove(&ctx.engine(), store, &doomed)?;
    ctx.record("image rm", &format!("{}: {}", names.join(", "), freed(&collected)), None);
    for line in told {
        ctx.out.note(line);
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
