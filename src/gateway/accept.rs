//! The gateway's thread: its sockets, and the loop that takes connections no faster than it serves them.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, UdpSocket as StdUdp};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::{Duration, sleep};

use super::limits::{ACCEPTS_A_SECOND, ACCEPTS_A_TURN, BACKLOG, Bucket, WHO_A_SECOND};
use super::pool::{NAMES, Pool};
use super::relay::{Buffers, reset};
use super::resolver::Resolver;
use super::state::Shared;
use super::{Asker, Capture, connection, names};
use crate::model::sanitize::printable;

/// The capture's sockets, watched by the runtime.
#[derive(Debug)]
pub(super) struct Sockets {
    tcp: Vec<TcpListener>,
    dns_udp: Vec<UdpSocket>,
    dns_tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Takes the descriptors over. A runtime must be entered.
    pub(super) fn adopt(capture: Capture) -> io::Result<Self> {
        let Capture { tcp4, tcp6, dns_udp4, dns_udp6, dns_tcp4, dns_tcp6 } = capture;
        Ok(Self {
            tcp: each(tcp4, tcp6, listener)?,
            dns_udp: each(dns_udp4, dns_udp6, datagrams)?,
            dns_tcp: each(dns_tcp4, dns_tcp6, listener)?,
        })
    }
}

fn each<T>(four: OwnedFd, six: Option<OwnedFd>, adopt: fn(OwnedFd) -> io::Result<T>) -> io::Result<Vec<T>> {
    std::iter::once(four).chain(six).map(adopt).collect()
}

fn listener(fd: OwnedFd) -> io::Result<TcpListener> {
    // Connections that come in a burst wait for us, instead of a second for their next try.
    rustix::net::listen(&fd, BACKLOG)?;
    let listener = StdListener::from(fd);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn datagrams(fd: OwnedFd) -> io::Result<UdpSocket> {
    let socket = StdUdp::from(fd);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Where a connection was going before the redirect (netfilter's `SO_ORIGINAL_DST`).
pub(super) fn original(stream: &TcpStream) -> io::Result<SocketAddr> {
    let ours = stream.local_addr()?;
    let original: SocketAddr = if ours.is_ipv4() {
        rustix::net::sockopt::ip_original_dst(stream)?.into()
    } else {
        rustix::net::sockopt::ipv6_original_dst(stream)?.into()
    };
    // Not redirected: somebody inside found the listener.
    if original == ours {
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
    }
    Ok(original)
}

/// What the tasks of the gateway's thread share.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: RefCell<Pool>,
    pub(super) resolver: Resolver,
    pub(super) buffers: Buffers,
    /// Connections that exist.
    pub(super) open: Cell<usize>,
    /// Refused ones whose first bytes are waited for.
    pub(super) sniffing: Cell<usize>,
    next: Cell<u64>,
    pace: RefCell<Bucket>,
    whos: RefCell<Bucket>,
}

impl Gate {
    pub(super) fn number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// True when a connection to `address` would not leave the host. It is asked each time: addresses come and go.
    pub(super) fn own(&self, address: IpAddr) -> bool {
        address.is_loopback() || (self.shared.facts.own)(address)
    }

    /// The program that asks, as far as it may be looked for; its own words, made harmless.
    pub(super) fn who(&self, asker: Asker) -> Option<String> {
        let who = self.shared.facts.who.as_ref()?;
        if !self.whos.borrow_mut().take(Instant::now()) {
            return None;
        }
        who(asker).map(|name| printable(&name.chars().take(64).collect::<String>()))
    }
}

/// Counts one while it lives.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    pub(super) fn new(cell: &'a Cell<usize>) -> Self {
        cell.set(cell.get() + 1);
        Self(cell)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Serves until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, sockets: Sockets, stopped: oneshot::Receiver<()>) {
    let gate = Rc::new(Gate {
        pool: RefCell::new(Pool::new(NAMES)),
        resolver: Resolver::new(shared.facts.lookup.clone()),
        buffers: Buffers::new(),
        open: Cell::new(0),
        sniffing: Cell::new(0),
        next: Cell::new(0),
        pace: RefCell::new(Bucket::new(ACCEPTS_A_SECOND, ACCEPTS_A_SECOND, Instant::now())),
        whos: RefCell::new(Bucket::new(WHO_A_SECOND, WHO_A_SECOND, Instant::now())),
        shared,
    });
    let mut tasks = tokio::task::JoinSet::new();
    for listener in sockets.tcp {
        tasks.spawn_local(connections(Rc::clone(&gate), listener));
    }
    for socket in sockets.dns_udp {
        tasks.spawn_local(names::packets(Rc::clone(&gate), socket));
    }
    for listener in sockets.dns_tcp {
        tasks.spawn_local(names::streams(Rc::clone(&gate), listener));
    }
    tasks.spawn_local(flush(Rc::clone(&gate)));
    // A task that ends by itself has panicked; the rest serves on, and what it served is refused.
    let _asked = stopped.await;
    gate.shared.flush();
}

/// Once a second: what was left out of the events.
async fn flush(gate: Rc<Gate>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        gate.shared.flush();
    }
}

async fn connections(gate: Rc<Gate>, listener: TcpListener) {
    loop {
        for _ in 0..ACCEPTS_A_TURN {
            while !gate.pace.borrow_mut().take(Instant::now()) {
                sleep(Duration::from_millis(1)).await;
            }
            match listener.accept().await {
                Ok((stream, peer)) => take(&gate, stream, peer),
                // Out of descriptors or memory: the kernel keeps them waiting.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
        tokio::task::yield_now().await;
    }
}

fn take(gate: &Rc<Gate>, stream: TcpStream, peer: SocketAddr) {
    gate.shared.asked();
    if gate.open.get() >= gate.shared.most {
        reset(&stream);
        connection::too_many(gate);
        return;
    }
    // It ends with the connection, or with the thread: the local set owns it.
    let _task = tokio::task::spawn_local(connection::serve(Rc::clone(gate), stream, peer));
}
