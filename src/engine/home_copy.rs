//! A machine's home copied for a new machine. The parts that belong to the work that was done on it (`carry`) stay out
//! unless they are asked for, group by group.

use super::Engine;
use crate::model::sanitize::printable_bytes;
use crate::model::{ByteSize, CarryGroup, Failure, Machine, Name};
use crate::store::{homes, machines};
use crate::upper::home::{self, Copied};
use crate::upper::manifest::open_root;

/// A group that the home has something of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub group: String,
    /// How much.
    pub copied: Copied,
    /// One of its places, for a person.
    pub example: String,
}

impl Offer {
    /// `12 files, 3M: .app/projects …`
    #[must_use]
    pub fn text(&self) -> String {
        let files =
            if self.copied.files == 1 { "1 file".to_owned() } else { format!("{} files", self.copied.files) };
        format!("{files}, {}: ~/{} …", ByteSize::bytes(self.copied.bytes), self.example)
    }
}

/// The groups of `machine` of which its home has something.
///
/// # Errors
/// There is no such machine, or its home cannot be read.
pub fn offers(engine: &Engine, machine: &Name) -> Result<Vec<Offer>, Failure> {
    let groups = machines::load(&engine.layout, machine)?.carry_groups();
    let path = engine.layout.home(machine);
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let fail = |error: std::io::Error| unread(machine, &error);
    let from = open_root(&path).map_err(|errno| fail(errno.into()))?;
    let which = |path: &[u8]| groups.iter().position(|group| group.has(path));
    let found = home::measure(&from, groups.len(), &which).map_err(fail)?;
    let offers = groups.iter().zip(found).filter_map(|(group, (copied, first))| {
        let example = printable_bytes(&first?);
        Some(Offer { group: group.name.to_string(), copied, example })
    });
    Ok(offers.collect())
}

fn unread(machine: &Name, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot read the home of `{machine}`")).because(error)
}

/// Finds a copy wanting before anything is made.
///
/// # Errors
/// A group is none of `like`'s, or there is a home of the new name already.
pub(super) fn check(engine: &Engine, like: &Name, new: &Name, carry: &[String]) -> Result<(), Failure> {
    let groups = machines::load(&engine.layout, like)?.carry_groups();
    if let Some(name) = carry.iter().find(|name| !groups.iter().any(|group| group.name.as_str() == **name)) {
        let known: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
        return Err(Failure::usage(format!("the machine `{like}` has no carry group `{name}`"))
            .hint(format!("it has: {}", known.join(", "))));
    }
    homes::refuse_there(&engine.layout.home(new))
}

/// Copies the home of `like` for `new`, with the groups `carry` of what is otherwise left out; what to tell. Nothing is
/// there when it fails.
///
/// # Errors
/// There is a home of that name already, or copying failed.
pub(super) fn copy(engine: &Engine, like: &Machine, new: &Name, carry: &[String]) -> Result<String, Failure> {
    let groups = like.carry_groups();
    let path = engine.layout.home(&like.name);
    if !path.is_dir() {
        return Ok("with a home that is made at its first launch".to_owned());
    }
    let left: Vec<&CarryGroup> =
        groups.iter().filter(|group| !carry.iter().any(|name| group.name.as_str() == name)).collect();
    let from = open_root(&path).map_err(|errno| unread(&like.name, &errno.into()))?;
    let mut copied = Copied::default();
    homes::make_with(&engine.layout, new, &mut |folder| {
        let to = open_root(folder)?;
        copied = home::copy(&from, &to, &|path| left.iter().any(|group| group.has(path)))?;
        Ok(())
    })?;
    let mut told =
        format!("with a copy of the home: {} files, {}", copied.files, ByteSize::bytes(copied.bytes));
    if copied.left > 0 {
        told.push_str(&format!("; {} pipes, sockets or files of other ids stayed out", copied.left));
    }
    Ok(told)
}
