//! The start of a cube in place: no namespaces, but a warden between the keeper and init, and layers that are read back from
//! processes among the host's own.

use std::os::unix::net::UnixListener;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open, set_child_subreaper};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::life::Life;
use super::protocol::Launch;
use super::readback;
use super::start::{self, Born, Known, NotStarted, Pipes};
use crate::host::{descendants, proc};
use crate::jail::wire::Message;
use crate::jail::{child, warden};
use crate::model::{Enforcement, Layer, LayerStatus};
use crate::plan::LaunchPlan;
use crate::plan::launch::InPlace;

/// How long a warden may take to tell init's number.
const TOLD: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A cube in place that is confined and sealed.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) layers: Vec<LayerStatus>,
    pub(super) pipes: Pipes,
    pub(super) listener: UnixListener,
}

/// Forks the warden, which forks init. From here on everything that loses its parent in this cube is ours at the latest.
///
/// # Errors
/// No process can be made.
pub fn birth() -> Result<Born, NotStarted> {
    let cannot = |what: &str, errno: Errno| NotStarted::new(format!("cannot {what}: {errno}"));
    set_child_subreaper(Some(getpid())).map_err(|errno| cannot("take in the cube's orphans", errno))?;
    let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (ours, its) = pair().map_err(|errno| cannot("make init's control socket", errno))?;
    let (tie, its_tie) = pair().map_err(|errno| cannot("make the warden's socket", errno))?;
    // The child has copies of all of these, and closes what is not its own.
    let warden = warden::fork(its, its_tie)
        .map_err(|error| NotStarted::new(format!("cannot make the cube's warden: {error}")))?;
    let mut told = [0; 4];
    let heard = poll(&mut [PollFd::new(&tie, PollFlags::IN)], Some(&TOLD)) == Ok(1)
        && rustix::io::read(&tie, &mut told) == Ok(4);
    let pid = i32::from_le_bytes(told);
    let init = Pid::from_raw(pid).filter(|_| heard);
    match init.and_then(|init| pidfd_open(init, PidfdFlags::empty()).ok()) {
        Some(init) => Ok(Born { init: ours, life: Life::Tree { init, warden, tie }, pid }),
        None => {
            let _ended = descendants::end_all(std::time::Duration::from_secs(10));
            Err(NotStarted::new("the cube's warden could not make its first process"))
        }
    }
}

/// Builds the jail around `born`, and the cube's folder in `known`.
pub(super) fn jail(
    launch: &Launch,
    place: &InPlace,
    direct: &mut Pipes,
    born: &Born,
    known: &mut Option<Known>,
) -> Result<Standing, NotStarted> {
    let plan = &launch.plan;
    // First of all: the folder for temporary files lies in it, and what outlives a killed keeper is written down.
    *known = Some(start::folder(launch, born)?);
    make_temporary(place)?;
    let pipes = start::make_ready(plan, born, direct)?;
    let filters = start::filters(plan)?;
    let encoded = start::memfd(&child::encode_filters(&filters))?;
    start::send(born, Message::Filters, &[std::os::fd::AsFd::as_fd(&encoded)])?;
    let listener = start::listen(launch)?;
    start::wait_for(Message::Mounted, plan, born)?;
    let seen = readback::standing(plan, born.pid);
    start::standing_or_said(&seen, plan, born)?;
    start::send(born, Message::Seen, &[])?;
    start::wait_for(Message::Confined, plan, born)?;
    let layers = layers(plan, born, filters.len(), &seen)
        .map_err(|error| NotStarted::new(format!("cannot read the layers in force back: {error}")))?;
    start::all_in_force(&layers)?;
    Ok(Standing { layers, pipes, listener })
}

fn make_temporary(place: &InPlace) -> Result<(), NotStarted> {
    use std::os::unix::fs::DirBuilderExt;
    let fail = |error: std::io::Error| {
        NotStarted::new(format!("cannot make the folder `{}`: {error}", place.tmp.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place.tmp).map_err(fail)
}

/// Asks the kernel for every layer of the plan.
fn layers(
    plan: &LaunchPlan,
    born: &Born,
    filters: usize,
    seen: &[LayerStatus],
) -> std::io::Result<Vec<LayerStatus>> {
    let (status, _) = proc::status_and_seal(born.pid)?;
    let enforcement = |layer| match layer {
        Layer::Capabilities => capabilities(plan, &status),
        // Tried by the child, as the forbidden folder is: its warden must not be reached by a signal.
        Layer::Scopes => Enforcement::Full("signals and abstract sockets, tried".into()),
        Layer::InitSealed => sealed(born.pid),
        Layer::Rlimits => rlimits(plan, born.pid),
        Layer::Warden => warden_stands(born),
        _ => match seen.iter().find(|status| status.layer == layer) {
            Some(known) => known.enforcement.clone(),
            None => readback::of_status(plan, layer, filters, &status),
        },
    };
    Ok(plan
        .layers
        .iter()
        .map(|layer| LayerStatus { layer: *layer, enforcement: enforcement(*layer) })
        .collect())
}

fn capabilities(plan: &LaunchPlan, status: &proc::Status) -> Enforcement {
    if status.capabilities != 0 {
        return Enforcement::None(format!("it holds {:x}, expected none", status.capabilities));
    }
    let root = plan.in_place.as_ref().is_some_and(|place| place.host_root);
    match status.bounding {
        0 => Enforcement::Full("none".into()),
        // An ordinary user may not lower it, and `no_new_privs` keeps it from mattering.
        _ if !root => Enforcement::Full("none held, none to gain".into()),
        bounding => Enforcement::None(format!("bounding set {bounding:x}, expected none")),
    }
}

/// Whether the process may be inspected by its own user, as the cube would. The host's root is asked without the right to
/// look into everything.
fn sealed(pid: i32) -> Enforcement {
    let look = || std::fs::File::open(format!("/proc/{pid}/environ")).map(drop);
    let opened = match rustix::thread::capabilities(None) {
        // Not CAP_SYS_PTRACE alone: since Linux 6.13 CAP_PERFMON reads memory too (mm_access in kernel/fork.c).
        Ok(held) if !held.effective.is_empty() => {
            let less = CapabilitySets { effective: CapabilitySet::empty(), ..held };
            let lowered = rustix::thread::set_capabilities(None, less);
            let opened = lowered.map_err(std::io::Error::from).map(|()| look());
            // It was permitted a moment ago.
            let _restored = rustix::thread::set_capabilities(None, held);
            match opened {
                Ok(opened) => opened,
                Err(error) => return Enforcement::None(format!("it cannot be tried: {error}")),
            }
        }
        Ok(_) => look(),
        Err(errno) => return Enforcement::None(format!("it cannot be tried: {errno}")),
    };
    match opened {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Enforcement::Full("before the entry".into())
        }
        Err(error) => Enforcement::None(format!("it cannot be tried: {error}")),
        Ok(()) => Enforcement::None("init could be inspected from inside".into()),
    }
}

/// `/proc/PID/limits` against the plan: no process of a cube may have more than init.
fn rlimits(plan: &LaunchPlan, pid: i32) -> Enforcement {
    let text = match proc::read_text(format!("/proc/{pid}/limits")) {
        Ok(text) => text,
        Err(error) => return Enforcement::None(format!("they cannot be read: {error}")),
    };
    let hard = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let files = plan.limits.open_files.saturating_add(crate::plan::limits::FILES_OF_INIT);
    for (name, most) in [("Max open files", files), ("Max core file size", 0)] {
        match hard(name) {
            Some(value) if value <= most => {}
            value => return Enforcement::None(format!("{name}: {value:?}, expected {most} at most")),
        }
    }
    match hard("Max processes") {
        Some(value) => {
            Enforcement::Full(format!("{} open files, {value} processes of the user", plan.limits.open_files))
        }
        None => Enforcement::None("Max processes: unlimited".into()),
    }
}

fn warden_stands(born: &Born) -> Enforcement {
    let own = getpid().as_raw_nonzero().get();
    let Life::Tree { .. } = &born.life else { return Enforcement::None("there is none".into()) };
    match descendants::parent(born.pid) {
        Some(warden) if warden != own && descendants::parent(warden) == Some(own) => match sealed(warden) {
            Enforcement::Full(_) => Enforcement::Full(format!("process {warden}, out of reach")),
            other => other,
        },
        _ => Enforcement::None("init is not the child of a warden of ours".into()),
    }
}
