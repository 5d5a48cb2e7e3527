//! What goes into a skeleton, and the hash that names it.
//!
//! Must stay cheap, it runs at every launch: it looks at the change times of the top-level files
//! that are allowed by name and of a few known folders beneath, and reads nothing, not even `/etc`
//! itself. What it does not look at (a file deeper down that is edited in place, a new `python3.9`)
//! is noticed with the next change that it does; packages mostly bring one (`alternatives`,
//! `ld.so.cache`).

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;

use super::SkeletonUser;
use crate::store::cubes::{names, open_dir};

/// Changed whenever the contents made here change.
const FORMAT: u32 = 2;

/// Names in the host's `/etc` that are copied. A trailing `*` stands for any ending.
const ALLOWED: &[&str] = &[
    "alternatives",
    "apt",
    "bash.bashrc",
    "bashrc",
    "ca-certificates*",
    "crypto-policies",
    "debian_version",
    "default",
    "dpkg",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "issue",
    "java-*",
    "ld-musl-*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.*",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "manpath.config",
    "mime.types",
    "nanorc",
    "os-release",
    "perl",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "python3*",
    "rpc",
    "services",
    "skel",
    "ssl",
    "terminfo",
    "timezone",
    "vim",
    "xdg",
];

/// Looked at besides the top level, because they change on their own.
const DEEPER: &[&str] = &[
    "apt/apt.conf.d",
    "apt/sources.list.d",
    "default/locale",
    "fonts/conf.d",
    "pki/ca-trust/extracted/pem",
    "pki/tls/certs",
    "ssl/certs",
    "ssl/certs/ca-certificates.crt",
    "ssl/openssl.cnf",
];

/// Names at the root that are links on a merged host, and folders on others.
const SYSTEM: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"];
/// Package stores that programs point into.
const STORES: &[&str] = &["nix/store", "gnu/store"];

/// What a skeleton is made of.
#[derive(Debug)]
pub(super) struct Facts {
    /// Names it.
    pub(super) hash: String,
    /// Links at the root and where they lead.
    pub(super) links: Vec<(&'static str, PathBuf)>,
    /// Absolute paths of the host's system folders.
    pub(super) trees: Vec<PathBuf>,
}

/// Looks at the host.
pub(super) fn gather(root: &Path, user: &SkeletonUser, seed: &str) -> Facts {
    let mut seen: Vec<u8> = Vec::with_capacity(4096);
    let mut add = |bytes: &[u8]| {
        seen.extend_from_slice(&bytes.len().to_le_bytes());
        seen.extend_from_slice(bytes);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(super::made::resolv_conf().as_bytes());
    for text in [&user.name, &user.home, &user.shell, seed] {
        add(text.as_bytes());
    }
    for number in [FORMAT, user.uid, user.gid] {
        add(&number.to_le_bytes());
    }
    if let Ok(folder) = open_dir(CWD, root.join("etc")) {
        let top = ALLOWED.iter().filter(|pattern| !pattern.ends_with('*'));
        for name in top.chain(DEEPER) {
            let Ok(stat) = statat(&folder, *name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            add(name.as_bytes());
            // The change time moves with the contents, the name, the mode and the owner.
            let numbers = [stat.st_ino, stat.st_ctime.cast_unsigned(), stat.st_ctime_nsec];
            add(numbers.map(u64::to_le_bytes).as_flattened());
        }
    }
    let (links, trees) = system_of(root);
    for (name, target) in &links {
        add(name.as_bytes());
        add(target.as_os_str().as_bytes());
    }
    for tree in &trees {
        add(tree.as_os_str().as_bytes());
    }
    Facts { hash: name_of(&seen), links, trees }
}

/// 128 bits in hexadecimal. Nobody else chooses what goes in, so nothing stronger is needed; to begin with SHA-256 costs a launch
/// more than all the looking, where asking the processor for its abilities leaves a virtual machine.
fn name_of(seen: &[u8]) -> String {
    let half = |which: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(which);
        hasher.write(seen);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

/// The names in `/etc` that are copied.
pub(super) fn allowed_in(root: &Path) -> rustix::io::Result<Vec<String>> {
    let mut etc = match open_dir(CWD, root.join("etc")) {
        Ok(folder) => names(&folder)?,
        Err(Errno::NOENT) => Vec::new(),
        Err(error) => return Err(error),
    };
    etc.retain(|name| is_allowed(name));
    Ok(etc)
}

/// True when a name in `/etc` is copied.
pub(super) fn is_allowed(name: &str) -> bool {
    ALLOWED.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    })
}

/// The links among the system names at the root, and the system folders as absolute paths.
fn system_of(root: &Path) -> (Vec<(&'static str, PathBuf)>, Vec<PathBuf>) {
    let (mut links, mut trees) = (Vec::new(), vec![PathBuf::from("/usr")]);
    let is_folder = |name: &str| fs::symlink_metadata(root.join(name)).is_ok_and(|meta| meta.is_dir());
    for name in SYSTEM {
        match fs::read_link(root.join(name)) {
            Ok(target) => links.push((*name, target)),
            // There, but no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && is_folder(name) => {
                trees.push(Path::new("/").join(name));
            }
            Err(_) => {}
        }
    }
    trees.extend(STORES.iter().filter(|name| is_folder(name)).map(|name| Path::new("/").join(name)));
    (links, trees)
}

/// System folders, as absolute paths of the host.
pub(super) fn system_trees_of(root: &Path) -> Vec<PathBuf> {
    system_of(root).1
}
