//! Owners as they are inside, seen by a reader that is not: the host's root, which reads a running cube's files without
//! entering its user namespace.

use serde::{Deserialize, Serialize};

use crate::plan::changes::Entry;
use crate::plan::launch::IdMap;

/// Turns ids outside into ids inside. Empty maps leave them as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// User ids.
    pub uids: Vec<IdMap>,
    /// Group ids.
    pub gids: Vec<IdMap>,
}

/// Whom the kernel shows where an id has no counterpart (`overflowuid`).
const NOBODY: u32 = 65534;

impl Shift {
    /// Puts the owner of `entry` right.
    pub fn apply(&self, entry: &mut Entry) {
        entry.uid = inside(&self.uids, entry.uid);
        entry.gid = inside(&self.gids, entry.gid);
    }

    /// The lines that turn ids inside of one map into those inside of another, by what both are outside.
    #[must_use]
    pub fn between(from: &[IdMap], to: &[IdMap]) -> Vec<IdMap> {
        let mut lines = Vec::new();
        for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (a, b))) {
            let start = a.outside.max(b.outside);
            let end = |map: &IdMap| u64::from(map.outside) + u64::from(map.count);
            let count = end(a).min(end(b)).saturating_sub(start.into());
            if let Some(count) = u32::try_from(count).ok().filter(|count| *count > 0) {
                let at = |map: &IdMap| map.inside + (start - map.outside);
                lines.push(IdMap { inside: at(b), outside: at(a), count });
            }
        }
        lines
    }
}

fn inside(map: &[IdMap], id: u32) -> u32 {
    if map.is_empty() {
        return id;
    }
    map.iter()
        .find_map(|line| {
            let offset = id.checked_sub(line.outside).filter(|offset| *offset < line.count)?;
            line.inside.checked_add(offset)
        })
        .unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_from_one_map_to_another() {
        let line = |inside, outside, count| IdMap { inside, outside, count };
        let store = [line(0, 1000, 1), line(1, 100_000, 65_536)];
        assert_eq!(Shift::between(&store, &store), [line(0, 0, 1), line(1, 1, 65_536)]);
        // One that runs as the caller: what is its own is root's in the layer.
        let me = [line(1000, 1000, 1)];
        assert_eq!(Shift::between(&me, &store), [line(0, 1000, 1)]);
        assert_eq!(Shift::between(&[line(0, 100_010, 5)], &store), [line(11, 0, 5)]);
        assert_eq!(Shift::between(&[line(0, 7, 5)], &store), []);
    }

    #[test]
    fn ids_are_turned_back() {
        let map = [
            IdMap { inside: 0, outside: 1000, count: 1 },
            IdMap { inside: 1, outside: 100_000, count: 65_536 },
        ];
        for (outside, want) in [(1000, 0), (100_000, 1), (165_535, 65_536), (165_536, NOBODY), (0, NOBODY)] {
            assert_eq!(inside(&map, outside), want, "{outside}");
        }
        assert_eq!(inside(&[], 7), 7);
    }
}
