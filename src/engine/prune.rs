//! What is left over, deleted for good: the trash, the records and logs of throwaways that ended long ago, skeletons of
//! `/etc` that no cube uses, and what no image needs of the image store. Kept cubes stay.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::Engine;
use super::carry::Done;
use super::images::used;
use crate::image::Store;
use crate::image::collect::Collected;
use crate::keeper::state::now_ms;
use crate::model::{ByteSize, Failure, Keep, TripId};
use crate::store::trash::{self, TrashRecord};
use crate::store::usage::usage;
use crate::store::{cubes, skeleton};

/// What is to go.
#[derive(Debug, Clone, Serialize)]
pub struct Doomed {
    /// The version of this list.
    pub version: u32,
    /// Bytes of all of it.
    pub bytes: u64,
    /// What lies in the trash.
    pub deletions: Vec<TrashRecord>,
    /// Throwaways that have ended.
    pub cubes: Vec<Ended>,
    /// Of the image store.
    pub images: Collected,
}

/// A throwaway that has ended.
#[derive(Debug, Clone, Serialize)]
pub struct Ended {
    /// Which.
    pub id: TripId,
    /// When, milliseconds since 1970.
    pub ended_unix_ms: u64,
    /// Its size on disk.
    pub bytes: u64,
}

/// What went.
#[derive(Debug)]
pub struct Pruned {
    /// Deletions of the trash.
    pub count: u64,
    /// Records of cubes.
    pub cubes: u64,
    /// Skeletons of the system.
    pub skeletons: usize,
    /// Of the image store.
    pub images: Collected,
    /// Bytes of all of it.
    pub bytes: u64,
    /// What could not be deleted.
    pub failures: Vec<Failure>,
}

impl Doomed {
    /// What and how much, in words.
    #[must_use]
    pub fn text(&self) -> String {
        let layers = (self.images.blobs + self.images.layers) as u64;
        let parts = parts(self.deletions.len() as u64, self.cubes.len() as u64, layers);
        format!("{parts}: {}", ByteSize::bytes(self.bytes))
    }

    /// Nothing is to go.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deletions.is_empty() && self.cubes.is_empty() && self.images.blobs + self.images.layers == 0
    }
}

impl Pruned {
    /// Nothing went but perhaps skeletons.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count + self.cubes == 0 && self.images.blobs + self.images.layers == 0
    }

    /// What and how much, in words.
    #[must_use]
    pub fn text(&self) -> String {
        let layers = (self.images.blobs + self.images.layers) as u64;
        format!("{}, {}", parts(self.count, self.cubes, layers), ByteSize::bytes(self.bytes))
    }
}

fn parts(deletions: u64, cubes: u64, layers: u64) -> String {
    let some = |count: u64, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {more}")),
    };
    let parts: Vec<String> = [
        some(deletions, "deletion", "deletions"),
        some(cubes, "record of an ended cube", "records of ended cubes"),
        some(layers, "unused part of images", "unused parts of images"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" and ") }
}

/// What the trash and the cubes hold that is older than these moments, milliseconds since 1970; all of the trash without one.
///
/// # Errors
/// Something cannot be listed.
pub fn look(engine: &Engine, trash_before: Option<u64>, cubes_before: u64) -> Result<Doomed, Failure> {
    let mut deletions = trash::list(&engine.layout)?;
    deletions.retain(|record| trash_before.is_none_or(|before| record.at_ms < before));
    let mut ended = Vec::new();
    for entry in cubes::list(&engine.layout.mines_dir())? {
        let Ok(record) = &entry.record else { continue };
        let at = record.exit.as_ref().map_or(record.created_unix_ms, |exit| exit.ended_unix_ms);
        if !entry.live && record.keep == Keep::Throwaway && at < cubes_before {
            ended.push(Ended { id: entry.id, ended_unix_ms: at, bytes: usage(&entry.path).bytes });
        }
    }
    let sizes = deletions.iter().map(|record| record.bytes).chain(ended.iter().map(|cube| cube.bytes));
    let images = collect(engine, true)?;
    let bytes = sizes.fold(images.bytes, u64::saturating_add);
    Ok(Doomed { version: 1, bytes, deletions, cubes: ended, images })
}

/// Before which moment records of cubes go when nobody says: `log_retention` ago.
#[must_use]
pub fn usual(engine: &Engine) -> u64 {
    let age = u64::try_from(engine.config.log_retention.as_millis()).unwrap_or(u64::MAX);
    now_ms().saturating_sub(age)
}

/// Deletes what [`look`] found; what could be deleted is gone whatever else failed.
///
/// # Errors
/// The trash cannot be opened at all.
pub fn carry(engine: &Engine, doomed: &Doomed, trash_before: Option<u64>) -> Result<Pruned, Failure> {
    // Also when nothing is listed: an earlier purge may have been interrupted.
    let purged = trash::purge(&engine.layout, trash_before)?;
    let mut pruned = Pruned {
        count: purged.count,
        cubes: 0,
        skeletons: 0,
        images: Collected::default(),
        bytes: purged.bytes,
        failures: purged.failures,
    };
    for cube in &doomed.cubes {
        match cubes::remove(&engine.layout.mines_dir(), &cube.id) {
            Ok(()) => {
                pruned.cubes += 1;
                pruned.bytes = pruned.bytes.saturating_add(cube.bytes);
            }
            // Somebody else was faster.
            Err(cubes::CubeError::Missing(_)) => {}
            Err(error) => pruned.failures.push(error.into()),
        }
    }
    match skeletons(engine) {
        Ok(count) => pruned.skeletons = count,
        Err(failure) => pruned.failures.push(failure),
    }
    match collect(engine, false) {
        Ok(images) => {
            pruned.bytes = pruned.bytes.saturating_add(images.bytes);
            pruned.images = images;
        }
        Err(failure) => pruned.failures.push(failure),
    }
    Ok(pruned)
}

fn collect(engine: &Engine, dry: bool) -> Result<Collected, Failure> {
    let store = Store::open(&engine.layout)?;
    store.collect(&used(engine, &store)?, dry)
}

fn skeletons(engine: &Engine) -> Result<usize, Failure> {
    let oldest = engine.live().iter().map(|record| record.created_unix_ms).min();
    let oldest = oldest.map(|at| UNIX_EPOCH + Duration::from_millis(at));
    Ok(skeleton::prune(&engine.layout.layers_dir(), &[], oldest)?)
}

impl Engine {
    pub(super) fn prune(&self) -> Result<Done, Failure> {
        let pruned = carry(self, &look(self, None, usual(self))?, None)?;
        let mut done = if pruned.is_empty() {
            Done::say("nothing was left over")
        } else {
            self.done(format!("deleted for good: {}", pruned.text()), "prune", &pruned.text(), None)
        };
        done.warnings.extend(pruned.failures.iter().map(ToString::to_string));
        Ok(done)
    }
}
