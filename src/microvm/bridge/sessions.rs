//! Sessions on this side: which exist, and when one is over.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;

use super::Stdio;
use crate::microvm::link::Link;
use crate::microvm::stream::{Kind, Stream};
use crate::microvm::wire::{Lane, Lie, Message, SESSION_WINDOW};

/// Words for a session that does not run yet.
const EARLY: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not told to run yet: the guest would not know whom words and data are for. They wait.
    Asked(Vec<Message>),
    Runs,
    /// Its status, and whether it was the last; what it wrote is still being written.
    Over(i32, bool),
}

/// All of them, by their streams.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<u32, State>);

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One that the guest has been or will be asked for; `runs` when it does already.
    pub(super) fn expect(
        &mut self,
        stream: u32,
        stdio: Stdio,
        runs: bool,
        link: &mut Link,
    ) -> Result<(), Errno> {
        let quick = |fd: OwnedFd| rustix::io::ioctl_fionbio(&fd, true).map(|()| Rc::new(fd));
        let mut ends = Stream::default();
        let kind = if stdio.stderr.is_none() { Kind::Terminal } else { Kind::Pipe };
        ends.source(Lane::Main, quick(stdio.stdin)?, SESSION_WINDOW, runs);
        ends.sink(Lane::Main, quick(stdio.stdout)?, kind, SESSION_WINDOW);
        if let Some(stderr) = stdio.stderr {
            ends.sink(Lane::Error, quick(stderr)?, kind, SESSION_WINDOW);
        }
        link.streams.insert(stream, ends);
        self.0.insert(stream, if runs { State::Runs } else { State::Asked(Vec::new()) });
        Ok(())
    }

    pub(super) fn started(&mut self, stream: u32, link: &mut Link) -> Result<(), Lie> {
        let Some(state @ State::Asked(_)) = self.0.get_mut(&stream) else { return Err(Lie::Stream) };
        if let State::Asked(early) = std::mem::replace(state, State::Runs) {
            early.iter().for_each(|message| link.channel.say(message));
        }
        if let Some(ends) = link.streams.get_mut(&stream) {
            ends.open();
        }
        Ok(())
    }

    /// Says something to a session, as soon as it runs.
    pub(super) fn say(&mut self, stream: u32, message: Message, link: &mut Link) {
        match self.0.get_mut(&stream) {
            Some(State::Asked(early)) if early.len() < EARLY => early.push(message),
            Some(State::Asked(_)) => {}
            _ => link.channel.say(&message),
        }
    }

    pub(super) fn not_started(&mut self, stream: u32) -> Result<(), Lie> {
        match self.0.remove(&stream) {
            Some(State::Asked(_)) => Ok(()),
            _ => Err(Lie::Stream),
        }
    }

    pub(super) fn exited(&mut self, stream: u32, status: i32, alone: bool) -> Result<(), Lie> {
        match self.0.get_mut(&stream) {
            Some(state @ State::Runs) => *state = State::Over(status, alone),
            _ => return Err(Lie::Stream),
        }
        Ok(())
    }

    /// Those that are over and written out.
    pub(super) fn finish(&mut self, link: &mut Link) -> Vec<(u32, i32, bool)> {
        let mut over = Vec::new();
        self.0.retain(|stream, state| {
            let State::Over(status, alone) = *state else { return true };
            if link.streams.get(stream).is_some_and(|ends| !ends.is_drained()) {
                return true;
            }
            link.streams.remove(stream);
            over.push((*stream, status, alone));
            false
        });
        over
    }
}
