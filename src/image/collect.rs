//! Collecting: deletes what no image, running cube or kept cube needs. Decided by `plan::collect`; here it is looked up
//! and carried out, alone, while nobody adds.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use serde::Serialize;

use crate::model::Failure;
use crate::model::image::{Descriptor, Digest, ImageConfig, Manifest};
use crate::plan::collect::{Doomed, Found, Parts, collect};
use crate::store::fail::cannot;
use crate::store::usage::usage;

use super::store::Store;

/// What was, or would be, deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Collected {
    /// Blobs.
    pub blobs: usize,
    /// Unpacked layers.
    pub layers: usize,
    /// Bytes of both.
    pub bytes: u64,
}

impl Store {
    /// What an image is made of.
    ///
    /// # Errors
    /// Its manifest or config cannot be read: what it needs is not known then.
    pub fn parts(&self, manifest: &Descriptor) -> Result<Parts, Failure> {
        let bytes = self.read_document(manifest)?;
        let wrong = |error: &dyn std::error::Error| {
            Failure::failed(format!("the manifest {} cannot be used", manifest.digest)).because(error)
        };
        let read = Manifest::parse(&bytes).map_err(|error| wrong(&error))?;
        let config = ImageConfig::parse(&self.read_document(&read.config)?).map_err(|error| wrong(&error))?;
        let mut parts = blobs_of(manifest, &read);
        parts.layers = config.diff_ids.into_iter().collect();
        Ok(parts)
    }

    /// As [`Store::parts`], without the unpacked layers: a file less to read for each image of a list.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub fn blobs(&self, manifest: &Descriptor) -> Result<Parts, Failure> {
        let read = Manifest::parse(&self.read_document(manifest)?)
            .map_err(|error| Failure::failed("the manifest cannot be used").because(&error))?;
        Ok(blobs_of(manifest, &read))
    }

    /// Deletes what nothing needs; `used` are images of kept cubes, `dry` only looks.
    ///
    /// # Errors
    /// Something that is needed cannot be read, so that nothing may be deleted; or a deletion failed.
    pub fn collect(&self, used: &[Digest], dry: bool) -> Result<Collected, Failure> {
        if !self.images_dir().is_dir() {
            return Ok(Collected::default());
        }
        let _alone = self.collecting()?;
        self.clear_remains();
        let doomed = self.doomed(used)?;
        let collected =
            Collected { blobs: doomed.blobs.len(), layers: doomed.layers.len(), bytes: doomed.bytes() };
        if dry {
            return Ok(collected);
        }
        for digest in doomed.blobs.keys() {
            let path = self.blob_path(digest);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(cannot("remove", &path, error));
                }
                _ => {}
            }
        }
        for digest in doomed.layers.keys() {
            self.put_aside(digest)?;
        }
        // Nobody pulls now: beginnings of layers that were given up go.
        for entry in std::fs::read_dir(self.partial_dir()).into_iter().flatten().flatten() {
            std::fs::remove_file(entry.path()).map_err(|error| cannot("remove", &entry.path(), error))?;
        }
        self.clear_remains();
        Ok(collected)
    }

    /// Takes back what was put in place for an image that did not come to be, unless somebody needs it by now.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub(super) fn take_back(&self, blobs: &[Digest], layers: &[Digest]) -> Result<(), Failure> {
        // Somebody adds: they may count on what they saw.
        let Some(_alone) = self.collecting_now()? else { return Ok(()) };
        let doomed = self.doomed(&[])?;
        for digest in blobs.iter().filter(|digest| doomed.blobs.contains_key(digest)) {
            let path = self.blob_path(digest);
            std::fs::remove_file(&path).map_err(|error| cannot("remove", &path, error))?;
        }
        for digest in layers.iter().filter(|digest| doomed.layers.contains_key(digest)) {
            self.put_aside(digest)?;
        }
        self.clear_remains();
        Ok(())
    }

    fn doomed(&self, used: &[Digest]) -> Result<Doomed, Failure> {
        let mut kept: BTreeMap<Digest, Parts> = BTreeMap::new();
        for entry in self.entries()? {
            let digest = entry.descriptor.digest;
            if let std::collections::btree_map::Entry::Vacant(slot) = kept.entry(digest) {
                slot.insert(
                    self.parts(&entry.descriptor).map_err(|failure| unsure(&entry.reference(), failure))?,
                );
            }
        }
        for digest in self.held()?.iter().chain(used) {
            if kept.contains_key(digest) {
                continue;
            }
            let Ok(found) = std::fs::symlink_metadata(self.blob_path(digest)) else { continue };
            let manifest =
                Descriptor::new(crate::model::image::document::media::MANIFEST, *digest, found.len());
            kept.insert(
                *digest,
                self.parts(&manifest).map_err(|failure| unsure(&digest.to_string(), failure))?,
            );
        }
        Ok(collect(&self.found()?, kept.values()))
    }

    fn found(&self) -> Result<Found, Failure> {
        let mut found = Found::default();
        let folder = self.blobs_dir();
        for entry in std::fs::read_dir(&folder).map_err(|error| cannot("read", &folder, error))? {
            let entry = entry.map_err(|error| cannot("read", &folder, error))?;
            if let Some(digest) = entry.file_name().to_str().and_then(Digest::from_hex)
                && let Ok(metadata) = entry.metadata()
            {
                found.blobs.insert(digest, metadata.len());
            }
        }
        let folder = self.layout.layers_dir();
        for entry in std::fs::read_dir(&folder).map_err(|error| cannot("read", &folder, error))? {
            let entry = entry.map_err(|error| cannot("read", &folder, error))?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(|name| name.strip_prefix("sha256-")) else { continue };
            let digest = digest.strip_suffix(".one").unwrap_or(digest);
            let Some(digest) = Digest::from_hex(digest) else { continue };
            // Of the other kind of ownership: another user's, or from before `newuidmap` was there. It goes with this one.
            if self.layer_dir(&digest) == entry.path() {
                let size = match self.layer_record(&digest) {
                    Some(record) => record.bytes,
                    None => usage(&entry.path()).bytes,
                };
                found.layers.insert(digest, size);
            }
        }
        Ok(found)
    }
}

fn blobs_of(manifest: &Descriptor, read: &Manifest) -> Parts {
    let all = std::iter::once(manifest).chain(std::iter::once(&read.config)).chain(&read.layers);
    Parts { blobs: all.map(|blob| (blob.digest, blob.size)).collect(), ..Parts::default() }
}

fn unsure(reference: &str, failure: Failure) -> Failure {
    let mut failure = super::layers::about(reference, failure);
    failure.message = format!("nothing of the images is deleted, because {}", failure.message);
    failure.hint(format!("`tripmine image rm {reference}` gives the image up"))
}
