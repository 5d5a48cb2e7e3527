//! The layer of a snapshot: from a copy, or packed right from what a kept cube left.

use std::io::PipeReader;
use std::os::fd::AsFd;
use std::path::Path;

use super::{Kept, left_out, open};
use crate::image::pack::{IdRule, PackOptions};
use crate::image::{Ingest, Layer, Ownership, TempBlob};
use crate::model::{Failure, FailureKind};
use crate::plan::launch::IdMap;
use crate::store::cubes;
use crate::upper::ids::Shift;
use crate::upper::wire::Want;

/// Packs a copy, which becomes the unpacked layer.
pub(super) fn of_copy(work: &mut Ingest<'_>, folder: &Path) -> Result<Layer, Failure> {
    let upper = open(folder)?;
    let ids = match work.store().ownership() {
        Ownership::Root | Ownership::Mapped { .. } => IdRule::AsSeen,
        Ownership::One => IdRule::One { uid: own_ids().0, gid: own_ids().1 },
    };
    let options = PackOptions { ids, exclude: Vec::new(), empty: Vec::new(), upper: true };
    let (blob, packed) = work.pack(upper.as_fd(), &options, &mut |_| {})?;
    work.layer_of(blob, &packed, folder)
}

/// Packs what an ended cube left where it lies. It is unpacked when a launch first needs it.
pub(super) fn of_kept(work: &mut Ingest<'_>, kept: &Kept) -> Result<Layer, Failure> {
    let (owners, noted) = owners(work.store().ownership(), kept);
    let want = Want::Pack { leave_out: left_out(), owners, noted };
    let pipe = |error| Failure::failed("cannot make a pipe").because(&error);
    let (reader, writer) = std::io::pipe().map_err(pipe)?;
    let blob: TempBlob = std::thread::scope(|scope| {
        // With the last writer gone, the archive ends.
        let packing = std::thread::Builder::new().name("pack".to_owned()).spawn_scoped(scope, move || {
            kept.source.ask(kept.regions.clone(), want, Some(writer.as_fd()), &mut |_| Ok(()))
        });
        let packing = packing.map_err(|error| Failure::failed("cannot start a thread").because(&error))?;
        let blob = written(work, reader);
        let packed = packing.join().unwrap_or_else(|_| Err(Failure::failed("packing was broken off")));
        // Why it is too short is told by whoever packed it, why it is not there by whoever wrote it.
        match (packed, blob) {
            (Ok(()), blob) => blob,
            (Err(failure), Ok(_)) => Err(failure),
            (Err(_), Err(failure)) => Err(failure),
        }
    })?;
    still_there(kept)?;
    work.packed(&blob)
}

fn written(work: &mut Ingest<'_>, mut reader: PipeReader) -> Result<TempBlob, Failure> {
    crate::image::helper::widen(&reader);
    work.blob(&mut reader, &mut |_| {})
}

/// What was packed is what was shown.
fn still_there(kept: &Kept) -> Result<(), Failure> {
    let id = &kept.source.ground.id;
    let now = cubes::load(&kept.mines, id)?;
    if !now.live && now.record.as_ref().ok() == kept.record.as_ref() {
        return Ok(());
    }
    let message = format!("the cube {} was launched while it was looked at: nothing is stored", id.short());
    Err(Failure::new(FailureKind::Busy, message).hint("take the snapshot again"))
}

/// How the ids inside become those of the layer.
fn owners(ownership: &Ownership, kept: &Kept) -> (Shift, bool) {
    let user = &kept.source.ground.user;
    let through = |uids: &[IdMap], gids: &[IdMap]| Shift {
        uids: Shift::between(&user.uid_map, uids),
        gids: Shift::between(&user.gid_map, gids),
    };
    let one = |outside| [IdMap { inside: 0, outside, count: 1 }];
    match ownership {
        // What lies on the disk are the ids inside.
        Ownership::Root => (Shift::default(), false),
        Ownership::Mapped { uid_map, gid_map } => (through(uid_map, gid_map), false),
        Ownership::One => (through(&one(own_ids().0), &one(own_ids().1)), true),
    }
}

fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}
