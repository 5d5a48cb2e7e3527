//! What may block is done beside the loop: starting a program reads it from a share that may be slow or dead, and so does
//! writing everything out. The loop, and with it every word of the host, never waits for either.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::jail::init::terminal;
use crate::jail::spawn::{Identity, NotSpawned, Streams, spawn};
use crate::microvm::wire::Spawn;

/// How often, and how long apart, a unix socket whose queue is full is tried.
const QUEUE: u32 = 20;
const AGAIN: Duration = Duration::from_millis(5);

/// A session that runs: its process, and our ends of its streams.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) streams: Ours,
}

/// Our ends of a session's streams.
#[derive(Debug)]
pub(super) enum Ours {
    /// The master.
    Terminal(OwnedFd),
    /// Standard input to write, output and error to read.
    Pipes([OwnedFd; 3]),
}

/// Work that is to be done.
#[derive(Debug)]
pub(super) enum Job {
    Spawn {
        stream: u32,
        spawn: Box<Spawn>,
    },
    Sync {
        token: u32,
    },
    DropCaches {
        token: u32,
    },
    Stop {
        token: u32,
    },
    /// A path may lie on a share that does not answer.
    Dial {
        stream: u32,
        path: Vec<u8>,
    },
}

/// Work that was done.
#[derive(Debug)]
pub(super) enum Outcome {
    Started { stream: u32, result: Result<Running, NotSpawned> },
    Done { token: u32, errno: i32 },
    Dialled { stream: u32, result: Result<OwnedFd, Errno> },
}

/// Two threads: one starts programs, one waits for disks.
#[derive(Debug)]
pub(super) struct Workers {
    programs: Sender<Job>,
    disks: Sender<Job>,
    outcomes: Receiver<Outcome>,
    bell: OwnedFd,
    /// The group that every program is started in.
    pub(super) group: Arc<OnceLock<OwnedFd>>,
}

impl Workers {
    /// `take_ids`: what is started takes the ids it is to have; otherwise it is the caller's own, as tests are.
    pub(super) fn start(take_ids: bool) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (told, outcomes) = channel();
        let group = Arc::new(OnceLock::new());
        let programs = worker("programs", take_ids, told.clone(), bell.try_clone()?, Arc::clone(&group))?;
        let disks = worker("disks", take_ids, told, bell.try_clone()?, Arc::clone(&group))?;
        Ok(Self { programs, disks, outcomes, bell, group })
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(super) fn hand(&self, job: Job) {
        let to = if matches!(job, Job::Spawn { .. }) { &self.programs } else { &self.disks };
        // The threads live as long as this.
        let _sent = to.send(job);
    }

    /// What has been done.
    pub(super) fn done(&self) -> Vec<Outcome> {
        let mut count = [0; 8];
        let _read = rustix::io::read(&self.bell, &mut count);
        self.outcomes.try_iter().collect()
    }
}

fn worker(
    name: &str,
    take_ids: bool,
    told: Sender<Outcome>,
    bell: OwnedFd,
    group: Arc<OnceLock<OwnedFd>>,
) -> io::Result<Sender<Job>> {
    let (sender, jobs) = channel();
    let work = move || {
        for job in jobs {
            if told.send(run(job, take_ids, group.get().map(AsFd::as_fd))).is_err() {
                return;
            }
            let _rung = rustix::io::write(&bell, &1_u64.to_ne_bytes());
        }
    };
    std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(work)?;
    Ok(sender)
}

fn run(job: Job, take_ids: bool, group: Option<BorrowedFd<'_>>) -> Outcome {
    match job {
        Job::Spawn { stream, spawn } => Outcome::Started { stream, result: start(&spawn, take_ids, group) },
        Job::Sync { token } => {
            rustix::fs::sync();
            Outcome::Done { token, errno: 0 }
        }
        Job::Stop { token } => {
            crate::jail::init::stop_all();
            rustix::fs::sync();
            Outcome::Done { token, errno: 0 }
        }
        Job::Dial { stream, path } => Outcome::Dialled { stream, result: dial(&path) },
        Job::DropCaches { token } => {
            rustix::fs::sync();
            let errno = match std::fs::write("/proc/sys/vm/drop_caches", "2") {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            Outcome::Done { token, errno }
        }
    }
}

fn start(wanted: &Spawn, take_ids: bool, group: Option<BorrowedFd<'_>>) -> Result<Running, NotSpawned> {
    let failed = |errno| NotSpawned { errno, folder: false };
    let identity = take_ids.then_some(wanted.identity);
    if let Some((rows, cols)) = wanted.terminal {
        let (master, slave) = terminal(c"/dev/pts/ptmx", rows, cols).map_err(failed)?;
        own(slave.as_fd(), identity).map_err(failed)?;
        let pid = spawn(&wanted.spec, Streams::Terminal(slave.as_fd()), identity, group, None)?;
        return Ok(Running { pid, streams: Ours::Terminal(master) });
    }
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed);
    let ((stdin, to), (from, stdout), (error, stderr)) = (pipe()?, pipe()?, pipe()?);
    for end in [&stdin, &stdout, &stderr] {
        own(end.as_fd(), identity).map_err(failed)?;
    }
    let streams = Streams::Pipes([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
    let pid = spawn(&wanted.spec, streams, identity, group, None)?;
    Ok(Running { pid, streams: Ours::Pipes([to, from, error]) })
}

fn dial(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // With a full queue it says so at once.
    for _ in 0..QUEUE {
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Err(Errno::AGAIN) => std::thread::sleep(AGAIN),
            Ok(()) => return Ok(socket),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::AGAIN)
}

/// Its own terminal and pipes are its user's: `/dev/stdout` can be opened again.
fn own(fd: BorrowedFd<'_>, identity: Option<Identity>) -> Result<(), Errno> {
    let Some(identity) = identity.filter(|identity| identity.uid != 0) else { return Ok(()) };
    rustix::fs::fchown(fd, Some(rustix::process::Uid::from_raw(identity.uid)), None)
}
