//! QEMU's monitor (QMP): one question, one answer, over a connected stream. QEMU may be a guest's by now, so its answers are
//! bounded in size and in time.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::engine::VmError;
use crate::host::fdpass;

/// How long an ordinary answer may take on a busy host.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const MOST: usize = 1 << 20;
/// Between two looks at something that goes on.
const LOOK: Duration = Duration::from_millis(10);

pub(super) struct Monitor {
    stream: UnixStream,
    unread: Vec<u8>,
    greeted: bool,
}

impl Monitor {
    pub(super) fn new(stream: OwnedFd) -> Self {
        Self { stream: stream.into(), unread: Vec::new(), greeted: false }
    }

    /// Asks, and returns what it says; an error of QEMU's is a refusal with its words.
    pub(super) fn ask(
        &mut self,
        command: &str,
        arguments: Option<Value>,
        patience: Duration,
    ) -> Result<Value, VmError> {
        let deadline = Instant::now() + patience;
        self.greet(deadline, patience)?;
        self.say(command, arguments, None)?;
        self.answer(deadline, patience)
    }

    /// Hands a descriptor over, under a name.
    pub(super) fn hand(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), VmError> {
        let deadline = Instant::now() + PATIENCE;
        self.greet(deadline, PATIENCE)?;
        self.say("getfd", Some(json!({ "fdname": name })), Some(fd))?;
        self.answer(deadline, PATIENCE).map(drop)
    }

    /// Waits until a migration has written everything.
    pub(super) fn migrated(&mut self, patience: Duration) -> Result<(), VmError> {
        let deadline = Instant::now() + patience;
        loop {
            let state = self.ask("query-migrate", None, PATIENCE)?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some(status @ ("failed" | "cancelled")) => {
                    let why = state.get("error-desc").and_then(Value::as_str).unwrap_or(status);
                    return Err(VmError::Refused(crate::model::sanitize::printable(why)));
                }
                _ if Instant::now() > deadline => return Err(VmError::Slow(patience)),
                _ => std::thread::sleep(LOOK),
            }
        }
    }

    /// Waits until a migration has been read, and lets the machine run.
    pub(super) fn arrived(&mut self, patience: Duration) -> Result<(), VmError> {
        let deadline = Instant::now() + patience;
        loop {
            let state = self.ask("query-status", None, patience)?;
            match state.get("status").and_then(Value::as_str) {
                Some("inmigrate") if Instant::now() > deadline => return Err(VmError::Slow(patience)),
                Some("inmigrate") => std::thread::sleep(LOOK),
                Some("running") => return Ok(()),
                _ => return self.ask("cont", None, PATIENCE).map(drop),
            }
        }
    }

    fn greet(&mut self, deadline: Instant, patience: Duration) -> Result<(), VmError> {
        if !self.greeted {
            self.greeted = true;
            self.message(deadline, patience)?;
            self.say("qmp_capabilities", None, None)?;
            self.answer(deadline, patience)?;
        }
        Ok(())
    }

    fn say(
        &mut self,
        command: &str,
        arguments: Option<Value>,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), VmError> {
        let mut message = json!({ "execute": command });
        if let Some(arguments) = arguments {
            message["arguments"] = arguments;
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(b'\n');
        match fd {
            // A message with a descriptor is short and goes in one piece.
            Some(fd) => fdpass::send(&self.stream, &bytes, &[fd]).map_err(VmError::Deaf),
            None => self.stream.write_all(&bytes).map_err(VmError::Deaf),
        }
    }

    fn answer(&mut self, deadline: Instant, patience: Duration) -> Result<Value, VmError> {
        loop {
            let mut message = self.message(deadline, patience)?;
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = message.get("error") {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("it does not say why");
                return Err(VmError::Refused(crate::model::sanitize::printable(why)));
            }
            // An event: nothing here waits for one.
        }
    }

    /// One line of JSON.
    fn message(&mut self, deadline: Instant, patience: Duration) -> Result<Value, VmError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|error| VmError::Deaf(error.into()));
            }
            if self.unread.len() > MOST {
                return Err(VmError::Deaf(io::Error::other("its answer is too long")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(VmError::Slow(patience));
            }
            self.stream.set_read_timeout(Some(left)).map_err(VmError::Deaf)?;
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(VmError::Deaf(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(VmError::Deaf(error)),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
