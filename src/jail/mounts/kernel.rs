//! What the kernel shows a cube: a fresh /proc with its dangerous parts covered, six devices, own terminals.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::overlay::make_and_open;
use super::share;
use super::tree::{
    ANY, DIRECTORY, attach, clone_tree, nosuid, nosuid_nodev, open_in, open_source, set_attributes,
};
use crate::jail::step::{At, Failed, Step};
use crate::jail::taken_out::{Part, taken_out};

/// Device nodes of the host that a cube sees, as bind mounts: making nodes is forbidden.
pub(super) const DEVICES: [(&CStr, &CStr); 6] = [
    (c"/dev/null", c"dev/null"),
    (c"/dev/zero", c"dev/zero"),
    (c"/dev/full", c"dev/full"),
    (c"/dev/random", c"dev/random"),
    (c"/dev/urandom", c"dev/urandom"),
    (c"/dev/tty", c"dev/tty"),
];

/// Entries of /proc that a cube may read but not write, as seen from the cube's root.
///
/// Neither here nor below stands what only the host's root may open anyway (`kcore`, `sysrq-trigger`, `slabinfo`, `kmsg` …):
/// no id inside maps to it, so not even root inside, with every capability over its own namespace, passes the owner
/// check (capable_wrt_inode_uidgid). `verify-jail` tries them all the same. Each cover costs a launch some 15 µs.
const PROC_READ_ONLY: [&CStr; 4] = [c"proc/sys", c"proc/irq", c"proc/bus", c"proc/fs"];

/// Files of /proc that anyone may read and that tell of the host or reach into the kernel: covered by an empty file.
const PROC_MASKED_FILES: [&CStr; 9] = [
    c"proc/kallsyms",
    c"proc/keys",
    c"proc/key-users",
    c"proc/config.gz",
    c"proc/interrupts",
    c"proc/softirqs",
    c"proc/iomem",
    c"proc/ioports",
    c"proc/cmdline",
];

/// Folders of /proc, likewise.
const PROC_MASKED_FOLDERS: [&CStr; 3] = [c"proc/acpi", c"proc/scsi", c"proc/asound"];

pub(super) fn proc(root: BorrowedFd<'_>, scratch: BorrowedFd<'_>) -> Result<(), Failed> {
    let mount = || -> Result<(), Errno> {
        if taken_out(Part::PidNs) {
            return host_in_place(root, c"/proc", c"proc");
        }
        let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(context.as_fd())?;
        let proc = fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            nosuid_nodev() | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        )?;
        attach(proc.as_fd(), open_in(root, c"proc", DIRECTORY)?.as_fd())
    };
    mount().at(Step::Proc)?;
    if !taken_out(Part::UserNs) {
        watches(root).at(Step::Watches)?;
    }
    if taken_out(Part::ProcCovers) {
        return Ok(());
    }
    let empty_file = openat(
        scratch,
        c"empty-file",
        OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::from(0o444),
    )
    .at(Step::ProcMask)?;
    let empty_folder = make_and_open(scratch, c"empty").at(Step::ProcMask)?;
    for (index, name) in PROC_READ_ONLY.iter().enumerate() {
        cover(root, name, None).at_index(Step::ProcMask, index)?;
    }
    for (index, name) in PROC_MASKED_FILES.iter().enumerate() {
        cover(root, name, Some(empty_file.as_fd())).at_index(Step::ProcMask, 100 + index)?;
    }
    for (index, name) in PROC_MASKED_FOLDERS.iter().enumerate() {
        cover(root, name, Some(empty_folder.as_fd())).at_index(Step::ProcMask, 200 + index)?;
    }
    Ok(())
}

/// What of inotify(7) is counted for each user: what he may have, and what his cube may. What a cube takes counts for him
/// too, and with all of it taken no program of his would hear of a changed file any more.
const WATCHES: [(&CStr, &CStr); 2] = [
    (c"proc/sys/fs/inotify/max_user_instances", c"proc/sys/user/max_inotify_instances"),
    (c"proc/sys/fs/inotify/max_user_watches", c"proc/sys/user/max_inotify_watches"),
];

/// Allows each user of the cube half of what its user has. While the settings can still be written, which belong to the
/// cube's user namespace.
fn watches(root: BorrowedFd<'_>) -> Result<(), Errno> {
    for (all, own) in WATCHES {
        let all = match open_in(root, all, OFlags::RDONLY | OFlags::CLOEXEC) {
            Ok(all) => all,
            // A kernel without inotify.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        let mut text = [0; 24];
        let count = rustix::io::read(&all, &mut text)?;
        let number =
            std::str::from_utf8(&text[..count]).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let half = (number.ok_or(Errno::INVAL)? / 2).max(1);
        let own = open_in(root, own, OFlags::WRONLY | OFlags::CLOEXEC)?;
        rustix::io::write(&own, half.to_string().as_bytes())?;
    }
    Ok(())
}

/// The host's own folder where the cube should have one of its own: for counter-proofs.
fn host_in_place(root: BorrowedFd<'_>, path: &CStr, target: &CStr) -> Result<(), Errno> {
    let tree = clone_tree(open_source(path, None)?.as_fd())?;
    attach(tree.as_fd(), open_in(root, target, DIRECTORY)?.as_fd())
}

/// Covers `name` with a read-only copy of `with`, or of itself. What is not there needs no cover.
fn cover(root: BorrowedFd<'_>, name: &CStr, with: Option<BorrowedFd<'_>>) -> std::io::Result<()> {
    let target = match open_in(root, name, ANY) {
        Ok(target) => target,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let tree = clone_tree(with.unwrap_or(target.as_fd()))?;
    set_attributes(
        tree.as_fd(),
        nosuid_nodev() | MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    Ok(attach(tree.as_fd(), target.as_fd())?)
}

pub(super) fn dev(
    root: BorrowedFd<'_>,
    scratch: BorrowedFd<'_>,
    devices: &[Option<OwnedFd>],
) -> Result<(), Failed> {
    if taken_out(Part::Dev) {
        return host_in_place(root, c"/dev", c"dev").at(Step::Dev);
    }
    for (index, (_, target)) in DEVICES.iter().enumerate() {
        let Some(tree) = &devices[index] else { continue };
        set_attributes(tree.as_fd(), nosuid() | MountAttrFlags::MOUNT_ATTR_NOEXEC)
            .at_index(Step::Dev, index)?;
        let target = open_in(root, target, ANY).at_index(Step::Dev, index)?;
        attach(tree.as_fd(), target.as_fd()).at_index(Step::Dev, index)?;
    }
    share(scratch, c"shm", 0o1777, root, c"dev/shm").at_index(Step::Dev, 100)?;
    let terminals = || -> Result<(), Errno> {
        let context = fsopen(c"devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), c"ptmxmode", c"0666")?;
        fsconfig_set_string(context.as_fd(), c"mode", c"0620")?;
        fsconfig_create(context.as_fd())?;
        let mount = fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            nosuid() | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        )?;
        attach(mount.as_fd(), open_in(root, c"dev/pts", DIRECTORY)?.as_fd())
    };
    terminals().at(Step::DevPts)
}
