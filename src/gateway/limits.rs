//! The bounds of a gateway, in one place. What a cube can make grow has a number here.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most connections at once, where open files suffice.
pub(super) const CONNECTIONS: usize = 16_384;
/// Descriptors that a connection needs: its two sockets.
const FILES_EACH: u64 = 2;
/// Descriptors for everything else in the keeper.
const FILES_OTHER: u64 = 256;
/// Connections that wait to be taken, where `net.core.somaxconn` allows it.
pub const BACKLOG: i32 = 4096;
/// Connections taken in one go before others have their turn.
pub(super) const ACCEPTS_A_TURN: usize = 32;
/// Connections a second that are taken for long, and at once after a pause.
pub(super) const ACCEPTS_A_SECOND: u32 = 10_000;
/// Refused connections whose first bytes are waited for.
pub(super) const SNIFFS: usize = 256;
/// How long they are waited for.
pub(super) const SNIFF: Duration = Duration::from_millis(100);
/// Threads that look names up; the queue before them is bounded by the connections.
pub(super) const LOOK_UPS: usize = 8;
/// How long a look-up is waited for.
pub(super) const LOOK_UP: Duration = Duration::from_secs(10);
/// How long a look-up is remembered.
pub(super) const LOOK_UP_KEPT: Duration = Duration::from_secs(5);
/// Look-ups that are remembered.
pub(super) const LOOK_UPS_KEPT: usize = 512;
/// How long one address is tried alone before the next one is tried beside it (RFC 8305, 8).
pub(super) const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses that are tried.
pub(super) const ADDRESSES: usize = 8;
/// How long all addresses together are tried.
pub(super) const CONNECT: Duration = Duration::from_secs(30);
/// How long the proxy has to be found, take a connection and accept who we are, all together.
pub(super) const PROXY_GREETING: Duration = Duration::from_millis(900);
/// How long the proxy has to connect; Tor may build a circuit first.
pub(super) const PROXY_CONNECT: Duration = Duration::from_secs(60);
/// A connection on which nothing is said for so long is ended.
pub(super) const IDLE: Duration = Duration::from_secs(24 * 3600);
/// The same once one end has said all (RFC 5382, 5: at least two hours for either).
pub(super) const IDLE_HALF: Duration = Duration::from_secs(2 * 3600);
/// TCP connections to the name service.
pub(super) const NAME_STREAMS: usize = 64;
/// How long one may be silent.
pub(super) const NAME_STREAM: Duration = Duration::from_secs(10);
/// Questions answered in one go before others have their turn.
pub(super) const QUESTIONS_A_TURN: usize = 32;
/// Rules that may be added to a running cube.
pub(super) const LIVE_RULES: usize = 1024;
/// Programs that are looked for a second, for long and at once: each takes a look at the cube's processes.
pub(super) const WHO_A_SECOND: u32 = 20;
/// How long a dialled connection may be silent before the other end is asked whether it is still there, how often, and how many
/// times in vain. Without it a peer or proxy whose host is gone would be waited for two hours (tcp(7)).
pub(super) const ALIVE: Duration = Duration::from_secs(60);
pub(super) const ALIVE_AGAIN: Duration = Duration::from_secs(15);
pub(super) const ALIVE_TIMES: u32 = 5;
/// Events kept in memory.
pub(super) const EVENTS_KEPT: usize = 1024;

/// Raises the soft limit of open files to the hard one; the connections that are possible then.
pub(super) fn raise_open_files() -> usize {
    let now = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    let files = if raised.is_ok() { now.maximum } else { now.current };
    files.map_or(CONNECTIONS, connections)
}

/// The connections that so many open files are enough for.
fn connections(files: u64) -> usize {
    let rest = files.saturating_sub(FILES_OTHER);
    usize::try_from(rest / FILES_EACH).unwrap_or(CONNECTIONS).clamp(16, CONNECTIONS)
}

/// Tokens that come back over time: how often something may happen.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    most: f64,
    a_second: f64,
    filled: std::time::Instant,
}

impl Bucket {
    pub(super) fn new(a_second: u32, most: u32, now: std::time::Instant) -> Self {
        Self { tokens: f64::from(most), most: f64::from(most), a_second: f64::from(a_second), filled: now }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: std::time::Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.a_second).min(self.most);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_bound_the_connections() {
        for (files, want) in [(100, 16), (1024, 384), (4096, 1920), (20_000, 9872), (524_288, CONNECTIONS)] {
            assert_eq!(connections(files), want, "{files}");
        }
    }

    #[test]
    fn a_bucket_fills_again() {
        let start = std::time::Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        assert_eq!([0; 4].map(|_| bucket.take(start)), [true, true, true, false]);
        assert!(!bucket.take(start + Duration::from_millis(90)));
        assert!(bucket.take(start + Duration::from_millis(110)));
        assert!(!bucket.take(start + Duration::from_millis(120)));
        let later = start + Duration::from_secs(60);
        assert_eq!([0; 4].map(|_| bucket.take(later)), [true, true, true, false]);
    }
}
