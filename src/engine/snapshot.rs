//! A snapshot: a cube's changes to its system as a new layer on its image.
//!
//! In two steps, so that a person sees what goes in before there is an image: [`draft`] and [`commit`]. A cube that stands
//! still, because it was kept and has ended, is packed right where its changes lie, and looked through on the way; they are
//! unpacked by the first launch that needs them. One that runs is copied, in two looks of which only the second holds it still, and the
//! copy becomes the unpacked layer. A draft is a folder that only this process uses, under a lock; what a killed one leaves
//! is cleared by the next.

mod layer;
mod still;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::changes::Source;
use super::{Engine, host_base};
use crate::image::{Documents, Layer, Store, TempBlob};
use crate::model::image::document::architecture;
use crate::model::image::{Digest, HistoryEntry, ImageConfig, Platform};
use crate::model::{CubeSpec, Failure, FailureKind, ImageRef};
use crate::plan::changes::{Ground, Region};
use crate::store::cubes::{self, CubeEntry};
use crate::store::lock::{self, Lock};
use crate::upper::wire::{Bytes, Line, Want};
use still::Stillness;

/// Places that are never part of an image: what the launch makes anew, and projects.
const LEFT_OUT: [&str; 9] =
    ["proc", "sys", "dev", "projects", "work", "etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/mtab"];
/// The label that says what an image is for.
pub const KIND: &str = "dev.tripmine.kind";
/// The label of a continuation that says what its cube was launched with.
pub const SPEC: &str = "dev.tripmine.continuation";
/// Where the store says that an image came from when it was made here of a cube.
pub const SOURCE: &str = "snapshot";
/// Lines about what stays out or looks like a secret that are kept for a person.
const KEPT_LINES: usize = 1000;

/// What will go into the image.
#[derive(Debug)]
pub struct Draft {
    /// What is known of the cube.
    pub ground: Ground,
    /// Entries, deletions included.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// The largest files: their path inside and their size, largest first.
    pub largest: Vec<(Vec<u8>, u64)>,
    /// What looks like a secret: path and what it is.
    pub secrets: Vec<(Vec<u8>, String)>,
    /// What cannot be in an image: path and why.
    pub left_out: Vec<(Vec<u8>, String)>,
    /// How long the cube was held still; `None` when it did not run.
    pub frozen: Option<Duration>,
    /// What it was launched with.
    spec: Option<CubeSpec>,
    folder: Folder,
    /// Of a cube that had ended: the layer. Otherwise the copy is in the folder.
    packed: Option<TempBlob>,
}

/// What a look told.
#[derive(Debug, Default)]
struct Seen {
    entries: u64,
    bytes: u64,
    largest: Vec<(Vec<u8>, u64)>,
    secrets: Vec<(Vec<u8>, String)>,
    left_out: Vec<(Vec<u8>, String)>,
}

impl Seen {
    fn hear(&mut self, line: Line) {
        match line {
            Line::Copied { entries, bytes } => (self.entries, self.bytes) = (entries, bytes),
            Line::Large { path, size } => self.largest.push((path.0, size)),
            Line::Secret { path, what } if self.secrets.len() < KEPT_LINES => {
                self.secrets.push((path.0, what));
            }
            Line::LeftOut { path, why } if self.left_out.len() < KEPT_LINES => {
                let told = (path.0, why);
                // The second look at a running cube tells it again.
                if !self.left_out.contains(&told) {
                    self.left_out.push(told);
                }
            }
            _ => {}
        }
    }
}

/// The folder of a draft, removed when it goes.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    store: Store,
    _alone: Lock,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is cleared by the next snapshot.
        let _removed = self.store.remove(&self.path);
    }
}

/// Copies the changes of a cube that runs, or packs those of one that has ended.
///
/// # Errors
/// It has no changes any more, cannot be held still or read, or the disk is full.
pub fn draft(engine: &Engine, entry: &CubeEntry) -> Result<Draft, Failure> {
    let (source, client) = Source::open(engine, entry)?;
    let regions: Vec<_> = source.regions.iter().filter(|region| !region.project).cloned().collect();
    if regions.is_empty() {
        return Err(Failure::new(
            FailureKind::Missing,
            format!("the cube {} has ended, and the changes to its system went with it", entry.id.short()),
        )
        .hint("take the snapshot while it runs, or launch it with `--keep NAME`"));
    }
    let store = Store::open(&engine.layout)?;
    let (ground, record) = (source.ground.clone(), entry.record.as_ref().ok());
    let mut seen = Seen::default();
    let folder = folder(engine, store)?;
    let (packed, frozen) = match client {
        // Its keeper waits for the question on exit, or it runs.
        Some(client) => {
            let running = record.filter(|record| !record.state.is_over());
            let frozen = copy(&source, regions, &folder, Stillness::new(client, running), &mut seen)?;
            (None, frozen)
        }
        None => {
            let blob = layer::pack(&source, regions, &folder.path.join("blob"), &folder.store, &mut seen)?;
            still_there(&engine.layout.mines_dir(), entry)?;
            (Some(blob), None)
        }
    };
    let Seen { entries, bytes, mut largest, secrets, left_out } = seen;
    largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let spec = record.map(CubeSpec::of);
    Ok(Draft { ground, entries, bytes, largest, secrets, left_out, frozen, spec, folder, packed })
}

/// What was packed is what the cube left.
fn still_there(mines: &Path, entry: &CubeEntry) -> Result<(), Failure> {
    let now = cubes::load(mines, &entry.id)?;
    if !now.live && now.record.as_ref().ok() == entry.record.as_ref().ok() {
        return Ok(());
    }
    let message = format!("the cube {} was launched while it was looked at", entry.id.short());
    Err(Failure::new(FailureKind::Busy, message).hint("take the snapshot again"))
}

fn left_out() -> Vec<Bytes> {
    LEFT_OUT.iter().map(|place| Bytes(place.as_bytes().to_vec())).collect()
}

/// Copies what a cube with a keeper changed; how long it was held still for that.
fn copy(
    source: &Source,
    regions: Vec<Region>,
    folder: &Folder,
    mut stillness: Stillness,
    seen: &mut Seen,
) -> Result<Option<Duration>, Failure> {
    let target = open(&folder.path.join("upper"))?;
    let twice = stillness.twice();
    if twice.is_none() {
        stillness.hold()?;
    }
    let want = Want::Copy { leave_out: left_out(), twice };
    let copied = source.ask(regions, want, Some(target.as_fd()), &mut |line| {
        match line {
            Line::Hold => stillness.hold()?,
            Line::Release => stillness.release(),
            line => seen.hear(line),
        }
        Ok(())
    });
    stillness.release();
    copied?;
    source.ask(Vec::new(), Want::Scan, Some(target.as_fd()), &mut |line| {
        seen.hear(line);
        Ok(())
    })?;
    Ok(stillness.lasted())
}

fn open(path: &std::path::Path) -> Result<OwnedFd, Failure> {
    crate::upper::manifest::open_root(path)
        .map_err(|errno| Failure::failed(format!("cannot open `{}`", path.display())).because(&errno))
}

/// A fresh folder for a draft; whatever an earlier one left is cleared.
fn folder(engine: &Engine, store: Store) -> Result<Folder, Failure> {
    let alone = lock::exclusive(&engine.layout, "snapshot")?;
    let path = engine.layout.data.join("draft");
    let fail =
        |error: &std::io::Error| Failure::failed(format!("cannot make `{}`", path.display())).because(error);
    if path.exists() {
        store.remove(&path)?;
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path.join("upper")).map_err(|error| fail(&error))?;
    fs::set_permissions(path.join("upper"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|error| fail(&error))?;
    Ok(Folder { path, store, _alone: alone })
}

/// What the image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// New cubes start from it.
    Template,
    /// `resume` launches this cube again from it, with what it was launched with.
    Continuation,
}

impl ImageKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Continuation => "continuation",
        }
    }
}

/// Makes the image `name` of a draft; its reference. The draft is used up: a copy becomes the layer.
///
/// # Errors
/// The image beneath is gone, or writing failed: the store is as before.
pub fn commit(draft: &Draft, name: &str, kind: ImageKind) -> Result<String, Failure> {
    let store = &draft.folder.store;
    let base = base(store, &draft.ground)?;
    let mut work = store.begin()?;
    let mut layers: Vec<Layer> = Vec::new();
    let mut config = match &base {
        Some(image) => {
            for (descriptor, diff_id) in image.manifest.layers.iter().zip(&image.config.diff_ids) {
                layers.push(work.present(descriptor, *diff_id)?);
            }
            image.config.clone()
        }
        None => ImageConfig { platform: here(), ..ImageConfig::default() },
    };
    layers.push(match &draft.packed {
        Some(blob) => work.packed(blob)?,
        None => layer::of_copy(&mut work, &draft.folder.path.join("upper"))?,
    });
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let ground = &draft.ground;
    let mut labels = vec![
        ("dev.tripmine.source.cube", ground.id.to_string()),
        ("dev.tripmine.source.machine", ground.machine.to_string()),
        ("dev.tripmine.source.image", ground.image.to_string()),
        ("dev.tripmine.source.time", now.clone()),
        (KIND, kind.word().to_owned()),
    ];
    // What lies beneath may be a continuation: this image is one only if it is made as one.
    config.labels.remove(SPEC);
    if kind == ImageKind::Continuation {
        let spec = draft.spec.as_ref().ok_or_else(|| {
            Failure::failed(format!("what the cube {} was launched with is not known", ground.id.short()))
        })?;
        labels.push((SPEC, spec.text()));
    }
    if let Some(project) = &ground.project {
        labels.push(("dev.tripmine.source.project", project.clone()));
    }
    if let Some(digest) = &ground.image_digest {
        labels.push(("dev.tripmine.source.digest", digest.clone()));
    }
    if on_host(base.as_ref()) {
        labels.extend(host_base::labels());
    }
    for (key, value) in labels {
        config.labels.insert(key.to_owned(), value);
    }
    config.created = Some(now.clone());
    config.history.push(HistoryEntry {
        created: Some(now),
        created_by: Some("tripmine image snapshot".to_owned()),
        comment: Some(format!("cube {} on {}", ground.id.short(), ground.machine)),
        empty_layer: false,
    });
    let entry = work.image(&config, &layers, Some(name), &BTreeMap::new(), SOURCE)?;
    Ok(entry.reference())
}

/// The image that the cube was launched from, by digest: its name may have moved on.
fn base(store: &Store, ground: &Ground) -> Result<Option<Documents>, Failure> {
    match (&ground.image, &ground.image_digest) {
        (ImageRef::Host, _) => Ok(None),
        (_, Some(digest)) => {
            let digest = Digest::parse(digest)
                .map_err(|error| Failure::failed("the cube's image has an odd digest").because(&error))?;
            store.read_digest(&digest).map(Some)
        }
        (reference, None) => store.read(reference).map(Some),
    }
}

fn on_host(base: Option<&Documents>) -> bool {
    base.is_none_or(|image| image.config.labels.get(host_base::BASE).is_some_and(|base| base == "host"))
}

fn here() -> Platform {
    let machine = rustix::system::uname();
    let machine = machine.machine().to_string_lossy().into_owned();
    Platform {
        os: "linux".to_owned(),
        architecture: architecture(&machine).to_owned(),
        ..Platform::default()
    }
}
