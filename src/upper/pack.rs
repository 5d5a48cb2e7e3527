//! A layer packed right from a cube's uppers: one reading, one writing, and no copy in between. For a cube that stands still.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

use super::copy::Source;
use super::helper::open_region;
use super::ids::Shift;
use super::layer::{Before, Layering, Sink, Totals, folder_above, folders_to, other};
use super::read::{ReadError, RegionReader};
use super::secrets::Looking;
use crate::image::tar::source::{Contents, kept, pieces};
use crate::image::tar::write::TarWriter;
use crate::image::tar::{Kind as TarKind, Member};
use crate::model::sanitize::printable_bytes;
use crate::plan::changes::{Entry, Kind, Region, walk};
use crate::plan::leaks::LOOKED_AT;

/// The attribute in which a store without subordinate ids keeps true owners.
const OWNER: &[u8] = b"user.tripmine.owner";

/// Packs the changes into `tar`. `owners` turns ids inside into those that the layer tells; `noted`: files say in an
/// attribute whose they truly are.
///
/// # Errors
/// One line: what could not be read or written.
pub fn pack(
    source: &Source<'_>,
    tar: OwnedFd,
    owners: &Shift,
    noted: bool,
    out: &mut dyn Write,
) -> Result<(), String> {
    let text = |error: ReadError| error.to_string();
    let mut totals = Totals::default();
    let mut archive = Archive {
        tar: TarWriter::new(File::from(tar)),
        keys: RandomState::new(),
        folders: HashSet::new(),
        owners,
        noted,
        secrets: Looking::start()?,
    };
    for (index, region) in source.regions.iter().enumerate() {
        let mut reader = open_region(region, source.store, source.ids)?;
        let files = open_region(region, source.store, source.ids)?;
        if index == 0 {
            let top = fstat(files.root()).map_err(|errno| errno.to_string())?;
            archive.top(&top).map_err(text)?;
        }
        let mut packer =
            Packer { region, files, archive: &mut archive, links: HashMap::new(), above: Vec::new() };
        let mut layering = Layering {
            region,
            leave_out: source.leave_out,
            out: &mut *out,
            totals: &mut totals,
            sink: &mut packer,
            again: None,
        };
        walk(&mut reader, &mut layering).map_err(text)?;
    }
    archive.tar.finish().map_err(|error| error.to_string())?;
    archive.secrets.finish(out).map_err(text)?;
    totals.tell(out).map_err(text)
}

struct Archive<'a> {
    tar: TarWriter<File>,
    keys: RandomState,
    /// Folders that are in it.
    folders: HashSet<u64>,
    owners: &'a Shift,
    noted: bool,
    secrets: Looking,
}

/// Contents that are packed, and a copy of how they begin.
struct Heads<'a> {
    contents: Contents<'a>,
    head: Vec<u8>,
}

impl Read for Heads<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.contents.read(into)?;
        let more = count.min(LOOKED_AT - self.head.len());
        self.head.extend_from_slice(&into[..more]);
        Ok(count)
    }
}

impl Archive<'_> {
    fn top(&mut self, found: &Stat) -> Result<(), ReadError> {
        let mut top = Member::new(b"./", TarKind::Folder, 0o755);
        top.mtime = (found.st_mtime, u32::try_from(found.st_mtime_nsec).unwrap_or(0));
        self.write(&top, &mut std::io::empty())
    }

    fn write(&mut self, member: &Member, contents: &mut dyn Read) -> Result<(), ReadError> {
        self.tar.member(member, contents).map_err(|error| {
            ReadError::Other(format!("cannot pack `{}`: {error}", printable_bytes(&member.path)))
        })
    }

    fn folder(&mut self, inside: &[u8], entry: Option<&Entry>) -> Result<(), ReadError> {
        if !self.folders.insert(self.keys.hash_one(inside)) {
            return Ok(());
        }
        let name = [inside, b"/"].concat();
        let member = match entry {
            Some(entry) => self.about(&name, TarKind::Folder, entry),
            None => Member::new(&name, TarKind::Folder, 0o755),
        };
        self.write(&member, &mut std::io::empty())
    }

    fn about(&self, path: &[u8], kind: TarKind, entry: &Entry) -> Member {
        let mut member = Member::new(path, kind, entry.mode);
        member.mtime = entry.mtime();
        let mut owned = entry.clone();
        self.owners.apply(&mut owned);
        (member.uid, member.gid) = (owned.uid.into(), owned.gid.into());
        if self.noted
            && let Some((uid, gid)) = entry
                .xattrs
                .iter()
                .find(|(key, _)| key == OWNER)
                .and_then(|(_, value)| crate::image::tar::source::noted_owner(value))
        {
            (member.uid, member.gid) = (uid, gid);
        }
        member.attributes = kept(&entry.xattrs);
        member
    }
}

struct Packer<'a, 'b> {
    region: &'a Region,
    files: RegionReader,
    archive: &'a mut Archive<'b>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The folder that was written into last: it is there, and all above it.
    above: Vec<u8>,
}

impl Sink for Packer<'_, '_> {
    fn deleted(&mut self, _: &[u8], inside: &[u8]) -> Result<Before, ReadError> {
        self.parents(inside)?;
        let at = inside.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = [&inside[..at], b".wh.", &inside[at..]].concat();
        self.archive.write(&Member::new(&name, TarKind::File, 0o600), &mut std::io::empty())?;
        Ok(None)
    }

    fn present(
        &mut self,
        path: &[u8],
        inside: &[u8],
        entry: &Entry,
        _: &mut dyn Write,
    ) -> Result<Before, ReadError> {
        self.parents(inside)?;
        if let Some(first) = entry.hard_link.and_then(|key| self.links.get(&key)) {
            let mut member = self.archive.about(inside, TarKind::HardLink, entry);
            (member.link, member.attributes) = (first.clone(), Vec::new());
            self.archive.write(&member, &mut std::io::empty())?;
            return Ok(None);
        }
        match entry.kind {
            Kind::File => self.file(path, inside, entry)?,
            Kind::Folder => self.archive.folder(inside, Some(entry))?,
            Kind::Link => {
                let mut member = self.archive.about(inside, TarKind::Symlink, entry);
                member.link = entry.target.clone().unwrap_or_default();
                member.mode = 0o777;
                self.archive.write(&member, &mut std::io::empty())?;
            }
            Kind::Pipe => {
                let member = self.archive.about(inside, TarKind::Fifo, entry);
                self.archive.write(&member, &mut std::io::empty())?;
            }
            Kind::Socket | Kind::Device => return Ok(None),
        }
        if let Some(key) = entry.hard_link {
            self.links.insert(key, inside.to_vec());
        }
        Ok(None)
    }
}

impl Packer<'_, '_> {
    fn file(&mut self, path: &[u8], inside: &[u8], entry: &Entry) -> Result<(), ReadError> {
        let file = match self.files.new_file(path) {
            Ok(file) => OwnedFd::from(file),
            Err(ReadError::Path { errno: Errno::NOENT, .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut member = self.archive.about(inside, TarKind::File, entry);
        // What was opened, not what was looked at before.
        let found = fstat(&file).map_err(|errno| other(&errno))?;
        member.size = u64::try_from(found.st_size).unwrap_or(0);
        member.pieces = pieces(&file, &found).map_err(|errno| other(&errno))?;
        let mut heads = Heads { contents: Contents::new(&file, &member), head: Vec::new() };
        self.archive.write(&member, &mut heads)?;
        if heads.head.is_empty() { Ok(()) } else { self.archive.secrets.take(inside, heads.head) }
    }

    /// The folder of `inside` and those above, as they are in the upper, or else in the lowers.
    fn parents(&mut self, inside: &[u8]) -> Result<(), ReadError> {
        let Some(at) = inside.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
        let parent = &inside[..at];
        if self.above == parent {
            return Ok(());
        }
        for place in folders_to(parent) {
            if self.archive.folders.contains(&self.archive.keys.hash_one(place)) {
                continue;
            }
            let entry = folder_above(self.region, &mut self.files, place)?;
            self.archive.folder(place, entry.as_ref())?;
        }
        self.above = parent.to_vec();
        Ok(())
    }
}
