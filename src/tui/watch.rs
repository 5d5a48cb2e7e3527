//! Keeps an eye on what the lists show. Sleeps until a folder or a record changes or a keeper dies, and looks again then;
//! what looks as it did is not read again. Whose end cannot be waited for is asked for every half minute.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::lookout::{Lookout, Noticed, somebody_died};
use super::mailbox::{Bell, Mailbox};
use super::msg::Msg;
use super::survey::{Seen, survey, sweep};
use super::world::World;
use crate::engine::Engine;
use crate::model::Name;

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
    let mines = engine.layout.mines_dir();
    let (mut lookout, mut seen, mut last) = (Lookout::new(), Seen::default(), None);
    let mut swept = Instant::now().checked_sub(PATIENCE);
    loop {
        open(&lookout, engine, &machine);
        let mut world = survey(engine, &machine, &mut seen, last.is_none());
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
        if let Some(world) = &last {
            lookout.follow(&mines, world);
            let (looked, unseen) = (Instant::now(), lookout.blind_for(world));
            let patience = if unseen.is_empty() { WHOLE } else { PATIENCE };
            while lookout.wait(bell, patience) == Noticed::Nothing
                && looked.elapsed() < WHOLE
                && !somebody_died(&mines, &unseen)
            {}
        }
        // What follows at once belongs to it.
        wait_on(bell, BURST);
        bell.hush();
        lookout.blink();
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

fn open(lookout: &Lookout, engine: &Engine, machine: &Name) {
    let layout = &engine.layout;
    let images = layout.data.join("images");
    let (mines, machines, homes) = (layout.mines_dir(), layout.machines_dir(), layout.homes_dir());
    let root = engine.projects_root(machine).ok();
    let fixed: [&std::path::Path; 5] = [&mines, &layout.run, &machines, &homes, &images];
    lookout.open(&fixed.into_iter().chain(root.as_deref()).collect::<Vec<_>>());
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
