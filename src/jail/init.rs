//! PID 1 of a cube: starts what the keeper asks for, reaps, forwards signals, and ends with the keeper.
//!
//! It is confined by the same Landlock domain and the same filter as everything it starts, holds no host
//! descriptor but the control socket, and cannot be inspected from inside.
#![expect(unsafe_code, reason = "signalfd and sigprocmask have no wrapper in rustix")]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::WaitOptions;
use rustix::termios::Winsize;

use super::connect;
use super::spawn::{SpawnSpec, Streams, spawn};
use super::step::{At, Failed, Step};
use super::taken_out::{Part, taken_out};
use super::wire::{self, ALL_SESSIONS, Message};

/// Where init stands.
#[derive(Debug)]
pub(super) enum Place {
    /// PID 1 of a root of its own.
    OwnRoot,
    /// A process among the host's, in the host's root.
    InPlace {
        /// The entry's terminal, master and slave: made before the rules, one of which is for it.
        terminal: Option<(OwnedFd, OwnedFd)>,
    },
}

impl Place {
    const fn is_own(&self) -> bool {
        matches!(self, Self::OwnRoot)
    }

    /// A terminal for session `number`.
    fn terminal(&mut self, number: u32, rows: u16, cols: u16) -> Result<(OwnedFd, OwnedFd), Errno> {
        match self {
            Self::InPlace { terminal } => match terminal.take_if(|_| number == 0) {
                Some(made) => Ok(made),
                None => self::terminal(c"/dev/ptmx", rows, cols),
            },
            // The host's own, where it stands in for ours, gives its masters out elsewhere.
            Self::OwnRoot if taken_out(Part::Dev) => self::terminal(c"/dev/ptmx", rows, cols),
            Self::OwnRoot => self::terminal(c"/dev/pts/ptmx", rows, cols),
        }
    }
}

/// Most processes that the keeper may start at once.
const MAX_SESSIONS: usize = 256;

/// A started process: the keeper's number for it and its id.
#[derive(Debug, Clone, Copy)]
struct Session {
    number: u32,
    pid: i32,
}

/// Blocks every signal and returns a descriptor that tells of dead children. Before the seal.
///
/// # Errors
/// As signalfd(2).
pub fn signals() -> Result<OwnedFd, Failed> {
    // SAFETY: the set is initialised by sigfillset before use, and all calls take valid pointers.
    let fd = unsafe {
        let mut all: libc::sigset_t = MaybeUninit::zeroed().assume_init();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        let mut child: libc::sigset_t = MaybeUninit::zeroed().assume_init();
        libc::sigemptyset(&raw mut child);
        libc::sigaddset(&raw mut child, libc::SIGCHLD);
        libc::signalfd(-1, &raw const child, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).at(Step::Signals);
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives every signal its default, for all that is started from here: execve(2) keeps what is ignored, and whoever
/// launched the cube may have ignored some. Done while the keeper reads the layers back.
pub fn default_signals() {
    for signal in 1..65 {
        // SAFETY: no handler is installed; KILL and STOP answer an error that does not matter.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Serves until the keeper closes the socket. What is started may have `files` open, or as many as we.
pub(super) fn serve(
    control: BorrowedFd<'_>,
    signals: &OwnedFd,
    entry: &SpawnSpec,
    mut pipes: Option<[OwnedFd; 3]>,
    mut place: Place,
    files: Option<u64>,
) -> Result<(), Errno> {
    let mut sessions: Vec<Session> = Vec::with_capacity(4);
    loop {
        let mut ready =
            [PollFd::from_borrowed_fd(control, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if !ready[1].revents().is_empty() {
            let mut buffer = [0_u8; 512];
            // Only a wake-up: the children themselves are asked below.
            let _drained = rustix::io::read(signals, &mut buffer);
            reap(control, &mut sessions)?;
        }
        if ready[0].revents().is_empty() {
            continue;
        }
        let Some(received) = wire::receive(control, RecvFlags::empty())? else {
            return Ok(());
        };
        match received.message {
            Message::Spawn { session: 0, rows, cols } => {
                let streams = pipes.take();
                start(control, &mut sessions, &mut place, 0, entry, (rows, cols), streams, files)?;
            }
            Message::Spawn { session, rows, cols } => {
                let mut fds = received.fds.into_iter();
                let spec = fds.next();
                let streams = <[OwnedFd; 3]>::try_from(fds.collect::<Vec<_>>()).ok();
                match spec.and_then(|fd| read_all(&fd)).and_then(|bytes| SpawnSpec::decode(&bytes)) {
                    Some(spec) => {
                        start(
                            control,
                            &mut sessions,
                            &mut place,
                            session,
                            &spec,
                            (rows, cols),
                            streams,
                            files,
                        )?;
                    }
                    None => not_started(control, session, Errno::INVAL, false)?,
                }
            }
            Message::Signal { session, signal } => deliver(&sessions, &place, session, signal),
            Message::Sockets { number, six, count } => connect::tcp(control, number, six, count)?,
            Message::ConnectUnix { number } => connect::unix(control, number, received.fds)?,
            // Nothing else is for init; a keeper that says it has lost its mind.
            _ => return Err(Errno::PROTO),
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "what one process is started with")]
fn start(
    control: BorrowedFd<'_>,
    sessions: &mut Vec<Session>,
    place: &mut Place,
    number: u32,
    spec: &SpawnSpec,
    (rows, cols): (u16, u16),
    pipes: Option<[OwnedFd; 3]>,
    files: Option<u64>,
) -> Result<(), Errno> {
    if sessions.len() >= MAX_SESSIONS {
        return not_started(control, number, Errno::AGAIN, false);
    }
    let (result, master) = if rows > 0 {
        match place.terminal(number, rows, cols) {
            Ok((master, slave)) => {
                (spawn(spec, Streams::Terminal(slave.as_fd()), None, None, files), Some(master))
            }
            Err(errno) => return not_started(control, number, errno, false),
        }
    } else if let Some(pipes) = &pipes {
        (
            spawn(
                spec,
                Streams::Pipes([pipes[0].as_fd(), pipes[1].as_fd(), pipes[2].as_fd()]),
                None,
                None,
                files,
            ),
            None,
        )
    } else {
        return not_started(control, number, Errno::BADF, false);
    };
    match result {
        Ok(pid) => {
            sessions.push(Session { number, pid });
            let message = Message::Started { session: number, pid };
            match &master {
                Some(master) => wire::send(control, message, &[master.as_fd()]),
                None => wire::send(control, message, &[]),
            }
        }
        Err(failed) => not_started(control, number, failed.errno, failed.folder),
    }
}

fn not_started(control: BorrowedFd<'_>, session: u32, errno: Errno, folder: bool) -> Result<(), Errno> {
    wire::send(control, Message::NotStarted { session, errno: errno.raw_os_error(), folder }, &[])
}

/// A new terminal of the devpts behind `multiplexer`: master and slave.
///
/// # Errors
/// There are no more, or no devpts.
pub fn terminal(multiplexer: &std::ffi::CStr, rows: u16, cols: u16) -> Result<(OwnedFd, OwnedFd), Errno> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(rustix::fs::CWD, multiplexer, flags, Mode::empty())?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::termios::tcsetwinsize(
        &master,
        Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 },
    )?;
    Ok((master, slave))
}

/// What a memfd of the keeper's holds.
pub(super) fn read_all(fd: &OwnedFd) -> Option<Vec<u8>> {
    crate::host::fdpass::read_memory(fd).ok()
}

fn reap(control: BorrowedFd<'_>, sessions: &mut Vec<Session>) -> Result<(), Errno> {
    let mut ended = Vec::new();
    let alone = loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let pid = pid.as_raw_nonzero().get();
                if let Some(at) = sessions.iter().position(|session| session.pid == pid) {
                    ended.push((sessions.swap_remove(at), status.as_raw()));
                }
            }
            Ok(None) => break false,
            Err(Errno::CHILD) => break true,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    };
    for (session, status) in ended {
        wire::send(control, Message::Ended { session: session.number, status, alone }, &[])?;
    }
    Ok(())
}

/// How long stopping everything may keep to its order.
const STOP_IN_ORDER: std::time::Duration = std::time::Duration::from_millis(100);

fn deliver(sessions: &[Session], place: &Place, number: u32, signal: i32) {
    if number == ALL_SESSIONS && !place.is_own() {
        // -1 would be everything of the user's, where no scope holds it back.
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
            let own = rustix::process::getpid().as_raw_nonzero().get();
            crate::host::descendants::signal_beneath(own, signal);
        }
        return;
    }
    // SAFETY: plain kill(2) with numbers; a wrong signal answers EINVAL, a vanished target ESRCH, and neither matters.
    unsafe {
        if number == ALL_SESSIONS && taken_out(Part::PidNs) {
            // -1 would be everything on the host that may be signalled.
            for session in sessions {
                libc::kill(-session.pid, signal);
            }
        } else if number == ALL_SESSIONS && signal == libc::SIGCONT {
            continue_all();
        } else if number == ALL_SESSIONS && signal == libc::SIGSTOP {
            stop_all();
        } else if number == ALL_SESSIONS {
            libc::kill(-1, signal);
        } else if let Some(session) = sessions.iter().find(|session| session.number == number) {
            // Each session leads its own process group.
            libc::kill(-session.pid, signal);
        }
    }
}

/// Every process of the cube but this one.
fn everybody() -> Vec<i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid > 1)
        .collect()
}

/// Stops everything, the oldest first, and each only when those before it stand: a shell that
/// still waits when its child stops takes the child for suspended, and says so at the next prompt.
pub fn stop_all() {
    let begun = std::time::Instant::now();
    let mut pids = everybody();
    pids.sort_unstable();
    for pid in pids {
        // SAFETY: plain kill(2) with a number of our own namespace; one that is gone does not matter.
        unsafe {
            libc::kill(pid, libc::SIGSTOP);
        }
        // One that sleeps in the kernel for long must not keep the others running.
        while begun.elapsed() < STOP_IN_ORDER && !stands(pid) {
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
    }
    // SAFETY: as above; whoever was missed, or began meanwhile.
    unsafe {
        libc::kill(-1, libc::SIGSTOP);
    }
}

/// True when that process is stopped, traced or gone (proc_pid_stat(5), field 3), or the kernel's own, which no signal stops
/// (field 9, `PF_KTHREAD`): a guest's init sees those.
fn stands(pid: i32) -> bool {
    const KERNEL: u32 = 0x0020_0000;
    let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { return true };
    let stat = String::from_utf8_lossy(&stat);
    let Some((_, fields)) = stat.rsplit_once(") ") else { return true };
    let flags = fields.split(' ').nth(6).and_then(|flags| flags.parse::<u32>().ok()).unwrap_or(0);
    flags & KERNEL != 0 || !fields.starts_with(|state| !matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// Wakes everything, the youngest first: a shell that wakes before its child takes it for stopped.
pub fn continue_all() {
    let mut pids = everybody();
    pids.sort_unstable_by(|a, b| b.cmp(a));
    for pid in pids {
        // SAFETY: plain kill(2) with a number of our own namespace; one that is gone does not matter.
        unsafe {
            libc::kill(pid, libc::SIGCONT);
        }
    }
    // SAFETY: as above; whoever was missed.
    unsafe {
        libc::kill(-1, libc::SIGCONT);
    }
}
