//! Blobs: bytes whose name is their digest. Owns writing them whole (temporary file, fsync, rename) and reading them back
//! with their size and digest checked. A blob that is there is never written again.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::host::sys::begin_writing_out;
use crate::model::image::document::DOCUMENT_MAX;
use crate::model::image::{Descriptor, Digest};
use crate::model::{Failure, FailureKind};
use crate::store::atomic::sync_folder;
use crate::store::fail::cannot;

use super::store::Store;

/// How much is read at once.
pub(super) const CHUNK: usize = 256 << 10;

/// A blob that is written but not yet in the store. Its file is part of an ingest and goes with it.
#[derive(Debug)]
pub struct TempBlob {
    pub(super) path: PathBuf,
    /// The name of its bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
}

impl TempBlob {
    /// Writes all of `reader` to a new file; `each` hears of every chunk's length.
    ///
    /// # Errors
    /// Reading or writing failed.
    pub fn write(path: &Path, reader: &mut dyn Read, each: &mut dyn FnMut(u64)) -> Result<Self, Failure> {
        let file = File::create_new(path).map_err(|error| cannot("create", path, error))?;
        let mut hashing = Hashing::new(Steady::new(file));
        copy(reader, &mut hashing, each).map_err(|error| cannot("write", path, error))?;
        let (_, digest, size) = hashing.finish();
        Ok(Self { path: path.to_owned(), digest, size })
    }
}

/// A file that is written from one place on, and goes to the disk meanwhile: the fsync(2) at its end waits for little.
#[derive(Debug)]
pub(super) struct Steady {
    file: File,
    written: u64,
    begun: u64,
}

impl Steady {
    /// What is begun to be written out at once, in bytes.
    const STEP: u64 = 8 << 20;

    pub(super) const fn new(file: File) -> Self {
        Self { file, written: 0, begun: 0 }
    }

    /// The file, to be gone on with at `place`.
    pub(super) fn at(&mut self, place: u64) -> io::Result<&mut File> {
        self.file.seek(SeekFrom::Start(place))?;
        (self.written, self.begun) = (place, place);
        Ok(&mut self.file)
    }
}

impl Write for Steady {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.begun >= Self::STEP {
            begin_writing_out(self.file.as_fd(), self.begun, self.written - self.begun);
            self.begun = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts and hashes what is written through it.
#[derive(Debug)]
pub(super) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    /// The hash of what was written so far, to be gone on with.
    pub(super) fn state(self) -> (Sha256, u64) {
        (self.hash, self.size)
    }

    pub(super) fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest::new(self.hash.finalize().into()), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Copies all of `reader`; `each` hears of every chunk.
pub(super) fn copy(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    each: &mut dyn FnMut(u64),
) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        writer.write_all(&buffer[..count])?;
        total += count as u64;
        each(count as u64);
    }
}

/// The digest of some bytes in memory.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

/// The digest of all of a file, from its start.
pub(super) fn digest_of_file(file: &mut File) -> io::Result<(Digest, u64)> {
    file.rewind()?;
    let mut hash = Hashing::new(io::sink());
    copy(file, &mut hash, &mut |_| {})?;
    let (_, digest, size) = hash.finish();
    Ok((digest, size))
}

impl Store {
    /// True when the blob is there with that size. Whether its bytes are right is `image check`'s question, and that of
    /// whoever reads it.
    #[must_use]
    pub fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        std::fs::symlink_metadata(self.blob_path(digest))
            .is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// A blob's file, to be read.
    ///
    /// # Errors
    /// It is not there, or of another size.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<File, Failure> {
        let path = self.blob_path(&descriptor.digest);
        let open = || File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Failure::new(
                    FailureKind::Missing,
                    format!("the blob {} is missing from the store", descriptor.digest),
                )
                .hint(
                    "`tripmine image check` names the images that it belongs to; pull or import them again",
                ));
            }
            other => other.map_err(|error| cannot("open", &path, error))?,
        };
        let found = file.metadata().map_err(|error| cannot("read", &path, error))?;
        if !found.is_file() || found.size() != descriptor.size {
            return Err(damaged(
                &descriptor.digest,
                &format!("it has {} bytes, not {}", found.size(), descriptor.size),
            ));
        }
        Ok(file)
    }

    /// A small blob, whole, with its digest checked.
    ///
    /// # Errors
    /// It is not there, too large, or damaged.
    pub fn read_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        if descriptor.size > DOCUMENT_MAX {
            return Err(Failure::failed(format!(
                "the document {} claims {} bytes, more than {DOCUMENT_MAX}",
                descriptor.digest, descriptor.size
            )));
        }
        let path = self.blob_path(&descriptor.digest);
        // Room for all of it and for the end: one read, and one that finds nothing more.
        let mut bytes = Vec::with_capacity(usize::try_from(descriptor.size).unwrap_or(0) + 64);
        self.open_blob(descriptor)?
            .take(DOCUMENT_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| cannot("read", &path, error))?;
        if digest_of(&bytes) != descriptor.digest {
            return Err(damaged(&descriptor.digest, "its bytes are not those of its name"));
        }
        Ok(bytes)
    }

    /// Puts a finished temporary blob where it belongs.
    pub(super) fn adopt(&self, blob: &TempBlob) -> Result<(), Failure> {
        let path = self.blob_path(&blob.digest);
        if self.has_blob(&blob.digest, blob.size) {
            return Ok(());
        }
        File::open(&blob.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&blob.path, &path))
            .and_then(|()| sync_folder(&self.blobs_dir()))
            .map_err(|error| cannot("store", &path, error))
    }
}

pub(super) fn damaged(digest: &Digest, why: &str) -> Failure {
    Failure::failed(format!("the blob {digest} is damaged: {why}"))
        .hint("`tripmine image check` puts damaged blobs aside and names their images")
}
