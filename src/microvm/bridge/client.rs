//! The other end of the bridge's socket, for processes of the same cube: a session with this process's own standard streams,
//! or a hold of the guest.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::packet::{self, Packet};
use crate::host::tty::{Raw, Signals, size};
use crate::microvm::wire::Spawn;

/// Signals that are passed on.
const PASSED: [i32; 8] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
];

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
/// standard input is one, and is raw meanwhile.
///
/// # Errors
/// No bridge, or the program could not be started.
pub fn run(socket: &Path, spawn: &Spawn) -> Result<i32, ClientError> {
    let signals: Vec<i32> = PASSED.iter().copied().chain([libc::SIGWINCH]).collect();
    let signals = Signals::take(&signals).map_err(ClientError::Bridge)?;
    let bridge = reach(socket).map_err(broken)?;
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
    loop {
        let mut ready = [PollFd::new(&bridge, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut ready, None) {
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
            None | Some((Packet::Started(_), _)) => {}
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
    let bridge = reach(socket).map_err(broken)?;
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

fn reach(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

fn memfd(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(rustix::fs::memfd_create("spawn", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}
