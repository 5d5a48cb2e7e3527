//! Which cube a person means.
//!
//! Owns the order in which a word is tried. Refuses to guess: several candidates are all returned.

use std::path::Path;

use super::{CubeEntry, CubeError, list};

/// What a word names.
#[derive(Debug)]
pub enum Found {
    /// Exactly one cube.
    One(Box<CubeEntry>),
    /// None.
    None,
    /// Several, newest first: let the person choose.
    Many(Vec<CubeEntry>),
}

/// Finds the cube that `reference` names: a whole id or the tail that lists show, the name of a
/// durable cube, or, alike, the start of an id or of its tail and a project with a live cube. The
/// first of these that names anything decides.
///
/// # Errors
/// When the cubes cannot be listed.
pub fn find(mines: &Path, reference: &str) -> Result<Found, CubeError> {
    Ok(choose(list(mines)?, reference))
}

/// As [`find`], among `entries`.
#[must_use]
pub fn choose(mut entries: Vec<CubeEntry>, reference: &str) -> Found {
    type Test = fn(&CubeEntry, &str) -> bool;
    // The start of an id and a project's name may be the same word: to guess would stop or delete the wrong cube.
    const TESTS: [Test; 3] = [
        |entry, word| entry.id.as_str() == word || entry.id.short() == word,
        |entry, word| {
            entry.record.as_ref().is_ok_and(|r| r.name.as_ref().is_some_and(|name| name.as_str() == word))
        },
        |entry, word| {
            let project =
                || entry.record.as_ref().is_ok_and(|record| record.project.as_deref() == Some(word));
            entry.id.matches(word) || (entry.live && project())
        },
    ];
    if reference.is_empty() {
        return Found::None;
    }
    for test in TESTS {
        if entries.iter().any(|entry| test(entry, reference)) {
            entries.retain(|entry| test(entry, reference));
            // A project's cube that is over, whose keeper still clears up, is not meant beside one that runs.
            let is_past = |entry: &CubeEntry| {
                !entry.id.matches(reference)
                    && entry.record.as_ref().is_ok_and(|record| record.state.is_over())
            };
            if !entries.iter().all(is_past) {
                entries.retain(|entry| !is_past(entry));
            }
            entries.sort_by(|a, b| b.id.cmp(&a.id));
            return match entries.pop() {
                Some(only) if entries.is_empty() => Found::One(Box::new(only)),
                Some(last) => {
                    entries.push(last);
                    Found::Many(entries)
                }
                None => Found::None,
            };
        }
    }
    Found::None
}
