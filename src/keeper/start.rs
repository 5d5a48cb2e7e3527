//! From a keeper's birth to the moment the entry may run. Synchronous and single-threaded: the runtime is
//! made while the child builds the jail.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

use super::protocol::{self, Ask, Kind, Launch};
use super::readback;
use crate::host::{cgroup, fdpass, sys, userns};
use crate::jail::child::{self, Inherited};
use crate::jail::prepare::{Prepared, map_text, prepare};
use crate::jail::step::Step;
use crate::jail::wire::{self, Message};
use crate::model::{Layer, LayerStatus};
use crate::plan::launch::{CgroupPlan, MapWriter, MountPlan, StdioPlan, UpperPlan};
use crate::plan::{LaunchPlan, seccomp};
use crate::store::cubes::CubeDir;

/// Why a cube could not be started: one line, next steps, and the layer that is to blame, if one is.
#[derive(Debug)]
pub struct NotStarted {
    /// One line.
    pub message: String,
    /// Next steps.
    pub hints: Vec<String>,
    /// The layer that the kernel did not apply.
    pub layer: Option<Layer>,
}

impl NotStarted {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), layer: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !hint.is_empty() {
            self.hints.push(hint);
        }
        self
    }
}

/// What the face handed over.
#[derive(Debug)]
pub struct Handover {
    /// The connection to it.
    pub face: UnixStream,
    /// The plan and its places.
    pub launch: Launch,
    /// The cube's folder with its lock.
    pub dir: CubeDir,
    /// Streams of the caller that go straight into the cube.
    pub direct: [Option<OwnedFd>; 3],
}

/// A jail that is confined and waits for "go".
#[derive(Debug)]
pub struct Jailed {
    /// Init's control socket.
    pub init: OwnedFd,
    /// Init.
    pub pidfd: OwnedFd,
    /// Its number on the host.
    pub pid: i32,
    /// What the kernel applied.
    pub layers: Vec<LayerStatus>,
    /// Our ends of the entry's pipes: stdin to write, stdout and stderr to read.
    pub pipes: [Option<OwnedFd>; 3],
    /// The control socket for clients.
    pub listener: UnixListener,
}

/// Takes over from the face: descriptor 0 is the connection to it.
///
/// # Errors
/// When what comes is no launch.
#[expect(unsafe_code, reason = "descriptor 0 is adopted as a socket")]
pub fn take_over() -> std::io::Result<Handover> {
    // SAFETY: descriptor 0 is the socket that the face gave us, and nothing else in this process owns it.
    let face = unsafe { OwnedFd::from_raw_fd(0) };
    // Off number 0, so that a closed stream can never be mistaken for it.
    let face: UnixStream = rustix::io::fcntl_dupfd_cloexec(&face, 3)?.into();
    let mut preamble = [0; 8];
    let (count, fds) = fdpass::receive(&face, &mut preamble)?;
    let (version, mask) = protocol::parse_preamble(preamble)
        .filter(|_| count == preamble.len())
        .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
    if version != protocol::VERSION {
        return Err(std::io::Error::from(std::io::ErrorKind::Unsupported));
    }
    let mut fds = fds.into_iter();
    let lock = fds.next().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
    let direct = [0, 1, 2].map(|bit| if mask >> bit & 1 == 1 { fds.next() } else { None });
    let mut head = [0; protocol::HEAD];
    (&face).read_exact(&mut head)?;
    let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let (Kind::Ask, length) = protocol::parse_head(head).ok_or_else(bad)? else { return Err(bad()) };
    let mut body = vec![0; length];
    (&face).read_exact(&mut body)?;
    let Ask::Launch(launch) = serde_json::from_slice(&body)? else { return Err(bad()) };
    let dir = CubeDir::adopt(&launch.mines, &launch.plan.id, lock);
    Ok(Handover { face, launch: *launch, dir, direct })
}

/// Builds the jail of `launch`. When this fails nothing of it is left but the cube's folder.
///
/// # Errors
/// One line for a person.
pub fn jail(
    launch: &Launch,
    direct: &mut [Option<OwnedFd>; 3],
    record_cgroup: impl FnOnce(),
) -> Result<Jailed, NotStarted> {
    let plan = &launch.plan;
    let filters = filters(plan)?;
    let filter_count = filters.len();
    let userns = plan
        .user
        .idmapped_mounts
        .then(|| userns::id_map(&map_text(&plan.user.uid_map), &map_text(&plan.user.gid_map)))
        .transpose()
        .map_err(|error| NotStarted::new(format!("cannot make the id map of the cube's mounts: {error}")))?;
    make_upper(plan)?;
    let prepared = prepare(plan, filters, userns.as_ref().map(AsFd::as_fd))
        .map_err(|error| NotStarted::new(error.to_string()))?;
    drop(userns);
    let listener = UnixListener::bind(&launch.socket).map_err(|error| {
        NotStarted::new(format!("cannot make the control socket `{}`: {error}", launch.socket.display()))
    })?;
    record_cgroup();
    let entered = match &plan.limits.cgroup {
        Some(cgroup) => {
            cgroup::make(cgroup, &plan.limits).map_err(|error| {
                NotStarted::new(error.to_string()).hint("run `tripmine doctor`: it checks cgroup delegation")
            })?;
            match cgroup {
                CgroupPlan::V2 { dir } => Some(std::fs::File::open(dir).map_err(|error| {
                    NotStarted::new(format!("cannot open the cgroup `{}`: {error}", dir.display()))
                })?),
                CgroupPlan::V1 { .. } => None,
            }
        }
        None => None,
    };
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| NotStarted::new(format!("cannot make init's control socket: {errno}")))?;
    let (pipes, streams) = entry_streams(plan, direct)
        .map_err(|errno| NotStarted::new(format!("cannot make the entry's pipes: {errno}")))?;
    let inherited = Inherited { control: its, pipes: streams };
    let (pid, pidfd) = fork(&prepared, inherited, entered.as_ref().map(AsFd::as_fd))?;
    let jailed = Jailed { init: ours, pidfd, pid, layers: Vec::new(), pipes, listener };
    confine(plan, jailed, filter_count)
}

/// The seccomp programs for this plan.
fn filters(plan: &LaunchPlan) -> Result<Vec<Vec<libc::sock_filter>>, NotStarted> {
    let arch = seccomp::Arch::native()
        .ok_or_else(|| NotStarted::new("seccomp filters are written for x86_64 and aarch64 only"))?;
    let rules = seccomp::rules(plan.seccomp, plan.user.run_as, arch);
    let programs = seccomp::compile(&rules)
        .map_err(|error| NotStarted::new(format!("cannot compile the seccomp filter: {error}")))?;
    Ok(programs
        .into_iter()
        .map(|program| {
            program
                .into_iter()
                .map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
                .collect()
        })
        .collect())
}

/// The folders of an upper on disk.
fn make_upper(plan: &LaunchPlan) -> Result<(), NotStarted> {
    let UpperPlan::Disk { dir } = &plan.root.upper else { return Ok(()) };
    for name in ["upper", "work"] {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder)
            .and_then(|()| {
                std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            })
            .map_err(|error| NotStarted::new(format!("cannot make `{}`: {error}", folder.display())))?;
    }
    Ok(())
}

type Pipes = [Option<OwnedFd>; 3];

/// Our ends of the pipes, and the child's three streams when it has no terminal.
fn entry_streams(plan: &LaunchPlan, direct: &mut Pipes) -> Result<(Pipes, Option<[OwnedFd; 3]>), Errno> {
    if matches!(plan.stdio, StdioPlan::Pty { .. }) {
        return Ok(([None, None, None], None));
    }
    let mut ours = [None, None, None];
    let mut theirs = [None, None, None];
    for index in 0..3 {
        if let Some(fd) = direct[index].take() {
            theirs[index] = Some(fd);
            continue;
        }
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (our, their) = if index == 0 { (write, read) } else { (read, write) };
        ours[index] = Some(our);
        theirs[index] = Some(their);
    }
    let [Some(stdin), Some(stdout), Some(stderr)] = theirs else { return Err(Errno::BADF) };
    Ok((ours, Some([stdin, stdout, stderr])))
}

/// Clones the child; the parent keeps nothing of what it inherited.
#[expect(unsafe_code, reason = "clone3 and _exit in a single-threaded process")]
fn fork(
    prepared: &Prepared,
    inherited: Inherited,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(i32, OwnedFd), NotStarted> {
    let mut keep: Vec<RawFd> = vec![1, 2, inherited.control.as_raw_fd()];
    keep.extend(inherited.pipes.iter().flatten().map(AsRawFd::as_raw_fd));
    keep.extend(prepared.descriptors());
    keep.sort_unstable();
    // SAFETY: this process has one thread: no runtime has been made yet, and nothing here starts threads.
    match unsafe { sys::fork_into(prepared.namespaces, cgroup) } {
        Err(error) => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Err(step_failed(Step::Namespaces, errno, None))
        }
        Ok(sys::Forked::Parent { pid, pidfd }) => {
            drop(inherited);
            Ok((pid, pidfd))
        }
        Ok(sys::Forked::Child) => {
            close_others(&keep);
            let code = child::run(prepared, inherited);
            // SAFETY: ends the process without running the keeper's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Closes every descriptor but the sorted `keep`; the lock and the sockets of the keeper must not live on in init.
fn close_others(keep: &[RawFd]) {
    let mut next = 3;
    for fd in keep.iter().map(|fd| fd.unsigned_abs()) {
        if fd >= next {
            sys::close_between(next, fd - 1);
            next = fd + 1;
        }
    }
    sys::close_from(next);
}

/// Maps, waits for "confined", reads the layers back. Whatever fails, the child is dead afterwards.
fn confine(plan: &LaunchPlan, mut jailed: Jailed, filters: usize) -> Result<Jailed, NotStarted> {
    let result = write_maps(plan, &jailed).and_then(|()| wait_confined(plan, &jailed)).and_then(|()| {
        let layers = readback::read(plan, jailed.pid, filters)
            .map_err(|error| NotStarted::new(format!("cannot read the layers in force back: {error}")))?;
        match readback::missing(&layers) {
            None => seal(&jailed).map(|()| layers),
            Some(status) => Err(NotStarted {
                layer: Some(status.layer),
                ..NotStarted::new(format!(
                    "the layer `{}` is not in force: {}",
                    status.layer.word(),
                    status.enforcement.detail()
                ))
            }),
        }
    });
    match result {
        Ok(layers) => {
            jailed.layers = layers;
            Ok(jailed)
        }
        Err(not_started) => {
            kill(&jailed.pidfd);
            Err(not_started)
        }
    }
}

/// Lets init seal itself, and looks whether it did: the files of a process that may not be inspected belong to the
/// host's root in /proc (proc(5), `task_dump_owner`).
fn seal(jailed: &Jailed) -> Result<(), NotStarted> {
    use std::os::unix::fs::MetadataExt;
    let gone = |errno: Errno| NotStarted::new(format!("the cube's first process is gone: {errno}"));
    wire::send(jailed.init.as_fd(), Message::Go, &[]).map_err(gone)?;
    let sealed = wire::receive(&jailed.init, RecvFlags::empty()).map_err(gone)?;
    let owner = std::fs::metadata(format!("/proc/{}/status", jailed.pid)).map(|meta| meta.uid());
    match (sealed.map(|received| received.message), owner) {
        (Some(Message::Sealed), Ok(0)) => Ok(()),
        _ => Err(NotStarted {
            layer: Some(Layer::InitSealed),
            ..NotStarted::new("the layer `init-sealed` is not in force: PID 1 could be inspected from inside")
        }),
    }
}

/// Ends init, and with it everything in its pid namespace; returns when it is gone.
pub fn kill(pidfd: &OwnedFd) {
    use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
    // ESRCH: gone already. The wait returns when the kernel has ended every process of the namespace.
    let _gone = pidfd_send_signal(pidfd, Signal::KILL);
    let _reaped = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}

fn write_maps(plan: &LaunchPlan, jailed: &Jailed) -> Result<(), NotStarted> {
    if plan.user.map_writer == MapWriter::Own {
        return Ok(());
    }
    let (uid_map, gid_map) = (map_text(&plan.user.uid_map), map_text(&plan.user.gid_map));
    let result = match plan.user.map_writer {
        MapWriter::Helper => userns::write_maps_by_helper(jailed.pid, &uid_map, &gid_map),
        _ => userns::write_maps(jailed.pid, &uid_map, &gid_map),
    };
    result.map_err(|error| {
        NotStarted::new(format!("cannot write the cube's id maps: {error}")).hint(Step::IdMap.hint())
    })?;
    if let Some(cgroup) = &plan.limits.cgroup {
        cgroup::enter_v1(cgroup, jailed.pid).map_err(|error| NotStarted::new(error.to_string()))?;
    }
    wire::send(jailed.init.as_fd(), Message::MapsWritten, &[])
        .map_err(|errno| NotStarted::new(format!("the cube's first process is gone: {errno}")))
}

fn wait_confined(plan: &LaunchPlan, jailed: &Jailed) -> Result<(), NotStarted> {
    match wire::receive(&jailed.init, RecvFlags::empty()) {
        Ok(Some(received)) => match received.message {
            Message::Confined => Ok(()),
            Message::Failed { step, index, errno } => {
                let step = Step::from_number(step).unwrap_or(Step::Namespaces);
                let mount = match step {
                    Step::Source | Step::Identity | Step::Target | Step::Bind => {
                        plan.mounts.get(usize::from(index))
                    }
                    _ => None,
                };
                Err(step_failed(step, Errno::from_raw_os_error(errno), mount))
            }
            other => Err(NotStarted::new(format!("the cube's first process said {other:?} out of turn"))),
        },
        Ok(None) => Err(NotStarted::new("the cube's first process died while it built the jail")),
        Err(errno) => Err(NotStarted::new(format!("cannot hear the cube's first process: {errno}"))),
    }
}

fn step_failed(step: Step, errno: Errno, mount: Option<&MountPlan>) -> NotStarted {
    let on = mount
        .map(|mount| format!(" (`{}` at `{}`)", mount.source.display(), mount.target))
        .unwrap_or_default();
    NotStarted::new(format!("the cube was not started: {}{on}: {errno}", step.text())).hint(step.hint())
}
