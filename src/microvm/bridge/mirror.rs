//! What listens in the guest listens on the same port of the cube's own loopback: forwards and `ports` find it there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use crate::microvm::link::Link;
use crate::microvm::wire::{GUEST_OPENED, Listener, Message};

/// Ports that are mirrored at once, for each family.
const PORTS: usize = 256;
/// Connections taken in one go.
const ACCEPTS: usize = 16;

/// The listeners, by port and family.
#[derive(Debug, Default)]
pub(super) struct Mirror(BTreeMap<(u16, bool), TcpListener>);

impl Mirror {
    /// Makes the listeners those of the guest, as far as the cube may.
    pub(super) fn follow(&mut self, listeners: &[Listener]) {
        let mut wanted: Vec<(u16, bool)> = Vec::new();
        for listener in listeners.iter().take(PORTS) {
            let ip = listener.address.to_canonical();
            if ip.is_loopback() || ip.is_unspecified() || is_own(ip) {
                wanted.push((listener.port, ip.is_ipv6()));
                // A socket for every address of both families is listed once.
                if listener.address == Ipv6Addr::UNSPECIFIED {
                    wanted.push((listener.port, false));
                }
            }
        }
        self.0.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if !self.0.contains_key(&key)
                && let Ok(listener) = listen(key)
            {
                self.0.insert(key, listener);
            }
        }
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().map(AsFd::as_fd)
    }

    /// Somebody connects to number `index` of [`Mirror::fds`]: the guest is asked for the other end.
    pub(super) fn accept(&self, index: usize, link: &mut Link, last: &mut u32) {
        let Some(((port, six), listener)) = self.0.iter().nth(index) else { return };
        for _ in 0..ACCEPTS {
            let Ok((socket, _)) = listener.accept() else { return };
            *last = (*last + 1) % GUEST_OPENED;
            let stream = *last;
            if link.offer(stream, socket.into()).is_ok() {
                link.channel.say(&Message::Dial { stream, port: *port, six: *six });
            }
        }
    }
}

fn is_own(ip: IpAddr) -> bool {
    ip == crate::model::net::OWN_V4 || ip == crate::model::net::OWN_V6
}

fn listen((port, six): (u16, bool)) -> std::io::Result<TcpListener> {
    let ip: IpAddr = if six { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let listener = TcpListener::bind(SocketAddr::new(ip, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
