//! The walk itself.

use super::{Change, Entry, Found, Kind, MAX_DEPTH, MAX_PATH, What, aspects, join};

/// An upper and its lowers merged, asked path by path. Paths are relative, the root is empty.
pub trait Trees {
    /// Why something could not be read.
    type Error;

    /// The names in a folder of the upper, with what each is.
    ///
    /// # Errors
    /// It cannot be read.
    fn upper(&mut self, folder: &[u8]) -> Result<Vec<(Vec<u8>, Found)>, Self::Error>;

    /// What the lowers show at a path.
    ///
    /// # Errors
    /// It cannot be read.
    fn lower(&mut self, path: &[u8]) -> Result<Option<Entry>, Self::Error>;

    /// The names that the lowers show in a folder.
    ///
    /// # Errors
    /// It cannot be read.
    fn lower_names(&mut self, folder: &[u8]) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// Whether the file at a path holds the same bytes in the upper and in the lowers.
    ///
    /// # Errors
    /// It cannot be read.
    fn same_content(&mut self, path: &[u8]) -> Result<bool, Self::Error>;
}

/// Who takes the changes.
pub trait Visit<E> {
    /// True when this path and all in it is not looked at: a mount's place, a folder of the kernel's.
    fn skips(&self, path: &[u8]) -> bool;

    /// True when an added folder at this path is the set-up's, made for a mount to be there: it is no change itself.
    fn is_scaffold(&self, path: &[u8]) -> bool;

    /// One change, in the order of paths: a folder before what is in it.
    ///
    /// # Errors
    /// Ends the walk.
    fn change(&mut self, change: Change) -> Result<(), E>;

    /// A folder that is too deep to be walked.
    ///
    /// # Errors
    /// Ends the walk.
    fn too_deep(&mut self, path: &[u8]) -> Result<(), E>;
}

/// A folder that waits to be walked.
struct Folder {
    path: Vec<u8>,
    depth: usize,
    /// There was a folder here before: what is in it is compared.
    compared: bool,
    /// What was in it shows no more, unless the upper holds it again.
    hides: bool,
}

/// Walks an upper and tells every change, in sorted order within each folder.
///
/// # Errors
/// The first thing that cannot be read, or what `visit` answers.
pub fn walk<T: Trees, V: Visit<T::Error>>(trees: &mut T, visit: &mut V) -> Result<(), T::Error> {
    let compared = trees.lower(b"")?.is_some();
    let mut waiting = vec![Folder { path: Vec::new(), depth: 0, compared, hides: false }];
    while let Some(folder) = waiting.pop() {
        let mut found = trees.upper(&folder.path)?;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let mut deeper = Vec::new();
        for (name, found) in found {
            let path = join(&folder.path, &name);
            if visit.skips(&path) {
                continue;
            }
            let old = if folder.compared { trees.lower(&path)? } else { None };
            let Found::Entry { entry, opaque } = found else {
                if let Some(old) = old {
                    visit.change(Change { path, what: What::Deleted(old) })?;
                }
                continue;
            };
            let is_folder = entry.kind == Kind::Folder;
            let compared = is_folder && old.as_ref().is_some_and(|old| old.kind == Kind::Folder);
            report(trees, visit, &path, entry, old)?;
            if !is_folder {
                continue;
            }
            if folder.depth + 1 >= MAX_DEPTH || path.len() >= MAX_PATH {
                visit.too_deep(&path)?;
                continue;
            }
            // Nothing of the lowers shows through in what is beneath an opaque folder, marked or not.
            let hides = opaque || folder.hides;
            if compared && hides {
                hidden(trees, visit, &path)?;
            }
            deeper.push(Folder { path, depth: folder.depth + 1, compared, hides });
        }
        // The last one in is the first one out.
        waiting.extend(deeper.into_iter().rev());
    }
    Ok(())
}

fn report<T: Trees, V: Visit<T::Error>>(
    trees: &mut T,
    visit: &mut V,
    path: &[u8],
    new: Entry,
    old: Option<Entry>,
) -> Result<(), T::Error> {
    let Some(old) = old else {
        if new.kind == Kind::Folder && visit.is_scaffold(path) {
            return Ok(());
        }
        return visit.change(Change { path: path.to_vec(), what: What::Added(new) });
    };
    let aspects = aspects(&old, &new, || trees.same_content(path))?;
    if aspects.is_empty() {
        return Ok(());
    }
    visit.change(Change { path: path.to_vec(), what: What::Changed { old, new, aspects } })
}

/// What an opaque folder hides and does not hold itself is deleted.
fn hidden<T: Trees, V: Visit<T::Error>>(trees: &mut T, visit: &mut V, folder: &[u8]) -> Result<(), T::Error> {
    let mut kept: Vec<Vec<u8>> = trees
        .upper(folder)?
        .into_iter()
        .filter(|(_, found)| matches!(found, Found::Entry { .. }))
        .map(|(name, _)| name)
        .collect();
    kept.sort();
    let mut names = trees.lower_names(folder)?;
    names.sort();
    for name in names {
        if kept.binary_search(&name).is_ok() {
            continue;
        }
        let path = join(folder, &name);
        if visit.skips(&path) {
            continue;
        }
        if let Some(old) = trees.lower(&path)? {
            visit.change(Change { path, what: What::Deleted(old) })?;
        }
    }
    Ok(())
}
