//! OCI layouts: a folder, or the files of an archive. Owns the way from index.json to one manifest for this machine.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::model::image::document::{DOCUMENT_MAX, INDEX_MAX};
use crate::model::image::{
    Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Platform, image_name,
};
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};
use crate::store::fail::cannot;

use super::super::blobs::{TempBlob, digest_of};
use super::super::ingest::Ingest;
use super::super::names::Entry;
use super::archive::Archive;
use super::{ImportOptions, file_name, name_of};

/// An index in an index in an index is where it ends.
const NESTED_MAX: usize = 3;

/// Where documents and blobs come from.
pub(in crate::image) trait Source {
    /// A document that is not named by its digest.
    fn named(&mut self, name: &str) -> Result<Vec<u8>, Failure>;
    /// A small blob; its digest is checked by the caller.
    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure>;
    /// A blob; its digest is checked by the caller.
    fn blob(
        &mut self,
        ingest: &mut Ingest<'_>,
        descriptor: &Descriptor,
        each: &mut dyn FnMut(u64),
    ) -> Result<TempBlob, Failure>;
}

/// A layout in a folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn open(&self, name: &str) -> Result<File, Failure> {
        let path = self.path.join(name);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(&path).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                Failure::failed(format!("`{name}` is not there"))
            } else {
                cannot("open", &path, error)
            }
        })?;
        let plain = file.metadata().is_ok_and(|found| found.is_file());
        if plain { Ok(file) } else { Err(Failure::failed(format!("`{name}` is no file"))) }
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.take(DOCUMENT_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| cannot("read", &self.path.join(name), error))?;
        if bytes.len() as u64 > DOCUMENT_MAX {
            return Err(Failure::failed(format!("`{name}` is longer than {DOCUMENT_MAX} bytes")));
        }
        Ok(bytes)
    }
}

fn name(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

impl Source for Folder {
    fn named(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        self.small(name)
    }

    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        self.small(&name(descriptor))
    }

    fn blob(
        &mut self,
        ingest: &mut Ingest<'_>,
        descriptor: &Descriptor,
        each: &mut dyn FnMut(u64),
    ) -> Result<TempBlob, Failure> {
        // A byte more than promised is enough to see that it is more.
        ingest.blob(&mut self.open(&name(descriptor))?.take(descriptor.size.saturating_add(1)), each)
    }
}

impl Source for Archive {
    fn named(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        self.read(name)
    }

    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        self.read(&name(descriptor))
    }

    fn blob(
        &mut self,
        _ingest: &mut Ingest<'_>,
        descriptor: &Descriptor,
        _each: &mut dyn FnMut(u64),
    ) -> Result<TempBlob, Failure> {
        match self.take(&name(descriptor)) {
            Some(blob) => Ok(blob),
            None => Err(Failure::failed(format!("`{}` is not in the archive", name(descriptor)))),
        }
    }
}

pub(super) fn import(
    ingest: &mut Ingest<'_>,
    source: &mut dyn Source,
    options: &ImportOptions,
    path: &Path,
    each: &mut dyn FnMut(u64),
) -> Result<Vec<Entry>, Failure> {
    let index = Index::parse(&source.named("index.json")?)
        .map_err(|error| Failure::failed("its index.json is refused").because(&error))?;
    let chosen = choose(&index, options)?;
    let label = format!("imported from {}", file_name(path));
    let mut entries = Vec::new();
    for descriptor in chosen {
        let own = descriptor.ref_name().and_then(|name| image_name(name).ok());
        // `latest` says nothing: the file's name says more.
        let own = own.filter(|name| name != "latest").or_else(|| name_of(path));
        let given = options.name.clone().or(own);
        let (manifest, bytes) = manifest(source, &descriptor, &options.machine, 0)?;
        let entry = take(ingest, source, &manifest, &bytes, given.as_deref(), &label, each)?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Which entries of a layout's index are meant.
fn choose(index: &Index, options: &ImportOptions) -> Result<Vec<Descriptor>, Failure> {
    let all = &index.manifests;
    if all.len() > INDEX_MAX {
        return Err(Failure::failed(format!("its index.json has {} entries", all.len())));
    }
    let tags =
        || all.iter().filter_map(Descriptor::ref_name).take(20).map(printable).collect::<Vec<_>>().join(", ");
    if let Some(tag) = &options.tag {
        return match all.iter().find(|entry| entry.ref_name() == Some(tag)) {
            Some(found) => Ok(vec![found.clone()]),
            None => {
                let failure =
                    Failure::new(FailureKind::Missing, format!("it has no image `{}`", printable(tag)));
                Err(failure.hint(format!("it has: {}", tags())))
            }
        };
    }
    let named: Vec<Descriptor> = all.iter().filter(|entry| entry.ref_name().is_some()).cloned().collect();
    match (named.len(), all.len()) {
        (_, 0) => Err(Failure::failed("its index.json is empty")),
        (_, 1) => Ok(all.clone()),
        // One image for several machines, written flat.
        (0, _) => Ok(vec![for_machine(all, &options.machine)?]),
        (1, _) => Ok(named),
        (several, _) if options.name.is_some() => {
            Err(Failure::usage(format!("it holds {several} images, and one name was given"))
                .hint(format!("`--tag TAG` chooses one: {}", tags())))
        }
        _ => Ok(named),
    }
}

fn for_machine(entries: &[Descriptor], machine: &str) -> Result<Descriptor, Failure> {
    let fits =
        |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|platform| platform.runs_on(machine));
    entries.iter().find(fits).cloned().ok_or_else(|| {
        let shown = |platform: &Platform| printable(&format!("{}/{}", platform.os, platform.architecture));
        let has: Vec<String> =
            entries.iter().filter_map(|entry| entry.platform.as_ref()).take(20).map(shown).collect();
        Failure::new(FailureKind::Unsupported, format!("there is no image for this machine ({machine})"))
            .hint(format!("there is: {}", has.join(", ")))
    })
}

/// The manifest behind a descriptor: itself, or the one for this machine in an index.
pub(in crate::image) fn manifest(
    source: &mut dyn Source,
    descriptor: &Descriptor,
    machine: &str,
    depth: usize,
) -> Result<(Manifest, Vec<u8>), Failure> {
    let bytes = source.document(descriptor)?;
    let found = digest_of(&bytes);
    if found != descriptor.digest || bytes.len() as u64 != descriptor.size {
        return Err(Failure::failed(format!(
            "the document {} is not what its name says: {found}, {} bytes",
            descriptor.digest,
            bytes.len()
        )));
    }
    let refused = |error: &dyn std::error::Error| {
        Failure::failed(format!("the document {} is refused", descriptor.digest)).because(error)
    };
    match MediaType::parse(&descriptor.media_type) {
        Some(MediaType::Manifest) => Ok((Manifest::parse(&bytes).map_err(|error| refused(&error))?, bytes)),
        Some(MediaType::Index) => {
            if depth >= NESTED_MAX {
                return Err(Failure::failed(format!(
                    "the index {} lies too deep in others",
                    descriptor.digest
                )));
            }
            let index = Index::parse(&bytes).map_err(|error| refused(&error))?;
            if index.manifests.len() > INDEX_MAX {
                return Err(Failure::failed(format!("the index {} is too long", descriptor.digest)));
            }
            let next = match index.manifests.as_slice() {
                [only] if only.platform.is_none() => only.clone(),
                all => for_machine(all, machine)?,
            };
            manifest(source, &next, machine, depth + 1)
        }
        _ => {
            let found: String = descriptor.media_type.chars().take(80).collect();
            Err(Failure::failed(format!(
                "the media type of {} is unknown: `{}`",
                descriptor.digest,
                printable(&found)
            )))
        }
    }
}

/// The config of a manifest, as it is and as it is understood, with layers that fit it.
///
/// # Errors
/// It is missing, another, or refused.
pub(in crate::image) fn config(
    source: &mut dyn Source,
    manifest: &Manifest,
) -> Result<(Vec<u8>, ImageConfig), Failure> {
    let bytes = source.document(&manifest.config)?;
    if digest_of(&bytes) != manifest.config.digest {
        return Err(Failure::failed(format!(
            "the config is not what its name says: {}",
            manifest.config.digest
        )));
    }
    let parsed = ImageConfig::parse(&bytes)
        .map_err(|error| Failure::failed("its config is refused").because(&error))?;
    super::super::layers::check_layers(manifest, &parsed)
        .map_err(|why| Failure::failed(format!("it {why}")))?;
    Ok((bytes, parsed))
}

/// A layer came that is not the one that was asked for.
pub(in crate::image) fn another_layer(asked: &Descriptor, digest: Digest, size: u64) -> Failure {
    Failure::failed(format!(
        "the layer {} is not what its name says: {digest}, {size} bytes of {}",
        asked.digest, asked.size
    ))
}

/// Takes one image over, layer by layer; its documents stay as they are.
pub(in crate::image) fn take(
    ingest: &mut Ingest<'_>,
    source: &mut dyn Source,
    manifest: &Manifest,
    bytes: &[u8],
    given: Option<&str>,
    label: &str,
    each: &mut dyn FnMut(u64),
) -> Result<Entry, Failure> {
    let (config, parsed) = config(source, manifest)?;
    for (layer, diff_id) in manifest.layers.iter().zip(&parsed.diff_ids) {
        if ingest.store().has_blob(&layer.digest, layer.size) {
            ingest.stored(layer, *diff_id)?;
            continue;
        }
        let blob = source.blob(ingest, layer, each)?;
        if blob.digest != layer.digest || blob.size != layer.size {
            return Err(another_layer(layer, blob.digest, blob.size));
        }
        let compression = layer.compression().map_err(|error| Failure::failed(error.to_string()))?;
        ingest.layer(blob, compression, Some(*diff_id))?;
    }
    ingest.document(&config)?;
    ingest.manifest(bytes, given, label)
}
