//! The program on a terminal: typed at like a person, seen through a terminal model, and captured byte by byte.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tripmine::term::screen::Screen;

use crate::env::{Env, PATIENCE, pid};

/// What is kept of the raw output: enough for every test that looks at bytes.
const KEPT: usize = 1 << 20;

struct Seen {
    raw: Vec<u8>,
    total: u64,
    screen: Screen,
    closed: bool,
}

/// A command on a terminal of its own.
pub(crate) struct Pty {
    /// The only end of the terminal besides the reader's: when both are gone, it is closed as a window is.
    master: Option<Arc<OwnedFd>>,
    reader: Option<JoinHandle<()>>,
    stop: Arc<OwnedFd>,
    child: Child,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

fn window(rows: u16, cols: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Pty {
    /// Starts tripmine with `args` on a terminal of 30 by 120.
    pub(crate) fn tripmine(env: &Env, args: &[&str]) -> Self {
        Self::start(env, env.binary(), args)
    }

    /// Starts any program in the same environment.
    pub(crate) fn start(env: &Env, program: &Path, args: &[&str]) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        tcsetwinsize(&slave, window(30, 120)).unwrap();
        // It leads a session of its own, whose terminal this is.
        let mut command = Command::new("/usr/bin/setsid");
        command.arg("-c").arg(program).args(args).env_clear().envs(env.variables()).current_dir(&env.home);
        let stream = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        drop((slave, command));
        let seen = Seen { raw: Vec::new(), total: 0, screen: Screen::new(30, 120, 2000), closed: false };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let (master, stop) = (Arc::new(master), Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap()));
        let reader = {
            let (master, stop, seen) = (Arc::clone(&master), Arc::clone(&stop), Arc::clone(&seen));
            std::thread::spawn(move || read(&master, &stop, &seen))
        };
        Self { master: Some(master), reader: Some(reader), stop, child, seen }
    }

    /// Types.
    pub(crate) fn type_text(&mut self, text: &str) {
        let (master, mut bytes) = (self.master.as_ref().unwrap(), text.as_bytes());
        while !bytes.is_empty() {
            let count = rustix::io::write(&**master, bytes).unwrap();
            bytes = &bytes[count..];
        }
    }

    fn wait(&self, what: &str, patience: Duration, done: impl Fn(&mut Seen) -> bool) -> MutexGuard<'_, Seen> {
        let deadline = Instant::now() + patience;
        let mut seen = self.seen.0.lock().unwrap();
        loop {
            if done(&mut seen) {
                return seen;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || seen.closed {
                let (shown, closed) = (seen.screen.text_with_history(60).join("\n"), seen.closed);
                drop(seen);
                panic!("not on the screen (closed: {closed}): {what}\nit shows:\n{}", shown.trim_end());
            }
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Waits until the screen or its history shows `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        let shows = |seen: &mut Seen| seen.screen.text_with_history(2000).join("\n").contains(text);
        drop(self.wait(text, PATIENCE, shows));
    }

    /// Waits until the screen and its history show `text` so many times.
    pub(crate) fn wait_times(&self, text: &str, times: usize) {
        let shows =
            |seen: &mut Seen| seen.screen.text_with_history(2000).join("\n").matches(text).count() >= times;
        drop(self.wait(&format!("{times} times {text}"), PATIENCE, shows));
    }

    /// Waits until the screen, without its history, shows `text`.
    pub(crate) fn wait_shown(&self, text: &str) {
        drop(self.wait(text, PATIENCE, |seen| seen.screen.text().join("\n").contains(text)));
    }

    /// Waits until the screen no longer shows `text`.
    pub(crate) fn wait_gone(&self, text: &str) {
        drop(
            self.wait(&format!("no {text}"), PATIENCE, |seen| !seen.screen.text().join("\n").contains(text)),
        );
    }

    /// How many bytes have come.
    pub(crate) fn total(&self) -> u64 {
        self.seen.0.lock().unwrap().total
    }

    /// Waits until so many bytes have come.
    pub(crate) fn wait_bytes(&self, count: u64) {
        drop(self.wait(&format!("{count} bytes"), PATIENCE, |seen| seen.total >= count));
    }

    /// What the screen shows, without history.
    pub(crate) fn shown(&self) -> String {
        self.seen.0.lock().unwrap().screen.text().join("\n")
    }

    /// The raw bytes, from the start.
    pub(crate) fn raw(&self) -> Vec<u8> {
        self.seen.0.lock().unwrap().raw.clone()
    }

    /// A look at the model.
    pub(crate) fn screen<T>(&self, look: impl FnOnce(&mut Screen) -> T) -> T {
        look(&mut self.seen.0.lock().unwrap().screen)
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, rows: u16, cols: u16) {
        tcsetwinsize(&**self.master.as_ref().unwrap(), window(rows, cols)).unwrap();
        self.seen.0.lock().unwrap().screen.resize(rows, cols);
    }

    /// The face's process id.
    pub(crate) fn pid(&self) -> i32 {
        pid(&self.child).as_raw_nonzero().get()
    }

    /// Kills the face.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops to take what is written: a terminal that is stuck, as behind a broken connection.
    pub(crate) fn stuff(&mut self) {
        rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()).unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Bytes that were written and not taken.
    pub(crate) fn waiting(&self) -> u64 {
        rustix::io::ioctl_fionread(&**self.master.as_ref().unwrap()).unwrap()
    }

    /// Closes the terminal, as a window is closed: nothing is typed, what was shown is gone, and the kernel tells who
    /// leads the session.
    pub(crate) fn hang_up(&mut self) {
        self.stuff();
        self.master = None;
    }

    /// Waits for the face's end and gives its exit code.
    pub(crate) fn wait_exit(&mut self, patience: Duration) -> u32 {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return u32::try_from(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
                    .unwrap();
            }
            if Instant::now() > deadline {
                let shown = self.shown();
                self.kill();
                panic!("the face has not ended within {patience:?}; the screen shows:\n{}", shown.trim_end());
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Also in the middle of a failure, which must stay the one that is told.
        let _told = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(reader) = self.reader.take() {
            let _joined = reader.join();
        }
    }
}

/// Takes what comes until the program's side is closed, or it is told to stop.
fn read(master: &OwnedFd, stop: &OwnedFd, seen: &(Mutex<Seen>, Condvar)) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut fds = [PollFd::new(master, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        let polled = poll(&mut fds, None);
        let stopped = polled.is_ok() && !fds[1].revents().is_empty();
        let count = if stopped { 0 } else { rustix::io::read(master, &mut buffer).unwrap_or(0) };
        let mut now = seen.0.lock().unwrap();
        now.closed |= count == 0;
        now.total += count as u64;
        if now.raw.len() < KEPT {
            now.raw.extend_from_slice(&buffer[..count]);
        }
        // We are no real terminal: what it asks stays unanswered.
        let _replies = now.screen.feed(&buffer[..count]);
        seen.1.notify_all();
        if count == 0 {
            return;
        }
    }
}
