//! Import: a folder, a tar of a root, an OCI layout or archive, a docker-save archive. Owns finding out which it is.

mod archive;
mod docker;
pub(super) mod oci;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::image::{Compression, HistoryEntry, ImageConfig, Platform, document};
use crate::model::{EnvVar, Failure, FailureKind};
use crate::store::fail::{cannot, shown};

use super::blobs::TempBlob;
use super::ingest::Ingest;
use super::names::Entry;
use super::pack::{IdRule, PackOptions};
use super::store::{Ownership, Store};

use archive::Archive;

/// The search path of an image that does not say: what a Debian login has.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The name; `None`: the source's own, else its file name.
    pub name: Option<String>,
    /// Which image of an archive that has several.
    pub tag: Option<String>,
    /// How a layer that is made here is packed; `None`: not.
    pub compression: Option<Compression>,
    /// What uname(2) says of this machine.
    pub machine: String,
    /// Now, as RFC 3339.
    pub now: String,
}

/// Imports what lies at `path`. Hears of bytes by `each`.
///
/// # Errors
/// It cannot be read, is refused, or is of no known kind.
pub fn import(
    store: &Store,
    path: &Path,
    options: &ImportOptions,
    each: &mut dyn FnMut(u64),
) -> Result<Vec<Entry>, Failure> {
    let about = |failure: Failure| Failure {
        message: format!("cannot import {}: {}", shown(path), failure.message),
        ..failure
    };
    let found = std::fs::metadata(path).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            FailureKind::Missing
        } else {
            FailureKind::Failed
        };
        Failure::new(kind, format!("cannot import {}", shown(path))).because(&error)
    })?;
    let mut ingest = store.begin()?;
    if !found.is_dir() {
        let file = File::open(path).map_err(|error| cannot("open", path, error))?;
        return stream(&mut ingest, file, path, options, each).map_err(about);
    }
    let is_layout = path.join("oci-layout").is_file() && path.join("index.json").is_file();
    if is_layout {
        let mut source = oci::Folder::new(path);
        return oci::import(&mut ingest, &mut source, options, path, each).map_err(about);
    }
    folder(&mut ingest, path, options, each).map(|entry| vec![entry]).map_err(about)
}

/// Imports what comes down a pipe.
///
/// # Errors
/// As [`import`].
pub fn import_stream(
    store: &Store,
    reader: &mut dyn Read,
    options: &ImportOptions,
    each: &mut dyn FnMut(u64),
) -> Result<Vec<Entry>, Failure> {
    let mut ingest = store.begin()?;
    let (path, mut file) = ingest.file()?;
    super::blobs::copy(reader, &mut file, each).map_err(|error| cannot("write", &path, error))?;
    file.rewind().map_err(|error| cannot("read", &path, error))?;
    stream(&mut ingest, file, Path::new("standard input"), options, &mut |_| {}).map_err(|failure| Failure {
        message: format!("cannot import standard input: {}", failure.message),
        ..failure
    })
}

fn stream(
    ingest: &mut Ingest<'_>,
    mut file: File,
    path: &Path,
    options: &ImportOptions,
    each: &mut dyn FnMut(u64),
) -> Result<Vec<Entry>, Failure> {
    let compression = sniff(&mut file)?;
    match Archive::open(ingest, &mut file, compression, each)? {
        Some(mut archive) if archive.has("index.json") => {
            oci::import(ingest, &mut archive, options, path, each)
        }
        Some(mut archive) if archive.has("manifest.json") => {
            docker::import(ingest, &mut archive, options, path)
        }
        Some(_) => Err(Failure::failed(
            "it begins like an image archive, but has neither index.json nor manifest.json",
        )),
        None => {
            file.rewind().map_err(|error| cannot("read", path, error))?;
            let blob = ingest.blob(&mut file, each)?;
            root(ingest, blob, compression, options, path).map(|entry| vec![entry])
        }
    }
}

/// How a file is compressed, by its first bytes.
pub(super) fn sniff(file: &mut File) -> Result<Compression, Failure> {
    let mut start = [0; 6];
    let mut count = 0;
    let read = |error: std::io::Error| Failure::failed("it cannot be read").because(&error);
    while count < start.len() {
        match file.read(&mut start[count..]).map_err(read)? {
            0 => break,
            more => count += more,
        }
    }
    file.rewind().map_err(read)?;
    let unsupported = |what: &str, tool: &str| {
        Err(Failure::new(FailureKind::Unsupported, format!("{what} is not read"))
            .hint(format!("`{tool} -dc FILE | tripmine image import - NAME`")))
    };
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => unsupported("xz", "xz"),
        [b'B', b'Z', b'h', ..] => unsupported("bzip2", "bzip2"),
        _ if count == 0 => Err(Failure::failed("it is empty")),
        _ => Ok(Compression::None),
    }
}

fn folder(
    ingest: &mut Ingest<'_>,
    path: &Path,
    options: &ImportOptions,
    each: &mut dyn FnMut(u64),
) -> Result<Entry, Failure> {
    let top = File::open(path).map_err(|error| cannot("open", path, error))?;
    let owner = top.metadata().map_err(|error| cannot("read", path, error))?.uid();
    let own = rustix::process::geteuid().as_raw();
    let one = IdRule::One { uid: own, gid: rustix::process::getegid().as_raw() };
    let ids = match ingest.store().ownership() {
        Ownership::Root => IdRule::AsSeen,
        // A folder that host's root made: none of its ids is mapped.
        Ownership::Mapped { uid_map, .. }
            if uid_map.iter().any(|map| owner >= map.outside && owner - map.outside < map.count) =>
        {
            IdRule::AsSeen
        }
        Ownership::Mapped { .. } | Ownership::One => one,
    };
    let pack = PackOptions {
        ids,
        exclude: Vec::new(),
        // What a running system shows there is the kernel's.
        empty: vec!["proc".to_owned(), "sys".to_owned()],
        upper: false,
    };
    let (blob, _) = ingest.pack(top.as_fd(), &pack, each)?;
    root(ingest, blob, Compression::None, options, path)
}

/// An image of one layer.
fn root(
    ingest: &mut Ingest<'_>,
    blob: TempBlob,
    found: Compression,
    options: &ImportOptions,
    path: &Path,
) -> Result<Entry, Failure> {
    let (blob, compression) = match options.compression {
        Some(wanted) if found == Compression::None && wanted != found => {
            (ingest.compress(&blob, wanted)?, wanted)
        }
        _ => (blob, found),
    };
    let layer = ingest.layer(blob, compression, None)?;
    let variable = |key, value| EnvVar::new(key, value).map_err(|error| Failure::failed(error.to_string()));
    let name = file_name(path);
    let config = ImageConfig {
        platform: Platform {
            architecture: document::architecture(&options.machine).to_owned(),
            os: "linux".to_owned(),
            variant: None,
        },
        created: Some(options.now.clone()),
        env: vec![variable("PATH", PATH)?],
        cmd: vec!["/bin/sh".to_owned()],
        history: vec![HistoryEntry {
            created: Some(options.now.clone()),
            created_by: Some(format!("tripmine image import {name}")),
            ..HistoryEntry::default()
        }],
        ..ImageConfig::default()
    };
    let given = options.name.clone().or_else(|| name_of(path));
    ingest.image(&config, &[layer], given.as_deref(), &BTreeMap::new(), &format!("imported from {name}"))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| shown(path), |name| shown(Path::new(name)))
}

/// A name for what lies in a file: `debian.tar.gz` is `debian`. `None` when it is no name.
fn name_of(path: &Path) -> Option<String> {
    let mut name = path.file_name()?.to_str()?;
    for ending in [".gz", ".zst", ".tgz", ".tar", ".oci"] {
        name = name.strip_suffix(ending).unwrap_or(name);
    }
    crate::model::image::image_name(name).ok()
}
