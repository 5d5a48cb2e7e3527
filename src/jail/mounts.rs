//! The root file system of a cube, made of descriptors only.
//!
//! No path that a user or an image controls is followed by name: sources are opened by `openat2` with links
//! refused and compared with what was planned; targets are opened beneath the new root in the same way, so a
//! kept cube that planted a link cannot lead a mount elsewhere (the runc, crun and bubblewrap faults named in
//! SECURITY.md). Allocates nothing.

mod kernel;
mod outer;
mod overlay;
mod tree;

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use kernel::{DEVICES, dev, proc};
use overlay::{make_and_open, overlaid_tree, overlay, scratch, stage};
pub use tree::idmapped_clone;
use tree::{
    DIRECTORY, FdPath, attach, clone_tree, nosuid_nodev, open_in, open_source, open_target, set_attributes,
    source_tree,
};

use super::prepare::{Bind, Prepared, Upper};
use super::step::{At, Failed, Step};
use super::taken_out::{Part, taken_out};

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
    let outside = prepared.outer.as_ref().map(outer::open).transpose()?;
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
    // A guest's root has another one around it, and that is where the kernel's own things go.
    let around = match (&prepared.outer, &outside) {
        (Some(outer), Some(opened)) => Some(outer::stand(outer, opened, scratch.as_fd())?),
        _ => None,
    };
    let in_jail = around.as_ref().map_or(in_root, AsFd::as_fd);
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
    proc(in_jail, scratch.as_fd())?;
    dev(in_jail, scratch.as_fd(), &devices)?;
    for (name, target, mode) in [(c"tmp", c"tmp", 0o1777), (c"run", c"run", 0o755)] {
        share(scratch.as_fd(), name, mode, in_jail, target).at(Step::Scratch)?;
    }
    mkdirat(&scratch, c"run/lock", Mode::from(0o1777)).at(Step::Scratch)?;
    for (index, bind) in prepared.mounts.iter().enumerate() {
        let Some(opened) = &bind_trees[index] else { continue };
        let upper = bind.review.as_ref().and(review.as_ref());
        mount_bind(bind, opened.as_fd(), upper, in_root, scratch.as_fd(), prepared.ephemeral_home, index)?;
    }
    if let (Some(outer), Some(opened)) = (&prepared.outer, &outside) {
        outer::files(outer, opened, in_jail, in_root)?;
    }

    if taken_out(Part::OldRoot) {
        rustix::process::fchdir(in_jail).at(Step::Pivot)?;
        mkdirat(in_jail, c"oldroot", Mode::from(0o755)).at(Step::Pivot)?;
        rustix::process::pivot_root(c".", c"oldroot").at(Step::Pivot)?;
        rustix::process::chdir(c"/").at(Step::Pivot)?;
        return Ok(Entered { canary: host_root, store: disk.unwrap_or(scratch) });
    }
    rustix::process::fchdir(in_jail).at(Step::Pivot)?;
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
