//! The files of an image archive: those with names that such archives have, each put aside with its digest. Everything
//! else in it is skipped; nothing is ever made under a name of the archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};

use crate::model::Failure;
use crate::model::image::Compression;
use crate::model::image::document::DOCUMENT_MAX;
use crate::store::fail::cannot;

use super::super::blobs::TempBlob;
use super::super::ingest::Ingest;
use super::super::tar::read::TarReader;
use super::super::tar::{Kind, shown};

/// No archive has more files than that many layers and documents need.
const FILES_MAX: usize = 20_000;
/// How many members may come before the first file.
const FOLDERS_MAX: usize = 100;

/// An image archive that was read to its end.
#[derive(Debug)]
pub(super) struct Archive {
    files: BTreeMap<String, TempBlob>,
    /// docker-save of old: a layer that is another's is a link to it.
    links: BTreeMap<String, String>,
}

impl Archive {
    /// Reads an archive; `None` when it is none of an image but of a root.
    pub(super) fn open(
        ingest: &mut Ingest<'_>,
        file: &mut File,
        compression: Compression,
        each: &mut dyn FnMut(u64),
    ) -> Result<Option<Self>, Failure> {
        let unread = |error: std::io::Error| Failure::failed("it cannot be read").because(&error);
        file.rewind().map_err(unread)?;
        let reader: Box<dyn Read + '_> = match compression {
            Compression::None => Box::new(&*file),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&*file)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(&*file).map_err(unread)?),
        };
        let mut tar = TarReader::new(std::io::BufReader::with_capacity(256 << 10, reader));
        let mut archive = Self { files: BTreeMap::new(), links: BTreeMap::new() };
        let (mut first, mut members, mut total) = (true, 0_usize, 0_u64);
        while let Some(member) = tar.next_member().map_err(|error| Failure::failed(error.to_string()))? {
            members += 1;
            let name = plain(&member.path);
            if first {
                // The first file decides: no root begins with one of these.
                match (&name, member.kind) {
                    (Some(name), Kind::File | Kind::Symlink) if of_image(name) => first = false,
                    (Some(name), Kind::Folder) if may_hold_image(name) && members < FOLDERS_MAX => continue,
                    _ => return Ok(None),
                }
            }
            total = total.saturating_add(member.size);
            if members > FILES_MAX || total > ingest.store().limits.bytes {
                return Err(Failure::failed(format!("it is too large, at `{}`", shown(&member.path))));
            }
            let Some(name) = name.filter(|name| of_image(name)) else { continue };
            match member.kind {
                Kind::File if member.pieces.is_none() => {
                    let blob = ingest.blob(&mut tar.contents(), each)?;
                    archive.files.insert(name, blob);
                }
                Kind::Symlink | Kind::HardLink => {
                    if let Some(target) = target(&name, &member.link, member.kind) {
                        archive.links.insert(name, target);
                    }
                }
                _ => {}
            }
        }
        if first { Ok(None) } else { Ok(Some(archive)) }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Where a name leads, one link at most.
    fn real<'a>(&'a self, name: &'a str) -> &'a str {
        self.links.get(name).map_or(name, String::as_str)
    }

    /// A small file, whole.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let blob = self.find(name)?;
        if blob.size > DOCUMENT_MAX {
            return Err(Failure::failed(format!("`{}` has {} bytes", shown(name.as_bytes()), blob.size)));
        }
        std::fs::read(&blob.path).map_err(|error| cannot("read", &blob.path, error))
    }

    /// A file, as a blob that may be used up.
    pub(super) fn find(&self, name: &str) -> Result<&TempBlob, Failure> {
        self.files
            .get(self.real(name))
            .ok_or_else(|| Failure::failed(format!("`{}` is not in the archive", shown(name.as_bytes()))))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<TempBlob> {
        let real = self.real(name).to_owned();
        self.files.remove(&real)
    }
}

/// A name without `./`, when it is plain text that stays inside.
fn plain(path: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(path).ok()?;
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let good = text.len() <= 300 && !parts.contains(&"..");
    good.then(|| parts.join("/"))
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Names of files in image archives of both kinds, old and new.
fn of_image(name: &str) -> bool {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["oci-layout" | "index.json" | "manifest.json" | "repositories"] => true,
        [file] => ["json", "tar", "tar.gz"]
            .iter()
            .any(|ending| file.strip_suffix(&format!(".{ending}")).is_some_and(is_hex)),
        ["blobs", "sha256", digest] => is_hex(digest),
        [folder, "layer.tar" | "json" | "VERSION"] => is_hex(folder),
        _ => false,
    }
}

fn may_hold_image(name: &str) -> bool {
    matches!(name, "" | "blobs" | "blobs/sha256") || is_hex(name)
}

/// Where a link in the archive leads, as a name of the archive.
fn target(name: &str, link: &[u8], kind: Kind) -> Option<String> {
    let link = std::str::from_utf8(link).ok()?;
    if kind == Kind::HardLink {
        return plain(link.as_bytes());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_and_of_roots() {
        let hex = "0a".repeat(32);
        for (name, is_it) in [
            ("oci-layout".to_owned(), true),
            (format!("blobs/sha256/{hex}"), true),
            (format!("{hex}/layer.tar"), true),
            (format!("{hex}.json"), true),
            (format!("{hex}.tar"), true),
            ("etc/passwd".to_owned(), false),
            ("blobs/sha256/../../x".to_owned(), false),
            ("blobs/sha512/00".to_owned(), false),
        ] {
            assert_eq!(plain(name.as_bytes()).is_some_and(|name| of_image(&name)), is_it, "{name}");
        }
        let layer = format!("{hex}/layer.tar");
        for (link, to) in
            [("../b/layer.tar", Some("b/layer.tar")), ("../../../etc/shadow", None), ("x", Some("x"))]
        {
            let found = target(&layer, link.as_bytes(), Kind::Symlink);
            let wanted = if link == "x" { Some(format!("{hex}/x")) } else { to.map(str::to_owned) };
            assert_eq!(found, wanted, "{link}");
        }
    }
}
