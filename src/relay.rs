//! Bytes between two sockets, both ways, by splice(2): they never enter this process.
//!
//! What one side closes is closed on the other (half-close kept), what one side resets is reset on the other, and a side
//! that does not read holds the other up: nothing is kept here but what is in one pipe. A connection has a pipe only
//! while bytes move, so many idle ones cost little. Knows nothing of who connects to whom, and decides nothing.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::unix::AsyncFd;

/// Bytes in a pipe, if the host allows (pipe(7), `pipe-max-size`); otherwise what it gives.
const PIPE: usize = 1 << 20;
/// Pipes that a thread keeps for the next connection.
const SPARE: usize = 16;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// Bytes that a relay has moved so far.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the first to the second.
    pub forth: AtomicU64,
    /// From the second to the first.
    pub back: AtomicU64,
}

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides closed.
    Closed,
    /// One side was reset, and the other one is when its socket is dropped.
    Reset,
}

/// Moves bytes until both sides have closed or one is reset.
pub async fn relay(first: &AsyncFd<OwnedFd>, second: &AsyncFd<OwnedFd>, traffic: &Traffic) -> End {
    let mut forth = pin!(one_way(first, second, &traffic.forth));
    let mut back = pin!(one_way(second, first, &traffic.back));
    let (mut forth_end, mut back_end) = (None, None);
    while forth_end.is_none() || back_end.is_none() {
        let end = tokio::select! {
            end = &mut forth, if forth_end.is_none() => *forth_end.insert(end),
            end = &mut back, if back_end.is_none() => *back_end.insert(end),
        };
        // A side that cannot be read has been reset. One that cannot be written may still have said something: it is
        // read to its end.
        if end == Way::Unreadable {
            break;
        }
    }
    if forth_end == Some(Way::Closed) && back_end == Some(Way::Closed) {
        return End::Closed;
    }
    reset_on_drop(first);
    reset_on_drop(second);
    End::Reset
}

/// Lets a TCP socket say "reset" instead of "closed" when it is dropped: what is refused is refused at once.
pub fn reset_on_drop(socket: &impl AsFd) {
    // A unix socket knows no reset; its peer sees the end.
    let _refused = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// How one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Closed,
    Unreadable,
    Unwritable,
}

async fn one_way(from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>, moved: &AtomicU64) -> Way {
    let mut held: Option<Pipe> = None;
    loop {
        let Ok(mut ready) = from.readable().await else { return Way::Unreadable };
        let pipe = match held.take().map_or_else(Pipe::take, Ok) {
            Ok(pipe) => held.insert(pipe),
            // Out of descriptors: this connection cannot go on, and its peers shall know.
            Err(_) => return Way::Unreadable,
        };
        match splice(from.get_ref(), None, &pipe.write, None, PIPE, FLAGS) {
            Ok(0) => {
                give_back(held);
                // Whoever is gone already needs not be told.
                let _told = shutdown(to.get_ref(), Shutdown::Write);
                return Way::Closed;
            }
            Ok(count) => {
                if !drain(&pipe.read, to, count, moved).await {
                    return Way::Unwritable;
                }
            }
            Err(Errno::AGAIN) => {
                ready.clear_ready();
                give_back(held.take());
            }
            Err(Errno::INTR) => {}
            Err(_) => return Way::Unreadable,
        }
    }
}

/// Writes all of what the pipe holds; false when nobody reads it any more.
async fn drain(pipe: &OwnedFd, to: &AsyncFd<OwnedFd>, mut left: usize, moved: &AtomicU64) -> bool {
    while left > 0 {
        let Ok(mut ready) = to.writable().await else { return false };
        match splice(pipe, None, to.get_ref(), None, left, FLAGS) {
            Ok(0) => return false,
            Ok(count) => {
                left = left.saturating_sub(count);
                moved.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

thread_local! {
    /// Empty pipes.
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

impl Pipe {
    fn take() -> Result<Self, Errno> {
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Each user may have so many large pipes; a smaller one does too.
        let _size = fcntl_setpipe_size(&write, PIPE);
        Ok(Self { read, write })
    }
}

/// An empty pipe for the next who has something to move.
fn give_back(pipe: Option<Pipe>) {
    let Some(pipe) = pipe else { return };
    POOL.with_borrow_mut(|pool| {
        if pool.len() < SPARE {
            pool.push(pipe);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread;

    /// Two clients with a relay between them, on a thread of its own.
    fn joined() -> (TcpStream, TcpStream, Arc<Traffic>, thread::JoinHandle<End>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("address");
        let pair = || {
            let client = TcpStream::connect(address).expect("connected");
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            (client, OwnedFd::from(listener.accept().expect("accepted").0))
        };
        let ((left, ours), (right, theirs)) = (pair(), pair());
        let traffic = Arc::new(Traffic::default());
        let counted = Arc::clone(&traffic);
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let ours = crate::host::aio::watched(ours).expect("watched");
                let theirs = crate::host::aio::watched(theirs).expect("watched");
                relay(&ours, &theirs, &counted).await
            })
        });
        (left, right, traffic, thread)
    }

    #[test]
    fn a_half_closed_side_is_still_answered() {
        let (mut left, mut right, traffic, thread) = joined();
        left.write_all(b"question").expect("written");
        left.shutdown(std::net::Shutdown::Write).expect("closed");
        let mut heard = String::new();
        right.read_to_string(&mut heard).expect("its end comes through");
        right.write_all(b"a longer answer").expect("written");
        drop(right);
        let mut answer = String::new();
        left.read_to_string(&mut answer).expect("its end comes through");
        assert_eq!((heard.as_str(), answer.as_str()), ("question", "a longer answer"));
        assert_eq!(thread.join().expect("joined"), End::Closed);
        let moved = (traffic.forth.load(Ordering::Relaxed), traffic.back.load(Ordering::Relaxed));
        assert_eq!(moved, (8, 15));
    }

    #[test]
    fn a_reset_is_passed_on() {
        let (left, mut right, _, thread) = joined();
        reset_on_drop(&left);
        drop(left);
        let error = right.read(&mut [0; 8]).expect_err("no orderly end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(thread.join().expect("joined"), End::Reset);
    }

    #[test]
    fn who_does_not_read_holds_the_other_up() {
        let (mut left, right, traffic, thread) = joined();
        left.set_write_timeout(Some(Duration::from_millis(300))).expect("timeout");
        let block = vec![7; 1 << 20];
        let mut written = 0_u64;
        // Kernel buffers and one pipe, then it stops.
        while let Ok(count) = left.write(&block) {
            written += count as u64;
            assert!(written < 64 << 20, "nothing holds it up");
        }
        assert!(traffic.forth.load(Ordering::Relaxed) <= written);
        drop(right);
        drop(left);
        assert_eq!(thread.join().expect("joined"), End::Reset);
    }

    #[test]
    fn what_was_said_before_a_reset_arrives() {
        let (mut left, mut right, _, thread) = joined();
        // An answer, then a close with the question unread: the kernel answers that with a reset.
        left.write_all(&[1; 100]).expect("written");
        thread::sleep(Duration::from_millis(20));
        right.write_all(b"no").expect("written");
        drop(right);
        let mut answer = [0; 2];
        left.read_exact(&mut answer).expect("the answer");
        assert_eq!(&answer, b"no");
        assert_eq!(thread.join().expect("joined"), End::Reset);
    }
}
