//! Trees of the host and places in the new root, as descriptors: opened with every link refused, cloned, attached.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::host::sys::mount_setattr;
use crate::jail::prepare::Source;
use crate::jail::step::{At, Failed, Step};
use crate::jail::taken_out::{Part, taken_out};
use crate::plan::launch::FileIdentity;

pub(super) const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub(super) const ANY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// `nosuid`, which every mount has.
pub(super) fn nosuid() -> MountAttrFlags {
    if taken_out(Part::NoSuid) { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_NOSUID }
}

/// And `nodev`, which every mount outside /dev has.
pub(super) fn nosuid_nodev() -> MountAttrFlags {
    if taken_out(Part::NoDev) { nosuid() } else { nosuid() | MountAttrFlags::MOUNT_ATTR_NODEV }
}

/// Opens an absolute path of the host without following any link, and compares it with `identity`.
pub(super) fn open_source(path: &CStr, identity: Option<FileIdentity>) -> Result<OwnedFd, Errno> {
    let fd = openat2(
        rustix::fs::CWD,
        path,
        if taken_out(Part::Identity) { OFlags::PATH | OFlags::CLOEXEC } else { ANY },
        Mode::empty(),
        if taken_out(Part::Identity) {
            ResolveFlags::empty()
        } else {
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
        },
    )?;
    if let Some(expected) = identity.filter(|_| !taken_out(Part::Identity)) {
        let stat = fstat(&fd)?;
        if !same(&stat, expected) {
            return Err(Errno::STALE);
        }
    }
    Ok(fd)
}

#[expect(clippy::unnecessary_cast, reason = "the widths of st_dev and st_ino differ between architectures")]
pub(super) fn same(stat: &Stat, expected: FileIdentity) -> bool {
    stat.st_dev as u64 == expected.dev && stat.st_ino as u64 == expected.ino
}

/// A private copy of the mount at `fd`, with everything mounted beneath it.
pub(super) fn clone_tree(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    open_tree(
        fd,
        c"",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
}

pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    move_mount(
        mount,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

pub(super) fn set_attributes(mount: BorrowedFd<'_>, set: MountAttrFlags) -> std::io::Result<()> {
    mount_setattr(mount, u64::from(set.bits()), None)
}

/// As root on the host: a detached copy of `path` whose owners are seen through the id map of
/// `userns`. Used by the keeper before the clone.
///
/// # Errors
/// When the folder is not the planned one, or its file system knows no id maps.
pub fn idmapped_clone(
    path: &std::path::Path,
    identity: Option<FileIdentity>,
    userns: BorrowedFd<'_>,
) -> std::io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let fd = open_source(&path, identity)?;
    let tree = clone_tree(fd.as_fd())?;
    mount_setattr(tree.as_fd(), 0, Some(userns))?;
    Ok(tree)
}

/// A source ready to be attached.
pub(super) fn source_tree(source: &Source, step: Step, index: usize) -> Result<OwnedFd, Failed> {
    match source.mapped() {
        // A descriptor of our own copy, so that the caller owns it either way.
        Some(mapped) => rustix::io::fcntl_dupfd_cloexec(mapped, 3).at_index(step, index),
        None => {
            let fd = open_source(&source.path, source.identity).map_err(|errno| Failed {
                step: if errno == Errno::STALE { Step::Identity } else { step },
                errno,
                index: u16::try_from(index).unwrap_or(u16::MAX),
            })?;
            clone_tree(fd.as_fd()).at_index(step, index)
        }
    }
}

/// The text `/proc/self/fd/N`, or with `/tail`, without allocating.
pub(super) struct FdPath([u8; 64]);

impl FdPath {
    pub(super) fn new(fd: BorrowedFd<'_>, tail: &CStr) -> Self {
        let mut text = [0; 64];
        let head = b"/proc/self/fd/";
        text[..head.len()].copy_from_slice(head);
        let mut at = head.len();
        let mut digits = [0; 10];
        let mut count = 0;
        let mut number = fd.as_raw_fd().unsigned_abs();
        loop {
            digits[count] = b'0' + (number % 10) as u8;
            count += 1;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        for digit in digits[..count].iter().rev() {
            text[at] = *digit;
            at += 1;
        }
        for byte in tail.to_bytes() {
            text[at] = *byte;
            at += 1;
        }
        Self(text)
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// Opens, and makes if needed, a folder beneath `root`; `prefixes` are its path and those above.
pub(super) fn open_target(
    root: BorrowedFd<'_>,
    prefixes: &[std::ffi::CString],
    directory: bool,
) -> Result<OwnedFd, Errno> {
    let followed = taken_out(Part::TargetLinks);
    let resolve = if followed {
        ResolveFlags::empty()
    } else {
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
    };
    let Some((last, above)) = prefixes.split_last() else {
        return Err(Errno::INVAL);
    };
    let no_links = |flags: OFlags| if followed { flags.difference(OFlags::NOFOLLOW) } else { flags };
    for prefix in above {
        match openat2(root, prefix.as_c_str(), no_links(DIRECTORY), Mode::empty(), resolve) {
            Ok(_) => {}
            Err(Errno::NOENT) => mkdirat(root, prefix.as_c_str(), Mode::from(0o755))?,
            Err(errno) => return Err(errno),
        }
    }
    let flags = no_links(if directory { DIRECTORY } else { ANY });
    match openat2(root, last.as_c_str(), flags, Mode::empty(), resolve) {
        Err(Errno::NOENT) if directory => mkdirat(root, last.as_c_str(), Mode::from(0o755))?,
        Err(Errno::NOENT) => {
            openat(
                root,
                last.as_c_str(),
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::from(0o644),
            )?;
        }
        result => return result,
    }
    openat2(root, last.as_c_str(), flags, Mode::empty(), resolve)
}

pub(super) fn open_in(root: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat2(
        root,
        name,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}
