//! Packing: a folder, or a cube's upper, into a tar that is the same each time.
//!
//! Members come in the order of their names, the folder before what is in it. An upper's deletions become `.wh.NAME`, a
//! folder that hides the lower one gets `.wh..wh..opq`. Hard links, attributes, holes and times go along; sockets and
//! device nodes do not. No link is followed, whatever the tree's owner does meanwhile.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, makedev, openat2, readlinkat, statat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::model::Failure;

use super::helper::Packed;
use super::tar::source as read;
use super::tar::write::TarWriter;
use super::tar::{Kind, Member, shown};
use super::unpack::marks::{OPAQUE, OWNER, mtime};

/// How ids are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdRule {
    /// As they are seen: by the host's root, or inside the user namespace of the helper.
    AsSeen,
    /// Ids from `outside` on are those from 0 on: the upper of a cube that the host's root launched.
    Shifted {
        /// Where the ids of a cube begin.
        outside: u32,
        /// How many there are.
        count: u32,
    },
    /// The caller's files are 0:0, or what their attribute `user.tripmine.owner` says.
    One {
        /// The caller.
        uid: u32,
        /// The caller's group.
        gid: u32,
    },
}

/// How to pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackOptions {
    /// Ids.
    pub ids: IdRule,
    /// Paths, from the folder, that stay out with all that is in them.
    pub exclude: Vec<String>,
    /// Paths, from the folder, of which only the folder itself goes in.
    pub empty: Vec<String>,
    /// True for an upper: 0:0 devices and the opaque attribute are deletions.
    pub upper: bool,
}

fn failed(path: &[u8], what: &str, error: impl Into<std::io::Error>) -> Failure {
    Failure::failed(format!("cannot {what} `{}`", shown(path))).because(&error.into())
}

/// Packs `folder` into `out`.
///
/// # Errors
/// Something cannot be read or written.
pub fn pack(folder: BorrowedFd<'_>, options: &PackOptions, out: &mut dyn Write) -> Result<Packed, Failure> {
    let mut work = Packing {
        root: folder,
        options,
        writer: TarWriter::new(out),
        links: HashMap::new(),
        done: Packed::default(),
    };
    let found = rustix::fs::fstat(folder).map_err(|error| failed(b".", "read", error))?;
    let top =
        openat2(folder, c".", FOLDER, Mode::empty(), INSIDE).map_err(|error| failed(b".", "read", error))?;
    work.folder(b"", &top, &found)?;
    // Names still to be done, the next one last.
    let mut open: Vec<Vec<u8>> = work.names(b"", &top)?;
    while let Some(path) = open.pop() {
        if let Some(inside) = work.one(&path)? {
            let mut names = work.names(&path, &inside)?;
            open.append(&mut names);
        }
    }
    work.writer.finish().map_err(|error| failed(b".", "pack", error))?;
    Ok(work.done)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

struct Packing<'a> {
    root: BorrowedFd<'a>,
    options: &'a PackOptions,
    writer: TarWriter<&'a mut dyn Write>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    done: Packed,
}

impl Packing<'_> {
    /// The paths in a folder, the first last.
    fn names(&self, path: &[u8], folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Failure> {
        let mut paths = Vec::new();
        if self.options.empty.iter().any(|empty| empty.as_bytes() == path) {
            return Ok(paths);
        }
        for entry in Dir::read_from(folder).map_err(|error| failed(path, "list", error))? {
            let entry = entry.map_err(|error| failed(path, "list", error))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let whole = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            if !self.options.exclude.iter().any(|out| out.as_bytes() == whole) {
                paths.push(whole);
            }
        }
        paths.sort_by(|a, b| b.cmp(a));
        Ok(paths)
    }

    /// Writes one entry; a folder's descriptor, to go on in it.
    fn one(&mut self, path: &[u8]) -> Result<Option<OwnedFd>, Failure> {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        let gone = |error| failed(path, "read", error);
        let parent =
            openat2(self.root, above, FOLDER & !OFlags::RDONLY | OFlags::PATH, Mode::empty(), INSIDE)
                .map_err(gone)?;
        let found = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            // A file system that lives loses files while it is read.
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(gone(error)),
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let folder = openat2(&parent, name, FOLDER, Mode::empty(), INSIDE).map_err(gone)?;
                self.folder(path, &folder, &found)?;
                return Ok(Some(folder));
            }
            FileType::RegularFile => self.file(path, parent.as_fd(), name)?,
            FileType::Symlink => {
                let mut member = self.about(path, Kind::Symlink, &found, None);
                member.link = readlinkat(&parent, name, Vec::new()).map_err(gone)?.into_bytes();
                member.mode = 0o777;
                self.write(&member, &mut std::io::empty())?;
            }
            FileType::Fifo => {
                let member = self.about(path, Kind::Fifo, &found, None);
                self.write(&member, &mut std::io::empty())?;
            }
            FileType::CharacterDevice if self.options.upper && found.st_rdev == makedev(0, 0) => {
                self.whiteout(path)?;
            }
            _ => self.done.skipped += 1,
        }
        Ok(None)
    }

    fn folder(&mut self, path: &[u8], folder: &OwnedFd, found: &Stat) -> Result<(), Failure> {
        let attributes =
            read::attributes(folder).map_err(|error| failed(path, "read the attributes of", error))?;
        let name = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
        let mut member = self.about(&name, Kind::Folder, found, Some(&attributes));
        member.attributes = read::kept(&attributes);
        self.write(&member, &mut std::io::empty())?;
        let hides = |(key, value): &(Vec<u8>, Vec<u8>)| key == OPAQUE.as_bytes() && value == b"y";
        if self.options.upper && attributes.iter().any(hides) {
            let name =
                if path.is_empty() { b".wh..wh..opq".to_vec() } else { [path, b"/.wh..wh..opq"].concat() };
            self.write(&Member::new(&name, Kind::File, 0o600), &mut std::io::empty())?;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Failure> {
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = [&path[..at], b".wh.", &path[at..]].concat();
        self.write(&Member::new(&name, Kind::File, 0o600), &mut std::io::empty())
    }

    fn file(&mut self, path: &[u8], parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat2(parent, name, flags, Mode::empty(), INSIDE) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(path, "read", error)),
        };
        // What was opened, not what was looked at before.
        let found = rustix::fs::fstat(&file).map_err(|error| failed(path, "read", error))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let attributes =
            read::attributes(&file).map_err(|error| failed(path, "read the attributes of", error))?;
        if self.options.upper && attributes.iter().any(|(key, _)| key == b"user.overlay.whiteout") {
            return self.whiteout(path);
        }
        let mut member = self.about(path, Kind::File, &found, Some(&attributes));
        if found.st_nlink > 1 {
            let key = (found.st_dev, found.st_ino);
            if let Some(first) = self.links.get(&key) {
                (member.kind, member.link, member.attributes) = (Kind::HardLink, first.clone(), Vec::new());
                return self.write(&member, &mut std::io::empty());
            }
            self.links.insert(key, path.to_vec());
        }
        member.size = u64::try_from(found.st_size).unwrap_or(0);
        member.attributes = read::kept(&attributes);
        member.pieces = read::pieces(&file, &found).map_err(|error| failed(path, "read", error))?;
        self.done.bytes += member.size;
        let mut contents = read::Contents::new(&file, &member);
        self.write(&member, &mut contents)
    }

    fn about(&self, path: &[u8], kind: Kind, found: &Stat, attributes: Option<&read::Attributes>) -> Member {
        let mut member = Member::new(path, kind, found.st_mode & 0o7777);
        member.mtime = mtime(found);
        let noted = attributes
            .and_then(|all| all.iter().find(|(key, _)| key == OWNER.as_bytes()))
            .and_then(|(_, value)| read::noted_owner(value));
        let (uid, gid) = (found.st_uid, found.st_gid);
        (member.uid, member.gid) = match self.options.ids {
            IdRule::AsSeen => (uid.into(), gid.into()),
            IdRule::Shifted { outside, count } => {
                let inside = |id: u32| match id.checked_sub(outside) {
                    Some(inside) if inside < count => u64::from(inside),
                    // Not of the cube: nobody's.
                    _ => 65_534,
                };
                (inside(uid), inside(gid))
            }
            IdRule::One { uid: own, gid: group } => noted.unwrap_or_else(|| {
                (if uid == own { 0 } else { uid.into() }, if gid == group { 0 } else { gid.into() })
            }),
        };
        member
    }

    fn write(&mut self, member: &Member, contents: &mut dyn Read) -> Result<(), Failure> {
        self.done.entries += 1;
        self.writer.member(member, contents).map_err(|error| failed(&member.path, "pack", error))
    }
}
