//! What goes into a skeleton, and the hash that names it.
//!
//! Must stay cheap, it runs at every launch: it looks at the top-level files of the allow-list and
//! a few known folders beneath, by their times, and reads none. A file deeper down that is edited in
//! place (packages replace files, which changes the folder's time) is noticed late.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::SkeletonUser;

/// Changed whenever the contents made here change.
const FORMAT: u32 = 1;

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
    /// Names in `/etc` to copy, sorted.
    pub(super) etc: Vec<String>,
    /// Links at the root and where they lead.
    pub(super) links: Vec<(&'static str, PathBuf)>,
    /// Absolute paths of the host's system folders.
    pub(super) trees: Vec<PathBuf>,
}

/// Looks at the host.
pub(super) fn gather(root: &Path, user: &SkeletonUser, seed: &str) -> Facts {
    let etc_dir = root.join("etc");
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    add(&FORMAT.to_le_bytes());
    add(env!("CARGO_PKG_VERSION").as_bytes());
    for text in [&user.name, &user.home, &user.shell, seed] {
        add(text.as_bytes());
    }
    add(&user.uid.to_le_bytes());
    add(&user.gid.to_le_bytes());

    let mut etc: Vec<String> = fs::read_dir(&etc_dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_allowed(name))
        .collect();
    etc.sort();
    for name in etc.iter().map(String::as_str).chain(DEEPER.iter().copied()) {
        let Ok(meta) = fs::symlink_metadata(etc_dir.join(name)) else { continue };
        add(name.as_bytes());
        for number in [meta.ino(), meta.size(), u64::from(meta.mode())] {
            add(&number.to_le_bytes());
        }
        for time in [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()] {
            add(&time.to_le_bytes());
        }
    }
    let links = links_of(root);
    for (name, target) in &links {
        add(name.as_bytes());
        add(target.as_os_str().as_bytes());
    }
    let trees = system_trees_of(root);
    for tree in &trees {
        add(tree.as_os_str().as_bytes());
    }
    let mut name = String::with_capacity(32);
    for byte in hash.finalize().iter().take(16) {
        name.push_str(&format!("{byte:02x}"));
    }
    Facts { hash: name, etc, links, trees }
}

/// True when a name in `/etc` is copied.
pub(super) fn is_allowed(name: &str) -> bool {
    ALLOWED.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    })
}

/// System names at the root that are links.
fn links_of(root: &Path) -> Vec<(&'static str, PathBuf)> {
    SYSTEM.iter().filter_map(|name| Some((*name, fs::read_link(root.join(name)).ok()?))).collect()
}

/// System folders, as absolute paths of the host.
pub(super) fn system_trees_of(root: &Path) -> Vec<PathBuf> {
    let is_folder = |name: &&&str| fs::symlink_metadata(root.join(name)).is_ok_and(|meta| meta.is_dir());
    let mut trees = vec![PathBuf::from("/usr")];
    trees.extend(SYSTEM.iter().chain(STORES).filter(is_folder).map(|name| Path::new("/").join(name)));
    trees
}
