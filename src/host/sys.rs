//! System calls that neither rustix nor std offers, each in the smallest safe wrapper.
//!
//! One of the two places (with `jail/`) where `unsafe` is allowed.
#![expect(unsafe_code, reason = "raw system calls without a safe wrapper in rustix or nix")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `struct clone_args` of clone3(2), up to `cgroup` (Linux 5.7).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the child's number and a descriptor that names it for ever.
    Parent {
        /// The child as this process sees it.
        pid: i32,
        /// Its pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// Forks with `namespaces` (`CLONE_NEW*`), by clone3(2) with a pidfd.
///
/// # Errors
/// As clone3(2): EPERM or ENOSPC when namespaces are refused.
///
/// # Safety
/// The caller must be single-threaded, or the child must not allocate or lock before it ends.
pub unsafe fn fork_into(namespaces: u64) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a valid clone_args of the size given, and lives across the call; without
    // CLONE_VM the child has its own copy of all memory. Nothing safe offers clone3.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            // SAFETY: the kernel stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid, pidfd })
        }
    }
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes (`MOUNT_ATTR_*`) on the mount `tree`, and on all mounts beneath it. With a user namespace, the
/// mount gets its id map.
///
/// # Errors
/// As mount_setattr(2).
pub fn mount_setattr(tree: BorrowedFd<'_>, set: u64, userns: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attr = MountAttr { attr_set: set, ..MountAttr::default() };
    if let Some(userns) = userns {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = u64::from(userns.as_raw_fd().unsigned_abs());
    }
    let flags = libc::AT_EMPTY_PATH | AT_RECURSIVE;
    // SAFETY: the path is an empty C string and `attr` is a valid mount_attr of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut attr,
            size_of::<MountAttr>(),
        )
    };
    check(result)
}

/// `AT_RECURSIVE` of fcntl.h.
const AT_RECURSIVE: libc::c_int = 0x8000;

/// Asks the kernel to begin writing a part of a file to the disk, so that a later fsync(2) has less to wait for. A file
/// system that cannot is no error: nothing is promised but by fsync itself.
pub fn begin_writing_out(file: BorrowedFd<'_>, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: the descriptor is open for the whole call, which touches no memory of ours.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) {
    close_between(first, u32::MAX);
}

/// Closes the descriptors `first..=last`.
pub fn close_between(first: u32, last: u32) {
    if first > last {
        return;
    }
    // SAFETY: closing descriptors is memory safe; the callers give up every owner of these.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, last, 0);
    }
}

/// Installs a seccomp filter on the calling thread. `no_new_privs` must be on already.
///
/// # Errors
/// As seccomp(2).
pub fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` names a live slice of `len` instructions; the kernel only reads it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(result)
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
