//! The forwards of a cube: which are open, for whom, and how they end.
//!
//! They live in the keeper, so they outlive the command that asked, and never the cube: when the keeper is killed, its
//! sockets go with it. The host's ends are made here ([`bind`]), init connects inside ([`connects`]), a thread of its own
//! moves the bytes ([`worker`]).

pub mod ask;
pub mod bind;
pub mod connects;
pub mod worker;

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use bind::{Bound, SocketFile};
use connects::Connects;
use worker::{Counters, Job};

use crate::model::{Failure, FailureKind, ForwardStatus, PortMap};

/// The most forwards of one cube.
pub const MAX_FORWARDS: usize = 64;
/// How long closing may take to be told.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of the thread: it holds no large values.
const STACK: usize = 256 * 1024;

/// One that is open.
#[derive(Debug)]
struct Open {
    id: u32,
    asked: PortMap,
    map: PortMap,
    kept: bool,
    counters: Arc<Counters>,
    ended: oneshot::Receiver<()>,
    /// Its connections end when this goes, and its file with it.
    _stop: watch::Sender<()>,
    _file: Option<SocketFile>,
}

impl Open {
    fn status(&self) -> ForwardStatus {
        let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        let counters = &self.counters;
        ForwardStatus {
            id: self.id,
            asked: self.asked.clone(),
            map: self.map.clone(),
            kept: self.kept,
            open: read(&counters.open),
            made: read(&counters.made),
            refused: read(&counters.refused),
            bytes_in: read(&counters.flow.sent),
            bytes_out: read(&counters.flow.received),
        }
    }
}

#[derive(Debug)]
struct Worker {
    jobs: mpsc::UnboundedSender<Job>,
    thread: JoinHandle<()>,
}

/// The host's ends of what a launch asks for, before anything of the cube runs.
///
/// # Errors
/// One cannot be had.
pub fn bind_all(asked: &[PortMap]) -> Result<Vec<(PortMap, Bound)>, Failure> {
    asked.iter().map(|asked| Ok((asked.clone(), bind::open(asked, false)?))).collect()
}

/// All of a cube.
#[derive(Debug)]
pub struct Forwards {
    /// The way in; init's answers go there.
    pub connects: Arc<Connects>,
    list: RefCell<Vec<Open>>,
    next: Cell<u32>,
    worker: RefCell<Option<Worker>>,
}

impl Forwards {
    /// None yet. `init` is a copy of its control socket, `pid` its number on the host; `guest`: what the cube runs is in a
    /// virtual machine.
    #[must_use]
    pub fn new(init: OwnedFd, pid: i32, guest: bool) -> Self {
        Self {
            connects: Arc::new(Connects::new(init, pid, guest)),
            list: RefCell::new(Vec::new()),
            next: Cell::new(1),
            worker: RefCell::new(None),
        }
    }

    /// Opens one; it listens when this returns.
    ///
    /// # Errors
    /// The host's end cannot be had, or there are too many.
    pub fn open(&self, asked: PortMap, exact: bool, kept: bool) -> Result<ForwardStatus, Failure> {
        if self.list.borrow().len() >= MAX_FORWARDS {
            return Err(Failure::new(
                FailureKind::Busy,
                format!("this cube has {MAX_FORWARDS} forwards, and cannot have more"),
            )
            .hint("`tripmine forward --list` shows them, `tripmine forward --rm` removes one"));
        }
        let bound = bind::open(&asked, exact)?;
        self.adopt(asked, bound, kept)
    }

    /// Serves a host end that listens already.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn adopt(&self, asked: PortMap, bound: Bound, kept: bool) -> Result<ForwardStatus, Failure> {
        let Bound { map, listeners, file } = bound;
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = watch::channel(());
        let (ended_out, ended) = oneshot::channel();
        let to = map.cube.clone();
        self.serve(Job { listeners, to, counters: Arc::clone(&counters), stop: stopped, ended: ended_out })?;
        let id = self.next.get();
        self.next.set(id.wrapping_add(1).max(1));
        let open = Open { id, asked, map, kept, counters, ended, _stop: stop, _file: file };
        let status = open.status();
        self.list.borrow_mut().push(open);
        Ok(status)
    }

    /// Serves what a launch has bound; it stays as long as the cube.
    ///
    /// # Errors
    /// As [`Self::adopt`].
    pub fn adopt_all(&self, bound: Vec<(PortMap, Bound)>) -> Result<(), Failure> {
        bound.into_iter().try_for_each(|(asked, bound)| self.adopt(asked, bound, true).map(drop))
    }

    /// What is open, for the record.
    #[must_use]
    pub fn maps(&self) -> Vec<PortMap> {
        self.list.borrow().iter().map(|open| open.map.clone()).collect()
    }

    fn serve(&self, job: Job) -> Result<(), Failure> {
        let mut worker = self.worker.borrow_mut();
        let worker = match &mut *worker {
            Some(worker) => worker,
            None => {
                let (jobs, received) = mpsc::unbounded_channel();
                let connects = Arc::clone(&self.connects);
                let thread = std::thread::Builder::new()
                    .name("tripmine-fwd".into())
                    .stack_size(STACK)
                    .spawn(move || worker::run(connects, received))
                    .map_err(|error| {
                        Failure::failed("cannot start a thread for the forwards").because(&error)
                    })?;
                worker.insert(Worker { jobs, thread })
            }
        };
        worker.jobs.send(job).map_err(|_| Failure::failed("the thread of the forwards has ended"))
    }

    /// What is open, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<ForwardStatus> {
        self.list.borrow().iter().map(Open::status).collect()
    }

    /// Closes one, with its connections; its last figures. `None` when there is none of this number.
    pub async fn close(&self, id: u32) -> Option<ForwardStatus> {
        let open = {
            let mut list = self.list.borrow_mut();
            let at = list.iter().position(|open| open.id == id)?;
            list.remove(at)
        };
        let status = open.status();
        let Open { ended, _stop, _file, .. } = open;
        drop((_stop, _file));
        // Whoever is told "closed" may have the port at once.
        let _ended = tokio::time::timeout(PATIENCE, ended).await;
        Some(status)
    }

    /// Closes all, for good: the cube has ended.
    pub fn over(&self) {
        self.connects.over();
        self.list.borrow_mut().clear();
        if let Some(Worker { jobs, thread }) = self.worker.borrow_mut().take() {
            drop(jobs);
            // It only waits for its own tasks, which do not wait for us.
            let _ended = thread.join();
        }
    }
}
