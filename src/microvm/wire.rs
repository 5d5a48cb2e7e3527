//! What host and guest say to each other over one byte channel: frames, messages, and how they are read.
//!
//! A frame is `kind` (one byte), `stream` and `length` (four each, little-endian), then so many bytes. The guest is hostile:
//! each kind has a longest frame, each side takes only what the other may say, and anything else is a [`Lie`], after which
//! nothing more is believed. Streams are numbered by who opens them: the guest's have the top bit. Data flows by credit, so
//! that what is under way is bounded on both sides and no stream holds another up.
//!
//! The host greets first, again and again, because bytes that it writes before the guest has opened its port are lost; both
//! sides skip everything until the greeting, or its answer with the same number. A guest that was saved and restored is
//! greeted anew.

mod fields;
mod messages;
mod payload;
#[cfg(test)]
mod tests;

pub use messages::{
    Greeting, Hello, Identity, Lane, Listener, Message, Mount, MountKind, Net, Setup, Spawn, Stats,
};

/// The version of this protocol. The agent is of the same program as the bridge but for a restored guest.
pub const VERSION: u16 = 2;
/// Bytes of a frame before its payload.
pub const HEAD: usize = 9;
/// The most bytes of data in a frame.
pub const CHUNK: usize = 16 * 1024;
/// Bytes that may be under way in one lane of a session before the reader has taken any.
pub const SESSION_WINDOW: u32 = 128 * 1024;
/// The same for a network connection.
pub const CONNECTION_WINDOW: u32 = 64 * 1024;
/// Sessions at once.
pub const SESSIONS: usize = 256;
/// Connections at once, for each direction.
pub const CONNECTIONS: usize = 512;
/// Questions to the name service at once.
pub const QUERIES: usize = 64;
/// The most bytes of a question or an answer over UDP.
pub const QUERY_MAX: usize = 4096;
/// The longest path of a unix socket (unix(7)).
pub const PATH_MAX: usize = 107;
/// Listening sockets that are told.
pub const LISTENERS: usize = 1024;
/// Streams that the guest opens have this bit.
pub const GUEST_OPENED: u32 = 1 << 31;
/// [`Message::Signal`] to every process but the agent.
pub const ALL_SESSIONS: u32 = 0;
/// The entry's stream.
pub const ENTRY: u32 = 1;

/// The most bytes of a frame from the guest.
const FROM_GUEST: usize = 64 * 1024;
/// The most bytes of a frame from the host: a command line and an environment are the longest (execve(2) takes 2 MiB).
const FROM_HOST: usize = 4 << 20;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The bridge, in the cube.
    Host,
    /// The agent.
    Guest,
}

/// The other side said something that it may not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// An unknown kind, or one that is not the other side's to say.
    #[error("an unknown message: {0:#04x}")]
    Kind(u8),
    /// A frame longer than any of its kind.
    #[error("a message of {length} bytes, of kind {kind:#04x}")]
    Length {
        /// Its kind.
        kind: u8,
        /// What it claims.
        length: u32,
    },
    /// The fields do not fit the kind.
    #[error("a broken message of kind {0:#04x}")]
    Fields(u8),
    /// More data than there was credit for, or credit beyond all bounds.
    #[error("more data than it was given leave for")]
    Credit,
    /// A stream that the other side may not open, or not twice.
    #[error("a stream of a number that is not its to choose")]
    Stream,
    /// Something out of its order.
    #[error("a message out of its order")]
    Order,
}

/// Turns bytes into messages, however they are cut up.
#[derive(Debug)]
pub struct Decoder {
    side: Side,
    /// Skipping until the greeting (guest) or its answer (host).
    greeted: bool,
    /// The number that the answer must have; for the host only.
    nonce: u64,
    buffer: Vec<u8>,
    /// Where in `buffer` the next frame begins.
    at: usize,
}

impl Decoder {
    /// For a side that has not been greeted. `nonce` is the host's number for its greeting.
    #[must_use]
    pub const fn new(side: Side, nonce: u64) -> Self {
        Self { side, greeted: false, nonce, buffer: Vec::new(), at: 0 }
    }

    /// Adds bytes that have arrived. Read at most as much as is wanted at once: this is the only buffer of them.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets a frame that was cut off, and skips until the next greeting.
    pub fn start_over(&mut self) {
        self.buffer.clear();
        self.at = 0;
        self.greeted = false;
    }

    /// The next whole message; `None` until there are more bytes.
    ///
    /// # Errors
    /// The other side lies: the channel must be given up.
    pub fn message(&mut self) -> Result<Option<Message>, Lie> {
        if !self.greeted {
            return Ok(self.skip());
        }
        let Some((head, rest)) = self.buffer[self.at..].split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let (kind, stream, length) = split(head);
        let most = payload::longest(kind, self.side).ok_or(Lie::Kind(kind))?;
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        if count > most {
            return Err(Lie::Length { kind, length });
        }
        let Some(body) = rest.get(..count) else { return Ok(None) };
        let message = payload::decode(kind, stream, body).ok_or(Lie::Fields(kind))?;
        self.at += HEAD + count;
        Ok(Some(message))
    }

    /// Looks for the one frame that ends the skipping, byte by byte: anything may lie before it.
    fn skip(&mut self) -> Option<Message> {
        let wanted = if self.side == Side::Host { payload::HELLO } else { payload::GREET };
        loop {
            let left = &self.buffer[self.at..];
            let Some((head, rest)) = left.split_first_chunk::<HEAD>() else { break };
            let (kind, stream, length) = split(head);
            let count = usize::try_from(length).unwrap_or(usize::MAX);
            let fits = payload::longest(kind, self.side).is_some_and(|most| count <= most);
            if kind == wanted && stream == payload::MAGIC && fits {
                let Some(body) = rest.get(..count) else { break };
                let found = payload::decode(kind, stream, body);
                let ours = match &found {
                    Some(Message::Hello(hello)) => hello.nonce == self.nonce,
                    Some(_) => true,
                    None => false,
                };
                if ours {
                    self.at += HEAD + count;
                    self.greeted = true;
                    return found;
                }
            }
            self.at += 1;
        }
        // What was skipped is not kept.
        self.buffer.drain(..self.at);
        self.at = 0;
        None
    }
}

fn split(head: &[u8; HEAD]) -> (u8, u32, u32) {
    let [kind, a, b, c, d, e, f, g, h] = *head;
    (kind, u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}
