//! One client of a keeper, from its first bytes to its last.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

mod hold;

use super::output::{self, Read};
use super::protocol::{self, Answer, Ask, HEAD, Kind, Status, parse_head};
use super::state::{Ended, Keeper, Pending, Piece, Start, Viewer, now_ms};
use super::{end, forward, ground, input, net, stats};
use crate::host::fdpass;
use crate::jail::spawn::SpawnSpec;
use crate::jail::wire::{self, Message};
use crate::model::{EnvVar, ExitReason, ExitRecord, Keep};
use crate::plan::changes::Ground;
use crate::store::log::Stream;

type Queue = mpsc::Sender<Piece>;

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
        let mut connection =
            Connection { keeper, reader, queue, lagged, direct, viewer: None, held: Vec::new(), froze: None };
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

/// The client's first eight bytes, with the streams that it passes.
async fn preamble(stream: &UnixStream) -> io::Result<(u8, [Option<OwnedFd>; 3])> {
    let mut bytes = [0; 8];
    let (count, fds) =
        stream.async_io(Interest::READABLE, || fdpass::receive(stream.as_fd(), &mut bytes)).await?;
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let (version, mask) = protocol::parse_preamble(bytes).filter(|_| count == 8).ok_or_else(bad)?;
    let mut fds = fds.into_iter();
    Ok((version, [0, 1, 2].map(|bit| if mask >> bit & 1 == 1 { fds.next() } else { None })))
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

async fn say(queue: &Queue, answer: Answer) {
    // The client is gone: nobody to tell.
    let _told = queue.send(Piece::Answer(Rc::new(answer))).await;
}

/// Writes what is queued until the queue closes or the client goes.
async fn write(
    keeper: Rc<Keeper>,
    mut writer: OwnedWriteHalf,
    mut pieces: mpsc::Receiver<Piece>,
    lagged: Rc<Cell<bool>>,
) {
    while let Some(piece) = pieces.recv().await {
        keeper.room.notify_waiters();
        let result = match piece {
            Piece::Bytes(stream, bytes) => {
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
fn repaint(keeper: &Keeper) -> Vec<u8> {
    let mut bytes = b"\x1b[!p\x1b[H\x1b[2J".to_vec();
    if let Some(screen) = keeper.screen.borrow_mut().as_mut() {
        bytes.extend(crate::term::replay(screen));
    }
    bytes
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
        let target = self.keeper.master.borrow().clone().or_else(|| self.keeper.stdin.borrow().clone());
        if let Some(fd) = target
            && input::write_all(&fd, bytes).await.is_err()
        {
            self.keeper.stdin.borrow_mut().take();
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

    /// Another process in the cube, its streams on this connection.
    async fn exec(&mut self, argv: &[String], more: Vec<EnvVar>, cwd: Option<String>, rows: u16, cols: u16) {
        let keeper = Rc::clone(&self.keeper);
        let mut env = keeper.plan.env.clone();
        for variable in more {
            env.retain(|old| old.key != variable.key);
            env.push(variable);
        }
        let cwd = cwd.unwrap_or_else(|| keeper.plan.entry.cwd.clone());
        let refuse = |message: String| Answer::Refused { message, hints: Vec::new() };
        let spec = match SpawnSpec::new(argv, &env, &cwd) {
            Ok(spec) if !argv.is_empty() => spec,
            Ok(_) => return say(&self.queue, refuse("no command was given".into())).await,
            Err(error) => return say(&self.queue, refuse(error.to_string())).await,
        };
        let session = keeper.number();
        let direct = std::mem::take(&mut self.direct);
        let (ours, started, ended) = match start(&keeper, session, &spec, direct, rows, cols) {
            Ok(all) => all,
            Err(error) => return say(&self.queue, refuse(format!("cannot start it: {error}"))).await,
        };
        let begun = std::time::Instant::now();
        let master = match started.await {
            Ok(Start::Running(pid, master)) => {
                say(&self.queue, Answer::Started { pid, layers: Vec::new(), forwards: Vec::new() }).await;
                keeper.event("exec", serde_json::json!({ "session": session, "command": argv }));
                master
            }
            Ok(Start::Refused { errno, folder }) => {
                let why = end::not_started_why(&argv[0], folder.then_some(cwd.as_str()), errno);
                let exit = ExitRecord {
                    code: end::not_started_code(errno, folder),
                    signal: None,
                    reason: ExitReason::NotStarted(why),
                    ended_unix_ms: now_ms(),
                    ran: begun.elapsed(),
                };
                return say(&self.queue, Answer::Exited(exit)).await;
            }
            Err(_) => return say(&self.queue, refuse("the cube has ended".into())).await,
        };
        let status = self.session(session, master, ours, ended).await;
        let (code, signal) = status.map_or((137, Some(9)), end::decode);
        let reason = if status.is_some() { ExitReason::Ended } else { ExitReason::Stopped };
        let exit = ExitRecord { code, signal, reason, ended_unix_ms: now_ms(), ran: begun.elapsed() };
        say(&self.queue, Answer::Exited(exit)).await;
        keeper.event("exec-ended", serde_json::json!({ "session": session, "code": code }));
    }

    /// Moves bytes between this connection and a session until the session ends. A client that goes takes its
    /// session along: HUP, as a closed terminal does.
    async fn session(
        &mut self,
        session: u32,
        master: Option<OwnedFd>,
        ours: [Option<OwnedFd>; 3],
        mut ended: oneshot::Receiver<Ended>,
    ) -> Option<i32> {
        let keeper = Rc::clone(&self.keeper);
        let [stdin, stdout, stderr] = ours;
        let watch = |fd: Option<OwnedFd>| fd.and_then(|fd| output::watched(fd).ok());
        let (master, mut stdin) = (watch(master), watch(stdin));
        let mut pumps = Vec::new();
        let sources =
            [(Stream::Tty, master.clone()), (Stream::Out, watch(stdout)), (Stream::Err, watch(stderr))];
        for (stream, fd) in sources {
            if let Some(fd) = fd {
                pumps.push(tokio::task::spawn_local(pass_on(fd, stream, self.queue.clone())));
            }
        }
        let signal = |signal| {
            let _sent = wire::send(keeper.init.as_fd(), Message::Signal { session, signal }, &[]);
        };
        let status = loop {
            tokio::select! {
                biased;
                ended = &mut ended => break ended.ok().map(|ended| ended.status),
                frame = next_frame(&mut self.reader) => match frame {
                    Some((Kind::Input, bytes)) => {
                        if let Some(fd) = master.as_ref().or(stdin.as_ref()) {
                            tokio::select! {
                                written = input::write_all(fd, &bytes) => if written.is_err() { stdin = None },
                                ended = &mut ended => break ended.ok().map(|ended| ended.status),
                            }
                        }
                    }
                    Some((Kind::InputEnd, _)) => stdin = None,
                    Some((Kind::Ask, bytes)) => match serde_json::from_slice(&bytes) {
                        Ok(Ask::Resize { rows, cols }) if rows > 0 && cols > 0 => if let Some(master) = &master {
                            let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
                            let _sized = rustix::termios::tcsetwinsize(master.get_ref(), size);
                        },
                        Ok(Ask::Signal { signal: number }) => signal(number),
                        _ => {}
                    },
                    _ => {
                        signal(libc::SIGHUP);
                        signal(libc::SIGTERM);
                        signal(libc::SIGCONT);
                        break ended.await.ok().map(|ended| ended.status);
                    }
                },
            }
        };
        // What a background child still holds open is not waited for: only what is in the pipe already.
        for pump in pumps {
            if tokio::time::timeout(std::time::Duration::from_millis(100), pump).await.is_err() {
                continue;
            }
        }
        status
    }
}

/// One frame; `None` when the client is gone or lies. Safe to cancel only between frames: a cancelled read belongs to a
/// session that has ended, after which nothing is read.
async fn next_frame(reader: &mut OwnedReadHalf) -> Option<(Kind, Vec<u8>)> {
    let mut head = [0; HEAD];
    reader.read_exact(&mut head).await.ok()?;
    let (kind, length) = parse_head(head)?;
    let mut body = Vec::new();
    // Grows with what arrives: a lie about the length costs the liar, not us.
    reader.take(length as u64).read_to_end(&mut body).await.ok()?;
    (body.len() == length).then_some((kind, body))
}

async fn pass_on(fd: Rc<AsyncFd<OwnedFd>>, stream: Stream, queue: Queue) {
    let mut buffer = vec![0; output::CHUNK];
    loop {
        let read = output::read(&fd, &mut buffer).await;
        let (Read::Bytes(count) | Read::End(count)) = read;
        if count > 0 && queue.send(Piece::Bytes(stream, Rc::from(&buffer[..count]))).await.is_err() {
            return;
        }
        if matches!(read, Read::End(_)) {
            return;
        }
    }
}

type Started = ([Option<OwnedFd>; 3], oneshot::Receiver<Start>, oneshot::Receiver<Ended>);

/// Asks init to start `spec`; our ends of its pipes, and where its start and its end are told.
fn start(
    keeper: &Keeper,
    session: u32,
    spec: &SpawnSpec,
    direct: [Option<OwnedFd>; 3],
    rows: u16,
    cols: u16,
) -> io::Result<Started> {
    let spec = fdpass::memory(&spec.encode())?;
    let mut ours = [None, None, None];
    let mut theirs = Vec::new();
    if rows == 0 {
        for (index, direct) in direct.into_iter().enumerate() {
            if let Some(fd) = direct {
                theirs.push(fd);
                continue;
            }
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let (our, their) = if index == 0 { (write, read) } else { (read, write) };
            ours[index] = Some(our);
            theirs.push(their);
        }
    }
    let mut fds = vec![spec.as_fd()];
    fds.extend(theirs.iter().map(AsFd::as_fd));
    let (started_out, started) = oneshot::channel();
    let (ended_out, ended) = oneshot::channel();
    let pending = Pending { started: Some(started_out), ended: Some(ended_out) };
    keeper.pending.borrow_mut().insert(session, pending);
    if let Err(errno) = wire::send(keeper.init.as_fd(), Message::Spawn { session, rows, cols }, &fds) {
        keeper.pending.borrow_mut().remove(&session);
        return Err(errno.into());
    }
    Ok((ours, started, ended))
}
