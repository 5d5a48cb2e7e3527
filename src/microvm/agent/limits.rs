//! What the processes of a guest may take together, and each of them. A flood of processes is the guest's own matter, but
//! whoever asked for a limit is to find it there.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::root::{Failed, at};
use crate::microvm::wire::Setup;

/// Of the first file system: the cube's root covers it.
const MOUNT: &str = "/cgroup";
const GROUP: &str = "/cgroup/cube";

/// Sets the limits; the `cgroup.procs` that a program enters before it runs, if there is one.
pub(super) fn set(setup: &Setup) -> Result<Option<OwnedFd>, Failed> {
    let limit = |value| Rlimit { current: Some(value), maximum: Some(value) };
    if setup.open_files > 0 {
        setrlimit(Resource::Nofile, limit(setup.open_files)).map_err(at("limiting open files"))?;
    }
    setrlimit(Resource::Core, limit(0)).map_err(at("limiting core files"))?;
    if setup.pids == 0 {
        return Ok(None);
    }
    group(setup.pids).map(Some).map_err(at("limiting processes (its kernel needs cgroups with `pids`)"))
}

fn group(pids: u32) -> Result<OwnedFd, Errno> {
    let mode = Mode::from(0o700);
    let made = |path| match rustix::fs::mkdir(path, mode) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    };
    made(MOUNT)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("cgroup2", MOUNT, "cgroup2", flags, None)?;
    put("/cgroup/cgroup.subtree_control", "+pids")?;
    made(GROUP)?;
    put("/cgroup/cube/pids.max", &pids.to_string())?;
    open("/cgroup/cube/cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

fn put(path: &str, text: &str) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, text.as_bytes()).map(drop)
}
