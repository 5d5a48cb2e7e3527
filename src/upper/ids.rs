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
