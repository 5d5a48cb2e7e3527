//! From a keeper's birth to the moment the entry may run. Synchronous and single-threaded: the runtime is
//! made while the child builds the jail.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

mod said;

pub use said::NotStarted;
use said::step_failed;
pub(super) use said::{all_in_force, send, standing_or_said, wait_for};

use super::ground::{self, Opened};
use super::life::Life;
use super::protocol::{self, Launch};
use super::{in_place, net, readback};
use crate::host::{cgroup, fdpass, fork, sys, userns};
use crate::jail::child;
use crate::jail::prepare::{map_text, mapped_folders};
use crate::jail::step::Step;
use crate::jail::taken_out::{Part, call_taken_out, taken_out};
use crate::jail::wire::{self, Message};
use crate::model::cube::ProcessRef;
use crate::model::{CubeRecord, LayerStatus};
use crate::plan::launch::{MapWriter, StdioPlan, UpperPlan};
use crate::plan::{LaunchPlan, seccomp};
use crate::store::cubes::{self, CubeDir, CubeError};

/// What the face handed over.
#[derive(Debug)]
pub struct Handover {
    /// The connection to it.
    pub face: UnixStream,
    /// The plan and its places.
    pub launch: Launch,
    /// Streams of the caller that go straight into the cube.
    pub direct: [Option<OwnedFd>; 3],
    /// What was handed over, sealed: the child reads it too.
    pub(super) body: OwnedFd,
}

/// A child that waits for its plan, in namespaces of its own unless it is to be in place.
#[derive(Debug)]
pub struct Born {
    /// Init's control socket.
    pub init: OwnedFd,
    /// How all of it is ended.
    pub life: Life,
    /// Init's number on the host.
    pub pid: i32,
}

/// A jail that is confined and sealed: the entry may run.
#[derive(Debug)]
pub struct Jailed {
    /// Init and how to reach it.
    pub born: Born,
    /// What the kernel applied.
    pub layers: Vec<LayerStatus>,
    /// Our ends of the entry's pipes: stdin to write, stdout and stderr to read.
    pub pipes: [Option<OwnedFd>; 3],
    /// The control socket for clients.
    pub listener: UnixListener,
    /// Its network.
    pub net: net::Start,
    /// For those who read the cube's changes; in place there are none.
    pub opened: Option<Opened>,
}

/// The cube's folder with its lock, and the record as it stands in it.
#[derive(Debug)]
pub struct Known {
    /// The folder.
    pub dir: CubeDir,
    /// The record.
    pub record: CubeRecord,
}

/// Becomes two processes: the face, with its connection to the keeper, and the keeper, for which `None` is returned, and which
/// has nothing of the face's left. For `main`, before anything could have made a thread.
///
/// # Errors
/// When no process can be made.
#[expect(unsafe_code, reason = "a fork is sound only where there is one thread")]
pub fn fork() -> std::io::Result<Option<UnixStream>> {
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `main` calls this first of all, while the process has one thread.
    match unsafe { fork::fork() }? {
        fork::Side::Parent => Ok(Some(ours.into())),
        fork::Side::Child => {
            drop(ours);
            fork::take_connection(its);
            if !taken_out(Part::CloseKeeper) {
                fork::close_descriptors();
            }
            if !taken_out(Part::KeeperEnv) {
                fork::wipe_words(c"tripmine-keeper");
            }
            Ok(None)
        }
    }
}

/// Clones the child. Done first of all, while the face is still planning: making the namespaces takes longest, and depends
/// on nothing.
///
/// # Errors
/// The kernel refuses the namespaces.
#[expect(unsafe_code, reason = "clone3 and _exit in a single-threaded process")]
pub fn birth() -> Result<Born, NotStarted> {
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| NotStarted::new(format!("cannot make init's control socket: {errno}")))?;
    // SAFETY: this process has one thread: no runtime has been made yet, and nothing here starts threads.
    match unsafe { sys::fork_into(child::namespaces()) } {
        Err(error) => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Err(step_failed(Step::Namespaces, errno, None).hint(crate::plan::jails::instead_of_container()))
        }
        Ok(sys::Forked::Parent { pid, pidfd }) => Ok(Born { init: ours, life: Life::Namespace(pidfd), pid }),
        Ok(sys::Forked::Child) => {
            // Nothing of the keeper lives on here but the socket: not the connection to the face (descriptor 0), and no lock.
            let control = its.as_raw_fd().unsigned_abs();
            if !taken_out(Part::CloseChild) {
                sys::close_between(3, control - 1);
                sys::close_from(control + 1);
            }
            // SAFETY: descriptor 1 is /dev/null, which takes the place of the connection; nothing here owns number 0.
            unsafe { libc::dup2(1, 0) };
            let code = child::run_in_namespaces(&its);
            // SAFETY: ends the process without running the keeper's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Takes over from the face: descriptor 0 is the connection to it. The child in `born` gets the plan at once, so that both read
/// it at the same time.
///
/// # Errors
/// When what comes is no launch.
#[expect(unsafe_code, reason = "descriptor 0 is adopted as a socket")]
pub fn take_over(born: Option<&Born>) -> std::io::Result<Handover> {
    // SAFETY: descriptor 0 is the socket that the face gave us, and nothing else in this process owns it.
    let face = unsafe { OwnedFd::from_raw_fd(0) };
    // Off number 0, so that a closed stream can never be mistaken for it.
    let face: UnixStream = rustix::io::fcntl_dupfd_cloexec(&face, 3)?.into();
    let mut preamble = [0; 8];
    let (count, fds) = fdpass::receive(&face, &mut preamble)?;
    let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let (version, mask) =
        protocol::parse_preamble(preamble).filter(|_| count == preamble.len()).ok_or_else(bad)?;
    if version != protocol::VERSION {
        return Err(std::io::Error::from(std::io::ErrorKind::Unsupported));
    }
    let mut fds = fds.into_iter();
    let body = fds.next().filter(fdpass::is_sealed).ok_or_else(bad)?;
    let direct = [0, 1, 2].map(|bit| if mask >> bit & 1 == 1 { fds.next() } else { None });
    if let Some(born) = born {
        tell(born, &body);
    }
    let launch = serde_json::from_slice(&fdpass::read_memory(&body)?)?;
    Ok(Handover { face, launch, direct, body })
}

/// Gives the child the plan. One that is gone has said why, and is heard later.
pub(super) fn tell(born: &Born, body: &OwnedFd) {
    let _sent = wire::send(born.init.as_fd(), Message::Plan, &[body.as_fd()]);
}

/// Builds the jail of `launch` around `born`, and the cube's folder in `known`. When this fails nothing of it is left but that
/// folder.
///
/// # Errors
/// One line for a person.
pub fn jail(
    launch: &Launch,
    direct: &mut Pipes,
    born: Born,
    known: &mut Option<Known>,
) -> Result<Jailed, NotStarted> {
    let mut guard = Guard(Some(born));
    let Some(born) = &guard.0 else { return Err(NotStarted::new("there is no child")) };
    let plan = &launch.plan;
    if let Some(place) = &plan.in_place {
        let standing = in_place::jail(launch, place, direct, born, known)?;
        let Some(born) = guard.0.take() else { return Err(NotStarted::new("there is no child")) };
        let in_place::Standing { layers, pipes, listener } = standing;
        return Ok(Jailed { born, layers, pipes, listener, net: net::Start::Absent, opened: None });
    }
    // What outlives a keeper that is killed is written down before it is made: a kept cube's upper, cgroups. Anything else
    // dies with the keeper, and its folder is made while the child works.
    let outlives = ground::outlives(plan) || plan.limits.cgroup.is_some();
    if outlives {
        let made = known.insert(folder(launch, born)?);
        ground::write(&made.dir.path, plan)
            .map_err(|error| NotStarted::new(format!("cannot prepare the cube's folder: {error}")))?;
    }
    let held = launch.hold.as_deref().map(ground::hold).transpose().map_err(NotStarted::new)?;
    let pipes = make_ready(plan, born, direct)?;
    let net = net::begin(plan, born)?;
    // From here on the child works; what follows happens beside it.
    let filters = filters(plan)?;
    send(born, Message::Filters, &[memfd(&child::encode_filters(&filters))?.as_fd()])?;
    if known.is_none() {
        *known = Some(folder(launch, born)?);
    }
    // After the folder: a socket without a live cube is a dead keeper's, and swept.
    let listener = listen(launch)?;
    let early = readback::early(plan, born.pid);
    let store = wait_for(Message::Mounted, plan, born)?
        .into_iter()
        .next()
        .ok_or_else(|| NotStarted::new("the cube's first process passed no upper"))?;
    let mut known = early;
    known.extend(readback::standing(plan, born.pid));
    // Before the seal: whoever reads the uppers enters the user namespace, and a sealed process's cannot be opened any more.
    let userns = std::fs::File::open(format!("/proc/{}/ns/user", born.pid))
        .map_err(|error| NotStarted::new(format!("cannot open the cube's user namespace: {error}")))?;
    let (net, status) = net::finish(plan, net)?;
    known.extend(status);
    standing_or_said(&known, plan, born)?;
    send(born, Message::Seen, &[])?;
    wait_for(Message::Confined, plan, born)?;
    let layers = readback::read(plan, born.pid, filters.len(), &known)
        .map_err(|error| NotStarted::new(format!("cannot read the layers in force back: {error}")))?;
    all_in_force(&layers)?;
    let Some(born) = guard.0.take() else { return Err(NotStarted::new("there is no child")) };
    let opened = Opened { store, userns: userns.into(), held };
    Ok(Jailed { born, layers, pipes, listener, net, opened: Some(opened) })
}

pub(super) fn listen(launch: &Launch) -> Result<UnixListener, NotStarted> {
    if launch.enter_again {
        // The lock is ours: what lies there is of a keeper of this cube that was killed.
        let _left = std::fs::remove_file(&launch.socket);
    }
    UnixListener::bind(&launch.socket).map_err(|error| {
        NotStarted::new(format!("cannot make the control socket `{}`: {error}", launch.socket.display()))
    })
}

/// Ends the child unless it has been taken out.
struct Guard(Option<Born>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(born) = &self.0 {
            born.life.end();
        }
    }
}

/// The cube's folder, locked by us from its first moment, with its first record.
pub(super) fn folder(launch: &Launch, born: &Born) -> Result<Known, NotStarted> {
    let mut record = launch.record.clone();
    record.keeper = ProcessRef::capture(rustix::process::getpid().as_raw_nonzero().get()).ok();
    record.init = ProcessRef::capture(born.pid).ok();
    let fail = |error: CubeError| {
        let failure = crate::model::Failure::from(error);
        NotStarted { hints: failure.hints.clone(), ..NotStarted::new(failure.to_string()) }
    };
    if launch.enter_again {
        let (dir, before) = cubes::open_durable(&launch.mines, &launch.plan.id).map_err(fail)?;
        record.created_unix_ms = before.created_unix_ms;
        dir.write_record(&record).map_err(fail)?;
        keep_launch(launch, &dir).map_err(fail)?;
        return Ok(Known { dir, record });
    }
    let dir = cubes::create(&launch.mines, &record).map_err(fail)?;
    keep_launch(launch, &dir).map_err(fail)?;
    Ok(Known { dir, record })
}

/// Writes down what was typed, for a kept cube to be launched again.
fn keep_launch(launch: &Launch, dir: &CubeDir) -> Result<(), CubeError> {
    let Some(typed) = &launch.typed else { return Ok(()) };
    dir.write_launch(&serde_json::to_vec(typed).unwrap_or_default())
}

/// Everything that the child cannot do itself, then the word to go on. Returns our ends of the pipes.
pub(super) fn make_ready(plan: &LaunchPlan, born: &Born, direct: &mut Pipes) -> Result<Pipes, NotStarted> {
    make_upper(plan)?;
    if let Some(cgroup) = &plan.limits.cgroup {
        let enter = || if taken_out(Part::Cgroup) { Ok(()) } else { cgroup::enter(cgroup, born.pid) };
        cgroup::make(cgroup, &plan.limits).and_then(|()| enter()).map_err(|error| {
            NotStarted::new(error.to_string()).hint("run `tripmine doctor`: it checks cgroup delegation")
        })?;
    }
    write_maps(plan, born)?;
    let mapped = mapped_views(plan, born)?;
    let (ours, theirs) = entry_streams(plan, direct)
        .map_err(|errno| NotStarted::new(format!("cannot make the entry's pipes: {errno}")))?;
    let fds: Vec<_> = theirs.iter().flatten().chain(&mapped).map(AsFd::as_fd).collect();
    if fds.len() > wire::MAX_FDS {
        return Err(NotStarted::new(format!("more than {} folders are mounted", wire::MAX_FDS - 3)));
    }
    send(born, Message::Ready { pipes: theirs.is_some() }, &fds)?;
    Ok(ours)
}

/// As root on the host: views of the plan's folders in which the cube's ids own what the caller owns on disk.
fn mapped_views(plan: &LaunchPlan, born: &Born) -> Result<Vec<OwnedFd>, NotStarted> {
    if !plan.user.idmapped_mounts {
        return Ok(Vec::new());
    }
    // The child's own namespace has the very map that its mounts need.
    let userns = std::fs::File::open(format!("/proc/{}/ns/user", born.pid))
        .map_err(|error| NotStarted::new(format!("cannot open the cube's user namespace: {error}")))?;
    mapped_folders(plan)
        .into_iter()
        .map(|(path, identity)| {
            crate::jail::mounts::idmapped_clone(path, identity, userns.as_fd()).map_err(|error| {
                NotStarted::new(format!("cannot make an id-mapped view of `{}`: {error}", path.display()))
            })
        })
        .collect()
}

pub(super) fn memfd(bytes: &[u8]) -> Result<OwnedFd, NotStarted> {
    fdpass::memory(bytes)
        .map_err(|error| NotStarted::new(format!("cannot hand the plan to the child: {error}")))
}

/// The seccomp programs for this plan.
pub(super) fn filters(plan: &LaunchPlan) -> Result<Vec<Vec<libc::sock_filter>>, NotStarted> {
    let arch = seccomp::Arch::native()
        .ok_or_else(|| NotStarted::new("seccomp filters are written for x86_64 and aarch64 only"))?;
    let mut rules = match &plan.vm {
        None if plan.user.run_as == crate::model::RunAs::Me && plan.writes_outside() => {
            seccomp::rules(plan.seccomp, plan.user.run_as, arch).without_set_ids()
        }
        None => seccomp::rules(plan.seccomp, plan.user.run_as, arch),
        Some(vm) => seccomp::rules(plan.seccomp, crate::model::RunAs::Me, arch)
            .around_a_machine(vm.spec.share.kind == crate::plan::vm::ShareKind::C),
    };
    if let Some(place) = &plan.in_place {
        rules = rules.in_place(place.network, place.host_root);
    }
    rules.calls.retain(|call| !call_taken_out(call.name));
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

/// The three streams of an entry, where there are any.
pub type Pipes = [Option<OwnedFd>; 3];

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

fn write_maps(plan: &LaunchPlan, born: &Born) -> Result<(), NotStarted> {
    let (uid_map, gid_map) = (map_text(&plan.user.uid_map), map_text(&plan.user.gid_map));
    let result = match plan.user.map_writer {
        MapWriter::Own | MapWriter::Nobody => Ok(()),
        MapWriter::Helper => userns::write_maps_by_helper(born.pid, &uid_map, &gid_map),
        MapWriter::Keeper => userns::write_maps(born.pid, &uid_map, &gid_map),
    };
    result.map_err(|error| {
        NotStarted::new(format!("cannot write the cube's id maps: {error}")).hint(Step::IdMap.hint())
    })
}
