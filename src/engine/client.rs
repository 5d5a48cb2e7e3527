//! A face's side of a connection to a keeper. Blocking: the command line has nothing else to do.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::io::{read, retry_on_intr};

use crate::host::fdpass;
use crate::keeper::protocol::{self, Answer, Ask, HEAD, Kind, VERSION, head, parse_head};
use crate::model::{Failure, FailureKind};

/// What came from the keeper.
#[derive(Debug)]
pub enum Heard {
    /// Control.
    Answer(Answer),
    /// Bytes of the terminal or standard output.
    Output(Vec<u8>),
    /// Bytes of standard error.
    ErrorOutput(Vec<u8>),
}

/// A connection to a keeper.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// Bytes read that are not a whole frame yet.
    held: Vec<u8>,
    at: usize,
}

/// Bytes asked for in one read.
const READ: usize = 128 * 1024;

impl Client {
    /// Over a connection that is open already.
    #[must_use]
    pub const fn over(stream: UnixStream) -> Self {
        Self { stream, held: Vec::new(), at: 0 }
    }

    /// Connects to the keeper behind `socket`, passing the streams of `direct` along.
    ///
    /// # Errors
    /// Nobody is there, or it speaks another version.
    pub fn connect(socket: &Path, direct: [Option<BorrowedFd<'_>>; 3]) -> Result<Self, Failure> {
        Self::connect_within(socket, direct, None)
    }

    /// The same; a keeper that takes longer than `patience` to say who it is counts as gone.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_within(
        socket: &Path,
        direct: [Option<BorrowedFd<'_>>; 3],
        patience: Option<std::time::Duration>,
    ) -> Result<Self, Failure> {
        let fail = |error: &io::Error| {
            Failure::new(FailureKind::Missing, "cannot reach the cube's keeper").because(error)
        };
        let stream = UnixStream::connect(socket).map_err(|e| fail(&e))?;
        stream.set_read_timeout(patience).map_err(|e| fail(&e))?;
        let mut mask = 0;
        for (bit, fd) in direct.iter().enumerate() {
            if fd.is_some() {
                mask |= 1 << bit;
            }
        }
        let fds: Vec<_> = direct.into_iter().flatten().collect();
        fdpass::send(&stream, &protocol::preamble(mask), &fds).map_err(|e| fail(&e))?;
        let mut client = Self::over(stream);
        match client.answer()? {
            Answer::Welcome { version: VERSION, .. } => {
                client.stream.set_read_timeout(None).map_err(|e| fail(&e))?;
                Ok(client)
            }
            Answer::Welcome { version, .. } => Err(Failure::new(
                FailureKind::Unsupported,
                format!("this cube's keeper speaks protocol {version}, this command speaks {VERSION}"),
            )
            .hint("use the version of tripmine that started the cube")),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        let body =
            serde_json::to_vec(ask).map_err(|e| Failure::failed("cannot write a request").because(&e))?;
        self.send(Kind::Ask, &body).map_err(|e| gone(&e))
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn send(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEAD + body.len());
        message.extend_from_slice(&head(kind, body.len()));
        message.extend_from_slice(body);
        self.stream.write_all(&message)
    }

    /// Waits for the next frame; `None` when the keeper has closed.
    ///
    /// # Errors
    /// Reading failed, or what came is no frame.
    pub fn hear(&mut self) -> io::Result<Option<Heard>> {
        loop {
            if let Some(heard) = self.take()? {
                return Ok(Some(heard));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// A frame that has been read already.
    ///
    /// # Errors
    /// What came is no frame.
    pub fn take(&mut self) -> io::Result<Option<Heard>> {
        let rest = &self.held[self.at..];
        let Some(head) = rest.first_chunk::<HEAD>() else { return Ok(None) };
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let (kind, length) = parse_head(*head).ok_or_else(bad)?;
        let Some(body) = rest.get(HEAD..HEAD + length) else { return Ok(None) };
        let heard = match kind {
            Kind::Output => Heard::Output(body.to_vec()),
            Kind::ErrorOutput => Heard::ErrorOutput(body.to_vec()),
            Kind::Answer => Heard::Answer(serde_json::from_slice(body)?),
            _ => return Err(bad()),
        };
        self.at += HEAD + length;
        Ok(Some(heard))
    }

    /// Reads once; 0 when the keeper has closed.
    ///
    /// # Errors
    /// As read(2).
    pub fn fill(&mut self) -> io::Result<usize> {
        self.held.drain(..self.at);
        self.at = 0;
        self.held.reserve(READ);
        // Into what was never written: to zero it first would cost a short launch more than all that it reads.
        Ok(retry_on_intr(|| read(&self.stream, spare_capacity(&mut self.held)))?)
    }

    /// The next answer; output on the way is dropped.
    ///
    /// # Errors
    /// The keeper is gone, or refuses.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        loop {
            match self.hear().map_err(|e| gone(&e))? {
                None => return Err(Failure::new(FailureKind::Missing, "the cube has ended")),
                Some(Heard::Answer(Answer::Refused { message, hints })) => {
                    return Err(refused(message, hints));
                }
                Some(Heard::Answer(answer)) => return Ok(answer),
                Some(_) => {}
            }
        }
    }

    /// For poll(2).
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A keeper's refusal as a failure.
#[must_use]
pub fn refused(message: String, hints: Vec<String>) -> Failure {
    hints.into_iter().fold(Failure::failed(message), Failure::hint)
}

/// An answer that does not fit the question.
#[must_use]
pub fn unexpected(answer: &Answer) -> Failure {
    Failure::failed(format!("the cube's keeper answered out of turn: {answer:?}"))
}

fn gone(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Missing, "the cube's keeper is gone").because(error)
}
