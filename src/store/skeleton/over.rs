//! What is laid over the layers of an image so that it can be a cube's root: the places of mounts, devices, a user that its
//! `/etc/passwd` may not know, and a host name of its own.
//!
//! It lies above everything of the image, so an image that has a link in the place of `/dev` or `/proc` leads no mount
//! anywhere: the link does not show.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use super::{DEV_LINKS, DEVICES, SkeletonError, SkeletonUser, lock, made, make_folder, stamp_path, touch};
use crate::store::remove::remove_tree;

/// Starts the name of such a layer.
pub const PREFIX: &str = "root-";

/// Folders that nothing of the image shows in.
const OWN: [(&str, u32); 8] = [
    ("proc", 0o755),
    ("sys", 0o755),
    ("dev", 0o755),
    ("dev/pts", 0o755),
    ("dev/shm", 0o1777),
    ("tmp", 0o1777),
    ("run", 0o755),
    ("run/lock", 0o1777),
];

/// Folders that are the image's where it has them.
const SHARED: [&str; 4] = ["etc", "home", "projects", "work"];

/// What goes in.
#[derive(Debug)]
pub struct Over<'a> {
    /// Names all that it depends on: the same key, the same layer.
    pub key: &'a str,
    /// Who runs inside.
    pub user: &'a SkeletonUser,
    /// Decides `/etc/machine-id`.
    pub seed: &'a str,
    /// The image's `/etc/passwd` and `/etc/group`.
    pub passwd: &'a [u8],
    /// The second.
    pub group: &'a [u8],
    /// Kept beside it, for the next launch.
    pub note: &'a [u8],
}

/// The layer of this key with its note, if it has been made. Marks it as used.
#[must_use]
pub fn find(layers: &Path, key: &str) -> Option<(PathBuf, Vec<u8>)> {
    let folder = layers.join(format!("{PREFIX}{key}"));
    touch(&folder).ok()?;
    let note = fs::read(stamp_path(&folder)).ok()?;
    Some((folder, note))
}

/// Makes the layer.
///
/// # Errors
/// A user that cannot stand in a passwd file, or a failure to write.
pub fn make(layers: &Path, over: &Over<'_>) -> Result<PathBuf, SkeletonError> {
    made::check_user(over.user)?;
    fs::DirBuilder::new().recursive(true).create(layers).map_err(|e| SkeletonError::io("make", layers, e))?;
    let folder = layers.join(format!("{PREFIX}{}", over.key));
    let _alone = lock(layers)?;
    if touch(&folder).is_ok() {
        return Ok(folder);
    }
    remove_tree(&folder).map_err(|error| SkeletonError::io("remove", &folder, error))?;
    let fresh = tempfile::Builder::new()
        .prefix(".root-")
        .tempdir_in(layers)
        .map_err(|error| SkeletonError::io("make a folder in", layers, error))?;
    fill(fresh.path(), over)
        .map_err(|error| SkeletonError::io("write an image's skeleton in", fresh.path(), error))?;
    fs::rename(fresh.path(), &folder).map_err(|error| SkeletonError::io("rename", fresh.path(), error))?;
    drop(fresh.keep());
    fs::write(stamp_path(&folder), over.note).map_err(|error| SkeletonError::io("write", &folder, error))?;
    Ok(folder)
}

fn fill(root: &Path, over: &Over<'_>) -> io::Result<()> {
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    for (name, mode) in OWN {
        make_folder(&root.join(name), mode)?;
    }
    for name in ["proc", "sys", "dev", "tmp", "run"] {
        // Overlayfs reads this mark when it is mounted with `userxattr`.
        rustix::fs::setxattr(root.join(name), "user.overlay.opaque", b"y", XattrFlags::empty())?;
    }
    for name in DEVICES {
        fs::File::create(root.join("dev").join(name))?;
    }
    for (name, target) in DEV_LINKS {
        symlink(target, root.join("dev").join(name))?;
    }
    for name in SHARED {
        make_folder(&root.join(name), 0o755)?;
    }
    fs::create_dir_all(root.join(over.user.home.trim_start_matches('/')))?;
    let etc = root.join("etc");
    let name = super::PLACEHOLDER_HOSTNAME;
    let files = [
        ("passwd", passwd(over.user, over.passwd)),
        ("group", group(over.user, over.group)),
        ("hosts", made::hosts().into_bytes()),
        ("hostname", format!("{name}\n").into_bytes()),
        ("resolv.conf", made::resolv_conf().into_bytes()),
        ("machine-id", format!("{}\n", made::machine_id(over.seed)).into_bytes()),
    ];
    for (file, bytes) in files {
        let mut made = fs::File::create(etc.join(file))?;
        made.write_all(&bytes)?;
        made.set_permissions(Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// The image's users, ours first: of two with one number the first counts.
fn passwd(user: &SkeletonUser, image: &[u8]) -> Vec<u8> {
    let SkeletonUser { uid, gid, name, home, shell } = user;
    let mut lines = Vec::new();
    if *uid != 0 {
        lines.extend(format!("{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n").into_bytes());
    }
    let ours = |line: &[u8]| *uid != 0 && field(line, 0) == name.as_bytes();
    let mut has_root = false;
    for line in image.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !ours(line)) {
        has_root |= field(line, 2) == b"0";
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    if !has_root {
        lines.extend(format!("root:x:0:0:root:/root:{shell}\n").into_bytes());
    }
    lines
}

fn group(user: &SkeletonUser, image: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    let known =
        |id: u32| image.split(|byte| *byte == b'\n').any(|line| field(line, 2) == id.to_string().as_bytes());
    for line in image.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    if !known(0) {
        lines.extend_from_slice(b"root:x:0:\n");
    }
    if user.gid != 0 && !known(user.gid) {
        lines.extend(format!("{}:x:{}:\n", user.name, user.gid).into_bytes());
    }
    lines
}

/// A field of a line of passwd(5) or group(5).
#[must_use]
pub fn field(line: &[u8], index: usize) -> &[u8] {
    line.split(|byte| *byte == b':').nth(index).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> SkeletonUser {
        SkeletonUser { uid, gid: uid, name: "ann".into(), home: "/home/ann".into(), shell: "/bin/sh".into() }
    }

    #[test]
    fn the_user_stands_first_and_the_images_own_stay() {
        let image =
            b"root:x:0:0:root:/root:/bin/bash\nann:x:7:7::/evil:/bin/evil\ndb:x:1000:1000::/db:/bin/sh\n";
        let text = String::from_utf8(passwd(&user(1000), image)).expect("utf-8");
        assert_eq!(
            text,
            "ann:x:1000:1000:ann:/home/ann:/bin/sh\nroot:x:0:0:root:/root:/bin/bash\ndb:x:1000:1000::/db:/bin/sh\n"
        );
        assert_eq!(passwd(&user(0), image), image, "root is the image's own");
        assert_eq!(passwd(&user(0), b""), b"root:x:0:0:root:/root:/bin/sh\n");
        assert_eq!(group(&user(1000), b"x:y:1000:\n"), b"x:y:1000:\nroot:x:0:\n");
        assert_eq!(group(&user(5), b""), b"root:x:0:\nann:x:5:\n");
    }

    #[test]
    fn it_is_made_once_and_found_again() {
        let base = tempfile::tempdir().expect("tempdir");
        assert!(find(base.path(), "k").is_none());
        let user = user(1000);
        let over = Over { key: "k", user: &user, seed: "m", passwd: b"", group: b"", note: b"note" };
        let folder = make(base.path(), &over).expect("made");
        assert_eq!(make(base.path(), &over).expect("again"), folder);
        assert_eq!(find(base.path(), "k"), Some((folder.clone(), b"note".to_vec())));
        for name in ["dev/null", "dev/pts", "proc", "home/ann", "projects", "etc/resolv.conf"] {
            assert!(folder.join(name).exists(), "{name}");
        }
        let resolv = fs::read_to_string(folder.join("etc/resolv.conf")).expect("resolv.conf");
        assert!(resolv.contains("nameserver"), "names are asked of the gateway: {resolv}");
        let bad = SkeletonUser { home: "/../x".into(), ..user.clone() };
        assert!(make(base.path(), &Over { key: "l", user: &bad, ..over }).is_err());
    }
}
