//! Overlays, and the scratch file system that holds what they are made of.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::tree::{DIRECTORY, FdPath, attach, nosuid_nodev, open_in};
use crate::jail::taken_out::{Part, taken_out};

/// Mounts an overlay. Few lowers are given as one `lowerdir` text, which every kernel reads; more than fit into the 256
/// bytes of an fsconfig(2) value go one by one as `lowerdir+` (Linux 6.8).
pub(super) fn overlay<'a>(
    lowers: impl Iterator<Item = &'a OwnedFd> + Clone,
    upper: Option<(&CStr, &CStr)>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let mut joined = [0_u8; 256];
    if join(lowers.clone(), &mut joined) {
        let text = CStr::from_bytes_until_nul(&joined).map_err(|_| Errno::INVAL)?;
        fsconfig_set_string(context.as_fd(), c"lowerdir", text)?;
    } else {
        for lower in lowers {
            fsconfig_set_string(context.as_fd(), c"lowerdir+", FdPath::new(lower.as_fd(), c"").as_c_str())?;
        }
    }
    if let Some((upper, work)) = upper {
        fsconfig_set_string(context.as_fd(), c"upperdir", upper)?;
        fsconfig_set_string(context.as_fd(), c"workdir", work)?;
    }
    // Marks in user.* attributes: the only ones that a user namespace may write (overlayfs(5)).
    fsconfig_set_flag(context.as_fd(), c"userxattr")?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The lowers' paths with colons between; false when they do not fit with the final NUL.
pub(super) fn join<'a>(lowers: impl Iterator<Item = &'a OwnedFd>, joined: &mut [u8; 256]) -> bool {
    let mut at = 0;
    for lower in lowers {
        let path = FdPath::new(lower.as_fd(), c"");
        let path = path.as_c_str().to_bytes();
        let start = if at == 0 { 0 } else { at + 1 };
        let Some(space) = joined.get_mut(start..start + path.len()) else { return false };
        space.copy_from_slice(path);
        if at > 0 {
            joined[at] = b':';
        }
        at = start + path.len();
    }
    at < joined.len()
}

pub(super) fn scratch(size: &CStr, inodes: &CStr) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !taken_out(Part::TmpfsSize) {
        fsconfig_set_string(context.as_fd(), c"size", size)?;
        fsconfig_set_string(context.as_fd(), c"nr_inodes", inodes)?;
    }
    fsconfig_set_string(context.as_fd(), c"mode", c"0755")?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, nosuid_nodev())
}

pub(super) fn make_and_open(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    mkdirat(dir, name, Mode::from(0o755))?;
    open_in(dir, name, DIRECTORY)
}

/// Attaches the trees under short names in the scratch file system.
pub(super) fn stage(trees: &[Option<OwnedFd>], head: u8, scratch: BorrowedFd<'_>) -> Result<(), Errno> {
    for (index, tree) in trees.iter().flatten().enumerate() {
        let name = [head, letter(index / 26), letter(index), 0];
        let name = CStr::from_bytes_with_nul(&name).map_err(|_| Errno::INVAL)?;
        attach(tree.as_fd(), make_and_open(scratch, name)?.as_fd())?;
    }
    Ok(())
}

/// A letter for a number, for names of one use.
pub(super) fn letter(index: usize) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz"[index % 26]
}

/// An overlay over one host system folder, with what layers have there above it and, if `writable`, its changes in the
/// upper.
pub(super) fn overlaid_tree(
    lower: &OwnedFd,
    above: &[Option<OwnedFd>],
    writable: bool,
    scratch: BorrowedFd<'_>,
    disk: Option<&OwnedFd>,
    index: usize,
    target: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let letter = letter(index);
    let names = [[b's', letter, 0], [b'u', letter, 0], [b'w', letter, 0]];
    let name = |i: usize| CStr::from_bytes_with_nul(&names[i]).map_err(|_| Errno::INVAL);
    let place = make_and_open(scratch, name(0)?)?;
    attach(lower.as_fd(), place.as_fd())?;
    let lowers = above.iter().flatten().chain(std::iter::once(lower));
    if !writable {
        let mount = overlay(lowers, None, nosuid_nodev() | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        return attach(mount.as_fd(), target);
    }
    let store = disk.map_or(scratch, AsFd::as_fd);
    let open = |name: &CStr| match make_and_open(store, name) {
        Err(Errno::EXIST) => open_in(store, name, DIRECTORY),
        result => result,
    };
    let (upper, work) = (open(name(1)?)?, open(name(2)?)?);
    let (upper, work) = (FdPath::new(upper.as_fd(), c""), FdPath::new(work.as_fd(), c""));
    let mount = overlay(lowers, Some((upper.as_c_str(), work.as_c_str())), nosuid_nodev())?;
    attach(mount.as_fd(), target)
}
