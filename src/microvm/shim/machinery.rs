//! The machine from its first process to its last: started, set up, watched, ended.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, socketpair,
};

use super::{End, Failed, stdio};
use crate::host::tty::{self, Raw, Signals};
use crate::microvm::bridge::{Bridge, Event};
use crate::microvm::engine::{Engine, From, Machine, Plugs};
use crate::microvm::qemu::{Qemu, how};
use crate::microvm::share::{self, Share};
use crate::microvm::wire::{ENTRY, Mount, MountKind, Net, Setup, Spawn};
use crate::model::VmAccel;
use crate::model::sanitize::printable;
use crate::plan::vm::{FOLDER, VmSpec, accel_words};

/// Signals that are meant for what runs in the guest.
const PASSED: [i32; 9] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
    libc::SIGWINCH,
];
/// How many lines of the console a failure shows.
const SHOWN: usize = 20;
/// How long the guest may take to write everything out in the end.
const SYNC: Duration = Duration::from_secs(10);
/// How long the other end of a channel that has closed may take to be seen dead.
const DYING: Duration = Duration::from_secs(2);

/// How long a guest may take to greet: an emulated one on a host with much else to do was seen to take 24 s.
const fn boot_time(accel: VmAccel) -> Duration {
    match accel {
        VmAccel::Kvm => Duration::from_secs(30),
        VmAccel::Tcg => Duration::from_secs(180),
    }
}

/// Runs `spawn` in a machine of its own.
pub(super) fn run(spec: &VmSpec, spawn: Spawn) -> Result<End, Failed> {
    let signals =
        Signals::take(&PASSED).map_err(|error| Failed::new(format!("cannot take signals: {error}")))?;
    let mut machinery = Machinery::start(spec, signals)?;
    let end = machinery.serve(spec, spawn);
    if let Err(failed) = end {
        return Err(machinery.with_last_lines(failed));
    }
    end
}

struct Machinery {
    share: Share,
    machine: Box<dyn Machine>,
    bridge: Bridge,
    signals: Signals,
    said: Vec<String>,
}

impl Machinery {
    fn start(spec: &VmSpec, signals: Signals) -> Result<Self, Failed> {
        let fail = |what: &str, error: &dyn std::error::Error| {
            Failed::new(format!("{what}: {}", super::said(error)))
        };
        let share = share::start(spec).map_err(|error| {
            fail(&format!("the share daemon `{}` cannot be started", spec.share.program), &error)
        })?;
        // What it needs, nothing after it does.
        crate::microvm::child::drop_capabilities()
            .map_err(|error| fail("cannot give capabilities up", &error))?;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (agent, its_agent) = pair.map_err(|errno| fail("cannot make the guest's channel", &errno))?;
        let stream = rustix::io::fcntl_dupfd_cloexec(&share.stream, 3)
            .map_err(|errno| fail("cannot make the share's channel", &errno))?;
        let plugs = Plugs { agent: its_agent, share: stream };
        let machine = Qemu
            .start(spec, plugs, From::Boot)
            .map_err(|error| fail("the virtual machine cannot be started", &error))?;
        let bridge = Bridge::new(agent).map_err(|error| fail("cannot make the guest's bridge", &error))?;
        Ok(Self { share, machine, bridge, signals, said: Vec::new() })
    }

    /// Boots, runs the entry, ends.
    fn serve(&mut self, spec: &VmSpec, spawn: Spawn) -> Result<End, Failed> {
        let deadline = Instant::now() + boot_time(spec.accel);
        let late = || {
            Failed::new(format!(
                "the guest did not start within {} s ({}, Linux {})",
                boot_time(spec.accel).as_secs(),
                accel_words(spec.accel),
                spec.release
            ))
        };
        loop {
            match self.turn(Some(deadline))? {
                Event::Hello(_) => break,
                Event::Deadline => return Err(late()),
                _ => {}
            }
        }
        self.bridge.set_up(setup(spec)?);
        loop {
            match self.turn(Some(deadline))? {
                Event::Ready => break,
                Event::SetupFailed { step, errno } => {
                    let error = rustix::io::Errno::from_raw_os_error(errno);
                    return Err(Failed::new(format!(
                        "the guest cannot be set up: {}: {error}",
                        printable(&step)
                    )));
                }
                Event::Deadline => return Err(late()),
                _ => {}
            }
        }
        let terminal = spawn.terminal;
        let raw = match terminal {
            Some(_) => Some(
                Raw::enter(std::io::stdin().as_fd())
                    .map_err(|error| Failed::new(format!("cannot use the terminal: {error}")))?,
            ),
            None => None,
        };
        let broken = |errno: rustix::io::Errno| Failed::new(format!("cannot reach the guest: {errno}"));
        let streams = stdio(terminal.is_some()).map_err(broken)?;
        self.bridge.start(spawn, streams).map_err(broken)?;
        self.bridge.serve(listener().map_err(broken)?).map_err(broken)?;
        self.bridge.mirror_ports(true);
        self.bridge.allow_net(spec.capture);
        let end = loop {
            match self.turn(None)? {
                Event::Ended { stream: ENTRY, status, .. } => break End::Status(status),
                Event::NotStarted { stream: ENTRY, errno, folder } => {
                    break End::NotStarted(rustix::io::Errno::from_raw_os_error(errno), folder);
                }
                _ => {}
            }
        };
        self.settle();
        drop(raw);
        Ok(end)
    }

    /// One thing to know of the guest; what is known of this side is dealt with here.
    fn turn(&mut self, deadline: Option<Instant>) -> Result<Event, Failed> {
        loop {
            let watch = [
                self.share.daemon.pidfd(),
                self.machine.ended(),
                self.machine.console(),
                self.signals.as_fd(),
            ];
            let event = self
                .bridge
                .turn(&watch, deadline)
                .map_err(|error| Failed::new(format!("the guest's bridge failed: {error}")))?;
            match event {
                Event::Watched(0) => return Err(self.share_ended()),
                Event::Watched(1) => return Err(self.machine_ended()),
                Event::Watched(2) => self.machine.listen(),
                Event::Watched(_) => self.pass_signals(),
                Event::Closed => {
                    self.wait_for_death();
                    return Err(self.machine_ended());
                }
                Event::Lied(lie) => {
                    return Err(Failed::new(format!("the guest broke the agent's protocol: {lie}")));
                }
                Event::Log(text) => {
                    self.said.push(printable(&text.chars().take(400).collect::<String>()));
                    let surplus = self.said.len().saturating_sub(SHOWN);
                    self.said.drain(..surplus);
                }
                event => return Ok(event),
            }
        }
    }

    fn pass_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            if signal != libc::SIGWINCH {
                self.bridge.signal(ENTRY, signal);
            } else if let Some((rows, cols)) = tty::size(std::io::stdin()) {
                self.bridge.resize(ENTRY, rows, cols);
            }
        }
    }

    /// What was written is on the share before the machine goes.
    fn settle(&mut self) {
        let asked = self.bridge.sync();
        let deadline = Instant::now() + SYNC;
        loop {
            match self.turn(Some(deadline)) {
                Ok(Event::Done { token, .. }) if token == asked => break,
                // A machine that dies now has nothing more to say.
                Err(_) | Ok(Event::Deadline) => break,
                Ok(_) => {}
            }
        }
    }

    fn wait_for_death(&self) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut ready = [PollFd::from_borrowed_fd(self.machine.ended(), PollFlags::IN)];
        let wait = Timespec { tv_sec: i64::try_from(DYING.as_secs()).unwrap_or(2), tv_nsec: 0 };
        // A VMM that lives on without its channel is said to have closed it.
        let _ended = poll(&mut ready, Some(&wait));
    }

    fn share_ended(&mut self) -> Failed {
        let end = self.share.daemon.take_end().map_or_else(|| "nobody knows how".to_owned(), how);
        let mut failed = Failed::new(format!("the share daemon (virtiofsd) ended: {end}"));
        let mut bytes = vec![0; 4096];
        let count = self.share.errors.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        failed.0.extend(
            text.lines()
                .filter(|line| !line.trim().is_empty())
                .take(8)
                .map(|line| format!("  {}", printable(line))),
        );
        failed
    }

    fn machine_ended(&mut self) -> Failed {
        // Whoever dies for want of the share daemon is not the one to name.
        if self.share.daemon.take_end().is_some() {
            return self.share_ended();
        }
        let end = self.machine.stop();
        let lines = self.machine.last_lines(SHOWN);
        let has = |words: &str| lines.iter().any(|line| line.contains(words));
        let why = match end {
            None => "the guest closed its channel and ran on".to_owned(),
            Some(_) if has("Kernel panic") => "the guest's kernel panicked".to_owned(),
            Some(end) if end == "exit status 0" => "the guest was switched off".to_owned(),
            Some(end) => format!("the VMM (qemu) ended: {end}"),
        };
        Failed::new(why)
    }

    /// A failure with what the console said last.
    fn with_last_lines(&mut self, mut failed: Failed) -> Failed {
        let lines = self.machine.last_lines(SHOWN);
        if !lines.is_empty() {
            failed.0.push("the last lines of its console:".to_owned());
            failed.0.extend(lines.into_iter().map(|line| format!("  {line}")));
        }
        failed.0.extend(self.said.drain(..).map(|line| format!("  agent: {line}")));
        failed
    }
}

fn setup(spec: &VmSpec) -> Result<Setup, Failed> {
    let mut seed = vec![0; 64];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Failed::new(format!("no randomness for the guest: {errno}")))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Setup {
        hostname: spec.hostname.clone(),
        mounts: vec![Mount {
            kind: MountKind::Virtiofs,
            source: "root".to_owned(),
            target: "/".to_owned(),
            read_only: false,
        }],
        net: if spec.capture { Net::Captured } else { Net::None },
        time: u64::try_from(since.as_nanos()).unwrap_or(0),
        seed,
    })
}

fn listener() -> Result<OwnedFd, rustix::io::Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(format!("{FOLDER}/bridge.sock"))?)?;
    listen(&socket, 64)?;
    Ok(socket)
}
