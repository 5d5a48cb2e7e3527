//! The processes that the host started: their streams, signals and ends.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::process::WaitOptions;
use rustix::termios::Winsize;

use super::worker::{Ours, Running};
use crate::jail::spawn::NotSpawned;
use crate::microvm::link::Link;
use crate::microvm::stream::{Kind, Stream};
use crate::microvm::wire::{ALL_SESSIONS, Lane, Message, SESSION_WINDOW};

/// One of them.
#[derive(Debug)]
struct Session {
    pid: i32,
    /// Its terminal's master, if it has one.
    master: Option<Rc<OwnedFd>>,
    /// As waitpid(2) gave it, once it has ended.
    status: Option<i32>,
    /// Its streams while no host holds it.
    parked: Option<Stream>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    running: BTreeMap<u32, Session>,
    /// How many are being started.
    expected: usize,
    /// Ends that were seen while some were being started: one of them may belong to a start that is not told yet.
    unclaimed: HashMap<i32, i32>,
    /// There is no process left but this one.
    alone: bool,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.running.len() + self.expected
    }

    /// One is being started.
    pub(super) fn expect(&mut self) {
        self.expected += 1;
    }

    /// Those that a host can take over.
    pub(super) fn running(&self) -> Vec<u32> {
        self.running.keys().copied().collect()
    }

    /// It was started, or not.
    pub(super) fn started(&mut self, stream: u32, result: Result<Running, NotSpawned>, link: &mut Link) {
        self.expected = self.expected.saturating_sub(1);
        let running = match result {
            Ok(running) => running,
            Err(failed) => {
                let errno = failed.errno.raw_os_error();
                link.channel.say(&Message::NotStarted { stream, errno, folder: failed.folder });
                self.forget_unclaimed();
                return;
            }
        };
        let pid = running.pid;
        let mut ends = Stream::default();
        let mut master = None;
        match running.streams {
            Ours::Terminal(fd) => {
                let fd = quick(fd);
                ends.source(Lane::Main, Rc::clone(&fd), SESSION_WINDOW, true);
                ends.sink(Lane::Main, Rc::clone(&fd), Kind::Terminal, SESSION_WINDOW);
                master = Some(fd);
            }
            Ours::Pipes([to, from, error]) => {
                ends.sink(Lane::Main, quick(to), Kind::Pipe, SESSION_WINDOW);
                ends.source(Lane::Main, quick(from), SESSION_WINDOW, true);
                ends.source(Lane::Error, quick(error), SESSION_WINDOW, true);
            }
        }
        link.channel.say(&Message::Started { stream, pid });
        link.streams.insert(stream, ends);
        let status = self.unclaimed.remove(&pid);
        self.running.insert(stream, Session { pid, master, status, parked: None });
        self.forget_unclaimed();
    }

    fn forget_unclaimed(&mut self) {
        if self.expected == 0 {
            self.unclaimed.clear();
        }
    }

    /// Buries the dead.
    pub(super) fn reap(&mut self) {
        self.alone = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid.as_raw_nonzero().get(), status.as_raw()),
                Ok(None) => break false,
                Err(Errno::INTR) => {}
                Err(_) => break true,
            }
        };
    }

    fn ended(&mut self, pid: i32, status: i32) {
        let one = self.running.values_mut().find(|one| one.pid == pid && one.status.is_none());
        match one {
            Some(session) => session.status = Some(status),
            None if self.expected > 0 => drop(self.unclaimed.insert(pid, status)),
            None => {}
        }
    }

    /// Tells the end of those that have ended, once everything they wrote has been sent.
    pub(super) fn finish(&mut self, link: &mut Link) {
        let over: Vec<u32> = self
            .running
            .iter()
            .filter(|(_, session)| session.status.is_some() && session.parked.is_none())
            .map(|(stream, _)| *stream)
            .collect();
        for stream in over {
            if let Some(ends) = link.streams.get_mut(&stream)
                && !ends.read_out(stream, &mut link.channel)
            {
                continue;
            }
            link.streams.remove(&stream);
            if let Some(Session { status: Some(status), .. }) = self.running.remove(&stream) {
                link.channel.say(&Message::Exited { stream, status, alone: self.alone });
            }
        }
    }

    pub(super) fn resize(&self, stream: u32, rows: u16, cols: u16) {
        if let Some(Session { master: Some(master), .. }) = self.running.get(&stream) {
            let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal whose program has just ended needs no size.
            let _set = rustix::termios::tcsetwinsize(&**master, size);
        }
    }

    /// A signal for one session's process group, or for everything.
    pub(super) fn signal(&self, stream: u32, signal: i32, machine: bool) {
        if stream == ALL_SESSIONS && machine {
            crate::host::guest::signal_everybody(signal);
            return;
        }
        for (id, session) in &self.running {
            if (stream == ALL_SESSIONS || *id == stream) && session.status.is_none() {
                crate::host::guest::signal_group(session.pid, signal);
            }
        }
    }

    /// The host is another: until it takes a session, that one's output waits.
    pub(super) fn detach(&mut self, link: &mut Link) {
        for (stream, session) in &mut self.running {
            if let Some(ends) = link.streams.remove(stream) {
                session.parked = Some(ends);
            }
        }
    }

    /// The host takes a session: its credit starts anew. What it does not take goes on unheard.
    pub(super) fn adopt(&mut self, stream: u32, link: &mut Link) {
        let Some(session) = self.running.get_mut(&stream) else { return };
        if let Some(mut ends) = session.parked.take() {
            ends.renew(stream, SESSION_WINDOW, &mut link.channel);
            link.streams.insert(stream, ends);
        }
    }
}

/// Made non-blocking, which every pipe and terminal can be.
fn quick(fd: OwnedFd) -> Rc<OwnedFd> {
    let _set = rustix::io::ioctl_fionbio(&fd, true);
    Rc::new(fd)
}
