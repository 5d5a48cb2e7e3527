//! Connections into the cube.
//!
//! Init makes sockets of the cube's network ahead of need, and they are connected here when a client comes, so a
//! connection waits for nobody. Unix sockets are connected by init, because a path is the cube's to look up.
//! Shared by the keeper's own thread, which hears init, and the thread of the forwards, which asks. How many questions are
//! open is bounded, so that neither end of init's socket can fill up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, oneshot};

use crate::host::{aio, ports};
use crate::jail::wire::{self, Message};
use crate::model::CubeEnd;
use crate::model::net::{OWN_V4, OWN_V6};
use crate::plan::vm::DOOR;

/// Questions that may be open at once.
const OPEN_QUESTIONS: usize = 64;
/// Sockets that are asked for at once.
const BATCH: u16 = 16;
/// With fewer than these left, more are asked for.
const LOW: usize = 8;
/// How long a connection inside may take: a listener whose queue is full does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries when the queue of a unix socket is full.
const AGAIN: Duration = Duration::from_millis(10);

type Answer = Result<Vec<OwnedFd>, Errno>;

/// Sockets of one family that wait to be connected.
#[derive(Debug, Default)]
struct Pool {
    sockets: Mutex<Vec<OwnedFd>>,
    filling: AtomicBool,
}

/// The way into a cube.
#[derive(Debug)]
pub struct Connects {
    /// Init's control socket.
    init: OwnedFd,
    /// Init, as the host sees it.
    pid: i32,
    /// The cube's own files are a guest's: a path is said at its door.
    guest: bool,
    open: Semaphore,
    next: AtomicU32,
    waiting: Mutex<HashMap<u32, oneshot::Sender<Answer>>>,
    four: Pool,
    six: Pool,
}

impl Connects {
    /// Over a copy of init's socket.
    #[must_use]
    pub fn new(init: OwnedFd, pid: i32, guest: bool) -> Self {
        Self {
            init,
            pid,
            guest,
            open: Semaphore::new(OPEN_QUESTIONS),
            next: AtomicU32::new(0),
            waiting: Mutex::new(HashMap::new()),
            four: Pool::default(),
            six: Pool::default(),
        }
    }

    /// Init's answer to question `number`. One that nobody waits for is dropped.
    pub fn answered(&self, number: u32, errno: i32, sockets: Vec<OwnedFd>) {
        let Some(sender) = locked(&self.waiting).remove(&number) else { return };
        let answer = if errno == 0 { Ok(sockets) } else { Err(Errno::from_raw_os_error(errno)) };
        let _told = sender.send(answer);
    }

    /// Init is gone: every question is answered with "no".
    pub fn over(&self) {
        self.open.close();
        locked(&self.waiting).clear();
        locked(&self.four.sockets).clear();
        locked(&self.six.sockets).clear();
    }

    /// Gets sockets for `end`, ahead of need.
    pub fn prepare(self: &Arc<Self>, end: &CubeEnd) {
        if matches!(end, CubeEnd::Tcp(_)) {
            self.fill(false);
        }
    }

    /// Connects to `end`. `last` is where it worked the last time, and is tried first.
    ///
    /// # Errors
    /// ECONNREFUSED when nothing listens there.
    pub async fn connect(
        self: &Arc<Self>,
        end: &CubeEnd,
        last: &Mutex<Option<IpAddr>>,
    ) -> Result<AsyncFd<OwnedFd>, Errno> {
        let port = match end {
            CubeEnd::Unix(path) if self.guest => {
                let door = self.unix(DOOR).await?;
                let asked = tokio::time::timeout(PATIENCE, through(&door, path));
                return asked.await.unwrap_or(Err(Errno::TIMEDOUT)).map(|()| door);
            }
            CubeEnd::Unix(path) => return self.unix(path).await,
            CubeEnd::Tcp(port) => port.get(),
        };
        let known = *locked(last);
        let mut tried = Vec::with_capacity(3);
        let usual = [known, Some(Ipv4Addr::LOCALHOST.into()), Some(Ipv6Addr::LOCALHOST.into())];
        for address in usual.into_iter().flatten() {
            if tried.contains(&address) {
                continue;
            }
            tried.push(address);
            if let Ok(socket) = self.tcp(SocketAddr::new(address, port)).await {
                if known != Some(address) {
                    *locked(last) = Some(address);
                }
                return Ok(socket);
            }
        }
        // Not on loopback: perhaps on another address of its own.
        let listening = ports::sockets(self.pid).unwrap_or_default();
        let other = listening.iter().map(|socket| socket.address).find(|address| {
            let ip = address.ip();
            // A program may listen on any address of the world, which it would have to connect to as to the world's own.
            let its_own = ip.is_loopback() || ip == IpAddr::V4(OWN_V4) || ip == IpAddr::V6(OWN_V6);
            address.port() == port && its_own && !tried.contains(&ip)
        });
        let Some(address) = other else { return Err(Errno::CONNREFUSED) };
        let socket = self.tcp(address).await?;
        *locked(last) = Some(address.ip());
        Ok(socket)
    }

    async fn tcp(self: &Arc<Self>, to: SocketAddr) -> Result<AsyncFd<OwnedFd>, Errno> {
        let socket = self.socket(to.is_ipv6()).await?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let socket = watched(socket)?;
        let connected = tokio::time::timeout(PATIENCE, async {
            // On loopback it has been answered by now, and the first look says so.
            let ready = socket.writable().await.map_err(|_| Errno::IO)?;
            drop(ready);
            sockopt::socket_error(&socket)?
        });
        connected.await.unwrap_or(Err(Errno::TIMEDOUT))?;
        Ok(socket)
    }

    const fn pool(&self, six: bool) -> &Pool {
        if six { &self.six } else { &self.four }
    }

    async fn socket(self: &Arc<Self>, six: bool) -> Result<OwnedFd, Errno> {
        let (taken, left) = {
            let mut sockets = locked(&self.pool(six).sockets);
            (sockets.pop(), sockets.len())
        };
        if left < LOW {
            self.fill(six);
        }
        match taken {
            Some(socket) => Ok(socket),
            None => {
                let mut given = self.ask(|number| Message::Sockets { number, six, count: 1 }, &[]).await?;
                given.pop().ok_or(Errno::PROTO)
            }
        }
    }

    /// Asks for more sockets, beside whatever is being done.
    fn fill(self: &Arc<Self>, six: bool) {
        if self.pool(six).filling.swap(true, Ordering::Relaxed) {
            return;
        }
        let connects = Arc::clone(self);
        tokio::task::spawn_local(async move {
            let given = connects.ask(|number| Message::Sockets { number, six, count: BATCH }, &[]).await;
            let pool = connects.pool(six);
            if let Ok(given) = given {
                locked(&pool.sockets).extend(given.into_iter().take(usize::from(BATCH)));
            }
            pool.filling.store(false, Ordering::Relaxed);
        });
    }

    async fn unix(&self, path: &str) -> Result<AsyncFd<OwnedFd>, Errno> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let memory = rustix::fs::memfd_create(c"path", rustix::fs::MemfdFlags::CLOEXEC)?;
            rustix::io::write(&memory, path.as_bytes())?;
            let fds = [socket.as_fd(), memory.as_fd()];
            match self.ask(|number| Message::ConnectUnix { number }, &fds).await {
                Ok(_) => return watched(socket),
                // Its queue is full.
                Err(Errno::AGAIN) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    async fn ask(&self, message: impl FnOnce(u32) -> Message, fds: &[BorrowedFd<'_>]) -> Answer {
        let _open = self.open.acquire().await.map_err(|_| Errno::PIPE)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        locked(&self.waiting).insert(number, sender);
        if let Err(errno) = wire::send(self.init.as_fd(), message(number), fds) {
            locked(&self.waiting).remove(&number);
            return Err(errno);
        }
        answer.await.unwrap_or(Err(Errno::PIPE))
    }
}

/// Says where a guest's door is to lead, and waits until it does.
async fn through(door: &AsyncFd<OwnedFd>, path: &str) -> Result<(), Errno> {
    // An empty buffer of a fresh socket takes all of it at once.
    let said = [path.as_bytes(), b"\0"].concat();
    if rustix::io::write(door.get_ref(), &said)? != said.len() {
        return Err(Errno::IO);
    }
    loop {
        let mut ready = door.readable().await.map_err(|_| Errno::IO)?;
        match rustix::io::read(door.get_ref(), &mut [0; 1]) {
            Ok(1) => return Ok(()),
            Err(Errno::AGAIN | Errno::INTR) => ready.clear_ready(),
            _ => return Err(Errno::CONNREFUSED),
        }
    }
}

/// Nothing panics while one of these is held: what is in it is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watched(socket: OwnedFd) -> Result<AsyncFd<OwnedFd>, Errno> {
    aio::watched(socket).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
