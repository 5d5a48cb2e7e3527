//! A connection to one cube's keeper, in a thread of its own: its screen as pictures, its figures once a second, and
//! what is typed into it. However much a cube prints, the loop gets a picture thirty times a second at most.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::mailbox::{Bell, Mailbox};
use super::msg::Msg;
use super::watch::timespec;
use crate::engine::client::{Client, Heard};
use crate::engine::forward;
use crate::engine::net::{self, Denial};
use crate::keeper::net::NetAnswer;
use crate::keeper::protocol::{Answer, Ask, Kind, Usage};
use crate::keeper::state::now_ms;
use crate::model::{CubeRecord, Listening, TripId};
use crate::term::Screen;

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(33);
/// Between two questions for the figures.
const FIGURES: Duration = Duration::from_secs(1);
/// A keeper that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// After which it is asked again.
const RETRY: Duration = Duration::from_secs(5);
/// Between two looks at the ports of a cube that does nothing.
const PORTS: Duration = Duration::from_secs(5);
/// Bytes that are read between two pictures; a cube that prints more waits, or misses some: its keeper paints again.
const GULP: usize = 1 << 20;

enum Order {
    Input(Vec<u8>),
    Resize(u16, u16),
    End,
}

/// How a cube is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mode {
    /// Only seen; its screen, if it has a terminal.
    Watch { tty: bool },
    /// Typed into.
    Type { rows: u16, cols: u16, take_over: bool },
}

/// What is seen of a cube from outside: what listens in it, and what it was denied.
#[derive(Debug)]
pub(super) struct Eyes {
    log: PathBuf,
    record: Option<Box<CubeRecord>>,
    listening: Option<Vec<Listening>>,
    /// How long the log of its net was when it was read last.
    read: u64,
    /// When its ports were looked at last, and what it had done until then.
    looked: Option<(Instant, Did)>,
}

/// Processes, threads, and time on a processor: what stays the same in a cube that does nothing.
type Did = (u64, u64, u64);

impl Eyes {
    /// On a cube with its log there, and what is known of it.
    pub(super) fn new(log: PathBuf, record: Option<CubeRecord>) -> Self {
        Self { log, record: record.map(Box::new), listening: None, read: 0, looked: None }
    }

    /// The tables of a network are dear to read, the kernel walks all connections of the host for them: only of a cube that
    /// did something since, or once in a while.
    fn look(&mut self, id: &TripId, usage: &Usage, mailbox: &Mailbox) {
        let did = (u64::from(usage.processes), u64::from(usage.threads), usage.cpu_ms);
        let now = Instant::now();
        if due(self.looked, did, now) {
            self.looked = Some((now, did));
            if let Some(Ok(found)) = self.record.as_deref().map(forward::ports)
                && self.listening.as_ref() != Some(&found)
            {
                self.listening = Some(found.clone());
                mailbox.send(Msg::Ports(id.clone(), false, Ok(found)));
            }
        }
        let length = std::fs::metadata(self.log.join("net.jsonl")).map_or(0, |found| found.len());
        if length != self.read {
            self.read = length;
            mailbox.send(Msg::Denials(id.clone(), false, net::denials(&self.log)));
        }
    }
}

/// The ports of a cube are looked at now.
fn due(looked: Option<(Instant, Did)>, did: Did, now: Instant) -> bool {
    looked.is_none_or(|(at, before)| did != before || now.saturating_duration_since(at) >= PORTS)
}

/// The thread's owner.
pub(super) struct Viewer {
    pub(super) id: TripId,
    orders: Sender<Order>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Viewer {
    pub(super) fn start(
        socket: PathBuf,
        id: TripId,
        mode: Mode,
        eyes: Eyes,
        mailbox: Mailbox,
    ) -> std::io::Result<Self> {
        let (orders, received) = channel();
        let bell = Bell::new()?;
        let (own, cube) = (bell.clone(), id.clone());
        let thread = std::thread::Builder::new().name("viewer".into()).spawn(move || {
            let mut session = Session { socket, id: cube, mode, eyes, orders: received, bell: own, mailbox };
            session.run();
        })?;
        Ok(Self { id, orders, bell, thread: Some(thread) })
    }

    pub(super) fn type_in(&self, bytes: Vec<u8>) {
        let _sent = self.orders.send(Order::Input(bytes));
        self.bell.ring();
    }

    pub(super) fn resize(&self, rows: u16, cols: u16) {
        let _sent = self.orders.send(Order::Resize(rows, cols));
        self.bell.ring();
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _sent = self.orders.send(Order::End);
        self.bell.ring();
        // It ends by itself within its patience; waiting for a keeper that hangs would hang the screen.
        drop(self.thread.take());
    }
}

struct Session {
    socket: PathBuf,
    id: TripId,
    mode: Mode,
    eyes: Eyes,
    orders: Receiver<Order>,
    bell: Bell,
    mailbox: Mailbox,
}

enum Over {
    /// Nobody wants it any more.
    Ended,
    /// The cube has ended.
    Exited,
    /// The keeper is gone or does not answer.
    Lost(String),
}

impl Session {
    fn run(&mut self) {
        loop {
            match self.connected() {
                Over::Ended => return,
                Over::Exited => {
                    self.mailbox.picture(&self.id, Err("it has ended".into()));
                    if matches!(self.mode, Mode::Type { .. }) {
                        self.mailbox.send(Msg::Left);
                    }
                    return;
                }
                Over::Lost(why) => {
                    let seconds = RETRY.as_secs();
                    self.mailbox.picture(&self.id, Err(format!("{why}: trying again in {seconds} s")));
                    let again = now_ms() + seconds * 1000;
                    self.mailbox.send(Msg::Silent(self.id.clone(), Some(again)));
                    let ended = self.rest(RETRY);
                    if ended {
                        // Nobody asks it any more, so nobody knows.
                        self.mailbox.send(Msg::Silent(self.id.clone(), None));
                        return;
                    }
                }
            }
        }
    }

    /// Sleeps unless it is told to end; true then.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let _woken = poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&timespec(left)));
            self.bell.hush();
            loop {
                match self.orders.try_recv() {
                    Ok(Order::End) | Err(TryRecvError::Disconnected) => return true,
                    Ok(_) => {}
                    Err(TryRecvError::Empty) => break,
                }
            }
        }
    }

    fn connected(&mut self) -> Over {
        let lost = |failure: crate::model::Failure| Over::Lost(failure.to_string());
        let mut client = match Client::connect_within(&self.socket, [None, None, None], Some(PATIENCE)) {
            Ok(client) => client,
            Err(_) => return Over::Lost("its keeper does not answer".into()),
        };
        let (ask, mut sees) = match self.mode {
            Mode::Watch { tty } => (Ask::Attach { rows: 0, cols: 0, write: false, take_over: false }, tty),
            Mode::Type { rows, cols, take_over } => {
                (Ask::Attach { rows, cols, write: true, take_over }, true)
            }
        };
        // Who watches pipes would hold the cube back: of those only the figures are asked for.
        if sees && let Err(failure) = client.ask(&ask) {
            return lost(failure);
        }
        let mut screen = Screen::new(24, 80, 0);
        let (mut dirty, mut drawn, mut gulped) = (false, Instant::now() - FRAME, 0);
        let mut asked: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if asked.is_none_or(|at| now >= at + FIGURES) {
                asked = Some(now);
                if let Err(failure) = client.ask(&Ask::Status) {
                    return lost(failure);
                }
            }
            if dirty && now >= drawn + FRAME {
                let _replies = screen.flush_sync();
                self.mailbox.picture(&self.id, Ok(screen.picture()));
                (dirty, drawn, gulped) = (false, now, 0);
            }
            let next = asked.map_or(now, |at| at + FIGURES);
            let next = if dirty { next.min(drawn + FRAME) } else { next };
            let full = gulped >= GULP;
            let mut fds = [
                PollFd::new(&self.bell, PollFlags::IN),
                PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN),
            ];
            let count = if full { 1 } else { 2 };
            let _woken = poll(&mut fds[..count], Some(&timespec(next.saturating_duration_since(now))));
            let heard = count == 2 && !fds[1].revents().is_empty();
            if !fds[0].revents().is_empty() {
                self.bell.hush();
                match self.obey(&mut client, &mut screen) {
                    Ok(true) => return Over::Ended,
                    Ok(false) => {}
                    Err(why) => return Over::Lost(why),
                }
            }
            if heard {
                match client.fill() {
                    Ok(count) if count > 0 => gulped += count,
                    _ => return Over::Lost("its keeper is gone".into()),
                }
            }
            loop {
                match client.take() {
                    Ok(Some(Heard::Output(bytes))) => {
                        // The keeper answers the cube's questions, not we.
                        let _replies = screen.feed(&bytes);
                        dirty = true;
                    }
                    Ok(Some(Heard::Answer(answer))) => match answer {
                        Answer::Attached { tty, writer, rows, cols } => {
                            sees = tty;
                            if rows > 0 {
                                screen.resize(rows, cols);
                            }
                            dirty = sees;
                            self.mailbox.send(Msg::Writer(writer));
                        }
                        Answer::Resized { rows, cols } => {
                            screen.resize(rows, cols);
                            dirty = true;
                        }
                        Answer::WriterLost => {
                            self.mailbox.send(Msg::Writer(false));
                        }
                        Answer::Status(status) => {
                            let id = self.id.clone();
                            self.eyes.look(&id, &status.usage, &self.mailbox);
                            self.mailbox.send(Msg::Usage(id, status.usage, status.viewers));
                        }
                        Answer::Net(NetAnswer::Denied(event)) => {
                            if let Some(denial) = Denial::of(&event) {
                                self.mailbox.send(Msg::Denied(self.id.clone(), denial));
                            }
                        }
                        Answer::Exited(_) => return Over::Exited,
                        Answer::Refused { message, .. } => return Over::Lost(message),
                        _ => {}
                    },
                    Ok(Some(Heard::ErrorOutput(_))) => {}
                    Ok(None) => break,
                    Err(_) => return Over::Lost("its keeper broke the protocol".into()),
                }
            }
        }
    }

    /// True when it is to end.
    fn obey(&mut self, client: &mut Client, screen: &mut Screen) -> Result<bool, String> {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Input(bytes)) => {
                    client.send(Kind::Input, &bytes).map_err(|error| error.to_string())?
                }
                Ok(Order::Resize(rows, cols)) => {
                    if let Mode::Type { rows: r, cols: c, .. } = &mut self.mode {
                        (*r, *c) = (rows, cols);
                    }
                    // The others are told by the keeper.
                    screen.resize(rows, cols);
                    client.ask(&Ask::Resize { rows, cols }).map_err(|failure| failure.to_string())?;
                }
                Ok(Order::End) | Err(TryRecvError::Disconnected) => return Ok(true),
                Err(TryRecvError::Empty) => return Ok(false),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_looked_at_when_something_was_done_or_it_is_long_ago() {
        let now = Instant::now();
        let quiet = (2, 2, 17);
        assert!(due(None, quiet, now));
        for (did, later, wanted) in [
            (quiet, 0, false),
            (quiet, 4, false),
            (quiet, 5, true),
            ((2, 2, 18), 1, true),
            ((2, 3, 17), 1, true),
            ((3, 2, 17), 1, true),
        ] {
            let then = now + Duration::from_secs(later);
            assert_eq!(due(Some((now, quiet)), did, then), wanted, "{did:?} after {later} s");
        }
    }
}
