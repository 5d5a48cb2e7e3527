//! Changes of a cube as lines for people. Every path is a cube's own text, and is made printable.

use super::changes::Source;
use crate::model::sanitize::printable_bytes;
use crate::model::{ByteSize, Failure};
use crate::plan::changes::{Aspect, Kind};
use crate::upper::wire::{Fate, Line, Told};

/// How many of each.
#[derive(Debug, Default)]
pub struct Total {
    added: u64,
    changed: u64,
    deleted: u64,
    bytes: u64,
    /// There were more than were looked at.
    pub more: bool,
}

/// More changes than this are not counted.
pub const MOST: u64 = 10_000;

impl Total {
    /// What a cube changed: in its system, and in a project that is held for review.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(source: &Source) -> Result<(Self, Self), Failure> {
        let (mut system, mut project) = (Self::default(), Self::default());
        source.list(false, Vec::new(), MOST, &mut |line| {
            match line {
                Line::Change(told)
                    if source.regions.get(told.region).is_some_and(|region| region.project) =>
                {
                    project.count(&told);
                }
                Line::Change(told) => system.count(&told),
                Line::More => system.more = true,
                _ => {}
            }
            Ok(())
        })?;
        Ok((system, project))
    }

    /// Counts one.
    pub fn count(&mut self, told: &Told) {
        match told.fate {
            Fate::Added => self.added += 1,
            Fate::Changed => self.changed += 1,
            Fate::Deleted => self.deleted += 1,
        }
        if told.fate != Fate::Deleted {
            self.bytes = self.bytes.saturating_add(told.size);
        }
    }

    /// Nothing was counted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added + self.changed + self.deleted == 0
    }

    /// For a person.
    #[must_use]
    pub fn text(&self) -> String {
        if self.is_empty() {
            return "nothing changed".to_owned();
        }
        let more = if self.more { ", and more" } else { "" };
        let size = ByteSize::bytes(self.bytes);
        format!(
            "{} added, {} changed, {} deleted{more}; {size} in them",
            self.added, self.changed, self.deleted
        )
    }
}

/// `M /etc/hosts  content, mode 0644 → 0600  1.2K`.
#[must_use]
pub fn line(source: &Source, told: &Told) -> String {
    let letter = match told.fate {
        Fate::Added => 'A',
        Fate::Changed => 'M',
        Fate::Deleted => 'D',
    };
    let mut text = format!("{letter} {}", printable_bytes(&source.inside(told)));
    if told.kind == Kind::Folder {
        text.push('/');
    }
    let mut notes = Vec::new();
    if let Some(target) = &told.target {
        notes.push(format!("→ {}", printable_bytes(&target.0)));
    }
    if let Some(old) = told.old_kind {
        notes.push(format!("was a {}", old.word()));
    }
    for aspect in &told.aspects {
        match (aspect, told.old_mode) {
            (Aspect::Mode, Some(old)) => notes.push(format!("mode {old:04o} → {:04o}", told.mode)),
            (Aspect::Mode | Aspect::Kind, _) => {}
            (Aspect::Content, _) => notes.push("content".to_owned()),
            (Aspect::Owner, _) => notes.push("owner".to_owned()),
            (Aspect::Attributes, _) => notes.push("attributes".to_owned()),
        }
    }
    if told.fate == Fate::Added && told.mode & 0o6000 != 0 && told.kind == Kind::File {
        notes.push(format!("mode {:04o}", told.mode));
    }
    if !matches!(told.kind, Kind::File | Kind::Folder | Kind::Link) {
        notes.push(told.kind.word().to_owned());
    }
    if told.kind == Kind::File && told.fate != Fate::Deleted {
        notes.push(ByteSize::bytes(told.size).to_string());
    }
    if !notes.is_empty() {
        text.push_str("  ");
        text.push_str(&notes.join(", "));
    }
    text
}
