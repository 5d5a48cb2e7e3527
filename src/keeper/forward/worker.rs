//! The thread of the forwards: accepts on the host, connects inside, moves the bytes.
//!
//! A thread of its own, so that a flood of bytes never delays the cube's terminal; it is made with the first forward.
//! How many connections are open is bounded: the others wait in the listener's queue, as with any busy server.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{LocalSet, spawn_local};

use super::connects::Connects;
use crate::gateway::in_line;
use crate::gateway::relay::{Buffers, Flow, Over, Patience, relay, reset};
use crate::host::aio;
use crate::model::CubeEnd;

/// The most connections that are open at once, over all forwards of a cube.
const CONNECTIONS: usize = 4096;
/// Descriptors that a connection needs: its two sockets.
const DESCRIPTORS: usize = 2;
/// How long to wait when this process has no descriptor left.
const BREATH: Duration = Duration::from_millis(50);

/// A forward is the user's own: it may be silent as long as a connection without it might be.
const PATIENCE: Patience = Patience { whole: YEAR, half: YEAR };
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a forward has seen.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Connections that were made.
    pub made: AtomicU64,
    /// Connections that nothing inside took.
    pub refused: AtomicU64,
    /// Bytes.
    pub flow: Flow,
}

/// One forward to serve.
#[derive(Debug)]
pub struct Job {
    /// The host's sockets.
    pub listeners: Vec<OwnedFd>,
    /// Where they lead.
    pub to: CubeEnd,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// It ends, with its connections, when the sender is dropped.
    pub stop: watch::Receiver<()>,
    /// Dropped when nothing listens any more.
    pub ended: oneshot::Sender<()>,
}

/// The thread's body: serves what comes until the sender is dropped.
pub fn run(connects: Arc<Connects>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let room = Arc::new(Semaphore::new(connections()));
    // What still runs when the last job has come is dropped with the runtime.
    LocalSet::new().block_on(&runtime, async move {
        let buffers = Buffers::new();
        while let Some(job) = jobs.recv().await {
            spawn_local(serve(Arc::clone(&connects), job, Arc::clone(&room), buffers.clone()));
        }
    });
}

/// As many as there are descriptors for, after asking for all that this process may have.
fn connections() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = (CONNECTIONS * DESCRIPTORS) as u64 + 256;
    let most = limit.maximum.unwrap_or(wanted).min(wanted);
    if limit.current.is_some_and(|current| current < most) {
        // Refused, the limit stays what it was, and is read back.
        let _raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
    }
    let have = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    let have = usize::try_from(have).unwrap_or(usize::MAX);
    (have.saturating_sub(128) / DESCRIPTORS).clamp(16, CONNECTIONS)
}

/// What the connections of one forward share.
#[derive(Debug)]
struct Way {
    connects: Arc<Connects>,
    to: CubeEnd,
    counters: Arc<Counters>,
    buffers: Buffers,
    /// The address inside that took the last connection.
    last: Mutex<Option<IpAddr>>,
}

async fn serve(connects: Arc<Connects>, job: Job, room: Arc<Semaphore>, buffers: Buffers) {
    let Job { listeners, to, counters, stop, ended } = job;
    let way = Rc::new(Way { connects, to, counters, buffers, last: Mutex::new(None) });
    // The first connection shall not wait for init either.
    way.connects.prepare(&way.to);
    let mut accepting = Vec::new();
    for listener in listeners {
        if let Ok(listener) = aio::watched(listener) {
            accepting.push(spawn_local(accept(listener, Rc::clone(&way), stop.clone(), Arc::clone(&room))));
        }
    }
    for listener in accepting {
        // Ended by `stop`, all of them.
        let _ended = listener.await;
    }
    drop(ended);
}

async fn accept(
    listener: AsyncFd<OwnedFd>,
    way: Rc<Way>,
    mut stop: watch::Receiver<()>,
    room: Arc<Semaphore>,
) {
    loop {
        let next = async {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return None };
            Some((permit, next(&listener).await))
        };
        let (permit, client) = tokio::select! {
            _ = stop.changed() => return,
            next = next => match next {
                Some(next) => next,
                None => return,
            },
        };
        let (way, mut stop) = (Rc::clone(&way), stop.clone());
        spawn_local(async move {
            tokio::select! {
                _ = stop.changed() => {}
                () = connection(client, &way) => {}
            }
            drop(permit);
        });
    }
}

async fn next(listener: &AsyncFd<OwnedFd>) -> OwnedFd {
    loop {
        let Ok(mut ready) = listener.readable().await else {
            std::future::pending::<()>().await;
            continue;
        };
        match accept_with(listener.get_ref(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(client) => return client,
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                tokio::time::sleep(BREATH).await
            }
            // Of one connection that is gone already (accept(2)).
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Counts a connection while it is open.
struct Counted<'a>(&'a Counters);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(client: OwnedFd, way: &Way) {
    let Ok(client) = aio::watched(client) else { return };
    // Whatever ends this early, the keeper's own death included, is no orderly end: half a download must not look whole.
    reset(&client);
    match way.connects.connect(&way.to, &way.last).await {
        Ok(inside) => {
            way.counters.made.fetch_add(1, Ordering::Relaxed);
            way.counters.open.fetch_add(1, Ordering::Relaxed);
            let _counted = Counted(&way.counters);
            for socket in [&client, &inside] {
                // Small pieces go on at once, as they came. Unix sockets know no such delay.
                let _set = sockopt::set_tcp_nodelay(socket, true);
                in_line(socket);
            }
            if relay(&client, &inside, &way.counters.flow, &way.buffers, PATIENCE).await == Over::Done {
                let _orderly = sockopt::set_socket_linger(&client, None);
            }
        }
        Err(_) => {
            // As if the port were the cube's own: nothing listens, the connection is reset.
            way.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    /// Two clients with a relay between them, on a thread of its own.
    fn joined() -> (TcpStream, TcpStream, Arc<Counters>, thread::JoinHandle<Over>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("address");
        let pair = || {
            let client = TcpStream::connect(address).expect("connected");
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            (client, OwnedFd::from(listener.accept().expect("accepted").0))
        };
        let ((left, ours), (right, theirs)) = (pair(), pair());
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let ours = aio::watched(ours).expect("watched");
                let theirs = aio::watched(theirs).expect("watched");
                reset(&ours);
                reset(&theirs);
                let over = relay(&ours, &theirs, &counted.flow, &Buffers::new(), PATIENCE).await;
                if over == Over::Done {
                    sockopt::set_socket_linger(&ours, None).expect("set");
                    sockopt::set_socket_linger(&theirs, None).expect("set");
                }
                over
            })
        });
        (left, right, counters, thread)
    }

    #[test]
    fn a_half_closed_side_is_still_answered() {
        let (mut left, mut right, counters, thread) = joined();
        left.write_all(b"question").expect("written");
        left.shutdown(std::net::Shutdown::Write).expect("closed");
        let mut heard = String::new();
        right.read_to_string(&mut heard).expect("its end comes through");
        right.write_all(b"a longer answer").expect("written");
        drop(right);
        let mut answer = String::new();
        left.read_to_string(&mut answer).expect("its end comes through");
        assert_eq!((heard.as_str(), answer.as_str()), ("question", "a longer answer"));
        assert_eq!(thread.join().expect("joined"), Over::Done);
        let flow = &counters.flow;
        assert_eq!((flow.sent.load(Ordering::Relaxed), flow.received.load(Ordering::Relaxed)), (8, 15));
    }

    #[test]
    fn a_reset_is_passed_on() {
        let (left, mut right, _, thread) = joined();
        reset(&left);
        drop(left);
        let error = right.read(&mut [0; 8]).expect_err("no orderly end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(thread.join().expect("joined"), Over::Broken);
    }

    #[test]
    fn who_does_not_read_holds_the_other_up() {
        let (mut left, right, _, thread) = joined();
        left.set_write_timeout(Some(Duration::from_millis(300))).expect("timeout");
        let block = vec![7; 1 << 20];
        let mut written = 0_u64;
        // Kernel buffers and one of ours, then it stops.
        while let Ok(count) = left.write(&block) {
            written += count as u64;
            assert!(written < 64 << 20, "nothing holds it up");
        }
        drop(right);
        drop(left);
        assert_eq!(thread.join().expect("joined"), Over::Broken);
    }

    /// An answer, then a close with the question unread: the kernel makes that a reset.
    #[test]
    fn what_was_said_before_a_reset_arrives() {
        let (mut left, mut right, _, thread) = joined();
        left.write_all(&[1; 100]).expect("written");
        right.read_exact(&mut [0; 1]).expect("it is there");
        right.write_all(b"no").expect("written");
        drop(right);
        let mut answer = [0; 2];
        left.read_exact(&mut answer).expect("the answer");
        assert_eq!(&answer, b"no");
        assert_eq!(thread.join().expect("joined"), Over::Broken);
    }
}
