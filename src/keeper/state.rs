//! What a keeper knows: shared by its tasks, on one thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::forward::Forwards;
use super::protocol::Answer;
use crate::model::{CubeRecord, ExitReason};
use crate::plan::LaunchPlan;
use crate::store::cubes::CubeDir;
use crate::store::log::{LogWriter, Stream};
use crate::term::screen::Screen;

/// A piece of output on its way to a client.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Bytes of a stream.
    Bytes(Stream, Rc<[u8]>),
    /// Something to say.
    Answer(Rc<Answer>),
}

/// One client that sees the entry's output.
#[derive(Debug)]
pub struct Viewer {
    /// Its number.
    pub id: u32,
    /// Where its output goes; bounded.
    pub queue: mpsc::Sender<Piece>,
    /// It has missed output and wants the screen repainted.
    pub lagged: Rc<Cell<bool>>,
}

/// What became of a request to init to start a process.
#[derive(Debug)]
pub enum Start {
    /// It runs; with the master of its terminal.
    Running(i32, Option<OwnedFd>),
    /// It does not run.
    Refused {
        /// The error number of execve(2) or of what came before.
        errno: i32,
        /// It is the working directory that is not there.
        folder: bool,
    },
}

/// The end of a process that init started.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// As waitpid(2) gives it.
    pub status: i32,
    /// Nothing else runs inside.
    pub alone: bool,
}

/// A process that init was asked to start.
#[derive(Debug)]
pub struct Pending {
    /// Told once whether it runs.
    pub started: Option<oneshot::Sender<Start>>,
    /// Told once how it ended.
    pub ended: Option<oneshot::Sender<Ended>>,
}

/// All of it.
#[derive(Debug)]
pub struct Keeper {
    /// The plan.
    pub plan: LaunchPlan,
    /// The record, as it stands on disk.
    pub record: RefCell<CubeRecord>,
    /// The cube's folder and lock.
    pub dir: CubeDir,
    /// The control socket of init.
    pub init: OwnedFd,
    /// How all of it is ended.
    pub life: super::life::Life,
    /// Its number on the host.
    pub pid: i32,
    /// The log of the entry's output.
    pub log: RefCell<LogWriter>,
    /// The model of the entry's terminal; pipes have none.
    pub screen: RefCell<Option<Screen>>,
    /// The master of the entry's terminal, once it runs.
    pub master: RefCell<Option<Rc<tokio::io::unix::AsyncFd<OwnedFd>>>>,
    /// The write end of the entry's standard input, when it is a pipe of ours.
    pub stdin: RefCell<Option<Rc<tokio::io::unix::AsyncFd<OwnedFd>>>>,
    /// Clients attached to the entry.
    pub viewers: RefCell<Vec<Viewer>>,
    /// The viewer that types.
    pub writer: Cell<Option<u32>>,
    /// Numbers of viewers and sessions.
    pub next_number: Cell<u32>,
    /// Processes being started or running.
    pub pending: RefCell<HashMap<u32, Pending>>,
    /// Why the cube is being ended, if it is by us.
    pub ending: RefCell<Option<ExitReason>>,
    /// Wakes the stop sequence; the grace in milliseconds.
    pub stop: watch::Sender<Option<u64>>,
    /// Set once the cube has ended: the exit record is in the record.
    pub over: watch::Sender<bool>,
    /// When it started.
    pub started: std::time::Instant,
    /// For those who read the cube's changes.
    pub opened: Option<super::ground::Opened>,
    /// The connection that holds the cube still.
    pub frozen_by: Cell<Option<u32>>,
    /// The folder of the control socket.
    pub socket_dir: std::path::PathBuf,
    /// Its net.
    pub net: super::net::Net,
    /// The forwards, and the way into the cube.
    pub forwards: Forwards,
    /// A viewer has come, gone or drained: whoever waits for room looks again.
    pub room: Notify,
    /// Pieces of output that clients have taken: who waits for them sees whether they go on.
    pub moved: Cell<u64>,
    /// The end was asked for and has waited long enough: who does not read misses the rest.
    pub hurried: Cell<bool>,
}

impl Keeper {
    /// The next number for a viewer or a session; 0 is the entry.
    pub fn number(&self) -> u32 {
        let number = self.next_number.get();
        self.next_number.set(number.wrapping_add(1).max(1));
        number
    }

    /// Ends everything of the cube, now.
    pub fn end_all(&self) {
        self.life.end_with(self.plan.limits.cgroup.as_ref());
    }

    /// Asks for the end, once; the first reason counts.
    pub fn end(&self, reason: ExitReason, grace_ms: Option<u64>) {
        let mut ending = self.ending.borrow_mut();
        if ending.is_none() {
            self.event("stopping", serde_json::to_value(&reason).unwrap_or_default());
            *ending = Some(reason);
        }
        drop(ending);
        let grace =
            grace_ms.unwrap_or_else(|| u64::try_from(self.plan.stop_grace.as_millis()).unwrap_or(10_000));
        self.stop.send_replace(Some(grace));
    }

    /// Writes the record; a full disk is no reason to end a cube.
    pub fn save(&self) {
        if let Err(error) = self.dir.write_record(&self.record.borrow()) {
            self.event("record-not-written", error.to_string());
        }
    }

    /// Adds an event to the cube's list.
    pub fn event(&self, kind: &str, detail: impl Into<serde_json::Value>) {
        let event = crate::store::events::Event::new(now_ms(), kind, detail);
        // Events are for people; a full disk must not end the cube.
        let _written = crate::store::events::append(&self.dir.log_dir(), &event);
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
