//! The shim: the process that stands in a microvm's jail for what runs in its guest. As the entry it starts the share daemon
//! and the VMM and turns the bridge; for `exec` and for snapshots it is a client of that one.
//!
//! It runs confined like anything in a cube, because it reads what a hostile guest says. When the machine fails it says so,
//! with the last lines of the console, and ends itself by a signal of its own, which the keeper knows.
#![expect(unsafe_code, reason = "ending by the signal that ended the guest's process")]

mod machinery;
mod saving;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::io::Errno;

use super::bridge::client::{self, ClientError};
use super::wire::{Identity, Spawn};
use crate::host::tty;
use crate::jail::spawn::SpawnSpec;
use crate::model::EnvVar;
use crate::model::sanitize::printable;
use crate::plan::vm::{FAILED_SIGNAL, FOLDER, FROZEN, GuestProcess, NOT_RESTORED_SIGNAL, ShimTask};

/// Every capability that Linux knows: root of a guest is root of a kernel that is its own.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// Why the machine is of no use any more: lines for a person.
#[derive(Debug)]
pub(super) struct Failed(pub(super) Vec<String>);

impl Failed {
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }
}

/// How the shim ends.
enum End {
    /// As the guest's process did.
    Status(i32),
    /// The process could not be started.
    NotStarted(Errno, bool),
    /// The machine failed.
    Failed(Failed),
    /// A saved one could not be brought back, and nothing has gone on from it.
    NotRestored(Failed),
}

/// The body of `__vm`.
#[must_use]
pub fn main(argv: &[OsString]) -> ExitCode {
    let words: Vec<String> = argv.iter().skip(2).map(|word| word.to_string_lossy().into_owned()).collect();
    let (task, command) = match words.split_first() {
        Some((task, rest)) => (task, rest.get(1..).unwrap_or_default()),
        None => return ExitCode::from(125),
    };
    // Only a keeper starts a shim.
    let Ok(task) = serde_json::from_str::<ShimTask>(task) else { return ExitCode::from(125) };
    let bridge = format!("{FOLDER}/bridge.sock");
    let (end, process) = match task {
        ShimTask::Run { spec, process, restore } => {
            let end = match spawn(&process, command) {
                Ok(spawn) => machinery::run(&spec, spawn, restore),
                Err(why) => End::Failed(why),
            };
            (end, process)
        }
        ShimTask::Exec { process } => (exec(&process, command, Path::new(&bridge)), process),
        ShimTask::Save => return saving::ask(),
        ShimTask::Freeze => return freeze(Path::new(&bridge)),
    };
    finish(end, &process, command)
}

/// The guest's process: words, variables and terminal are this one's own.
fn spawn(process: &GuestProcess, argv: &[String]) -> Result<Spawn, Failed> {
    let env: Vec<EnvVar> =
        std::env::vars().filter_map(|(key, value)| EnvVar::new(&key, &value).ok()).collect();
    let spec = SpawnSpec::new(argv, &env, &process.cwd).map_err(|error| Failed::new(error.to_string()))?;
    let capabilities = if process.capable { ALL_CAPABILITIES } else { 0 };
    let stdin = std::io::stdin();
    let terminal = rustix::termios::isatty(&stdin).then(|| tty::size(&stdin).unwrap_or((24, 80)));
    Ok(Spawn { spec, identity: Identity { uid: process.uid, gid: process.gid, capabilities }, terminal })
}

fn exec(process: &GuestProcess, argv: &[String], bridge: &Path) -> End {
    // What the share daemon needs is not for clients.
    if let Err(error) = super::child::drop_capabilities() {
        return End::Failed(Failed::new(format!("cannot give capabilities up: {error}")));
    }
    let spawn = match spawn(process, argv) {
        Ok(spawn) => spawn,
        Err(why) => return End::Failed(why),
    };
    let late = || {
        let after = client::LATE.as_secs();
        tell(&[format!(
            "the guest has not answered for {after} s: it is busy, or it hangs (`tripmine stop` ends it)"
        )]);
    };
    match client::run(bridge, &spawn, &late) {
        Ok(status) => End::Status(status),
        Err(ClientError::NotStarted { errno, folder }) => End::NotStarted(errno, folder),
        Err(error) => {
            End::Failed(Failed::new(format!("the virtual machine does not answer: {}", said(&error))))
        }
    }
}

/// An error with what is beneath it.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

fn freeze(bridge: &Path) -> ExitCode {
    let frozen = match client::freeze(bridge) {
        Ok(frozen) => frozen,
        Err(error) => {
            tell(&[said(&error)]);
            return ExitCode::from(1);
        }
    };
    let mut stdout = std::io::stdout();
    if stdout.write_all(FROZEN).and_then(|()| stdout.flush()).is_ok() {
        // Held until whoever asked lets go.
        let mut rest = [0; 64];
        while matches!(std::io::stdin().read(&mut rest), Ok(count) if count > 0) {}
    }
    drop(frozen);
    ExitCode::SUCCESS
}

/// Writes lines to standard error, which nobody may be reading.
fn tell(lines: &[String]) {
    let mut text = String::new();
    for line in lines {
        text.push_str("tripmine: ");
        text.push_str(line);
        // A terminal in raw mode needs both.
        text.push_str("\r\n");
    }
    let raw = rustix::termios::isatty(std::io::stderr());
    let text = if raw { text } else { text.replace("\r\n", "\n") };
    let _heard = std::io::stderr().write_all(text.as_bytes());
}

fn finish(end: End, process: &GuestProcess, argv: &[String]) -> ExitCode {
    match end {
        End::Status(status) => {
            let signal = status & 0x7f;
            if signal == 0 {
                return ExitCode::from(u8::try_from(status >> 8 & 0xff).unwrap_or(1));
            }
            end_by(signal)
        }
        End::NotStarted(errno, folder) => {
            let program = printable(argv.first().map_or("", String::as_str));
            let cwd = printable(&process.cwd);
            let (line, code) = match (folder, errno) {
                (true, _) => {
                    (format!("the working directory `{cwd}` of the cube cannot be entered: {errno}"), 126)
                }
                (false, Errno::NOENT) => (format!("`{program}` is not in the cube"), 127),
                (false, _) => (format!("`{program}` cannot be executed: {errno}"), 126),
            };
            tell(&[line]);
            ExitCode::from(code)
        }
        End::Failed(Failed(lines)) => {
            tell(&lines);
            end_by(FAILED_SIGNAL)
        }
        End::NotRestored(Failed(lines)) => {
            tell(&lines);
            end_by(NOT_RESTORED_SIGNAL)
        }
    }
}

/// Ends by a signal, as the guest's process did; with the code of such an end if the signal does nothing here.
fn end_by(signal: i32) -> ExitCode {
    // SAFETY: the signal's own action is restored and it is let through; nothing of ours has to be put right any more.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(255))
}

/// Copies of this process's own streams, for the bridge.
fn stdio(terminal: bool) -> Result<super::bridge::Stdio, Errno> {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(fd, 3)
    };
    Ok(super::bridge::Stdio {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: if terminal { None } else { Some(copy(std::io::stderr().as_fd())?) },
    })
}
