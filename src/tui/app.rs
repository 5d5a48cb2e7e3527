//! The loop: waits for the user, for signals and for threads, in one thread; updates, draws, and has done what is to be
//! done. What the user does is drawn at once, news thirty times a second at most, and nothing when nothing changed.

mod effects;
mod patience;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::edge::Edge;
use super::errand::Cancel;
use super::input::{Decoder, Input};
use super::layer::Layer;
use super::look::{Depth, Look};
use super::mailbox::{Inbox, Mailbox};
use super::model::{Loud, Model};
use super::msg::Msg;
use super::setup::Start;
use super::update::update;
use super::view::{self, Zones};
use super::viewer::Viewer;
use super::watch::Watch;
use super::work::{DraftSlot, Filling};
use crate::engine::Engine;
use crate::engine::client::Client;
use crate::engine::request::Request;
use crate::keeper::state::now_ms;
use crate::model::Failure;
use crate::term::{Action, Leader};
use patience::{ESCAPE, FRAME, Timers, patience};

/// How long the first frame waits for the first look at the world.
const FIRST: Duration = Duration::from_millis(12);
/// The terminal vanished: 128 and SIGHUP.
const HUNG_UP: u8 = 129;

/// The running screen.
pub(super) struct App<'a, E: Edge> {
    engine: &'a Engine,
    edge: E,
    model: Model,
    look: Look,
    depth: Depth,
    inbox: Inbox,
    mailbox: Mailbox,
    watch: Watch,
    viewer: Option<Viewer>,
    /// What leads out of the cube that is typed into.
    leader: Leader,
    filling: Option<Filling>,
    decoder: Decoder,
    escape_since: Option<Instant>,
    zones: Zones,
    drawn: Option<Instant>,
    dirty: bool,
    hung_up: bool,
    /// What was typed before anything was drawn.
    ahead: Vec<u8>,
    /// What the terminal is handed to next.
    joins: Option<Request>,
    /// What was copied of a cube for an image.
    draft: DraftSlot,
    /// What breaks jobs off, by their numbers.
    cancels: HashMap<usize, Cancel>,
    /// Keeps what an ended throwaway changed, while it is asked about.
    held: Option<Client>,
}

impl<'a, E: Edge> App<'a, E> {
    pub(super) fn new(
        engine: &'a Engine,
        start: Start,
        edge: E,
        (mailbox, inbox): (Mailbox, Inbox),
        watch: Watch,
    ) -> Self {
        let Start { model, look, depth, ahead } = start;
        Self {
            engine,
            edge,
            model,
            look,
            depth,
            inbox,
            mailbox,
            watch,
            viewer: None,
            leader: Leader::new(None),
            filling: None,
            decoder: Decoder::default(),
            escape_since: None,
            zones: Zones::default(),
            drawn: None,
            dirty: true,
            hung_up: false,
            ahead,
            joins: None,
            draft: DraftSlot::default(),
            cancels: HashMap::new(),
            held: None,
        }
    }

    /// Runs until the user leaves, or the terminal does; the exit code.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub(super) fn run(&mut self) -> Result<u8, Failure> {
        let ahead = std::mem::take(&mut self.ahead);
        self.typed(&ahead);
        // What is there already saves an empty frame.
        self.wait(Some(FIRST), false)?;
        self.news();
        self.draw();
        loop {
            if let Some(code) = self.model.quit {
                return Ok(code);
            }
            if self.hung_up {
                return Ok(HUNG_UP);
            }
            let timers = Timers {
                drawn: self.drawn,
                dirty: self.dirty,
                escape: self.escape_since,
                leader: self.leader.deadline(),
            };
            let (typed, signalled) = self.wait(patience(&self.model, &timers, Instant::now()), true)?;
            self.model.now_ms = now_ms();
            if signalled && let Some(code) = self.hear_signals()? {
                return Ok(code);
            }
            if typed {
                self.read();
            }
            self.expire();
            self.news();
            self.hand_over(&[]);
            if self.dirty && self.drawn.is_none_or(|at| at.elapsed() >= FRAME) {
                self.draw();
            }
        }
    }

    /// Waits for the user, a signal or news: whether there is input, and whether a signal came.
    fn wait(&mut self, patience: Option<Duration>, input: bool) -> Result<(bool, bool), Failure> {
        let woken = self.edge.wait(&self.inbox.bell, patience, input)?;
        self.hung_up |= woken.hung_up;
        if woken.in_vain {
            // Time has passed: what shows it may differ.
            self.tell(Msg::Tick);
            self.dirty = true;
        }
        Ok((woken.typed, woken.signalled))
    }

    fn tell(&mut self, msg: Msg) {
        self.model.now_ms = now_ms();
        let effects = update(&mut self.model, msg, &self.zones);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    /// Takes what threads have to tell. Not without end: the user comes first.
    fn news(&mut self) {
        for _ in 0..64 {
            let Some(msg) = self.inbox.next() else { return };
            self.tell(msg);
            self.dirty = true;
        }
        self.inbox.bell.ring();
    }

    fn draw(&mut self) {
        if self.hung_up || self.model.quit.is_some() {
            return;
        }
        let (model, look) = (&self.model, &self.look);
        self.zones = self.edge.draw(&|buffer| view::draw(model, look, buffer));
        self.drawn = Some(Instant::now());
        self.dirty = false;
    }

    /// Reads what the user did, and draws what came of it at once.
    fn read(&mut self) {
        let mut bytes = [0; 4096];
        match self.edge.read(&mut bytes) {
            None => self.hung_up = true,
            Some(0) => {}
            Some(count) => {
                if matches!(self.model.layers.last(), Some(Layer::Terminal(_))) {
                    let actions = self.leader.feed(&bytes[..count], Instant::now());
                    self.act(actions);
                } else {
                    self.typed(&bytes[..count]);
                }
                self.draw();
            }
        }
    }

    /// Key by key: what is typed after the key that hands the terminal over is not ours.
    fn typed(&mut self, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            let inputs = self.decoder.feed(std::slice::from_ref(byte));
            self.inputs(inputs);
            if self.joins.is_some() {
                return self.hand_over(&bytes[at + 1..]);
            }
            if matches!(self.model.layers.last(), Some(Layer::Terminal(_))) {
                let actions = self.leader.feed(&bytes[at + 1..], Instant::now());
                return self.act(actions);
            }
        }
        self.escape_since = self.decoder.waits().then(Instant::now);
    }

    fn inputs(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            #[cfg(debug_assertions)]
            panic_if_asked(&input);
            if self.model.quit.is_some() {
                return;
            }
            self.tell(Msg::Input(input));
        }
    }

    fn expire(&mut self) {
        if self.escape_since.is_some_and(|since| since.elapsed() >= ESCAPE) {
            self.escape_since = None;
            let inputs = self.decoder.expire();
            self.inputs(inputs);
            self.draw();
        }
        if self.leader.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            let actions = self.leader.expire(Instant::now());
            self.act(actions);
        }
    }

    /// What was typed at the cube of the terminal layer.
    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Forward(bytes) => {
                    if let Some(viewer) = &self.viewer {
                        viewer.type_in(bytes);
                    }
                }
                Action::Detach => {
                    self.leave_cube();
                    self.tell(Msg::Left);
                }
                Action::Help => {
                    let text = "after the leader: d comes back, the leader again types it";
                    self.model.tell(Loud::Info, text, Vec::new());
                }
            }
        }
        self.dirty = true;
    }

    /// An exit code when it is time to go.
    fn hear_signals(&mut self) -> Result<Option<u8>, Failure> {
        while let Some(signal) = self.edge.signal() {
            match signal {
                libc::SIGWINCH => self.resized(),
                libc::SIGTSTP => self.suspend()?,
                libc::SIGCONT => {
                    // Somebody else may have used the terminal meanwhile.
                    self.come_back(false)?;
                }
                signal => return Ok(Some(u8::try_from(128 + signal).unwrap_or(HUNG_UP))),
            }
        }
        Ok(None)
    }

    fn resized(&mut self) {
        let (columns, rows) = self.edge.resized();
        self.tell(Msg::Resize(columns, rows));
        self.dirty = true;
    }

    fn come_back(&mut self, afresh: bool) -> Result<(), Failure> {
        self.edge.again(afresh)?;
        self.resized();
        Ok(())
    }

    /// Stops all of us until somebody says to go on.
    fn suspend(&mut self) -> Result<(), Failure> {
        self.edge.stop()?;
        self.come_back(false)
    }
}

/// In a debug build alone: shows a test what a fault of ours leaves of the terminal.
#[cfg(debug_assertions)]
fn panic_if_asked(input: &Input) {
    if let (Input::Key(key), Ok(wanted)) = (input, std::env::var("TRIPMINE_DEBUG_PANIC")) {
        assert!(key.to_string() != wanted, "asked to panic");
    }
}

#[cfg(test)]
mod tests;
