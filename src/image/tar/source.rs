//! A file that becomes a member: its attributes, where it has contents, and those.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{SeekFrom, Stat, fgetxattr, flistxattr, seek};
use rustix::io::{Errno, pread};

use super::{Member, Piece};

/// Extended attributes, sorted by name.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// A file with fewer bytes in holes is packed whole.
const WORTH_IT: u64 = 64 << 10;
/// More pieces than that are not worth a map.
const PIECES_MAX: usize = 100_000;

/// All attributes of a file.
///
/// # Errors
/// As flistxattr(2) and fgetxattr(2).
pub fn attributes(file: &OwnedFd) -> rustix::io::Result<Attributes> {
    // Most files have none, and one call tells.
    match flistxattr(file, &mut [0; 0]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error),
    }
    let mut names = vec![0; 64 << 10];
    let count = flistxattr(file, &mut names)?;
    let mut found = Vec::new();
    for name in names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        match fgetxattr(file, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            // Gone meanwhile, or not for us to read.
            Err(Errno::NODATA | Errno::PERM | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

/// Those that go into an archive.
#[must_use]
pub fn kept(attributes: &Attributes) -> Attributes {
    let inner = [&b"user.overlay."[..], b"user.tripmine."];
    attributes
        .iter()
        .filter(|(key, _)| {
            (key.starts_with(b"user.") && !inner.iter().any(|prefix| key.starts_with(prefix)))
                || key == b"security.capability"
                || key.starts_with(b"system.posix_acl_")
        })
        .map(|(key, value)| {
            (key.clone(), if key == b"security.capability" { plain_capability(value) } else { value.clone() })
        })
        .collect()
}

/// `UID:GID`, as unpacking notes it where all files are the caller's.
#[must_use]
pub fn noted_owner(text: &[u8]) -> Option<(u64, u64)> {
    let (uid, gid) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some((u64::from(uid.parse::<u32>().ok()?), u64::from(gid.parse::<u32>().ok()?)))
}

/// Capabilities of a user namespace (version 3, with its root's id) as those of a host (version 2): struct
/// vfs_ns_cap_data of linux/capability.h.
fn plain_capability(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() == 24 && value[3] == 3 {
        value.truncate(20);
        value[3] = 2;
    }
    value
}

/// Where a sparse file has contents; `None` when it is not worth a map.
///
/// # Errors
/// As lseek(2).
pub fn pieces(file: &OwnedFd, found: &Stat) -> rustix::io::Result<Option<Vec<Piece>>> {
    let size = u64::try_from(found.st_size).unwrap_or(0);
    let there = u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512);
    if size < there.saturating_add(WORTH_IT) {
        return Ok(None);
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole behind it.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= end {
            break;
        }
        pieces.push((start, end - start));
        if pieces.len() > PIECES_MAX {
            return Ok(None);
        }
        at = end;
    }
    if pieces.last().is_none_or(|(start, length)| start + length < size) {
        // GNU tar marks the end so.
        pieces.push((size, 0));
    }
    Ok(Some(pieces))
}

/// The contents of a file, piece by piece.
#[derive(Debug)]
pub struct Contents<'a> {
    file: &'a OwnedFd,
    pieces: std::vec::IntoIter<Piece>,
    current: Piece,
}

impl<'a> Contents<'a> {
    /// Those that `member` tells of.
    #[must_use]
    pub fn new(file: &'a OwnedFd, member: &Member) -> Self {
        let pieces = member.pieces.clone().unwrap_or_else(|| vec![(0, member.size)]);
        Self { file, pieces: pieces.into_iter(), current: (0, 0) }
    }
}

impl Read for Contents<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.1 == 0 {
            match self.pieces.next() {
                Some(next) => self.current = next,
                None => return Ok(0),
            }
        }
        let most = usize::try_from(self.current.1).unwrap_or(usize::MAX).min(into.len());
        let count = pread(self.file, &mut into[..most], self.current.0)?;
        self.current = (self.current.0 + count as u64, self.current.1 - count as u64);
        Ok(count)
    }
}
