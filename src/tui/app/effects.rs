//! What `update` wants done: each effect is handed to who does it, and the terminal to whom it belongs.

use super::super::clipboard;
use super::super::edge::Edge;
use super::super::errand::Cancel;
use super::super::input::Decoder;
use super::super::join::{self, Joined};
use super::super::layer::Layer;
use super::super::look::Look;
use super::super::model::Loud;
use super::super::msg::{Effect, Msg, Return};
use super::super::viewer::{Eyes, Mode, Viewer};
use super::super::work;
use super::App;
use crate::engine::request::Request;
use crate::model::{Failure, TripId};
use crate::store::cubes::socket_path;
use crate::store::themes;
use crate::term::Leader;

/// The largest text for the clipboard, in bytes: many terminals take no more.
const COPY_MAX: usize = 74_000;

impl<E: Edge> App<'_, E> {
    pub(super) fn carry_out(&mut self, effect: Effect) {
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
                    self.edge.mouse(false);
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
            Effect::Mouse(on) => self.edge.mouse(on),
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

    fn view(&mut self, id: TripId, mode: Mode) {
        // First away with the old one: two would count as two viewers.
        self.viewer = None;
        let socket = socket_path(&self.engine.layout.run, &id);
        let record = self.model.world.cubes.iter().find(|cube| cube.id == id);
        let log = self.engine.layout.mines_dir().join(id.as_str()).join("log");
        let eyes = Eyes::new(log, record.and_then(|cube| cube.good()).cloned());
        match Viewer::start(socket, id, mode, eyes, self.mailbox.clone()) {
            Ok(viewer) => self.viewer = Some(viewer),
            Err(error) => {
                let failure = Failure::failed("cannot start a thread").because(&error);
                self.model.fail(&failure);
            }
        }
    }

    pub(super) fn leave_cube(&mut self) {
        self.viewer = None;
        self.leader = Leader::new(None);
        self.edge.mouse(self.model.setup.mouse);
    }

    /// Hands the terminal over if something wants it, and takes it back.
    pub(super) fn hand_over(&mut self, ahead: &[u8]) {
        let Some(request) = self.joins.take() else { return };
        self.viewer = None;
        self.draw();
        let result = self.edge.join(self.engine, &request, ahead);
        if let Ok(Joined { hung_up: true, .. }) = result {
            self.hung_up = true;
            return;
        }
        if let Err(failure) = self.come_back(true) {
            self.model.fail(&failure);
            self.hung_up = true;
            return;
        }
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
            self.edge.copy(text, tmux);
            let way = if tmux { "your terminal (OSC 52, through tmux)" } else { "your terminal (OSC 52)" };
            Ok(format!("copied {} bytes via {way}", text.len()))
        };
        self.tell(Msg::Copied(result));
    }
}
