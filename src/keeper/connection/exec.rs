//! Another process in the cube, for the client that asked for it.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::frames::{Queue, next_frame, say};
use super::{Connection, refused, start};
use crate::jail::spawn::SpawnSpec;
use crate::jail::wire::{self, Message};
use crate::keeper::output::{self, Read};
use crate::keeper::protocol::{Answer, Ask, Kind};
use crate::keeper::state::{Ended, Piece, Start, now_ms};
use crate::keeper::{end, input};
use crate::model::{EnvVar, ExitReason, ExitRecord};
use crate::plan::vm;
use crate::store::log::Stream;

impl Connection {
    /// Another process in the cube, its streams on this connection.
    pub(super) async fn exec(
        &mut self,
        argv: &[String],
        more: Vec<EnvVar>,
        cwd: Option<String>,
        rows: u16,
        cols: u16,
    ) {
        let keeper = Rc::clone(&self.keeper);
        let mut env = keeper.plan.env.clone();
        for variable in more {
            env.retain(|old| old.key != variable.key);
            env.push(variable);
        }
        let cwd = cwd.unwrap_or_else(|| keeper.plan.entry.cwd.clone());
        let (words, folder) = vm::exec_words(&keeper.plan, argv, &cwd);
        let spec = match SpawnSpec::new(&words, &env, &folder) {
            Ok(spec) if !argv.is_empty() => spec,
            Ok(_) => return say(&self.queue, refused("no command was given".into())).await,
            Err(error) => return say(&self.queue, refused(error.to_string())).await,
        };
        let session = keeper.number();
        let direct = std::mem::take(&mut self.direct);
        let (ours, started, ended) = match start(&keeper, session, &spec, direct, rows, cols) {
            Ok(all) => all,
            Err(error) => return say(&self.queue, refused(format!("cannot start it: {error}"))).await,
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
            Err(_) => return say(&self.queue, refused("the cube has ended".into())).await,
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
        let watched = |fd: Option<OwnedFd>| fd.and_then(|fd| output::watched(fd).ok());
        let (master, mut stdin) = (watched(master), watched(stdin));
        let mut pumps = Vec::new();
        let (over, is_over) = watch::channel(false);
        let sources =
            [(Stream::Tty, master.clone()), (Stream::Out, watched(stdout)), (Stream::Err, watched(stderr))];
        for (stream, fd) in sources {
            if let Some(fd) = fd {
                pumps.push(tokio::task::spawn_local(pass_on(
                    fd,
                    stream,
                    self.queue.clone(),
                    is_over.clone(),
                )));
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
        over.send_replace(true);
        for pump in pumps {
            let _ended = pump.await;
        }
        status
    }
}

/// How long a stream may be silent, once its process has ended, until it counts as empty: a terminal hands over what was
/// written a moment later.
const SILENT: Duration = Duration::from_millis(100);
/// What is read of it at most then: more is in no pipe and in no terminal.
const LEFT_OVER: usize = 1 << 20;

/// Passes a stream on until its end, or until what was in it when the process ended is passed on: what a background child still
/// holds open is not waited for. A client that reads slowly is.
async fn pass_on(fd: Rc<AsyncFd<OwnedFd>>, stream: Stream, queue: Queue, mut over: watch::Receiver<bool>) {
    let mut buffer = vec![0; output::CHUNK];
    let mut left_over = LEFT_OVER;
    loop {
        let ended = *over.borrow();
        let read = if ended {
            match tokio::time::timeout(SILENT, output::read(&fd, &mut buffer)).await {
                Ok(read) => read,
                Err(_) => return,
            }
        } else {
            tokio::select! {
                read = output::read(&fd, &mut buffer) => read,
                changed = over.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        };
        let (Read::Bytes(count) | Read::End(count)) = read;
        if ended {
            left_over = left_over.saturating_sub(count);
        }
        if count > 0 && queue.send(Piece::Bytes(stream, Rc::from(&buffer[..count]))).await.is_err() {
            return;
        }
        if matches!(read, Read::End(_)) || left_over == 0 {
            return;
        }
    }
}
