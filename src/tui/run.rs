//! The loop: waits for the user, for signals and for threads, in one thread; updates, draws, and does what is to be
//! done. What the user does is drawn at once, news thirty times a second at most, and nothing when nothing changed.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::clipboard;
use super::errand::Cancel;
use super::input::{Decoder, Input};
use super::join::{self, Joined};
use super::layer::Layer;
use super::look::{Depth, Look};
use super::mailbox::{Inbox, Mailbox, mailbox};
use super::model::{Loud, Model, TOAST_MS};
use super::msg::{Effect, Msg, Return};
use super::setup::{self, Start};
use super::terminal::{Terminal, restore};
use super::update::update;
use super::view::{self, Zones};
use super::viewer::{Eyes, Mode, Viewer};
use super::watch::{Watch, timespec};
use super::work::{self, DraftSlot, Filling};
use crate::engine::client::Client;
use crate::engine::request::Request;
use crate::engine::{Engine, Menu};
use crate::host::tty::Signals;
use crate::keeper::state::now_ms;
use crate::model::Failure;
use crate::store::cubes::socket_path;
use crate::store::themes;
use crate::term::{Action, Leader};

/// Between two frames that only news want.
const FRAME: Duration = Duration::from_millis(33);
/// How long a lone escape waits for what may follow it.
const ESCAPE: Duration = Duration::from_millis(40);
/// How long the first frame waits for the first look at the world.
const FIRST: Duration = Duration::from_millis(12);
/// Ages are drawn again after this time, when nothing else happens.
const AGES: Duration = Duration::from_secs(10);
/// Between two frames of the spinner.
const SPIN: Duration = Duration::from_millis(125);
/// The largest text for the clipboard, in bytes: many terminals take no more.
const COPY_MAX: usize = 74_000;
/// The terminal vanished: 128 and SIGHUP.
const HUNG_UP: u8 = 129;

/// Shows the menu until the user leaves; the exit code.
///
/// # Errors
/// The terminal cannot be used.
pub fn main(engine: &Engine, menu: &Menu) -> Result<u8, Failure> {
    if menu.plain {
        return super::plain::main(engine, menu);
    }
    let fail = |error: &dyn std::error::Error| Failure::failed("cannot use the terminal").because(error);
    // Before any thread: they all have these blocked then, and one place hears of them.
    let signals = Signals::take(&[
        libc::SIGWINCH,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGCONT,
    ])
    .map_err(|error| fail(&error))?;
    let (mailbox, inbox) = mailbox().map_err(|error| fail(&error))?;
    let machine = setup::machine(engine, menu);
    // It looks while the rest is set up.
    let watch = Watch::start(engine.clone(), machine, mailbox.clone()).map_err(|error| fail(&error))?;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // A thread's panic is caught and told on the screen; ours ends the screen.
        if std::thread::current().name() == Some("main") {
            restore();
            hook(info);
        }
    }));
    let terminal = Terminal::enter(engine.config.mouse).map_err(|error| fail(&error))?;
    let Start { model, look, depth, ahead } = setup::start(engine, menu, &terminal);
    let mut app = App {
        engine,
        model,
        look,
        depth,
        terminal,
        signals,
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
        joins: None,
        draft: DraftSlot::default(),
        cancels: HashMap::new(),
        held: None,
    };
    app.typed(&ahead);
    let result = app.run();
    restore();
    result
}

struct App<'a> {
    engine: &'a Engine,
    model: Model,
    look: Look,
    depth: Depth,
    terminal: Terminal,
    signals: Signals,
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
    /// What the terminal is handed to next.
    joins: Option<Request>,
    /// What was copied of a cube for an image.
    draft: DraftSlot,
    /// What breaks jobs off, by their numbers.
    cancels: HashMap<usize, Cancel>,
    /// Keeps what an ended throwaway changed, while it is asked about.
    held: Option<Client>,
}

impl App<'_> {
    fn run(&mut self) -> Result<u8, Failure> {
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
            let (typed, signalled) = self.wait(self.patience(), true)?;
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

    /// How long nothing need be done.
    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut next = AGES;
        let mut by = |time: Duration| next = next.min(time);
        if self.dirty {
            by(self.drawn.map_or(Duration::ZERO, |at| (at + FRAME).saturating_duration_since(now)));
        }
        if let Some(since) = self.escape_since {
            by((since + ESCAPE).saturating_duration_since(now));
        }
        if let Some(deadline) = self.leader.deadline() {
            by(deadline.saturating_duration_since(now));
        }
        if !self.model.jobs.is_empty() {
            by(SPIN);
        }
        if !self.model.silent.is_empty() {
            // The time until it is asked again is shown.
            by(Duration::from_secs(1));
        }
        let in_ms = |at: u64| Duration::from_millis(at.saturating_sub(self.model.now_ms).max(1));
        for toast in self.model.toasts().iter().filter(|toast| toast.loud != Loud::Error) {
            by(in_ms(toast.at_ms + TOAST_MS));
        }
        if let Some(Layer::Confirm(confirm)) = self.model.layers.last()
            && self.model.now_ms < confirm.opened_ms + super::layer::DEAF_MS
        {
            by(in_ms(confirm.opened_ms + super::layer::DEAF_MS));
        }
        // A keeper's figures come once a second: without any, and with nothing whose age shows, there is nothing to do.
        let ages = !self.model.world.cubes.is_empty() || !self.model.world.projects.is_empty();
        (ages || next < AGES).then_some(next)
    }

    /// Waits for the user, a signal or news: whether there is input, and whether a signal came.
    fn wait(&mut self, patience: Option<Duration>, input: bool) -> Result<(bool, bool), Failure> {
        let stdin = io::stdin();
        let timeout = patience.map(timespec);
        let wanted = if input { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [
            PollFd::from_borrowed_fd(stdin.as_fd(), wanted),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.inbox.bell, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => {
                // Time has passed: what shows it may differ.
                self.tell(Msg::Tick);
                self.dirty = true;
                return Ok((false, false));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Failure::failed("cannot wait for the terminal").because(&errno)),
        }
        let [terminal, signals, news] = fds.map(|fd| fd.revents());
        if !news.is_empty() {
            self.inbox.bell.hush();
        }
        if terminal.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            self.hung_up = true;
        }
        Ok((terminal.contains(PollFlags::IN), !signals.is_empty()))
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
        self.zones = self.terminal.draw(|buffer| view::draw(model, look, buffer));
        self.drawn = Some(Instant::now());
        self.dirty = false;
    }

    /// Reads what the user did, and draws what came of it at once.
    fn read(&mut self) {
        let mut bytes = [0; 4096];
        match rustix::io::read(io::stdin(), &mut bytes) {
            Ok(0) | Err(Errno::IO) => self.hung_up = true,
            Ok(count) => {
                if matches!(self.model.layers.last(), Some(Layer::Terminal(_))) {
                    let actions = self.leader.feed(&bytes[..count], Instant::now());
                    self.act(actions);
                } else {
                    self.typed(&bytes[..count]);
                }
                self.draw();
            }
            Err(_) => {}
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

    fn hand_over(&mut self, ahead: &[u8]) {
        if let Some(request) = self.joins.take() {
            self.join(&request, ahead);
        }
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

    fn leave_cube(&mut self) {
        self.viewer = None;
        self.leader = Leader::new(None);
        self.terminal.set_mouse(self.model.setup.mouse);
    }

    /// An exit code when it is time to go.
    fn hear_signals(&mut self) -> Result<Option<u8>, Failure> {
        while let Some(signal) = self.signals.next() {
            match signal {
                libc::SIGWINCH => self.resized(),
                libc::SIGTSTP => self.suspend()?,
                libc::SIGCONT => {
                    // Somebody else may have used the terminal meanwhile.
                    self.come_back()?;
                }
                signal => return Ok(Some(u8::try_from(128 + signal).unwrap_or(HUNG_UP))),
            }
        }
        Ok(None)
    }

    fn resized(&mut self) {
        let (columns, rows) = self.terminal.resized();
        self.tell(Msg::Resize(columns, rows));
        self.dirty = true;
    }

    fn come_back(&mut self) -> Result<(), Failure> {
        self.terminal.again().map_err(|error| Failure::failed("cannot use the terminal").because(&error))?;
        self.resized();
        Ok(())
    }

    fn suspend(&mut self) -> Result<(), Failure> {
        self.terminal.leave();
        // Stops all of us until somebody says to go on.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)
            .map_err(|errno| Failure::failed("cannot stop").because(&errno))?;
        self.come_back()
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Carry(number, request @ Request::Snapshot { .. }) => {
                work::carry_draft(self.engine, number, request, &self.draft, &self.mailbox);
            }
            Effect::Ports(id) => work::ports(self.engine, id, &self.mailbox),
            Effect::Denials(id) => work::denials(self.engine, id, &self.mailbox),
            Effect::Draft(id, name) => work::draft(self.engine, id, name, &self.draft, &self.mailbox),
            Effect::Release => self.held = None,
            Effect::DropDraft => work::drop_draft(&self.draft),
            Effect::Carry(number, request) if request.may_take_long() => {
                let cancel = Cancel::default();
                self.cancels.insert(number, cancel.clone());
                work::errand(number, request, cancel, &self.mailbox);
            }
            Effect::Cancel(number) => {
                if let Some(cancel) = self.cancels.get(&number) {
                    cancel.store(true, std::sync::atomic::Ordering::Relaxed);
                }
            }
            Effect::Carry(number, request) => work::carry(self.engine, number, request, &self.mailbox),
            Effect::Plan(number, typed) => work::plan(self.engine, number, *typed, &self.mailbox),
            Effect::Measure(what) => work::measure(self.engine, &self.model.machine, what, &self.mailbox),
            Effect::Log(id) => self.filling = Some(work::log(self.engine, id, &self.mailbox)),
            Effect::Run(verb, words) => self.filling = Some(work::run(verb, words, &self.mailbox)),
            Effect::EndPage => self.filling = None,
            Effect::Refresh => self.watch.look(&self.model.machine),
            Effect::Join(request) => self.joins = Some(request),
            Effect::Watch(None) => self.viewer = None,
            Effect::Watch(Some(id)) => {
                let record = self.model.world.cubes.iter().find(|cube| cube.id == id);
                let tty = record.and_then(|cube| cube.good()).is_some_and(|record| record.tty);
                self.view(id, Mode::Watch { tty });
            }
            Effect::Enter { id, rows, cols, take_over } => {
                if let Some(viewer) = self.viewer.as_ref().filter(|viewer| viewer.id == id && self.typing()) {
                    viewer.resize(rows, cols);
                } else {
                    // Its mouse is its own business, and ours would get in between.
                    self.terminal.set_mouse(false);
                    self.leader = Leader::new(join::leader(self.engine));
                    self.view(id, Mode::Type { rows, cols, take_over });
                }
            }
            Effect::Theme(name) => self.theme(&name),
            Effect::KeepTheme(name) => {
                self.theme(&name);
                match themes::keep(&self.engine.layout, &name) {
                    Ok(()) => self.model.tell(Loud::Info, format!("theme {name}, from now on"), Vec::new()),
                    Err(why) => {
                        self.model.tell(Loud::Warn, format!("the theme is not kept: {why}"), Vec::new())
                    }
                }
            }
            Effect::Copy(text) => self.copy(text),
            Effect::CopyByTerminal(text) => self.copy_by_terminal(&text),
            Effect::Offers(typed) => work::offers(self.engine, *typed, &self.mailbox),
            Effect::Mouse(on) => self.terminal.set_mouse(on),
            Effect::Suspend => {
                if let Err(failure) = self.suspend() {
                    self.model.fail(&failure);
                }
            }
        }
    }

    /// True once a cube is typed into.
    fn typing(&self) -> bool {
        matches!(self.model.layers.last(), Some(Layer::Terminal(terminal)) if terminal.picture.is_some())
    }

    fn view(&mut self, id: crate::model::TripId, mode: Mode) {
        // First away with the old one: two would count as two viewers.
        self.viewer = None;
        let socket = socket_path(&self.engine.layout.run, &id);
        let record = self.model.world.cubes.iter().find(|cube| cube.id == id);
        let eyes = Eyes {
            log: self.engine.layout.mines_dir().join(id.as_str()).join("log"),
            record: record.and_then(|cube| cube.good()).cloned().map(Box::new),
            listening: None,
            read: 0,
        };
        match Viewer::start(socket, id, mode, eyes, self.mailbox.clone()) {
            Ok(viewer) => self.viewer = Some(viewer),
            Err(error) => {
                let failure = Failure::failed("cannot start a thread").because(&error);
                self.model.fail(&failure);
            }
        }
    }

    /// Hands the terminal over, and takes it back.
    fn join(&mut self, request: &Request, ahead: &[u8]) {
        self.viewer = None;
        self.draw();
        let terminal = &self.terminal;
        let result = join::join(self.engine, request, ahead, &|| terminal.leave());
        if let Ok(Joined { hung_up: true, .. }) = result {
            self.hung_up = true;
            return;
        }
        if let Err(failure) = self.come_back() {
            self.model.fail(&failure);
            self.hung_up = true;
            return;
        }
        self.terminal.drop_input();
        self.decoder = Decoder::default();
        self.escape_since = None;
        let back = result.map(|joined| {
            let question = joined.question.map(|(id, lines, client)| {
                self.held = Some(client);
                (id, lines)
            });
            Return { text: joined.text, runs_on: joined.runs_on, question }
        });
        self.tell(Msg::Back(back));
        self.dirty = true;
    }

    fn theme(&mut self, name: &str) {
        let themed = themes::load(&self.engine.layout, name).map(|theme| {
            self.look = Look::new(&theme, self.model.setup.glyphs, self.depth);
            theme.name
        });
        self.tell(Msg::Themed(themed));
        self.dirty = true;
    }

    fn copy(&mut self, text: String) {
        let there = |path: &std::path::Path| path.is_file();
        match clipboard::helper(|key| std::env::var(key).ok(), there) {
            Some(helper) if text.len() <= COPY_MAX => work::copy(helper, text, &self.mailbox),
            _ => self.copy_by_terminal(&text),
        }
    }

    fn copy_by_terminal(&mut self, text: &str) {
        let result = if text.len() > COPY_MAX {
            Err(format!("not copied: {} bytes are more than terminals take ({COPY_MAX})", text.len()))
        } else {
            let tmux = std::env::var_os("TMUX").is_some();
            self.terminal.copy(text, tmux);
            let way = if tmux { "your terminal (OSC 52, through tmux)" } else { "your terminal (OSC 52)" };
            Ok(format!("copied {} bytes via {way}", text.len()))
        };
        self.tell(Msg::Copied(result));
    }
}

/// In a debug build alone: shows a test what a fault of ours leaves of the terminal.
#[cfg(debug_assertions)]
fn panic_if_asked(input: &Input) {
    if let (Input::Key(key), Ok(wanted)) = (input, std::env::var("TRIPMINE_DEBUG_PANIC")) {
        assert!(key.to_string() != wanted, "asked to panic");
    }
}
