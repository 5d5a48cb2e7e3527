//! The keeper's side of a cube's network: the capture, the gateway, and what clients ask of it.
//!
//! A policy that reaches something is captured before the entry runs, and is not in force until its rules have been read back.
//! With `none` the namespace is empty already, and nothing can leave it: the gateway, which then only refuses and says so,
//! comes a moment later, so that a short command never waits for it.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::protocol::Answer;
use super::start::{Born, NotStarted};
use super::state::{Keeper, Piece};
use crate::gateway::{self, Asker, Capture, GatewayFacts, Handle, Terms, Who};
use crate::host::capture::{self, CaptureError, Captured, Capturing, Namespaces};
use crate::host::{diag, ports, route};
use crate::jail::taken_out::{Part, taken_out};
use crate::model::net::{EventKind, LiveRule, NetEvent, NetPolicy, Rule, Scope, Transport};
use crate::model::{Enforcement, Failure, Layer, LayerStatus, NetPolicyKind};
use crate::plan::LaunchPlan;
use crate::store::net_log::NetLog;

/// How long a cube with `none` runs before its network is captured: a short command is over by then, and a program that asks
/// for a name has barely been loaded.
const LATER: Duration = Duration::from_millis(4);
/// The most names that clients are told of: the rest is in the log.
const TOLD: usize = 200;

/// What a client asks about the net.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "net")]
pub enum NetAsk {
    /// How it stands.
    Status,
    /// Allow this, now.
    Allow {
        /// What.
        rule: Rule,
        /// For how long.
        scope: Scope,
    },
    /// Switch from the policy of the set-up to the cube's own.
    Run,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "net")]
pub enum NetAnswer {
    /// How it stands.
    Status(Box<NetStatus>),
    /// Something was denied: sent, once for each name, to whoever watches the entry.
    Denied(Box<NetEvent>),
}

/// How a cube's net stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetStatus {
    /// The gateway; nothing when the network is not captured, and so reaches nothing.
    pub gateway: Option<gateway::Status>,
    /// What was read back from the kernel just now.
    pub capture: Enforcement,
    /// The policy that `phase run` switches to.
    pub then: Option<NetPolicyKind>,
    /// The gateway's ports on the cube's loopback.
    pub ports: Vec<u16>,
}

/// How a cube's network begins.
#[derive(Debug)]
pub enum Begun {
    /// Captured before the entry runs.
    Now(Capturing),
    /// With `none`: captured a moment later, in these namespaces.
    Later(Namespaces),
}

/// A network that the entry may be let go with.
#[derive(Debug)]
pub enum Start {
    /// Captured.
    Now(Box<Ready>),
    /// Empty, to be captured in a moment.
    Later(Namespaces),
    /// The host's own, or none at all by the filter: there is nothing to capture.
    Absent,
}

/// A captured network and the policy for it.
#[derive(Debug)]
pub struct Ready {
    captured: Captured,
    terms: Terms,
    then: Option<Terms>,
}

/// Starts to capture the network of the child, beside what the child itself does, if its policy needs it from the start.
///
/// # Errors
/// No process can be made.
pub fn begin(plan: &LaunchPlan, born: &Born) -> Result<Begun, NotStarted> {
    let namespaces = Namespaces::of(born.pid).map_err(|error| not_captured(&error))?;
    // Without a network of its own the cube has the caller's, which is never captured: it may not be entered from there.
    if taken_out(Part::NetNs) || (plan.net == NetPolicy::None && plan.setup.is_none()) {
        return Ok(Begun::Later(namespaces));
    }
    capture::begin(&namespaces).map(Begun::Now).map_err(|error| not_captured(&error))
}

/// Makes the policy ready, waits for the capture and reads it back; with the layer's status, if it is one.
///
/// # Errors
/// The policy's secret or holes cannot be had, or the kernel refuses a part of the capture.
pub fn finish(plan: &LaunchPlan, begun: Begun) -> Result<(Start, Option<LayerStatus>), NotStarted> {
    let capturing = match begun {
        Begun::Now(capturing) => capturing,
        Begun::Later(namespaces) => return Ok((Start::Later(namespaces), None)),
    };
    let refused = |failure: Failure| {
        let hints = failure.hints.clone();
        hints.into_iter().fold(NotStarted::new(failure.to_string()), NotStarted::hint)
    };
    let net = gateway::terms(&plan.net).map_err(refused)?;
    let setup = plan.setup.as_ref().map(gateway::terms).transpose().map_err(refused)?;
    let captured = capturing.finish().map_err(|error| not_captured(&error))?;
    // The gateway takes what comes a moment after the entry runs: whatever that reaches for first waits, and is not refused.
    captured.listen(gateway::BACKLOG).map_err(|error| {
        NotStarted::new(format!("cannot set up the cube's network: its listeners cannot listen: {error}"))
    })?;
    let status = LayerStatus { layer: Layer::NetCapture, enforcement: read_back(&captured) };
    let (terms, then) = match setup {
        Some(setup) => (setup, Some(net)),
        None => (net, None),
    };
    Ok((Start::Now(Box::new(Ready { captured, terms, then })), Some(status)))
}

fn read_back(captured: &Captured) -> Enforcement {
    match captured.verify() {
        Ok(rules) => Enforcement::Full(format!("{rules} rules, all to the gateway")),
        Err(error) => Enforcement::None(format!("its rules are not those that were made: {error}")),
    }
}

fn not_captured(error: &CaptureError) -> NotStarted {
    NotStarted::new(format!("cannot set up the cube's network: {error}")).hint(error.hint())
}

/// The net of a running cube.
#[derive(Debug, Default)]
pub struct Net {
    handle: RefCell<Option<Handle>>,
    then: RefCell<Option<Terms>>,
    captured: RefCell<Option<Kept>>,
    told: RefCell<HashSet<String>>,
    seen: Cell<u64>,
}

/// What stays of a capture when the gateway has its listeners.
#[derive(Debug)]
struct Kept {
    rules: OwnedFd,
    v4: capture::Ports,
    v6: Option<capture::Ports>,
}

/// Starts the gateway of a cube whose network is captured.
///
/// # Errors
/// No thread can be made.
pub fn open(keeper: &Rc<Keeper>, ready: Ready) -> std::io::Result<()> {
    let Ready { captured: Captured { v4, v6, rules, diag }, terms, then } = ready;
    let kept = Kept { rules, v4: v4.ports, v6: v6.as_ref().map(|listeners| listeners.ports) };
    let ipv6 = v6.is_some();
    let (tcp6, dns_udp6, dns_tcp6) = match v6 {
        Some(v6) => (Some(v6.tcp), Some(v6.dns_udp), Some(v6.dns_tcp)),
        None => (None, None, None),
    };
    let sockets =
        Capture { tcp4: v4.tcp, tcp6, dns_udp4: v4.dns_udp, dns_udp6, dns_tcp4: v4.dns_tcp, dns_tcp6 };
    let own = Arc::new(|address| route::is_own(address).unwrap_or(true));
    let mut facts = GatewayFacts::new(keeper.plan.id.short().to_owned(), ipv6, own);
    // In a guest whoever asks is a program of the guest's, and not the one that asks here for all of them.
    facts.who = diag.filter(|_| keeper.plan.vm.is_none()).map(|diag| who(diag, keeper.pid));
    let mut log = NetLog::new(keeper.dir.log_dir());
    // A full disk costs the line, not the connection's answer.
    let sink = Box::new(move |event: &NetEvent| drop(log.append(event)));
    let handle = gateway::start(sockets, terms, facts, sink)?;
    let mut changed = handle.changed();
    *keeper.net.handle.borrow_mut() = Some(handle);
    *keeper.net.then.borrow_mut() = then;
    *keeper.net.captured.borrow_mut() = Some(kept);
    let keeper = Rc::clone(keeper);
    tokio::task::spawn_local(async move {
        while changed.changed().await.is_ok() {
            tell(&keeper);
        }
    });
    Ok(())
}

/// Tells which program beneath `init` has a socket. The one that had the last is looked at first.
fn who(socket: OwnedFd, init: i32) -> Who {
    let last = AtomicI32::new(0);
    Arc::new(move |Asker { transport, from, to }| {
        let kind = match transport {
            Transport::Tcp => diag::Kind::Tcp,
            Transport::Dns => diag::Kind::Udp,
        };
        let any = SocketAddr::new(if from.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
        let inode = diag::inode(&socket, kind, from, to.unwrap_or(any)).ok().flatten()?;
        let likely = Some(last.load(Ordering::Relaxed)).filter(|pid| *pid != 0);
        let (pid, name) = ports::holder(init, inode, likely)?;
        last.store(pid, Ordering::Relaxed);
        Some(name)
    })
}

/// Captures the network of a cube with `none`, once it has run for a moment.
pub async fn open_later(keeper: Rc<Keeper>, namespaces: Namespaces) {
    tokio::time::sleep(LATER).await;
    let capturing = match capture::begin(&namespaces) {
        Ok(capturing) => capturing,
        Err(error) => return keeper.event("net-not-captured", error.to_string()),
    };
    let answered = match capturing.ear().and_then(crate::host::aio::watched) {
        Ok(socket) => socket.readable().await.map(|mut guard| guard.retain_ready()),
        Err(error) => Err(error),
    };
    let captured = match (answered, capturing.finish()) {
        (Ok(()), Ok(captured)) => captured,
        // The namespace stays as empty as it was.
        (_, Err(error)) => return keeper.event("net-not-captured", error.to_string()),
        (Err(error), Ok(_)) => return keeper.event("net-not-captured", error.to_string()),
    };
    let terms = Terms { policy: NetPolicy::None, holes: Vec::new(), secret: None };
    if let Err(error) = open(&keeper, Ready { captured, terms, then: None }) {
        keeper.event("net-not-captured", error.to_string());
    }
}

/// Tells whoever watches the entry what was denied, each name once.
pub fn tell(keeper: &Keeper) {
    let events = match &*keeper.net.handle.borrow() {
        Some(handle) => handle.events_since(keeper.net.seen.get()),
        None => return,
    };
    for event in events {
        keeper.net.seen.set(event.seq);
        if event.kind != EventKind::Denied {
            continue;
        }
        let host = event
            .connection
            .as_ref()
            .and_then(|connection| connection.host().map(|host| format!("{host} {}", connection.port)));
        let mut told = keeper.net.told.borrow_mut();
        if told.len() >= TOLD || !told.insert(host.unwrap_or_default()) {
            continue;
        }
        let answer = Rc::new(Answer::Net(NetAnswer::Denied(Box::new(event))));
        for viewer in keeper.viewers.borrow().iter() {
            // A client that reads nothing has the log.
            let _told = viewer.queue.try_send(Piece::Answer(Rc::clone(&answer)));
        }
    }
}

/// Ends every connection: the cube is over.
pub fn close(keeper: &Keeper) {
    tell(keeper);
    let handle = keeper.net.handle.borrow_mut().take();
    drop(handle);
}

/// Carries out what a client asks.
pub fn answer(keeper: &Keeper, ask: NetAsk) -> Answer {
    let handle = keeper.net.handle.borrow();
    if keeper.plan.in_place.is_some() && !matches!(ask, NetAsk::Status) {
        let message =
            "the jail `landlock` has no network of its own: its policy is decided once, before it starts";
        let hints = vec!["launch it again with `--net open`, or with `--jail container`".to_owned()];
        return Answer::Refused { message: message.to_owned(), hints };
    }
    if let NetAsk::Status = ask {
        return Answer::Net(NetAnswer::Status(Box::new(status(keeper, handle.as_ref()))));
    }
    let Some(handle) = handle.as_ref().filter(|handle| handle.is_running()) else {
        let message = "this cube's network is not captured: it reaches nothing, and nothing can be allowed";
        let hints = vec!["`tripmine events CUBE` says why; launch it again with another `--net`".to_owned()];
        return Answer::Refused { message: message.to_owned(), hints };
    };
    let done = match ask {
        NetAsk::Allow { rule, scope } => handle.allow(LiveRule { rule, scope }),
        NetAsk::Status => Ok(()),
        NetAsk::Run => match keeper.net.then.borrow_mut().take() {
            Some(terms) => {
                handle.phase(terms);
                Ok(())
            }
            None => Err(Failure::failed("this cube is in the phase `run` already")
                .hint("a machine with `setup = \"open\"` starts its cubes in the phase `setup`")),
        },
    };
    match done {
        Ok(()) => Answer::Done,
        Err(failure) => Answer::Refused { message: failure.to_string(), hints: failure.hints },
    }
}

fn status(keeper: &Keeper, handle: Option<&Handle>) -> NetStatus {
    let kept = keeper.net.captured.borrow();
    let (capture, ports) = match &*kept {
        None => {
            let why = match &keeper.plan.in_place {
                None => "not captured: there is nothing but an empty loopback",
                Some(place) if place.network => "not captured: in place, it is the host's own network",
                Some(_) => "not captured: in place, no socket can be made",
            };
            (Enforcement::None(why.to_owned()), Vec::new())
        }
        Some(kept) => {
            let enforcement = match capture::verify(&kept.rules, kept.v4, kept.v6) {
                Ok(rules) => Enforcement::Full(format!("{rules} rules, all to the gateway")),
                Err(error) => Enforcement::None(format!("its rules are not those that were made: {error}")),
            };
            let both = [Some(kept.v4), kept.v6].into_iter().flatten();
            (enforcement, both.flat_map(|ports| [ports.tcp, ports.dns_udp, ports.dns_tcp]).collect())
        }
    };
    NetStatus {
        // One whose thread has ended refuses everything: its sockets went with it.
        gateway: handle.filter(|handle| handle.is_running()).map(Handle::status),
        capture,
        then: keeper.net.then.borrow().as_ref().map(|terms| terms.policy.kind()),
        ports,
    }
}
