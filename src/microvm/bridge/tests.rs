//! The bridge against an agent in a child process, and against liars.

mod lies;
mod live;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use super::{Bridge, Event, Stdio};
use crate::jail::spawn::{Identity, SpawnSpec};
use crate::microvm::agent::tests::{Kept, start};
use crate::microvm::wire::{Net, Setup, Spawn};
use crate::model::EnvVar;

const PATIENCE: Duration = Duration::from_secs(60);

/// A guest that is set up.
struct Guest {
    bridge: Bridge,
    _agent: Kept,
    /// The channel again, for another bridge.
    channel: OwnedFd,
}

fn setup() -> Setup {
    Setup {
        hostname: "cube".into(),
        mounts: Vec::new(),
        net: Net::None,
        time: 0,
        seed: vec![1; 32],
        pids: 0,
        open_files: 1024,
    }
}

impl Guest {
    fn new() -> Self {
        let (channel, agent) = start();
        let again = channel.as_fd().try_clone_to_owned().expect("a copy");
        let mut guest =
            Self { bridge: Bridge::new(channel).expect("a bridge"), _agent: agent, channel: again };
        let hello = guest.until(|event| matches!(event, Event::Hello(_)));
        assert!(matches!(hello, Event::Hello(hello) if !hello.set_up && hello.sessions.is_empty()));
        guest.bridge.set_up(setup());
        assert_eq!(guest.until(|event| !matches!(event, Event::Log(_))), Event::Ready);
        guest
    }

    /// The first event that is wanted.
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        until(&mut self.bridge, wanted)
    }

    /// Starts a shell command with pipes; the stream and our ends.
    fn sh(&mut self, script: &str) -> (u32, Ends) {
        self.start(&["/bin/sh", "-c", script], "/", None)
    }

    fn start(&mut self, argv: &[&str], cwd: &str, terminal: Option<(u16, u16)>) -> (u32, Ends) {
        let (stdin, to) = pipe();
        let (from, stdout) = pipe();
        let (error, stderr) = pipe();
        let stderr = terminal.is_none().then_some(stderr);
        let stdio = Stdio { stdin, stdout, stderr };
        let stream = self.bridge.start(spawn(argv, cwd, terminal), stdio).expect("asked");
        (stream, Ends { to: Some(to), from, error })
    }

    /// How a session ends.
    fn end(&mut self, stream: u32) -> i32 {
        let ended = |event: &Event| matches!(event, Event::Ended { stream: it, .. } if *it == stream);
        match self.until(ended) {
            Event::Ended { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }
}

fn until(bridge: &mut Bridge, wanted: impl Fn(&Event) -> bool) -> Event {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event = bridge.turn(&[], Some(deadline)).expect("a turn");
        if wanted(&event) {
            return event;
        }
        assert!(!matches!(event, Event::Deadline | Event::Closed | Event::Lied(_)), "{event:?}");
    }
}

/// Our ends of a session's streams.
struct Ends {
    to: Option<OwnedFd>,
    from: OwnedFd,
    error: OwnedFd,
}

impl Ends {
    /// What it wrote; call it when it has ended.
    fn all(self) -> (String, String) {
        drop(self.to);
        let text = |fd: OwnedFd| {
            let mut text = String::new();
            File::from(fd).read_to_string(&mut text).expect("text");
            text
        };
        (text(self.from), text(self.error))
    }
}

fn spawn(argv: &[&str], cwd: &str, terminal: Option<(u16, u16)>) -> Spawn {
    let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
    let env = [EnvVar::new("PATH", "/usr/bin:/bin").expect("valid")];
    Spawn {
        spec: SpawnSpec::new(&argv, &env, cwd).expect("no NUL"),
        identity: Identity { uid: 0, gid: 0, capabilities: 0 },
        terminal,
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe")
}
