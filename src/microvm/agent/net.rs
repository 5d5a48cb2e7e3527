//! The guest's network: every connection is taken up here, as in any cube, and its other end asked of the host, where the
//! cube's own network decides about it. Questions to the name service go the same way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, recvfrom, sendto};

use crate::host::capture::{self, CaptureError, Captured, Listeners};
use crate::microvm::link::Link;
use crate::microvm::wire::{CONNECTIONS, GUEST_OPENED, Message, QUERIES, QUERY_MAX};

/// Connections taken in one go before others have their turn.
const ACCEPTS: usize = 16;

/// The captured network.
#[derive(Debug)]
pub(super) struct Net {
    captured: Captured,
    /// Who asked, and over which family.
    askers: BTreeMap<u32, (SocketAddr, bool)>,
    questions: u32,
    streams: u32,
}

impl Net {
    /// Captures this guest's network.
    pub(super) fn capture() -> Result<Self, CaptureError> {
        let captured = capture::here()?;
        Ok(Self { captured, askers: BTreeMap::new(), questions: 0, streams: 0 })
    }

    fn families(&self) -> impl Iterator<Item = &Listeners> {
        std::iter::once(&self.captured.v4).chain(&self.captured.v6)
    }

    /// What is to be waited for: for each family TCP, DNS over TCP, DNS over UDP.
    pub(super) fn listeners(&self) -> impl Iterator<Item = &OwnedFd> {
        self.families().flat_map(|family| [&family.tcp, &family.dns_tcp, &family.dns_udp])
    }

    /// The ports of our own listeners.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.families().flat_map(|family| [family.ports.tcp, family.ports.dns_tcp]).collect()
    }

    /// Serves number `index` of [`Net::listeners`].
    pub(super) fn act(&mut self, index: usize, link: &mut Link) {
        let six = index >= 3;
        let family = if six { self.captured.v6.as_ref() } else { Some(&self.captured.v4) };
        let Some(family) = family else { return };
        match index % 3 {
            0 => accept(&family.tcp, six, &mut self.streams, link),
            1 => accept(&family.dns_tcp, six, &mut self.streams, link),
            _ => self.ask(six, link),
        }
    }

    fn ask(&mut self, six: bool, link: &mut Link) {
        let family = if six { self.captured.v6.as_ref() } else { Some(&self.captured.v4) };
        let Some(family) = family else { return };
        let mut packet = vec![0; QUERY_MAX];
        for _ in 0..ACCEPTS {
            let Ok((_, count, Some(from))) =
                recvfrom(&family.dns_udp, &mut packet[..], rustix::net::RecvFlags::empty())
            else {
                return;
            };
            let (Ok(from), true) = (SocketAddr::try_from(from), count <= QUERY_MAX) else { continue };
            // The oldest question has most likely been lost.
            if self.askers.len() >= QUERIES {
                self.askers.pop_first();
            }
            self.questions = self.questions.wrapping_add(1);
            self.askers.insert(self.questions, (from, six));
            link.channel.say(&Message::Query { token: self.questions, packet: packet[..count].to_vec() });
        }
    }

    /// An answer from the host.
    pub(super) fn answer(&mut self, token: u32, packet: &[u8]) {
        let Some((asker, six)) = self.askers.remove(&token) else { return };
        let family = if six { self.captured.v6.as_ref() } else { Some(&self.captured.v4) };
        if let Some(family) = family {
            // Whoever asked asks again when this is lost.
            let _sent = sendto(&family.dns_udp, packet, rustix::net::SendFlags::empty(), &asker);
        }
    }

    /// Another host: it knows of no question.
    pub(super) fn forget(&mut self) {
        self.askers.clear();
    }
}

fn accept(listener: &OwnedFd, six: bool, streams: &mut u32, link: &mut Link) {
    for _ in 0..ACCEPTS {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(_) => return,
        };
        let to = if six {
            rustix::net::sockopt::ipv6_original_dst(&socket).map(SocketAddr::V6)
        } else {
            rustix::net::sockopt::ip_original_dst(&socket).map(SocketAddr::V4)
        };
        // Dropped, it is closed: too many at once, or nobody knows where it was to go.
        let (Ok(to), true) = (to, link.connections() < CONNECTIONS) else { continue };
        *streams = streams.wrapping_add(1);
        let stream = GUEST_OPENED | *streams;
        if link.offer(stream, socket).is_ok() {
            link.channel.say(&Message::Connect { stream, to });
        }
    }
}
