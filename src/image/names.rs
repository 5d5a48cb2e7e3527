//! Names and their history: index.json, read by everybody, changed under one lock.
//!
//! Owns which entry is a name's newest generation. Refuses to lose one: giving a name to another image makes the old one
//! `NAME@N`, and only removing takes an entry away.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use crate::model::image::document::{INDEX_MAX, REF_NAME, media};
use crate::model::image::{Descriptor, Digest, ImageTarget, Index};
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind, ImageRef};
use crate::store::atomic::write_atomic;
use crate::store::fail::cannot;
use crate::store::lock;

use super::store::{INDEX, Store};

/// The number of a name's generation.
pub const GENERATION: &str = "dev.tripmine.generation";
/// When the entry was made, milliseconds since 1970.
pub const STORED: &str = "dev.tripmine.stored";
/// Where it came from, for a person.
pub const SOURCE: &str = "dev.tripmine.source";

/// An entry of the store: one generation of a name, or an image without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; `None`: only its digest names it.
    pub name: Option<String>,
    /// Which generation of the name, from 1.
    pub generation: u32,
    /// The newest generation of its name.
    pub newest: bool,
    /// The manifest.
    pub descriptor: Descriptor,
}

impl Entry {
    /// As it is typed: `dev`, `dev@1`, or the digest.
    #[must_use]
    pub fn reference(&self) -> String {
        match &self.name {
            Some(name) if self.newest => name.clone(),
            Some(name) => format!("{name}@{}", self.generation),
            None => self.descriptor.digest.to_string(),
        }
    }

    /// When it was stored, milliseconds since 1970.
    #[must_use]
    pub fn stored_ms(&self) -> Option<u64> {
        self.descriptor.annotations.get(STORED)?.parse().ok()
    }

    /// Where it came from.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.descriptor.annotations.get(SOURCE).map(String::as_str)
    }

    fn of(descriptor: Descriptor) -> Self {
        let number = descriptor.annotations.get(GENERATION).and_then(|number| number.parse().ok());
        let stands = descriptor.ref_name().map(str::to_owned);
        let (name, newest) = match (&stands, number) {
            (Some(stands), Some(number)) => match stands.strip_suffix(&format!("@{number}")) {
                Some(name) => (Some(name.to_owned()), false),
                None => (Some(stands.clone()), true),
            },
            (Some(stands), None) => (Some(stands.clone()), true),
            (None, _) => (None, false),
        };
        Self { name, generation: number.unwrap_or(1), newest, descriptor }
    }

    fn into_descriptor(mut self) -> Descriptor {
        if self.name.is_some() {
            let reference = self.reference();
            self.descriptor.annotations.insert(REF_NAME.to_owned(), reference);
            self.descriptor.annotations.insert(GENERATION.to_owned(), self.generation.to_string());
        }
        self.descriptor
    }
}

/// Gives `name` to a manifest among `entries`. True when something changed.
fn give(entries: &mut Vec<Entry>, name: Option<&str>, descriptor: Descriptor) -> bool {
    let Some(name) = name else {
        if entries.iter().any(|entry| entry.descriptor.digest == descriptor.digest) {
            return false;
        }
        entries.push(Entry { name: None, generation: 1, newest: false, descriptor });
        return true;
    };
    let mut generation = 0;
    for entry in entries.iter_mut().filter(|entry| entry.name.as_deref() == Some(name)) {
        if entry.newest && entry.descriptor.digest == descriptor.digest {
            return false;
        }
        generation = generation.max(entry.generation);
        entry.newest = false;
    }
    // Its digest alone need not be listed any more.
    entries.retain(|entry| entry.name.is_some() || entry.descriptor.digest != descriptor.digest);
    entries.push(Entry { name: Some(name.to_owned()), generation: generation + 1, newest: true, descriptor });
    true
}

/// Takes entries away; the newest generation that is left of a name is its newest.
fn take(entries: &mut Vec<Entry>, which: &dyn Fn(&Entry) -> bool) -> Vec<Entry> {
    let (gone, left): (Vec<_>, Vec<_>) = std::mem::take(entries).into_iter().partition(|entry| which(entry));
    *entries = left;
    let mut highest: BTreeMap<String, u32> = BTreeMap::new();
    for entry in entries.iter() {
        if let Some(name) = &entry.name {
            let slot = highest.entry(name.clone()).or_default();
            *slot = entry.generation.max(*slot);
        }
    }
    for entry in entries.iter_mut() {
        entry.newest = entry.name.as_ref().is_some_and(|name| highest.get(name) == Some(&entry.generation));
    }
    gone
}

/// The entries that a reference names, newest first: one, unless a short digest is not enough.
fn matching<'a>(entries: &'a [Entry], target: &ImageTarget) -> Vec<&'a Entry> {
    let named = |name: &str, generation: Option<u32>| -> Vec<&'a Entry> {
        let is_it = |entry: &&Entry| {
            entry.name.as_deref() == Some(name)
                && generation.map_or(entry.newest, |generation| entry.generation == generation)
        };
        entries.iter().filter(is_it).collect()
    };
    let mut found: Vec<&Entry> = match target {
        ImageTarget::Name { name, generation } => named(name, *generation),
        ImageTarget::Digest(digest) => {
            entries.iter().filter(|entry| entry.descriptor.digest == *digest).collect()
        }
        ImageTarget::Short(start) => {
            let mut found = named(start, None);
            if found.is_empty() {
                found =
                    entries.iter().filter(|entry| entry.descriptor.digest.hex().starts_with(start)).collect();
            }
            found
        }
    };
    found.sort_by_key(|entry| std::cmp::Reverse((entry.newest, entry.generation)));
    let mut seen: Vec<Digest> = Vec::new();
    found.retain(|entry| {
        let new = !seen.contains(&entry.descriptor.digest);
        seen.push(entry.descriptor.digest);
        new
    });
    found
}

impl Store {
    /// index.json as it is; an empty one when there is no store yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn index(&self) -> Result<Index, Failure> {
        let path = self.index_file();
        match std::fs::read(&path) {
            Ok(bytes) => Index::parse(&bytes).map_err(|error| {
                Failure::failed(format!("the list of images cannot be read: {}", path.display()))
                    .because(&error)
                    .hint("put it aside; `tripmine image check` finds what it named in blobs/")
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(cannot("read", &path, error)),
        }
    }

    /// Every entry, in the order in which they were stored.
    ///
    /// # Errors
    /// index.json cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, Failure> {
        Ok(self.index()?.manifests.into_iter().map(Entry::of).collect())
    }

    /// The entry that a reference names.
    ///
    /// # Errors
    /// None, or several; `host`, which is not stored.
    pub fn find(&self, reference: &ImageRef) -> Result<Entry, Failure> {
        let Some(target) = reference.target() else {
            return Err(Failure::usage(
                "`host` is built in: it is this host's own system and lies in no store",
            ));
        };
        let entries = self.entries()?;
        let found = matching(&entries, &target);
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(missing(reference, &target, &entries)),
            several => {
                let mut failure =
                    Failure::usage(format!("`{reference}` is the start of {} images", several.len()));
                for entry in several.iter().take(8) {
                    failure = failure.hint(format!("{}  {}", entry.descriptor.digest, entry.reference()));
                }
                Err(failure)
            }
        }
    }

    /// Gives `name` to a stored manifest; what it named before stays as `NAME@N`.
    ///
    /// # Errors
    /// index.json cannot be read or written.
    pub fn name(&self, name: Option<&str>, descriptor: &Descriptor) -> Result<Entry, Failure> {
        let mut plain = descriptor.clone();
        plain.annotations.remove(REF_NAME);
        plain.annotations.remove(GENERATION);
        plain.annotations.insert(STORED.to_owned(), now_ms().to_string());
        let digest = plain.digest;
        let entries = self.change(|entries| give(entries, name, plain))?;
        let is_it = |entry: &&Entry| {
            entry.descriptor.digest == digest
                && name.is_none_or(|name| entry.newest && entry.name.as_deref() == Some(name))
        };
        entries.iter().find(is_it).cloned().ok_or_else(|| Failure::failed("the image was not listed"))
    }

    /// Takes entries out of the list; their blobs are collected later. Gives what was taken.
    ///
    /// # Errors
    /// index.json cannot be read or written.
    pub fn forget(&self, which: &dyn Fn(&Entry) -> bool) -> Result<Vec<Entry>, Failure> {
        let mut gone = Vec::new();
        self.change(|entries| {
            gone = take(entries, which);
            !gone.is_empty()
        })?;
        Ok(gone)
    }

    fn change(&self, act: impl FnOnce(&mut Vec<Entry>) -> bool) -> Result<Vec<Entry>, Failure> {
        self.ensure()?;
        let _alone = lock::exclusive(&self.layout, INDEX)?;
        let mut index = self.index()?;
        let mut entries: Vec<Entry> = index.manifests.into_iter().map(Entry::of).collect();
        if act(&mut entries) {
            index.manifests = entries.iter().cloned().map(Entry::into_descriptor).collect();
            self.write_index(&index)?;
        }
        Ok(entries)
    }

    pub(super) fn write_index(&self, index: &Index) -> Result<(), Failure> {
        let path = self.index_file();
        let mut index = index.clone();
        index.media_type = Some(media::INDEX.to_owned());
        write_atomic(&path, &index.to_bytes(), 0o644).map_err(|error| cannot("write", &path, error))
    }
}

fn missing(reference: &ImageRef, target: &ImageTarget, entries: &[Entry]) -> Failure {
    let mut failure = Failure::new(
        FailureKind::Missing,
        format!("there is no image `{}`", printable(&reference.to_string())),
    );
    if let ImageTarget::Name { name, generation: Some(_) } = target {
        let numbers: Vec<String> = entries
            .iter()
            .filter(|entry| entry.name.as_ref() == Some(name))
            .map(|entry| entry.generation.to_string())
            .collect();
        if !numbers.is_empty() {
            return failure.hint(format!("generations of `{name}`: {}", numbers.join(", ")));
        }
    }
    if let ImageTarget::Name { name, .. } = target {
        let near = entries
            .iter()
            .filter_map(|entry| entry.name.as_deref())
            .map(|other| (strsim::damerau_levenshtein(name, other), other))
            .filter(|(distance, _)| *distance <= 2)
            .min();
        if let Some((_, near)) = near {
            failure = failure.hint(format!("did you mean `{near}`?"));
        }
    }
    failure.hint("`tripmine image list` shows the images; `tripmine image pull` and `import` bring one")
}

pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// No more names than an index of ours may have.
pub(super) fn check_room(index: &Index) -> Result<(), Failure> {
    if index.manifests.len() >= 16 * INDEX_MAX {
        return Err(Failure::failed("the store has too many images").hint("`tripmine image rm` makes room"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(number: u8) -> Descriptor {
        Descriptor::new(media::MANIFEST, Digest::new([number; 32]), 10)
    }

    fn found(store: &Store, text: &str) -> Option<u8> {
        let entry = store.find(&ImageRef::parse(text).expect(text)).ok()?;
        Some((1..=9).find(|number| Digest::new([*number; 32]) == entry.descriptor.digest).unwrap_or(0))
    }

    #[test]
    fn names_have_a_history() {
        let folder = tempfile::tempdir().expect("tempdir");
        let store = Store::for_tests(folder.path());
        assert_eq!(found(&store, "dev"), None);
        for number in [1, 2, 2, 3] {
            store.name(Some("dev"), &descriptor(number)).expect("named");
        }
        store.name(None, &descriptor(4)).expect("listed");
        store.name(None, &descriptor(1)).expect("listed already");
        let list: Vec<_> = store.entries().expect("list").iter().map(Entry::reference).collect();
        assert_eq!(list, ["dev@1", "dev@2", "dev", &Digest::new([4; 32]).to_string()]);
        for (text, number) in [
            ("dev", Some(3)),
            ("dev:latest", Some(3)),
            ("docker.io/library/dev", Some(3)),
            ("dev@1", Some(1)),
            ("dev@3", Some(3)),
            ("dev@4", None),
            ("040404", Some(4)),
            ("sha256:0202", Some(2)),
            (&Digest::new([1; 32]).to_string(), Some(1)),
            ("host", None),
        ] {
            assert_eq!(found(&store, text), number, "{text}");
        }
        // Other tools see the newest under its plain name, and only that.
        let index = store.index().expect("index");
        assert_eq!(index.manifests.iter().filter(|entry| entry.ref_name() == Some("dev")).count(), 1);
        // The newest goes: the one before it is the newest again, and numbers are not used twice meanwhile.
        store.forget(&|entry| entry.generation == 3).expect("forgotten");
        assert_eq!((found(&store, "dev"), found(&store, "dev@2")), (Some(2), Some(2)));
        let hint = store.find(&ImageRef::parse("dve").expect("good")).expect_err("none").hints.join(" ");
        assert!(hint.contains("did you mean `dev`"), "{hint}");
    }

    #[test]
    fn a_foreign_index_is_read_and_a_broken_one_named() {
        let folder = tempfile::tempdir().expect("tempdir");
        let store = Store::for_tests(folder.path());
        store.ensure().expect("made");
        let mut foreign = descriptor(5);
        foreign.annotations.insert(REF_NAME.to_owned(), "theirs".to_owned());
        store.write_index(&Index { manifests: vec![foreign], ..Index::default() }).expect("written");
        assert_eq!((found(&store, "theirs"), found(&store, "theirs@1")), (Some(5), Some(5)));
        store.name(Some("theirs"), &descriptor(6)).expect("named");
        assert_eq!((found(&store, "theirs"), found(&store, "theirs@1")), (Some(6), Some(5)));
        std::fs::write(store.index_file(), "{").expect("broken");
        assert!(store.entries().expect_err("broken").message.contains("list of images"));
    }
}
