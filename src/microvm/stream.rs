//! One stream and its local descriptors: what they give is sent by credit, what comes is written to them. The same on both
//! sides.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::channel::Channel;
use super::flow::{Inbox, Leave};
use super::wire::{CHUNK, Lane, Lie, Message};

/// What a local descriptor is: that decides how its end is made known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Closed to end it.
    Pipe,
    /// A terminal's master or its user's end: nothing ends it but closing both ways.
    Terminal,
    /// Shut down for writing.
    Socket,
}

/// A descriptor that is read, for the other side.
#[derive(Debug)]
struct Source {
    fd: Option<Rc<OwnedFd>>,
    leave: Leave,
    /// It may be read already.
    open: bool,
}

/// A descriptor that is written, with what came from the other side.
#[derive(Debug)]
struct Sink {
    fd: Option<Rc<OwnedFd>>,
    kind: Kind,
    inbox: Inbox,
    /// No more will come.
    ended: bool,
}

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    sources: [Option<Source>; 2],
    sinks: [Option<Sink>; 2],
    broken: bool,
}

/// Which descriptor of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source(Lane),
    Sink(Lane),
}

const LANES: [Lane; 2] = [Lane::Main, Lane::Error];

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Main => 0,
        Lane::Error => 1,
    }
}

impl Stream {
    /// Reads `fd` for the other side.
    pub(super) fn source(&mut self, lane: Lane, fd: Rc<OwnedFd>, window: u32, open: bool) {
        self.sources[index(lane)] = Some(Source { fd: Some(fd), leave: Leave::new(window), open });
    }

    /// Writes to `fd` what the other side sends.
    pub(super) fn sink(&mut self, lane: Lane, fd: Rc<OwnedFd>, kind: Kind, window: u32) {
        self.sinks[index(lane)] = Some(Sink { fd: Some(fd), kind, inbox: Inbox::new(window), ended: false });
    }

    /// Its sources may be read.
    pub(super) fn open(&mut self) {
        self.sources.iter_mut().flatten().for_each(|source| source.open = true);
    }

    /// Says one byte to whoever holds the other end of its socket: nothing was written there before, so that it fits.
    pub(super) fn answer(&self) {
        if let Some(fd) = self.sinks[0].as_ref().and_then(|sink| sink.fd.as_ref()) {
            // One that is gone is found out when it is read.
            let _told = rustix::io::write(&**fd, &[0]);
        }
    }

    /// Nothing is left to be done for a connection.
    pub(super) fn is_over(&self) -> bool {
        self.broken || (self.is_read_out() && self.is_written_out())
    }

    /// Its sockets break the connection when they are closed, instead of ending it.
    pub(super) fn break_off(&mut self) {
        for sink in self.sinks.iter().flatten().filter(|sink| sink.kind == Kind::Socket) {
            if let Some(fd) = &sink.fd {
                let _set = rustix::net::sockopt::set_socket_linger(&**fd, Some(Duration::ZERO));
            }
        }
        self.broken = true;
    }

    /// Everything that was to be sent has been.
    pub(super) fn is_read_out(&self) -> bool {
        self.sources.iter().flatten().all(|source| source.fd.is_none())
    }

    /// Everything that came has been written, and no more is expected.
    pub(super) fn is_written_out(&self) -> bool {
        self.sinks.iter().flatten().all(|sink| sink.fd.is_none() || (sink.ended && sink.inbox.is_empty()))
    }

    /// Nothing that came still waits to be written.
    pub(super) fn is_drained(&self) -> bool {
        self.sinks.iter().flatten().all(|sink| sink.fd.is_none() || sink.inbox.is_empty())
    }

    /// What is to be waited for. `room`: the channel takes data.
    pub(super) fn interest(&self, room: bool) -> impl Iterator<Item = (End, BorrowedFd<'_>, PollFlags)> {
        let sources = LANES.into_iter().filter_map(move |lane| {
            let source = self.sources[index(lane)].as_ref()?;
            let fd = source.fd.as_ref().filter(|_| room && source.open && source.leave.left() > 0)?;
            Some((End::Source(lane), (**fd).as_fd(), PollFlags::IN))
        });
        let sinks = LANES.into_iter().filter_map(move |lane| {
            let sink = self.sinks[index(lane)].as_ref()?;
            let fd = sink.fd.as_ref()?;
            // A pipe without a reader says so unasked; the others would speak of their other half.
            match (sink.inbox.is_empty(), sink.kind) {
                (false, _) => Some((End::Sink(lane), (**fd).as_fd(), PollFlags::OUT)),
                (true, Kind::Pipe) => Some((End::Sink(lane), (**fd).as_fd(), PollFlags::empty())),
                (true, _) => None,
            }
        });
        sources.chain(sinks)
    }

    /// Moves bytes after poll(2) has named a descriptor.
    pub(super) fn act(&mut self, id: u32, end: End, flags: PollFlags, channel: &mut Channel) {
        match end {
            End::Source(lane) => {
                self.read(id, lane, channel);
            }
            End::Sink(lane) => self.write(id, lane, flags.contains(PollFlags::ERR), channel),
        }
    }

    /// Reads what there is in all lanes, as far as credit goes; false when credit or room is lacking for more.
    pub(super) fn read_out(&mut self, id: u32, channel: &mut Channel) -> bool {
        for lane in LANES {
            while self.read(id, lane, channel) {}
            let more = |source: &Source| source.fd.is_some() && source.leave.left() == 0;
            if !channel.has_room() || self.sources[index(lane)].as_ref().is_some_and(more) {
                return false;
            }
        }
        true
    }

    fn read(&mut self, stream: u32, lane: Lane, channel: &mut Channel) -> bool {
        let Some(source) = &mut self.sources[index(lane)] else { return false };
        let Some(fd) = &source.fd else { return false };
        let most = CHUNK.min(source.leave.left());
        if most == 0 || !channel.has_room() {
            return false;
        }
        let mut bytes = vec![0; most];
        match rustix::io::read(&**fd, &mut bytes[..]) {
            Ok(count) if count > 0 => {
                bytes.truncate(count);
                source.leave.spend(count);
                channel.say(&Message::Data { stream, lane, bytes });
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // A connection that broke is not one that ended.
            Err(errno) if errno != Errno::IO => {
                self.broken = true;
                self.close_sources();
                channel.say(&Message::Reset { stream, errno: errno.raw_os_error() });
                true
            }
            // The end; EIO is how a terminal says it.
            _ => {
                source.fd = None;
                channel.say(&Message::Eof { stream, lane });
                true
            }
        }
    }

    /// `gone`: poll(2) says that nobody reads there.
    fn write(&mut self, stream: u32, lane: Lane, gone: bool, channel: &mut Channel) {
        let Some(sink) = &mut self.sinks[index(lane)] else { return };
        let Some(fd) = &sink.fd else { return };
        if sink.inbox.is_empty() {
            if gone {
                close_sink(sink, stream, lane, channel);
            }
            return;
        }
        match rustix::io::write(&**fd, sink.inbox.front()) {
            Ok(count) => {
                sink.inbox.took(count);
                if let Some(bytes) = sink.inbox.due() {
                    channel.say(&Message::Credit { stream, lane, bytes });
                }
                end_if_done(sink);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => close_sink(sink, stream, lane, channel),
        }
    }

    /// Starts anew with another peer, which knows nothing of what was said before.
    pub(super) fn renew(&mut self, stream: u32, window: u32, channel: &mut Channel) {
        for lane in LANES {
            if let Some(source) = &mut self.sources[index(lane)] {
                source.leave = Leave::new(window);
                if source.fd.is_none() {
                    channel.say(&Message::Eof { stream, lane });
                }
            }
            if let Some(sink) = &mut self.sinks[index(lane)] {
                sink.inbox.renew(window);
            }
        }
    }

    /// Ends all sources, as if they had ended themselves.
    pub(super) fn close_sources(&mut self) {
        self.sources.iter_mut().flatten().for_each(|source| source.fd = None);
    }

    /// What the other side says of this stream.
    pub(super) fn hear(&mut self, stream: u32, message: &Message, channel: &mut Channel) -> Result<(), Lie> {
        match message {
            Message::Data { lane, bytes, .. } => {
                let Some(sink) = &mut self.sinks[index(*lane)] else { return Err(Lie::Order) };
                if sink.ended {
                    return Err(Lie::Order);
                }
                sink.inbox.put(bytes)?;
                if sink.fd.is_none() {
                    sink.inbox.discard();
                    if let Some(bytes) = sink.inbox.due() {
                        channel.say(&Message::Credit { stream, lane: *lane, bytes });
                    }
                } else {
                    // Mostly there is room, and a turn of the loop is saved.
                    self.write(stream, *lane, false, channel);
                }
            }
            Message::Eof { lane, .. } => {
                let Some(sink) = &mut self.sinks[index(*lane)] else { return Err(Lie::Order) };
                sink.ended = true;
                end_if_done(sink);
            }
            Message::Credit { lane, bytes, .. } => {
                let Some(source) = &mut self.sources[index(*lane)] else { return Err(Lie::Order) };
                source.leave.earn(*bytes)?;
            }
            Message::Shut { lane, .. } => {
                let Some(source) = &mut self.sources[index(*lane)] else { return Err(Lie::Order) };
                source.fd = None;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Nobody reads what is written there any more.
fn close_sink(sink: &mut Sink, stream: u32, lane: Lane, channel: &mut Channel) {
    sink.fd = None;
    sink.inbox.discard();
    if !sink.ended {
        channel.say(&Message::Shut { stream, lane });
        if let Some(bytes) = sink.inbox.due() {
            channel.say(&Message::Credit { stream, lane, bytes });
        }
    }
}

fn end_if_done(sink: &mut Sink) {
    if !(sink.ended && sink.inbox.is_empty()) {
        return;
    }
    match (&sink.fd, sink.kind) {
        (Some(fd), Kind::Socket) => {
            // A socket that has gone meanwhile needs no end.
            let _shut = rustix::net::shutdown(&**fd, Shutdown::Write);
            sink.fd = None;
        }
        (Some(_), Kind::Pipe) => sink.fd = None,
        _ => {}
    }
}
