//! The guest's root: the shares mounted where they belong, what every kernel shows on top, and then entered.

use std::ffi::CString;
use std::fmt::Write as _;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move, mount_remount};
use rustix::time::{ClockId, Timespec};

use crate::microvm::wire::{Mount, MountKind, Setup};

/// Where the root is put together.
const NEW: &str = "/newroot";

/// A step that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) step: String,
    pub(super) errno: Errno,
}

pub(super) fn at(step: impl Into<String>) -> impl FnOnce(Errno) -> Failed {
    let step = step.into();
    move |errno| Failed { step, errno }
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Character devices that everybody may use: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Makes it and enters it.
pub(super) fn make(setup: &Setup) -> Result<(), Failed> {
    rustix::system::sethostname(setup.hostname.as_bytes()).map_err(at("setting the host name"))?;
    folder(NEW).map_err(at("making a folder"))?;
    for one in &setup.mounts {
        put(one)?;
    }
    let listed = |target: &str| setup.mounts.iter().any(|one| one.target == target);
    kernel()?;
    for (target, mode) in [("/tmp", "mode=1777"), ("/run", "mode=0755")] {
        if !listed(target) {
            special("tmpfs", target, SAFE, mode)?;
        }
    }
    enter().map_err(at("entering the root"))
}

fn put(one: &Mount) -> Result<(), Failed> {
    let step = format!("mounting {} at {}", one.source, one.target);
    let target = format!("{NEW}{}", if one.target == "/" { "" } else { &one.target });
    // A mount point that is missing and cannot be made is told by the mount itself.
    let _made = folder(&target);
    let flags = if one.read_only { SAFE | MountFlags::RDONLY } else { SAFE };
    let options = |text: &str| CString::new(text).map_err(|_| Errno::INVAL);
    let result = match one.kind {
        MountKind::Virtiofs => mount(one.source.as_str(), target.as_str(), "virtiofs", flags, None),
        MountKind::NineP => {
            let data = options("trans=virtio,version=9p2000.L,msize=262144,cache=none,access=client");
            data.and_then(|data| mount(one.source.as_str(), target.as_str(), "9p", flags, data.as_c_str()))
        }
        MountKind::Tmpfs => options(&one.source)
            .and_then(|data| mount("tmpfs", target.as_str(), "tmpfs", flags, data.as_c_str())),
    };
    result.map_err(at(step))
}

fn special(kind: &str, target: &str, flags: MountFlags, options: &str) -> Result<(), Failed> {
    let step = format!("mounting {kind} at {target}");
    let target = format!("{NEW}{target}");
    let _made = folder(&target);
    let options = CString::new(options).unwrap_or_default();
    mount(kind, target.as_str(), kind, flags, options.as_c_str()).map_err(at(step))
}

/// What the kernel shows: processes, itself, devices.
fn kernel() -> Result<(), Failed> {
    let closed = SAFE | MountFlags::NOEXEC;
    special("proc", "/proc", closed, "")?;
    special("sysfs", "/sys", closed | MountFlags::RDONLY, "")?;
    for name in ["sys", "irq", "bus", "fs", "sysrq-trigger"] {
        let path = format!("{NEW}/proc/{name}");
        // What this kernel does not have needs no cover.
        if mount_bind(path.as_str(), path.as_str()).is_ok() {
            mount_remount(path.as_str(), MountFlags::BIND | MountFlags::RDONLY | closed, "")
                .map_err(at(format!("covering /proc/{name}")))?;
        }
    }
    special("tmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0755,size=1m")?;
    let everybody = Mode::from(0o666);
    for (name, major, minor) in DEVICES {
        let path = format!("{NEW}/dev/{name}");
        mknodat(CWD, path.as_str(), FileType::CharacterDevice, everybody, makedev(major, minor))
            .and_then(|()| rustix::fs::chmod(path.as_str(), everybody))
            .map_err(at(format!("making /dev/{name}")))?;
    }
    for (target, name) in LINKS {
        symlinkat(target, CWD, format!("{NEW}/dev/{name}").as_str())
            .map_err(at(format!("making /dev/{name}")))?;
    }
    special("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, "ptmxmode=0666,mode=0620")?;
    special("tmpfs", "/dev/shm", SAFE, "mode=1777")
}

fn folder(path: &str) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The old root, which is the kernel's own and cannot be left, is covered by the new one.
fn enter() -> Result<(), Errno> {
    rustix::process::chdir(NEW)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}

/// Sets the clock, in nanoseconds since 1970.
pub(super) fn set_clock(nanoseconds: u64) -> Result<(), Errno> {
    let second = 1_000_000_000;
    let time = Timespec {
        tv_sec: i64::try_from(nanoseconds / second).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanoseconds % second).unwrap_or(0),
    };
    rustix::time::clock_settime(ClockId::Realtime, time)
}

/// What went wrong, for the console: there is nobody else to tell.
pub(super) fn complain(what: &str) {
    let mut text = String::from("tripmine agent: ");
    // Writing to a String does not fail.
    let _written = writeln!(text, "{what}");
    if let Ok(console) = rustix::fs::open("/dev/console", rustix::fs::OFlags::WRONLY, Mode::empty()) {
        let _told = rustix::io::write(&console, text.as_bytes());
    }
}
