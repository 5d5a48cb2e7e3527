//! Connections into the cube: init is asked for each, and what it answers goes to whoever asked.
//!
//! Shared by the keeper's own thread, which hears init, and the thread of the forwards, which asks. How many questions
//! are open is bounded, so that neither end of init's socket can fill up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, oneshot};

use crate::host::{aio, ports};
use crate::jail::wire::{self, Message};
use crate::model::CubeEnd;

/// Questions that may be open at once.
const OPEN_QUESTIONS: usize = 64;
/// How long a connection inside may take: a listener whose queue is full does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries when the queue of a unix socket is full.
const AGAIN: Duration = Duration::from_millis(10);

type Answer = Result<Option<OwnedFd>, Errno>;

/// The way into a cube.
#[derive(Debug)]
pub struct Connects {
    /// Init's control socket.
    init: OwnedFd,
    /// Init, as the host sees it.
    pid: i32,
    open: Semaphore,
    next: AtomicU32,
    waiting: Mutex<HashMap<u32, oneshot::Sender<Answer>>>,
}

impl Connects {
    /// Over a copy of init's socket.
    #[must_use]
    pub fn new(init: OwnedFd, pid: i32) -> Self {
        let (open, waiting) = (Semaphore::new(OPEN_QUESTIONS), Mutex::new(HashMap::new()));
        Self { init, pid, open, next: AtomicU32::new(0), waiting }
    }

    /// Init's answer to question `number`. One that nobody waits for is dropped.
    pub fn answered(&self, number: u32, errno: i32, socket: Option<OwnedFd>) {
        let Some(sender) = self.lock().remove(&number) else { return };
        let answer = if errno == 0 { Ok(socket) } else { Err(Errno::from_raw_os_error(errno)) };
        let _told = sender.send(answer);
    }

    /// Init is gone: every question is answered with "no".
    pub fn over(&self) {
        self.open.close();
        self.lock().clear();
    }

    /// Connects to `end`. `last` is where it worked the last time, and is tried first.
    ///
    /// # Errors
    /// ECONNREFUSED when nothing listens there.
    pub async fn connect(
        &self,
        end: &CubeEnd,
        last: &Mutex<Option<IpAddr>>,
    ) -> Result<AsyncFd<OwnedFd>, Errno> {
        match end {
            CubeEnd::Unix(path) => self.unix(path).await,
            CubeEnd::Tcp(port) => {
                let known = *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let mut tried = Vec::with_capacity(3);
                let usual = [known, Some(Ipv4Addr::LOCALHOST.into()), Some(Ipv6Addr::LOCALHOST.into())];
                for address in usual.into_iter().flatten() {
                    if tried.contains(&address) {
                        continue;
                    }
                    tried.push(address);
                    if let Ok(socket) = self.tcp(SocketAddr::new(address, port.get())).await {
                        *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(address);
                        return Ok(socket);
                    }
                }
                // Not on loopback: perhaps on another address of its own.
                let listening = ports::sockets(self.pid).unwrap_or_default();
                let other = listening.iter().map(|socket| socket.address).find(|address| {
                    address.port() == port.get()
                        && !address.ip().is_unspecified()
                        && !tried.contains(&address.ip())
                });
                match other {
                    Some(address) => {
                        let socket = self.tcp(address).await?;
                        *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(address.ip());
                        Ok(socket)
                    }
                    None => Err(Errno::CONNREFUSED),
                }
            }
        }
    }

    async fn tcp(&self, to: SocketAddr) -> Result<AsyncFd<OwnedFd>, Errno> {
        let answer = self.ask(|number| Message::Connect { number, to }, &[]).await?;
        let socket = watched(answer.ok_or(Errno::PROTO)?)?;
        let connected = tokio::time::timeout(PATIENCE, async {
            let ready = socket.writable().await.map_err(|_| Errno::IO)?;
            drop(ready);
            sockopt::socket_error(&socket)?
        });
        connected.await.unwrap_or(Err(Errno::TIMEDOUT))?;
        Ok(socket)
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

    async fn ask(&self, message: impl FnOnce(u32) -> Message, fds: &[std::os::fd::BorrowedFd<'_>]) -> Answer {
        let _open = self.open.acquire().await.map_err(|_| Errno::PIPE)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.lock().insert(number, sender);
        if let Err(errno) = wire::send(self.init.as_fd(), message(number), fds) {
            self.lock().remove(&number);
            return Err(errno);
        }
        answer.await.unwrap_or(Err(Errno::PIPE))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, oneshot::Sender<Answer>>> {
        // Nothing panics while it is held; what is in it is whole.
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn watched(socket: OwnedFd) -> Result<AsyncFd<OwnedFd>, Errno> {
    aio::watched(socket).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
