//! What lies on top of the lists: each takes the keys until it is left. Values; `update` changes them, views draw them.

use tui_input::{Input as Field, InputRequest};

use super::key::{Code, Key};
use super::model::Loud;
use super::sheet::Sheet;
use crate::engine::request::Request;
use crate::model::{Name, TripId};
use crate::term::cells::Picture;

/// One layer.
#[derive(Debug)]
pub enum Layer {
    /// What will be launched.
    Sheet(Box<Sheet>),
    /// A question.
    Confirm(Confirm),
    /// One line to be typed.
    Prompt(Prompt),
    /// A list to choose from, narrowed by typing.
    Picker(Picker),
    /// Lines to read.
    Page(Page),
    /// A cube's terminal, typed into.
    Terminal(Terminal),
}

/// A question. Enter never says yes.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirm {
    /// What is asked.
    pub title: String,
    /// What would be lost or interrupted, in numbers where they are known.
    pub lines: Vec<String>,
    /// What can be answered.
    pub choices: Vec<Choice>,
    /// When the box appeared: keys typed before it was seen do not answer it.
    pub opened_ms: u64,
    /// What is being measured for the first line, as `Model::measured` has it.
    pub measures: Option<String>,
    /// It is about several things: only their number, typed, says yes.
    pub bulk: Option<Bulk>,
}

/// A question about several things.
#[derive(Debug, Clone, PartialEq)]
pub struct Bulk {
    /// What is done, one for each.
    pub requests: Vec<Request>,
    /// What was typed of their number.
    pub typed: String,
}

/// How long a question ignores keys, in milliseconds.
pub const DEAF_MS: u64 = 300;

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its key.
    pub key: char,
    /// What it does.
    pub label: String,
    /// What is done; nothing closes the box.
    pub request: Option<Request>,
    /// What is opened instead, above the question.
    pub then: Option<Then>,
    /// Why it cannot be chosen.
    pub disabled: Option<String>,
}

/// What an answer opens or notes.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// A line to be typed.
    Ask(PromptKind),
    /// What a cube changed.
    Changes(TripId),
    /// This place is not told of again: the cube, the place.
    Quiet(String, String),
    /// This is typed into the field beneath, as one line.
    Paste(String),
    /// The screen is left.
    Quit,
    /// What a command of ours prints: its verb, its words.
    Show(&'static str, Vec<String>),
}

/// One line to be typed.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// What for.
    pub kind: PromptKind,
    /// The line.
    pub field: Field,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// What a prompt is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptKind {
    /// A new machine.
    MachineCreate,
    /// Another name for a machine.
    MachineRename(Name),
    /// One setting of a machine, as `key=value`.
    MachineEdit(Name),
    /// A new project.
    ProjectCreate,
    /// Another name for a kept cube.
    CubeRename(TripId),
    /// A command in a cube.
    Exec(TripId),
    /// A text to look for on the page beneath.
    Search,
    /// The name of an image of what a cube changed.
    Snapshot(TripId),
    /// A forward of a cube.
    Forward(TripId),
    /// What a cube may reach.
    NetAllow(TripId),
    /// Places whose changes are taken over.
    Apply(TripId),
    /// An image of a registry.
    Pull,
    /// Where in a registry an image goes.
    Push(String),
    /// A folder or archive.
    Import,
    /// Where an image goes.
    Export(String),
    /// Another name for an image.
    Tag(String),
}

impl PromptKind {
    /// What is asked.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::MachineCreate => "new machine: its name".into(),
            Self::MachineRename(name) => format!("another name for machine {name}"),
            Self::MachineEdit(name) => format!("machine {name}: one setting as key=value"),
            Self::ProjectCreate => "new project: its name".into(),
            Self::CubeRename(id) => format!("another name for cube {}", id.short()),
            Self::Exec(id) => format!("run in cube {}", id.short()),
            Self::Search => "search".into(),
            Self::Snapshot(id) => format!("image of what {} changed: its name", id.short()),
            Self::Forward(id) => format!("forward into {}: HOST:CUBE or PORT", id.short()),
            Self::NetAllow(id) => format!("what {} may reach: NAME[:PORT]", id.short()),
            Self::Apply(id) => format!("changes of {}: which places", id.short()),
            Self::Pull => "pull: [HOST/]REPOSITORY[:TAG]".into(),
            Self::Push(image) => format!("push {image} to [HOST/]REPOSITORY[:TAG]"),
            Self::Import => "import: PATH [NAME]".into(),
            Self::Export(image) => format!("export {image} to oci:DIR or docker-archive:FILE"),
            Self::Tag(image) => format!("another name for {image}"),
        }
    }
}

impl PromptKind {
    /// What may be typed, by example.
    #[must_use]
    pub fn examples(&self) -> &'static str {
        match self {
            Self::MachineEdit(_) => {
                "net=open · memory=2G · entry=make run · env.KEY=value; nothing behind the = takes it away"
            }
            Self::Exec(_) => "ps aux · sh -c 'ls | wc -l'",
            Self::Forward(_) => "3000 · 8080:80 · what does not listen yet, too",
            Self::NetAllow(_) => "example.org:443 · *.example.org · 203.0.113.7:22",
            Self::Apply(_) => "src · docs/a.md 'two words'",
            Self::Pull => "debian:12 · ghcr.io/owner/app:tag · http://localhost:5000/app without encryption",
            Self::Push(_) => "ghcr.io/owner/app:tag · http://localhost:5000/app without encryption",
            Self::Import => "/srv/root.tar · /srv/root debian",
            Self::Export(_) => "oci:/srv/out · oci-archive:/srv/dev.tar · docker-archive:/srv/dev.tar",
            Self::MachineCreate | Self::MachineRename(_) | Self::ProjectCreate | Self::CubeRename(_) => {
                "letters, digits and . _ -"
            }
            Self::Snapshot(_) | Self::Tag(_) => "dev · team/dev:2",
            Self::Search => "",
        }
    }
}

/// A list to choose from.
#[derive(Debug, Clone)]
pub struct Picker {
    /// What is chosen.
    pub kind: PickerKind,
    /// What it is called.
    pub title: String,
    /// All there is.
    pub items: Vec<PickItem>,
    /// What narrows it.
    pub field: Field,
    /// Which of those shown.
    pub at: usize,
    /// The first that is drawn.
    pub top: usize,
}

/// What a picker chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PickerKind {
    /// A command, of those for here or of all.
    Command,
    /// A theme, shown at once; the one from before is remembered.
    Theme(String),
    /// What listens in a cube, to be forwarded.
    Forward(TripId),
    /// Forwards of a cube, to be closed.
    Unforward(TripId),
    /// What a cube was denied.
    Denials(TripId),
    /// A word of a field of the sheet beneath.
    Word(&'static str),
    /// What is under way, to be broken off.
    Job,
}

/// One entry of a picker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickItem {
    /// What is chosen.
    pub id: String,
    /// Its title.
    pub title: String,
    /// More about it.
    pub about: String,
    /// Its key.
    pub key: String,
    /// What does the same on the command line.
    pub cli: String,
    /// Why it cannot be chosen now.
    pub disabled: Option<String>,
}

impl Picker {
    /// A command that was typed with something behind it: `stop web`.
    #[must_use]
    pub fn with_arguments(&self) -> Option<(&PickItem, &str)> {
        if self.kind != PickerKind::Command {
            return None;
        }
        let (id, rest) = self.field.value().trim_start().split_once(' ')?;
        let named = self.items.iter().find(|item| item.id == id)?;
        (!rest.trim().is_empty()).then_some((named, rest.trim()))
    }

    /// Those that what was typed leaves, the best first.
    #[must_use]
    pub fn shown(&self) -> Vec<&PickItem> {
        let text = self.field.value();
        if text.trim().is_empty() {
            return self.items.iter().collect();
        }
        if let Some((named, _)) = self.with_arguments() {
            return vec![named];
        }
        let (mut search, plain) = (super::rows::Search::new(text), text.trim().to_lowercase());
        let mut found: Vec<(u32, &PickItem)> = self
            .items
            .iter()
            .filter_map(|item| {
                let by_id = search.look(&item.id).map(|(score, _)| score + 20);
                let by_title = search.look(&item.title).map(|(score, _)| score);
                // A sentence holds nearly any letters in some order: only what stands there counts.
                let by_about = item.about.to_lowercase().contains(&plain).then_some(1);
                by_id.max(by_title).max(by_about).map(|score| (score, item))
            })
            .collect();
        found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        found.into_iter().map(|(_, item)| item).collect()
    }
}

/// Lines to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What they are.
    pub kind: PageKind,
    /// What they are called.
    pub title: String,
    /// The lines, harmless.
    pub lines: Vec<PageLine>,
    /// The first that is drawn.
    pub top: usize,
    /// Goes on at the end as lines come.
    pub follow: bool,
    /// Lines that came while it was not following.
    pub unseen: usize,
    /// Lines are broken at the edge instead of cut.
    pub wrap: bool,
    /// The time is shown before each line.
    pub times: bool,
    /// What is looked for.
    pub search: String,
    /// Still being fetched.
    pub waiting: bool,
    /// Nothing but the lines is drawn.
    pub full: bool,
}

/// What a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageKind {
    /// A cube's log.
    Log(TripId),
    /// What a command of ours printed.
    Command(&'static str),
    /// Messages.
    Notices,
    /// Changes with their commands.
    Commands,
}

/// A line of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageLine {
    /// When, as text; empty when that is not known.
    pub time: String,
    /// A sign before it: standard error has one.
    pub mark: &'static str,
    /// The line.
    pub text: String,
    /// How loud.
    pub loud: Option<Loud>,
}

/// Lines that a page keeps.
pub const PAGE_MAX: usize = 10_000;

impl Page {
    /// An empty page that waits for its lines.
    #[must_use]
    pub fn new(kind: PageKind, title: impl Into<String>) -> Self {
        Self {
            kind,
            title: title.into(),
            lines: Vec::new(),
            top: 0,
            follow: false,
            unseen: 0,
            wrap: false,
            times: false,
            search: String::new(),
            waiting: true,
            full: false,
        }
    }

    /// Adds lines; the oldest go when there are too many.
    pub fn add(&mut self, lines: Vec<PageLine>) {
        self.waiting = false;
        if !self.follow && matches!(self.kind, PageKind::Log(_)) {
            self.unseen += lines.len();
        }
        self.lines.extend(lines);
        let over = self.lines.len().saturating_sub(PAGE_MAX);
        if over > 0 {
            self.lines.drain(..over);
            self.top = self.top.saturating_sub(over);
        }
    }
}

/// A cube's terminal inside the screen.
#[derive(Debug)]
pub struct Terminal {
    /// Which cube.
    pub id: TripId,
    /// What it shows.
    pub picture: Option<Picture>,
    /// This side types; `None` until that is known.
    pub writer: Option<bool>,
    /// Why nothing can be seen.
    pub problem: Option<String>,
}

/// Edits a field with a key; false when the key means nothing to it.
pub fn edit(field: &mut Field, key: Key) -> bool {
    let request = match (key.code, key.ctrl, key.alt) {
        (Code::Char(character), false, false) => InputRequest::InsertChar(character),
        (Code::Backspace, false, _) => InputRequest::DeletePrevChar,
        (Code::Delete, ..) => InputRequest::DeleteNextChar,
        (Code::Left, false, _) => InputRequest::GoToPrevChar,
        (Code::Right, false, _) => InputRequest::GoToNextChar,
        (Code::Left, true, _) => InputRequest::GoToPrevWord,
        (Code::Right, true, _) => InputRequest::GoToNextWord,
        (Code::Home, ..) | (Code::Char('a'), true, _) => InputRequest::GoToStart,
        (Code::End, ..) | (Code::Char('e'), true, _) => InputRequest::GoToEnd,
        (Code::Char('w'), true, _) | (Code::Backspace, true, _) => InputRequest::DeletePrevWord,
        (Code::Char('u'), true, _) => InputRequest::DeleteLine,
        (Code::Char('k'), true, _) => InputRequest::DeleteTillEnd,
        _ => return false,
    };
    let _changed = field.handle(request);
    true
}

/// Pastes into a field of one line: the lines of the text with blanks between, without controls.
pub fn paste(field: &mut Field, text: &str) {
    let line = text.lines().collect::<Vec<_>>().join(" ");
    for character in line.chars().filter(|c| !c.is_control()).take(4096) {
        let _changed = field.handle(InputRequest::InsertChar(character));
    }
}
