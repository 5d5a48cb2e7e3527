//! Output of the entry on its way to the log, the screen model and the clients.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::input;
use super::protocol::Answer;
use super::state::{Keeper, Piece, now_ms};
use crate::jail::taken_out::{Part, taken_out};
use crate::model::ExitRecord;
use crate::store::log::Stream;

/// Bytes that are read before they are passed on.
pub const CHUNK: usize = 64 * 1024;
/// Pieces that may wait for one client: 2 MiB at most.
const QUEUE: usize = 32;

/// A queue for one client.
#[must_use]
pub fn queue() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(if taken_out(Part::Queue) { QUEUE << 20 } else { QUEUE })
}

/// How long who takes nothing is waited for when the end was asked for.
const HURRY: Duration = Duration::from_secs(2);
/// And each time after that.
const HURRIED: Duration = Duration::from_millis(50);

/// How long output may be read and not be in the log's file.
const UNWRITTEN: Duration = Duration::from_millis(100);

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// The stream has ended after so many bytes.
    End(usize),
}

/// Reads what is there, up to the buffer's size. A terminal gives at most 4 KiB a read, so this asks until
/// it is empty.
fn fill(fd: &OwnedFd, buffer: &mut [u8]) -> Result<Read, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(fd, &mut buffer[filled..]) {
            Ok(0) => return Ok(Read::End(filled)),
            Ok(count) => filled += count,
            Err(Errno::AGAIN) if filled == 0 => return Err(Errno::AGAIN),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            // EIO: every slave of the terminal is closed.
            Err(_) => return Ok(Read::End(filled)),
        }
    }
    Ok(Read::Bytes(filled))
}

/// Waits for bytes and reads them.
pub async fn read(fd: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> Read {
    loop {
        let Ok(mut guard) = fd.readable().await else { return Read::End(0) };
        match fill(fd.get_ref(), buffer) {
            Err(_) => guard.clear_ready(),
            Ok(read) => return read,
        }
    }
}

/// Pumps one stream of the entry until it ends.
pub async fn pump(keeper: Rc<Keeper>, stream: Stream, fd: Rc<AsyncFd<OwnedFd>>) {
    let mut buffer = vec![0; CHUNK];
    // When what was read last must be in the log, for `logs -f` to see.
    let mut unwritten: Option<tokio::time::Instant> = None;
    loop {
        let deadline = keeper.screen.borrow().as_ref().and_then(crate::term::screen::Screen::sync_deadline);
        let read = match (deadline.filter(|_| stream == Stream::Tty), unwritten) {
            (None, None) => read(&fd, &mut buffer).await,
            (deadline, write_at) => tokio::select! {
                read = read(&fd, &mut buffer) => read,
                () = until(write_at) => {
                    keeper.log.borrow_mut().flush();
                    unwritten = None;
                    continue;
                }
                () = until(deadline.map(Into::into)) => {
                    let replies = keeper.screen.borrow_mut().as_mut().map(|screen| screen.flush_sync().to_cube);
                    answer(&fd, replies.unwrap_or_default()).await;
                    continue;
                }
            },
        };
        let (Read::Bytes(count) | Read::End(count)) = read;
        if count > 0 {
            let bytes = &buffer[..count];
            keeper.log.borrow_mut().append(now_ms(), stream, bytes);
            unwritten.get_or_insert_with(|| tokio::time::Instant::now() + UNWRITTEN);
            if stream == Stream::Tty {
                let replies = keeper.screen.borrow_mut().as_mut().map(|screen| screen.feed(bytes).to_cube);
                answer(&fd, replies.unwrap_or_default()).await;
            }
            if !keeper.viewers.borrow().is_empty() {
                distribute(&keeper, stream, &Rc::from(bytes)).await;
            }
        }
        if matches!(read, Read::End(_)) {
            return;
        }
    }
}

/// That moment; never when there is none.
async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Writes the screen model's answers to the cube's questions, as a terminal would.
async fn answer(fd: &AsyncFd<OwnedFd>, replies: Vec<u8>) {
    if !replies.is_empty() {
        // A cube that asks and does not read must not stop its own output: what does not fit is dropped.
        let _fits = tokio::time::timeout(Duration::from_millis(50), input::write_all(fd, &replies)).await;
    }
}

/// Gives a piece to every viewer. The one who types, and every viewer of a pipe, holds the cube back when slow; others
/// miss output and get the screen repainted.
async fn distribute(keeper: &Rc<Keeper>, stream: Stream, bytes: &Rc<[u8]>) {
    let viewers: Vec<u32> = keeper.viewers.borrow().iter().map(|viewer| viewer.id).collect();
    for id in viewers {
        loop {
            let room = keeper.room.notified();
            let full = {
                let viewers = keeper.viewers.borrow();
                let Some(viewer) = viewers.iter().find(|viewer| viewer.id == id) else { break };
                match viewer.queue.try_send(Piece::Bytes(stream, Rc::clone(bytes))) {
                    Ok(()) | Err(TrySendError::Closed(_)) => false,
                    Err(TrySendError::Full(_))
                        if !keeper.hurried.get()
                            && (keeper.writer.get() == Some(id) || stream != Stream::Tty) =>
                    {
                        true
                    }
                    Err(TrySendError::Full(_)) => {
                        viewer.lagged.set(true);
                        false
                    }
                }
            };
            if !full {
                break;
            }
            room.await;
        }
    }
}

/// What is left in a stream after its writers are dead. A client that does not read is waited for (a pager, say), unless the
/// end was asked for: nobody's stopped terminal keeps `stop` from ending a cube.
pub async fn drain(keeper: &Rc<Keeper>, pumps: Vec<tokio::task::JoinHandle<()>>) {
    let drained = async {
        for pump in pumps {
            let _ended = pump.await;
        }
    };
    // What is hurried passes the rest by, into the log.
    let hurried = async {
        hurry(keeper).await;
        std::future::pending::<()>().await;
    };
    tokio::select! { () = drained => {}, () = hurried => {} }
    keeper.log.borrow_mut().finish();
}

/// Tells every viewer how it ended.
pub async fn tell_viewers(keeper: &Rc<Keeper>, exit: &ExitRecord) {
    let viewers: Vec<_> = keeper.viewers.borrow().iter().map(|viewer| viewer.queue.clone()).collect();
    let told: Vec<_> = viewers
        .into_iter()
        .map(|queue| {
            let exited = Piece::Answer(Rc::new(Answer::Exited(exit.clone())));
            tokio::task::spawn_local(async move { drop(queue.send(exited).await) })
        })
        .collect();
    let told = async {
        for one in told {
            let _told = one.await;
        }
    };
    tokio::select! { () = told => {}, () = hurry(keeper) => {} }
}

/// True when the face that launched the cube has not taken all that it was sent.
pub fn launcher_is_stuck(keeper: &Keeper) -> bool {
    // It is the first viewer there ever is.
    let viewers = keeper.viewers.borrow();
    viewers.first().is_some_and(|viewer| viewer.queue.capacity() < viewer.queue.max_capacity())
}

/// Returns when the end was asked for and nobody takes what is left any more; never when nobody asked.
pub async fn hurry(keeper: &Keeper) {
    let mut stop = keeper.stop.subscribe();
    while stop.borrow_and_update().is_none() {
        if stop.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
    loop {
        let before = keeper.moved.get();
        tokio::time::sleep(if keeper.hurried.get() { HURRIED } else { HURRY }).await;
        if keeper.moved.get() == before {
            break;
        }
    }
    keeper.hurried.set(true);
    keeper.room.notify_waiters();
}

/// A descriptor made non-blocking and known to the runtime.
///
/// # Errors
/// As fcntl(2) or epoll_ctl(2).
pub fn watched(fd: OwnedFd) -> std::io::Result<Rc<AsyncFd<OwnedFd>>> {
    Ok(Rc::new(crate::host::aio::watched(fd)?))
}
