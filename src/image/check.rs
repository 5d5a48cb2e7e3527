//! `image check`: is every blob what its name says, and everything there that an image needs? A damaged blob is put aside,
//! where nothing reads it, and every image that needs it is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use serde::Serialize;

use crate::model::Failure;
use crate::model::image::{Digest, ImageConfig, Manifest};
use crate::store::fail::cannot;

use super::blobs::digest_of_file;
use super::store::Store;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Checked {
    /// Of the format.
    pub version: u32,
    /// Blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that are not what their name says; they are in quarantine now.
    pub damaged: Vec<Digest>,
    /// Images that cannot be used, and why.
    pub images: BTreeMap<String, String>,
}

impl Store {
    /// Reads every blob; `each` hears of the bytes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn check(&self, each: &mut dyn FnMut(u64)) -> Result<Checked, Failure> {
        let mut checked = Checked { version: 1, ..Checked::default() };
        if !self.images_dir().is_dir() {
            return Ok(checked);
        }
        let _adding = self.adding()?;
        self.clear_remains();
        let folder = self.blobs_dir();
        for entry in std::fs::read_dir(&folder).map_err(|error| cannot("read", &folder, error))? {
            let path = entry.map_err(|error| cannot("read", &folder, error))?.path();
            let Some(digest) = path.file_name().and_then(|name| name.to_str()).and_then(Digest::from_hex)
            else {
                continue;
            };
            let mut file = File::open(&path).map_err(|error| cannot("read", &path, error))?;
            let found = digest_of_file(&mut file);
            if let Ok((_, size)) = &found {
                checked.blobs += 1;
                checked.bytes += size;
                each(*size);
            }
            // What cannot be read is damaged, too.
            if !matches!(found, Ok((found, _)) if found == digest) {
                self.quarantine(&digest)?;
                checked.damaged.push(digest);
            }
        }
        checked.damaged.sort();
        let mut told: BTreeSet<Digest> = BTreeSet::new();
        for entry in self.entries()? {
            if let Err(why) = self.check_image(&entry.descriptor) {
                let first = told.insert(entry.descriptor.digest);
                checked.images.insert(entry.reference(), if first { why } else { "as above".to_owned() });
            }
        }
        Ok(checked)
    }

    fn check_image(&self, manifest: &crate::model::image::Descriptor) -> Result<(), String> {
        let text = |failure: Failure| failure.to_string();
        let read =
            Manifest::parse(&self.read_document(manifest).map_err(text)?).map_err(|e| e.to_string())?;
        let config = self.read_document(&read.config).map_err(text)?;
        let config = ImageConfig::parse(&config).map_err(|error| error.to_string())?;
        super::layers::check_layers(&read, &config)?;
        for layer in &read.layers {
            drop(self.open_blob(layer).map_err(text)?);
        }
        Ok(())
    }

    fn quarantine(&self, digest: &Digest) -> Result<(), Failure> {
        let folder = self.quarantine_dir();
        super::store::make(&folder)?;
        let (from, to) = (self.blob_path(digest), folder.join(digest.hex()));
        std::fs::rename(&from, &to).map_err(|error| cannot("put aside", &from, error))
    }
}
