//! A layer made of a cube's changes: its uppers, without what did not change, in the form that overlayfs reads.
//!
//! Of a cube that runs it is made in two looks: all of it while the cube goes on, then, while it is held still, what changed
//! in between. What is no more at the second look is taken out of the copy when the cube goes on again.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom as KernelSeek, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fchmod, fchown, futimens, ioctl_ficlone, linkat, makedev, mkdirat, mknodat,
    openat2, setxattr, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::again::{Again, Moment};
use super::helper::{is_scaffold, open_region, skips};
use super::layer::{Before, Layering, Sink, Totals, folder_above, folders_to, other, relative, say};
use super::meta::{BENEATH, open_folder};
use super::read::{ReadError, RegionReader};
use super::wire::{Bytes, Line, Twice};
use crate::model::sanitize::printable_bytes;
use crate::plan::changes::{Entry, Found, Kind, Region, join, walk, within};
use crate::store::remove::remove_in;

/// How many files with several names are told apart; more are copied once for each name.
const LINKS: usize = 1 << 20;

/// What is copied, and with which ids it is seen.
#[derive(Debug)]
pub struct Source<'a> {
    /// The uppers and what lies beneath.
    pub regions: &'a [Region],
    /// Holds uppers.
    pub store: Option<&'a OwnedFd>,
    /// Places inside that stay out.
    pub leave_out: &'a [Bytes],
    /// Owners.
    pub ids: &'a super::ids::Shift,
}

/// Copies the changes into `target`, each at its place, and tells what stays out. With `twice` the cube runs: `still` asks for
/// it to be held still, and returns when it is.
///
/// # Errors
/// One line: what could not be read or written. What was written until then stays in `target`.
pub fn copy(
    source: &Source<'_>,
    target: &OwnedFd,
    twice: Option<&Twice>,
    out: &mut dyn Write,
    still: &mut dyn FnMut(&mut dyn Write) -> Result<(), String>,
) -> Result<(), String> {
    let text = |error: ReadError| error.to_string();
    let mut totals = Totals::default();
    let mut firsts = Vec::new();
    let begun = Moment::now();
    for region in source.regions {
        let mut reader = open_region(region, source.store, source.ids)?;
        if twice.is_some() {
            reader.note();
        }
        let mut copier = Copier::new(region, source, target, None)?;
        copier.look(&mut reader, source.leave_out, &mut totals, out).map_err(text)?;
        if twice.is_none() {
            copier.finish().map_err(text)?;
        }
        firsts.push(reader.noted());
    }
    if let Some(twice) = twice {
        still(out)?;
        let mut agains = Vec::new();
        for (region, first) in source.regions.iter().zip(firsts) {
            let again =
                Rc::new(Again::after(first, twice.since_ns.into(), begun, mapped(region, &twice.mapped)));
            let mut reader = open_region(region, source.store, source.ids)?;
            reader.compare(Rc::clone(&again));
            let mut copier = Copier::new(region, source, target, Some(Rc::clone(&again)))?;
            copier.look(&mut reader, source.leave_out, &mut totals, out).map_err(text)?;
            copier.finish().map_err(text)?;
            agains.push(again);
        }
        say(out, &Line::Release).map_err(text)?;
        out.flush().map_err(|error| error.to_string())?;
        for (region, again) in source.regions.iter().zip(agains) {
            Copier::new(region, source, target, Some(again))?.sweep(&mut totals).map_err(text)?;
        }
    }
    totals.tell(out).map_err(text)
}

/// The mapped files that lie in a region, as it names them.
fn mapped(region: &Region, inside: &[Bytes]) -> HashSet<Vec<u8>> {
    let prefix = region.prefix.as_bytes();
    let here = inside.iter().filter(|path| within(&path.0, prefix));
    here.filter_map(|path| relative(region, &path.0)).map(<[u8]>::to_vec).collect()
}

struct Copier<'a> {
    region: &'a Region,
    target: &'a OwnedFd,
    /// The walk holds one reader; files are opened by this one.
    files: RegionReader,
    /// Files with several names: where the first of them is.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The folder whose ancestors are known to exist.
    made: Vec<u8>,
    /// The folder of the target that was used last.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// It is the second look.
    again: Option<Rc<Again>>,
}

impl Sink for Copier<'_> {
    fn deleted(&mut self, path: &[u8], inside: &[u8]) -> Result<Before, ReadError> {
        self.parents(inside)?;
        let (folder, name) = self.split(inside)?;
        let before = self.fresh(inside, &mut || {
            mknodat(&*folder, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
        })?;
        self.read_again(path);
        Ok(before)
    }

    fn present(
        &mut self,
        path: &[u8],
        inside: &[u8],
        entry: &Entry,
        out: &mut dyn Write,
    ) -> Result<Before, ReadError> {
        self.parents(inside)?;
        let before = self.place(path, inside, entry, out)?;
        self.read_again(path);
        Ok(before)
    }
}

impl<'a> Copier<'a> {
    fn new(
        region: &'a Region,
        source: &Source<'_>,
        target: &'a OwnedFd,
        again: Option<Rc<Again>>,
    ) -> Result<Self, String> {
        let files = open_region(region, source.store, source.ids)?;
        Ok(Self { region, target, files, links: HashMap::new(), made: Vec::new(), last: None, again })
    }

    fn look(
        &mut self,
        reader: &mut RegionReader,
        leave_out: &[Bytes],
        totals: &mut Totals,
        out: &mut dyn Write,
    ) -> Result<(), ReadError> {
        let (region, again) = (self.region, self.again.clone());
        walk(reader, &mut Layering { region, leave_out, out, totals, sink: self, again: again.as_deref() })
    }

    fn read_again(&self, path: &[u8]) {
        if let Some(again) = &self.again {
            again.done(path);
        }
    }

    /// The folder of `inside` and those above, as they are in the upper, or else in the lowers.
    fn parents(&mut self, inside: &[u8]) -> Result<(), ReadError> {
        let Some(at) = inside.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
        let parent = inside[..at].to_vec();
        if self.made == parent {
            return Ok(());
        }
        for place in folders_to(&parent) {
            let (folder, name) = self.split(place)?;
            if look(&folder, name).is_ok_and(|found| is(&found, FileType::Directory)) {
                continue;
            }
            self.fresh(place, &mut || mkdirat(&*folder, name, Mode::RWXU))?;
            match folder_above(self.region, &mut self.files, place)? {
                Some(entry) => self.attributes(place, &entry, &mut std::io::sink())?,
                None => {
                    chmodat(&*folder, name, Mode::from(0o755), AtFlags::empty()).map_err(|e| other(&e))?;
                }
            }
        }
        self.made = parent;
        Ok(())
    }

    /// The folder in the target that holds `place`, and its last name.
    fn split<'p>(&mut self, place: &'p [u8]) -> Result<(Rc<OwnedFd>, &'p [u8]), ReadError> {
        let (folder, name) = match place.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&place[..at], &place[at + 1..]),
            None => (&b""[..], place),
        };
        if let Some((last, open)) = &self.last
            && last == folder
        {
            return Ok((Rc::clone(open), name));
        }
        let open = Rc::new(open_folder(self.target.as_fd(), folder).map_err(|error| other(&error))?);
        self.last = Some((folder.to_vec(), Rc::clone(&open)));
        Ok((open, name))
    }

    /// Makes something at `inside`; what the first look left there goes. The size of that.
    fn fresh(
        &mut self,
        inside: &[u8],
        make: &mut dyn FnMut() -> rustix::io::Result<()>,
    ) -> Result<Before, ReadError> {
        let failed = |error: Errno| cannot_write(inside, error);
        match make() {
            Ok(()) => return Ok(None),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let (folder, name) = self.split(inside)?;
        let found = look(&folder, name).map_err(failed)?;
        if is(&found, FileType::Directory) {
            let failed = |error: std::io::Error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO));
            remove_in(&*folder, OsStr::from_bytes(name)).map_err(failed)?;
            // What was remembered may have been in it.
            (self.last, self.made) = (None, Vec::new());
        } else {
            unlinkat(&*folder, name, AtFlags::empty()).map_err(failed)?;
        }
        make().map_err(failed)?;
        Ok(Some(size_of(&found)))
    }

    fn place(
        &mut self,
        path: &[u8],
        inside: &[u8],
        entry: &Entry,
        out: &mut dyn Write,
    ) -> Result<Before, ReadError> {
        let failed = |error: Errno| cannot_write(inside, error);
        let (folder, name) = self.split(inside)?;
        if let Some(first) = entry.hard_link.and_then(|key| self.links.get(&key)).cloned() {
            let (from, first) = self.split(&first)?;
            return self.fresh(inside, &mut || linkat(&*from, first, &*folder, name, AtFlags::empty()));
        }
        let mut before = None;
        match entry.kind {
            Kind::File => {
                let source = match self.files.new_file(path) {
                    Ok(source) => source,
                    // Gone, or something else by now: that shows at the second look.
                    Err(ReadError::Path {
                        errno: Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL,
                        ..
                    }) => return Ok(before),
                    Err(error) => return Err(error),
                };
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mut made = None;
                before = self.fresh(inside, &mut || {
                    made = Some(openat2(&*folder, name, flags, Mode::RUSR | Mode::WUSR, BENEATH)?);
                    Ok(())
                })?;
                let made = File::from(made.ok_or_else(|| failed(Errno::IO))?);
                contents(&source, &made, entry.size, entry.allocated)
                    .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
                self.remember(inside, entry);
                owned(&made, inside, entry)?;
                extended(&made.into(), inside, entry, out)?;
                return Ok(before);
            }
            Kind::Folder => match look(&folder, name) {
                Ok(found) if is(&found, FileType::Directory) => before = Some(0),
                _ => before = self.fresh(inside, &mut || mkdirat(&*folder, name, Mode::RWXU))?,
            },
            Kind::Link => {
                let target = entry.target.as_deref().unwrap_or_default();
                before = self.fresh(inside, &mut || symlinkat(target, &*folder, name))?;
            }
            Kind::Pipe => {
                before =
                    self.fresh(inside, &mut || mknodat(&*folder, name, FileType::Fifo, Mode::RUSR, 0))?;
            }
            Kind::Socket | Kind::Device => return Ok(before),
        }
        self.remember(inside, entry);
        self.attributes(inside, entry, out)?;
        Ok(before)
    }

    fn remember(&mut self, inside: &[u8], entry: &Entry) {
        if let Some(key) = entry.hard_link
            && self.links.len() < LINKS
        {
            self.links.insert(key, inside.to_vec());
        }
    }

    /// Owner, permissions, attributes and times, in this order: a change of owner takes set-id bits and capabilities away.
    fn attributes(&mut self, inside: &[u8], entry: &Entry, out: &mut dyn Write) -> Result<(), ReadError> {
        let (folder, name) = self.split(inside)?;
        let failed = |error: Errno| cannot_own(inside, error);
        let owner = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        chownat(&*folder, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if entry.kind != Kind::Link {
            chmodat(&*folder, name, Mode::from(entry.mode), AtFlags::empty()).map_err(failed)?;
            if !entry.xattrs.is_empty() {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat2(&*folder, name, flags, Mode::empty(), BENEATH).map_err(failed)?;
                extended(&fd, inside, entry, out)?;
            }
        }
        utimensat(&*folder, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Folders were written into since they were made: their times are set again. Those that only held mounts go.
    fn finish(&mut self) -> Result<(), ReadError> {
        let mut waiting = vec![self.region.prefix.as_bytes().to_vec()];
        let mut empty = Vec::new();
        while let Some(place) = waiting.pop() {
            let Some((_, names)) = self.names(&place)? else { continue };
            let folders = names.iter().filter(|(_, kind)| *kind == FileType::Directory);
            waiting.extend(folders.map(|(name, _)| join(&place, name)));
            let path = relative(self.region, &place).unwrap_or_default().to_vec();
            if path.is_empty() {
                continue;
            }
            if names.is_empty() && is_scaffold(self.region, &path) {
                empty.push(place);
            } else if let Some(Found::Entry { entry, .. }) = self.files.new_entry(&path)? {
                let (folder, name) = self.split(&place)?;
                utimensat(&*folder, name, &times(&entry), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| other(&e))?;
            }
        }
        for place in empty.into_iter().rev() {
            let (folder, name) = self.split(&place)?;
            // One that is needed after all is not empty.
            let _kept = unlinkat(&*folder, name, AtFlags::REMOVEDIR);
        }
        Ok(())
    }

    /// Takes out what the second look found nowhere. Folders that lose something keep their times.
    fn sweep(&mut self, totals: &mut Totals) -> Result<(), ReadError> {
        let Some(again) = self.again.clone() else { return Ok(()) };
        let mut waiting = vec![self.region.prefix.as_bytes().to_vec()];
        let mut stale = Vec::new();
        while let Some(place) = waiting.pop() {
            let Some((open, names)) = self.names(&place)? else { continue };
            for (name, kind) in names {
                let inside = join(&place, &name);
                let path = relative(self.region, &inside).unwrap_or_default();
                if skips(self.region, path) {
                    continue;
                }
                let current = again.is_clean(path);
                if kind == FileType::Directory {
                    waiting.push(inside.clone());
                    if !current {
                        stale.push(inside);
                    }
                } else if !current {
                    let found = look(&open, &name).map_err(|errno| other(&errno))?;
                    take_out(&open, &name, AtFlags::empty()).map_err(|errno| other(&errno))?;
                    totals.take_back(&inside, size_of(&found));
                }
            }
        }
        for place in stale.into_iter().rev() {
            let (folder, name) = self.split(&place)?;
            // One that holds something of now was only made to hold it.
            if take_out(&folder, name, AtFlags::REMOVEDIR).is_ok() {
                self.last = None;
                totals.take_back(&place, 0);
            }
        }
        Ok(())
    }

    /// The names in a folder of the target, with what each is; `None` where nothing changed.
    #[expect(clippy::type_complexity, reason = "read in two places, right here")]
    fn names(&self, place: &[u8]) -> Result<Option<(OwnedFd, Vec<(Vec<u8>, FileType)>)>, ReadError> {
        let open = match open_folder(self.target.as_fd(), place) {
            Ok(open) => open,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(other(&errno)),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&open).map_err(|e| other(&e))? {
            let entry = entry.map_err(|e| other(&e))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(Some((open, names)))
    }
}

fn cannot_write(inside: &[u8], error: Errno) -> ReadError {
    ReadError::Other(format!("cannot write `{}` into the layer: {error}", printable_bytes(inside)))
}

fn cannot_own(inside: &[u8], error: Errno) -> ReadError {
    ReadError::Other(format!("cannot set the owner or mode of `{}`: {error}", printable_bytes(inside)))
}

fn look(folder: &OwnedFd, name: &[u8]) -> rustix::io::Result<Stat> {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn is(found: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(found.st_mode) == kind
}

fn size_of(found: &Stat) -> u64 {
    if is(found, FileType::RegularFile) { u64::try_from(found.st_size).unwrap_or(0) } else { 0 }
}

/// Removes a name and leaves the folder's times.
fn take_out(folder: &OwnedFd, name: &[u8], flags: AtFlags) -> rustix::io::Result<()> {
    let found = rustix::fs::fstat(folder)?;
    unlinkat(folder, name, flags)?;
    let time = Timespec { tv_sec: found.st_mtime, tv_nsec: i64::try_from(found.st_mtime_nsec).unwrap_or(0) };
    futimens(folder, &Timestamps { last_access: time, last_modification: time })
}

/// Owner, permissions and times of a file just written.
fn owned(file: &File, inside: &[u8], entry: &Entry) -> Result<(), ReadError> {
    let owner = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchown(file, Some(owner.0), Some(owner.1))
        .and_then(|()| fchmod(file, Mode::from(entry.mode)))
        .and_then(|()| futimens(file, &times(entry)))
        .map_err(|errno| cannot_own(inside, errno))
}

/// Extended attributes; those that cannot be kept are told.
fn extended(file: &OwnedFd, inside: &[u8], entry: &Entry, out: &mut dyn Write) -> Result<(), ReadError> {
    if entry.xattrs.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for (key, value) in &entry.xattrs {
        if let Err(errno) = setxattr(&path, key.as_slice(), value, XattrFlags::empty()) {
            let why = format!("its attribute `{}` cannot be kept: {errno}", printable_bytes(key));
            say(out, &Line::LeftOut { path: Bytes(inside.to_vec()), why })?;
        }
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let (seconds, nanoseconds) = entry.mtime();
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
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
        // No further: somebody may go on writing as fast as we read.
        std::io::copy(&mut Read::take(source, size), &mut &*made)?;
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
        std::io::copy(&mut Read::take(source, end.min(size.max(start)) - start), &mut &*made)?;
        at = end;
    }
    made.set_len(size)
}
