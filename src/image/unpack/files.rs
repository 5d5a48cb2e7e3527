//! Contents, owners, modes, attributes and times of what is unpacked, all by descriptor.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fsetxattr, ftruncate, futimens, utimensat,
};
use rustix::io::{Errno, pwrite};

use super::super::helper::Owners;
use super::super::tar::{Member, Time};
use super::{FolderEnd, UnpackError};

/// The attribute that keeps the true owner where all files are the caller's.
pub(in crate::image) const OWNER: &str = "user.tripmine.owner";
/// The attribute of a folder that hides what lies below it (overlayfs with `userxattr`).
pub(in crate::image) const OPAQUE: &str = "user.overlay.opaque";
/// Ids are mapped up to here.
const ID_END: u64 = 65_536;
/// Zeros of at least this many bytes, at such a multiple, become a hole.
const HOLE: usize = 64 << 10;

/// Makes a folder hide what lies below it.
pub(super) fn hide_lower(folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
    fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())
}

/// Writes a file's contents; runs of zeros become holes.
pub(super) fn write(file: &OwnedFd, member: &Member, contents: &mut dyn Read) -> Result<(), UnpackError> {
    let make = |error: std::io::Error| {
        let archive = error.raw_os_error().is_none();
        if archive {
            UnpackError::Tar(super::TarError::Read(error))
        } else {
            UnpackError::make(&member.path, error)
        }
    };
    let whole = [(0, member.size)];
    let pieces = member.pieces.as_deref().unwrap_or(&whole);
    let mut buffer = vec![0; HOLE.min(usize::try_from(member.size.max(512)).unwrap_or(HOLE))];
    let mut end = 0;
    for &(offset, length) in pieces {
        let (mut at, mut left) = (offset, length);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let chunk = &mut buffer[..most];
            contents.read_exact(chunk).map_err(make)?;
            if chunk.len() < HOLE || chunk.iter().any(|byte| *byte != 0) {
                write_at(file, chunk, at).map_err(make)?;
                end = at + chunk.len() as u64;
            }
            at += chunk.len() as u64;
            left -= chunk.len() as u64;
        }
    }
    if end < member.size {
        ftruncate(file, member.size).map_err(|error| UnpackError::make(&member.path, error))?;
    }
    Ok(())
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, at) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => (bytes, at) = (&bytes[count..], at + count as u64),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What a member says of the file that was made for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta<'a> {
    pub(super) member: &'a Member,
    pub(super) owners: Owners,
}

impl Meta<'_> {
    /// Of a file. How many attributes were left out.
    pub(super) fn file(&self, file: BorrowedFd<'_>) -> Result<u64, UnpackError> {
        self.own(file)?;
        fchmod(file, mode(self.member.mode)).map_err(|error| self.make(error))?;
        let left_out = self.attributes(file)?;
        futimens(file, &times(self.member.mtime)).map_err(|error| self.make(error))?;
        Ok(left_out)
    }

    /// Of a folder; its mode and time come at the end.
    pub(super) fn folder(&self, folder: BorrowedFd<'_>) -> Result<u64, UnpackError> {
        self.own(folder)?;
        self.attributes(folder)
    }

    /// Of a link.
    pub(super) fn link(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), UnpackError> {
        if let Some((uid, gid)) = self.ids()? {
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| self.make(error))?;
        }
        utimensat(parent, name, &times(self.member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.make(error))
    }

    /// Of a named pipe, which must not be opened. Nobody but this process writes here, so the name is the one just made.
    pub(super) fn node(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), UnpackError> {
        self.link(parent, name)?;
        chmodat(parent, name, mode(self.member.mode), AtFlags::empty()).map_err(|error| self.make(error))
    }

    fn own(&self, file: BorrowedFd<'_>) -> Result<(), UnpackError> {
        if let Some((uid, gid)) = self.ids()? {
            return fchown(file, Some(uid), Some(gid)).map_err(|error| self.make(error));
        }
        let (uid, gid) = (self.member.uid, self.member.gid);
        if self.owners == Owners::Noted && (uid, gid) != (0, 0) {
            // A file system without attributes loses owners, and nothing else.
            match fsetxattr(file, OWNER, format!("{uid}:{gid}").as_bytes(), XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(error) => return Err(self.make(error)),
            }
        }
        Ok(())
    }

    /// The owner to set; `None` when it is right already, or cannot be set.
    fn ids(&self) -> Result<Option<(Uid, Gid)>, UnpackError> {
        let (uid, gid) = (self.member.uid, self.member.gid);
        if self.owners == Owners::Noted || (uid, gid) == (0, 0) {
            return Ok(None);
        }
        match (u32::try_from(uid), u32::try_from(gid)) {
            (Ok(user), Ok(group)) if uid < ID_END && gid < ID_END => {
                Ok(Some((Uid::from_raw(user), Gid::from_raw(group))))
            }
            _ => Err(UnpackError::refused(
                &self.member.path,
                format!("its owner {uid}:{gid} is outside of the {ID_END} ids that a cube has"),
            )),
        }
    }

    fn attributes(&self, file: BorrowedFd<'_>) -> Result<u64, UnpackError> {
        let mut left_out = 0;
        for (key, value) in &self.member.attributes {
            if !may_set(key) {
                left_out += 1;
                continue;
            }
            match fsetxattr(file, key.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                // Capabilities need privilege, and not every file system keeps every attribute.
                Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL | Errno::RANGE | Errno::NODATA) => {
                    left_out += 1
                }
                Err(error) => return Err(self.make(error)),
            }
        }
        Ok(left_out)
    }

    fn make(&self, error: Errno) -> UnpackError {
        UnpackError::make(&self.member.path, error)
    }
}

/// Which attributes an archive may bring: never those that steer overlayfs, the kernel's trust, or this program.
fn may_set(key: &[u8]) -> bool {
    let ours = [&b"user.overlay."[..], b"user.tripmine.", b"user.fuseoverlayfs.", b"user.containers."];
    if key.contains(&0) || key.len() > 255 || ours.iter().any(|prefix| key.starts_with(prefix)) {
        return false;
    }
    key.starts_with(b"user.")
        || key == b"security.capability"
        || key == b"system.posix_acl_access"
        || key == b"system.posix_acl_default"
}

/// The mode and time of a folder that is complete.
pub(super) fn end_folder(folder: BorrowedFd<'_>, end: &FolderEnd) -> rustix::io::Result<()> {
    fchmod(folder.as_fd(), mode(end.mode))?;
    futimens(folder, &times(end.mtime))
}

fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits & 0o7777)
}

fn times((seconds, nanos): Time) -> Timestamps {
    let at = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: at, last_modification: at }
}

/// The time of last change, for a reader of trees.
pub(in crate::image) fn mtime(found: &Stat) -> Time {
    (found.st_mtime, u32::try_from(found.st_mtime_nsec).unwrap_or(0))
}
