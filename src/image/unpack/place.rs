//! Where a member goes: finds its folder inside the root, makes it when it is missing, and makes the member.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, linkat, makedev, mkdirat, mknodat, openat2, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::super::helper::Owners;
use super::super::tar::{Kind, Member};
use super::files::{self, Meta};
use super::{FolderEnd, OPAQUE, UnpackError, WHITEOUT, split};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The root being filled.
#[derive(Debug)]
pub(super) struct Place<'a> {
    root: BorrowedFd<'a>,
    owners: Owners,
    /// The folder that was used last: members of one folder follow each other.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl<'a> Place<'a> {
    pub(super) const fn new(root: BorrowedFd<'a>, owners: Owners) -> Self {
        Self { root, owners, last: None }
    }

    /// Makes a member. How many of its attributes were left out.
    pub(super) fn member(
        &mut self,
        above: &[&[u8]],
        name: &[u8],
        member: &Member,
        contents: &mut dyn Read,
    ) -> Result<u64, UnpackError> {
        let make = |error: Errno| UnpackError::make(&member.path, error);
        self.enter(above, member)?;
        let parent = self.parent();
        let meta = Meta { member, owners: self.owners };
        let left_out = match member.kind {
            Kind::Folder => {
                let mut hides = false;
                loop {
                    match mkdirat(parent, name, Mode::RWXU) {
                        Ok(()) => break,
                        Err(Errno::EXIST) => {
                            let found = look(parent, name).map_err(make)?;
                            if is(&found, FileType::Directory) {
                                break;
                            }
                            // Deleted below and made anew here: what the lower one holds stays hidden.
                            hides |= is_whiteout(&found);
                            unlinkat(parent, name, AtFlags::empty()).map_err(make)?;
                        }
                        Err(error) => return Err(make(error)),
                    }
                }
                let folder = openat2(parent, name, FOLDER, Mode::empty(), inside()).map_err(make)?;
                if hides {
                    files::hide_lower(folder.as_fd()).map_err(make)?;
                }
                meta.folder(folder.as_fd())?
            }
            Kind::File => {
                let file = self.make_file(name, &make)?;
                files::write(&file, member, contents)?;
                meta.file(file.as_fd())?
            }
            Kind::Symlink => {
                if member.link.contains(&0) || member.link.is_empty() {
                    return Err(UnpackError::refused(
                        &member.path,
                        "its target is empty or holds a NUL byte",
                    ));
                }
                self.fresh(name, &make, &mut |parent| symlinkat(&member.link[..], parent, name))?;
                meta.link(self.parent(), name)?;
                0
            }
            Kind::Fifo => {
                self.fresh(name, &make, &mut |parent| mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0))?;
                meta.node(self.parent(), name)?;
                0
            }
            Kind::HardLink => {
                self.hard_link(above, name, member)?;
                0
            }
            Kind::Device => 0,
        };
        Ok(left_out)
    }

    /// A deletion: `.wh.NAME`.
    pub(super) fn whiteout(
        &mut self,
        above: &[&[u8]],
        name: &[u8],
        deleted: &[u8],
        member: &Member,
    ) -> Result<(), UnpackError> {
        let make = |error: Errno| UnpackError::make(&member.path, error);
        if name == OPAQUE {
            self.enter(above, member)?;
            let folder = openat2(self.parent(), c".", FOLDER, Mode::empty(), inside()).map_err(make)?;
            return files::hide_lower(folder.as_fd()).map_err(make);
        }
        if deleted.starts_with(WHITEOUT) {
            // Notes of the aufs file system (`.wh..wh.plnk`): they mean nothing here.
            return Ok(());
        }
        if deleted.is_empty() || deleted == b"." || deleted == b".." {
            return Err(UnpackError::refused(&member.path, "it deletes no name"));
        }
        self.enter(above, member)?;
        match mknodat(self.parent(), deleted, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
            Ok(()) => Ok(()),
            // The layer itself has the name: only what lies below is deleted.
            Err(Errno::EXIST) => {
                let found = look(self.parent(), deleted).map_err(make)?;
                if is(&found, FileType::Directory) {
                    let folder =
                        openat2(self.parent(), deleted, FOLDER, Mode::empty(), inside()).map_err(make)?;
                    files::hide_lower(folder.as_fd()).map_err(make)?;
                }
                Ok(())
            }
            Err(error) => Err(make(error)),
        }
    }

    /// The owner and attributes of the root itself.
    pub(super) fn own_root(&mut self, member: &Member) -> Result<(), UnpackError> {
        Meta { member, owners: self.owners }.folder(self.root).map(|_| ())
    }

    /// Modes and times of all folders, the deepest first: a folder that forbids writing is done with, and nothing changes
    /// its time any more.
    pub(super) fn finish(&mut self, folders: &BTreeMap<Vec<u8>, FolderEnd>) -> Result<(), UnpackError> {
        self.last = None;
        for (path, end) in folders.iter().rev() {
            let name: &[u8] = if path.is_empty() { b"." } else { path };
            let folder = match openat2(self.root, name, FOLDER, Mode::empty(), inside()) {
                Ok(folder) => folder,
                // Replaced by something else later on, or closed already under another name.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => continue,
                Err(error) => return Err(UnpackError::make(path, error)),
            };
            files::end_folder(folder.as_fd(), end).map_err(|error| UnpackError::make(path, error))?;
        }
        Ok(())
    }

    fn hard_link(&mut self, above: &[&[u8]], name: &[u8], member: &Member) -> Result<(), UnpackError> {
        let refused = |why: &str| UnpackError::refused(&member.path, why);
        let target = split(&member.link).map_err(|_| {
            refused(&format!(
                "it is a hard link to `{}`, which leads out of the image",
                super::shown(&member.link)
            ))
        })?;
        let Some((target_name, target_above)) = target.split_last() else {
            return Err(refused("it is a hard link to the root"));
        };
        let missing = || {
            refused(&format!(
                "it is a hard link to `{}`, which is not in the archive before it",
                super::shown(&member.link)
            ))
        };
        let from = openat2(self.root, join(target_above).as_slice(), FOLDER, Mode::empty(), inside_links())
            .map_err(|_| missing())?;
        let found = look(from.as_fd(), target_name).map_err(|_| missing())?;
        if !is(&found, FileType::RegularFile) && !is(&found, FileType::Fifo) {
            return Err(refused(&format!(
                "it is a hard link to `{}`, which is no file",
                super::shown(&member.link)
            )));
        }
        self.enter(above, member)?;
        if let Ok(there) = look(self.parent(), name)
            && (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
        {
            return Ok(());
        }
        let make = |error: Errno| UnpackError::make(&member.path, error);
        self.fresh(name, &make, &mut |parent| linkat(&from, *target_name, parent, name, AtFlags::empty()))
    }

    fn make_file(
        &mut self,
        name: &[u8],
        make: &dyn Fn(Errno) -> UnpackError,
    ) -> Result<OwnedFd, UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut made = None;
        self.fresh(name, make, &mut |parent| {
            made = Some(openat2(parent, name, flags, Mode::RUSR | Mode::WUSR, inside())?);
            Ok(())
        })?;
        made.ok_or_else(|| make(Errno::IO))
    }

    /// Makes something under a name that may be taken: what is there goes.
    fn fresh(
        &mut self,
        name: &[u8],
        make: &dyn Fn(Errno) -> UnpackError,
        act: &mut dyn FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> Result<(), UnpackError> {
        match act(self.parent()) {
            Err(Errno::EXIST) => {
                let found = look(self.parent(), name).map_err(make)?;
                if is(&found, FileType::Directory) {
                    crate::store::remove::remove_in(self.parent(), std::ffi::OsStr::from_bytes(name))
                        .map_err(|error| make(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
                } else {
                    unlinkat(self.parent(), name, AtFlags::empty()).map_err(make)?;
                }
                act(self.parent()).map_err(make)
            }
            other => other.map_err(make),
        }
    }

    fn parent(&self) -> BorrowedFd<'_> {
        self.last.as_ref().map_or(self.root, |(_, folder)| folder.as_fd())
    }

    /// Makes the folder `above` the one that members go to. The last one is kept open, unless it was removed.
    fn enter(&mut self, above: &[&[u8]], member: &Member) -> Result<(), UnpackError> {
        let path = join(above);
        if let Some((last, folder)) = &self.last {
            if above.is_empty() {
                self.last = None;
                return Ok(());
            }
            // Removed meanwhile, it has no name left.
            if *last == path && rustix::fs::fstat(folder).is_ok_and(|found| found.st_nlink > 0) {
                return Ok(());
            }
        } else if above.is_empty() {
            return Ok(());
        }
        let folder = match openat2(
            self.root,
            path.as_slice(),
            FOLDER & !OFlags::NOFOLLOW,
            Mode::empty(),
            inside_links(),
        ) {
            Ok(folder) => folder,
            Err(_) => self.make_above(above, member)?,
        };
        self.last = Some((path, folder));
        Ok(())
    }

    /// Makes the folders that the archive does not tell of, one by one.
    fn make_above(&self, above: &[&[u8]], member: &Member) -> Result<OwnedFd, UnpackError> {
        let refused = |at: usize, why: &str| {
            UnpackError::refused(&member.path, format!("`{}` {why}", super::shown(&join(&above[..=at]))))
        };
        let mut folder: Option<OwnedFd> = None;
        for at in 0..above.len() {
            let path = join(&above[..=at]);
            let open = || {
                openat2(self.root, path.as_slice(), FOLDER & !OFlags::NOFOLLOW, Mode::empty(), inside_links())
            };
            let parent = folder.as_ref().map_or(self.root, |folder| folder.as_fd());
            let next = match open() {
                Err(Errno::NOENT) => match mkdirat(parent, above[at], Mode::from(0o755)) {
                    Ok(()) => open(),
                    // Something is there, and yet it leads nowhere.
                    Err(Errno::EXIST) => {
                        return Err(refused(at, "is a link that leads nowhere in the image"));
                    }
                    Err(error) => Err(error),
                },
                Err(Errno::NOTDIR) if look(parent, above[at]).is_ok_and(|found| is_whiteout(&found)) => {
                    unlinkat(parent, above[at], AtFlags::empty())
                        .and_then(|()| mkdirat(parent, above[at], Mode::from(0o755)))
                        .map_err(|error| UnpackError::make(&member.path, error))?;
                    open().and_then(|made| files::hide_lower(made.as_fd()).map(|()| made))
                }
                other => other,
            };
            folder = Some(match next {
                Ok(next) => next,
                Err(Errno::NOTDIR) => return Err(refused(at, "is no folder")),
                Err(Errno::LOOP | Errno::XDEV) => {
                    return Err(refused(at, "is a link that leads nowhere in the image"));
                }
                Err(error) => return Err(UnpackError::make(&member.path, error)),
            });
        }
        folder.ok_or_else(|| UnpackError::make(&member.path, Errno::NOENT))
    }
}

/// A name right in an open folder.
fn inside() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV
}

/// A path from the root, whose links are followed as if the root were `/`.
fn inside_links() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') }
}

fn look(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Stat> {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn is(found: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(found.st_mode) == kind
}

fn is_whiteout(found: &Stat) -> bool {
    is(found, FileType::CharacterDevice) && found.st_rdev == makedev(0, 0)
}
