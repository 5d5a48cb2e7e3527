//! The user's terminal: entered, drawn on, left. Leaving is one function for every way out (normal, error, signal,
//! panic), and may be called twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ratatui::buffer::Buffer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{QueueSelector, tcflush};

use super::frames::Frames;
use super::view::Zones;
use super::watch::timespec;
use crate::host::tty::{self, Raw, Signals};

/// Raw mode while the screen is up; `None` when it is down.
static ENTERED: Mutex<Option<Raw>> = Mutex::new(None);

const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[2J";
const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";
/// Mouse, paste, attributes, cursor, screen: in this order.
const LEAVE: &[u8] = b"\x1b[?1006l\x1b[?1000l\x1b[?2004l\x1b[0m\x1b[?25h\x1b[?1049l";

/// Gives the terminal back as it was. Does nothing when it is back already.
pub(super) fn restore() {
    let raw = ENTERED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if raw.is_some() {
        write_all(LEAVE);
    }
    drop(raw);
}

/// The terminal, opened once more: waiting for it to take something is then ours to do, and others who write to it are not
/// changed by that.
struct Out {
    terminal: OwnedFd,
    /// What ends the screen; only looked at, the loop hears of it.
    ends: Signals,
}

static OUT: Mutex<Option<Out>> = Mutex::new(None);
/// The screen ends while the terminal takes nothing: nothing is waited for any more.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);
/// How long a terminal that took nothing may take for what gives it back.
const LAST: Duration = Duration::from_millis(200);

fn open() -> Option<Out> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Somebody else's terminal, as beneath sudo, may not be opened: it is written to as it is then.
    let terminal = rustix::fs::open("/proc/self/fd/1", flags, Mode::empty()).ok()?;
    let ends = Signals::take(&[libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT]).ok()?;
    Some(Out { terminal, ends })
}

fn write_all(mut bytes: &[u8]) {
    let stdout = std::io::stdout();
    let out = OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let terminal = out.as_ref().map_or_else(|| stdout.as_fd(), |out| out.terminal.as_fd());
    while !bytes.is_empty() {
        match rustix::io::write(terminal, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if takes_more(terminal, out.as_ref()) => {}
            // The terminal is gone or stuck; who polls it, or was told to end, knows.
            Err(_) => return,
        }
    }
}

/// Waits until the terminal takes something; false when that is not worth waiting for.
fn takes_more(terminal: BorrowedFd<'_>, out: Option<&Out>) -> bool {
    let given_up = GIVEN_UP.load(Ordering::Relaxed);
    let mut fds = vec![PollFd::from_borrowed_fd(terminal, PollFlags::OUT)];
    fds.extend(out.filter(|_| !given_up).map(|out| PollFd::new(&out.ends, PollFlags::IN)));
    let patience = given_up.then(|| timespec(LAST));
    let waited = poll(&mut fds, patience.as_ref());
    if matches!(waited, Err(Errno::INTR)) || !fds[0].revents().is_empty() {
        return true;
    }
    GIVEN_UP.store(true, Ordering::Relaxed);
    false
}

/// What is drawn on.
pub(super) struct Terminal {
    frames: Frames,
    mouse: bool,
}

impl Terminal {
    /// Makes the terminal raw and takes its other screen.
    pub(super) fn enter(mouse: bool) -> std::io::Result<Self> {
        *OUT.lock().unwrap_or_else(PoisonError::into_inner) = open();
        let mut terminal = Self { frames: Frames::new(size()), mouse };
        terminal.again()?;
        Ok(terminal)
    }

    /// Takes it again after it was left.
    pub(super) fn again(&mut self) -> std::io::Result<()> {
        let stdin = std::io::stdin();
        {
            let mut entered = ENTERED.lock().unwrap_or_else(PoisonError::into_inner);
            if entered.is_none() {
                *entered = Some(Raw::enter(stdin.as_fd())?);
            }
        }
        write_all(ENTER);
        self.set_mouse(self.mouse);
        self.frames.forget(size());
        Ok(())
    }

    /// Gives it to somebody else for a while.
    pub(super) fn leave(&self) {
        restore();
    }

    /// Answers of the terminal to what somebody else asked are not typed by anybody.
    pub(super) fn drop_input(&self) {
        let _flushed = tcflush(std::io::stdin(), QueueSelector::IFlush);
    }

    pub(super) fn set_mouse(&mut self, on: bool) {
        self.mouse = on;
        write_all(if on { MOUSE_ON } else { MOUSE_OFF });
    }

    /// The size has changed. Columns and rows.
    pub(super) fn resized(&mut self) -> (u16, u16) {
        let size = size();
        self.frames.forget(size);
        size
    }

    /// Draws a frame: only what differs from the last one, in one piece.
    pub(super) fn draw(&mut self, render: &dyn Fn(&mut Buffer) -> Zones) -> Zones {
        let (zones, bytes) = self.frames.draw(render);
        write_all(&bytes);
        zones
    }

    /// Gives `text` to the clipboard of the terminal (OSC 52), through tmux too.
    pub(super) fn copy(&self, text: &str, tmux: bool) {
        use base64::Engine as _;
        let code = base64::engine::general_purpose::STANDARD.encode(text);
        write_all(format!("\x1b]52;c;{code}\x07").as_bytes());
        if tmux {
            write_all(format!("\x1bPtmux;\x1b\x1b]52;c;{code}\x07\x1b\\").as_bytes());
        }
    }
}

/// Columns and rows of the terminal; 80 by 24 when it does not know.
pub(super) fn size() -> (u16, u16) {
    let (rows, columns) =
        tty::size(std::io::stdout()).or_else(|| tty::size(std::io::stdin())).unwrap_or((24, 80));
    // No terminal is that large, and a buffer for it would be.
    (columns.min(1000), rows.min(500))
}
