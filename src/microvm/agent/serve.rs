//! The agent's loop: hears the host, starts and reaps, moves bytes, and never waits for anything but poll(2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::net::Net;
use super::ports::PortWatch;
use super::sessions::Sessions;
use super::worker::{Job, Outcome, Workers};
use super::{deleted, limits, root, stats};
use crate::microvm::channel::Channel;
use crate::microvm::link::{Link, Ready};
use crate::microvm::wire::{
    CONNECTIONS, Greeting, Hello, Lie, Message, Net as NetKind, SESSIONS, Setup, Side, VERSION,
};

/// How long a host may be away before the guest ends.
const AWAY: Duration = Duration::from_secs(10);
/// Between two looks at a port that nobody holds: poll(2) does not wait for such.
const GLANCE: Duration = Duration::from_millis(10);

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The host said so.
    PowerOff,
    /// Nobody is there any more.
    Alone,
    /// The host speaks nonsense.
    Nonsense(Lie),
    /// A system call that cannot fail did.
    Broken(Errno),
}

/// The agent's whole state.
#[derive(Debug)]
pub(super) struct Agent {
    link: Link,
    signals: OwnedFd,
    workers: Workers,
    sessions: Sessions,
    net: Option<Net>,
    ports: PortWatch,
    /// The number of the greeting that was answered.
    nonce: Option<u64>,
    set_up: bool,
    /// Since when nobody holds the other end.
    away: Option<Instant>,
    /// This process is PID 1 of a machine of its own; otherwise it is being tested and touches nothing but its sessions.
    machine: bool,
}

impl Agent {
    pub(super) fn new(channel: OwnedFd, signals: OwnedFd, machine: bool) -> std::io::Result<Self> {
        Ok(Self {
            link: Link::new(Channel::new(channel, Side::Guest, 0)?),
            signals,
            workers: Workers::start(machine)?,
            sessions: Sessions::default(),
            net: None,
            ports: PortWatch::default(),
            nonce: None,
            set_up: false,
            away: None,
            machine,
        })
    }

    /// Serves until the end.
    pub(super) fn run(&mut self) -> End {
        loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(errno) => return End::Broken(errno),
            }
        }
    }

    fn turn(&mut self) -> Result<Option<End>, Errno> {
        if let Err(errno) = self.link.channel.flush() {
            if !matches!(errno, Errno::PIPE | Errno::NODEV | Errno::NXIO | Errno::IO) {
                return Err(errno);
            }
            if let Some(end) = self.lonely() {
                return Ok(Some(end));
            }
        }
        let quiet = self.link.quiet;
        let accepting = !quiet && self.link.connections() < CONNECTIONS && self.link.channel.has_room();
        let mut others: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd(), self.workers.bell()];
        if let Some(net) = self.net.as_ref().filter(|_| accepting) {
            others.extend(net.listeners().map(AsFd::as_fd));
        }
        let patience = if quiet { None } else { self.ports.patience(Instant::now()) };
        let ready = self.link.wait(true, &others, patience)?;
        for ready in ready {
            match ready {
                Ready::Channel(flags) => {
                    if let Some(end) = self.listen(flags)? {
                        return Ok(Some(end));
                    }
                }
                Ready::Other(0) => self.reap(),
                Ready::Other(1) => self.outcomes(),
                Ready::Other(index) => {
                    if let Some(net) = &mut self.net {
                        net.act(index - 2, &mut self.link);
                    }
                }
                stream => self.link.act(stream),
            }
        }
        if self.link.quiet {
            return Ok(None);
        }
        self.sessions.finish(&mut self.link);
        self.link.sweep();
        let ours = self.net.as_ref().map(Net::ports).unwrap_or_default();
        if let Some(message) = self.ports.look(Instant::now(), &ours) {
            self.link.channel.say(&message);
        }
        Ok(None)
    }

    fn listen(&mut self, flags: PollFlags) -> Result<Option<End>, Errno> {
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return Ok(None);
        }
        if !self.link.channel.fill()? {
            return Ok(self.lonely());
        }
        self.away = None;
        loop {
            match self.link.channel.message() {
                Ok(None) => return Ok(None),
                Ok(Some(Message::PowerOff)) => return Ok(Some(End::PowerOff)),
                Ok(Some(message)) => {
                    if let Err(lie) = self.hear(message) {
                        return Ok(Some(End::Nonsense(lie)));
                    }
                }
                Err(lie) => return Ok(Some(End::Nonsense(lie))),
            }
        }
    }

    /// Nobody holds the other end: whoever comes greets anew.
    fn lonely(&mut self) -> Option<End> {
        let since = *self.away.get_or_insert_with(Instant::now);
        if since.elapsed() > AWAY || !self.machine {
            return Some(End::Alone);
        }
        self.link.channel.start_over();
        std::thread::sleep(GLANCE);
        None
    }

    fn hear(&mut self, message: Message) -> Result<(), Lie> {
        if self.link.hear(&message)? {
            return Ok(());
        }
        let (link, workers) = (&mut self.link, &self.workers);
        match message {
            Message::Greet(greeting) => self.greeted(greeting),
            Message::Setup(setup) if !self.set_up => self.set_up(&setup),
            Message::Time { nanoseconds } => self.clock(nanoseconds),
            Message::Reseed { seed } => self.reseed(&seed),
            Message::Spawn { stream, .. } if link.is_known(stream) => return Err(Lie::Stream),
            Message::Spawn { stream, .. } if self.sessions.len() >= SESSIONS || !self.set_up => {
                let errno = Errno::AGAIN.raw_os_error();
                link.channel.say(&Message::NotStarted { stream, errno, folder: false });
            }
            Message::Spawn { stream, spawn } => {
                self.sessions.expect();
                workers.hand(Job::Spawn { stream, spawn });
            }
            Message::Adopt { stream } => self.sessions.adopt(stream, link),
            Message::Resize { stream, rows, cols } => self.sessions.resize(stream, rows, cols),
            Message::Signal { stream, signal } => self.sessions.signal(stream, signal, self.machine),
            Message::Dial { stream, .. } if link.is_known(stream) => return Err(Lie::Stream),
            Message::Dial { stream, .. } if link.connections() >= CONNECTIONS => {
                link.refuse(stream, Errno::AGAIN);
            }
            Message::Dial { stream, port, six } => {
                let address = if six { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
                link.dial(stream, SocketAddr::new(address, port));
            }
            Message::DialPath { stream, .. } if link.is_known(stream) => return Err(Lie::Stream),
            Message::DialPath { stream, .. } if link.connections() >= CONNECTIONS => {
                link.refuse(stream, Errno::AGAIN);
            }
            Message::DialPath { stream, path } => workers.hand(Job::Dial { stream, path }),
            Message::Answer { token, packet } => {
                if let Some(net) = &mut self.net {
                    net.answer(token, &packet);
                }
            }
            Message::WatchPorts { every } => self.ports.every(every, Instant::now()),
            Message::Freeze { token } if self.machine => workers.hand(Job::Stop { token }),
            Message::Sync { token } | Message::Freeze { token } => workers.hand(Job::Sync { token }),
            Message::Thaw { token } => {
                if self.machine {
                    crate::jail::init::continue_all();
                }
                link.channel.say(&Message::Done { token, errno: 0 });
            }
            Message::Hold { token, on } => {
                // Such files cannot be served to a guest that goes on later.
                let lost = on && self.machine && deleted::in_use();
                link.quiet = on && !lost;
                let errno = if lost { Errno::STALE.raw_os_error() } else { 0 };
                link.channel.say(&Message::Done { token, errno });
            }
            Message::DropCaches { token } => workers.hand(Job::DropCaches { token }),
            Message::AskStats { token } => link.channel.say(&Message::Stats { token, stats: stats::now() }),
            _ => return Err(Lie::Order),
        }
        Ok(())
    }

    /// A host. Another one than before knows nothing of what was under way with the last.
    fn greeted(&mut self, greeting: Greeting) {
        if self.nonce == Some(greeting.nonce) {
            return;
        }
        if self.nonce.is_some() {
            self.link.channel.forget_words();
            self.link.break_connections();
            self.sessions.detach(&mut self.link);
            if let Some(net) = &mut self.net {
                net.forget();
            }
            self.ports = PortWatch::default();
        }
        self.nonce = Some(greeting.nonce);
        self.link.quiet = false;
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let hello = Hello {
            version: VERSION,
            nonce: greeting.nonce,
            kernel,
            set_up: self.set_up,
            sessions: self.sessions.running(),
        };
        self.link.channel.say(&Message::Hello(Box::new(hello)));
    }

    fn set_up(&mut self, setup: &Setup) {
        self.clock(setup.time);
        self.reseed(&setup.seed);
        let made = if self.machine { self.make(setup) } else { Ok(()) };
        match made {
            Ok(()) => {
                self.set_up = true;
                self.link.channel.say(&Message::Ready);
            }
            Err(failed) => {
                let errno = failed.errno.raw_os_error();
                self.link.channel.say(&Message::Failed { step: failed.step, errno });
            }
        }
    }

    fn make(&mut self, setup: &Setup) -> Result<(), root::Failed> {
        if let Some(group) = limits::set(setup)? {
            // Nothing was started before.
            let _first = self.workers.group.set(group);
        }
        root::make(setup)?;
        match setup.net {
            NetKind::None => crate::host::net::loopback_up().map_err(|error| root::Failed {
                step: "switching the loopback device on".to_owned(),
                errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
            }),
            NetKind::Captured => {
                let net = Net::capture().map_err(|error| root::Failed {
                    step: format!("capturing its network ({error})"),
                    errno: error.errno,
                })?;
                self.net = Some(net);
                Ok(())
            }
        }
    }

    fn clock(&mut self, nanoseconds: u64) {
        if self.machine
            && let Err(errno) = root::set_clock(nanoseconds)
        {
            self.log(&format!("the clock cannot be set: {errno}"));
        }
    }

    fn reseed(&mut self, seed: &[u8]) {
        if self.machine
            && let Err(error) = crate::host::guest::add_entropy(seed)
        {
            self.log(&format!("the random generator cannot be seeded: {error}"));
        }
    }

    fn log(&mut self, text: &str) {
        self.link.channel.say(&Message::Log(text.to_owned()));
    }

    /// Dead children: sessions, and orphans that nobody else can bury.
    fn reap(&mut self) {
        let mut buffer = [0_u8; 512];
        // Only a wake-up: the children themselves are asked.
        let _drained = rustix::io::read(&self.signals, &mut buffer);
        self.sessions.reap();
    }

    fn outcomes(&mut self) {
        for outcome in self.workers.done() {
            match outcome {
                Outcome::Done { token, errno } => self.link.channel.say(&Message::Done { token, errno }),
                Outcome::Dialled { stream, result } => {
                    let taken = result.and_then(|socket| self.link.take(stream, socket));
                    if let Err(errno) = taken {
                        self.link.refuse(stream, errno);
                    }
                }
                Outcome::Started { stream, result } => self.sessions.started(stream, result, &mut self.link),
            }
        }
    }
}
