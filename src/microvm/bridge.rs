//! The cube's side of the channel to its guest: sessions, their descriptors, the guest's network and ports. It runs in the
//! shim, confined like anything in the cube, and takes nothing the guest says on trust: what it holds is bounded by the
//! numbers in [`super::wire`], what it connects to is the cube's own network, where the gateway decides.
//!
//! The caller turns the loop ([`Bridge::turn`]) and hears of what matters, one [`Event`] at a time. It may have descriptors of
//! its own watched, such as the process descriptor of the VMM.

pub mod client;
mod doors;
mod mirror;
mod packet;
mod queries;
mod requests;
mod server;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::channel::Channel;
use super::link::{Link, Ready};
use super::wire::{self, Greeting, Hello, Lie, Listener, Message, Side, Stats, VERSION};
use doors::Doors;
use mirror::Mirror;
use queries::Queries;
use server::Server;
use sessions::Sessions;

/// Between two greetings, until one is answered.
const GREETING: Duration = Duration::from_millis(50);

/// What the caller of [`Bridge::turn`] must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A descriptor of the caller's, by its index, is readable or has hung up.
    Watched(usize),
    /// The guest has greeted.
    Hello(Hello),
    /// It is set up.
    Ready,
    /// It could not be set up. The step is the guest's own words.
    SetupFailed {
        /// What was being done.
        step: String,
        /// The error number.
        errno: i32,
    },
    /// A session runs.
    Started {
        /// Its stream.
        stream: u32,
        /// Its process in the guest.
        pid: i32,
    },
    /// A session could not be started.
    NotStarted {
        /// Its stream.
        stream: u32,
        /// The error number.
        errno: i32,
        /// It is the working directory that is not there.
        folder: bool,
    },
    /// A session has ended, and what it wrote is written.
    Ended {
        /// Its stream.
        stream: u32,
        /// As waitpid(2) gives it.
        status: i32,
        /// Nothing else runs in the guest.
        alone: bool,
    },
    /// What was asked for by a token is done.
    Done {
        /// The token.
        token: u32,
        /// The error number, or 0.
        errno: i32,
    },
    /// How the guest says it fares.
    Stats {
        /// The token.
        token: u32,
        /// How.
        stats: Stats,
    },
    /// What listens in the guest.
    Ports(Vec<Listener>),
    /// The agent's own words; a stranger's text.
    Log(String),
    /// The channel has ended: the guest is off, or the VMM gone.
    Closed,
    /// The guest broke the protocol, and is not to be listened to any more.
    Lied(Lie),
    /// The deadline is over.
    Deadline,
}

/// The standard streams of a session on this side; the bridge makes them non-blocking.
#[derive(Debug)]
pub struct Stdio {
    /// Read for the session.
    pub stdin: OwnedFd,
    /// Written.
    pub stdout: OwnedFd,
    /// Written; none for a terminal.
    pub stderr: Option<OwnedFd>,
}

/// The bridge.
#[derive(Debug)]
pub struct Bridge {
    link: Link,
    /// The greeting, while it is not answered.
    greeting: Option<(Greeting, Instant)>,
    events: VecDeque<Event>,
    sessions: Sessions,
    queries: Queries,
    mirror: Mirror,
    server: Option<Server>,
    doors: Option<Doors>,
    net: bool,
    /// The last stream that the guest opened: its numbers only grow.
    guest_stream: u32,
    stream: u32,
    token: u32,
    /// The channel is not to be used any more.
    over: bool,
}

impl Bridge {
    /// Begins to greet the guest at the other end of `control`.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking, or there is no randomness.
    pub fn new(control: OwnedFd) -> io::Result<Self> {
        let mut nonce = [0; 8];
        getrandom(&mut nonce, GetRandomFlags::empty())?;
        let greeting = Greeting { version: VERSION, nonce: u64::from_le_bytes(nonce) };
        Ok(Self {
            link: Link::new(Channel::new(control, Side::Host, greeting.nonce)?),
            greeting: Some((greeting, Instant::now())),
            events: VecDeque::new(),
            sessions: Sessions::default(),
            queries: Queries::default(),
            mirror: Mirror::default(),
            server: None,
            doors: None,
            net: false,
            guest_stream: wire::GUEST_OPENED,
            stream: 0,
            token: 0,
            over: false,
        })
    }

    /// Goes on until there is something to know. `watch`: descriptors of the caller's.
    ///
    /// # Errors
    /// poll(2) or the channel fails in a way that no guest can bring about.
    pub fn turn(&mut self, watch: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(Event::Deadline);
            }
            self.greet(now);
            if self.link.channel.flush().is_err() {
                self.close(Event::Closed);
                continue;
            }
            self.once(watch, deadline, now)?;
        }
    }

    fn once(&mut self, watch: &[BorrowedFd<'_>], deadline: Option<Instant>, now: Instant) -> io::Result<()> {
        let wait_until = [deadline, self.greeting.map(|(_, next)| next), self.queries.deadline()];
        let timeout = wait_until.into_iter().flatten().min().map(|then| then.saturating_duration_since(now));
        let mut others: Vec<BorrowedFd<'_>> = watch.to_vec();
        let queries = others.len();
        others.extend(self.queries.fds());
        let mirror = others.len();
        let room =
            self.link.connections() < wire::CONNECTIONS && self.link.channel.has_room() && !self.link.quiet;
        if room {
            others.extend(self.mirror.fds());
        }
        let server = others.len();
        if let Some(it) = &self.server {
            others.extend(it.fds());
        }
        let doors = others.len();
        if let Some(it) = self.doors.as_ref().filter(|_| room) {
            others.extend(it.fds());
        }
        // A guest that does not read is not listened to.
        let listen = !self.over && !self.link.channel.is_choked();
        let ready = self.link.wait(listen, &others, timeout)?;
        let (mut named, mut called) = (Vec::new(), Vec::new());
        for ready in ready {
            match ready {
                Ready::Channel(flags) => self.listen(flags),
                Ready::Other(index) if index < queries => self.events.push_back(Event::Watched(index)),
                Ready::Other(index) if index < mirror => {
                    self.queries.answer(index - queries, &mut self.link.channel);
                }
                Ready::Other(index) if index < server => {
                    let stream = &mut self.stream;
                    self.mirror.accept(index - mirror, &mut self.link, stream);
                }
                // Clients may come and go meanwhile: first all are heard of, then served.
                Ready::Other(index) if index < doors => named.push(index - server),
                Ready::Other(index) => called.push(index - doors),
                stream => self.link.act(stream),
            }
        }
        self.serve_clients(&named);
        if let Some(doors) = &mut self.doors {
            doors.act(&called, &mut self.link, &mut self.stream);
        }
        self.queries.expire(Instant::now());
        self.link.sweep();
        self.finish_sessions();
        Ok(())
    }

    fn greet(&mut self, now: Instant) {
        if let Some((greeting, next)) = &mut self.greeting
            && *next <= now
        {
            *next = now + GREETING;
            let message = Message::Greet(*greeting);
            // What could not even be written yet need not be said twice.
            if !self.link.channel.has_words() {
                self.link.channel.say(&message);
            }
        }
    }

    fn listen(&mut self, flags: PollFlags) {
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) || self.over {
            return;
        }
        match self.link.channel.fill() {
            Ok(true) => {}
            Ok(false) | Err(_) => return self.close(Event::Closed),
        }
        loop {
            match self.link.channel.message() {
                Ok(None) => return,
                Ok(Some(message)) => {
                    if let Err(lie) = self.hear(message) {
                        return self.close(Event::Lied(lie));
                    }
                }
                Err(lie) => return self.close(Event::Lied(lie)),
            }
        }
    }

    /// The last event: nothing is said or heard after it.
    fn close(&mut self, event: Event) {
        if !self.over {
            self.over = true;
            self.greeting = None;
            self.link.break_connections();
            self.events.push_back(event);
        }
        self.link.channel.forget_words();
    }

    fn hear(&mut self, message: Message) -> Result<(), Lie> {
        if self.link.hear(&message)? {
            return Ok(());
        }
        match message {
            Message::Hello(hello) => self.greeted(*hello)?,
            Message::Ready => self.events.push_back(Event::Ready),
            Message::Failed { step, errno } => self.events.push_back(Event::SetupFailed { step, errno }),
            Message::Started { stream, pid } => {
                self.sessions.started(stream, &mut self.link)?;
                self.tell(stream, Event::Started { stream, pid });
            }
            Message::NotStarted { stream, errno, folder } => {
                self.sessions.not_started(stream)?;
                self.link.streams.remove(&stream);
                self.tell(stream, Event::NotStarted { stream, errno, folder });
            }
            Message::Exited { stream, status, alone } => self.sessions.exited(stream, status, alone)?,
            Message::Connect { stream, to } => self.connect(stream, to)?,
            Message::Query { token, packet } => {
                if self.net {
                    self.queries.ask(token, &packet, Instant::now());
                }
            }
            Message::Ports(listeners) => {
                self.mirror.follow(&listeners);
                self.events.push_back(Event::Ports(listeners));
            }
            Message::Done { token, errno } => self.tell_token(token, Event::Done { token, errno })?,
            Message::Stats { token, stats } => self.tell_token(token, Event::Stats { token, stats })?,
            Message::Log(text) => self.events.push_back(Event::Log(text)),
            _ => return Err(Lie::Order),
        }
        Ok(())
    }

    fn greeted(&mut self, hello: Hello) -> Result<(), Lie> {
        if self.greeting.take().is_none() || hello.version != VERSION {
            return Err(Lie::Order);
        }
        // Numbers that are taken are not given again.
        let highest = hello.sessions.iter().filter(|id| **id < wire::GUEST_OPENED).max();
        self.stream = self.stream.max(highest.copied().unwrap_or(0));
        self.events.push_back(Event::Hello(hello));
        Ok(())
    }
}

/// A descriptor that is lent.
fn lend(fd: &OwnedFd) -> BorrowedFd<'_> {
    fd.as_fd()
}

/// For messages that carry an error number.
const fn code(errno: Errno) -> i32 {
    errno.raw_os_error()
}
