//! What a face and a keeper say to each other, over a private unix stream socket.
//!
//! A connection opens with eight bytes from the client: `TMK`, the version, a mask of directly
//! passed streams, three zeros; descriptors ride on them. Then frames, both ways: one byte of kind,
//! three zeros, four bytes of length (little endian), the payload. Control is JSON, data is raw. A
//! peer that breaks the format, or exceeds [`MAX_FRAME`], is cut off.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use super::net::{NetAnswer, NetAsk};
use crate::model::{CubeRecord, EnvVar, ExitRecord, ForwardStatus, LayerStatus, Name, PortMap, TripId};
use crate::plan::changes::Ground;
use crate::plan::{LaunchPlan, Typed};

/// The version of this protocol. Another one is refused with a sentence that names both.
pub const VERSION: u8 = 1;
/// The most bytes in one frame's payload: an environment of a megabyte and its arguments fit.
pub const MAX_FRAME: usize = 8 << 20;
/// Bytes of a frame's head.
pub const HEAD: usize = 8;

/// The first eight bytes of a connection.
#[must_use]
pub const fn preamble(direct: u8) -> [u8; 8] {
    [b'T', b'M', b'K', VERSION, direct, 0, 0, 0]
}

/// Reads the first eight bytes: the client's version and its mask of direct streams.
#[must_use]
pub fn parse_preamble(bytes: [u8; 8]) -> Option<(u8, u8)> {
    match bytes {
        [b'T', b'M', b'K', version, direct @ 0..=7, 0, 0, 0] => Some((version, direct)),
        _ => None,
    }
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Client: [`Ask`] as JSON.
    Ask = 1,
    /// Client: bytes for standard input.
    Input = 2,
    /// Client: standard input has ended.
    InputEnd = 3,
    /// Keeper: [`Answer`] as JSON.
    Answer = 16,
    /// Keeper: bytes of the terminal or of standard output.
    Output = 17,
    /// Keeper: bytes of standard error.
    ErrorOutput = 18,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Ask,
            2 => Self::Input,
            3 => Self::InputEnd,
            16 => Self::Answer,
            17 => Self::Output,
            18 => Self::ErrorOutput,
            _ => return None,
        })
    }
}

/// A frame's head.
#[must_use]
pub fn head(kind: Kind, length: usize) -> [u8; HEAD] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    [kind as u8, 0, 0, 0, length[0], length[1], length[2], length[3]]
}

/// Reads a frame's head: its kind and the length of its payload.
#[must_use]
pub fn parse_head(bytes: [u8; HEAD]) -> Option<(Kind, usize)> {
    let kind = Kind::from_byte(bytes[0])?;
    let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
    (bytes[1..4] == [0, 0, 0] && length <= MAX_FRAME).then_some((kind, length))
}

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub enum Ask {
    /// See the entry's output and, as the writer, type.
    Attach {
        /// The client's terminal, or 0.
        rows: u16,
        /// Columns.
        cols: u16,
        /// Wants to type. Refused (read only) while another client does, unless `take_over`.
        write: bool,
        /// Takes typing over from whoever has it.
        take_over: bool,
    },
    /// Start another process in the cube; the connection is its streams.
    Exec {
        /// The command.
        argv: Vec<String>,
        /// More variables, over the cube's own.
        env: Vec<EnvVar>,
        /// Working directory inside; the entry's when absent.
        cwd: Option<String>,
        /// Rows of its terminal; 0: pipes.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// The client's terminal has another size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Tell the state and the figures.
    Status,
    /// TERM, then KILL after the grace.
    Stop {
        /// Milliseconds; the plan's own when absent.
        grace_ms: Option<u64>,
    },
    /// A signal to the entry's process group, or to the process that this connection started.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Answer when the cube has ended.
    Wait,
    /// Something about the net.
    Net(NetAsk),
    /// Pass the uppers out, over the socket that came along as the first stream.
    Ground,
    /// Hold every process still until [`Ask::Thaw`], or until this connection ends.
    Freeze,
    /// Let them go on.
    Thaw,
    /// Write the machine's memory into the cube's folder, and end the cube.
    Pause,
    /// Give a durable cube another name.
    Rename {
        /// The new one.
        name: Name,
    },
    /// Open a forward.
    Forward {
        /// From where to where.
        map: PortMap,
        /// This host port or none.
        exact: bool,
        /// It stays when this connection closes.
        kept: bool,
    },
    /// List the forwards.
    Forwards,
    /// Close a forward.
    Unforward {
        /// Its number.
        id: u32,
    },
}

/// All that a keeper needs, as JSON in a sealed file in memory: the first descriptor that the face passes to the keeper that
/// it started. The child reads the plan from it too.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    /// What to do.
    pub plan: LaunchPlan,
    /// The record as it is to be written first.
    pub record: CubeRecord,
    /// Of a cube that is kept: what was typed, to be launched again.
    #[serde(default)]
    pub typed: Option<Typed>,
    /// The folder of all cubes.
    pub mines: PathBuf,
    /// The lock that keeps the image from being collected.
    #[serde(default)]
    pub hold: Option<PathBuf>,
    /// Where the control socket goes.
    pub socket: PathBuf,
    /// The size at which a file of the log is full, in bytes.
    pub log_bytes: u64,
    /// The folder of a kept cube exists: enter it again.
    pub enter_again: bool,
    /// The client stays attached; otherwise it leaves after "started".
    pub attached: bool,
}

/// What a keeper answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// First of all.
    Welcome {
        /// The keeper's protocol version.
        version: u8,
        /// Its cube.
        id: TripId,
    },
    /// The entry or the exec'd process runs.
    Started {
        /// Its process id inside.
        pid: i32,
        /// What is in force.
        layers: Vec<LayerStatus>,
        /// The forwards that were opened with the cube.
        #[serde(default)]
        forwards: Vec<ForwardStatus>,
    },
    /// Attached.
    Attached {
        /// The cube has a terminal.
        tty: bool,
        /// This client types.
        writer: bool,
        /// Rows of the cube's terminal; 0 without one.
        #[serde(default)]
        rows: u16,
        /// Its columns.
        #[serde(default)]
        cols: u16,
    },
    /// The cube's terminal has another size: the client that types gave it.
    Resized {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Another client types now.
    WriterLost,
    /// Not done: one line, what to do next, and the exit code if it ended a launch.
    Refused {
        /// One line.
        message: String,
        /// Next steps.
        hints: Vec<String>,
    },
    /// Done.
    Done,
    /// Something about the net.
    Net(NetAnswer),
    /// State and figures.
    Status(Box<Status>),
    /// Where the changes are; the descriptors are in the client's socket.
    Ground(Box<Ground>),
    /// The entry (or the exec'd process) has ended.
    Exited(ExitRecord),
    /// The forward that was opened or closed.
    Forwarded(Box<ForwardStatus>),
    /// All that are open, oldest first.
    Forwards {
        /// They.
        forwards: Vec<ForwardStatus>,
    },
}

/// State and figures of a cube.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The record as it stands.
    pub record: CubeRecord,
    /// Clients attached to the entry.
    pub viewers: u32,
    /// What it uses.
    pub usage: Usage,
    /// The forwards that are open.
    #[serde(default)]
    pub forwards: Vec<ForwardStatus>,
}

/// What a cube uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processes inside, init included.
    pub processes: u32,
    /// Threads of all processes inside.
    pub threads: u32,
    /// Resident bytes of all processes, shared pages counted once for each.
    pub memory: u64,
    /// CPU time since it started, in milliseconds.
    pub cpu_ms: u64,
    /// Wall time since it started, in milliseconds.
    pub age_ms: u64,
    /// Bytes sent over its own network, to itself and through the gateway; `None` when it has none of its own.
    #[serde(default)]
    pub net: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip_and_lies_are_refused() {
        assert_eq!(parse_head(head(Kind::Output, 70_000)), Some((Kind::Output, 70_000)));
        assert_eq!(parse_head(head(Kind::Ask, MAX_FRAME + 1)), None, "too long");
        assert_eq!(parse_head([99, 0, 0, 0, 1, 0, 0, 0]), None, "unknown kind");
        assert_eq!(parse_head([1, 1, 0, 0, 1, 0, 0, 0]), None, "reserved bytes");
        assert_eq!(parse_preamble(preamble(5)), Some((VERSION, 5)));
        assert_eq!(parse_preamble(*b"GET / HT"), None);
    }
}
