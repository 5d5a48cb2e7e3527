//! What of the image store may be deleted: everything that no root reaches. Owns the counting; touches nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::image::Digest;

/// What one image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts {
    /// Its blobs with their sizes: manifest, config, layers.
    pub blobs: BTreeMap<Digest, u64>,
    /// Its unpacked layers.
    pub layers: BTreeSet<Digest>,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Blobs with their sizes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Unpacked layers with their sizes.
    pub layers: BTreeMap<Digest, u64>,
}

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doomed {
    /// Blobs.
    pub blobs: BTreeMap<Digest, u64>,
    /// Unpacked layers.
    pub layers: BTreeMap<Digest, u64>,
}

impl Doomed {
    /// How much that is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blobs.values().chain(self.layers.values()).fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// True when nothing goes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.layers.is_empty()
    }
}

/// What nothing of `kept` needs. `kept` are the images that have a name, run, or belong to a kept cube.
#[must_use]
pub fn collect<'a>(found: &Found, kept: impl IntoIterator<Item = &'a Parts>) -> Doomed {
    let mut doomed = Doomed { blobs: found.blobs.clone(), layers: found.layers.clone() };
    for parts in kept {
        for digest in parts.blobs.keys() {
            doomed.blobs.remove(digest);
        }
        for digest in &parts.layers {
            doomed.layers.remove(digest);
        }
    }
    doomed
}

/// How many bytes each image has, how many of them no other image has, and how many all have together, each blob counted
/// once.
#[must_use]
pub fn sizes(images: &[&Parts]) -> (Vec<(u64, u64)>, u64) {
    let mut users: BTreeMap<&Digest, u32> = BTreeMap::new();
    let mut total = 0_u64;
    for parts in images {
        for (digest, size) in &parts.blobs {
            let count = users.entry(digest).or_default();
            if *count == 0 {
                total = total.saturating_add(*size);
            }
            *count += 1;
        }
    }
    let each = images.iter().map(|parts| {
        parts.blobs.iter().fold((0_u64, 0_u64), |(whole, own), (digest, size)| {
            let alone = if users.get(digest) == Some(&1) { *size } else { 0 };
            (whole.saturating_add(*size), own.saturating_add(alone))
        })
    });
    (each.collect(), total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::new([number; 32])
    }

    fn parts(blobs: &[(u8, u64)], layers: &[u8]) -> Parts {
        Parts {
            blobs: blobs.iter().map(|(number, size)| (digest(*number), *size)).collect(),
            layers: layers.iter().map(|number| digest(*number)).collect(),
        }
    }

    #[test]
    fn what_is_shared_stays_until_the_last_user_goes() {
        let (a, b) = (parts(&[(1, 10), (2, 100)], &[7]), parts(&[(2, 100), (3, 5)], &[7, 8]));
        let found = Found {
            blobs: [1, 2, 3, 4].map(|number| (digest(number), 10)).into(),
            layers: [7, 8, 9].map(|number| (digest(number), 1)).into(),
        };
        let numbers = |doomed: &Doomed| {
            let which = |map: &BTreeMap<Digest, u64>| -> Vec<u8> {
                (0..10).filter(|number| map.contains_key(&digest(*number))).collect()
            };
            (which(&doomed.blobs), which(&doomed.layers))
        };
        for (kept, blobs, layers) in [
            (vec![&a, &b], vec![4], vec![9]),
            (vec![&a], vec![3, 4], vec![8, 9]),
            (vec![&b], vec![1, 4], vec![9]),
            (vec![], vec![1, 2, 3, 4], vec![7, 8, 9]),
        ] {
            assert_eq!(numbers(&collect(&found, kept.iter().copied())), (blobs, layers), "{}", kept.len());
        }
        let doomed = collect(&found, [&a, &b]);
        assert_eq!((doomed.bytes(), doomed.is_empty()), (11, false));
        assert!(collect(&Found::default(), []).is_empty());
        assert_eq!(sizes(&[&a, &b]), (vec![(110, 10), (105, 5)], 115));
        // The same image under two names is no waste.
        assert_eq!(sizes(&[&a, &a]), (vec![(110, 0), (110, 0)], 110));
    }
}
