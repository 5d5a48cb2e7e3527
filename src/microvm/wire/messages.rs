//! The messages, as values.

use std::net::{IpAddr, SocketAddr};

use crate::jail::spawn::SpawnSpec;

pub use crate::jail::spawn::Identity;

/// The first words of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// [`super::VERSION`].
    pub version: u16,
    /// A number that the answer repeats.
    pub nonce: u64,
}

/// The answer of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`super::VERSION`] of the agent.
    pub version: u16,
    /// The number of the greeting.
    pub nonce: u64,
    /// The guest's kernel, as uname(2) calls it. The guest's own words.
    pub kernel: String,
    /// It has been set up already: a restored guest.
    pub set_up: bool,
    /// Streams of sessions that still run.
    pub sessions: Vec<u32>,
}

/// What a guest is made of; once, after its first greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Host name inside.
    pub hostname: String,
    /// What is mounted, in this order; the first is the root (target `/`). `/proc`, `/sys`, `/dev` and what is in them are
    /// the agent's own work.
    pub mounts: Vec<Mount>,
    /// The network.
    pub net: Net,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Random bytes for the guest's generator: 32 to 512.
    pub seed: Vec<u8>,
    /// How many processes there may be; 0 when nobody says.
    pub pids: u32,
    /// Open files of each process.
    pub open_files: u64,
}

/// One mount of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Of what kind.
    pub kind: MountKind,
    /// The share's tag; for a tmpfs its options (`mode=1777,size=64m`).
    pub source: String,
    /// Where it is seen.
    pub target: String,
    /// No writing.
    pub read_only: bool,
}

/// Kinds of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// virtiofs, by its tag.
    Virtiofs,
    /// 9p over virtio, by its tag.
    NineP,
    /// Memory.
    Tmpfs,
}

/// The network of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// Loopback only: everything else fails at once.
    None,
    /// Every connection is taken up and asked of the host.
    Captured,
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawn {
    /// What.
    pub spec: SpawnSpec,
    /// As whom.
    pub identity: Identity,
    /// Rows and columns of its terminal; without one it has pipes.
    pub terminal: Option<(u16, u16)>,
}

/// A listening TCP socket of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// Where.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// How the guest fares, in bytes and processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// `MemTotal`.
    pub memory: u64,
    /// `MemAvailable`.
    pub available: u64,
    /// Processes besides the agent.
    pub processes: u32,
}

/// Which bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Standard input (to the guest), standard output or a terminal (from it), a connection (both).
    Main,
    /// Standard error; from the guest only.
    Error,
}

/// A message, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Host: here I am. Repeated until it is answered; a new number starts over, with the sessions that run.
    Greet(Greeting),
    /// Guest: the answer.
    Hello(Box<Hello>),
    /// Host: what to make.
    Setup(Box<Setup>),
    /// Guest: set up.
    Ready,
    /// Guest: it could not be set up, in which step and why.
    Failed {
        /// What was being done.
        step: String,
        /// The error number.
        errno: i32,
    },
    /// Host: the time.
    Time {
        /// Nanoseconds since 1970.
        nanoseconds: u64,
    },
    /// Host: fresh random bytes.
    Reseed {
        /// 512 at most.
        seed: Vec<u8>,
    },
    /// Host: start a process as this stream.
    Spawn {
        /// The stream.
        stream: u32,
        /// What.
        spawn: Box<Spawn>,
    },
    /// Host: this session of a restored guest is mine; its credit starts anew.
    Adopt {
        /// The stream that it was started as.
        stream: u32,
    },
    /// Guest: it runs.
    Started {
        /// The stream.
        stream: u32,
        /// Its process id in the guest.
        pid: i32,
    },
    /// Guest: it could not be started.
    NotStarted {
        /// The stream.
        stream: u32,
        /// The error number.
        errno: i32,
        /// It is the working directory that is not there.
        folder: bool,
    },
    /// Guest: it has ended, and all that it had written was sent before this.
    Exited {
        /// The stream.
        stream: u32,
        /// As waitpid(2) gives it.
        status: i32,
        /// No process but the agent is left.
        alone: bool,
    },
    /// Host: the size of a terminal.
    Resize {
        /// The stream.
        stream: u32,
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Host: a signal to a session's process group.
    Signal {
        /// The stream, or [`super::ALL_SESSIONS`].
        stream: u32,
        /// The number.
        signal: i32,
    },
    /// Host: connect this stream to a port of the guest's own loopback.
    Dial {
        /// The stream.
        stream: u32,
        /// The port.
        port: u16,
        /// ::1 instead of 127.0.0.1.
        six: bool,
    },
    /// Host: connect this stream to a unix socket, by its path in the guest.
    DialPath {
        /// The stream.
        stream: u32,
        /// The path: at most [`super::PATH_MAX`] bytes.
        path: Vec<u8>,
    },
    /// Guest: somebody inside connects to this; the stream is his.
    Connect {
        /// The stream.
        stream: u32,
        /// Where to.
        to: SocketAddr,
    },
    /// Either: the connection of this stream stands.
    Opened {
        /// The stream.
        stream: u32,
    },
    /// Guest: a question to a name service.
    Query {
        /// The guest's number for it.
        token: u32,
        /// The packet.
        packet: Vec<u8>,
    },
    /// Host: its answer.
    Answer {
        /// The guest's number.
        token: u32,
        /// The packet.
        packet: Vec<u8>,
    },
    /// Host: tell which ports listen, and again whenever that changes.
    WatchPorts {
        /// Milliseconds between two looks; 0 ends it.
        every: u32,
    },
    /// Guest: what listens.
    Ports(Vec<Listener>),
    /// Host: stop every process, write everything out, and say so.
    Freeze {
        /// The host's number.
        token: u32,
    },
    /// Host: let everything go on.
    Thaw {
        /// The host's number.
        token: u32,
    },
    /// Host: write everything out.
    Sync {
        /// The host's number.
        token: u32,
    },
    /// Host: say nothing more until you are let go on or greeted anew; what is under way comes before the answer. A machine
    /// that is saved after that answer has no word half said.
    Hold {
        /// The host's number.
        token: u32,
        /// Or: go on.
        on: bool,
    },
    /// Host: let go of files that are only remembered: each holds a descriptor of the share.
    DropCaches {
        /// The host's number.
        token: u32,
    },
    /// Guest: done.
    Done {
        /// The host's number.
        token: u32,
        /// The error number, or 0.
        errno: i32,
    },
    /// Host: how do you fare?
    AskStats {
        /// The host's number.
        token: u32,
    },
    /// Guest: so.
    Stats {
        /// The host's number.
        token: u32,
        /// How.
        stats: Stats,
    },
    /// Host: the end.
    PowerOff,
    /// Guest: words for the cube's own log of its machine.
    Log(String),
    /// Either: data, by credit.
    Data {
        /// The stream.
        stream: u32,
        /// Which bytes.
        lane: Lane,
        /// At most [`super::CHUNK`].
        bytes: Vec<u8>,
    },
    /// Either: no more data in this lane.
    Eof {
        /// The stream.
        stream: u32,
        /// The lane.
        lane: Lane,
    },
    /// Either: nobody reads this lane any more.
    Shut {
        /// The stream.
        stream: u32,
        /// The lane.
        lane: Lane,
    },
    /// Either: so many bytes more may be sent.
    Credit {
        /// The stream.
        stream: u32,
        /// The lane.
        lane: Lane,
        /// How many.
        bytes: u32,
    },
    /// Either: this stream is over at once.
    Reset {
        /// The stream.
        stream: u32,
        /// The error number.
        errno: i32,
    },
}
