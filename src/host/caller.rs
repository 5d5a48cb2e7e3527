//! Who calls: login name and home folder.

use std::path::PathBuf;

use nix::unistd::{Uid, User};

/// The caller's login name and home. `HOME` wins over the password file, as in a shell; a user id without
/// an entry is called by its number.
#[must_use]
pub fn caller() -> (String, PathBuf) {
    let uid = Uid::effective();
    let user = User::from_uid(uid).ok().flatten();
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home =
        home.or_else(|| user.as_ref().map(|user| user.dir.clone())).unwrap_or_else(|| PathBuf::from("/"));
    (user.map_or_else(|| uid.to_string(), |user| user.name), home)
}
