//! A second look at an upper whose cube was not held still at the first: what cannot have changed in between is left aside,
//! so that the cube stands still for a moment only.
//!
//! A change of a file's bytes, owner, mode or name sets its ctime, and nobody sets that back. Two things escape it: a folder
//! that was moved brings files along that did not change, so that folders are remembered by their inode; and a page that
//! was written through a mapping may be written again unnoticed, so that files which are mapped are always read again.
//! Paths are remembered by 64 bits each, with a key of this process.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

/// A clock that was set by more than that tells nothing of what happened before what.
const STEP: Duration = Duration::from_secs(1);

/// What is remembered of the first look at a region.
#[derive(Debug, Default)]
pub struct First {
    keys: RandomState,
    /// Inodes of folders.
    folders: HashMap<u64, u64>,
}

impl First {
    pub(super) fn note(&mut self, folder: &[u8], inode: u64) {
        self.folders.insert(self.keys.hash_one(folder), inode);
    }
}

/// A moment, by two clocks: whether one of them was set is seen later.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    wall: SystemTime,
    steady: Instant,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }

    fn is_true(&self, wall: SystemTime, steady: Instant) -> bool {
        let passed = steady.saturating_duration_since(self.steady);
        wall.duration_since(self.wall).is_ok_and(|seen| seen.abs_diff(passed) < STEP)
    }
}

/// What the second look goes by.
#[derive(Debug)]
pub struct Again {
    first: First,
    /// What changed at this time or later is read again, in nanoseconds since 1970; `None`: everything is.
    since_ns: Option<i128>,
    /// Files that are mapped to be written.
    mapped: HashSet<Vec<u8>>,
    clean: RefCell<HashSet<u64>>,
}

impl Again {
    /// After `first`, which began at `begun`; `mapped` are paths of the region.
    #[must_use]
    pub fn after(first: First, since_ns: i128, begun: Moment, mapped: HashSet<Vec<u8>>) -> Self {
        let trusted = begun.is_true(SystemTime::now(), Instant::now());
        Self { first, since_ns: trusted.then_some(since_ns), mapped, clean: RefCell::default() }
    }

    /// True when the folder was there, under this path, at the first look.
    pub(super) fn knows(&self, folder: &[u8], inode: u64) -> bool {
        self.first.folders.get(&self.first.keys.hash_one(folder)) == Some(&inode)
    }

    /// Notes whether what lies at `path`, in a folder that is known, cannot have changed.
    pub(super) fn look(&self, path: &[u8], found: &Stat) -> bool {
        let changed = i128::from(found.st_ctime) * 1_000_000_000 + i128::from(found.st_ctime_nsec);
        // By which of its names a file was mapped is not known.
        let mapped = self.mapped.contains(path) || (!self.mapped.is_empty() && found.st_nlink > 1);
        let clean = self.since_ns.is_some_and(|since| changed < since) && !mapped;
        if clean {
            self.clean.borrow_mut().insert(self.first.keys.hash_one(path));
        }
        clean
    }

    /// True when [`Again::look`] found so.
    #[must_use]
    pub fn is_clean(&self, path: &[u8]) -> bool {
        self.clean.borrow().contains(&self.first.keys.hash_one(path))
    }

    /// Says that `path` was read again: what the first look left there is right now.
    pub(super) fn done(&self, path: &[u8]) {
        self.clean.borrow_mut().insert(self.first.keys.hash_one(path));
    }
}

/// Nanoseconds since 1970, some time ago: a write that was under way then has reached the file's time by now.
#[must_use]
pub fn a_while_ago() -> i128 {
    /// Longer than one write(2) takes.
    const WHILE: i128 = 2_000_000_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(now.as_nanos()).unwrap_or(0) - WHILE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &std::path::Path) -> Stat {
        rustix::fs::lstat(path).expect("stat")
    }

    #[test]
    fn only_what_is_older_and_not_mapped_is_clean() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, "x").expect("write");
        std::fs::write(&b, "x").expect("write");
        std::fs::hard_link(&b, folder.path().join("c")).expect("link");
        let later = a_while_ago() + 3_600_000_000_000;
        let again = |since, mapped: &[&str]| {
            let mapped = mapped.iter().map(|path| path.as_bytes().to_vec()).collect();
            Again::after(First::default(), since, Moment::now(), mapped)
        };
        assert!(again(later, &[]).look(b"a", &stat(&a)));
        assert!(!again(0, &[]).look(b"a", &stat(&a)), "changed since");
        assert!(!again(later, &["a"]).look(b"a", &stat(&a)), "mapped");
        assert!(!again(later, &["a"]).look(b"b", &stat(&b)), "perhaps mapped by another name");
        assert!(again(later, &["a"]).look(b"d", &stat(&folder.path().join("a"))));
        let set = Moment { wall: SystemTime::now() + Duration::from_secs(60), steady: Instant::now() };
        let again = Again::after(First::default(), later, set, HashSet::new());
        assert!(!again.look(b"a", &stat(&a)), "the clock was set back");
    }

    #[test]
    fn a_folder_is_known_by_its_inode() {
        let mut first = First::default();
        first.note(b"a", 7);
        let again = Again::after(first, 0, Moment::now(), HashSet::new());
        assert!(again.knows(b"a", 7));
        assert!(!again.knows(b"a", 8) && !again.knows(b"b", 7));
    }
}
