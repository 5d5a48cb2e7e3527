//! Messages as frames. One table of kinds: its byte, who says it, the longest.

use super::fields::{Reader, Writer};
use super::messages::{
    Greeting, Hello, Identity, Lane, Listener, Message, Mount, MountKind, Net, Setup, Spawn, Stats,
};
use super::{CHUNK, FROM_GUEST, FROM_HOST, HEAD, LISTENERS, PATH_MAX, QUERY_MAX, SESSIONS, Side};
use crate::jail::spawn::SpawnSpec;

pub(super) const GREET: u8 = 0x01;
pub(super) const HELLO: u8 = 0x02;
const HOLD: u8 = 0x03;
const DIAL_PATH: u8 = 0x04;
/// In the place of a stream in a greeting and its answer: what the skipping looks for.
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"TrMv");

const SETUP: u8 = 0x10;
const TIME: u8 = 0x11;
const RESEED: u8 = 0x12;
const SPAWN: u8 = 0x13;
const ADOPT: u8 = 0x14;
const RESIZE: u8 = 0x15;
const SIGNAL: u8 = 0x16;
const DIAL: u8 = 0x17;
const ANSWER: u8 = 0x18;
const WATCH_PORTS: u8 = 0x19;
const FREEZE: u8 = 0x1a;
const THAW: u8 = 0x1b;
const SYNC: u8 = 0x1c;
const DROP_CACHES: u8 = 0x1d;
const ASK_STATS: u8 = 0x1e;
const POWER_OFF: u8 = 0x1f;
const READY: u8 = 0x20;
const FAILED: u8 = 0x21;
const STARTED: u8 = 0x22;
const NOT_STARTED: u8 = 0x23;
const EXITED: u8 = 0x24;
const CONNECT: u8 = 0x25;
const QUERY: u8 = 0x26;
const PORTS: u8 = 0x27;
const DONE: u8 = 0x28;
const STATS: u8 = 0x29;
const LOG: u8 = 0x2a;
const OPENED: u8 = 0x30;
const DATA: u8 = 0x31;
const EOF: u8 = 0x32;
const CREDIT: u8 = 0x33;
const RESET: u8 = 0x34;
const SHUT: u8 = 0x35;

/// Bytes of a text that a person reads.
const TEXT: usize = 1024;
const MOUNTS: usize = 64;
const SEED: usize = 512;

/// The most bytes of a frame of this kind, if `reader` may receive one.
pub(super) const fn longest(kind: u8, reader: Side) -> Option<usize> {
    match (reader, kind) {
        (Side::Guest, GREET) => Some(10),
        (Side::Guest, SETUP | SPAWN) => Some(FROM_HOST),
        (Side::Guest, ANSWER) => Some(QUERY_MAX + 16),
        (Side::Guest, RESEED) => Some(SEED),
        (Side::Guest, DIAL_PATH) => Some(PATH_MAX),
        (Side::Guest, HOLD | TIME..=POWER_OFF) => Some(16),
        (Side::Host, HELLO | PORTS) => Some(FROM_GUEST),
        (Side::Host, QUERY) => Some(QUERY_MAX + 32),
        (Side::Host, FAILED | LOG) => Some(TEXT + 8),
        (Side::Host, READY..=STATS) => Some(32),
        (_, DATA) => Some(CHUNK + 1),
        (_, OPENED | EOF | CREDIT | RESET | SHUT) => Some(8),
        _ => None,
    }
}

impl Message {
    /// Appends the frame of this message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        let mut writer = Writer(std::mem::take(into));
        writer.0.extend_from_slice(&[0; HEAD]);
        let (kind, stream) = self.body(&mut writer);
        *into = writer.0;
        let length = u32::try_from(into.len() - start - HEAD).unwrap_or(u32::MAX);
        into[start] = kind;
        into[start + 1..start + 5].copy_from_slice(&stream.to_le_bytes());
        into[start + 5..start + HEAD].copy_from_slice(&length.to_le_bytes());
    }

    fn body(&self, writer: &mut Writer) -> (u8, u32) {
        match self {
            Self::Greet(greeting) => {
                writer.short(greeting.version).long(greeting.nonce);
                (GREET, MAGIC)
            }
            Self::Hello(hello) => {
                writer.short(hello.version).long(hello.nonce).byte(u8::from(hello.set_up));
                writer.bytes(hello.kernel.as_bytes()).word(count(&hello.sessions));
                for stream in &hello.sessions {
                    writer.word(*stream);
                }
                (HELLO, MAGIC)
            }
            Self::Setup(setup) => {
                put_setup(writer, setup);
                (SETUP, 0)
            }
            Self::Spawn { stream, spawn } => {
                put_spawn(writer, spawn);
                (SPAWN, *stream)
            }
            Self::Data { stream, lane, bytes } => {
                writer.byte(lane_byte(*lane)).0.extend_from_slice(bytes);
                (DATA, *stream)
            }
            Self::Query { token, packet } => {
                writer.bytes(packet);
                (QUERY, *token)
            }
            Self::Answer { token, packet } => {
                writer.bytes(packet);
                (ANSWER, *token)
            }
            Self::Ports(listeners) => {
                writer.word(count(listeners));
                for listener in listeners {
                    writer.address(listener.address).short(listener.port);
                }
                (PORTS, 0)
            }
            Self::Log(text) => {
                writer.bytes(cut(text));
                (LOG, 0)
            }
            Self::Failed { step, errno } => {
                writer.word(errno.cast_unsigned()).bytes(cut(step));
                (FAILED, 0)
            }
            Self::DialPath { stream, path } => {
                writer.0.extend_from_slice(path);
                (DIAL_PATH, *stream)
            }
            Self::Reseed { seed } => {
                writer.0.extend_from_slice(seed);
                (RESEED, 0)
            }
            _ => self.short_body(writer),
        }
    }

    fn short_body(&self, writer: &mut Writer) -> (u8, u32) {
        match *self {
            Self::Time { nanoseconds } => {
                writer.long(nanoseconds);
                (TIME, 0)
            }
            Self::Adopt { stream } => (ADOPT, stream),
            Self::Resize { stream, rows, cols } => {
                writer.short(rows).short(cols);
                (RESIZE, stream)
            }
            Self::Signal { stream, signal } => {
                writer.word(signal.cast_unsigned());
                (SIGNAL, stream)
            }
            Self::Dial { stream, port, six } => {
                writer.short(port).byte(u8::from(six));
                (DIAL, stream)
            }
            Self::WatchPorts { every } => (WATCH_PORTS, every),
            Self::Freeze { token } => (FREEZE, token),
            Self::Thaw { token } => (THAW, token),
            Self::Sync { token } => (SYNC, token),
            Self::Hold { token, on } => {
                writer.byte(u8::from(on));
                (HOLD, token)
            }
            Self::DropCaches { token } => (DROP_CACHES, token),
            Self::AskStats { token } => (ASK_STATS, token),
            Self::PowerOff => (POWER_OFF, 0),
            Self::Started { stream, pid } => {
                writer.word(pid.cast_unsigned());
                (STARTED, stream)
            }
            Self::NotStarted { stream, errno, folder } => {
                writer.word(errno.cast_unsigned()).byte(u8::from(folder));
                (NOT_STARTED, stream)
            }
            Self::Exited { stream, status, alone } => {
                writer.word(status.cast_unsigned()).byte(u8::from(alone));
                (EXITED, stream)
            }
            Self::Connect { stream, to } => {
                writer.socket(to);
                (CONNECT, stream)
            }
            Self::Done { token, errno } => {
                writer.word(errno.cast_unsigned());
                (DONE, token)
            }
            Self::Stats { token, stats } => {
                writer.long(stats.memory).long(stats.available).word(stats.processes);
                (STATS, token)
            }
            Self::Opened { stream } => (OPENED, stream),
            Self::Shut { stream, lane } => {
                writer.byte(lane_byte(lane));
                (SHUT, stream)
            }
            Self::Eof { stream, lane } => {
                writer.byte(lane_byte(lane));
                (EOF, stream)
            }
            Self::Credit { stream, lane, bytes } => {
                writer.byte(lane_byte(lane)).word(bytes);
                (CREDIT, stream)
            }
            Self::Reset { stream, errno } => {
                writer.word(errno.cast_unsigned());
                (RESET, stream)
            }
            // The others have bodies of their own, above.
            _ => (READY, 0),
        }
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

const fn lane_byte(lane: Lane) -> u8 {
    match lane {
        Lane::Main => 0,
        Lane::Error => 1,
    }
}

/// So much of a text as fits, whole characters only.
fn cut(text: &str) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(TEXT)]
}

fn put_spawn(writer: &mut Writer, spawn: &Spawn) {
    let Identity { uid, gid, capabilities } = spawn.identity;
    let (rows, cols) = spawn.terminal.unwrap_or_default();
    writer.word(uid).word(gid).long(capabilities).short(rows).short(cols);
    writer.0.extend_from_slice(&spawn.spec.encode());
}

impl Spawn {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        put_spawn(&mut writer, self);
        writer.0
    }

    /// From [`Spawn::encode`]; `None` when the bytes are anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        spawn(&mut Reader(bytes))
    }
}

fn put_setup(writer: &mut Writer, setup: &Setup) {
    writer.bytes(setup.hostname.as_bytes()).word(count(&setup.mounts));
    for mount in &setup.mounts {
        let kind = match mount.kind {
            MountKind::Virtiofs => 0,
            MountKind::NineP => 1,
            MountKind::Tmpfs => 2,
        };
        writer.byte(kind).byte(u8::from(mount.read_only));
        writer.bytes(mount.source.as_bytes()).bytes(mount.target.as_bytes());
    }
    writer.byte(u8::from(setup.net == Net::Captured)).long(setup.time).bytes(&setup.seed);
    writer.word(setup.pids).long(setup.open_files);
}

/// The message of a frame; `None` when its fields are wrong.
pub(super) fn decode(kind: u8, stream: u32, body: &[u8]) -> Option<Message> {
    let mut reader = Reader(body);
    let r = &mut reader;
    let message = match kind {
        GREET => Message::Greet(Greeting { version: r.short()?, nonce: r.long()? }),
        HELLO => Message::Hello(Box::new(hello(r)?)),
        SETUP => Message::Setup(Box::new(setup(r)?)),
        TIME => Message::Time { nanoseconds: r.long()? },
        RESEED => Message::Reseed { seed: r.rest().to_vec() },
        SPAWN => Message::Spawn { stream, spawn: Box::new(spawn(r)?) },
        ADOPT => Message::Adopt { stream },
        RESIZE => Message::Resize { stream, rows: r.short()?, cols: r.short()? },
        SIGNAL => Message::Signal { stream, signal: r.word()?.cast_signed() },
        DIAL => Message::Dial { stream, port: r.short()?, six: r.flag()? },
        DIAL_PATH => Message::DialPath { stream, path: r.rest().to_vec() },
        ANSWER => Message::Answer { token: stream, packet: r.bytes(QUERY_MAX)?.to_vec() },
        WATCH_PORTS => Message::WatchPorts { every: stream },
        FREEZE => Message::Freeze { token: stream },
        THAW => Message::Thaw { token: stream },
        SYNC => Message::Sync { token: stream },
        HOLD => Message::Hold { token: stream, on: r.flag()? },
        DROP_CACHES => Message::DropCaches { token: stream },
        ASK_STATS => Message::AskStats { token: stream },
        POWER_OFF => Message::PowerOff,
        READY => Message::Ready,
        FAILED => Message::Failed { errno: r.word()?.cast_signed(), step: r.text(TEXT)? },
        STARTED => Message::Started { stream, pid: r.word()?.cast_signed() },
        NOT_STARTED => Message::NotStarted { stream, errno: r.word()?.cast_signed(), folder: r.flag()? },
        EXITED => Message::Exited { stream, status: r.word()?.cast_signed(), alone: r.flag()? },
        CONNECT => Message::Connect { stream, to: r.socket()? },
        QUERY => Message::Query { token: stream, packet: r.bytes(QUERY_MAX)?.to_vec() },
        PORTS => Message::Ports(listeners(r)?),
        DONE => Message::Done { token: stream, errno: r.word()?.cast_signed() },
        STATS => {
            let stats = Stats { memory: r.long()?, available: r.long()?, processes: r.word()? };
            Message::Stats { token: stream, stats }
        }
        LOG => Message::Log(r.text(TEXT)?),
        OPENED => Message::Opened { stream },
        DATA => Message::Data { stream, lane: lane(r)?, bytes: r.rest().to_vec() },
        EOF => Message::Eof { stream, lane: lane(r)? },
        SHUT => Message::Shut { stream, lane: lane(r)? },
        CREDIT => Message::Credit { stream, lane: lane(r)?, bytes: r.word()? },
        RESET => Message::Reset { stream, errno: r.word()?.cast_signed() },
        _ => return None,
    };
    reader.end(message)
}

fn lane(r: &mut Reader<'_>) -> Option<Lane> {
    r.flag().map(|error| if error { Lane::Error } else { Lane::Main })
}

fn hello(r: &mut Reader<'_>) -> Option<Hello> {
    let (version, nonce, set_up) = (r.short()?, r.long()?, r.flag()?);
    let kernel = r.text(TEXT)?;
    let sessions = list(r, SESSIONS, Reader::word)?;
    Some(Hello { version, nonce, kernel, set_up, sessions })
}

fn list<'a, T>(
    r: &mut Reader<'a>,
    most: usize,
    mut one: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = usize::try_from(r.word()?).ok()?;
    if count > most {
        return None;
    }
    (0..count).map(|_| one(r)).collect()
}

fn listeners(r: &mut Reader<'_>) -> Option<Vec<Listener>> {
    list(r, LISTENERS, |r| Some(Listener { address: r.address()?, port: r.short()? }))
}

fn setup(r: &mut Reader<'_>) -> Option<Setup> {
    let hostname = r.text(TEXT)?;
    let mounts = list(r, MOUNTS, |r| {
        let kind = match r.byte()? {
            0 => MountKind::Virtiofs,
            1 => MountKind::NineP,
            2 => MountKind::Tmpfs,
            _ => return None,
        };
        let read_only = r.flag()?;
        Some(Mount { kind, read_only, source: r.text(TEXT)?, target: r.text(4 * TEXT)? })
    })?;
    let net = if r.flag()? { Net::Captured } else { Net::None };
    let (time, seed) = (r.long()?, r.bytes(SEED)?.to_vec());
    Some(Setup { hostname, mounts, net, time, seed, pids: r.word()?, open_files: r.long()? })
}

fn spawn(r: &mut Reader<'_>) -> Option<Spawn> {
    let identity = Identity { uid: r.word()?, gid: r.word()?, capabilities: r.long()? };
    let (rows, cols) = (r.short()?, r.short()?);
    let spec = SpawnSpec::decode(r.rest())?;
    Some(Spawn { spec, identity, terminal: (rows > 0).then_some((rows, cols)) })
}
