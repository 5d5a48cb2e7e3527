//! The tar inside a blob: decompressed and hashed by a thread of its own, in chunks, with the bombs found as they go off.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use sha2::Digest as _;

use super::super::blobs::CHUNK;
use super::super::helper::{Limits, Packing, Request};
use super::UnpackError;
use crate::model::image::Digest;
use crate::model::{ByteSize, Failure};

/// Chunks under way between the threads.
const AHEAD: usize = 8;

/// A tar being read.
#[derive(Debug)]
pub(super) struct Tar {
    chunks: Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
    worker: Option<JoinHandle<Option<Digest>>>,
}

/// Counts what is read from the blob.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Tar {
    pub(super) fn open(blob: File, request: &Request) -> Result<Self, Failure> {
        let count = Arc::new(AtomicU64::new(0));
        let source = Counted { inner: BufReader::with_capacity(CHUNK, blob), count: Arc::clone(&count) };
        let reader: Box<dyn Read + Send> = match request.compression {
            Packing::Plain => Box::new(source),
            // Several members one after the other are one file, as for gzip(1).
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(source)),
            Packing::Zstd => Box::new(
                zstd::stream::read::Decoder::new(source)
                    .map_err(|error| Failure::failed("cannot read Zstandard").because(&error))?,
            ),
        };
        let (sender, chunks) = sync_channel(AHEAD);
        let (limits, hash) = (request.limits, request.hash);
        let worker = std::thread::Builder::new()
            .name("decompress".to_owned())
            .spawn(move || work(reader, hash, &limits, &count, &|chunk| sender.send(chunk).is_ok()))
            .map_err(|error| Failure::failed("cannot start a thread").because(&error))?;
        Ok(Self { chunks, current: Vec::new(), at: 0, worker: Some(worker) })
    }

    /// Reads what is left, which counts for the digest; the digest, if it was asked for.
    pub(super) fn finish(mut self) -> Result<Option<Digest>, UnpackError> {
        while let Ok(chunk) = self.chunks.recv() {
            drop(chunk.map_err(super::TarError::Read)?);
        }
        let worker = self.worker.take().map(JoinHandle::join);
        match worker {
            Some(Ok(digest)) => Ok(digest),
            _ => Err(UnpackError::TooMuch("can be read".to_owned())),
        }
    }
}

impl Read for Tar {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            match self.chunks.recv() {
                Ok(chunk) => (self.current, self.at) = (chunk?, 0),
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.current[self.at..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// The thread: reads all, or until nobody listens any more.
fn work(
    mut reader: Box<dyn Read + Send>,
    hash: bool,
    limits: &Limits,
    read: &AtomicU64,
    send: &dyn Fn(io::Result<Vec<u8>>) -> bool,
) -> Option<Digest> {
    let mut hasher = hash.then(sha2::Sha256::new);
    let mut total = 0_u64;
    loop {
        let mut chunk = vec![0; CHUNK];
        let count = match fill(&mut reader, &mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                send(Err(error));
                return None;
            }
        };
        chunk.truncate(count);
        total += count as u64;
        if let Some(why) = bomb(total, read.load(Ordering::Relaxed), limits) {
            send(Err(io::Error::new(ErrorKind::InvalidData, why)));
            return None;
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&chunk);
        }
        if !send(Ok(chunk)) {
            return None;
        }
    }
    hasher.map(|hasher| Digest::new(hasher.finalize().into()))
}

/// Why what was unpacked so far is too much for what was read.
fn bomb(unpacked: u64, read: u64, limits: &Limits) -> Option<String> {
    if unpacked > limits.bytes {
        return Some(format!(
            "it unpacks to more than {} (`--max-size SIZE` lets an archive that you trust be larger)",
            ByteSize::bytes(limits.bytes)
        ));
    }
    let ratio = unpacked / read.max(1);
    (unpacked > limits.ratio_from && ratio > limits.ratio).then(|| {
        format!(
            "it looks like a bomb: {} came out of {} (`--max-size SIZE` lets an archive that you trust pass)",
            ByteSize::bytes(unpacked),
            ByteSize::bytes(read)
        )
    })
}

fn fill(reader: &mut dyn Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < chunk.len() {
        match reader.read(&mut chunk[at..]) {
            Ok(0) => break,
            Ok(count) => at += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}
