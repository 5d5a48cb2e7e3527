//! Events: numbered, kept for a while, handed to the sink, and never more than can be read.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::Sink;
use super::limits::{Bucket, EVENTS_KEPT};
use crate::model::net::{Connection, Decision, End, EventKind, NET_EVENT_VERSION, NetEvent};

/// Events a second that are written down for long. A burst of a thousand is written in full.
pub const EVENTS_A_SECOND: u32 = 20;
const BURST: u32 = 1000;

/// The events of one cube's net.
pub(super) struct Journal {
    seq: u64,
    left_out: u64,
    left_out_total: u64,
    kept: VecDeque<NetEvent>,
    bucket: Bucket,
    sink: Sink,
    changed: watch::Sender<u64>,
}

/// What an event says besides its number and time.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) connection: Option<Connection>,
    pub(super) decision: Option<Decision>,
    pub(super) end: Option<End>,
    pub(super) note: Option<String>,
}

impl Journal {
    pub(super) fn new(sink: Sink, now: Instant) -> Self {
        Self {
            seq: 0,
            left_out: 0,
            left_out_total: 0,
            kept: VecDeque::new(),
            bucket: Bucket::new(EVENTS_A_SECOND, BURST, now),
            sink,
            changed: watch::channel(0).0,
        }
    }

    /// Whether another event may be written; if not, it is counted.
    pub(super) fn room(&mut self, now: Instant) -> bool {
        let room = self.bucket.take(now);
        if !room {
            self.left_out += 1;
            self.left_out_total += 1;
        }
        room
    }

    /// Writes an event down; [`Journal::room`] was asked, or it must not be lost.
    pub(super) fn write(&mut self, kind: EventKind, said: Said) {
        self.flush();
        self.put(kind, said, None);
    }

    /// Says how many were left out, if any were.
    pub(super) fn flush(&mut self) {
        let count = std::mem::take(&mut self.left_out);
        if count > 0 {
            self.put(EventKind::LeftOut, Said::default(), Some(count));
        }
    }

    fn put(&mut self, kind: EventKind, said: Said, left_out: Option<u64>) {
        self.seq += 1;
        let Said { connection, decision, end, note } = said;
        let event = NetEvent {
            v: NET_EVENT_VERSION,
            seq: self.seq,
            time_ms: unix_ms(),
            kind,
            connection,
            decision,
            end,
            left_out,
            note,
        };
        (self.sink)(&event);
        if self.kept.len() >= EVENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
        self.changed.send_replace(self.seq);
    }

    pub(super) fn since(&self, seq: u64) -> Vec<NetEvent> {
        self.kept.iter().filter(|event| event.seq > seq).cloned().collect()
    }

    pub(super) const fn left_out_total(&self) -> u64 {
        self.left_out_total
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("seq", &self.seq).finish_non_exhaustive()
    }
}

/// Now, in milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_is_left_out_is_counted_and_said() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::clone(&written);
        let start = Instant::now();
        let mut journal =
            Journal::new(Box::new(move |event| ours.lock().expect("lock").push(event.clone())), start);
        for _ in 0..100_000 {
            if journal.room(start) {
                journal.write(EventKind::Denied, Said::default());
            }
        }
        journal.flush();
        let written = written.lock().expect("lock");
        assert_eq!(written.len(), BURST as usize + 1);
        let last = written.last().expect("one");
        assert_eq!((last.kind, last.left_out), (EventKind::LeftOut, Some(99_000)));
        assert!(written.windows(2).all(|two| two[1].seq == two[0].seq + 1));
        assert_eq!(journal.since(0).len(), EVENTS_KEPT.min(written.len()));
        assert_eq!(journal.since(last.seq - 1), std::slice::from_ref(last));
        assert_eq!((*journal.changed().borrow(), journal.left_out_total()), (last.seq, 99_000));
    }
}
