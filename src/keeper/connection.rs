//! One client of a keeper, from its first bytes to its last.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::termios::Winsize;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

mod begin;
mod exec;
mod frames;
mod hold;

pub(super) use begin::start;
use frames::{Queue, next_frame, preamble, repaint, say, write};

use super::protocol::{self, Answer, Ask, Kind, Status};
use super::state::{Keeper, Piece, Viewer};
use super::{forward, ground, input, net, output, stats};
use crate::jail::wire::{self, Message};
use crate::model::{ExitReason, Keep};
use crate::plan::changes::Ground;
use crate::store::log::Stream;

/// Serves a client that has just connected: preamble, then frames.
pub async fn accept(keeper: Rc<Keeper>, stream: UnixStream) {
    let Ok((version, direct)) = preamble(&stream).await else { return };
    let (reader, writer) = stream.into_split();
    let (queue, pieces) = output::queue();
    let lagged = Rc::new(Cell::new(false));
    let write = tokio::task::spawn_local(write(Rc::clone(&keeper), writer, pieces, Rc::clone(&lagged)));
    let welcome = Answer::Welcome { version: protocol::VERSION, id: keeper.plan.id.clone() };
    say(&queue, welcome).await;
    if version == protocol::VERSION {
        let mut connection = Connection {
            keeper,
            reader,
            queue,
            lagged,
            direct,
            viewer: None,
            held: Vec::new(),
            froze: None,
            held_guest: None,
        };
        connection.serve().await;
        connection.leave().await;
    } else {
        let message = format!(
            "this cube's keeper speaks protocol {}, the command speaks {version}: they are of different versions of tripmine",
            protocol::VERSION
        );
        say(&queue, Answer::Refused { message, hints: vec!["use the version that started the cube".into()] })
            .await;
        drop(queue);
    }
    let _written = write.await;
}

/// The face that launched the cube: attached to the entry from the first byte.
pub async fn serve_launcher(keeper: Rc<Keeper>, stream: UnixStream) {
    let (reader, writer) = stream.into_split();
    let (queue, pieces) = output::queue();
    let lagged = Rc::new(Cell::new(false));
    let write = tokio::task::spawn_local(write(Rc::clone(&keeper), writer, pieces, Rc::clone(&lagged)));
    let mut connection = Connection {
        keeper,
        reader,
        queue,
        lagged,
        direct: [None, None, None],
        viewer: None,
        held: Vec::new(),
        froze: None,
        held_guest: None,
    };
    let forwards = connection.keeper.forwards.list();
    let started = Answer::Started { pid: 2, layers: Vec::new(), forwards };
    // The queue is empty, so this never fails; and no output can come before it.
    let _told = connection.queue.try_send(Piece::Answer(Rc::new(started)));
    connection.view(true, false);
    connection.serve().await;
    connection.leave().await;
    drop(connection);
    let _written = write.await;
}

fn refused(message: String) -> Answer {
    Answer::Refused { message, hints: Vec::new() }
}

/// The refusal of what a cube in place cannot give, whoever asks.
fn not_in_place(keeper: &Keeper, ask: &Ask) -> Option<Answer> {
    keeper.plan.in_place.as_ref()?;
    let (what, why) = match ask {
        Ask::Ground | Ask::Freeze => {
            ("changes or a snapshot", "it has no layer of its own above the system, which it never writes")
        }
        Ask::Forward { .. } => ("a forward", "it has no network of its own to lead into"),
        _ => return None,
    };
    let message = format!("the jail `landlock` cannot give {what}: {why}");
    let hints = vec!["launch it with `--jail container`, where this host allows user namespaces".to_owned()];
    Some(Answer::Refused { message, hints })
}

struct Connection {
    keeper: Rc<Keeper>,
    reader: OwnedReadHalf,
    queue: Queue,
    lagged: Rc<Cell<bool>>,
    direct: [Option<OwnedFd>; 3],
    viewer: Option<u32>,
    /// Forwards that go with this connection.
    held: Vec<u32>,
    /// It holds the cube still, under this number.
    froze: Option<u32>,
    /// And the guest in it.
    held_guest: Option<super::machine::Hold>,
}

impl Connection {
    async fn serve(&mut self) {
        while let Some((kind, body)) = self.next().await {
            let done = match kind {
                Kind::Ask => match serde_json::from_slice(&body) {
                    Ok(ask) => self.carry_out(ask).await,
                    Err(_) => return,
                },
                Kind::Input => {
                    self.type_in(&body).await;
                    false
                }
                Kind::InputEnd => {
                    if self.is_writer() {
                        self.keeper.stdin.borrow_mut().take();
                    }
                    false
                }
                // A keeper's own kinds from a client: a peer that lies is cut off.
                _ => return,
            };
            if done {
                return;
            }
        }
    }

    async fn next(&mut self) -> Option<(Kind, Vec<u8>)> {
        next_frame(&mut self.reader).await
    }

    fn is_writer(&self) -> bool {
        self.viewer.is_some() && self.keeper.writer.get() == self.viewer
    }

    /// True when the connection has nothing more to do.
    async fn carry_out(&mut self, ask: Ask) -> bool {
        if let Some(answer) = not_in_place(&self.keeper, &ask) {
            say(&self.queue, answer).await;
            return false;
        }
        match ask {
            // Only the first message on the keeper's standard input may be one.
            Ask::Attach { rows, cols, write, take_over } => {
                let writer = self.view(write, take_over);
                self.keeper.event("attached", serde_json::json!({ "writes": writer }));
                if writer {
                    self.resize(rows, cols);
                }
                let tty = self.keeper.record.borrow().tty;
                let (rows, cols) = self.size();
                say(&self.queue, Answer::Attached { tty, writer, rows, cols }).await;
                if tty {
                    let repaint: Rc<[u8]> = repaint(&self.keeper).into();
                    let _sent = self.queue.send(Piece::Bytes(Stream::Tty, repaint)).await;
                }
            }
            Ask::Resize { rows, cols } => {
                if self.is_writer() {
                    self.resize(rows, cols);
                }
            }
            Ask::Status => {
                let mut usage = stats::usage(self.keeper.pid);
                usage.age_ms = u64::try_from(self.keeper.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                let viewers = u32::try_from(self.keeper.viewers.borrow().len()).unwrap_or(u32::MAX);
                let record = self.keeper.record.borrow().clone();
                let forwards = self.keeper.forwards.list();
                let status = Status { record, viewers, usage, forwards };
                say(&self.queue, Answer::Status(Box::new(status))).await;
            }
            Ask::Net(ask) => {
                let answer = net::answer(&self.keeper, ask);
                say(&self.queue, answer).await;
            }
            Ask::Stop { grace_ms } => {
                self.keeper.end(ExitReason::Stopped, grace_ms);
                self.wait_over().await;
                return true;
            }
            Ask::Signal { signal } => {
                let message = Message::Signal { session: 0, signal };
                let answer = match wire::send(self.keeper.init.as_fd(), message, &[]) {
                    Ok(()) => Answer::Done,
                    Err(errno) => {
                        Answer::Refused { message: format!("cannot send the signal: {errno}"), hints: vec![] }
                    }
                };
                say(&self.queue, answer).await;
            }
            Ask::Wait => {
                self.wait_over().await;
                return true;
            }
            Ask::Ground => {
                let answer = match (self.direct[0].take(), &self.keeper.opened) {
                    (Some(socket), Some(opened)) => match ground::hand_out(opened, &socket) {
                        Ok(()) => Answer::Ground(Box::new(Ground::of(&self.keeper.plan))),
                        Err(error) => refused(format!("cannot pass the cube's upper layer: {error}")),
                    },
                    _ => refused("no socket came along".into()),
                };
                say(&self.queue, answer).await;
            }
            Ask::Freeze => {
                let answer = self.freeze().await;
                say(&self.queue, answer).await;
            }
            Ask::Thaw => {
                self.thaw();
                say(&self.queue, Answer::Done).await;
            }
            Ask::Pause => match super::machine::pause(&self.keeper).await {
                Ok(hold) => {
                    self.held_guest = Some(hold);
                    self.wait_over().await;
                    return true;
                }
                Err((message, hints)) => say(&self.queue, Answer::Refused { message, hints }).await,
            },
            Ask::Rename { name } => {
                let answer = if self.keeper.plan.keep == Keep::Durable {
                    self.keeper.event("renamed", name.to_string());
                    self.keeper.record.borrow_mut().name = Some(name);
                    self.keeper.save();
                    Answer::Done
                } else {
                    Answer::Refused {
                        message: "only a cube that is kept has a name".into(),
                        hints: vec!["launch it with `--keep NAME`".into()],
                    }
                };
                say(&self.queue, answer).await;
            }
            Ask::Exec { argv, env, cwd, rows, cols } => {
                self.exec(&argv, env, cwd, rows, cols).await;
                return true;
            }
            Ask::Forward { map, exact, kept } => {
                let answer = forward::ask::open(&self.keeper, map, exact, kept, &mut self.held);
                say(&self.queue, answer).await;
            }
            Ask::Forwards => {
                let forwards = self.keeper.forwards.list();
                say(&self.queue, Answer::Forwards { forwards }).await;
            }
            Ask::Unforward { id } => {
                let answer = forward::ask::close(&self.keeper, id).await;
                say(&self.queue, answer).await;
            }
        }
        false
    }

    /// Attaches to the entry's output. True when this client types.
    fn view(&mut self, write: bool, take_over: bool) -> bool {
        let id = self.viewer.unwrap_or_else(|| self.keeper.number());
        if self.viewer.is_none() {
            self.viewer = Some(id);
            let viewer = Viewer { id, queue: self.queue.clone(), lagged: Rc::clone(&self.lagged) };
            self.keeper.viewers.borrow_mut().push(viewer);
        }
        let taken = self.keeper.writer.get();
        if !write || (taken.is_some() && taken != Some(id) && !take_over) {
            return false;
        }
        if let Some(old) = taken.filter(|old| *old != id) {
            let viewers = self.keeper.viewers.borrow();
            if let Some(viewer) = viewers.iter().find(|viewer| viewer.id == old) {
                let _told = viewer.queue.try_send(Piece::Answer(Rc::new(Answer::WriterLost)));
            }
        }
        self.keeper.writer.set(Some(id));
        self.keeper.room.notify_waiters();
        true
    }

    async fn leave(&mut self) {
        for id in std::mem::take(&mut self.held) {
            // Another client may have removed it.
            let _closed = forward::ask::close(&self.keeper, id).await;
        }
        self.thaw();
        if let Some(id) = self.viewer.take() {
            self.keeper.viewers.borrow_mut().retain(|viewer| viewer.id != id);
            if self.keeper.writer.get() == Some(id) {
                self.keeper.writer.set(None);
            }
            self.keeper.room.notify_waiters();
            if !*self.keeper.over.borrow() {
                self.keeper.event("left", serde_json::Value::Null);
            }
        }
    }

    fn resize(&self, rows: u16, cols: u16) {
        if rows == 0 || cols == 0 {
            return;
        }
        if let Some(master) = self.keeper.master.borrow().as_ref() {
            let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
            let _sized = rustix::termios::tcsetwinsize(master.get_ref(), size);
        }
        if let Some(screen) = self.keeper.screen.borrow_mut().as_mut() {
            screen.resize(rows, cols);
        }
        for viewer in self.keeper.viewers.borrow().iter().filter(|viewer| Some(viewer.id) != self.viewer) {
            // One that lags misses it, and sees a screen of another size until it attaches again.
            let _told = viewer.queue.try_send(Piece::Answer(Rc::new(Answer::Resized { rows, cols })));
        }
    }

    /// Rows and columns of the cube's terminal; zeros without one.
    fn size(&self) -> (u16, u16) {
        let number = |cells: usize| u16::try_from(cells).unwrap_or(u16::MAX);
        let screen = self.keeper.screen.borrow();
        screen.as_ref().map_or((0, 0), |screen| (number(screen.size().0), number(screen.size().1)))
    }

    async fn type_in(&self, bytes: &[u8]) {
        if !self.is_writer() {
            return;
        }
        self.terminal_is_there().await;
        let target = self.keeper.master.borrow().clone().or_else(|| self.keeper.stdin.borrow().clone());
        if let Some(fd) = target
            && input::write_all(&fd, bytes).await.is_err()
        {
            self.keeper.stdin.borrow_mut().take();
        }
    }

    /// What is typed before the entry has its terminal waits for it, as on any terminal.
    async fn terminal_is_there(&self) {
        let mut over = self.keeper.over.subscribe();
        loop {
            let room = self.keeper.room.notified();
            let expected = self.keeper.record.borrow().tty && self.keeper.master.borrow().is_none();
            if !expected || *over.borrow_and_update() {
                return;
            }
            tokio::select! { () = room => {}, _changed = over.changed() => {} }
        }
    }

    async fn wait_over(&self) {
        let mut over = self.keeper.over.subscribe();
        while !*over.borrow_and_update() {
            if over.changed().await.is_err() {
                break;
            }
        }
        let exit = self.keeper.record.borrow().exit.clone();
        if let Some(exit) = exit {
            say(&self.queue, Answer::Exited(exit)).await;
        }
    }
}
