//! What both ends of the channel have in common: the streams on it, connections that are being made, and one poll(2) for all
//! of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::channel::Channel;
use super::stream::{End, Kind, Stream};
use super::wire::{CONNECTION_WINDOW, Lane, Lie, Message};

/// Something that poll(2) named.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Channel(PollFlags),
    Stream(u32, End, PollFlags),
    Pending(u32),
    /// One of the caller's own, by its index.
    Other(usize),
}

/// The channel with its streams.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) channel: Channel,
    pub(super) streams: BTreeMap<u32, Stream>,
    /// Those of the streams that are network connections.
    connections: BTreeSet<u32>,
    /// Connections that are being made here.
    pending: BTreeMap<u32, OwnedFd>,
    /// Those of them that are told with a byte when their other end stands.
    answers: BTreeSet<u32>,
    /// Who is served first.
    turn: usize,
    /// Nothing is read for the other side: it must hear of nothing new.
    pub(super) quiet: bool,
}

impl Link {
    pub(super) const fn new(channel: Channel) -> Self {
        Self {
            channel,
            streams: BTreeMap::new(),
            connections: BTreeSet::new(),
            pending: BTreeMap::new(),
            answers: BTreeSet::new(),
            turn: 0,
            quiet: false,
        }
    }

    /// Waits until something can be done; streams take turns in being first.
    pub(super) fn wait(
        &mut self,
        listen: bool,
        others: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<Vec<Ready>, Errno> {
        let mut names = Vec::with_capacity(self.streams.len() * 2 + others.len() + 1);
        let mut polls = Vec::with_capacity(names.capacity());
        let mut flags = if listen { PollFlags::IN } else { PollFlags::empty() };
        if self.channel.may_write() {
            flags |= PollFlags::OUT;
        }
        names.push(Ready::Channel(PollFlags::empty()));
        polls.push(PollFd::from_borrowed_fd(self.channel.fd(), flags));
        for (index, other) in others.iter().enumerate() {
            names.push(Ready::Other(index));
            polls.push(PollFd::from_borrowed_fd(*other, PollFlags::IN));
        }
        for (id, fd) in &self.pending {
            names.push(Ready::Pending(*id));
            polls.push(PollFd::new(fd, PollFlags::OUT));
        }
        let fixed = names.len();
        let room = self.channel.has_room() && !self.quiet;
        for (id, stream) in &self.streams {
            for (end, fd, flags) in stream.interest(room) {
                names.push(Ready::Stream(*id, end, flags));
                polls.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut polls, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let ready = |(name, poll): (&Ready, &PollFd<'_>)| match name {
            _ if poll.revents().is_empty() => None,
            Ready::Channel(_) => Some(Ready::Channel(poll.revents())),
            Ready::Stream(id, end, _) => Some(Ready::Stream(*id, *end, poll.revents())),
            name => Some(*name),
        };
        let mut found: Vec<Ready> = names[..fixed].iter().zip(&polls).filter_map(ready).collect();
        let mut streams: Vec<Ready> = names[fixed..].iter().zip(&polls[fixed..]).filter_map(ready).collect();
        if !streams.is_empty() {
            self.turn = self.turn.wrapping_add(1);
            let by = self.turn % streams.len();
            streams.rotate_left(by);
        }
        found.append(&mut streams);
        Ok(found)
    }

    /// Does what a stream or a connection in the making is ready for.
    pub(super) fn act(&mut self, ready: Ready) {
        match ready {
            Ready::Stream(id, end, flags) => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.act(id, end, flags, &mut self.channel);
                }
            }
            Ready::Pending(id) => self.connected(id),
            Ready::Channel(_) | Ready::Other(_) => {}
        }
    }

    /// Connections that exist or are being made.
    pub(super) fn connections(&self) -> usize {
        self.connections.len() + self.pending.len()
    }

    pub(super) fn is_known(&self, id: u32) -> bool {
        self.streams.contains_key(&id) || self.pending.contains_key(&id)
    }

    /// Makes the connection that the other side asks for.
    pub(super) fn dial(&mut self, id: u32, to: SocketAddr) {
        match dial(to) {
            Ok(fd) => drop(self.pending.insert(id, fd)),
            Err(errno) => self.refuse(id, errno),
        }
    }

    pub(super) fn refuse(&mut self, stream: u32, errno: Errno) {
        self.channel.say(&Message::Reset { stream, errno: errno.raw_os_error() });
    }

    /// A connection that was accepted here; the other side is asked for its other end by the caller.
    pub(super) fn offer(&mut self, id: u32, fd: OwnedFd) -> Result<(), Errno> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        self.join(id, fd, false);
        Ok(())
    }

    /// The same for a socket that was connected here already, as the other side asked.
    pub(super) fn take(&mut self, id: u32, fd: OwnedFd) -> Result<(), Errno> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        self.channel.say(&Message::Opened { stream: id });
        self.join(id, fd, true);
        Ok(())
    }

    /// Whoever holds this end hears one byte when the other end stands.
    pub(super) fn answer_when_open(&mut self, id: u32) {
        self.answers.insert(id);
    }

    fn join(&mut self, id: u32, fd: OwnedFd, open: bool) {
        // Small words are not held back; what cannot be set does not matter.
        let _set = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
        let fd = Rc::new(fd);
        let mut stream = Stream::default();
        stream.source(Lane::Main, Rc::clone(&fd), CONNECTION_WINDOW, open);
        stream.sink(Lane::Main, fd, Kind::Socket, CONNECTION_WINDOW);
        self.streams.insert(id, stream);
        self.connections.insert(id);
    }

    fn connected(&mut self, id: u32) {
        let Some(fd) = self.pending.remove(&id) else { return };
        match rustix::net::sockopt::socket_error(&fd) {
            Ok(Ok(())) => {
                self.channel.say(&Message::Opened { stream: id });
                self.join(id, fd, true);
            }
            Ok(Err(errno)) | Err(errno) => self.refuse(id, errno),
        }
    }

    /// Takes what is said of a stream; false when it is another message. What is said of a stream that is over is late, and
    /// heard by nobody.
    pub(super) fn hear(&mut self, message: &Message) -> Result<bool, Lie> {
        match message {
            Message::Data { stream, .. }
            | Message::Eof { stream, .. }
            | Message::Credit { stream, .. }
            | Message::Shut { stream, .. } => {
                if let Some(found) = self.streams.get_mut(stream) {
                    found.hear(*stream, message, &mut self.channel)?;
                }
            }
            Message::Opened { stream } => {
                if let Some(found) =
                    self.streams.get_mut(stream).filter(|_| self.connections.contains(stream))
                {
                    if self.answers.remove(stream) {
                        found.answer();
                    }
                    found.open();
                }
            }
            Message::Reset { stream, .. } => {
                self.pending.remove(stream);
                if self.connections.contains(stream)
                    && let Some(found) = self.streams.get_mut(stream)
                {
                    found.break_off();
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Lets go of connections that are over.
    pub(super) fn sweep(&mut self) {
        let streams = &mut self.streams;
        self.connections.retain(|id| {
            let over = streams.get(id).is_none_or(Stream::is_over);
            if over {
                self.answers.remove(id);
                streams.remove(id);
            }
            !over
        });
    }

    /// Breaks every connection: they were with another peer.
    pub(super) fn break_connections(&mut self) {
        for id in std::mem::take(&mut self.connections) {
            if let Some(mut stream) = self.streams.remove(&id) {
                stream.break_off();
            }
        }
        self.pending.clear();
    }
}

fn dial(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}
