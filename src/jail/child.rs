//! The child of the keeper from clone3(2) to PID 1's loop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{DumpableBehavior, Signal};

use super::prepare::{Prepared, prepare};
use super::step::{At, Failed, Step};
use super::taken_out::{Part, taken_out};
use super::wire::{self, Message, Received};
use super::{confine, init, mounts};
use crate::plan::LaunchPlan;

/// What a child is born with, whatever it will be: every namespace but the cgroup's, which is taken when the child is in
/// its cgroup. `CLONE_NEWTIME` (0x80) is allowed for clone3(2), where the low byte is no signal.
pub const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS) as u64
    | 0x80;

/// [`NAMESPACES`], but for what a counter-proof takes out.
#[must_use]
pub fn namespaces() -> u64 {
    let all: [(Part, u64); 7] = [
        (Part::UserNs, libc::CLONE_NEWUSER as u64),
        (Part::MountNs, libc::CLONE_NEWNS as u64),
        (Part::PidNs, libc::CLONE_NEWPID as u64),
        (Part::NetNs, libc::CLONE_NEWNET as u64),
        (Part::IpcNs, libc::CLONE_NEWIPC as u64),
        (Part::UtsNs, libc::CLONE_NEWUTS as u64),
        (Part::TimeNs, 0x80),
    ];
    all.iter().filter(|(part, _)| taken_out(*part)).fold(NAMESPACES, |left, (_, flag)| left & !flag)
}

/// For a process that was born into [`namespaces`]: does what needs no plan, waits for the plan on `control`, builds the jail and
/// serves as PID 1; returns the process's exit code.
#[must_use]
pub fn run_in_namespaces(control: &OwnedFd) -> i32 {
    // Beside the keeper, which still waits for the plan or reads it. The first guard comes first.
    let host = death_signal().at(Step::DeathSignal).and_then(|()| mounts::open_host());
    finish(control, host.and_then(|host| build(control.as_fd(), host)))
}

/// For a process among the host's: the same in place.
#[must_use]
pub fn run_in_place(control: &OwnedFd) -> i32 {
    let guarded = death_signal().at(Step::DeathSignal);
    finish(control, guarded.and_then(|()| in_place(control.as_fd())))
}

/// Serves in a jail that is built, or tells why there is none.
fn finish(control: &OwnedFd, built: Result<Built, Failed>) -> i32 {
    match built {
        Ok(jail) => i32::from(serve(control, jail).is_err()),
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

/// A jail that is built and confined.
struct Built {
    prepared: Prepared,
    signals: OwnedFd,
    pipes: Option<[OwnedFd; 3]>,
    place: init::Place,
}

/// Everything up to "confined"; from here on this process holds nothing of the host.
fn build(control: BorrowedFd<'_>, host: mounts::Host) -> Result<Built, Failed> {
    let (prepared, pipes) = plan(control).at(Step::Plan)?;
    // The keeper's own files are private; the cube's folders are not.
    rustix::process::umask(Mode::from(0o022));
    if let Some((uid_map, gid_map)) = &prepared.own_maps {
        write_own_maps(uid_map, gid_map).at(Step::IdMap)?;
    }
    if let Some((uid, gid)) = prepared.take_ids {
        take_ids(uid, gid).at(Step::SetIds)?;
        // A change of ids cleared it (prctl(2)). The socket's end is the second guard, for a keeper that died
        // before this line.
        death_signal().at(Step::DeathSignal)?;
    }
    if !taken_out(Part::CgroupNs) {
        cgroup_namespace().at(Step::CgroupNs)?;
    }
    if !taken_out(Part::UtsNs) {
        rustix::system::sethostname(&prepared.hostname).at(Step::Hostname)?;
    }
    if !taken_out(Part::NetNs) {
        crate::host::net::loopback_up().at(Step::Loopback)?;
        if prepared.low_ports {
            // For what listens on such a port in the guest. Where settings cannot be written that port is not found here.
            let _set = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
        }
    }
    let mounts::Entered { canary, store } = mounts::enter_root(&prepared, host)?;
    // From here on the keeper reads back what stands, beside us. With the uppers: soon nobody inside can open them.
    wire::send(control, Message::Mounted, &[store.as_fd()]).at(Step::KeeperSync)?;
    drop(store);
    let signals = init::signals()?;
    let filters = filters(control).at(Step::Seccomp)?;
    confine::confine(&prepared, &filters, canary)?;
    init::default_signals();
    seal(control)?;
    Ok(Built { prepared, signals, pipes, place: init::Place::OwnRoot })
}

/// The same without namespaces: what a cube may reach is all Landlock's and the filter's matter, from the host's own root.
fn in_place(control: BorrowedFd<'_>) -> Result<Built, Failed> {
    let (prepared, pipes) = plan(control).at(Step::Plan)?;
    rustix::process::umask(Mode::from(0o022));
    // Orphans are then ours, as a process namespace would have it.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).at(Step::Subreaper)?;
    // The one folder that nobody may read but by a rule: the root itself.
    let root = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let canary = openat(rustix::fs::CWD, c"/", root, Mode::empty()).at(Step::Canary)?;
    let terminal = match prepared.terminal {
        Some((rows, cols)) => Some(init::terminal(c"/dev/ptmx", rows, cols).at(Step::Terminal)?),
        None => None,
    };
    wire::send(control, Message::Mounted, &[]).at(Step::KeeperSync)?;
    let signals = init::signals()?;
    let filters = filters(control).at(Step::Seccomp)?;
    confine::confine_in_place(
        &prepared,
        &filters,
        canary,
        terminal.as_ref().map(|(_, slave)| slave.as_fd()),
    )?;
    init::default_signals();
    seal(control)?;
    Ok(Built { prepared, signals, pipes, place: init::Place::InPlace { terminal } })
}

/// Waits until the keeper has read what a sealed process would not show, and closes itself to inspection.
fn seal(control: BorrowedFd<'_>) -> Result<(), Failed> {
    match wire::receive(control, RecvFlags::empty()).at(Step::KeeperSync)?.map(|received| received.message) {
        Some(Message::Seen) => {}
        _ => return Err(Errno::PROTO).at(Step::KeeperSync),
    }
    // Only now: the keeper could not have read the namespaces and mounts of a sealed process.
    // Taking other ids has sealed it too (prctl(2)), so leaving the seal out means breaking it.
    let sealed =
        if taken_out(Part::Seal) { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    rustix::process::set_dumpable_behavior(sealed).at(Step::Seal)
}

fn serve(control: &OwnedFd, jail: Built) -> Result<(), Errno> {
    wire::send(control.as_fd(), Message::Confined, &[])?;
    let files = (!taken_out(Part::Rlimits)).then_some(jail.prepared.open_files);
    init::serve(control.as_fd(), &jail.signals, &jail.prepared.entry, jail.pipes, jail.place, files)
}

fn death_signal() -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
}

/// The part of a launch that is for the child.
#[derive(serde::Deserialize)]
struct Launch {
    plan: LaunchPlan,
}

/// Waits for the plan, and makes it ready to be applied. The keeper reads it at the same time; it has written the id maps, if
/// that is its task, before it says so.
fn plan(control: BorrowedFd<'_>) -> Result<(Prepared, Option<[OwnedFd; 3]>), Errno> {
    let Some(Received { message: Message::Plan, fds }) = wire::receive(control, RecvFlags::empty())? else {
        return Err(Errno::PIPE);
    };
    let bytes = fds.first().and_then(init::read_all).ok_or(Errno::BADMSG)?;
    let Launch { plan } = serde_json::from_slice(&bytes).map_err(|_| Errno::BADMSG)?;
    let Some(Received { message: Message::Ready { pipes }, fds }) =
        wire::receive(control, RecvFlags::empty())?
    else {
        return Err(Errno::PIPE);
    };
    let mut fds = fds.into_iter();
    let pipes = if pipes {
        let three: Vec<_> = fds.by_ref().take(3).collect();
        Some(<[OwnedFd; 3]>::try_from(three).map_err(|_| Errno::BADMSG)?)
    } else {
        None
    };
    let prepared = prepare(&plan, fds.collect()).map_err(|_| Errno::INVAL)?;
    Ok((prepared, pipes))
}

/// The seccomp programs: the keeper compiles them while the mounts are made.
fn filters(control: BorrowedFd<'_>) -> Result<Vec<Vec<libc::sock_filter>>, Errno> {
    let Some(Received { message: Message::Filters, fds }) = wire::receive(control, RecvFlags::empty())?
    else {
        return Err(Errno::PIPE);
    };
    let bytes = fds.first().and_then(init::read_all).ok_or(Errno::BADMSG)?;
    let filters = decode_filters(&bytes).ok_or(Errno::BADMSG)?;
    if filters.is_empty() { Err(Errno::NODATA) } else { Ok(filters) }
}

/// Programs as bytes: for each its length in instructions, then eight bytes an instruction as the kernel has them.
#[must_use]
pub fn encode_filters(filters: &[Vec<libc::sock_filter>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for filter in filters {
        bytes.extend_from_slice(&u32::try_from(filter.len()).unwrap_or(u32::MAX).to_le_bytes());
        for instruction in filter {
            bytes.extend_from_slice(&instruction.code.to_le_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_le_bytes());
        }
    }
    bytes
}

fn decode_filters(mut bytes: &[u8]) -> Option<Vec<Vec<libc::sock_filter>>> {
    let mut filters = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
        let count = usize::try_from(u32::from_le_bytes(*head)).ok()?;
        let (body, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
        let instruction = |b: &[u8]| libc::sock_filter {
            code: u16::from_le_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        };
        filters.push(body.chunks_exact(8).map(instruction).collect());
        bytes = rest;
    }
    bytes.is_empty().then_some(filters)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_round_trip_and_torn_ones_are_refused() {
        let one = libc::sock_filter { code: 0x15, jt: 1, jf: 2, k: 0xdead_beef };
        let bytes = encode_filters(&[vec![one, one], vec![one]]);
        let decoded = decode_filters(&bytes).expect("whole");
        assert_eq!(decoded.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(
            (decoded[1][0].code, decoded[1][0].jt, decoded[1][0].jf, decoded[1][0].k),
            (0x15, 1, 2, 0xdead_beef)
        );
        for end in (1..bytes.len()).filter(|end| *end != 20) {
            assert!(decode_filters(&bytes[..end]).is_none(), "{end}");
        }
    }
}
