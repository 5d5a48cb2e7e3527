//! Clients in the cube (`exec`, snapshots): each connection is one session, or one hold of the guest.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::packet::{self, Packet};
use super::{Bridge, Event, Stdio, code};
use crate::microvm::wire::{SESSIONS, Spawn};

/// The most bytes of what a client wants started.
const SPAWN_MAX: u64 = 3 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It has not said what it wants.
    New,
    /// It holds this session.
    Session(u32),
    /// It has the guest held still; the token while that is under way.
    Hold(u32),
    /// It asked how the guest fares.
    Asked(u32),
    /// Nothing more is expected of it.
    Over,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    role: Role,
}

/// The listener and its clients.
#[derive(Debug)]
pub(super) struct Server {
    listener: OwnedFd,
    clients: Vec<Client>,
}

impl Server {
    pub(super) fn new(listener: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// The listener, then the clients.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(super::lend(&self.listener))
            .chain(self.clients.iter().map(|client| client.socket.as_fd()))
    }

    /// Serves those of [`Server::fds`] that are ready.
    pub(super) fn act(&mut self, ready: &[usize], bridge: &mut Bridge) {
        for index in ready.iter().filter_map(|index| index.checked_sub(1)) {
            if let Some(client) = self.clients.get_mut(index) {
                serve(client, bridge);
            }
        }
        self.clients.retain(|client| client.role != Role::Over);
        while ready.contains(&0) && self.clients.len() < SESSIONS {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = accept_with(&self.listener, flags) else { return };
            self.clients.push(Client { socket, role: Role::New });
        }
    }

    /// Passes an event on to the client whose session it is; false when there is none.
    pub(super) fn tell(&mut self, stream: u32, event: &Event) -> bool {
        let Some(client) = self.clients.iter_mut().find(|client| client.role == Role::Session(stream)) else {
            return false;
        };
        let packet = match event {
            Event::Started { pid, .. } => Packet::Started(*pid),
            Event::NotStarted { errno, folder, .. } => Packet::NotStarted(*errno, *folder),
            Event::Ended { status, .. } => Packet::Ended(*status),
            _ => return true,
        };
        // A client that has gone is found out when its socket is read.
        let _told = packet::send(&client.socket, packet, &[]);
        if !matches!(event, Event::Started { .. }) {
            client.role = Role::Over;
        }
        true
    }

    /// The same for an answer by token.
    pub(super) fn tell_token(&mut self, token: u32, event: &Event) -> bool {
        let wanted =
            |client: &&mut Client| matches!(client.role, Role::Hold(it) | Role::Asked(it) if it == token);
        let Some(client) = self.clients.iter_mut().find(wanted) else { return false };
        let packet = match event {
            Event::Done { errno, .. } => Packet::Done(*errno),
            Event::Stats { stats, .. } => {
                Packet::Told(stats.memory.saturating_sub(stats.available), stats.processes)
            }
            _ => return true,
        };
        let _told = packet::send(&client.socket, packet, &[]);
        true
    }
}

fn serve(client: &mut Client, bridge: &mut Bridge) {
    loop {
        match packet::receive(&client.socket) {
            Ok(None) => return,
            Ok(Some((packet, fds))) => {
                if let Err(errno) = obey(client, packet, fds, bridge) {
                    let _told = packet::send(&client.socket, Packet::NotStarted(code(errno), false), &[]);
                    return leave(client, bridge);
                }
            }
            Err(_) => return leave(client, bridge),
        }
    }
}

/// Whoever goes takes along what he had.
fn leave(client: &mut Client, bridge: &mut Bridge) {
    match client.role {
        Role::Session(stream) => bridge.signal(stream, libc::SIGKILL),
        Role::Hold(_) => {
            bridge.thaw();
        }
        Role::New | Role::Asked(_) | Role::Over => {}
    }
    client.role = Role::Over;
}

fn obey(client: &mut Client, packet: Packet, fds: Vec<OwnedFd>, bridge: &mut Bridge) -> Result<(), Errno> {
    match (client.role, packet) {
        (Role::New, Packet::Exec) => {
            let mut fds = fds.into_iter();
            let spawn = fds.next().and_then(read).ok_or(Errno::INVAL)?;
            let (stdin, stdout) = fds.next().zip(fds.next()).ok_or(Errno::BADF)?;
            let stderr = fds.next();
            if stderr.is_none() != spawn.terminal.is_some() {
                return Err(Errno::BADF);
            }
            if bridge.sessions.len() >= SESSIONS {
                return Err(Errno::AGAIN);
            }
            client.role = Role::Session(bridge.start(spawn, Stdio { stdin, stdout, stderr })?);
        }
        (Role::New, Packet::Freeze) => client.role = Role::Hold(bridge.freeze()),
        (Role::New, Packet::Stats) => client.role = Role::Asked(bridge.ask_stats()),
        (Role::Session(stream), Packet::Resize(rows, cols)) => bridge.resize(stream, rows, cols),
        (Role::Session(stream), Packet::Signal(signal)) => bridge.signal(stream, signal),
        _ => return Err(Errno::PROTO),
    }
    Ok(())
}

fn read(memfd: OwnedFd) -> Option<Spawn> {
    let mut file = File::from(memfd);
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.take(SPAWN_MAX).read_to_end(&mut bytes).ok()?;
    Spawn::decode(&bytes)
}
