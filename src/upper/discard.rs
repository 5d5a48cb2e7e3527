//! Deleting what a cube with subordinate ids left: files of owners whom the caller, outside, may not touch. The helper takes
//! the caller's own range of ids, in which it is root, and deletes there (as `podman unshare rm` does).

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use super::helper;
use super::wire::{Bytes, Ids, Request, Want};
use crate::host::{caller, probe};
use crate::model::host::{HelperFacts, IdSpan};
use crate::store::remove;

/// From here on, deletions that the caller's own id cannot finish are finished with the subordinate ids. Once, at the start of
/// a face or a keeper.
pub fn install() {
    remove::finish_with(finish);
}

/// Deletes `name` in `parent`.
fn finish(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let denied = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned());
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid == 0 {
        return Err(denied("not even root may delete it"));
    }
    let facts = probe::subordinate_ids(&caller::caller().0);
    let (HelperFacts::Ready(_), HelperFacts::Ready(_), Some(uids), Some(gids)) =
        (facts.newuidmap, facts.newgidmap, facts.uids, facts.gids)
    else {
        return Err(denied("it belongs to other ids, and you have no subordinate ids any more"));
    };
    let map = |own: u32, range: IdSpan| format!("0 {own} 1\n1 {} {}\n", range.start, range.count);
    let request = Request {
        ids: Ids::Fresh { uid_map: map(uid, uids), gid_map: map(gid, gids), by_helper: true },
        store: false,
        regions: Vec::new(),
        want: Want::Remove { name: Bytes(name.as_bytes().to_vec()) },
    };
    helper::run(&request, &[parent], &mut |_| Ok(())).map_err(|failure| denied(&failure.to_string()))
}
