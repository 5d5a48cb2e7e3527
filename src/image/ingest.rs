//! `Ingest`: everything that adds to the store. Its files lie in a folder of their own until they are whole; then they are
//! renamed, blobs first, the name last. What a killed process left is cleared by the next ingest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::model::Failure;
use crate::model::image::document::media;
use crate::model::image::{Compression, Descriptor, Digest, ImageConfig, Manifest};
use crate::store::atomic::{sync_folder, write_atomic};
use crate::store::boot::boot_id;
use crate::store::fail::cannot;
use crate::store::lock::Lock;

use super::blobs::{Hashing, Steady, TempBlob, copy, damaged, digest_of_file};
use super::helper::{Packed, Request, Unpacked};
use super::layers::{Layer, LayerRecord, check_layers};
use super::names::Entry;
use super::pack::PackOptions;
use super::store::Store;

/// Work under way.
#[derive(Debug)]
pub struct Ingest<'a> {
    store: &'a Store,
    folder: PathBuf,
    next: u32,
    _lock: File,
    adding: Option<Lock>,
    /// What was put in place for an image that is not listed yet.
    placed: Placed,
}

/// Blobs and unpacked layers, by their digests.
#[derive(Debug, Default)]
struct Placed {
    blobs: Vec<Digest>,
    layers: Vec<Digest>,
}

impl Store {
    /// Begins to add, after clearing what dead processes left.
    ///
    /// # Errors
    /// The store's folders cannot be made.
    pub fn begin(&self) -> Result<Ingest<'_>, Failure> {
        self.ensure()?;
        let adding = self.adding()?;
        self.clear_remains();
        super::names::check_room(&self.index()?)?;
        let parent = self.ingest_dir();
        let name = format!("{}-{:x}", std::process::id(), super::names::now_ms());
        for number in 0..1000 {
            let folder = parent.join(format!("{name}-{number}"));
            let path = folder.with_extension("lock");
            let file = match File::options().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                other => other.map_err(|error| cannot("create", &path, error))?,
            };
            file.lock().map_err(|error| cannot("lock", &path, error))?;
            // Somebody may have cleared it in the moment before it was locked.
            if std::os::unix::fs::MetadataExt::nlink(
                &file.metadata().map_err(|error| cannot("read", &path, error))?,
            ) == 0
            {
                continue;
            }
            super::store::make(&folder)?;
            let placed = Placed::default();
            return Ok(Ingest { store: self, folder, next: 0, _lock: file, adding: Some(adding), placed });
        }
        Err(Failure::failed(format!("no free name in {}", parent.display())))
    }

    /// Removes what ingests left whose process is gone. Never fails: the next one tries again.
    pub fn clear_remains(&self) {
        let Ok(entries) = std::fs::read_dir(self.ingest_dir()) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "lock") {
                // A folder whose lock was removed first cannot be: the lock goes last.
                continue;
            }
            let Ok(file) = File::options().write(true).open(&path) else { continue };
            if file.try_lock().is_err() {
                continue;
            }
            let folder = path.with_extension("");
            if !folder.exists() || self.remove(&folder).is_ok() {
                // Tried again by the next one.
                drop(std::fs::remove_file(&path));
            }
        }
    }

    /// Removes a tree, whoever its files belong to (see [`crate::store::remove::finish_with`]).
    ///
    /// # Errors
    /// It cannot be removed whole.
    pub fn remove(&self, path: &Path) -> Result<(), Failure> {
        crate::store::remove::remove_tree(path).map_err(|error| cannot("remove", path, error))
    }
}

impl Drop for Ingest<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is cleared by the next ingest.
        if self.store.remove(&self.folder).is_ok() {
            drop(std::fs::remove_file(self.folder.with_extension("lock")));
        }
        let placed = std::mem::take(&mut self.placed);
        if !placed.blobs.is_empty() || !placed.layers.is_empty() {
            // Whoever collects must be alone, also without us. What cannot be cleared now goes with the next `prune`.
            drop(self.adding.take());
            drop(self.store.take_back(&placed.blobs, &placed.layers));
        }
    }
}

impl<'a> Ingest<'a> {
    /// The store that it adds to.
    #[must_use]
    pub const fn store(&self) -> &'a Store {
        self.store
    }

    /// A new path in the folder of this work.
    pub(super) fn temp(&mut self, what: &str) -> PathBuf {
        self.next += 1;
        self.folder.join(format!("{what}-{}", self.next))
    }

    /// What is in place stays, whatever becomes of the image: whoever tries again finds it.
    pub(super) fn stays(&mut self) {
        self.placed = Placed::default();
    }

    fn take_over(&mut self, blob: &TempBlob) -> Result<(), Failure> {
        let fresh = !self.store.has_blob(&blob.digest, blob.size);
        self.store.adopt(blob)?;
        if fresh {
            self.placed.blobs.push(blob.digest);
        }
        Ok(())
    }

    /// Writes a blob from a stream. `each` hears of every chunk's length.
    ///
    /// # Errors
    /// Reading or writing failed.
    pub fn blob(&mut self, reader: &mut dyn Read, each: &mut dyn FnMut(u64)) -> Result<TempBlob, Failure> {
        TempBlob::write(&self.temp("blob"), reader, each)
    }

    /// Packs a folder (an upper, or a whole tree) into a blob that is not compressed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn pack(
        &mut self,
        folder: BorrowedFd<'_>,
        options: &PackOptions,
        each: &mut dyn FnMut(u64),
    ) -> Result<(TempBlob, Packed), Failure> {
        let path = self.temp("blob");
        let file = File::create_new(&path).map_err(|error| cannot("create", &path, error))?;
        let mut hashing = Hashing::new(Steady::new(file));
        let packed = self.store.runner.pack(self.store, folder, options, &mut |mut stream| {
            copy(&mut stream, &mut hashing, each).map_err(|error| cannot("write", &path, error))?;
            Ok(())
        })?;
        let (_, digest, size) = hashing.finish();
        Ok((TempBlob { path, digest, size }, packed))
    }

    /// Compresses a blob: a new one.
    ///
    /// # Errors
    /// Reading or writing failed.
    pub fn compress(&mut self, blob: &TempBlob, compression: Compression) -> Result<TempBlob, Failure> {
        let path = self.temp("blob");
        let io = |error| cannot("write", &path, error);
        let mut source = File::open(&blob.path).map_err(|error| cannot("read", &blob.path, error))?;
        let hashing = Hashing::new(Steady::new(File::create_new(&path).map_err(io)?));
        let (_, digest, size) = match compression {
            Compression::None => {
                let mut hashing = hashing;
                copy(&mut source, &mut hashing, &mut |_| {}).map_err(io)?;
                hashing.finish()
            }
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(hashing, flate2::Compression::new(6));
                copy(&mut source, &mut encoder, &mut |_| {}).map_err(io)?;
                encoder.finish().map_err(io)?.finish()
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(hashing, 3).map_err(io)?;
                // A second thread; without it, only slower.
                drop(encoder.multithread(2));
                copy(&mut source, &mut encoder, &mut |_| {}).map_err(io)?;
                encoder.finish().map_err(io)?.finish()
            }
        };
        Ok(TempBlob { path, digest, size })
    }

    /// Unpacks a blob that is a layer and puts both in the store. `diff_id`: what its tar's digest must be.
    ///
    /// # Errors
    /// The archive is refused (the member is named), or its tar is not the one that was promised.
    pub fn layer(
        &mut self,
        blob: TempBlob,
        compression: Compression,
        diff_id: Option<Digest>,
    ) -> Result<Layer, Failure> {
        // The tar of a blob that is not compressed is the blob.
        let known = if compression == Compression::None { Some(blob.digest) } else { None };
        if let (Some(known), Some(wanted)) = (known, diff_id)
            && known != wanted
        {
            return Err(wrong_tar(&blob.digest, &known, &wanted));
        }
        let ready = diff_id.or(known).filter(|diff_id| self.store.layer_ready(diff_id));
        let diff_id = match ready {
            // An unpacked layer of that name is there: only the blob's own tar is left to be checked.
            Some(ready) => match known {
                Some(_) => ready,
                None => self.check_tar(&blob, compression, ready)?,
            },
            None => self.unpack(&blob.path, compression, known, diff_id)?,
        };
        self.take_over(&blob)?;
        let media = match compression {
            Compression::None => media::LAYER,
            Compression::Gzip => media::LAYER_GZIP,
            Compression::Zstd => media::LAYER_ZSTD,
        };
        Ok(Layer { descriptor: Descriptor::new(media, blob.digest, blob.size), diff_id })
    }

    /// As [`Ingest::layer`] for a blob that was packed of `tree`: the folder itself becomes the unpacked layer, so that
    /// nothing is written twice. It must be what unpacking the blob would make, and on the file system of the store.
    ///
    /// # Errors
    /// Writing failed.
    pub fn layer_of(&mut self, blob: TempBlob, packed: &Packed, tree: &Path) -> Result<Layer, Failure> {
        let diff_id = blob.digest;
        if !self.store.layer_ready(&diff_id) {
            let folder = self.temp("layer");
            super::store::make(&folder)?;
            let root = folder.join("root");
            std::fs::rename(tree, &root).map_err(|error| cannot("move", tree, error))?;
            let done = Unpacked { entries: packed.entries, bytes: packed.bytes, ..Unpacked::default() };
            self.place(&folder, diff_id, &done)?;
        }
        self.take_over(&blob)?;
        Ok(Layer { descriptor: Descriptor::new(media::LAYER, blob.digest, blob.size), diff_id })
    }

    /// A layer that was packed here, without compression. It is unpacked when it is first needed.
    ///
    /// # Errors
    /// Writing failed.
    pub fn packed(&mut self, blob: &TempBlob) -> Result<Layer, Failure> {
        self.take_over(blob)?;
        Ok(Layer { descriptor: Descriptor::new(media::LAYER, blob.digest, blob.size), diff_id: blob.digest })
    }

    /// A layer whose blob is in the store already, unpacked or not.
    ///
    /// # Errors
    /// It is not.
    pub fn present(&mut self, descriptor: &Descriptor, diff_id: Digest) -> Result<Layer, Failure> {
        drop(self.store.open_blob(descriptor)?);
        Ok(Layer { descriptor: descriptor.clone(), diff_id })
    }

    /// The same, unpacked: its tar is seen to be the one that was promised.
    ///
    /// # Errors
    /// It is not there, refused, or another one.
    pub fn stored(&mut self, descriptor: &Descriptor, diff_id: Digest) -> Result<Layer, Failure> {
        drop(self.store.open_blob(descriptor)?);
        if !self.store.layer_ready(&diff_id) {
            self.unpack_stored(descriptor, diff_id)?;
        }
        Ok(Layer { descriptor: descriptor.clone(), diff_id })
    }

    /// Unpacks a layer whose blob is in the store.
    pub(super) fn unpack_stored(&mut self, blob: &Descriptor, diff_id: Digest) -> Result<(), Failure> {
        let mut file = self.store.open_blob(blob)?;
        let path = self.store.blob_path(&blob.digest);
        let compression = blob.compression().map_err(|error| Failure::failed(error.to_string()))?;
        if compression != Compression::None {
            // Compressed blobs are checked by the digest of their tar.
            self.unpack(&path, compression, None, Some(diff_id))?;
            self.placed.layers.retain(|layer| *layer != diff_id);
            return Ok(());
        }
        if blob.digest != diff_id {
            return Err(wrong_tar(&blob.digest, &blob.digest, &diff_id));
        }
        // Two read it at once: the helper unpacks, and here it is seen to be what its name says before it is put in place.
        let (checked, unpacked) = std::thread::scope(|scope| {
            let checking = scope.spawn(move || digest_of_file(&mut file));
            let unpacked = self.unpack_aside(&path, compression, false);
            (checking.join(), unpacked)
        });
        let checked = checked.map_err(|_| Failure::failed("reading a layer was broken off"))?;
        let (digest, _) = checked.map_err(|error| cannot("read", &path, error))?;
        if digest != diff_id {
            return Err(damaged(&blob.digest, "its bytes are not those of its name"));
        }
        let (folder, done) = unpacked?;
        self.place(&folder, diff_id, &done)?;
        // Of an image that is there.
        self.placed.layers.retain(|layer| *layer != diff_id);
        Ok(())
    }

    fn check_tar(
        &self,
        blob: &TempBlob,
        compression: Compression,
        wanted: Digest,
    ) -> Result<Digest, Failure> {
        let found = self.store.runner.hash(self.store, &blob.path, compression)?;
        if found == wanted { Ok(found) } else { Err(wrong_tar(&blob.digest, &found, &wanted)) }
    }

    fn unpack(
        &mut self,
        blob: &Path,
        compression: Compression,
        known: Option<Digest>,
        wanted: Option<Digest>,
    ) -> Result<Digest, Failure> {
        let (folder, done) = self.unpack_aside(blob, compression, known.is_none())?;
        let diff_id =
            known.or(done.diff_id).ok_or_else(|| Failure::failed("the layer's digest is missing"))?;
        if let Some(wanted) = wanted
            && wanted != diff_id
        {
            return Err(Failure::failed(format!(
                "the tar of a layer has the digest {diff_id}, promised was {wanted}"
            ))
            .hint("the archive or the registry sent something else: try again, or tell who made the image"));
        }
        self.place(&folder, diff_id, &done)?;
        Ok(diff_id)
    }

    /// Unpacks into a folder of this work.
    fn unpack_aside(
        &mut self,
        blob: &Path,
        compression: Compression,
        hash: bool,
    ) -> Result<(PathBuf, Unpacked), Failure> {
        let folder = self.temp("layer");
        let root = folder.join("root");
        super::store::make(&root)?;
        let request = Request::unpack(self.store, compression, hash);
        let done = self.store.runner.unpack(self.store, blob, &root, &request)?;
        Ok((folder, done))
    }

    /// Puts a whole folder of a layer, its `root` in it, where unpacked layers are.
    fn place(&mut self, folder: &Path, diff_id: Digest, done: &Unpacked) -> Result<(), Failure> {
        let record = LayerRecord {
            version: 1,
            diff_id,
            true_owners: self.store.ownership.is_true(),
            entries: done.entries,
            bytes: done.bytes,
            devices: done.devices,
            attributes: done.attributes,
            boot: Some(boot_id().to_owned()),
        };
        let path = folder.join("layer.json");
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        write_atomic(&path, &bytes, 0o644).map_err(|error| cannot("write", &path, error))?;
        let target = self.store.layer_dir(&diff_id);
        match std::fs::rename(folder, &target) {
            Ok(()) => {
                self.placed.layers.push(diff_id);
                sync_folder(&self.store.layout.layers_dir()).map_err(|error| cannot("sync", &target, error))
            }
            // Somebody else was as fast.
            Err(_) if target.is_dir() => Ok(()),
            Err(error) => Err(cannot("store", &target, error)),
        }
    }

    /// Puts a document in the store as it is.
    ///
    /// # Errors
    /// Writing failed.
    pub fn document(&mut self, bytes: &[u8]) -> Result<(Digest, u64), Failure> {
        let blob = self.blob(&mut &*bytes, &mut |_| {})?;
        self.take_over(&blob)?;
        Ok((blob.digest, blob.size))
    }

    /// Puts a finished blob in the store.
    ///
    /// # Errors
    /// Writing failed.
    pub fn adopt(&mut self, blob: &TempBlob) -> Result<(), Failure> {
        self.take_over(blob)
    }

    /// Makes an image of layers: writes config and manifest, then gives it `name`. The config's diff ids are those of the
    /// layers. `notes` are the manifest's annotations, `source` says where the image came from.
    ///
    /// # Errors
    /// Writing failed.
    pub fn image(
        &mut self,
        config: &ImageConfig,
        layers: &[Layer],
        name: Option<&str>,
        notes: &BTreeMap<String, String>,
        source: &str,
    ) -> Result<Entry, Failure> {
        let mut config = config.clone();
        config.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let (digest, size) = self.document(&config.to_bytes())?;
        let config = Descriptor::new(media::CONFIG, digest, size);
        let blobs = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        self.manifest(&Manifest::new(config, blobs, notes.clone()).to_bytes(), name, source)
    }

    /// Takes a manifest over as it is, whose blobs are in the store, and gives it `name`.
    ///
    /// # Errors
    /// It is refused, or a blob is missing.
    pub fn manifest(&mut self, bytes: &[u8], name: Option<&str>, source: &str) -> Result<Entry, Failure> {
        let wrong = |error: &dyn std::error::Error| Failure::failed("the manifest is refused").because(error);
        let manifest = Manifest::parse(bytes).map_err(|error| wrong(&error))?;
        let config = self.store.read_document(&manifest.config)?;
        let config = ImageConfig::parse(&config).map_err(|error| wrong(&error))?;
        check_layers(&manifest, &config).map_err(|why| Failure::failed(format!("the image {why}")))?;
        for layer in &manifest.layers {
            drop(self.store.open_blob(layer)?);
        }
        let (digest, size) = self.document(bytes)?;
        let media = manifest.media_type.as_deref().unwrap_or(media::MANIFEST);
        let mut descriptor = Descriptor::new(media, digest, size);
        descriptor.platform = Some(config.platform.clone());
        descriptor.annotations.insert(super::names::SOURCE.to_owned(), source.chars().take(500).collect());
        let entry = self.store.name(name, &descriptor)?;
        self.placed = Placed::default();
        Ok(entry)
    }

    /// A file of this work, to be written by hand.
    pub(super) fn file(&mut self) -> Result<(PathBuf, File), Failure> {
        let path = self.temp("file");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        Ok((path.clone(), file.map_err(|error| cannot("create", &path, error))?))
    }
}

fn wrong_tar(blob: &Digest, found: &Digest, wanted: &Digest) -> Failure {
    Failure::failed(format!("the layer {blob} holds a tar with the digest {found}, promised was {wanted}"))
}
