//! Keeps an eye on the folders that the lists show. Sleeps until one of them changes, and looks again then. A keeper that
//! is killed changes no folder: every half minute those that lived are asked for, and nothing else is read.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::mailbox::{Bell, Mailbox};
use super::msg::Msg;
use super::survey::{Images, survey, sweep};
use super::world::World;
use crate::engine::Engine;
use crate::model::Name;
use crate::store::cubes;

/// Between glances at those that live, and between clearing up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between looks when nothing seems to change, in case a change went unnoticed.
const WHOLE: Duration = Duration::from_secs(600);
/// Changes come in bursts: a launch writes several files.
const BURST: Duration = Duration::from_millis(40);

enum Order {
    Look(Name),
    End,
}

/// The thread that looks.
pub(super) struct Watch {
    orders: Sender<Order>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(engine: Engine, machine: Name, mailbox: Mailbox) -> std::io::Result<Self> {
        let (orders, received) = channel();
        let bell = Bell::new()?;
        let own = bell.clone();
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || run(&engine, machine, &received, &own, &mailbox))?;
        Ok(Self { orders, bell, thread: Some(thread) })
    }

    /// Looks now, at the projects of `machine` from now on.
    pub(super) fn look(&self, machine: &Name) {
        let _sent = self.orders.send(Order::Look(machine.clone()));
        self.bell.ring();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _sent = self.orders.send(Order::End);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

fn run(engine: &Engine, mut machine: Name, orders: &Receiver<Order>, bell: &Bell, mailbox: &Mailbox) {
    let eyes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
    let mut last = None;
    let mut images = Images::default();
    let mut swept = Instant::now().checked_sub(PATIENCE);
    loop {
        if let Some(eyes) = &eyes {
            open_eyes(eyes, engine, &machine);
        }
        let mut world = survey(engine, &machine, &mut images, last.is_none());
        if swept.is_none_or(|at| at.elapsed() >= PATIENCE) {
            // After the first look: a person sees what there is before it is cleared up.
            if last.is_some() {
                swept = Some(Instant::now());
                world.problems.extend(sweep(engine));
            }
        }
        if last.as_ref() != Some(&world) {
            let first = last.is_none();
            if !mailbox.send(Msg::World(Box::new(world.clone()))) {
                return;
            }
            last = Some(world);
            if first {
                continue;
            }
        }
        let looked = Instant::now();
        while !wait(eyes.as_ref(), bell, PATIENCE)
            && looked.elapsed() < WHOLE
            && !last.as_ref().is_some_and(|world| somebody_died(engine, world))
        {}
        // What follows at once belongs to it.
        wait_on(bell, BURST);
        bell.hush();
        if let Some(eyes) = &eyes {
            let mut space = [0_u8; 4096];
            while rustix::io::read(eyes, &mut space).is_ok_and(|count| count > 0) {}
        }
        loop {
            match orders.try_recv() {
                Ok(Order::Look(name)) => {
                    machine = name;
                    last = last.map(|world| World { root: "\u{0}".into(), ..world });
                }
                Ok(Order::End) | Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => break,
            }
        }
    }
}

/// Folders appear and go: what is watched is said again before each look. Saying it twice changes nothing.
fn open_eyes(eyes: &OwnedFd, engine: &Engine, machine: &Name) {
    let events = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ONLYDIR;
    let layout = &engine.layout;
    let mut folders = vec![
        layout.mines_dir(),
        layout.run.clone(),
        layout.machines_dir(),
        layout.homes_dir(),
        layout.data.join("images"),
    ];
    folders.extend(engine.projects_root(machine));
    for folder in folders {
        // One that is not there yet is found by the next look.
        let _watched = inotify::add_watch(eyes, &folder, events);
    }
}

/// A cube that lived when it was looked at last does no more.
fn somebody_died(engine: &Engine, world: &World) -> bool {
    let mines = engine.layout.mines_dir();
    let mut lived = world.cubes.iter().filter(|cube| cube.live);
    lived.any(|cube| !cubes::load(&mines, &cube.id).is_ok_and(|entry| entry.live))
}

/// True when something happened before the time was over.
fn wait(eyes: Option<&OwnedFd>, bell: &Bell, patience: Duration) -> bool {
    let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
    fds.extend(eyes.map(|eyes| PollFd::new(eyes, PollFlags::IN)));
    !matches!(poll(&mut fds, Some(&timespec(patience))), Ok(0))
}

fn wait_on(bell: &Bell, patience: Duration) {
    let _woken = poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&timespec(patience)));
}

/// A time as poll(2) takes it.
pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
