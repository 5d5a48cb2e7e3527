//! `Model`: all that the screen is, at one moment. A value: drawing reads it, `update` changes it, nothing else does.

use std::collections::{BTreeMap, HashMap};

use crate::config::screen::GlyphSet;
use crate::engine::request::Request;
use crate::model::Name;
use crate::term::cells::Picture;

use super::key::Key;
use super::keymap::Keymap;
use super::layer::Layer;
use super::layout::{self, Layout};
use super::rows::{self, Row};
use super::world::{CubeItem, Samples, World};

/// The lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pane {
    /// Saved definitions.
    Machines,
    /// Folders of the user's.
    Projects,
    /// Launches.
    Cubes,
    /// Read-only roots.
    Images,
}

impl Pane {
    /// In the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Machines, Self::Projects, Self::Cubes, Self::Images];

    /// The word in its title.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Machines => "machines",
            Self::Projects => "projects",
            Self::Cubes => "cubes",
            Self::Images => "images",
        }
    }

    /// Its place among them, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One list: what is selected, by id, and what narrows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// The id of the selected row.
    pub selected: Option<String>,
    /// Where the selection was, for when its row vanishes.
    pub at: usize,
    /// What was selected before filtering.
    pub before: Option<String>,
    /// The filter; empty shows all.
    pub filter: String,
    /// The first row that is drawn.
    pub top: usize,
}

/// How the screen is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The theme's name.
    pub theme: String,
    /// The signs that are drawn.
    pub glyphs: GlyphSet,
    /// The mouse is taken.
    pub mouse: bool,
    /// The key that leaves a cube, as it is written; `None` when there is none.
    pub leader: Option<String>,
    /// The themes there are.
    pub themes: Vec<String>,
}

/// How loud a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loud {
    /// Good to know.
    Info,
    /// Should be seen.
    Warn,
    /// Stays until a key.
    Error,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// How loud.
    pub loud: Loud,
    /// One line.
    pub text: String,
    /// Next steps.
    pub hints: Vec<String>,
    /// It is no longer shown over the screen.
    pub gone: bool,
}

/// A change that was made, or is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// The command line that does the same.
    pub command: String,
    /// How it went, once that is known.
    pub result: Option<Result<String, String>>,
}

/// A job that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its number: its place in the command log.
    pub number: usize,
    /// The row it is about, and its verb: `stopping`.
    pub row: Option<String>,
    /// What is being done.
    pub verb: &'static str,
    /// Since when, milliseconds since 1970.
    pub at_ms: u64,
    /// It can be broken off.
    pub cancels: bool,
    /// How much of it is done, once that is told.
    pub progress: Option<Progress>,
}

/// Bytes that are done, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Done.
    pub done: u64,
    /// In all, where that is known.
    pub total: Option<u64>,
}

impl Progress {
    /// Hundredths that are done; never more than all.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        Some(self.done.min(total).saturating_mul(100) / total)
    }

    /// `43 %  12.3M of 28.4M`.
    #[must_use]
    pub fn text(&self) -> String {
        let done = super::text::bytes(self.done);
        match (self.percent(), self.total) {
            (Some(percent), Some(total)) => {
                format!(
                    "{percent} %  {} of {}",
                    super::text::bytes(self.done.min(total)),
                    super::text::bytes(total)
                )
            }
            _ => done,
        }
    }
}

/// The live picture of a cube.
#[derive(Debug, Clone, PartialEq)]
pub struct Peek {
    /// Of which.
    pub id: String,
    /// What it shows, or why nothing can be seen.
    pub picture: Result<Picture, String>,
}

/// How long a toast stays, in milliseconds.
pub const TOAST_MS: u64 = 4000;
/// Notices and commands that are kept.
pub const KEPT: usize = 500;

/// The whole screen.
#[derive(Debug)]
pub struct Model {
    /// Columns and rows.
    pub size: (u16, u16),
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
    /// What there is.
    pub world: World,
    /// The world has been looked at.
    pub loaded: bool,
    /// The machine that launches happen on.
    pub machine: Name,
    /// The list that has the keys.
    pub focus: Pane,
    /// The lists.
    pub lists: [List; 4],
    /// The filter of the list is being typed.
    pub filtering: bool,
    /// What lies on top, the last uppermost.
    pub layers: Vec<Layer>,
    /// The keys.
    pub keymap: Keymap,
    /// Keys of a sequence that is not complete.
    pub prefix: Vec<Key>,
    /// How it is set up.
    pub setup: Setup,
    /// Figures by cube.
    pub samples: HashMap<String, Samples>,
    /// What the selected cube shows.
    pub peek: Option<Peek>,
    /// The cube that is being watched.
    pub watched: Option<String>,
    /// A row that is selected as soon as it is seen.
    pub expected: Option<(Pane, String)>,
    /// Sizes that were measured, by what.
    pub measured: BTreeMap<String, String>,
    /// Messages.
    pub notices: Vec<Notice>,
    /// Changes.
    pub log: Vec<Logged>,
    /// What runs.
    pub jobs: Vec<Job>,
    /// Cubes that are marked.
    pub marked: std::collections::BTreeSet<String>,
    /// Keepers that do not answer, by cube: when they are asked again, milliseconds since 1970.
    pub silent: HashMap<String, u64>,
    /// What listens in cubes that are looked at.
    pub listening: HashMap<String, Vec<crate::model::Listening>>,
    /// What cubes that are looked at were denied, the newest first.
    pub denials: HashMap<String, Vec<crate::engine::net::Denial>>,
    /// Denials that are not told of any more: the cube, the place.
    pub quiet: std::collections::HashSet<(String, String)>,
    /// The cube that has ended and is kept by our connection for the question on exit.
    pub held: Option<crate::model::TripId>,
    /// What would go into an image is held until that is decided on.
    pub drafted: bool,
    /// The last request, for `.`.
    pub last: Option<Request>,
    /// When Ctrl-C was pressed last.
    pub interrupted_ms: u64,
    /// Frames of the spinner.
    pub frame: usize,
    /// Leave, with this exit code.
    pub quit: Option<u8>,
}

impl Model {
    /// An empty screen.
    #[must_use]
    pub fn new(size: (u16, u16), machine: Name, setup: Setup, keymap: Keymap) -> Self {
        Self {
            size,
            now_ms: 0,
            world: World::default(),
            loaded: false,
            machine,
            focus: Pane::Projects,
            lists: Default::default(),
            filtering: false,
            layers: Vec::new(),
            keymap,
            prefix: Vec::new(),
            setup,
            samples: HashMap::new(),
            peek: None,
            watched: None,
            expected: None,
            measured: BTreeMap::new(),
            notices: Vec::new(),
            log: Vec::new(),
            jobs: Vec::new(),
            marked: std::collections::BTreeSet::new(),
            silent: HashMap::new(),
            listening: HashMap::new(),
            denials: HashMap::new(),
            quiet: std::collections::HashSet::new(),
            held: None,
            drafted: false,
            last: None,
            interrupted_ms: 0,
            frame: 0,
            quit: None,
        }
    }

    /// The list that has the keys.
    #[must_use]
    pub fn list(&self) -> &List {
        &self.lists[self.focus.index()]
    }

    /// The same, to be changed.
    pub fn list_mut(&mut self) -> &mut List {
        &mut self.lists[self.focus.index()]
    }

    /// The ids of the rows of a list, narrowed by its filter.
    #[must_use]
    pub fn ids(&self, pane: Pane) -> Vec<String> {
        let filter = &self.lists[pane.index()].filter;
        if filter.trim().is_empty() {
            return rows::ids(self, pane).into_iter().map(str::to_owned).collect();
        }
        rows::narrowed(rows::rows(self, pane), filter).into_iter().map(|row| row.id).collect()
    }

    /// How many rows a list shows, and at most `count` of them, from its first drawn one on.
    #[must_use]
    pub fn window(&self, pane: Pane, count: usize) -> (usize, Vec<Row>) {
        let list = &self.lists[pane.index()];
        if list.filter.trim().is_empty() {
            return (rows::count(self, pane), rows::some(self, pane, list.top, count));
        }
        let rows = rows::narrowed(rows::rows(self, pane), &list.filter);
        (rows.len(), rows.into_iter().skip(list.top).take(count).collect())
    }

    /// The place of the selected row among `ids`.
    #[must_use]
    fn place<T: AsRef<str>>(&self, pane: Pane, ids: &[T]) -> Option<usize> {
        let list = &self.lists[pane.index()];
        let found = list.selected.as_ref().and_then(|id| ids.iter().position(|known| known.as_ref() == id));
        found.or_else(|| (!ids.is_empty()).then(|| list.at.min(ids.len() - 1)))
    }

    /// The place of the selected row, its id if it is not the one that is noted, and how many rows there are. Copies no
    /// list where nothing is filtered: it is asked for after every message.
    fn settled(&self, pane: Pane) -> (Option<usize>, Option<String>, usize) {
        fn of<T: AsRef<str>>(model: &Model, pane: Pane, ids: &[T]) -> (Option<usize>, Option<String>, usize) {
            let (place, noted) = (model.place(pane, ids), model.lists[pane.index()].selected.as_deref());
            let id = place.map(|at| ids[at].as_ref()).filter(|id| Some(*id) != noted);
            (place, id.map(str::to_owned), ids.len())
        }
        if self.lists[pane.index()].filter.trim().is_empty() {
            of(self, pane, &rows::ids(self, pane))
        } else {
            of(self, pane, &self.ids(pane))
        }
    }

    /// The id of the selected row of the list that has the keys, as it was settled last.
    #[must_use]
    pub fn selected(&self) -> Option<String> {
        self.selected_in(self.focus)
    }

    /// The id of the selected row of a list.
    #[must_use]
    pub fn selected_in(&self, pane: Pane) -> Option<String> {
        self.lists[pane.index()].selected.clone()
    }

    /// Selects the row that lies `by` rows further down in the list that has the keys, or the last on the way.
    pub fn step(&mut self, by: isize) {
        let ids = self.ids(self.focus);
        if let (Some(at), Some(last)) = (self.place(self.focus, &ids), ids.len().checked_sub(1)) {
            let to = at.saturating_add_signed(by).min(last);
            self.list_mut().selected = ids.into_iter().nth(to);
        }
    }

    /// The selected cube, if the cubes have the keys.
    #[must_use]
    pub fn cube(&self) -> Option<&CubeItem> {
        if self.focus != Pane::Cubes {
            return None;
        }
        let id = self.selected()?;
        self.world.cubes.iter().find(|cube| cube.id.as_str() == id)
    }

    /// Where everything goes.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let counts = Pane::ALL.map(|pane| rows::count(self, pane));
        layout::layout(self.size, self.focus, counts)
    }

    /// After a change: the selection points at a row, and that row can be seen.
    pub fn settle(&mut self) {
        let layout = self.layout();
        for pane in Pane::ALL {
            let (place, other, count) = self.settled(pane);
            let height =
                layout.pane(pane).map_or(1, |area| usize::from(area.height.saturating_sub(2))).max(1);
            let list = &mut self.lists[pane.index()];
            list.at = place.unwrap_or(0);
            match (place, other) {
                (None, _) => list.selected = None,
                (Some(_), Some(id)) => list.selected = Some(id),
                (Some(_), None) => {}
            }
            let last = count.saturating_sub(height);
            list.top = list.top.clamp((list.at + 1).saturating_sub(height), list.at).min(last);
        }
    }

    /// Tells something.
    pub fn tell(&mut self, loud: Loud, text: impl Into<String>, hints: Vec<String>) {
        let text = super::text::clean(&text.into());
        let hints = hints.iter().map(|hint| super::text::clean(hint)).collect();
        self.notices.push(Notice { at_ms: self.now_ms, loud, text, hints, gone: false });
        if self.notices.len() > KEPT {
            self.notices.remove(0);
        }
    }

    /// Tells a failure.
    pub fn fail(&mut self, failure: &crate::model::Failure) {
        self.tell(Loud::Error, failure.to_string(), failure.hints.clone());
    }

    /// The messages that lie over the screen now, newest last, three at most.
    #[must_use]
    pub fn toasts(&self) -> Vec<&Notice> {
        let shown = |notice: &&Notice| {
            !notice.gone && (notice.loud == Loud::Error || self.now_ms < notice.at_ms + TOAST_MS)
        };
        let mut toasts: Vec<&Notice> = self.notices.iter().rev().filter(shown).take(3).collect();
        toasts.reverse();
        toasts
    }
}
