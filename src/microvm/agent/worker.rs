//! What may block is done beside the loop: starting a program reads it from a share that may be slow or dead, and so does
//! writing everything out. The loop, and with it every word of the host, never waits for either.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::jail::init::terminal;
use crate::jail::spawn::{Identity, NotSpawned, Streams, spawn};
use crate::microvm::wire::Spawn;

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
    Spawn { stream: u32, spawn: Box<Spawn> },
    Sync { token: u32 },
    DropCaches { token: u32 },
    Stop { token: u32 },
}

/// Work that was done.
#[derive(Debug)]
pub(super) enum Outcome {
    Started { stream: u32, result: Result<Running, NotSpawned> },
    Done { token: u32, errno: i32 },
}

/// Two threads: one starts programs, one waits for disks.
#[derive(Debug)]
pub(super) struct Workers {
    programs: Sender<Job>,
    disks: Sender<Job>,
    outcomes: Receiver<Outcome>,
    bell: OwnedFd,
}

impl Workers {
    /// `take_ids`: what is started takes the ids it is to have; otherwise it is the caller's own, as tests are.
    pub(super) fn start(take_ids: bool) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (told, outcomes) = channel();
        let programs = worker("programs", take_ids, told.clone(), bell.try_clone()?)?;
        let disks = worker("disks", take_ids, told, bell.try_clone()?)?;
        Ok(Self { programs, disks, outcomes, bell })
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

fn worker(name: &str, take_ids: bool, told: Sender<Outcome>, bell: OwnedFd) -> io::Result<Sender<Job>> {
    let (sender, jobs) = channel();
    let work = move || {
        for job in jobs {
            if told.send(run(job, take_ids)).is_err() {
                return;
            }
            let _rung = rustix::io::write(&bell, &1_u64.to_ne_bytes());
        }
    };
    std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(work)?;
    Ok(sender)
}

fn run(job: Job, take_ids: bool) -> Outcome {
    match job {
        Job::Spawn { stream, spawn } => Outcome::Started { stream, result: start(&spawn, take_ids) },
        Job::Sync { token } => {
            rustix::fs::sync();
            Outcome::Done { token, errno: 0 }
        }
        Job::Stop { token } => {
            crate::jail::init::stop_all();
            rustix::fs::sync();
            Outcome::Done { token, errno: 0 }
        }
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

fn start(wanted: &Spawn, take_ids: bool) -> Result<Running, NotSpawned> {
    let failed = |errno| NotSpawned { errno, folder: false };
    let identity = take_ids.then_some(wanted.identity);
    if let Some((rows, cols)) = wanted.terminal {
        let (master, slave) = terminal(c"/dev/pts/ptmx", rows, cols).map_err(failed)?;
        own(slave.as_fd(), identity).map_err(failed)?;
        let pid = spawn(&wanted.spec, Streams::Terminal(slave.as_fd()), identity)?;
        return Ok(Running { pid, streams: Ours::Terminal(master) });
    }
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed);
    let ((stdin, to), (from, stdout), (error, stderr)) = (pipe()?, pipe()?, pipe()?);
    for end in [&stdin, &stdout, &stderr] {
        own(end.as_fd(), identity).map_err(failed)?;
    }
    let pid = spawn(&wanted.spec, Streams::Pipes([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]), identity)?;
    Ok(Running { pid, streams: Ours::Pipes([to, from, error]) })
}

/// Its own terminal and pipes are its user's: `/dev/stdout` can be opened again.
fn own(fd: BorrowedFd<'_>, identity: Option<Identity>) -> Result<(), Errno> {
    let Some(identity) = identity.filter(|identity| identity.uid != 0) else { return Ok(()) };
    rustix::fs::fchown(fd, Some(rustix::process::Uid::from_raw(identity.uid)), None)
}
