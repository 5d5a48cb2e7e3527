//! The program on a terminal: typed at like a person, seen through a terminal model, and captured byte by byte.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tripmine::term::screen::Screen;

use crate::env::{Env, PATIENCE};

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
    master: Option<Box<dyn MasterPty + Send>>,
    writer: Option<Box<dyn Write + Send>>,
    child: Box<dyn Child + Send + Sync>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Pty {
    /// Starts tripmine with `args` on a terminal of 30 by 120.
    pub(crate) fn tripmine(env: &Env, args: &[&str]) -> Self {
        Self::start(env, env.binary(), args)
    }

    /// Starts any program in the same environment.
    pub(crate) fn start(env: &Env, program: &Path, args: &[&str]) -> Self {
        let size = PtySize { rows: 30, cols: 120, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        command.env_clear();
        for (key, value) in env.variables() {
            command.env(key, value);
        }
        // Without one it would start in the real user's home.
        command.cwd(&env.home);
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let seen = Seen { raw: Vec::new(), total: 0, screen: Screen::new(30, 120, 2000), closed: false };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = reader.read(&mut buffer).unwrap_or(0);
                let mut seen = shared.0.lock().unwrap();
                seen.closed |= count == 0;
                seen.total += count as u64;
                if seen.raw.len() < KEPT {
                    seen.raw.extend_from_slice(&buffer[..count]);
                }
                // We are no real terminal: what it asks stays unanswered.
                let _replies = seen.screen.feed(&buffer[..count]);
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        let writer = pair.master.take_writer().unwrap();
        Self { master: Some(pair.master), writer: Some(writer), child, seen }
    }

    /// Types.
    pub(crate) fn type_text(&mut self, text: &str) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.flush().unwrap();
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
                let shown = seen.screen.text_with_history(60).join("\n");
                panic!(
                    "not on the screen (closed: {}): {what}\nit shows:\n{}",
                    seen.closed,
                    shown.trim_end()
                );
            }
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Waits until the screen or its history shows `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        let shows = |seen: &mut Seen| seen.screen.text_with_history(2000).join("\n").contains(text);
        drop(self.wait(text, PATIENCE, shows));
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
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        self.master.as_ref().unwrap().resize(size).unwrap();
        self.seen.0.lock().unwrap().screen.resize(rows, cols);
    }

    /// The face's process id.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.process_id().unwrap()).unwrap()
    }

    /// Kills the face.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes the terminal, as a window that is closed.
    pub(crate) fn hang_up(&mut self) {
        self.writer = None;
        self.master = None;
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(self.pid()).unwrap(),
            rustix::process::Signal::HUP,
        )
        .unwrap();
    }

    /// Waits for the face's end and gives its exit code.
    pub(crate) fn wait_exit(&mut self, patience: Duration) -> u32 {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
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
