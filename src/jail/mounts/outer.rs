//! The root of the jail around a virtual machine: the image `host`, read-only but for what vanishes, with the guest's root
//! in a folder of it. As everything here, made of descriptors; allocates nothing after its sources are open.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::MAX_TREES;
use super::overlay::{make_and_open, overlay, stage};
use super::tree::{
    DIRECTORY, FdPath, attach, nosuid, nosuid_nodev, open_in, open_target, set_attributes, source_tree,
};
use crate::jail::prepare::Outer;
use crate::jail::step::{At, Failed, Step};
use crate::jail::taken_out::{Part, taken_out};

/// What [`open`] found before the first mount covered it.
pub(super) struct Opened {
    lowers: [Option<OwnedFd>; MAX_TREES],
    system: [Option<OwnedFd>; MAX_TREES],
    files: [Option<OwnedFd>; MAX_TREES],
}

/// Opens all sources.
pub(super) fn open(outer: &Outer) -> Result<Opened, Failed> {
    let mut opened = Opened {
        lowers: [const { None }; MAX_TREES],
        system: [const { None }; MAX_TREES],
        files: [const { None }; MAX_TREES],
    };
    let too_many = |step| Err(Errno::TOOBIG).at(step);
    for (index, lower) in outer.lowers.iter().enumerate() {
        let Some(slot) = opened.lowers.get_mut(index) else { return too_many(Step::Lower) };
        *slot = Some(source_tree(lower, Step::Lower, index)?);
    }
    for (index, tree) in outer.system.iter().enumerate() {
        let Some(slot) = opened.system.get_mut(index) else { return too_many(Step::SystemTree) };
        *slot = Some(source_tree(&tree.source, Step::SystemTree, index)?);
    }
    for (index, file) in outer.files.iter().enumerate() {
        let Some(slot) = opened.files.get_mut(index) else { return too_many(Step::Machine) };
        *slot = Some(source_tree(&file.source, Step::Machine, index)?);
    }
    Ok(opened)
}

/// Mounts the root with its system folders, in the scratch file system.
pub(super) fn stand(outer: &Outer, opened: &Opened, scratch: BorrowedFd<'_>) -> Result<OwnedFd, Failed> {
    stage(&opened.lowers, b'q', scratch).at(Step::Lower)?;
    let mount = || -> Result<OwnedFd, Errno> {
        let (upper, work) = (make_and_open(scratch, c"outer-upper")?, make_and_open(scratch, c"outer-work")?);
        let (upper, work) = (FdPath::new(upper.as_fd(), c""), FdPath::new(work.as_fd(), c""));
        let upper = Some((upper.as_c_str(), work.as_c_str()));
        let root = overlay(opened.lowers.iter().flatten(), upper, nosuid_nodev())?;
        attach(root.as_fd(), make_and_open(scratch, c"outer")?.as_fd())?;
        Ok(root)
    };
    let root = mount().at(Step::Overlay)?;
    for (index, tree) in outer.system.iter().enumerate() {
        let Some(opened) = &opened.system[index] else { continue };
        let target = open_in(root.as_fd(), &tree.target, DIRECTORY).at_index(Step::SystemTree, index)?;
        let mut attributes = nosuid_nodev();
        if !taken_out(Part::SystemReadOnly) {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        set_attributes(opened.as_fd(), attributes).at_index(Step::SystemTree, index)?;
        attach(opened.as_fd(), target.as_fd()).at_index(Step::SystemTree, index)?;
    }
    Ok(root)
}

/// Puts the machine's files and the guest's root in.
pub(super) fn files(
    outer: &Outer,
    opened: &Opened,
    jail: BorrowedFd<'_>,
    guest: BorrowedFd<'_>,
) -> Result<(), Failed> {
    for (index, file) in outer.files.iter().enumerate() {
        let Some(tree) = &opened.files[index] else { continue };
        let target = open_target(jail, &file.target, file.directory).at_index(Step::Machine, index)?;
        // The one device among them is of use only where devices are.
        let attributes =
            if file.read_only { nosuid_nodev() | MountAttrFlags::MOUNT_ATTR_RDONLY } else { nosuid() };
        set_attributes(tree.as_fd(), attributes).at_index(Step::Machine, index)?;
        attach(tree.as_fd(), target.as_fd()).at_index(Step::Machine, index)?;
    }
    let name: &CStr = c"guest";
    let place = make_and_open(jail, name).at(Step::Machine)?;
    attach(guest, place.as_fd()).at(Step::Machine)
}
