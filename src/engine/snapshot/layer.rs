//! The layer of a snapshot: from a copy, or packed right from what a kept cube left.

use std::os::fd::AsFd;
use std::path::Path;

use super::super::changes::Source;
use super::{Seen, left_out, open};
use crate::image::pack::{IdRule, PackOptions};
use crate::image::{Ingest, Layer, Ownership, Store, TempBlob};
use crate::model::Failure;
use crate::plan::changes::Region;
use crate::plan::launch::IdMap;
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

/// Packs what an ended cube left, where it lies, into a blob at `path`.
pub(super) fn pack(
    source: &Source,
    regions: Vec<Region>,
    path: &Path,
    store: &Store,
    seen: &mut Seen,
) -> Result<TempBlob, Failure> {
    let (owners, noted) = owners(store.ownership(), source);
    let want = Want::Pack { leave_out: left_out(), owners, noted };
    let pipe = |error| Failure::failed("cannot make a pipe").because(&error);
    let (mut reader, writer) = std::io::pipe().map_err(pipe)?;
    crate::image::helper::widen(&reader);
    std::thread::scope(|scope| {
        let writing = std::thread::Builder::new().name("blob".to_owned());
        let writing = writing.spawn_scoped(scope, move || TempBlob::write(path, &mut reader, &mut |_| {}));
        let writing = writing.map_err(|error| Failure::failed("cannot start a thread").because(&error))?;
        let packed = source.ask(regions, want, Some(writer.as_fd()), &mut |line| {
            seen.hear(line);
            Ok(())
        });
        // With the last writer gone, the archive ends.
        drop(writer);
        let blob = writing.join().unwrap_or_else(|_| Err(Failure::failed("packing was broken off")));
        // Why it could not be written is told by whoever wrote it, all else by whoever packed it.
        let blob = blob?;
        packed.map(|()| blob)
    })
}

/// How the ids inside become those of the layer.
fn owners(ownership: &Ownership, source: &Source) -> (Shift, bool) {
    let user = &source.ground.user;
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
