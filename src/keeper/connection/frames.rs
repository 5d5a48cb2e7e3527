//! What goes over a client's connection: its first bytes, and frames.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::host::fdpass;
use crate::keeper::protocol::{self, Answer, HEAD, Kind, parse_head};
use crate::keeper::state::{Keeper, Piece};
use crate::store::log::Stream;

/// What waits to be written to a client.
pub(super) type Queue = mpsc::Sender<Piece>;

/// The client's first eight bytes, with the streams that it passes.
pub(super) async fn preamble(stream: &UnixStream) -> io::Result<(u8, [Option<OwnedFd>; 3])> {
    let mut bytes = [0; 8];
    let (count, fds) =
        stream.async_io(Interest::READABLE, || fdpass::receive(stream.as_fd(), &mut bytes)).await?;
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let (version, mask) = protocol::parse_preamble(bytes).filter(|_| count == 8).ok_or_else(bad)?;
    let mut fds = fds.into_iter();
    Ok((version, [0, 1, 2].map(|bit| if mask >> bit & 1 == 1 { fds.next() } else { None })))
}

pub(super) async fn say(queue: &Queue, answer: Answer) {
    // The client is gone: nobody to tell.
    let _told = queue.send(Piece::Answer(Rc::new(answer))).await;
}

/// Writes what is queued until the queue closes or the client goes.
pub(super) async fn write(
    keeper: Rc<Keeper>,
    mut writer: OwnedWriteHalf,
    mut pieces: mpsc::Receiver<Piece>,
    lagged: Rc<Cell<bool>>,
) {
    while let Some(piece) = pieces.recv().await {
        keeper.room.notify_waiters();
        let result = match piece {
            Piece::Bytes(stream, bytes) => {
                keeper.moved.set(keeper.moved.get().wrapping_add(1));
                let kind = if stream == Stream::Err { Kind::ErrorOutput } else { Kind::Output };
                frame(&mut writer, kind, &bytes).await
            }
            Piece::Answer(answer) => match serde_json::to_vec(&*answer) {
                Ok(bytes) => frame(&mut writer, Kind::Answer, &bytes).await,
                Err(_) => return,
            },
        };
        if result.is_err() {
            break;
        }
        if lagged.get() && pieces.is_empty() {
            lagged.set(false);
            let repaint = repaint(&keeper);
            if frame(&mut writer, Kind::Output, &repaint).await.is_err() {
                break;
            }
        }
    }
    pieces.close();
    keeper.room.notify_waiters();
}

async fn frame(writer: &mut OwnedWriteHalf, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(&protocol::head(kind, bytes.len())).await?;
    writer.write_all(bytes).await
}

/// The entry's screen as bytes, on a cleared terminal.
pub(super) fn repaint(keeper: &Keeper) -> Vec<u8> {
    let mut bytes = b"\x1b[!p\x1b[H\x1b[2J".to_vec();
    if let Some(screen) = keeper.screen.borrow_mut().as_mut() {
        bytes.extend(crate::term::replay(screen));
    }
    bytes
}

/// One frame; `None` when the client is gone or lies. Safe to cancel only between frames: a cancelled read belongs to a
/// session that has ended, after which nothing is read.
pub(super) async fn next_frame(reader: &mut OwnedReadHalf) -> Option<(Kind, Vec<u8>)> {
    let mut head = [0; HEAD];
    reader.read_exact(&mut head).await.ok()?;
    let (kind, length) = parse_head(head)?;
    let mut body = Vec::new();
    // Grows with what arrives: a lie about the length costs the liar, not us.
    reader.take(length as u64).read_to_end(&mut body).await.ok()?;
    (body.len() == length).then_some((kind, body))
}
