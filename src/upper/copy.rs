//! A layer made of a cube's changes: its uppers, without what did not change, in the form that overlayfs reads.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom as KernelSeek, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, ioctl_ficlone, linkat, mkdirat, mknodat, openat2, setxattr, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::helper::{is_scaffold, open_region, skips};
use super::meta::{BENEATH, open_file, open_folder};
use super::read::{ReadError, RegionReader};
use super::wire::{Bytes, Line};
use crate::model::sanitize::printable_bytes;
use crate::plan::changes::{Change, Entry, Found, Kind, Region, Trees, Visit, What, join, walk, within};
use crate::plan::leaks;

/// How many of the largest files are told.
const LARGEST: usize = 20;
/// How many files with several names are told apart; more are copied once for each name.
const LINKS: usize = 1 << 20;

/// Copies the changes of `regions` into `target`, each at its place, and tells what stays out.
///
/// # Errors
/// One line: what could not be read or written. What was written until then stays in `target`.
pub fn copy(
    regions: &[Region],
    store: Option<&OwnedFd>,
    target: &OwnedFd,
    leave_out: &[Bytes],
    ids: &super::ids::Shift,
    out: &mut impl Write,
) -> Result<(), String> {
    let mut totals = Totals::default();
    for region in regions {
        let mut reader = open_region(region, store, ids)?;
        // The walk holds one reader; files are opened by the other.
        let files = open_region(region, store, ids)?;
        let mut copier = Copier {
            region,
            target,
            leave_out,
            files,
            out,
            totals: &mut totals,
            links: HashMap::new(),
            made: Vec::new(),
        };
        walk(&mut reader, &mut copier).map_err(|error| error.to_string())?;
        copier.finish().map_err(|error| error.to_string())?;
    }
    let mut largest: Vec<_> = totals.largest.drain().collect();
    largest.sort();
    for Reverse((size, path)) in largest {
        say(out, &Line::Large { path: Bytes(path), size }).map_err(|error| error.to_string())?;
    }
    let line = Line::Copied { entries: totals.entries, bytes: totals.bytes };
    say(out, &line).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Totals {
    entries: u64,
    bytes: u64,
    /// The smallest of them on top.
    largest: BinaryHeap<Reverse<(u64, Vec<u8>)>>,
}

struct Copier<'a, W: Write> {
    region: &'a Region,
    target: &'a OwnedFd,
    leave_out: &'a [Bytes],
    files: RegionReader,
    out: &'a mut W,
    totals: &'a mut Totals,
    /// Files with several names: where the first of them is.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The folder whose ancestors are known to exist.
    made: Vec<u8>,
}

fn other(error: &dyn std::error::Error) -> ReadError {
    ReadError::Other(error.to_string())
}

fn say(out: &mut impl Write, line: &Line) -> Result<(), ReadError> {
    serde_json::to_writer(&mut *out, line).map_err(|error| other(&error))?;
    out.write_all(b"\n").map_err(|error| other(&error))
}

impl<W: Write> Visit<ReadError> for Copier<'_, W> {
    fn skips(&self, path: &[u8]) -> bool {
        let inside = self.inside(path);
        skips(self.region, path) || self.leave_out.iter().any(|place| within(&inside, &place.0))
    }

    fn is_scaffold(&self, path: &[u8]) -> bool {
        is_scaffold(self.region, path)
    }

    fn change(&mut self, change: Change) -> Result<(), ReadError> {
        let inside = self.inside(&change.path);
        let failed = |error: Errno| {
            ReadError::Other(format!("cannot write `{}` into the layer: {error}", printable_bytes(&inside)))
        };
        let entry = match change.what {
            What::Deleted(_) => {
                self.parents(&inside)?;
                self.totals.entries += 1;
                return self.whiteout(&inside).map_err(failed);
            }
            What::Added(entry) | What::Changed { new: entry, .. } => entry,
        };
        if matches!(entry.kind, Kind::Socket | Kind::Device) {
            let why = format!("a {} is nothing that an image holds", entry.kind.word());
            return say(self.out, &Line::LeftOut { path: Bytes(inside), why });
        }
        self.parents(&inside)?;
        self.totals.entries += 1;
        self.totals.bytes += entry.size;
        if entry.kind == Kind::File {
            self.totals.largest.push(Reverse((entry.size, inside.clone())));
            if self.totals.largest.len() > LARGEST {
                self.totals.largest.pop();
            }
        }
        self.place(&change.path, &inside, &entry)
    }

    fn too_deep(&mut self, path: &[u8]) -> Result<(), ReadError> {
        Err(ReadError::Other(format!(
            "the folder `{}` is too deep for an image",
            printable_bytes(&path[..path.len().min(200)])
        )))
    }
}

impl<W: Write> Copier<'_, W> {
    fn inside(&self, path: &[u8]) -> Vec<u8> {
        join(self.region.prefix.as_bytes(), path)
    }

    /// The folder of `inside` and those above, as they are in the upper, or else in the lowers.
    fn parents(&mut self, inside: &[u8]) -> Result<(), ReadError> {
        let Some(at) = inside.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
        let parent = inside[..at].to_vec();
        if self.made == parent {
            return Ok(());
        }
        let ends: Vec<usize> =
            (0..parent.len()).filter(|at| parent[*at] == b'/').chain([parent.len()]).collect();
        for end in ends {
            let place = &parent[..end];
            let (folder, name) = self.split(place)?;
            match mkdirat(&folder, name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => {
                    return Err(ReadError::Other(format!("cannot make a folder in the layer: {errno}")));
                }
            }
            // Above the region's own root there is nothing of its own to take over.
            let prefix = self.region.prefix.as_bytes();
            let entry = match place.strip_prefix(prefix).map(|rest| rest.strip_prefix(b"/").unwrap_or(rest)) {
                Some(path) if place.len() > prefix.len() => match self.files.new_entry(path)? {
                    Some(Found::Entry { entry, .. }) => Some(entry),
                    _ => self.files.lower(path)?,
                },
                _ => None,
            };
            match entry {
                Some(entry) => self.attributes(place, &entry)?,
                None => chmodat(&folder, name, Mode::from(0o755), AtFlags::empty()).map_err(|e| other(&e))?,
            }
        }
        self.made = parent;
        Ok(())
    }

    /// The folder in the target that holds `place`, and its last name.
    fn split<'p>(&self, place: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), ReadError> {
        let (folder, name) = match place.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&place[..at], &place[at + 1..]),
            None => (&b""[..], place),
        };
        let open = open_folder(self.target.as_fd(), folder).map_err(|error| other(&error))?;
        Ok((open, name))
    }

    fn whiteout(&self, inside: &[u8]) -> Result<(), Errno> {
        let (folder, name) = self.split(inside).map_err(|_| Errno::NOENT)?;
        match mknodat(&folder, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => Ok(()),
            result => result,
        }
    }

    fn place(&mut self, path: &[u8], inside: &[u8], entry: &Entry) -> Result<(), ReadError> {
        let failed = |error: Errno| {
            ReadError::Other(format!("cannot write `{}` into the layer: {error}", printable_bytes(inside)))
        };
        let (folder, name) = self.split(inside)?;
        if let Some(first) = entry.hard_link.and_then(|key| self.links.get(&key)) {
            let (from, first) = self.split(first)?;
            return linkat(&from, first, &folder, name, AtFlags::empty()).map_err(failed);
        }
        match entry.kind {
            Kind::File => {
                let source = match self.files.new_file(path) {
                    Ok(source) => source,
                    Err(ReadError::Path { errno: Errno::NOENT, .. }) => return Ok(()),
                    Err(error) => return Err(error),
                };
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let made = openat2(&folder, name, flags, Mode::RUSR | Mode::WUSR, BENEATH).map_err(failed)?;
                contents(&source, &File::from(made), entry.size, entry.allocated)
                    .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
            }
            Kind::Folder => match mkdirat(&folder, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            },
            Kind::Link => {
                let target = entry.target.as_deref().unwrap_or_default();
                symlinkat(target, &folder, name).map_err(failed)?;
            }
            Kind::Pipe => mknodat(&folder, name, FileType::Fifo, Mode::RUSR, 0).map_err(failed)?,
            Kind::Socket | Kind::Device => return Ok(()),
        }
        if let Some(key) = entry.hard_link
            && self.links.len() < LINKS
        {
            self.links.insert(key, inside.to_vec());
        }
        self.attributes(inside, entry)
    }

    /// Owner, permissions, attributes and times, in this order: a change of owner takes set-id bits and capabilities away.
    fn attributes(&mut self, inside: &[u8], entry: &Entry) -> Result<(), ReadError> {
        let (folder, name) = self.split(inside)?;
        let failed = |error: Errno| {
            ReadError::Other(format!(
                "cannot set the owner or mode of `{}`: {error}",
                printable_bytes(inside)
            ))
        };
        let owner = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        chownat(&folder, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if entry.kind != Kind::Link {
            chmodat(&folder, name, Mode::from(entry.mode), AtFlags::empty()).map_err(failed)?;
            if !entry.xattrs.is_empty() {
                let fd = openat2(
                    &folder,
                    name,
                    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                    BENEATH,
                )
                .map_err(failed)?;
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                for (key, value) in &entry.xattrs {
                    if let Err(errno) = setxattr(&path, key.as_slice(), value, XattrFlags::empty()) {
                        let why = format!("its attribute `{}` cannot be kept: {errno}", printable_bytes(key));
                        say(self.out, &Line::LeftOut { path: Bytes(inside.to_vec()), why })?;
                    }
                }
            }
        }
        utimensat(&folder, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Folders were written into since they were made: their times are set again. Those that only held mounts go.
    fn finish(&mut self) -> Result<(), ReadError> {
        let mut waiting = vec![self.region.prefix.as_bytes().to_vec()];
        let mut empty = Vec::new();
        while let Some(place) = waiting.pop() {
            let open = match open_folder(self.target.as_fd(), &place) {
                Ok(open) => open,
                // Nothing changed here.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(other(&errno)),
            };
            let mut names = 0;
            for entry in Dir::read_from(&open).map_err(|e| other(&e))? {
                let entry = entry.map_err(|e| other(&e))?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                names += 1;
                if entry.file_type() == FileType::Directory {
                    waiting.push(join(&place, name));
                }
            }
            let prefix = self.region.prefix.len();
            let path =
                place.get(prefix..).map(|rest| rest.strip_prefix(b"/").unwrap_or(rest)).unwrap_or_default();
            if path.is_empty() {
                continue;
            }
            if names == 0 && is_scaffold(self.region, path) {
                empty.push(place);
            } else if let Some(Found::Entry { entry, .. }) = self.files.new_entry(path)? {
                let (folder, name) = self.split(&place)?;
                utimensat(&folder, name, &times(&entry), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| other(&e))?;
            }
        }
        for place in empty.into_iter().rev() {
            let (folder, name) = self.split(&place)?;
            // One that is needed after all is not empty.
            let _kept = unlinkat(&folder, name, AtFlags::REMOVEDIR);
        }
        Ok(())
    }
}

fn times(entry: &Entry) -> Timestamps {
    const SECOND: i128 = 1_000_000_000;
    let time = Timespec {
        tv_sec: i64::try_from(entry.mtime_ns.div_euclid(SECOND)).unwrap_or(0),
        tv_nsec: i64::try_from(entry.mtime_ns.rem_euclid(SECOND)).unwrap_or(0),
    };
    Timestamps { last_access: time, last_modification: time }
}

/// Tells which files of a finished copy look like secrets. After the cube goes on: looking takes longer than copying.
///
/// # Errors
/// One line.
pub fn scan(target: &OwnedFd, out: &mut impl Write) -> Result<(), String> {
    let mut head = Vec::new();
    let looked = super::manifest::each(target.as_fd(), b"", &mut |path, stat| {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
            return Ok(());
        }
        let named = leaks::by_name(&[b"/", path].concat());
        head.clear();
        open_file(target.as_fd(), path)?.take(leaks::LOOKED_AT as u64).read_to_end(&mut head)?;
        let named = named.filter(|what| !leaks::is_empty_of(what, &head));
        match named.or_else(|| leaks::by_content(&head)) {
            Some(what) => say(out, &Line::Secret { path: Bytes(path.to_vec()), what: what.to_owned() })
                .map_err(std::io::Error::other),
            None => Ok(()),
        }
    });
    looked.map_err(|error| format!("cannot look for secrets: {error}"))
}

/// By reference where the file system can, else extent by extent, so that holes stay holes.
pub(super) fn contents(source: &File, made: &File, size: u64, allocated: u64) -> std::io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    if ioctl_ficlone(made, source).is_ok() {
        return Ok(());
    }
    // What is on the disk counts, not what was there when we looked: a running cube may go on writing.
    let size = source.metadata()?.len();
    if allocated >= size {
        std::io::copy(&mut &*source, &mut &*made)?;
        return Ok(());
    }
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(source, KernelSeek::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(source, KernelSeek::Hole(start))?;
        (&mut &*source).seek(SeekFrom::Start(start))?;
        (&mut &*made).seek(SeekFrom::Start(start))?;
        std::io::copy(&mut std::io::Read::take(source, end - start), &mut &*made)?;
        at = end;
    }
    made.set_len(size)
}
