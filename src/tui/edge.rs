//! The edge of the loop: all that it asks of the terminal and of the process. The real one is [`Tty`]; a test has one of
//! its own, so that the loop itself is what is tested.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ratatui::buffer::Buffer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::join::{self, Joined};
use super::mailbox::Bell;
use super::terminal::Terminal;
use super::view::Zones;
use super::watch::timespec;
use crate::engine::Engine;
use crate::engine::request::Request;
use crate::host::tty::Signals;
use crate::model::Failure;

/// What woke the loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Woken {
    /// The user did something.
    pub(super) typed: bool,
    /// A signal came.
    pub(super) signalled: bool,
    /// The terminal is gone.
    pub(super) hung_up: bool,
    /// Nothing happened in all that time.
    pub(super) in_vain: bool,
}

/// What the loop wants of the world around it.
pub(super) trait Edge {
    /// Waits for the user (if `input` is wanted), a signal or the bell of threads that have news.
    ///
    /// # Errors
    /// It cannot be waited.
    fn wait(&mut self, bell: &Bell, patience: Option<Duration>, input: bool) -> Result<Woken, Failure>;

    /// What was typed; `None` when the terminal is gone.
    fn read(&mut self, space: &mut [u8]) -> Option<usize>;

    /// The next signal that has come.
    fn signal(&mut self) -> Option<i32>;

    /// Draws a frame, if it differs from the last.
    fn draw(&mut self, render: &dyn Fn(&mut Buffer) -> Zones) -> Zones;

    /// The terminal has another size: columns and rows.
    fn resized(&mut self) -> (u16, u16);

    /// Takes the mouse, or leaves it to the terminal.
    fn mouse(&mut self, on: bool);

    /// Gives a text to the terminal's clipboard, through tmux if one is between.
    fn copy(&mut self, text: &str, tmux: bool);

    /// Hands the terminal over to `request`, with what was typed ahead, and comes back; the terminal is left then.
    ///
    /// # Errors
    /// What kept it from beginning, or broke it off.
    fn join(&mut self, engine: &Engine, request: &Request, ahead: &[u8]) -> Result<Joined, Failure>;

    /// Leaves the terminal, stops the whole process until somebody says to go on.
    ///
    /// # Errors
    /// It cannot be stopped.
    fn stop(&mut self) -> Result<(), Failure>;

    /// Takes the terminal again after it was left. What was typed at somebody else is not for us if `afresh`.
    ///
    /// # Errors
    /// It is gone.
    fn again(&mut self, afresh: bool) -> Result<(), Failure>;
}

/// Our own terminal, and the signals of this process.
pub(super) struct Tty {
    pub(super) terminal: Terminal,
    pub(super) signals: Signals,
}

impl Edge for Tty {
    fn wait(&mut self, bell: &Bell, patience: Option<Duration>, input: bool) -> Result<Woken, Failure> {
        let stdin = io::stdin();
        wait(stdin.as_fd(), self.signals.as_fd(), bell, patience, input)
    }

    fn read(&mut self, space: &mut [u8]) -> Option<usize> {
        match rustix::io::read(io::stdin(), space) {
            Ok(0) | Err(Errno::IO) => None,
            Ok(count) => Some(count),
            Err(_) => Some(0),
        }
    }

    fn signal(&mut self) -> Option<i32> {
        self.signals.next()
    }

    fn draw(&mut self, render: &dyn Fn(&mut Buffer) -> Zones) -> Zones {
        self.terminal.draw(render)
    }

    fn resized(&mut self) -> (u16, u16) {
        self.terminal.resized()
    }

    fn mouse(&mut self, on: bool) {
        self.terminal.set_mouse(on);
    }

    fn copy(&mut self, text: &str, tmux: bool) {
        self.terminal.copy(text, tmux);
    }

    fn join(&mut self, engine: &Engine, request: &Request, ahead: &[u8]) -> Result<Joined, Failure> {
        join::join(engine, request, ahead, &|| self.terminal.leave())
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.terminal.leave();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)
            .map_err(|errno| Failure::failed("cannot stop").because(&errno))
    }

    fn again(&mut self, afresh: bool) -> Result<(), Failure> {
        self.terminal.again().map_err(|error| Failure::failed("cannot use the terminal").because(&error))?;
        if afresh {
            self.terminal.drop_input();
        }
        Ok(())
    }
}

/// Waits for one of three, as [`Edge::wait`].
pub(super) fn wait(
    input: BorrowedFd<'_>,
    signals: BorrowedFd<'_>,
    bell: &Bell,
    patience: Option<Duration>,
    wanted: bool,
) -> Result<Woken, Failure> {
    let timeout = patience.map(timespec);
    // Without a wish for input it is still heard that the terminal is gone.
    let wanted = if wanted { PollFlags::IN } else { PollFlags::empty() };
    let mut fds = [
        PollFd::from_borrowed_fd(input, wanted),
        PollFd::from_borrowed_fd(signals, PollFlags::IN),
        PollFd::new(bell, PollFlags::IN),
    ];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) => return Ok(Woken { in_vain: true, ..Woken::default() }),
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(Failure::failed("cannot wait for the terminal").because(&errno)),
    }
    let [terminal, signals, news] = fds.map(|fd| fd.revents());
    if !news.is_empty() {
        bell.hush();
    }
    Ok(Woken {
        typed: terminal.contains(PollFlags::IN),
        signalled: !signals.is_empty(),
        hung_up: terminal.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
        in_vain: false,
    })
}
