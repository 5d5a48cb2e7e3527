//! Push: what the registry lacks of an image, several blobs at once, then the manifest as it is stored.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::super::blobs::digest_of_file;
use super::super::names::Entry;
use super::super::store::Store;
use super::client::{Asked, Client};
use super::{Progress, STREAMS};
use crate::model::Failure;
use crate::model::image::remote::RemoteRef;
use crate::model::image::{Descriptor, Digest, Manifest};

/// Sends an image. Gives the digest under which the registry has it.
///
/// # Errors
/// A blob is missing or damaged, or the registry cannot be reached or refuses.
pub fn push(
    store: &Store,
    client: &Client,
    remote: &RemoteRef,
    entry: &Entry,
    progress: Progress<'_>,
) -> Result<Digest, Failure> {
    let _held = store.hold(&entry.descriptor.digest)?;
    let bytes = store.read_document(&entry.descriptor)?;
    let manifest = Manifest::parse(&bytes).map_err(|error| {
        Failure::failed(format!("the image `{}` cannot be used", entry.reference())).because(&error)
    })?;
    let mut blobs: Vec<&Descriptor> = Vec::new();
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        if !blobs.iter().any(|other| other.digest == blob.digest) {
            blobs.push(blob);
        }
    }
    // How much there is in all is known before the first byte.
    blobs.iter().for_each(|blob| progress(&blob.digest, blob.size, 0));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if let Err(failure) = upload(store, client, blob, progress) {
                    stop.store(true, Ordering::Relaxed);
                    return Err(failure);
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..STREAMS.min(blobs.len())).map(|_| scope.spawn(work)).collect();
        let lost = |_| Err(Failure::failed("an upload came to an unexpected end"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
    });
    results.into_iter().collect::<Result<Vec<()>, Failure>>()?;
    let url = client.url(&format!("manifests/{}", remote.reference()));
    let kind = manifest.media_type.as_deref().unwrap_or(&entry.descriptor.media_type);
    let asked = Asked { method: "PUT", url: &url, headers: &[("content-type", kind)] };
    let response = client.send(&asked, &mut || {
        let length = bytes.len() as u64;
        Ok(Some((Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn Read>, length)))
    })?;
    if !response.status().is_success() {
        return Err(client.refused("the manifest", response));
    }
    Ok(entry.descriptor.digest)
}

fn upload(store: &Store, client: &Client, blob: &Descriptor, progress: Progress<'_>) -> Result<(), Failure> {
    let url = client.url(&format!("blobs/{}", blob.digest));
    let there = client.ask(&Asked { method: "HEAD", url: &url, headers: &[] })?;
    if there.status().is_success() {
        progress(&blob.digest, blob.size, blob.size);
        return Ok(());
    }
    let mut file = store.open_blob(blob)?;
    let (found, _) =
        digest_of_file(&mut file).map_err(|error| Failure::failed("cannot read a layer").because(&error))?;
    if found != blob.digest {
        return Err(super::super::blobs::damaged(&blob.digest, "its bytes are not those of its name"));
    }
    let begun = client.ask(&Asked { method: "POST", url: &client.url("blobs/uploads/"), headers: &[] })?;
    if !begun.status().is_success() {
        return Err(client.refused("an upload", begun));
    }
    let location = begun.headers().get("location").and_then(|at| at.to_str().ok()).unwrap_or_default();
    let location = client.located(location)?;
    let joint = if location.contains('?') { '&' } else { '?' };
    let url = format!("{location}{joint}digest={}", blob.digest);
    let asked = Asked { method: "PUT", url: &url, headers: &[("content-type", "application/octet-stream")] };
    let told = AtomicU64::new(0);
    // What is sent once more, after a login, is told once.
    let tell = |sent: u64| {
        let before = told.fetch_max(sent, Ordering::Relaxed);
        if sent > before {
            progress(&blob.digest, blob.size, sent - before);
        }
    };
    let response = client.send(&asked, &mut || {
        let told = Told { file: store.open_blob(blob)?, sent: 0, tell: &tell };
        Ok(Some((Box::new(told) as Box<dyn Read + '_>, blob.size)))
    })?;
    if !response.status().is_success() {
        return Err(client.refused("an upload", response));
    }
    tell(blob.size);
    Ok(())
}

/// Tells how much of a file was read.
struct Told<'a, F> {
    file: F,
    sent: u64,
    tell: &'a dyn Fn(u64),
}

impl<F: Read> Read for Told<'_, F> {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(space)?;
        self.sent += count as u64;
        (self.tell)(self.sent);
        Ok(count)
    }
}
