//! Which changes of a cube go into a layer, whatever becomes of them there: copied, packed or only told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;

use super::again::Again;
use super::helper::{is_scaffold, skips};
use super::read::{ReadError, RegionReader};
use super::wire::{Bytes, Line};
use crate::model::sanitize::printable_bytes;
use crate::plan::changes::{Change, Entry, Found, Kind, Region, Trees as _, Visit, What, join, within};

/// How many of the largest files are told.
const LARGEST: usize = 20;

/// What a sink did: the size of what it had at that place before, if it had anything.
pub(super) type Before = Option<u64>;

/// Where the changes go. Places are paths in the layer, without a leading slash.
pub(super) trait Sink {
    /// Something is gone; `path` is where in the region.
    fn deleted(&mut self, path: &[u8], inside: &[u8]) -> Result<Before, ReadError>;

    /// Something is there, new or different.
    fn present(
        &mut self,
        path: &[u8],
        inside: &[u8],
        entry: &Entry,
        out: &mut dyn Write,
    ) -> Result<Before, ReadError>;
}

/// What went in.
#[derive(Debug, Default)]
pub(super) struct Totals {
    entries: u64,
    bytes: u64,
    /// The smallest of them on top.
    largest: BinaryHeap<Reverse<(u64, Vec<u8>)>>,
}

impl Totals {
    fn put(&mut self, before: Before, inside: &[u8], entry: &Entry) {
        if let Some(size) = before {
            self.take_back(inside, size);
        }
        self.entries += 1;
        self.bytes += entry.size;
        if entry.kind == Kind::File {
            self.largest.push(Reverse((entry.size, inside.to_vec())));
            if self.largest.len() > LARGEST {
                self.largest.pop();
            }
        }
    }

    /// Takes back what was counted of something that is no more.
    pub(super) fn take_back(&mut self, inside: &[u8], size: u64) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        self.largest.retain(|Reverse((_, path))| path != inside);
    }

    /// Tells the largest files and the sums.
    pub(super) fn tell(mut self, out: &mut dyn Write) -> Result<(), ReadError> {
        let mut largest: Vec<_> = self.largest.drain().collect();
        largest.sort();
        for Reverse((size, path)) in largest {
            say(out, &Line::Large { path: Bytes(path), size })?;
        }
        say(out, &Line::Copied { entries: self.entries, bytes: self.bytes })
    }
}

/// The walk's visitor: leaves out what no layer holds, counts, and hands the rest on.
pub(super) struct Layering<'a, S> {
    pub(super) region: &'a Region,
    pub(super) leave_out: &'a [Bytes],
    pub(super) out: &'a mut dyn Write,
    pub(super) totals: &'a mut Totals,
    pub(super) sink: &'a mut S,
    /// At the second look, what need not be looked at.
    pub(super) again: Option<&'a Again>,
}

impl<S: Sink> Visit<ReadError> for Layering<'_, S> {
    fn skips(&self, path: &[u8]) -> bool {
        let inside = join(self.region.prefix.as_bytes(), path);
        skips(self.region, path)
            || self.leave_out.iter().any(|place| within(&inside, &place.0))
            || self.again.is_some_and(|again| again.is_clean(path))
    }

    fn is_scaffold(&self, path: &[u8]) -> bool {
        is_scaffold(self.region, path)
    }

    fn change(&mut self, change: Change) -> Result<(), ReadError> {
        let inside = join(self.region.prefix.as_bytes(), &change.path);
        let entry = match change.what {
            What::Deleted(entry) => {
                let before = self.sink.deleted(&change.path, &inside)?;
                self.totals.put(before, &inside, &Entry { kind: Kind::Folder, size: 0, ..entry });
                return Ok(());
            }
            What::Added(entry) | What::Changed { new: entry, .. } => entry,
        };
        if matches!(entry.kind, Kind::Socket | Kind::Device) {
            let why = format!("a {} is nothing that an image holds", entry.kind.word());
            return say(self.out, &Line::LeftOut { path: Bytes(inside), why });
        }
        let before = self.sink.present(&change.path, &inside, &entry, self.out)?;
        self.totals.put(before, &inside, &entry);
        Ok(())
    }

    fn too_deep(&mut self, path: &[u8]) -> Result<(), ReadError> {
        Err(ReadError::Other(format!(
            "the folder `{}` is too deep for an image",
            printable_bytes(&path[..path.len().min(200)])
        )))
    }
}

/// Where in the region a place of the layer is; `None` outside of it.
pub(super) fn relative<'p>(region: &Region, place: &'p [u8]) -> Option<&'p [u8]> {
    let rest = place.strip_prefix(region.prefix.as_bytes())?;
    Some(rest.strip_prefix(b"/").unwrap_or(rest))
}

/// The folders that lead to the folder `inside`, itself the last.
pub(super) fn folders_to(inside: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = (0..inside.len()).filter(|at| inside[*at] == b'/').chain([inside.len()]);
    ends.map(|end| &inside[..end])
}

/// What the folder at `place` is, which changes lie in: as it is in the upper, or else in the lowers. Above the region's own root
/// there is nothing of its own to take over.
pub(super) fn folder_above(
    region: &Region,
    files: &mut RegionReader,
    place: &[u8],
) -> Result<Option<Entry>, ReadError> {
    match relative(region, place).filter(|_| place.len() > region.prefix.len()) {
        None => Ok(None),
        Some(path) => match files.new_entry(path)? {
            Some(Found::Entry { entry, .. }) => Ok(Some(entry)),
            _ => files.lower(path),
        },
    }
}

pub(super) fn other(error: &dyn std::error::Error) -> ReadError {
    ReadError::Other(error.to_string())
}

pub(super) fn say(out: &mut dyn Write, line: &Line) -> Result<(), ReadError> {
    serde_json::to_writer(&mut *out, line).map_err(|error| other(&error))?;
    out.write_all(b"\n").map_err(|error| other(&error))
}
