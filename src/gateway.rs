//! The gateway: the part of a keeper that every byte of a cube's network passes.
//!
//! It owns the listening sockets that the capture made inside the cube's network namespace, and
//! answers on them: names from a private pool, connections by the policy. One data path for the
//! four policies; what is allowed is `plan::net`'s to say, and nothing is dialled that it did not
//! name. It refuses to change the cube's namespace (that is the capture's), to write files (events
//! go to a sink) and to keep a secret longer than it runs.
//!
//! # For the other parts of the keeper
//!
//! ```text
//! let terms = gateway::terms(&plan.net)?;             // blocking: resolves holes, reads the proxy's secret
//! let handle = gateway::start(capture, terms, facts, sink)?;   // after the keeper's last fork: makes threads
//! handle.allow(LiveRule { .. })?;                      // in force when it returns
//! handle.phase(terms)?;                                // another policy; connections that it denies are ended
//! handle.status();  handle.events_since(seq);  handle.changed();   // cheap, from any thread
//! handle.stop();                                       // also on drop; ends every connection
//! ```
//!
//! - **Capture**: `tcp*` are bound TCP sockets, which listen from [`start`] on if they do not yet, to which the namespace redirects; the accepted
//!   socket says by `SO_ORIGINAL_DST` where it was going. `dns_*` get port 53, UDP and TCP. What
//!   goes to the cube's own loopback must never be redirected; a connection that claims so, or
//!   that was made to the listener itself, is reset.
//! - **`host.tripmine.internal`** (and podman's `host.containers.internal`) is the host's
//!   loopback, as far as a rule or hole names it with the port.
//! - **Events** reach the sink on the gateway's thread, in order, at most [`EVENTS_A_SECOND`] for
//!   long; what was left out is an event with the number. The sink must not block for long.
//! - **A rule is about the connection**, not about what is said in it: an allowed server that relays
//!   elsewhere (a CDN, a proxy behind a web address) is the rule's doing. Under `proxy`, where a
//!   name leads is the proxy's to judge.
//! - **Limits** stand in `limits.rs`: connections at once by the open files that the host allows
//!   (two each), connections taken a second, look-ups, rules, events.
//! - **Relays** ([`relay::relay`]) serve forwards too: two sockets in, bytes and an end out.
//! - The thread and its few helpers (name look-ups block) are the only threads of a keeper. They
//!   are made by [`start`], so nothing may fork afterwards without an exec.

mod accept;
mod connection;
mod dial;
mod dns;
mod journal;
mod limits;
mod names;
mod pool;
mod refuse;
pub mod relay;
mod resolver;
mod secret;
mod socks;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::model::Failure;
use crate::model::net::{HostName, LiveRule, NetEvent, NetPolicy, Transport};
use crate::plan::net::OpenHole;

pub use connection::in_line;
pub use journal::EVENTS_A_SECOND;
pub use limits::BACKLOG;
pub use secret::{Secret, read as read_secret};
pub use state::{OpenConnection, Status};

/// The sockets that the capture made inside the cube's network namespace.
#[derive(Debug)]
pub struct Capture {
    /// Listens for redirected TCP over IPv4.
    pub tcp4: OwnedFd,
    /// Listens for redirected TCP over IPv6, where the host has it.
    pub tcp6: Option<OwnedFd>,
    /// Gets redirected UDP port 53 over IPv4.
    pub dns_udp4: OwnedFd,
    /// The same over IPv6.
    pub dns_udp6: Option<OwnedFd>,
    /// Listens for redirected TCP port 53 over IPv4.
    pub dns_tcp4: OwnedFd,
    /// The same over IPv6.
    pub dns_tcp6: Option<OwnedFd>,
}

/// A policy with what it needs besides its words. See [`terms`].
#[derive(Debug, Clone)]
pub struct Terms {
    /// The policy.
    pub policy: NetPolicy,
    /// Its holes, resolved.
    pub holes: Vec<OpenHole>,
    /// What the proxy is shown.
    pub secret: Option<Secret>,
}

/// Tells where a redirected connection was going.
pub type Original = Arc<dyn Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync>;
/// Looks a name up on the host; may block.
pub type Lookup = Arc<dyn Fn(&HostName) -> io::Result<Vec<IpAddr>> + Send + Sync>;
/// True when a connection to this address would not leave the host.
pub type Own = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;
/// Tells which program inside has a socket, if that can be seen. It runs on the gateway's thread, a
/// few times a second at most.
pub type Who = Arc<dyn Fn(Asker) -> Option<String> + Send + Sync>;

/// A socket inside that asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// A connection, or a question for a name.
    pub transport: Transport,
    /// Its own address.
    pub from: SocketAddr,
    /// Where it believes to speak to, where that is known.
    pub to: Option<SocketAddr>,
}
/// Takes an event.
pub type Sink = Box<dyn FnMut(&NetEvent) + Send>;

/// What the gateway knows of cube and host. [`GatewayFacts::new`] has what a real cube needs.
#[derive(Clone)]
pub struct GatewayFacts {
    /// How commands that help name the cube: its name or the start of its TripID.
    pub cube: String,
    /// AAAA questions are answered: the capture has IPv6.
    pub ipv6: bool,
    /// Where connections were going.
    pub original: Original,
    /// The host's resolver.
    pub lookup: Lookup,
    /// Which addresses are the host's own.
    pub own: Own,
    /// Which program asks.
    pub who: Option<Who>,
}

impl GatewayFacts {
    /// The kernel says where a connection was going; names are looked up as the host does.
    #[must_use]
    pub fn new(cube: String, ipv6: bool, own: Own) -> Self {
        let original: Original = Arc::new(accept::original);
        let lookup: Lookup = Arc::new(resolver::host_lookup);
        Self { cube, ipv6, original, lookup, own, who: None }
    }
}

impl fmt::Debug for GatewayFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayFacts")
            .field("cube", &self.cube)
            .field("ipv6", &self.ipv6)
            .finish_non_exhaustive()
    }
}

/// Makes a policy ready: reads the proxy's secret and resolves the holes. Blocks for as long as
/// that takes: a command has ten seconds, a name the host's own patience.
///
/// # Errors
/// When the secret cannot be read, or a hole leads nowhere or where none may.
pub fn terms(policy: &NetPolicy) -> Result<Terms, Failure> {
    let NetPolicy::Proxy { url, auth, holes } = policy else {
        return Ok(Terms { policy: policy.clone(), holes: Vec::new(), secret: None });
    };
    let secret = secret::read(url, auth)?;
    let holes = holes.iter().map(|hole| resolver::open_hole(hole, url)).collect::<Result<_, _>>()?;
    Ok(Terms { policy: policy.clone(), holes, secret })
}

/// A running gateway. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<state::Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the gateway on a thread of its own. Its sockets listen when this returns; until then connections are refused.
///
/// # Errors
/// When the thread or its runtime cannot be made, or a descriptor is no such socket.
pub fn start(capture: Capture, terms: Terms, facts: GatewayFacts, sink: Sink) -> io::Result<Handle> {
    let most = limits::raise_open_files();
    let shared = Arc::new(state::Shared::new(terms, facts, sink, most));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    // Made here, so that a failure is the caller's to see.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(limits::LOOK_UPS)
        .thread_stack_size(256 << 10)
        .thread_name("tripmine-names")
        .build()?;
    let sockets = {
        let _entered = runtime.enter();
        accept::Sockets::adopt(capture)?
    };
    let ours = Arc::clone(&shared);
    let thread =
        std::thread::Builder::new().name("tripmine-gate".into()).stack_size(512 << 10).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, accept::run(ours, sockets, stopped));
            drop(local);
            // A look-up that hangs is not waited for.
            runtime.shutdown_background();
        })?;
    Ok(Handle { shared, stop: Some(stop), thread: Some(thread) })
}

impl Handle {
    /// Adds a rule to the running cube. It is in force when this returns.
    ///
    /// # Errors
    /// When the rule could have no effect under the policy, or there are too many.
    pub fn allow(&self, rule: LiveRule) -> Result<(), Failure> {
        self.shared.allow(rule)
    }

    /// Puts another policy in force. Open connections that it does not allow are ended.
    pub fn phase(&self, terms: Terms) {
        self.shared.replace(terms);
    }

    /// Counters, rules and open connections.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// The latest events after number `seq`, oldest first; at most what is kept in memory.
    #[must_use]
    pub fn events_since(&self, seq: u64) -> Vec<NetEvent> {
        self.shared.events_since(seq)
    }

    /// Changes whenever there is a new event; the value is its number.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed()
    }

    /// True until the gateway has ended, whyever.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends every connection and waits for the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Gone already: then there is nothing to stop.
        let _gone = self.stop.take().map(|stop| stop.send(()));
        let _joined = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}
