//! Copying the allowed part of the host's `/etc`.
//!
//! Refuses what is not world-readable, special files, what may hold a secret, and links that lead
//! anywhere but into the copy or a system folder.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use memchr::memmem;
use rustix::fs::OFlags;

use super::key::is_allowed;

/// A larger file is no setting.
const FILE_MAX: u64 = 32 << 20;
/// Deeper folders are not copied.
const DEPTH: usize = 12;

/// Paths under `/etc` that are not copied though their top is allowed.
const DENIED: &[&str] = &[
    "ssl/private",
    "apt/auth.conf",
    "apt/auth.conf.d",
    "apt/trusted.gpg",
    "apt/trusted.gpg.d",
    "apt/keyrings",
];
/// Of these tops only some entries are copied.
const ONLY: &[(&str, &[&str])] = &[
    ("default", &["locale"]),
    ("pki", &["tls", "ca-trust"]),
    ("ssl", &["certs", "openssl.cnf", "ct_log_list.cnf"]),
];

/// Copies the entries `names` of `root/etc` to `etc`.
pub(super) fn copy_etc(root: &Path, etc: &Path, names: &[String], trees: &[PathBuf]) -> io::Result<()> {
    let copier = Copier { root, etc, trees };
    for name in names {
        if name == "localtime" {
            copier.copy_resolved(Path::new(name))?;
        } else {
            copier.copy(Path::new(name), 0)?;
        }
    }
    Ok(())
}

struct Copier<'a> {
    /// The host's root.
    root: &'a Path,
    /// Where the copy goes.
    etc: &'a Path,
    trees: &'a [PathBuf],
}

impl Copier<'_> {
    /// Copies one entry, named relative to `/etc`. What may not be copied is left out silently:
    /// it is as if the host had no such file.
    fn copy(&self, name: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH || is_denied(name) {
            return Ok(());
        }
        let source = self.root.join("etc").join(name);
        // Gone, or not ours to see, since the folder was read.
        let Ok(meta) = fs::symlink_metadata(&source) else { return Ok(()) };
        if meta.is_symlink() {
            self.copy_link(name, &source)
        } else if meta.is_dir() {
            self.copy_folder(name, &source, meta.mode(), depth)
        } else if meta.is_file() {
            self.copy_file(name, &source)
        } else {
            Ok(())
        }
    }

    fn copy_folder(&self, name: &Path, source: &Path, mode: u32, depth: usize) -> io::Result<()> {
        if mode & 0o005 != 0o005 {
            return Ok(());
        }
        let Ok(entries) = fs::read_dir(source) else { return Ok(()) };
        let target = self.etc.join(name);
        fs::create_dir(&target)?;
        fs::set_permissions(&target, Permissions::from_mode(0o755))?;
        for entry in entries.flatten() {
            self.copy(&name.join(entry.file_name()), depth + 1)?;
        }
        Ok(())
    }

    fn copy_link(&self, name: &Path, source: &Path) -> io::Result<()> {
        let Ok(target) = fs::read_link(source) else { return Ok(()) };
        let inside = Path::new("/etc").join(name);
        let lexical = normalize(&inside.parent().unwrap_or(Path::new("/etc")).join(&target));
        if self.leads_inside(&lexical) {
            return symlink(target, self.etc.join(name));
        }
        // A chain through a place that is not copied (as /etc/static on NixOS), with a good end.
        match self.resolve(source) {
            Some(end) if self.leads_inside(&end) => symlink(end, self.etc.join(name)),
            _ => Ok(()),
        }
    }

    /// Where a link ends, as a path of the host.
    fn resolve(&self, source: &Path) -> Option<PathBuf> {
        let end = fs::canonicalize(source).ok()?;
        let root = fs::canonicalize(self.root).ok()?;
        Some(Path::new("/").join(end.strip_prefix(root).ok()?))
    }

    /// True when a path exists in the copy or in a system folder.
    fn leads_inside(&self, path: &Path) -> bool {
        if let Ok(beneath) = path.strip_prefix("/etc") {
            let top = beneath.components().next().and_then(|part| part.as_os_str().to_str());
            return top.is_some_and(is_allowed) && !is_denied(beneath);
        }
        let first = path.components().nth(1).map(|part| Path::new("/").join(part));
        // `/lib/x` is in `/usr` where `/lib` is a link.
        self.trees.iter().any(|tree| path.starts_with(tree))
            || first.is_some_and(|first| {
                let link = self.root.join(first.strip_prefix("/").unwrap_or(&first));
                self.resolve(&link)
                    .is_some_and(|end| end != first && self.trees.iter().any(|t| end.starts_with(t)))
            })
    }

    /// Copies the file at the end of a link, as a file.
    fn copy_resolved(&self, name: &Path) -> io::Result<()> {
        match fs::canonicalize(self.root.join("etc").join(name)) {
            Ok(source) => self.copy_file(name, &source),
            Err(_) => Ok(()),
        }
    }

    fn copy_file(&self, name: &Path, source: &Path) -> io::Result<()> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(source);
        let Ok(file) = opened else { return Ok(()) };
        // What was opened is what is judged.
        let meta = file.metadata()?;
        if !meta.is_file() || meta.mode() & 0o004 == 0 || meta.len() > FILE_MAX {
            return Ok(());
        }
        let mut bytes = Vec::new();
        (&file).take(FILE_MAX).read_to_end(&mut bytes)?;
        if holds_secret(&bytes) {
            return Ok(());
        }
        let target = self.etc.join(name);
        let mut copy = File::create(&target)?;
        copy.write_all(&bytes)?;
        let mode = if meta.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        copy.set_permissions(Permissions::from_mode(mode))
    }
}

fn is_denied(name: &Path) -> bool {
    // `auth.conf.d` and `auth.conf.save` as well; `private` and keys wherever they are.
    let text = name.to_string_lossy();
    let last = name.file_name().map(|last| last.to_string_lossy()).unwrap_or_default();
    if DENIED.iter().any(|denied| name.starts_with(denied)) || text.starts_with("apt/auth.conf") {
        return true;
    }
    if last == "private" || last.ends_with(".key") {
        return true;
    }
    ONLY.iter().any(|(top, allowed)| {
        name.strip_prefix(top)
            .is_ok_and(|rest| rest != Path::new("") && !allowed.iter().any(|entry| rest.starts_with(entry)))
    })
}

/// True for a private key, and for a URL with a password in it, as proxies and package sources have.
fn holds_secret(bytes: &[u8]) -> bool {
    if memmem::find(bytes, b"PRIVATE KEY-----").is_some() {
        return true;
    }
    let mut rest = bytes;
    while let Some(at) = memmem::find(rest, b"://") {
        rest = &rest[at + 3..];
        let end = rest
            .iter()
            .position(|b| b.is_ascii_whitespace() || b"/\"'?#<>".contains(b))
            .unwrap_or(rest.len());
        let authority = &rest[..end];
        if let Some(at) = authority.iter().rposition(|byte| *byte == b'@')
            && authority[..at].contains(&b':')
        {
            return true;
        }
    }
    false
}

/// Takes `.` and `..` out of an absolute path by its text alone.
fn normalize(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_recognised() {
        for (text, secret) in [
            ("http_proxy=http://me:pw@proxy:3128/", true),
            ("deb https://u:p@repo.example/x y", true),
            ("-----BEGIN RSA PRIVATE KEY-----", true),
            ("see http://example.org:80/a@b:c", false),
            ("mail me@example.org", false),
            ("ssh://git@host/path", false),
            ("://", false),
        ] {
            assert_eq!(holds_secret(text.as_bytes()), secret, "{text}");
        }
    }

    #[test]
    fn places_that_are_left_out() {
        for (name, denied) in [
            ("ssl", false),
            ("ssl/certs/a.pem", false),
            ("ssl/private/x", true),
            ("ssl/certs/private", true),
            ("ssl/strongswan", true),
            ("apt/auth.conf.d/x", true),
            ("apt/auth.conf.save", true),
            ("apt/sources.list", false),
            ("default/locale", false),
            ("default/grub", true),
            ("pki/entitlement/1.pem", true),
            ("fonts/fonts.conf", false),
        ] {
            assert_eq!(is_denied(Path::new(name)), denied, "{name}");
        }
    }
}
