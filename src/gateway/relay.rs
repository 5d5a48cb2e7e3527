//! Relays: bytes between two sockets, by splice(2) through a pipe, never through this process.
//!
//! Each direction on its own: when one end has said all, the other is told so and goes on
//! talking. A pipe is borrowed while bytes are under way and given back when all of them have
//! arrived, so that a connection on which nothing happens costs two descriptors and its few
//! hundred bytes here. A reader that is slow stops its writer: no more than a pipe is held.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

/// What a large pipe holds, where the user's share of pipe memory allows it (pipe(7)). With it a
/// relay needs two thirds of the processor time that it needs with the usual 64 KiB.
const LARGE: usize = 1 << 20;
/// Large pipes at once: what slow readers can make the kernel hold stays below 32 MiB, and 128 MiB
/// in the others.
const LARGE_MOST: usize = 32;
/// Pipes that are kept for the next bytes.
const KEPT: usize = 32;
/// Pipes that exist at once. Whoever needs another one waits for one to be given back.
const MOST: usize = 2048;
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

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    large: bool,
}

/// Pipes for the relays of one thread.
#[derive(Clone, Default)]
pub struct Pipes(Rc<RefCell<Kept>>);

#[derive(Default)]
struct Kept {
    spare: Vec<Pipe>,
    lent: usize,
    large: usize,
    waiting: Vec<Waker>,
}

impl std::fmt::Debug for Pipes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.0.borrow();
        write!(f, "Pipes {{ lent: {}, spare: {} }}", kept.lent, kept.spare.len())
    }
}

impl Pipes {
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

    fn borrow(&self, cx: &mut Context<'_>) -> Poll<io::Result<Loan>> {
        let mut kept = self.0.borrow_mut();
        let pipe = match kept.spare.pop() {
            Some(pipe) => pipe,
            None if kept.lent >= MOST => {
                kept.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            None => match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
                Ok((read, write)) => {
                    // A user with many pipes gets small ones: slower, not wrong.
                    let large = kept.large < LARGE_MOST && fcntl_setpipe_size(&write, LARGE).is_ok();
                    kept.large += usize::from(large);
                    Pipe { read, write, large }
                }
                // Out of descriptors: as when there are too many, if any will come back.
                Err(_) if kept.lent > 0 => {
                    kept.waiting.push(cx.waker().clone());
                    return Poll::Pending;
                }
                Err(errno) => return Poll::Ready(Err(errno.into())),
            },
        };
        kept.lent += 1;
        Poll::Ready(Ok(Loan { pipe: Some(pipe), pipes: self.clone(), held: 0 }))
    }
}

/// A pipe in use. Given back when it is empty, closed otherwise.
struct Loan {
    pipe: Option<Pipe>,
    pipes: Pipes,
    /// Bytes in it.
    held: usize,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut kept = self.pipes.0.borrow_mut();
        kept.lent -= 1;
        if let Some(pipe) = self.pipe.take() {
            if self.held == 0 && kept.spare.len() < KEPT {
                kept.spare.push(pipe);
            } else {
                kept.large -= usize::from(pipe.large);
            }
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
        (pipes, count): (&Pipes, &AtomicU64),
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            if self.loan.as_ref().is_none_or(|loan| loan.held == 0) {
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
                ready!(self.pipe(pipes, cx))?;
                self.fill(from, moved)?;
            } else {
                if self.empty(to, count, moved).is_err() {
                    // It takes no more, but may have said something before: that is still carried.
                    self.loan = None;
                    (self.broken, self.done) = (true, true);
                    return Poll::Ready(Ok(()));
                }
                if self.loan.as_ref().is_some_and(|loan| loan.held > 0) {
                    ready!(to.poll_write_ready(cx))?;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn pipe(&mut self, pipes: &Pipes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.loan.is_none() {
            self.loan = Some(ready!(pipes.borrow(cx))?);
        }
        Poll::Ready(Ok(()))
    }

    fn fill(&mut self, from: &impl Socket, moved: &mut bool) -> io::Result<()> {
        let Some(Loan { pipe: Some(pipe), held, .. }) = &mut self.loan else { return Ok(()) };
        let take = || Ok(splice(from, None, &pipe.write, None, LARGE, FLAGS)?);
        match from.try_io(Interest::READABLE, take) {
            Ok(0) => self.ended = true,
            Ok(taken) => *held = taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        *moved = true;
        Ok(())
    }

    fn empty(&mut self, to: &impl Socket, count: &AtomicU64, moved: &mut bool) -> io::Result<()> {
        let Some(Loan { pipe: Some(pipe), held, .. }) = &mut self.loan else { return Ok(()) };
        let give = || Ok(splice(&pipe.read, None, to, None, *held, FLAGS)?);
        match to.try_io(Interest::WRITABLE, give) {
            Ok(given) => {
                *held -= given.min(*held);
                count.fetch_add(given as u64, Ordering::Relaxed);
                *moved = true;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// Carries bytes both ways until both ends have said all, one breaks off, or nothing happens for
/// too long. `inside` is the cube's end.
pub async fn relay<A: Socket, B: Socket>(
    inside: &A,
    outside: &B,
    flow: &Flow,
    pipes: &Pipes,
    patience: Patience,
) -> Over {
    let (mut out, mut back) = (Way::default(), Way::default());
    let mut last = Instant::now();
    let mut clock = std::pin::pin!(tokio::time::sleep_until(last + patience.whole));
    poll_fn(|cx| {
        let mut moved = false;
        let first = out.poll((inside, outside), (pipes, &flow.sent), &mut moved, cx);
        let second = back.poll((outside, inside), (pipes, &flow.received), &mut moved, cx);
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
