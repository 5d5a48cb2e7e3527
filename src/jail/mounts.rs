//! The root file system of a cube, made of descriptors only.
//!
//! No path that a user or an image controls is followed by name: sources are opened by `openat2` with links
//! refused and compared with what was planned; targets are opened beneath the new root in the same way, so a
//! kept cube that planted a link cannot lead a mount elsewhere (the runc, crun and bubblewrap faults named in
//! SECURITY.md). Allocates nothing.

mod kernel;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, open_tree, unmount,
};

use kernel::{DEVICES, dev, proc};

use super::prepare::{Bind, Prepared, Source, Upper};
use super::step::{At, Failed, Step};
use super::taken_out::{Part, taken_out};
use crate::host::sys::mount_setattr;
use crate::plan::launch::FileIdentity;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const ANY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// `nosuid`, which every mount has.
fn nosuid() -> MountAttrFlags {
    if taken_out(Part::NoSuid) { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_NOSUID }
}

/// And `nodev`, which every mount outside /dev has.
fn nosuid_nodev() -> MountAttrFlags {
    if taken_out(Part::NoDev) { nosuid() } else { nosuid() | MountAttrFlags::MOUNT_ATTR_NODEV }
}

/// Opens an absolute path of the host without following any link, and compares it with `identity`.
fn open_source(path: &CStr, identity: Option<FileIdentity>) -> Result<OwnedFd, Errno> {
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
fn same(stat: &Stat, expected: FileIdentity) -> bool {
    stat.st_dev as u64 == expected.dev && stat.st_ino as u64 == expected.ino
}

/// A private copy of the mount at `fd`, with everything mounted beneath it.
fn clone_tree(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    open_tree(
        fd,
        c"",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
}

fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    move_mount(
        mount,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

fn set_attributes(mount: BorrowedFd<'_>, set: MountAttrFlags) -> std::io::Result<()> {
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
fn source_tree(source: &Source, step: Step, index: usize) -> Result<OwnedFd, Failed> {
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
struct FdPath([u8; 64]);

impl FdPath {
    fn new(fd: BorrowedFd<'_>, tail: &CStr) -> Self {
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

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// Opens, and makes if needed, a folder beneath `root`; `prefixes` are its path and those above.
fn open_target(
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

fn open_in(root: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat2(
        root,
        name,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Mounts an overlay. Few lowers are given as one `lowerdir` text, which every kernel reads; more than fit into the 256
/// bytes of an fsconfig(2) value go one by one as `lowerdir+` (Linux 6.8).
fn overlay<'a>(
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
fn join<'a>(lowers: impl Iterator<Item = &'a OwnedFd>, joined: &mut [u8; 256]) -> bool {
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

/// What is left open of the root's making.
pub(super) struct Entered {
    /// A folder of the host that the cube must not be able to use: the canary for Landlock.
    pub(super) canary: OwnedFd,
    /// Where the uppers are, for the keeper: nothing inside names it any more.
    pub(super) store: OwnedFd,
}

/// What is taken of every host, whatever the plan: done while the plan is still being made.
pub(super) struct Host {
    root: OwnedFd,
    devices: [Option<OwnedFd>; DEVICES.len()],
}

/// Cuts propagation and opens what every cube needs of the host. Before the first mount covers it.
pub(super) fn open_host() -> Result<Host, Failed> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at(Step::Propagation)?;
    let root =
        openat2(rustix::fs::CWD, c"/", DIRECTORY, Mode::empty(), ResolveFlags::empty()).at(Step::Scratch)?;
    let mut devices = [const { None }; DEVICES.len()];
    for (index, (host, _)) in DEVICES.iter().enumerate() {
        let fd = open_source(host, None).at_index(Step::Dev, index)?;
        if FileType::from_raw_mode(fstat(&fd).at_index(Step::Dev, index)?.st_mode)
            != FileType::CharacterDevice
        {
            return Err(Errno::NODEV).at_index(Step::Dev, index);
        }
        devices[index] = Some(clone_tree(fd.as_fd()).at_index(Step::Dev, index)?);
    }
    Ok(Host { root, devices })
}

/// Builds the root and enters it.
pub(super) fn enter_root(prepared: &Prepared, host: Host) -> Result<Entered, Failed> {
    let Host { root: host_root, devices } = host;
    // Everything of the host is opened before the first mount covers it.
    let mut lower_trees: [Option<OwnedFd>; MAX_TREES] = [const { None }; MAX_TREES];
    for (index, lower) in prepared.lowers.iter().enumerate() {
        *lower_trees.get_mut(index).ok_or(Errno::TOOBIG).at(Step::Lower)? =
            Some(source_tree(lower, Step::Lower, index)?);
    }
    let mut system_trees: [Option<OwnedFd>; MAX_TREES] = [const { None }; MAX_TREES];
    for (index, tree) in prepared.system.iter().enumerate() {
        let opened = source_tree(&tree.source, Step::SystemTree, index)?;
        *system_trees.get_mut(index).ok_or(Errno::TOOBIG).at(Step::SystemTree)? = Some(opened);
    }
    // What layers of an image have in the system folders, one after the other.
    let mut over_trees: [Option<OwnedFd>; MAX_TREES] = [const { None }; MAX_TREES];
    for (index, lower) in prepared.system.iter().flat_map(|tree| &tree.lowers).enumerate() {
        *over_trees.get_mut(index).ok_or(Errno::TOOBIG).at(Step::SystemTree)? =
            Some(source_tree(lower, Step::SystemTree, index)?);
    }
    let mut bind_trees: [Option<OwnedFd>; MAX_TREES] = [const { None }; MAX_TREES];
    let mut review = None;
    for (index, bind) in prepared.mounts.iter().enumerate() {
        let opened = source_tree(&bind.source, Step::Source, index)?;
        *bind_trees.get_mut(index).ok_or(Errno::TOOBIG).at(Step::Source)? = Some(opened);
        if let Some(source) = &bind.review {
            review = Some(source_tree(source, Step::Source, index)?);
        }
    }
    let disk = match &prepared.upper {
        Upper::Scratch => None,
        Upper::Disk(source) => Some(source_tree(source, Step::Overlay, 0)?),
    };

    // One tmpfs holds all that lives in memory; its size is the cube's disk limit.
    let scratch = scratch(&prepared.scratch_size, &prepared.scratch_inodes).at(Step::Scratch)?;
    // Over a folder that every host has, and never over `/`: what lies on the root itself would be
    // unmounted in its stead at the end.
    let staging = openat2(rustix::fs::CWD, c"/usr", DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .at(Step::Scratch)?;
    attach(scratch.as_fd(), staging.as_fd()).at(Step::Scratch)?;
    // Detached copies become usable as overlay layers only once they are attached somewhere.
    stage(&lower_trees, b'l', scratch.as_fd()).at(Step::Lower)?;
    stage(&over_trees, b'o', scratch.as_fd()).at(Step::SystemTree)?;
    let (upper_path, work_path) = match &disk {
        None => {
            for name in [c"upper", c"work"] {
                mkdirat(&scratch, name, Mode::from(0o755)).at(Step::Scratch)?;
            }
            (FdPath::new(scratch.as_fd(), c"/upper"), FdPath::new(scratch.as_fd(), c"/work"))
        }
        Some(disk) => {
            let place = make_and_open(scratch.as_fd(), c"disk").at(Step::Overlay)?;
            attach(disk.as_fd(), place.as_fd()).at(Step::Overlay)?;
            (FdPath::new(disk.as_fd(), c"/upper"), FdPath::new(disk.as_fd(), c"/work"))
        }
    };
    let root = match lower_trees.iter().flatten().last() {
        Some(shared) if taken_out(Part::Upper) => clone_tree(shared.as_fd()),
        _ => overlay(
            lower_trees.iter().flatten(),
            Some((upper_path.as_c_str(), work_path.as_c_str())),
            nosuid_nodev(),
        ),
    }
    .at(Step::Overlay)?;
    attach(root.as_fd(), make_and_open(scratch.as_fd(), c"root").at(Step::Overlay)?.as_fd())
        .at(Step::Overlay)?;

    let in_root = root.as_fd();
    let mut used = 0;
    for (index, tree) in prepared.system.iter().enumerate() {
        let Some(opened) = &system_trees[index] else { continue };
        let target = open_in(in_root, &tree.target, DIRECTORY).at_index(Step::SystemTree, index)?;
        let (first, count) = (used, tree.lowers.len());
        used += count;
        let above = &over_trees[first..first + count];
        if tree.writable || count > 0 {
            let disk = disk.as_ref().filter(|_| tree.writable);
            overlaid_tree(opened, above, tree.writable, scratch.as_fd(), disk, index, target.as_fd())
                .at_index(Step::SystemTree, index)?;
        } else {
            let mut attributes = nosuid_nodev();
            if !taken_out(Part::SystemReadOnly) {
                attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
            }
            set_attributes(opened.as_fd(), attributes).at_index(Step::SystemTree, index)?;
            attach(opened.as_fd(), target.as_fd()).at_index(Step::SystemTree, index)?;
        }
    }
    proc(in_root, scratch.as_fd())?;
    dev(in_root, scratch.as_fd(), &devices)?;
    for (name, target, mode) in [(c"tmp", c"tmp", 0o1777), (c"run", c"run", 0o755)] {
        share(scratch.as_fd(), name, mode, in_root, target).at(Step::Scratch)?;
    }
    mkdirat(&scratch, c"run/lock", Mode::from(0o1777)).at(Step::Scratch)?;
    for (index, bind) in prepared.mounts.iter().enumerate() {
        let Some(opened) = &bind_trees[index] else { continue };
        let upper = bind.review.as_ref().and(review.as_ref());
        mount_bind(bind, opened.as_fd(), upper, in_root, scratch.as_fd(), prepared.ephemeral_home, index)?;
    }

    if taken_out(Part::OldRoot) {
        rustix::process::fchdir(&root).at(Step::Pivot)?;
        mkdirat(&root, c"oldroot", Mode::from(0o755)).at(Step::Pivot)?;
        rustix::process::pivot_root(c".", c"oldroot").at(Step::Pivot)?;
        rustix::process::chdir(c"/").at(Step::Pivot)?;
        return Ok(Entered { canary: host_root, store: disk.unwrap_or(scratch) });
    }
    rustix::process::fchdir(&root).at(Step::Pivot)?;
    rustix::process::pivot_root(c".", c".").at(Step::Pivot)?;
    // The old root now lies over the new one. It is entered by descriptor, because "." alone would
    // name the new root; detached, nothing names it any more.
    rustix::process::fchdir(&host_root).at(Step::Pivot)?;
    unmount(c".", UnmountFlags::DETACH).at(Step::Pivot)?;
    rustix::process::chdir(c"/").at(Step::Pivot)?;
    Ok(Entered { canary: host_root, store: disk.unwrap_or(scratch) })
}

/// The most lowers, system folders or mounts of one cube.
pub const MAX_TREES: usize = 64;

fn scratch(size: &CStr, inodes: &CStr) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !taken_out(Part::TmpfsSize) {
        fsconfig_set_string(context.as_fd(), c"size", size)?;
        fsconfig_set_string(context.as_fd(), c"nr_inodes", inodes)?;
    }
    fsconfig_set_string(context.as_fd(), c"mode", c"0755")?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, nosuid_nodev())
}

fn make_and_open(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    mkdirat(dir, name, Mode::from(0o755))?;
    open_in(dir, name, DIRECTORY)
}

/// Attaches the trees under short names in the scratch file system.
fn stage(trees: &[Option<OwnedFd>], head: u8, scratch: BorrowedFd<'_>) -> Result<(), Errno> {
    for (index, tree) in trees.iter().flatten().enumerate() {
        let name = [head, letter(index / 26), letter(index), 0];
        let name = CStr::from_bytes_with_nul(&name).map_err(|_| Errno::INVAL)?;
        attach(tree.as_fd(), make_and_open(scratch, name)?.as_fd())?;
    }
    Ok(())
}

/// A letter for a number, for names of one use.
fn letter(index: usize) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz"[index % 26]
}

/// An overlay over one host system folder, with what layers have there above it and, if `writable`, its changes in the
/// upper.
fn overlaid_tree(
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

/// A folder of the scratch file system, seen at `target`.
fn share(
    scratch: BorrowedFd<'_>,
    name: &CStr,
    mode: u32,
    root: BorrowedFd<'_>,
    target: &CStr,
) -> Result<(), Errno> {
    let source = make_and_open(scratch, name)?;
    // mkdir's mode is cut by the umask and has no sticky bit.
    rustix::fs::chmodat(scratch, name, Mode::from(mode), AtFlags::empty())?;
    let target = open_in(root, target, DIRECTORY)?;
    let tree = clone_tree(source.as_fd())?;
    attach(tree.as_fd(), target.as_fd())
}

fn mount_bind(
    bind: &Bind,
    tree: BorrowedFd<'_>,
    review: Option<&OwnedFd>,
    root: BorrowedFd<'_>,
    scratch: BorrowedFd<'_>,
    ephemeral_home: bool,
    index: usize,
) -> Result<(), Failed> {
    let target = open_target(root, &bind.target, bind.directory).at_index(Step::Target, index)?;
    let mut attributes = nosuid_nodev();
    if bind.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    set_attributes(tree, attributes).at_index(Step::Bind, index)?;
    if bind.home && ephemeral_home {
        let cover = || -> Result<(), Errno> {
            let place = make_and_open(scratch, c"home")?;
            attach(tree, place.as_fd())?;
            let (upper, work) =
                (make_and_open(scratch, c"home-upper")?, make_and_open(scratch, c"home-work")?);
            let lower = open_in(scratch, c"home", DIRECTORY)?;
            let (upper, work) = (FdPath::new(upper.as_fd(), c""), FdPath::new(work.as_fd(), c""));
            let mount =
                overlay(std::iter::once(&lower), Some((upper.as_c_str(), work.as_c_str())), nosuid_nodev())?;
            attach(mount.as_fd(), target.as_fd())
        };
        return cover().at_index(Step::Bind, index);
    }
    if let Some(review) = review {
        return under_review(tree, review, scratch, target.as_fd()).at_index(Step::Bind, index);
    }
    attach(tree, target.as_fd()).at_index(Step::Bind, index)
}

/// An overlay over the project, its changes in a folder of the cube.
fn under_review(
    tree: BorrowedFd<'_>,
    review: &OwnedFd,
    scratch: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
) -> Result<(), Errno> {
    attach(tree, make_and_open(scratch, c"reviewed")?.as_fd())?;
    attach(review.as_fd(), make_and_open(scratch, c"review")?.as_fd())?;
    let lower = open_in(scratch, c"reviewed", DIRECTORY)?;
    let (upper, work) = (FdPath::new(review.as_fd(), c"/upper"), FdPath::new(review.as_fd(), c"/work"));
    let mount = overlay(std::iter::once(&lower), Some((upper.as_c_str(), work.as_c_str())), nosuid_nodev())?;
    attach(mount.as_fd(), target)
}
