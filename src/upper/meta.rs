//! One entry of a tree as the kernel tells it, and overlayfs's marks on it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, Stat, fstat, getxattr, listxattr, openat2, readlinkat,
};
use rustix::io::Errno;

use crate::plan::changes::{Attributes, Entry, Kind};

/// Extended attributes that overlayfs keeps for itself when it was mounted in a user namespace, and otherwise.
const MARKS: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];
/// The most bytes of attribute names that an inode has (xattr(7)), and of a value.
const XATTR_MAX: usize = 64 * 1024;

/// Flags of an entry that is looked at, not opened.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Paths stay beneath their root, follow no link and cross no mount.
pub const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Overlayfs's marks on an entry of an upper or of a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// It stands for a deletion.
    pub whiteout: bool,
    /// It hides what the lowers have in it.
    pub opaque: bool,
}

/// Opens the folder at `path` beneath `root` for reading; the empty path is the root itself.
///
/// # Errors
/// As openat2(2).
pub fn open_folder(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(root, or_dot(path), flags, Mode::empty(), BENEATH)
}

/// Opens the plain file at `path` beneath `root` for reading.
///
/// # Errors
/// As openat2(2); EINVAL when it is no plain file.
pub fn open_file(root: BorrowedFd<'_>, path: &[u8]) -> Result<std::fs::File, Errno> {
    // A pipe must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat2(root, or_dot(path), flags, Mode::empty(), BENEATH)?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::RegularFile {
        Ok(fd.into())
    } else {
        Err(Errno::INVAL)
    }
}

/// The entry at `path` beneath `root`; `None` when there is none.
///
/// # Errors
/// As openat2(2) and what follows; a path through a link or another mount is an error.
pub fn look(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<(Entry, Marks)>, Errno> {
    let fd = match openat2(root, or_dot(path), LOOK, Mode::empty(), BENEATH) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    describe(&fd).map(Some)
}

/// What `fd`, opened only to be looked at, is.
///
/// # Errors
/// As fstat(2), readlink(2), listxattr(2).
pub fn describe(fd: &OwnedFd) -> Result<(Entry, Marks), Errno> {
    let stat = fstat(fd)?;
    let kind = kind(&stat);
    let (xattrs, mut marks) = match kind {
        // Neither links nor special files may have any of the user's (xattr(7)).
        Kind::File | Kind::Folder => attributes(fd)?,
        _ => (Vec::new(), Marks::default()),
    };
    let device =
        (kind == Kind::Device).then(|| (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)));
    marks.whiteout |=
        device == Some((0, 0)) && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    let target = match kind {
        Kind::Link => Some(readlinkat(fd, c"", Vec::new())?.into_bytes()),
        _ => None,
    };
    let entry = Entry {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        mtime_ns: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
        target,
        device,
        xattrs,
        hard_link: (kind != Kind::Folder && stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino)),
    };
    Ok((entry, marks))
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        FileType::Fifo => Kind::Pipe,
        FileType::Socket => Kind::Socket,
        _ => Kind::Device,
    }
}

/// The extended attributes, sorted, and what those of overlayfs mean.
fn attributes(fd: &OwnedFd) -> Result<(Attributes, Marks), Errno> {
    // A descriptor that is only looked through has no attributes of its own; its path in /proc does.
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let (mut found, mut marks) = (Vec::new(), Marks::default());
    let mut names = vec![0_u8; 512];
    let length = loop {
        match listxattr(&path, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < XATTR_MAX => names.resize(XATTR_MAX, 0),
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => return Ok((found, marks)),
            Err(errno) => return Err(errno),
        }
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let value = match value(&path, name) {
            Ok(value) => value,
            // Gone meanwhile, or not for us to read.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => continue,
            Err(errno) => return Err(errno),
        };
        match MARKS.iter().find_map(|prefix| name.strip_prefix(*prefix)) {
            Some(b"opaque") => marks.opaque |= value == b"y",
            Some(b"whiteout") => marks.whiteout = true,
            Some(_) => {}
            None => found.push((name.to_vec(), value)),
        }
    }
    found.sort();
    Ok((found, marks))
}

fn value(path: &str, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; 256];
    match getxattr(path, name, &mut value[..]) {
        Err(Errno::RANGE) => {
            value.resize(XATTR_MAX, 0);
            let length = getxattr(path, name, &mut value[..])?;
            value.truncate(length);
        }
        length => value.truncate(length?),
    }
    Ok(value)
}

fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}
