//! What can happen to the screen ([`Msg`]), and what it wants done ([`Effect`]). Every cause of work is one of these.

use crate::engine::carry::Done;
use crate::engine::net::Denial;
use crate::engine::request::Request;
use crate::keeper::protocol::Usage;
use crate::model::{Failure, Listening, TripId};
use crate::plan::Typed;
use crate::term::cells::Picture;

use super::input::Input;
use super::layer::PageLine;
use super::model::Progress;
use super::world::World;

/// Something happened.
#[derive(Debug)]
pub enum Msg {
    /// The user did something.
    Input(Input),
    /// The terminal has another size: columns and rows.
    Resize(u16, u16),
    /// The world was looked at.
    World(Box<World>),
    /// What a watched cube shows now.
    Picture(TripId, Result<Picture, String>),
    /// The keeper of a watched cube does not answer: when it is asked again, milliseconds since 1970. `None`: it answers.
    Silent(TripId, Option<u64>),
    /// What a watched cube uses now, and how many look at it.
    Usage(TripId, Usage, u32),
    /// Who types into the cube of the terminal layer: us?
    Writer(bool),
    /// The plan of the launch sheet, for the question of this number.
    Planned(u64, Result<Planned, Failure>),
    /// A job goes on.
    Progress(usize, Progress),
    /// A job has ended.
    Done(usize, Result<Done, Failure>),
    /// The terminal was handed over, and is back.
    Back(Result<Return, Failure>),
    /// What listens in a cube: to choose from, or only to be shown.
    Ports(TripId, bool, Result<Vec<Listening>, Failure>),
    /// What a cube was denied: to decide on, or only to be shown.
    Denials(TripId, bool, Result<Vec<Denial>, Failure>),
    /// A cube was denied something just now.
    Denied(TripId, Denial),
    /// What will go into the image of this name is known; it is held until it is decided on.
    Drafted(TripId, String, Result<Drafted, Failure>),
    /// The user left the cube of the terminal layer.
    Left,
    /// Lines of a page.
    Lines(Vec<PageLine>),
    /// A size.
    Measured(String, String),
    /// A theme was looked for: its name, or why not.
    Themed(Result<String, String>),
    /// A text was given to the clipboard, or why not.
    Copied(Result<String, String>),
    /// No program took this text for the clipboard; the terminal may.
    NotTaken(String),
    /// Which jails this launch can have: the word, and why not.
    Offers(Vec<(String, Option<Failure>)>),
    /// Time has passed.
    Tick,
}

/// A plan for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its lines.
    pub lines: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What each setting came to, by its key.
    pub settings: Vec<(String, String)>,
}

/// How it was when the terminal came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Return {
    /// What to say.
    pub text: String,
    /// The cube that was left running.
    pub runs_on: Option<TripId>,
    /// A throwaway that has ended and changed its system: which, and what.
    pub question: Option<(TripId, Vec<String>)>,
}

/// What will go into an image, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drafted {
    /// Lines, harmless.
    pub lines: Vec<String>,
    /// Files that look like secrets.
    pub secrets: usize,
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Carry this out; it is the job of this number.
    Carry(usize, Request),
    /// Break the job of this number off.
    Cancel(usize),
    /// Hand the terminal over to this: a launch, an attach, an exec.
    Join(Request),
    /// Plan this without doing it; it is the question of this number.
    Plan(u64, Box<Typed>),
    /// See what listens in this cube, to choose from.
    Ports(TripId),
    /// See what this cube was denied, to decide on.
    Denials(TripId),
    /// Copy what this cube changed, for an image of this name.
    Draft(TripId, String),
    /// Let go what was copied for an image.
    DropDraft,
    /// Let the cube go that is held for the question on exit.
    Release,
    /// Watch this cube, or none.
    Watch(Option<TripId>),
    /// Type into this cube, in so many rows and columns.
    Enter {
        /// Which.
        id: TripId,
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
        /// Take typing over.
        take_over: bool,
    },
    /// Look at the world again, now.
    Refresh,
    /// Read the log of this cube, and go on.
    Log(TripId),
    /// Run a command of ours and show what it prints.
    Run(&'static str, Vec<String>),
    /// Stop what [`Effect::Log`] and [`Effect::Run`] began.
    EndPage,
    /// Measure this folder: the name it goes by.
    Measure(String),
    /// Use this theme.
    Theme(String),
    /// Write the theme down as the one to start with.
    KeepTheme(String),
    /// Give this to the clipboard.
    Copy(String),
    /// The same, by the terminal alone.
    CopyByTerminal(String),
    /// See which jails this launch can have.
    Offers(Box<Typed>),
    /// Take the mouse, or give it back.
    Mouse(bool),
    /// Stop ourselves, as Ctrl-Z does.
    Suspend,
}
