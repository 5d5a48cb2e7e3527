//! Relays: bytes between two sockets, through a buffer of this thread.
//!
//! Each direction on its own: when one end has said all, the other is told so and goes on
//! talking. A buffer is borrowed while bytes are under way and given back when all of them have
//! arrived, so that a connection on which nothing happens costs two descriptors and its few
//! hundred bytes here. A reader that is slow stops its writer: no more than a buffer is held.
//!
//! Not by splice(2): that spares this thread half of its work and costs the two ends more than it
//! spares, because pages that travel through a pipe are not used again by who filled them. Between
//! sockets of one host a copy through a buffer that stays in the cache is a third faster, and all
//! processors together work a fifth less (docs/BENCHMARKS.md).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::{read, write};
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

/// A large buffer: what is read at once decides how often somebody must be woken.
const LARGE: usize = 512 << 10;
/// A small one, when slow readers hold the large ones.
const SMALL: usize = 16 << 10;
/// Large buffers at once, and all of them: what slow readers can make us hold stays below 48 MiB.
const LARGE_MOST: usize = 32;
const MOST: usize = 2048;
/// Buffers of each kind that are kept for the next bytes.
const LARGE_KEPT: usize = 8;
const SMALL_KEPT: usize = 16;
/// Rounds of one direction before others have their turn.
const ROUNDS: usize = 8;

/// A socket that the runtime waits for.
pub trait Socket: AsFd {
    /// As [`TcpStream::poll_read_ready`].
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// As [`TcpStream::poll_write_ready`].
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// As [`TcpStream::try_io`].
    ///
    /// # Errors
    /// What `f` says; `WouldBlock` without trying when the socket is known not to be ready.
    fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R>;
}

macro_rules! sockets {
    ($($type:ty),+) => { $(impl Socket for $type {
        fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_read_ready(cx)
        }
        fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_write_ready(cx)
        }
        fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
            self.try_io(interest, f)
        }
    })+ };
}
sockets!(TcpStream, UnixStream);

impl Socket for AsyncFd<OwnedFd> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The guard only says that it may be ready, which is what `try_io` finds out.
        Self::poll_read_ready(self, cx).map_ok(drop)
    }
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_write_ready(self, cx).map_ok(drop)
    }
    fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.try_io(interest, |_| f())
    }
}

/// Bytes of a connection, counted when they have arrived.
#[derive(Debug, Default)]
pub struct Flow {
    /// From the first socket to the second: what left the cube.
    pub sent: AtomicU64,
    /// From the second to the first.
    pub received: AtomicU64,
}

/// How long nothing may happen.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// While both ends may still speak.
    pub whole: Duration,
    /// Once one of them has said all.
    pub half: Duration,
}

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Both ends have said all, and all of it has arrived.
    Done,
    /// One end broke off; the other is to be reset ([`reset`]).
    Broken,
    /// Nothing happened for too long.
    Idle,
}

/// Buffers for the relays of one thread.
#[derive(Clone, Default)]
pub struct Buffers(Rc<RefCell<Kept>>);

#[derive(Default)]
struct Kept {
    spare: Vec<Vec<u8>>,
    spare_large: Vec<Vec<u8>>,
    lent: usize,
    lent_large: usize,
    waiting: Vec<Waker>,
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.0.borrow();
        let spare = kept.spare.len() + kept.spare_large.len();
        write!(f, "Buffers {{ lent: {}, spare: {spare} }}", kept.lent)
    }
}

impl Buffers {
    /// None yet; they are made when bytes come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many are in use.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.0.borrow().lent
    }

    /// One of them, or, where there are too many, the next that is given back.
    fn borrow(&self, cx: &mut Context<'_>) -> Poll<Loan> {
        let mut kept = self.0.borrow_mut();
        if kept.lent >= MOST {
            kept.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        kept.lent += 1;
        let is_large = kept.lent_large < LARGE_MOST;
        let bytes = if is_large {
            kept.lent_large += 1;
            kept.spare_large.pop().unwrap_or_else(|| Vec::with_capacity(LARGE))
        } else {
            kept.spare.pop().unwrap_or_else(|| Vec::with_capacity(SMALL))
        };
        drop(kept);
        Poll::Ready(Loan { bytes, at: 0, is_large, buffers: self.clone() })
    }
}

/// A buffer in use.
struct Loan {
    bytes: Vec<u8>,
    /// So many of them have gone.
    at: usize,
    is_large: bool,
    buffers: Buffers,
}

impl Loan {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut kept = self.buffers.0.borrow_mut();
        kept.lent -= 1;
        kept.lent_large -= usize::from(self.is_large);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let (spare, most) =
            if self.is_large { (&mut kept.spare_large, LARGE_KEPT) } else { (&mut kept.spare, SMALL_KEPT) };
        if spare.len() < most {
            spare.push(bytes);
        }
        let waiting = std::mem::take(&mut kept.waiting);
        drop(kept);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    loan: Option<Loan>,
    ended: bool,
    done: bool,
    /// Its reader broke off.
    broken: bool,
}

impl Way {
    /// Moves what can be moved. Ready when all has arrived and the other end was told.
    fn poll(
        &mut self,
        (from, to): (&impl Socket, &impl Socket),
        (buffers, count): (&Buffers, &AtomicU64),
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            if self.loan.as_ref().is_none_or(|loan| loan.rest().is_empty()) {
                if self.ended {
                    self.loan = None;
                    self.done = true;
                    // It may have gone meanwhile: then there is nobody to tell.
                    let _told = shutdown(to, Shutdown::Write);
                    return Poll::Ready(Ok(()));
                }
                match from.poll_read_ready(cx) {
                    Poll::Ready(ready) => ready?,
                    Poll::Pending => {
                        self.loan = None;
                        return Poll::Pending;
                    }
                }
                if self.loan.is_none() {
                    self.loan = Some(ready!(buffers.borrow(cx)));
                }
                self.fill(from, moved)?;
            } else {
                if self.empty(to, count, moved).is_err() {
                    // It takes no more, but may have said something before: that is still carried.
                    self.loan = None;
                    (self.broken, self.done) = (true, true);
                    return Poll::Ready(Ok(()));
                }
                if self.loan.as_ref().is_some_and(|loan| !loan.rest().is_empty()) {
                    ready!(to.poll_write_ready(cx))?;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn fill(&mut self, from: &impl Socket, moved: &mut bool) -> io::Result<()> {
        let Some(Loan { bytes, at, .. }) = &mut self.loan else { return Ok(()) };
        bytes.clear();
        *at = 0;
        let taken = from.try_io(Interest::READABLE, || Ok(read(from, spare_capacity(bytes))?));
        match taken {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        *moved = true;
        Ok(())
    }

    fn empty(&mut self, to: &impl Socket, count: &AtomicU64, moved: &mut bool) -> io::Result<()> {
        let Some(loan) = &mut self.loan else { return Ok(()) };
        match to.try_io(Interest::WRITABLE, || Ok(write(to, loan.rest())?)) {
            Ok(given) => {
                loan.at += given;
                count.fetch_add(given as u64, Ordering::Relaxed);
                *moved = true;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Carries bytes both ways until both ends have said all, one breaks off, or nothing happens for
/// too long. `inside` is the cube's end.
pub async fn relay<A: Socket, B: Socket>(
    inside: &A,
    outside: &B,
    flow: &Flow,
    buffers: &Buffers,
    patience: Patience,
) -> Over {
    let (mut out, mut back) = (Way::default(), Way::default());
    let mut last = Instant::now();
    let mut clock = std::pin::pin!(tokio::time::sleep_until(last + patience.whole));
    poll_fn(|cx| {
        let mut moved = false;
        let first = out.poll((inside, outside), (buffers, &flow.sent), &mut moved, cx);
        let second = back.poll((outside, inside), (buffers, &flow.received), &mut moved, cx);
        match (first, second) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(Over::Broken),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) if out.broken || back.broken => {
                return Poll::Ready(Over::Broken);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Over::Done),
            _ => {}
        }
        if moved {
            last = Instant::now();
        }
        let limit = if out.done || back.done { patience.half } else { patience.whole };
        idle(clock.as_mut(), last + limit, cx)
    })
    .await
}

/// Ready when `deadline` is over. The clock is only set again when it rings, or when it is late.
fn idle(mut clock: std::pin::Pin<&mut Sleep>, deadline: Instant, cx: &mut Context<'_>) -> Poll<Over> {
    if clock.deadline() > deadline {
        clock.as_mut().reset(deadline);
    }
    while clock.as_mut().poll(cx).is_ready() {
        if Instant::now() >= deadline {
            return Poll::Ready(Over::Idle);
        }
        clock.as_mut().reset(deadline);
    }
    Poll::Pending
}

/// Makes the closing of `socket` a reset: what waits in it is thrown away (socket(7), `SO_LINGER`).
pub fn reset(socket: &impl AsFd) {
    // Closed is closed: without it the end is only less clear.
    let _set = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
