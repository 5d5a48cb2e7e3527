//! What a reference stands for: manifest, config and unpacked layers. Owns unpacking again what is missing.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::image::{Descriptor, Digest, ImageConfig, Manifest};
use crate::model::{Failure, ImageRef};
use crate::store::atomic::write_atomic;
use crate::store::boot::boot_id;
use crate::store::fail::cannot;

use super::store::{Hold, Store};

/// A layer of an image that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its blob.
    pub descriptor: Descriptor,
    /// The digest of the tar in it.
    pub diff_id: Digest,
}

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDir {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// The folder that is a lower of an overlay.
    pub path: PathBuf,
}

/// What an image says of itself: its layers may be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// Its manifest.
    pub manifest: Manifest,
    /// How it is run.
    pub config: ImageConfig,
}

/// Who is told that a launch waits for layers to be unpacked: the image, and the bytes of their blobs.
pub type Telling = fn(&str, u64);
/// Less is unpacked in a moment, and nobody is told.
const WORTH_TELLING: u64 = 32 << 20;

/// An image, ready to be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// As people call it: `dev`, or a digest.
    pub reference: String,
    /// Its manifest's digest. What a record keeps.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    /// How it is run.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<LayerDir>,
}

/// `layer.json`: what is known of an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Always 1.
    pub version: u32,
    /// The digest of its tar.
    pub diff_id: Digest,
    /// True: files have their true owners.
    pub true_owners: bool,
    /// Members of the archive.
    pub entries: u64,
    /// Lengths of its files, in bytes.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub devices: u64,
    /// Extended attributes that were left out.
    pub attributes: u64,
    /// The boot in which it was unpacked, until it is old enough to be on disk for certain. A layer of another boot is
    /// unpacked again: waiting for thousands of files to be written out would make every import as slow as the disk.
    #[serde(default)]
    pub boot: Option<String>,
}

/// By then the kernel has written everything out (`vm.dirty_expire_centisecs` is 30 seconds).
const WRITTEN_OUT: Duration = Duration::from_secs(120);

impl Store {
    /// What a reference stands for.
    ///
    /// # Errors
    /// No such image, or a document of it is missing or damaged.
    pub fn read(&self, reference: &ImageRef) -> Result<Documents, Failure> {
        let entry = self.find(reference)?;
        let (manifest, config) = self.read_image(&entry.descriptor, &entry.reference())?;
        Ok(Documents { manifest, config })
    }

    /// What a reference stands for, with every layer unpacked, and held: nothing of it can be collected. `telling` hears
    /// when that takes its time.
    ///
    /// # Errors
    /// No such image, or a blob of it is missing, damaged or refused.
    pub fn resolve_held(
        &self,
        reference: &ImageRef,
        telling: Option<Telling>,
    ) -> Result<(ResolvedImage, Hold), Failure> {
        let entry = self.find(reference)?;
        let hold = self.hold(&entry.descriptor.digest)?;
        Ok((self.resolve_entry(&entry.descriptor, &entry.reference(), telling)?, hold))
    }

    /// By digest alone, for an image that may have lost its names: what a record of a kept cube has.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_digest(&self, digest: &Digest) -> Result<Documents, Failure> {
        let path = self.blob_path(digest);
        let size = match std::fs::symlink_metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(cannot("read", &path, error)),
        };
        let manifest = Descriptor::new(crate::model::image::document::media::MANIFEST, *digest, size);
        let (manifest, config) = self.read_image(&manifest, &digest.to_string())?;
        Ok(Documents { manifest, config })
    }

    fn resolve_entry(
        &self,
        descriptor: &Descriptor,
        reference: &str,
        telling: Option<Telling>,
    ) -> Result<ResolvedImage, Failure> {
        let (manifest, config) = self.read_image(descriptor, reference)?;
        let all = || manifest.layers.iter().zip(&config.diff_ids);
        let packed: Vec<_> = all().filter(|(_, diff_id)| !self.layer_ready(diff_id)).collect();
        let bytes = packed.iter().map(|(blob, _)| blob.size).fold(0, u64::saturating_add);
        if let Some(tell) = telling.filter(|_| bytes >= WORTH_TELLING) {
            tell(reference, bytes);
        }
        for (blob, diff_id) in packed {
            // The same layer twice in an image is unpacked once.
            if !self.layer_ready(diff_id) {
                self.begin()?.unpack_stored(blob, *diff_id).map_err(|failure| about(reference, failure))?;
            }
        }
        let layers =
            all().map(|(_, id)| LayerDir { diff_id: *id, path: self.layer_dir(id).join("root") }).collect();
        Ok(ResolvedImage {
            reference: reference.to_owned(),
            digest: descriptor.digest,
            manifest,
            config,
            layers,
        })
    }

    /// The documents of an image, checked against each other.
    ///
    /// # Errors
    /// One is missing, damaged, or says what cannot be.
    pub fn read_image(
        &self,
        descriptor: &Descriptor,
        reference: &str,
    ) -> Result<(Manifest, ImageConfig), Failure> {
        let wrong = |error: &dyn std::error::Error| {
            Failure::failed(format!("the image `{reference}` cannot be used")).because(error)
        };
        let manifest =
            Manifest::parse(&self.read_document(descriptor).map_err(|failure| about(reference, failure))?)
                .map_err(|error| wrong(&error))?;
        let config = self.read_document(&manifest.config).map_err(|failure| about(reference, failure))?;
        let config = ImageConfig::parse(&config).map_err(|error| wrong(&error))?;
        check_layers(&manifest, &config)
            .map_err(|why| Failure::failed(format!("the image `{reference}` {why}")))?;
        Ok((manifest, config))
    }

    /// True when a layer is unpacked and whole. One that may have lost files in a crash of the host is put aside.
    #[must_use]
    pub fn layer_ready(&self, diff_id: &Digest) -> bool {
        let folder = self.layer_dir(diff_id);
        let path = folder.join("layer.json");
        let Some(mut record) = self.layer_record(diff_id) else {
            // Without a good record it is nothing of ours.
            return folder.is_dir() && self.put_aside(diff_id).is_err();
        };
        match &record.boot {
            None => true,
            Some(boot) if boot == boot_id() => {
                let old = std::fs::metadata(&path)
                    .and_then(|found| found.modified())
                    .ok()
                    .and_then(|at| at.elapsed().ok())
                    .is_some_and(|age| age > WRITTEN_OUT);
                if old {
                    record.boot = None;
                    // Only tried again the next time.
                    drop(serde_json::to_vec(&record).map(|bytes| write_atomic(&path, &bytes, 0o644)));
                }
                true
            }
            Some(_) => self.put_aside(diff_id).is_err(),
        }
    }

    /// Takes an unpacked layer out of its name, so that a killed removal leaves no half that looks whole.
    pub(super) fn put_aside(&self, diff_id: &Digest) -> Result<(), Failure> {
        let (path, aside) =
            (self.layer_dir(diff_id), self.ingest_dir().join(format!("old-{}", diff_id.hex())));
        let mark = aside.with_extension("lock");
        std::fs::write(&mark, "").map_err(|error| cannot("write", &mark, error))?;
        std::fs::rename(&path, &aside).map_err(|error| cannot("remove", &path, error))
    }

    /// The record of an unpacked layer, if it is there.
    #[must_use]
    pub fn layer_record(&self, diff_id: &Digest) -> Option<LayerRecord> {
        let bytes = std::fs::read(self.layer_dir(diff_id).join("layer.json")).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|record: &LayerRecord| record.version == 1)
    }
}

/// Manifest and config must tell of the same layers.
pub(super) fn check_layers(manifest: &Manifest, config: &ImageConfig) -> Result<(), String> {
    let (blobs, diffs) = (manifest.layers.len(), config.diff_ids.len());
    if blobs == diffs {
        return Ok(());
    }
    Err(format!("is contradictory: its manifest has {blobs} layers, its config {diffs}"))
}

pub(super) fn about(reference: &str, mut failure: Failure) -> Failure {
    failure.message = format!("the image `{reference}` cannot be used: {}", failure.message);
    failure
}
