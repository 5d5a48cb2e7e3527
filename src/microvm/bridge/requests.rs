//! What the caller asks of the guest, and what the guest asks of the cube's network.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::doors::Doors;
use super::server::Server;
use super::{Bridge, Event, Stdio};
use crate::microvm::wire::{CONNECTIONS, GUEST_OPENED, Lie, Message, Setup, Spawn};
use crate::model::net::{OWN_V4, OWN_V6};

/// Milliseconds between two looks of the guest at its ports.
const PORTS_EVERY: u32 = 500;

impl Bridge {
    /// Has the guest set up; answered by [`Event::Ready`] or [`Event::SetupFailed`].
    pub fn set_up(&mut self, setup: Setup) {
        self.link.channel.say(&Message::Setup(Box::new(setup)));
    }

    /// Starts a session; the first is the entry. Returns its stream.
    ///
    /// # Errors
    /// A descriptor cannot be made non-blocking.
    pub fn start(&mut self, spawn: Spawn, stdio: Stdio) -> Result<u32, Errno> {
        let stream = self.next_stream();
        self.sessions.expect(stream, stdio, false, &mut self.link)?;
        self.link.channel.say(&Message::Spawn { stream, spawn: Box::new(spawn) });
        Ok(stream)
    }

    /// Takes over a session of a restored guest ([`super::Hello::sessions`]).
    ///
    /// # Errors
    /// As [`Bridge::start`].
    pub fn adopt(&mut self, stream: u32, stdio: Stdio, terminal: Option<(u16, u16)>) -> Result<(), Errno> {
        self.sessions.expect(stream, stdio, true, &mut self.link)?;
        self.link.channel.say(&Message::Adopt { stream });
        if let Some((rows, cols)) = terminal {
            self.resize(stream, rows, cols);
        }
        Ok(())
    }

    /// Sends a signal to a session's process group, or to everything ([`super::wire::ALL_SESSIONS`]).
    pub fn signal(&mut self, stream: u32, signal: i32) {
        self.sessions.say(stream, Message::Signal { stream, signal }, &mut self.link);
    }

    /// Tells a session's terminal its size.
    pub fn resize(&mut self, stream: u32, rows: u16, cols: u16) {
        self.sessions.say(stream, Message::Resize { stream, rows, cols }, &mut self.link);
    }

    /// Serves clients ([`super::client`]) that connect to this `SOCK_SEQPACKET` socket.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn serve(&mut self, listener: OwnedFd) -> Result<(), Errno> {
        self.server = Some(Server::new(listener)?);
        Ok(())
    }

    /// Leads whoever connects to this stream socket and says a path to a unix socket of the guest.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn open_doors(&mut self, listener: OwnedFd) -> Result<(), Errno> {
        self.doors = Some(Doors::new(listener)?);
        Ok(())
    }

    /// Whether the guest reaches the cube's network: off at first.
    pub fn allow_net(&mut self, on: bool) {
        self.net = on;
    }

    /// Whether what listens in the guest is to be found on the same ports of the cube.
    pub fn mirror_ports(&mut self, on: bool) {
        let every = if on { PORTS_EVERY } else { 0 };
        if !on {
            self.mirror.follow(&[]);
        }
        self.link.channel.say(&Message::WatchPorts { every });
    }

    /// Stops every process and writes everything out; returns the token of [`Event::Done`].
    pub fn freeze(&mut self) -> u32 {
        self.with_token(|token| Message::Freeze { token })
    }

    /// Lets everything go on; with a token.
    pub fn thaw(&mut self) -> u32 {
        self.with_token(|token| Message::Thaw { token })
    }

    /// Writes everything out; with a token.
    pub fn sync(&mut self) -> u32 {
        self.with_token(|token| Message::Sync { token })
    }

    /// Has both sides say nothing new, so that a machine can be saved with no word half said; or lets them go on. With a
    /// token: after its [`Event::Done`] the channel is silent.
    pub fn hold(&mut self, on: bool) -> u32 {
        self.link.quiet = on;
        self.link.channel.go_on();
        let token = self.with_token(|token| Message::Hold { token, on });
        if on {
            // Half a word in a saved guest would be the beginning of whatever it hears next.
            self.link.channel.hold_back();
        }
        token
    }

    /// Everything that the entry wrote so far has been written on.
    #[must_use]
    pub fn is_drained(&self, stream: u32) -> bool {
        self.link.streams.get(&stream).is_none_or(crate::microvm::stream::Stream::is_drained)
    }

    /// Has the guest let go of files that it only remembers; with a token.
    pub fn drop_caches(&mut self) -> u32 {
        self.with_token(|token| Message::DropCaches { token })
    }

    /// Asks how it fares; answered by [`Event::Stats`] with this token.
    pub fn ask_stats(&mut self) -> u32 {
        self.with_token(|token| Message::AskStats { token })
    }

    /// After a restore: what time it is (nanoseconds since 1970), and randomness that no clone shares.
    pub fn reseed_and_time(&mut self, seed: Vec<u8>, nanoseconds: u64) {
        self.link.channel.say(&Message::Time { nanoseconds });
        self.link.channel.say(&Message::Reseed { seed });
    }

    /// Ends the guest; the last event is [`Event::Closed`].
    pub fn power_off(&mut self) {
        self.link.channel.say(&Message::PowerOff);
    }

    fn with_token(&mut self, message: impl FnOnce(u32) -> Message) -> u32 {
        self.token = self.token.wrapping_add(1);
        let message = message(self.token);
        self.link.channel.say(&message);
        self.token
    }

    pub(super) fn next_stream(&mut self) -> u32 {
        self.stream = (self.stream + 1) % GUEST_OPENED;
        self.stream
    }

    /// Somebody in the guest connects.
    pub(super) fn connect(&mut self, stream: u32, to: SocketAddr) -> Result<(), Lie> {
        if stream <= self.guest_stream {
            return Err(Lie::Stream);
        }
        self.guest_stream = stream;
        if !self.net {
            self.link.refuse(stream, Errno::NETUNREACH);
        } else if !is_elsewhere(to) {
            self.link.refuse(stream, Errno::CONNREFUSED);
        } else if self.link.connections() >= CONNECTIONS {
            self.link.refuse(stream, Errno::AGAIN);
        } else {
            self.link.dial(stream, to);
        }
        Ok(())
    }

    /// An event for the caller, or for the client whose session it is.
    pub(super) fn tell(&mut self, stream: u32, event: Event) {
        if !self.server.as_mut().is_some_and(|server| server.tell(stream, &event)) {
            self.events.push_back(event);
        }
    }

    /// An answer by token: it must have been asked for.
    pub(super) fn tell_token(&mut self, token: u32, event: Event) -> Result<(), Lie> {
        if token == 0 || token > self.token {
            return Err(Lie::Order);
        }
        if !self.server.as_mut().is_some_and(|server| server.tell_token(token, &event)) {
            self.events.push_back(event);
        }
        Ok(())
    }

    pub(super) fn finish_sessions(&mut self) {
        for (stream, status, alone) in self.sessions.finish(&mut self.link) {
            self.tell(stream, Event::Ended { stream, status, alone });
        }
    }

    pub(super) fn serve_clients(&mut self, ready: &[usize]) {
        // Taken out meanwhile: a client's words are requests to this bridge.
        if let Some(mut server) = self.server.take() {
            server.act(ready, self);
            self.server = Some(server);
        }
    }
}

/// The cube's own loopback is not the net: what listens there is the guest's own, or nobody's.
fn is_elsewhere(to: SocketAddr) -> bool {
    let ip = to.ip().to_canonical();
    let own = ip == OWN_V4 || ip == OWN_V6;
    // A question over TCP goes to the cube's name service, which is captured at its own address.
    !ip.is_loopback() && !ip.is_unspecified() && (!own || to.port() == 53)
}
