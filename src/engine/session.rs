//! The user's terminal or pipes, joined to a cube until it ends or is left.
//!
//! What a cube prints reaches a terminal only through [`Filter`]; a pipe or file gets it as it is. The leader key is
//! looked for only in what is typed at a terminal.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::client::{Client, Heard, refused};
use super::denial::denial;
use crate::host::tty::{self, Raw, Signals};
use crate::jail::taken_out::{Part, taken_out};
use crate::keeper::net::NetAnswer;
use crate::keeper::protocol::{Answer, Ask, Kind};
use crate::model::net::NetEvent;
use crate::model::{ExitRecord, Failure, FailureKind};
use crate::term::{Action, Filter, Leader, LeaderKey, leave};

/// How a session was joined.
#[derive(Debug, Clone, Copy)]
pub struct Join {
    /// The cube's side is a terminal.
    pub tty: bool,
    /// This side may type.
    pub writes: bool,
    /// Signals sent to this process are meant for the cube; otherwise they end the watching.
    pub passes_signals: bool,
    /// Standard input passes through us (it was not handed to the cube).
    pub relay_stdin: bool,
    /// The key that leaves.
    pub leader: Option<LeaderKey>,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// The cube, or the process, ended.
    Exited(ExitRecord),
    /// The user left; it runs on.
    Left,
    /// The terminal vanished; it runs on.
    Hangup,
}

/// Bytes read at once from the user.
const INPUT: usize = 64 * 1024;

/// What Ctrl-C types.
const INTERRUPT: u8 = 3;
/// What Ctrl-D types.
const END_OF_FILE: u8 = 4;

/// Joins until the end.
///
/// # Errors
/// The keeper refused, vanished, or broke the protocol.
pub fn join(client: &mut Client, join: Join) -> Result<Outcome, Failure> {
    join_holding(client, join, ())
}

/// The same of a cube that has just been launched. `held` is let go when it has started.
///
/// # Errors
/// As [`join`].
pub fn join_holding<H>(client: &mut Client, join: Join, held: H) -> Result<Outcome, Failure> {
    let stdin = io::stdin();
    let raw = if join.tty && rustix::termios::isatty(&stdin) {
        let raw = Raw::enter(stdin.as_fd());
        Some(raw.map_err(|error| Failure::failed("cannot use the terminal").because(&error))?)
    } else {
        None
    };
    let signals = Signals::take(&[libc::SIGWINCH, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP])
        .map_err(|error| Failure::failed("cannot take signals").because(&error))?;
    let (stdout_tty, stderr_tty) =
        (rustix::termios::isatty(io::stdout()), rustix::termios::isatty(io::stderr()));
    let mut session = Session {
        client,
        join,
        signals,
        // Who only watches is read too: the keys that leave must work.
        stdin_open: if join.tty {
            join.writes || rustix::termios::isatty(&stdin)
        } else {
            join.writes && join.relay_stdin
        },
        writes: join.writes,
        leader: Leader::new(if join.tty { join.leader } else { None }),
        out: filter(stdout_tty),
        err: filter(stderr_tty),
        at_terminal: raw.is_some(),
        last: None,
        held: Some(held),
        touched: [false; 2],
        denied: Vec::new(),
        told: 0,
    };
    let result = session.run();
    if !taken_out(Part::TerminalLeave) {
        // Whatever modes the cube left on, the user's terminal comes back as it was. Also where the cube had none itself.
        let [out, err] = session.touched;
        if stdout_tty && out {
            let _vanished = io::stdout().write_all(&leave()).and_then(|()| io::stdout().flush());
        }
        if stderr_tty && err {
            let _vanished = io::stderr().write_all(&leave());
        }
    }
    if join.tty && stdout_tty && matches!(result, Ok(Outcome::Left)) {
        // What is said next is not part of the line that was being typed.
        let _vanished = io::stdout().write_all(b"\r\n").and_then(|()| io::stdout().flush());
    }
    let denied = session.denied;
    drop(raw);
    // What would have torn a full screen is said when it is gone.
    let mut lines: Vec<u8> = denied.concat().into_bytes();
    lines.retain(|byte| *byte != b'\r');
    write_all(io::stderr().as_fd(), &lines)?;
    result
}

struct Session<'a, H> {
    client: &'a mut Client,
    /// Until the cube has started.
    held: Option<H>,
    join: Join,
    signals: Signals,
    stdin_open: bool,
    writes: bool,
    leader: Leader,
    out: Option<Filter>,
    err: Option<Filter>,
    /// Standard input was a terminal from the start: one that has vanished says no longer that it is one.
    at_terminal: bool,
    /// The last byte that was typed.
    last: Option<u8>,
    /// An escape sequence has reached the terminal, by standard output or error: its modes may be other than they were.
    touched: [bool; 2],
    /// Lines about what the net denied, for the end of a terminal's session.
    denied: Vec<String>,
    told: usize,
}

/// The most denials that a session shows: the rest is in the cube's log.
const DENIALS: usize = 12;

impl<H> Session<'_, H> {
    fn run(&mut self) -> Result<Outcome, Failure> {
        // Frames that came together with the handshake.
        if let Some(outcome) = self.take_frames()? {
            return Ok(outcome);
        }
        loop {
            let (heard, typed, signalled) = self.wait()?;
            if signalled && let Some(outcome) = self.handle_signals()? {
                return Ok(outcome);
            }
            // Typing first: leaving must work in the middle of a flood.
            if typed && let Some(outcome) = self.read_input()? {
                return Ok(outcome);
            }
            if self.leader.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                let actions = self.leader.expire(Instant::now());
                if let Some(outcome) = self.act(actions)? {
                    return Ok(outcome);
                }
            }
            if heard {
                match self.client.fill() {
                    Ok(0) => return Err(keeper_gone()),
                    Ok(_) => {}
                    Err(error) => return Err(keeper_gone().because(&error)),
                }
                if let Some(outcome) = self.take_frames()? {
                    return Ok(outcome);
                }
            }
        }
    }

    /// Which of keeper, user and signals has something.
    fn wait(&self) -> Result<(bool, bool, bool), Failure> {
        let stdin = io::stdin();
        let timeout = self.leader.deadline().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut fds = [
            PollFd::from_borrowed_fd(self.client.as_fd(), PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&stdin, if self.stdin_open { PollFlags::IN } else { PollFlags::empty() }),
        ];
        let count = if self.stdin_open { 3 } else { 2 };
        match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Failure::failed("cannot wait for the cube").because(&errno)),
        }
        let ready = |index: usize| !fds[index].revents().is_empty();
        Ok((ready(0), count == 3 && ready(2), ready(1)))
    }

    fn handle_signals(&mut self) -> Result<Option<Outcome>, Failure> {
        while let Some(signal) = self.signals.next() {
            match signal {
                libc::SIGWINCH if taken_out(Part::Resize) => {}
                libc::SIGWINCH => {
                    if let Some((rows, cols)) = tty::size(io::stdout()).or_else(|| tty::size(io::stdin())) {
                        self.client.ask(&Ask::Resize { rows, cols })?;
                    }
                }
                libc::SIGHUP if self.join.tty || !self.join.passes_signals => {
                    return Ok(Some(Outcome::Hangup));
                }
                _ if !self.join.passes_signals => return Ok(Some(Outcome::Left)),
                // From a terminal in raw mode these come only from outside: pass them on.
                signal => self.client.ask(&Ask::Signal { signal })?,
            }
        }
        Ok(None)
    }

    fn read_input(&mut self) -> Result<Option<Outcome>, Failure> {
        let mut buffer = [0; INPUT];
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(0) | Err(Errno::IO) => {
                self.stdin_open = false;
                if self.join.tty && !self.at_terminal {
                    // A file or pipe that is read to its end is no terminal that vanished. To what was started with it its end
                    // is typed: in the middle of a line the first only hands over what there is. Who merely looks in does
                    // not end somebody's shell.
                    if self.join.passes_signals {
                        let line_ended = matches!(self.last, None | Some(b'\n'));
                        self.type_in(if line_ended { &[END_OF_FILE] } else { &[END_OF_FILE; 2] });
                    }
                    return Ok(None);
                }
                if self.join.tty {
                    return Ok(Some(Outcome::Hangup));
                }
                // The entry may have ended already; then its answer is on the way.
                let _sent = self.client.send(Kind::InputEnd, &[]);
                Ok(None)
            }
            Ok(count) if self.join.tty => {
                self.last = buffer[..count].last().copied();
                if !self.writes && buffer[..count].contains(&INTERRUPT) {
                    return Ok(Some(Outcome::Left));
                }
                let actions = self.leader.feed(&buffer[..count], Instant::now());
                self.act(actions)
            }
            Ok(count) => {
                self.type_in(&buffer[..count]);
                Ok(None)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(None),
            Err(errno) => Err(Failure::failed("cannot read standard input").because(&errno)),
        }
    }

    fn act(&mut self, actions: Vec<Action>) -> Result<Option<Outcome>, Failure> {
        for action in actions {
            match action {
                Action::Forward(bytes) => self.type_in(&bytes),
                Action::Detach => return Ok(Some(Outcome::Left)),
                Action::Help => {
                    let help = "\r\n[tripmine: then d leaves the cube running · the leader twice types it · ? this]\r\n";
                    write_all(io::stdout().as_fd(), help.as_bytes())?;
                }
            }
        }
        Ok(None)
    }

    /// A keeper that is gone shows when we read from it.
    fn type_in(&mut self, bytes: &[u8]) {
        if !self.writes {
            return;
        }
        let _sent = self.client.send(Kind::Input, bytes);
    }

    fn denial(&mut self, event: &NetEvent) -> Option<String> {
        self.told += 1;
        match self.told {
            ..=DENIALS => Some(format!("tripmine: {}\n", denial(event))),
            told if told == DENIALS + 1 => {
                Some("tripmine: net: more was denied; `tripmine net CUBE` shows it\n".to_owned())
            }
            _ => None,
        }
    }

    fn take_frames(&mut self) -> Result<Option<Outcome>, Failure> {
        let mut out = Vec::new();
        let mut err = Vec::new();
        let mut outcome = None;
        while let Some(heard) = self.client.take().map_err(|error| keeper_gone().because(&error))? {
            match heard {
                Heard::Output(bytes) => pass(self.out.as_mut(), &bytes, &mut out),
                Heard::ErrorOutput(bytes) => pass(self.err.as_mut(), &bytes, &mut err),
                Heard::Answer(Answer::Exited(exit)) => {
                    outcome = Some(Outcome::Exited(exit));
                    break;
                }
                Heard::Answer(Answer::Refused { message, hints }) => return Err(refused(message, hints)),
                Heard::Answer(Answer::Started { .. }) => drop(self.held.take()),
                Heard::Answer(Answer::WriterLost) => {
                    self.writes = false;
                    err.extend_from_slice(
                        b"\r\n[tripmine: another terminal types now; this one only watches, and Ctrl-C leaves]\r\n",
                    );
                }
                Heard::Answer(Answer::Net(NetAnswer::Denied(event))) => {
                    if let Some(line) = self.denial(&event) {
                        if self.join.tty {
                            self.denied.push(line);
                        } else {
                            err.extend_from_slice(line.as_bytes());
                        }
                    }
                }
                Heard::Answer(_) => {}
            }
        }
        for (touched, bytes) in self.touched.iter_mut().zip([&out, &err]) {
            *touched = *touched || bytes.contains(&0x1b);
        }
        // A reader that has closed ends its own stream, not the cube (as in `cmd | head`): the entry itself meets the
        // closed pipe when it has one.
        write_all(io::stdout().as_fd(), &out)?;
        write_all(io::stderr().as_fd(), &err)?;
        Ok(outcome)
    }
}

/// A terminal's filter; anything else gets the bytes as they are.
fn filter(terminal: bool) -> Option<Filter> {
    (terminal && !taken_out(Part::TerminalFilter)).then(Filter::new)
}

fn pass(filter: Option<&mut Filter>, bytes: &[u8], out: &mut Vec<u8>) {
    match filter {
        Some(filter) => filter.filter(bytes, out),
        None => out.extend_from_slice(bytes),
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                let _ready = poll(&mut fds, None);
            }
            // Nobody reads any more.
            Err(Errno::PIPE | Errno::IO) => return Ok(()),
            Err(errno) => return Err(Failure::failed("cannot write the cube's output").because(&errno)),
        }
    }
    Ok(())
}

fn keeper_gone() -> Failure {
    Failure::new(FailureKind::Missing, "the cube's keeper is gone, and the cube with it")
        .hint("`tripmine ps -a` shows what is known of it")
}
