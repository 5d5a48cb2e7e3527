//! What the gateway's thread and its handles share: the terms in force, counters, open connections.
//!
//! Behind locks that are held for moments and never across a wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::journal::{Journal, Said};
use super::limits::LIVE_RULES;
use super::relay::Flow;
use super::{GatewayFacts, Sink, Terms};
use crate::model::net::{Connection, Decision, Destination, End, EventKind, LiveRule, NetEvent, Scope};
use crate::model::{Failure, FailureKind, NetPolicyKind};
use crate::plan::net::{Candidate, Scene, Step, Verdict, check_live, decide};

/// The terms in force with the rules added to them.
#[derive(Debug)]
struct Law {
    terms: Terms,
    live: Vec<LiveRule>,
}

impl Law {
    fn scene(&self) -> Scene<'_> {
        Scene { policy: &self.terms.policy, live: &self.live, holes: &self.terms.holes }
    }
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    decision: Decision,
    since: Instant,
    flow: Arc<Flow>,
}

/// A connection that is open now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenConnection {
    /// Which.
    pub connection: Connection,
    /// Why it may be.
    pub decision: Decision,
    /// For how long, in milliseconds.
    pub open_ms: u64,
    /// Bytes that left the cube.
    pub sent: u64,
    /// Bytes that came in.
    pub received: u64,
}

/// The gateway at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The policy in force.
    pub policy: NetPolicyKind,
    /// Rules that were added.
    pub live: Vec<LiveRule>,
    /// Connections that the cube made.
    pub asked: u64,
    /// Of those, allowed and connected.
    pub opened: u64,
    /// Refused by the policy, names included.
    pub denied: u64,
    /// Allowed, but not reached.
    pub failed: u64,
    /// Questions for names.
    pub names: u64,
    /// Bytes that left the cube, in connections that are over.
    pub sent: u64,
    /// Bytes that came in, in connections that are over.
    pub received: u64,
    /// Events that were too many to write down.
    pub left_out: u64,
    /// How many connections are open.
    pub open: usize,
    /// The oldest of them, a thousand at most.
    pub connections: Vec<OpenConnection>,
}

#[derive(Debug, Default)]
struct Counters {
    asked: AtomicU64,
    opened: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    names: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) facts: GatewayFacts,
    /// The most connections at once.
    pub(super) most: usize,
    law: Mutex<Law>,
    journal: Mutex<Journal>,
    open: Mutex<HashMap<u64, Open>>,
    counters: Counters,
    /// Goes up when the terms change.
    terms_changed: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it had changed nothing half-way: every critical section is one assignment or push.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Shared {
    pub(super) fn new(terms: Terms, facts: GatewayFacts, sink: Sink, most: usize) -> Self {
        Self {
            facts,
            most,
            law: Mutex::new(Law { terms, live: Vec::new() }),
            journal: Mutex::new(Journal::new(sink, Instant::now())),
            open: Mutex::new(HashMap::new()),
            counters: Counters::default(),
            terms_changed: watch::channel(0).0,
        }
    }

    pub(super) fn allow(&self, rule: LiveRule) -> Result<(), Failure> {
        let note = format!("allowed: {rule}");
        {
            let mut law = lock(&self.law);
            check_live(&law.terms.policy, &rule.rule)?;
            // One that is used up may be given again; another one twice says nothing new.
            let known = rule.scope == Scope::Cube && law.live.contains(&rule);
            if !known && law.live.len() >= LIVE_RULES {
                let message = format!("this cube has {LIVE_RULES} added rules already");
                return Err(Failure::new(FailureKind::Denied, message)
                    .hint("write rules into the machine: `tripmine machine edit`"));
            }
            if !known {
                law.live.push(rule);
            }
        }
        self.note(note);
        Ok(())
    }

    pub(super) fn replace(&self, terms: Terms) {
        let note = format!("policy: {}", terms.policy.kind());
        lock(&self.law).terms = terms;
        self.note(note);
        self.terms_changed.send_modify(|version| *version += 1);
    }

    fn note(&self, note: String) {
        lock(&self.journal).write(EventKind::Changed, Said { note: Some(note), ..Said::default() });
    }

    pub(super) fn terms_changed(&self) -> watch::Receiver<u64> {
        self.terms_changed.subscribe()
    }

    /// The terms in force, for the time of `look`.
    pub(super) fn with_scene<T>(&self, look: impl FnOnce(&Scene<'_>) -> T) -> T {
        look(&lock(&self.law).scene())
    }

    /// The terms in force, for the time of `look`.
    pub(super) fn with_terms<T>(&self, look: impl FnOnce(&Terms) -> T) -> T {
        look(&lock(&self.law).terms)
    }

    /// Decides. A connection that will be dialled uses up the rules for one connection here, in the
    /// same moment, so that no second one passes by them.
    pub(super) fn decide(&self, destination: &Destination, candidate: Option<Candidate>) -> Verdict {
        let mut law = lock(&self.law);
        let verdict = decide(&law.scene(), destination, candidate);
        if matches!(verdict.step, Step::Dial(_) | Step::Proxy) {
            for used in &verdict.uses {
                if let Some(at) = law.live.iter().position(|live| live == used) {
                    law.live.remove(at);
                }
            }
        }
        verdict
    }

    pub(super) fn asked(&self) {
        add(&self.counters.asked, 1);
    }

    pub(super) fn named(&self) {
        add(&self.counters.names, 1);
    }

    /// Writes down what happened to a connection. `who` is looked up only for what is written.
    pub(super) fn event(&self, kind: EventKind, said: impl FnOnce() -> Said) {
        match kind {
            EventKind::Denied => add(&self.counters.denied, 1),
            EventKind::Failed => add(&self.counters.failed, 1),
            _ => {}
        }
        // Looking the program up takes a while: not while the lock is held.
        if lock(&self.journal).room(Instant::now()) {
            let said = said();
            lock(&self.journal).write(kind, said);
        }
    }

    /// The count of what was left out, once a second.
    pub(super) fn flush(&self) {
        lock(&self.journal).flush();
    }

    pub(super) fn opened(&self, connection: Connection, decision: Decision) -> Arc<Flow> {
        add(&self.counters.opened, 1);
        let flow = Arc::new(Flow::default());
        let open = Open { connection, decision, since: Instant::now(), flow: Arc::clone(&flow) };
        lock(&self.open).insert(open.connection.id, open);
        flow
    }

    /// Takes a connection from the open ones; what it was and its bytes.
    pub(super) fn closed(&self, id: u64) -> Option<(Connection, Decision, End)> {
        let Open { connection, decision, since, flow } = lock(&self.open).remove(&id)?;
        let end = End {
            sent: flow.sent.load(Ordering::Relaxed),
            received: flow.received.load(Ordering::Relaxed),
            open_ms: millis(since),
            reason: crate::model::net::EndReason::Done,
        };
        add(&self.counters.sent, end.sent);
        add(&self.counters.received, end.received);
        Some((connection, decision, end))
    }

    pub(super) fn status(&self) -> Status {
        let (policy, live) = {
            let law = lock(&self.law);
            (law.terms.policy.kind(), law.live.clone())
        };
        let (open, connections): (usize, Vec<OpenConnection>) = {
            let open = lock(&self.open);
            let mut ids: Vec<u64> = open.keys().copied().collect();
            ids.sort_unstable();
            let shown = ids.iter().take(1000).filter_map(|id| open.get(id)).map(|it| OpenConnection {
                connection: it.connection.clone(),
                decision: it.decision.clone(),
                open_ms: millis(it.since),
                sent: it.flow.sent.load(Ordering::Relaxed),
                received: it.flow.received.load(Ordering::Relaxed),
            });
            (open.len(), shown.collect())
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Status {
            policy,
            live,
            asked: read(&counters.asked),
            opened: read(&counters.opened),
            denied: read(&counters.denied),
            failed: read(&counters.failed),
            names: read(&counters.names),
            sent: read(&counters.sent),
            received: read(&counters.received),
            left_out: lock(&self.journal).left_out_total(),
            open,
            connections,
        }
    }

    pub(super) fn events_since(&self, seq: u64) -> Vec<NetEvent> {
        lock(&self.journal).since(seq)
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        lock(&self.journal).changed()
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
