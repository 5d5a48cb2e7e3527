//! Pull: the manifest for this machine, then what is missing of it, several layers at once. A layer that was cut off goes
//! on where it stopped, also in a later pull: its beginning waits in `images/partial`.
//!
//! Each layer is hashed while it comes. A layer is unpacked while others are still on their way; with the last of them the
//! pull ends, and what is packed then is unpacked by the first launch.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use sha2::{Digest as _, Sha256};

use super::super::blobs::{CHUNK, Hashing, Steady, TempBlob, copy, digest_of};
use super::super::import::oci::{self, Source};
use super::super::ingest::Ingest;
use super::super::names::Entry;
use super::super::store::{Store, make};
use super::client::{Asked, Client};
use super::{Progress, STREAMS};
use crate::model::Failure;
use crate::model::image::document::{DOCUMENT_MAX, media};
use crate::model::image::remote::RemoteRef;
use crate::model::image::{Descriptor, Digest, MediaType, short_name};
use crate::store::fail::cannot;

/// How often a connection may break without a byte of progress.
const TRIES: usize = 4;

const ACCEPT: &str = concat!(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, ",
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
);

/// Brings an image in under `name`, or what people call it.
///
/// # Errors
/// The registry cannot be reached or refuses, or what it sends is not what was promised.
pub fn pull(
    store: &Store,
    client: &Client,
    remote: &RemoteRef,
    name: Option<&str>,
    machine: &str,
    progress: Progress<'_>,
) -> Result<Entry, Failure> {
    let mut ingest = store.begin()?;
    let source = Remote { client };
    let (top, bytes) = source.top(remote)?;
    let mut known = Known { inner: source, top: top.digest, bytes };
    let (manifest, bytes) = oci::manifest(&mut known, &top, machine, 0)?;
    let (config, parsed) = oci::config(&mut known, &manifest)?;
    let brought = layers(&mut ingest, client, &manifest.layers, &parsed.diff_ids, progress);
    // Layers that came whole are not fetched again by the same pull.
    ingest.stays();
    brought?;
    ingest.document(&config)?;
    let own = remote.tag.as_ref().map(|tag| {
        let whole = format!("{}/{}:{tag}", remote.registry, remote.repository);
        short_name(&whole).to_owned()
    });
    ingest.manifest(&bytes, name.or(own.as_deref()), &format!("pulled from {remote}"))
}

/// Downloads on several threads; takes over here, lowest first, as they arrive.
fn layers(
    ingest: &mut Ingest<'_>,
    client: &Client,
    layers: &[Descriptor],
    diff_ids: &[Digest],
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let store = ingest.store();
    let mut wanted: Vec<&Descriptor> = Vec::new();
    for layer in layers {
        let twice = wanted.iter().any(|other| other.digest == layer.digest);
        if !twice && !store.has_blob(&layer.digest, layer.size) {
            wanted.push(layer);
        }
    }
    // How much there is in all is known before the first byte.
    wanted.iter().for_each(|layer| progress(&layer.digest, layer.size, 0));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, arrived) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..STREAMS.min(wanted.len()) {
            let (sender, wanted, next, stop) = (sender.clone(), &wanted, &next, &stop);
            scope.spawn(move || {
                while let Some(layer) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = download(store, client, layer, stop, progress);
                    let failed = result.is_err();
                    if sender.send((layer.digest, result)).is_err() || failed {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting: Vec<(Digest, TempBlob)> = Vec::new();
        let mut coming = wanted.len();
        let mut take = || -> Result<(), Failure> {
            for (layer, diff_id) in layers.iter().zip(diff_ids) {
                while !store.has_blob(&layer.digest, layer.size)
                    && !waiting.iter().any(|(digest, _)| *digest == layer.digest)
                {
                    let (digest, result) = arrived
                        .recv()
                        .map_err(|_| Failure::failed(format!("the layer {} never came", layer.digest)))?;
                    waiting.push((digest, result?));
                    coming -= 1;
                }
                let compression = layer.compression().map_err(|error| Failure::failed(error.to_string()))?;
                match waiting.iter().position(|(digest, _)| *digest == layer.digest) {
                    Some(at) => {
                        let blob = waiting.swap_remove(at).1;
                        // Whoever waits for the network has time to unpack.
                        if coming > 0 {
                            ingest.layer(blob, compression, Some(*diff_id))?;
                        } else {
                            ingest.adopt(&blob)?;
                        }
                    }
                    None => {
                        ingest.present(layer, *diff_id)?;
                    }
                }
            }
            Ok(())
        };
        let result = take();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

/// Downloads a blob, from where an earlier attempt stopped.
fn download(
    store: &Store,
    client: &Client,
    layer: &Descriptor,
    stop: &AtomicBool,
    progress: Progress<'_>,
) -> Result<TempBlob, Failure> {
    let path = partial(store, &layer.digest)?;
    let io = |error: std::io::Error| cannot("write", &path, error);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    // Two pulls of one layer take turns; the second finds it done.
    file.lock().map_err(io)?;
    let mut have = file.metadata().map_err(io)?.len();
    if have > layer.size {
        file.set_len(0).map_err(io)?;
        have = 0;
    }
    progress(&layer.digest, layer.size, have);
    let mut beginning = Beginning { file: Steady::new(file), hash: Sha256::new(), size: 0 };
    beginning.read_again(have).map_err(io)?;
    let mut tries = 0;
    while beginning.size < layer.size {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::failed("the pull was given up"));
        }
        let before = beginning.size;
        let result = stream(client, layer, &mut beginning, stop, progress);
        tries = if beginning.size > before { 0 } else { tries + 1 };
        match result {
            Err(failure) if tries >= TRIES || stop.load(Ordering::Relaxed) => {
                return Err(failure.hint("what has come stays: the same pull goes on from there"));
            }
            _ if tries >= TRIES => {
                return Err(Failure::failed(format!(
                    "the layer {} ends early, again and again",
                    layer.digest
                )));
            }
            _ => {}
        }
    }
    let (digest, size) = (Digest::new(beginning.hash.finalize().into()), beginning.size);
    if digest != layer.digest || size != layer.size {
        // It would only be wrong again.
        std::fs::remove_file(&path).map_err(|error| cannot("remove", &path, error))?;
        return Err(oci::another_layer(layer, digest, size));
    }
    Ok(TempBlob { path, digest, size })
}

/// What has come of a layer.
struct Beginning {
    file: Steady,
    hash: Sha256,
    size: u64,
}

impl Beginning {
    /// Takes over the first `have` bytes of the file, which an earlier pull wrote.
    fn read_again(&mut self, have: u64) -> std::io::Result<()> {
        let mut hash = Hashing::new(std::io::sink());
        let file = self.file.at(0)?;
        copy(&mut file.take(have), &mut hash, &mut |_| {})?;
        (self.hash, self.size) = hash.state();
        Ok(())
    }

    /// Forgets all of it: the registry sends it from the start.
    fn again(&mut self) {
        (self.hash, self.size) = (Sha256::new(), 0);
    }

    fn add(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }
}

fn partial(store: &Store, digest: &Digest) -> Result<PathBuf, Failure> {
    let folder = store.partial_dir();
    make(&folder)?;
    Ok(folder.join(digest.hex()))
}

/// One connection's worth of a blob.
fn stream(
    client: &Client,
    layer: &Descriptor,
    beginning: &mut Beginning,
    stop: &AtomicBool,
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let url = client.url(&format!("blobs/{}", layer.digest));
    let range = format!("bytes={}-", beginning.size);
    let headers: &[(&str, &str)] = if beginning.size > 0 { &[("range", &range)] } else { &[] };
    let response = client.ask(&Asked { method: "GET", url: &url, headers })?;
    let io = |error: std::io::Error| Failure::failed("cannot write a layer").because(&error);
    match response.status().as_u16() {
        206 => {}
        200 => beginning.again(),
        _ => return Err(client.refused("a layer", response)),
    }
    let at = beginning.size;
    beginning.file.at(at).and_then(|file| file.set_len(at)).map_err(io)?;
    // A byte more than promised shows that it is more.
    let mut reader = response.into_body().into_reader().take(layer.size.saturating_add(1) - at);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = reader.read(&mut buffer).map_err(|error| {
            Failure::failed(format!("the layer {} broke off", layer.digest)).because(&error)
        })?;
        if count == 0 || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        beginning.add(&buffer[..count]).map_err(io)?;
        progress(&layer.digest, layer.size, count as u64);
    }
}

/// Documents of a registry.
struct Remote<'a> {
    client: &'a Client,
}

impl Remote<'_> {
    /// The document that a tag or digest names, whatever kind it is.
    fn top(&self, remote: &RemoteRef) -> Result<(Descriptor, Vec<u8>), Failure> {
        let url = self.client.url(&format!("manifests/{}", remote.reference()));
        let response =
            self.client.ask(&Asked { method: "GET", url: &url, headers: &[("accept", ACCEPT)] })?;
        if response.status().as_u16() != 200 {
            return Err(self.client.refused("the manifest", response));
        }
        let kind =
            response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let kind = if MediaType::parse(kind).is_some() { kind } else { media::MANIFEST }.to_owned();
        let bytes = whole(response)?;
        let digest = digest_of(&bytes);
        if remote.digest.is_some_and(|wanted| wanted != digest) {
            return Err(Failure::failed(format!("{} sent another image: {digest}", remote.registry)));
        }
        Ok((Descriptor::new(&kind, digest, bytes.len() as u64), bytes))
    }
}

fn whole(response: ureq::http::Response<ureq::Body>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = response.into_body().into_reader().take(DOCUMENT_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::failed("a document broke off").because(&error))?;
    if bytes.len() as u64 > DOCUMENT_MAX {
        return Err(Failure::failed(format!("a document is longer than {DOCUMENT_MAX} bytes")));
    }
    Ok(bytes)
}

impl Source for Remote<'_> {
    fn named(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        Err(Failure::failed(format!("a registry has no `{name}`")))
    }

    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        let config = matches!(MediaType::parse(&descriptor.media_type), Some(MediaType::Config));
        let kind = if config { "blobs" } else { "manifests" };
        let url = self.client.url(&format!("{kind}/{}", descriptor.digest));
        let headers: &[(&str, &str)] = if config { &[] } else { &[("accept", ACCEPT)] };
        let response = self.client.ask(&Asked { method: "GET", url: &url, headers })?;
        match response.status().as_u16() {
            200 => whole(response),
            _ => Err(self.client.refused("a document", response)),
        }
    }

    fn blob(
        &mut self,
        _ingest: &mut Ingest<'_>,
        descriptor: &Descriptor,
        _each: &mut dyn FnMut(u64),
    ) -> Result<TempBlob, Failure> {
        Err(Failure::failed(format!("the layer {} is downloaded apart", descriptor.digest)))
    }
}

/// A registry whose first document is there already: it need not be asked for twice.
struct Known<'a> {
    inner: Remote<'a>,
    top: Digest,
    bytes: Vec<u8>,
}

impl Source for Known<'_> {
    fn named(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        self.inner.named(name)
    }

    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        if descriptor.digest == self.top { Ok(self.bytes.clone()) } else { self.inner.document(descriptor) }
    }

    fn blob(
        &mut self,
        ingest: &mut Ingest<'_>,
        descriptor: &Descriptor,
        each: &mut dyn FnMut(u64),
    ) -> Result<TempBlob, Failure> {
        self.inner.blob(ingest, descriptor, each)
    }
}
