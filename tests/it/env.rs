//! A user's world for one test: a private `TRIPMINE_HOME`, home and projects root, and the program run in it with a
//! cleared environment. Refuses to touch the real user's folders.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use crate::left;

/// No launch takes longer, even on a loaded machine with two processors.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Says that a test could not run here, and what is missing. Counted by `tests/run.sh`.
pub(crate) fn skip(name: &str, why: &str) {
    // Around libtest's capture, which would hide it.
    let line = format!("SKIPPED {name}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// True when the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tests that load the whole machine, or measure time, run one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Polls until `done` is true; panics with `what` after `patience`.
pub(crate) fn until(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !done() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code, 128+n for a signal.
    pub(crate) code: i32,
    /// Standard output, lossy.
    pub(crate) stdout: String,
    /// Standard error, lossy.
    pub(crate) stderr: String,
}

impl Output {
    /// Asserts the exit code and gives standard output without the last line's end.
    #[track_caller]
    pub(crate) fn ok(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout.trim_end_matches('\n')
    }

    /// Asserts failure with `code` and that the message says `part`.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, part: &str) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.contains(part), "`{part}` is not in: {}", self.stderr);
    }
}

/// One test's world.
#[derive(Debug)]
pub(crate) struct Env {
    folder: tempfile::TempDir,
    binary: PathBuf,
    /// The caller's home.
    pub(crate) home: PathBuf,
    /// `TRIPMINE_HOME`.
    pub(crate) tripmine_home: PathBuf,
    /// The projects root.
    pub(crate) projects: PathBuf,
}

impl Env {
    pub(crate) fn new() -> Self {
        let binary = std::env::var_os("TRIPMINE_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tripmine")), PathBuf::from);
        Self::with_binary(binary)
    }

    /// With a copy of the program in its own folder, so that any process of it, however young, is known by its
    /// executable.
    pub(crate) fn with_own_binary() -> Self {
        let mut env = Self::new();
        let own = env.folder.path().join("tripmine");
        // By a process of its own: a test beside this one that forks would inherit the file open for writing, and until its
        // child executes something this program could not be started (ETXTBSY).
        assert!(Command::new("cp").arg(&env.binary).arg(&own).status().unwrap().success());
        env.binary = own;
        env
    }

    fn with_binary(binary: PathBuf) -> Self {
        // Short: a unix socket's path has 108 bytes.
        let folder = tempfile::Builder::new().prefix("tm").tempdir_in("/tmp").unwrap();
        let at = |name: &str| folder.path().join(name);
        let (home, tripmine_home, projects) = (at("home"), at("tm"), at("home/projects"));
        for made in [&home, &tripmine_home, &projects] {
            std::fs::create_dir(made).unwrap();
        }
        Self { binary, home, tripmine_home, projects, folder }
    }

    /// The folder of everything.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The program.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Makes a project.
    pub(crate) fn project(&self, name: &str) -> PathBuf {
        let path = self.projects.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Writes `config.toml`.
    pub(crate) fn config(&self, text: &str) {
        let folder = self.tripmine_home.join("config");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.toml"), text).unwrap();
    }

    /// The variables that every command gets.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME", text(&self.home)),
            ("TERM", "xterm-256color".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TRIPMINE_HOME", text(&self.tripmine_home)),
        ]
    }

    /// The program with `args`, nothing on its standard input.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).env_clear().envs(self.variables()).current_dir(&self.home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn tripmine<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        finish(self.command(args).spawn().unwrap(), PATIENCE)
    }

    /// Runs the program with `input` on its standard input.
    pub(crate) fn tripmine_with(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = finish(child, PATIENCE);
        // A command that reads nothing closes its input: that is its right.
        let _closed = writer.join().unwrap();
        output
    }

    /// Runs a shell script in a cube without a project.
    pub(crate) fn inside(&self, script: &str) -> Output {
        self.inside_with(&[], script)
    }

    /// The same with launch options.
    pub(crate) fn inside_with(&self, options: &[&str], script: &str) -> Output {
        self.tripmine([&["run", "host"], options, &["--", "/bin/sh", "-c", script]].concat())
    }

    /// The record of every cube, oldest first.
    pub(crate) fn records(&self) -> Vec<Value> {
        let mut records: Vec<Value> = left::cube_folders(self)
            .into_iter()
            .filter_map(|folder| std::fs::read(folder.join("headers/record.json")).ok())
            .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
            .collect();
        records.sort_by_key(|record| record["id"].as_str().map(str::to_owned));
        records
    }

    /// True while `ps` lists the cube.
    pub(crate) fn runs(&self, id: &str) -> bool {
        let shown: Value = serde_json::from_str(self.tripmine(["ps", "--json"]).ok(0)).unwrap();
        shown["cubes"].as_array().unwrap().iter().any(|cube| cube["id"] == id)
    }

    /// The newest cube's record.
    pub(crate) fn record(&self) -> Value {
        self.records().pop().expect("a record")
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        if std::thread::panicking() {
            left::kill_all(self);
        } else {
            left::assert_nothing_left(self);
        }
    }
}

/// Waits for `child` and reads its pipes; kills it and panics when it takes longer than `patience`.
pub(crate) fn finish(mut child: Child, patience: Duration) -> Output {
    let drain = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                stream.read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = drain(child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let stderr = drain(child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    if !wait_readable(&mut child, patience) {
        child.kill().unwrap();
        child.wait().unwrap();
        // Not what it said: a cube outlives its face, and may hold the pipes for ever.
        panic!("still running after {patience:?}");
    }
    let status = child.wait().unwrap();
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Output { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn wait_readable(child: &mut Child, patience: Duration) -> bool {
    // One that its test has looked at may have been waited for already.
    if child.try_wait().unwrap().is_some() {
        return true;
    }
    let pidfd = pidfd_open(pid(child), PidfdFlags::empty()).unwrap();
    let timeout = Timespec { tv_sec: i64::try_from(patience.as_secs()).unwrap(), tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

/// The process id of a child.
pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _gone = kill_process(Pid::from_raw(pid).unwrap(), signal);
}
