//! One connection of a cube, from where it was going to its last byte.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::accept::{Counted, Gate};
use super::dial::{dial, dial_within};
use super::journal::Said;
use super::limits::{IDLE, IDLE_HALF, PROXY_GREETING, SNIFFS};
use super::refuse::{Page, refuse};
use super::relay::{Over, Patience, relay, reset};
use super::secret::Secret;
use super::{Asker, Terms, socks};
use crate::model::net::{
    Class, Connection, Decision, Destination, End, EndReason, EventKind, Host, HostName, NetPolicy, Port,
    ProxyUrl, Reason, Transport,
};
use crate::plan::net::{Candidate, Step, Verdict, decide, remedy};

/// A connection to the other end, with why it may be.
struct Reached {
    stream: TcpStream,
    decision: Decision,
    way: Way,
}

/// How it was reached: what must still be allowed when the terms change.
enum Way {
    Direct(Candidate),
    Proxy(Box<ProxyUrl>),
}

/// Why there is no connection.
enum Refused {
    /// With the address that its name led to.
    Denied(Reason, Option<IpAddr>),
    Failed(Decision, EndReason),
}

/// Keeps the meaning of a pool address while a connection to it is open.
struct Held<'a>(&'a Gate, IpAddr);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.pool.borrow_mut().release(self.1, std::time::Instant::now());
    }
}

/// Serves a connection that was just taken.
pub(super) async fn serve(gate: Rc<Gate>, inside: TcpStream, peer: SocketAddr) {
    let _counted = Counted::new(&gate.open);
    // From before the decision: a switch of the terms while this one is still being dialled is one that it hears of.
    let changed = gate.shared.terms_changed();
    let original = (gate.shared.facts.original)(&inside).ok();
    let target = original.and_then(|it| Port::new(it.port()).map(|port| (it.ip(), port)));
    let Some((address, port)) = target else {
        reset(&inside);
        gate.shared.event(EventKind::Denied, || nowhere(gate.number(), original));
        return;
    };
    let name = gate.pool.borrow_mut().hold(address);
    let _held = name.is_some().then(|| Held(&gate, address));
    let destination = match &name {
        Some(name) => Destination::name(name.clone(), port),
        None => Destination::address(address, port),
    };
    let asker = Asker { transport: Transport::Tcp, from: peer, to: original };
    let mut about = About { gate: &gate, id: gate.number(), asker, destination, address: None };
    // What it takes to get there is given back before the long part begins.
    match Box::pin(reach(&gate, &about.destination)).await {
        Ok(reached) => Box::pin(carry(&mut about, inside, reached, changed)).await,
        Err(refused) => Box::pin(turn_away(&mut about, inside, refused)).await,
    }
}

/// A connection that was made to the listener itself, or to port 0.
fn nowhere(id: u64, original: Option<SocketAddr>) -> Said {
    let address = original.map(|original| original.ip());
    let connection = Connection { id, transport: Transport::Tcp, who: None, name: None, address, port: 0 };
    let decision = Decision { allowed: false, via: None, reason: Reason::UnknownName };
    Said { connection: Some(connection), decision: Some(decision), ..Said::default() }
}

/// A connection beyond the limit; it is closed already.
pub(super) fn too_many(gate: &Gate) {
    gate.shared.event(EventKind::Failed, || Said {
        end: Some(End { sent: 0, received: 0, open_ms: 0, reason: EndReason::Limit }),
        ..Said::default()
    });
}

/// What the events say of a connection.
struct About<'a> {
    gate: &'a Gate,
    id: u64,
    asker: Asker,
    destination: Destination,
    /// What was dialled, or would have been.
    address: Option<IpAddr>,
}

impl About<'_> {
    fn connection(&self, with_who: bool) -> Connection {
        let (name, address) = match &self.destination.host {
            Host::Name(name) => (Some(name.clone()), self.address),
            Host::Address(address) => (None, Some(*address)),
        };
        Connection {
            id: self.id,
            transport: Transport::Tcp,
            who: with_who.then(|| self.gate.who(self.asker)).flatten(),
            name,
            address,
            port: self.destination.port.get(),
        }
    }
}

async fn reach(gate: &Gate, destination: &Destination) -> Result<Reached, Refused> {
    // The cube's loopback is its own and never redirected: this one was made up.
    if matches!(destination.host, Host::Address(address) if address.is_loopback()) {
        return Err(Refused::Denied(Reason::Place(Class::Loopback), None));
    }
    let verdict = gate.shared.decide(destination, None);
    match verdict.step {
        Step::Deny => Err(Refused::Denied(verdict.reason, None)),
        Step::Proxy => {
            // An address says by itself where it leads: if that is this host, a proxy on it would lead home.
            if let Host::Address(address) = destination.host {
                let candidate = Candidate { address, own: gate.own(address) };
                let again = gate.shared.with_scene(|scene| decide(scene, destination, Some(candidate)));
                if again.step != Step::Proxy {
                    return Err(Refused::Denied(again.reason, None));
                }
            }
            through_proxy(gate, destination, verdict.decision()).await
        }
        // Holes: which kind of address they lead to was checked at launch.
        Step::Dial(ref addresses) => {
            let holes = addresses.iter().map(|address| Candidate { address: *address, own: false }).collect();
            direct(destination, holes, verdict.decision()).await
        }
        Step::Resolve => resolve(gate, destination, &verdict).await,
    }
}

/// Finds the addresses, has each one checked, and dials those that passed.
async fn resolve(gate: &Gate, destination: &Destination, first: &Verdict) -> Result<Reached, Refused> {
    let addresses = match &destination.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => look_up(gate, name, first).await?,
    };
    let mut denied = (Reason::NoRule, None);
    let mut passed = Vec::new();
    let mut decision = None;
    for address in addresses {
        let candidate = Candidate { address, own: gate.own(address) };
        // The first one that passes decides, and uses up what it must; the others need only pass.
        let verdict = if decision.is_none() {
            gate.shared.decide(destination, Some(candidate))
        } else {
            gate.shared.with_scene(|scene| decide(scene, destination, Some(candidate)))
        };
        match verdict.step {
            Step::Dial(_) => {
                decision.get_or_insert_with(|| verdict.decision());
                passed.push(candidate);
            }
            // The first of them is told.
            _ if denied.1.is_none() => denied = (verdict.reason, Some(address)),
            _ => {}
        }
    }
    match decision {
        Some(decision) => direct(destination, passed, decision).await,
        None => Err(Refused::Denied(denied.0, denied.1)),
    }
}

async fn look_up(gate: &Gate, name: &HostName, verdict: &Verdict) -> Result<Vec<IpAddr>, Refused> {
    gate.resolver
        .addresses(name)
        .await
        .map_err(|error| Refused::Failed(verdict.decision(), EndReason::Unresolved(error.to_string())))
}

async fn direct(
    destination: &Destination,
    candidates: Vec<Candidate>,
    decision: Decision,
) -> Result<Reached, Refused> {
    let addresses: Vec<IpAddr> = candidates.iter().map(|candidate| candidate.address).collect();
    match dial(&addresses, destination.port).await {
        Ok((stream, address)) => {
            let dialled = candidates.into_iter().find(|candidate| candidate.address == address);
            let way = Way::Direct(dialled.unwrap_or(Candidate { address, own: true }));
            Ok(Reached { stream, decision, way })
        }
        Err(error) => Err(Refused::Failed(decision, EndReason::Unreachable(error.to_string()))),
    }
}

async fn through_proxy(
    gate: &Gate,
    destination: &Destination,
    decision: Decision,
) -> Result<Reached, Refused> {
    let terms = gate.shared.with_terms(|Terms { policy, secret, .. }| match policy {
        NetPolicy::Proxy { url, .. } => Some((url.clone(), secret.clone())),
        _ => None,
    });
    let failed = |why: String| Refused::Failed(decision.clone(), EndReason::Proxy(why));
    let Some((url, secret)) = terms else { return Err(failed("the policy has changed".into())) };
    // One limit for all of it: a proxy that is slow at each step is not there either.
    let deadline = Instant::now() + PROXY_GREETING;
    let mut stream = greeted(gate, &url.destination(), secret.as_ref(), deadline).await.map_err(failed)?;
    socks::connect(&mut stream, destination).await.map_err(|error| failed(error.to_string()))?;
    Ok(Reached { stream, decision, way: Way::Proxy(Box::new(url)) })
}

/// A connection to the proxy, which has taken who we are, by `deadline`.
async fn greeted(
    gate: &Gate,
    proxy: &Destination,
    secret: Option<&Secret>,
    deadline: Instant,
) -> Result<TcpStream, String> {
    let addresses = match &proxy.host {
        Host::Address(address) => vec![*address],
        // What is found too late is remembered for the next one.
        Host::Name(name) => match timeout_at(deadline, gate.resolver.addresses(name)).await {
            Ok(found) => found.map_err(|error| format!("its name: {error}"))?,
            Err(_) => return Err("its name: the name servers do not answer in time".to_owned()),
        },
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let (mut stream, _) =
        dial_within(&addresses, proxy.port, left).await.map_err(|error| format!("is not there: {error}"))?;
    socks::greet(&mut stream, secret, deadline).await.map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Carries the bytes, and tells of the end.
async fn carry(about: &mut About<'_>, inside: TcpStream, reached: Reached, changed: watch::Receiver<u64>) {
    let Reached { stream: outside, decision, way } = reached;
    let gate = about.gate;
    if let Way::Direct(candidate) = &way {
        about.address = Some(candidate.address);
    }
    let _set = inside.set_nodelay(true);
    for socket in [&inside, &outside] {
        in_line(socket);
    }
    let flow = gate.shared.opened(about.connection(false), decision.clone());
    let mut end = Ending { gate, id: about.id, reason: EndReason::Stopped };
    gate.shared.event(EventKind::Opened, || Said {
        connection: Some(about.connection(true)),
        decision: Some(decision),
        ..Said::default()
    });
    let patience = Patience { whole: IDLE, half: IDLE_HALF };
    let still_allowed = until_denied(gate, &about.destination, &way, changed);
    end.reason = tokio::select! {
        // The policy first: of a connection that it does not allow any more not a byte is carried.
        biased;
        () = still_allowed => EndReason::Stopped,
        over = relay(&inside, &outside, &flow, &gate.buffers, patience) => match over {
            Over::Done => EndReason::Done,
            Over::Broken => EndReason::Reset,
            Over::Idle => EndReason::Idle,
        },
    };
    if end.reason != EndReason::Done {
        reset(&inside);
        reset(&outside);
    }
}

/// An urgent byte (tcp(7)) comes with all others: out of line a relay would never read it, and it would be lost.
pub fn in_line(socket: &impl AsFd) {
    // Without it only that byte is missing.
    let _set = rustix::net::sockopt::set_socket_oobinline(socket, true);
}

/// Writes the end of an open connection down, also when its task is dropped.
struct Ending<'a> {
    gate: &'a Gate,
    id: u64,
    reason: EndReason,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let shared = &self.gate.shared;
        let Some((connection, decision, end)) = shared.closed(self.id) else { return };
        let reason = self.reason.clone();
        shared.event(EventKind::Closed, || Said {
            connection: Some(connection),
            decision: Some(decision),
            end: Some(End { reason, ..end }),
            note: None,
        });
    }
}

/// Returns when the terms have changed to some that do not allow this connection.
async fn until_denied(gate: &Gate, destination: &Destination, way: &Way, mut changed: watch::Receiver<u64>) {
    while changed.changed().await.is_ok() {
        let allowed = gate.shared.with_scene(|scene| match way {
            Way::Direct(candidate) => {
                let verdict = decide(scene, destination, Some(*candidate));
                matches!(verdict.step, Step::Dial(addresses) if addresses.contains(&candidate.address))
            }
            Way::Proxy(url) => {
                matches!(scene.policy, NetPolicy::Proxy { url: now, .. } if *now == **url)
                    && decide(scene, destination, None).step == Step::Proxy
            }
        });
        if !allowed {
            return;
        }
    }
    std::future::pending().await
}

/// Refuses, and tells why: in the events, and to whoever speaks HTTP.
async fn turn_away(about: &mut About<'_>, inside: TcpStream, refused: Refused) {
    let gate = about.gate;
    let (kind, decision, end) = match refused {
        Refused::Denied(reason, led) => {
            about.address = led;
            (EventKind::Denied, Decision { allowed: false, via: None, reason }, None)
        }
        Refused::Failed(decision, reason) => {
            (EventKind::Failed, decision, Some(End { sent: 0, received: 0, open_ms: 0, reason }))
        }
    };
    gate.shared.event(kind, || Said {
        connection: Some(about.connection(true)),
        decision: Some(decision.clone()),
        end: end.clone(),
        note: None,
    });
    let page = page(about, &decision, end.as_ref());
    let sniff = gate.sniffing.get() < SNIFFS;
    let _counted = sniff.then(|| Counted::new(&gate.sniffing));
    refuse(inside, about.destination.port.get(), page, sniff).await;
}

/// The refusal in words. What stands in it is canonical, or ours.
fn page(about: &About<'_>, decision: &Decision, end: Option<&End>) -> Page {
    let to = &about.destination;
    if let Some(end) = end {
        let text = format!(
            "tripmine: no connection to {to}\n\nIt is allowed ({}), but: {}.\n",
            decision.reason, end.reason
        );
        return Page { status: "502 Bad Gateway", text };
    }
    let cube = &about.gate.shared.facts.cube;
    let shared = &about.gate.shared;
    let (kind, help) = shared.with_scene(|scene| {
        (scene.policy.kind(), remedy(scene.policy, to, &decision.reason, about.address, cube))
    });
    let help =
        help.map_or_else(String::new, |command| format!("\nTo allow it, on the host:\n\n    {command}\n"));
    let text = format!(
        "tripmine: the connection to {to} was refused\n\nThe net policy of this cube is `{kind}`; {}.\n{help}",
        decision.reason
    );
    Page { status: "403 Forbidden", text }
}
