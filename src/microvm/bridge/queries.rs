//! Questions of the guest to the name service, asked again in the cube's network.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::microvm::channel::Channel;
use crate::microvm::wire::{Message, QUERIES, QUERY_MAX};
use crate::model::net::OWN_V4;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// One question, on a socket of its own: an answer cannot be taken for another's.
#[derive(Debug)]
struct Query {
    token: u32,
    socket: UdpSocket,
    until: Instant,
}

/// Those that are under way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Queries(VecDeque<Query>);

impl Queries {
    /// Asks. The oldest question gives way when there are too many.
    pub(super) fn ask(&mut self, token: u32, packet: &[u8], now: Instant) {
        let open = || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_nonblocking(true)?;
            socket.connect(SocketAddr::from((OWN_V4, 53)))?;
            socket.send(packet)?;
            Ok(socket)
        };
        // Without an answer the guest asks again, as over any network.
        let Ok(socket) = open() else { return };
        if self.0.len() >= QUERIES {
            self.0.pop_front();
        }
        self.0.push_back(Query { token, socket, until: now + PATIENCE });
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|query| query.socket.as_fd())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|query| query.until)
    }

    /// Number `index` of [`Queries::fds`] is answered, or refused.
    pub(super) fn answer(&mut self, index: usize, channel: &mut Channel) {
        let Some(query) = self.0.get_mut(index) else { return };
        let mut packet = vec![0; QUERY_MAX];
        match query.socket.recv(&mut packet) {
            Ok(count) => {
                packet.truncate(count);
                channel.say(&Message::Answer { token: query.token, packet });
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(_) => {}
        }
        // Taken out by the next sweep, so that other indices of this turn still hold.
        query.until = Instant::now();
        query.token = 0;
    }

    /// Lets go of what is answered, or was waited for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|query| query.until > now);
    }
}
