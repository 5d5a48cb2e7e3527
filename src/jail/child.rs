//! The child of the keeper from clone3(2) to PID 1's loop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{DumpableBehavior, Signal};

use super::prepare::Prepared;
use super::step::{At, Failed, Step};
use super::wire::{self, Message};
use super::{confine, init, mounts};

/// What the child keeps of the keeper's descriptors.
#[derive(Debug)]
pub struct Inherited {
    /// Its end of the control socket.
    pub control: OwnedFd,
    /// The entry's three streams, for an entry without a terminal.
    pub pipes: Option<[OwnedFd; 3]>,
}

/// Builds the jail and serves as PID 1; returns the process's exit code.
#[must_use]
pub fn run(prepared: &Prepared, inherited: Inherited) -> i32 {
    let Inherited { control, pipes } = inherited;
    // Only for whoever looks at a list of processes.
    let _named = rustix::thread::set_name(c"tripmine-init");
    match build(prepared, control.as_fd()) {
        Ok(signals) => match serve(prepared, &control, &signals, pipes) {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Err(failed) => {
            let message = Message::Failed {
                step: failed.step as u16,
                index: failed.index,
                errno: failed.errno.raw_os_error(),
            };
            // If the keeper is gone there is nobody left to tell.
            let _told = wire::send(control.as_fd(), message, &[]);
            1
        }
    }
}

/// Everything up to "confined"; from here on this process holds nothing of the host.
fn build(prepared: &Prepared, control: BorrowedFd<'_>) -> Result<OwnedFd, Failed> {
    // The keeper's own files are private; the cube's folders are not.
    rustix::process::umask(Mode::from(0o022));
    match &prepared.own_maps {
        Some((uid_map, gid_map)) => write_own_maps(uid_map, gid_map).at(Step::IdMap)?,
        None => wait_for(control, Message::MapsWritten).at(Step::KeeperSync)?,
    }
    if let Some((uid, gid)) = prepared.take_ids {
        take_ids(uid, gid).at(Step::SetIds)?;
    }
    // After the ids: a change of ids would clear it (prctl(2)). The socket's end is the second
    // guard, for a keeper that died before this line.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at(Step::DeathSignal)?;
    if prepared.late_cgroup_ns {
        cgroup_namespace().at(Step::CgroupNs)?;
    }
    rustix::system::sethostname(&prepared.hostname).at(Step::Hostname)?;
    crate::host::net::loopback_up().at(Step::Loopback)?;
    let canary = mounts::enter_root(prepared)?;
    let signals = init::signals()?;
    confine::confine(prepared, canary)?;
    Ok(signals)
}

fn serve(
    prepared: &Prepared,
    control: &OwnedFd,
    signals: &OwnedFd,
    pipes: Option<[OwnedFd; 3]>,
) -> Result<(), Errno> {
    wire::send(control.as_fd(), Message::Confined, &[])?;
    wait_for(control.as_fd(), Message::Go)?;
    // Only now, because the keeper could not have read the layers of a sealed process.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    wire::send(control.as_fd(), Message::Sealed, &[])?;
    init::serve(control.as_fd(), signals, &prepared.entry, pipes)
}

fn wait_for(control: BorrowedFd<'_>, expected: Message) -> Result<(), Errno> {
    match wire::receive(control, RecvFlags::empty())? {
        Some(received) if received.message == expected => Ok(()),
        Some(_) => Err(Errno::PROTO),
        None => Err(Errno::PIPE),
    }
}

/// A process may map its own id to one id of its choice (user_namespaces(7)); it must give up
/// setgroups(2) first.
fn write_own_maps(uid_map: &[u8], gid_map: &[u8]) -> Result<(), Errno> {
    write_file(c"/proc/self/setgroups", b"deny")?;
    write_file(c"/proc/self/uid_map", uid_map)?;
    write_file(c"/proc/self/gid_map", gid_map)
}

fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = openat(rustix::fs::CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes).map(|_| ())
}

fn take_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

#[expect(unsafe_code, reason = "rustix marks unshare as unsafe")]
fn cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: single-threaded, and only the cgroup namespace changes.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }
}
