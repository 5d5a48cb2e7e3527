//! Which TCP ports the guest listens on, told to the host whenever that changes.

use std::time::{Duration, Instant};

use crate::microvm::wire::{LISTENERS, Listener, Message};

/// Looks at the tables now and then.
#[derive(Debug, Default)]
pub(super) struct PortWatch {
    every: Option<Duration>,
    next: Option<Instant>,
    told: Vec<Listener>,
}

impl PortWatch {
    /// Every so many milliseconds, from now on; 0 ends it.
    pub(super) fn every(&mut self, millis: u32, now: Instant) {
        self.every = (millis > 0).then(|| Duration::from_millis(u64::from(millis.max(50))));
        self.next = self.every.map(|_| now);
        self.told.clear();
    }

    /// How long until the next look.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        self.next.map(|next| next.saturating_duration_since(now))
    }

    /// Looks, if it is time; without the ports in `ours`.
    pub(super) fn look(&mut self, now: Instant, ours: &[u16]) -> Option<Message> {
        let every = self.every.filter(|_| self.next.is_some_and(|next| next <= now))?;
        self.next = Some(now + every);
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let sockets = crate::host::ports::sockets(me).ok()?;
        let mut found: Vec<Listener> = sockets
            .iter()
            .filter(|socket| !ours.contains(&socket.address.port()))
            .map(|socket| Listener { address: socket.address.ip(), port: socket.address.port() })
            .collect();
        found.sort_unstable();
        found.dedup();
        found.truncate(LISTENERS);
        if found == self.told {
            return None;
        }
        self.told.clone_from(&found);
        Some(Message::Ports(found))
    }
}
