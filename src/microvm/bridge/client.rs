//! The other end of the bridge's socket, for processes of the same cube: a session with this process's own standard streams,
//! or a hold of the guest.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::packet::{self, Packet};
use crate::host::tty::{Raw, Signals, size};
use crate::microvm::wire::Spawn;

/// Signals that are passed on: they are meant for what runs in the guest. Besides them the size of the terminal is.
pub const PASSED: [i32; 8] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
];

/// A guest that starts no program for so long is said to be slow or hung.
pub const LATE: Duration = Duration::from_secs(10);
/// How long a guest may take to start, and between two looks whether it has.
const START: Duration = Duration::from_secs(200);
const LOOK: Duration = Duration::from_millis(20);

/// Why a client got nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket, or what goes over it.
    #[error("the guest's bridge cannot be reached")]
    Bridge(#[source] io::Error),
    /// The program could not be started in the guest.
    #[error("not started: {errno}")]
    NotStarted {
        /// The error.
        errno: Errno,
        /// It is the working directory that is not there.
        folder: bool,
    },
    /// The guest could not do it.
    #[error("the guest answered: {0}")]
    Refused(Errno),
}

fn broken(errno: Errno) -> ClientError {
    ClientError::Bridge(errno.into())
}

/// Runs a program in the guest with this process's standard streams; its status, as waitpid(2) gives it. With a terminal,
/// standard input is one, and is raw meanwhile. `late` is called once when the guest has not answered for [`LATE`].
///
/// # Errors
/// No bridge, or the program could not be started.
pub fn run(socket: &Path, spawn: &Spawn, late: &dyn Fn()) -> Result<i32, ClientError> {
    let signals: Vec<i32> = PASSED.iter().copied().chain([libc::SIGWINCH]).collect();
    let signals = Signals::take(&signals).map_err(ClientError::Bridge)?;
    let bridge = reach(socket, late).map_err(broken)?;
    let body = memfd(&spawn.encode()).map_err(ClientError::Bridge)?;
    let (stdin, stdout, stderr) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    let raw = match spawn.terminal {
        Some(_) => Some(Raw::enter(stdin).map_err(ClientError::Bridge)?),
        None => None,
    };
    let mut fds: Vec<BorrowedFd<'_>> = vec![body.as_fd(), stdin, stdout];
    if raw.is_none() {
        fds.push(stderr);
    }
    packet::send(&bridge, Packet::Exec, &fds).map_err(ClientError::Bridge)?;
    let mut patience = Timespec::try_from(LATE).ok();
    loop {
        let mut ready = [PollFd::new(&bridge, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut ready, patience.as_ref()) {
            Ok(0) if patience.take().is_some() => late(),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(broken(errno)),
        }
        while let Some(signal) = signals.next() {
            let packet = match size(stdin) {
                Some((rows, cols)) if signal == libc::SIGWINCH => Packet::Resize(rows, cols),
                _ if signal == libc::SIGWINCH => continue,
                _ => Packet::Signal(signal),
            };
            packet::send(&bridge, packet, &[]).map_err(ClientError::Bridge)?;
        }
        match packet::receive(&bridge).map_err(broken)? {
            None => {}
            Some((Packet::Started(_), _)) => patience = None,
            Some((Packet::Ended(status), _)) => return Ok(status),
            Some((Packet::NotStarted(errno, folder), _)) => {
                return Err(ClientError::NotStarted { errno: Errno::from_raw_os_error(errno), folder });
            }
            Some(_) => return Err(broken(Errno::PROTO)),
        }
    }
}

/// The guest, held still. Dropped, it goes on.
#[derive(Debug)]
pub struct Frozen {
    _bridge: OwnedFd,
}

/// Holds the guest still: every process stopped, everything written out.
///
/// # Errors
/// No bridge, or the guest cannot.
pub fn freeze(socket: &Path) -> Result<Frozen, ClientError> {
    let (bridge, packet) = ask(socket, Packet::Freeze)?;
    match packet {
        Packet::Done(0) => Ok(Frozen { _bridge: bridge }),
        Packet::Done(errno) => Err(ClientError::Refused(Errno::from_raw_os_error(errno))),
        _ => Err(broken(Errno::PROTO)),
    }
}

/// How the guest fares: bytes of its memory that are in use, and processes.
///
/// # Errors
/// No bridge.
pub fn stats(socket: &Path) -> Result<(u64, u32), ClientError> {
    match ask(socket, Packet::Stats)?.1 {
        Packet::Told(bytes, processes) => Ok((bytes, processes)),
        _ => Err(broken(Errno::PROTO)),
    }
}

fn ask(socket: &Path, question: Packet) -> Result<(OwnedFd, Packet), ClientError> {
    let bridge = reach(socket, &|| {}).map_err(broken)?;
    packet::send(&bridge, question, &[]).map_err(ClientError::Bridge)?;
    loop {
        let mut ready = [PollFd::new(&bridge, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(broken(errno)),
        }
        if let Some((packet, _)) = packet::receive(&bridge).map_err(broken)? {
            return Ok((bridge, packet));
        }
    }
}

/// Connects; waits for a guest that still starts. One that never does ends its cube, and this process with it.
fn reach(path: &Path, late: &dyn Fn()) -> Result<OwnedFd, Errno> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => {
                rustix::io::ioctl_fionbio(&socket, true)?;
                return Ok(socket);
            }
            Err(Errno::NOENT | Errno::CONNREFUSED) if begun.elapsed() < START => {
                if !told && begun.elapsed() > LATE {
                    told = true;
                    late();
                }
                std::thread::sleep(LOOK);
            }
            Err(errno) => return Err(errno),
        }
    }
}

fn memfd(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(rustix::fs::memfd_create("spawn", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}
