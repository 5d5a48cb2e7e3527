//! What of a layer looks like a secret: found in a finished copy, or beside the packing, by a thread of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::FileType;

use super::layer::say;
use super::meta::open_file;
use super::read::ReadError;
use super::wire::{Bytes, Line};
use crate::plan::leaks;

/// Tells which files of a finished copy look like secrets. After the cube goes on: looking takes longer than copying.
///
/// # Errors
/// One line.
pub fn scan(target: &OwnedFd, out: &mut dyn Write) -> Result<(), String> {
    let mut head = Vec::new();
    let looked = super::manifest::each(target.as_fd(), b"", &mut |path, stat| {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
            return Ok(());
        }
        head.clear();
        let file: File = open_file(target.as_fd(), path)?;
        file.take(leaks::LOOKED_AT as u64).read_to_end(&mut head)?;
        match secret(path, &head) {
            Some(what) => tell(path, what, out).map_err(std::io::Error::other),
            None => Ok(()),
        }
    });
    looked.map_err(|error| format!("cannot look for secrets: {error}"))
}

fn tell(inside: &[u8], what: &str, out: &mut dyn Write) -> Result<(), ReadError> {
    say(out, &Line::Secret { path: Bytes(inside.to_vec()), what: what.to_owned() })
}

/// What a file looks like by its path inside and its beginning.
fn secret(inside: &[u8], head: &[u8]) -> Option<&'static str> {
    let named = leaks::by_name(&[b"/", inside].concat()).filter(|what| !leaks::is_empty_of(what, head));
    named.or_else(|| leaks::by_content(head))
}

/// Beginnings of files that wait to be looked at.
const WAITING: usize = 8;
/// More of them than that are not told one by one.
const TOLD: usize = 10_000;

type Found = Vec<(Vec<u8>, &'static str)>;

/// A thread that looks while others read and write.
#[derive(Debug)]
pub(super) struct Looking {
    heads: SyncSender<(Vec<u8>, Vec<u8>)>,
    thread: JoinHandle<Found>,
}

impl Looking {
    pub(super) fn start() -> Result<Self, String> {
        let (heads, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("secrets".to_owned()).spawn(move || look(&waiting));
        Ok(Self { heads, thread: thread.map_err(|error| format!("cannot start a thread: {error}"))? })
    }

    /// Hands a file over: its path inside and its beginning.
    pub(super) fn take(&self, inside: &[u8], head: Vec<u8>) -> Result<(), ReadError> {
        let gone = |_| ReadError::Other("looking for secrets was broken off".to_owned());
        self.heads.send((inside.to_vec(), head)).map_err(gone)
    }

    /// Waits until all is looked at, and tells.
    pub(super) fn finish(self, out: &mut dyn Write) -> Result<(), ReadError> {
        drop(self.heads);
        let gone = |_| ReadError::Other("looking for secrets was broken off".to_owned());
        for (inside, what) in self.thread.join().map_err(gone)? {
            tell(&inside, what, out)?;
        }
        Ok(())
    }
}

fn look(waiting: &Receiver<(Vec<u8>, Vec<u8>)>) -> Found {
    let mut found = Vec::new();
    for (inside, head) in waiting {
        if found.len() < TOLD
            && let Some(what) = secret(&inside, &head)
        {
            found.push((inside, what));
        }
    }
    found
}
