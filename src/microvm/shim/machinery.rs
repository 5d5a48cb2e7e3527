//! The machine from its first process to its last: started, set up, watched, ended.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, socketpair,
};

use super::saving::{Desk, Step, Wish};
use super::{End, Failed, stdio};
use crate::host::tty::{self, Raw, Signals};
use crate::microvm::bridge::client::PASSED;
use crate::microvm::bridge::{Bridge, Event};
use crate::microvm::engine::{Engine, From, Machine, Plugs};
use crate::microvm::qemu::{Qemu, how};
use crate::microvm::share::{self, Share};
use crate::microvm::wire::{ENTRY, Hello, Mount, MountKind, Net, Setup, Spawn};
use crate::model::VmAccel;
use crate::model::sanitize::printable;
use crate::plan::vm::{DOOR, FOLDER, SAVED, VmSpec, accel_words};

/// How the kernel's last words begin.
const PANIC: &str = "Kernel panic";
/// How many lines of the console a failure shows.
const SHOWN: usize = 20;
/// How long the guest may take to write everything out in the end.
const SYNC: Duration = Duration::from_secs(10);
/// How long memory and devices may take to be written or read.
const SAVING: Duration = Duration::from_secs(300);
/// How long the other end of a channel that has closed may take to be seen dead.
const DYING: Duration = Duration::from_secs(2);

/// How long a guest may take to greet: an emulated one on a host with much else to do was seen to take 24 s.
const fn boot_time(accel: VmAccel) -> Duration {
    match accel {
        VmAccel::Kvm => Duration::from_secs(30),
        VmAccel::Tcg => Duration::from_secs(180),
    }
}

/// Runs `spawn` in a machine of its own; or goes on with a saved machine, in which it runs already.
pub(super) fn run(spec: &VmSpec, spawn: Spawn, restore: bool) -> End {
    let failed = |why| if restore { End::NotRestored(why) } else { End::Failed(why) };
    let taken: Vec<i32> = PASSED.iter().copied().chain([libc::SIGWINCH]).collect();
    let signals = match Signals::take(&taken) {
        Ok(signals) => signals,
        Err(error) => return failed(Failed::new(format!("cannot take signals: {error}"))),
    };
    let mut machinery = match Machinery::start(spec, signals, restore) {
        Ok(machinery) => machinery,
        Err(why) => return failed(why),
    };
    let begun = if restore { machinery.go_on(spec, &spawn) } else { machinery.begin(spec, spawn) };
    let raw = match begun {
        Ok(raw) => raw,
        Err(why) => return failed(machinery.with_last_lines(why)),
    };
    let end = machinery.serve().unwrap_or_else(|why| End::Failed(machinery.with_last_lines(why)));
    drop(raw);
    end
}

struct Machinery {
    share: Share,
    machine: Box<dyn Machine>,
    bridge: Bridge,
    signals: Signals,
    desk: Desk,
    /// The entry runs.
    runs: bool,
    said: Vec<String>,
}

impl Machinery {
    fn start(spec: &VmSpec, signals: Signals, restore: bool) -> Result<Self, Failed> {
        let fail = |what: &str, error: &dyn std::error::Error| {
            Failed::new(format!("{what}: {}", super::said(error)))
        };
        let share = share::start(spec).map_err(|error| {
            fail(&format!("the share daemon `{}` cannot be started", spec.share.program), &error)
        })?;
        // What it needs, nothing after it does.
        crate::microvm::child::drop_capabilities()
            .map_err(|error| fail("cannot give capabilities up", &error))?;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (agent, its_agent) = pair.map_err(|errno| fail("cannot make the guest's channel", &errno))?;
        let stream = rustix::io::fcntl_dupfd_cloexec(&share.stream, 3)
            .map_err(|errno| fail("cannot make the share's channel", &errno))?;
        let plugs = Plugs { agent: its_agent, share: stream };
        let from = match restore {
            false => From::Boot,
            true => std::fs::File::open(format!("{FOLDER}/{SAVED}"))
                .map(|file| From::Saved(file.into()))
                .map_err(|error| fail("what was saved cannot be opened", &error))?,
        };
        let mut machine = Qemu
            .start(spec, plugs, from)
            .map_err(|error| fail("the virtual machine cannot be started", &error))?;
        if restore && let Err(error) = machine.restored(SAVING) {
            let mut failed = fail("the saved machine cannot be read", &error);
            failed.0.extend(machine.last_lines(SHOWN).into_iter().map(|line| format!("  {line}")));
            return Err(failed);
        }
        let desk = Desk::open().map_err(|error| fail("cannot make the machine's socket", &error))?;
        let bridge = Bridge::new(agent).map_err(|error| fail("cannot make the guest's bridge", &error))?;
        Ok(Self { share, machine, bridge, signals, desk, runs: false, said: Vec::new() })
    }

    /// Waits for the guest's greeting.
    fn greeted(&mut self, spec: &VmSpec, deadline: Instant) -> Result<Hello, Failed> {
        loop {
            match self.turn(Some(deadline))? {
                Event::Hello(hello) => return Ok(hello),
                Event::Deadline => return Err(late(spec)),
                _ => {}
            }
        }
    }

    /// Boots and starts the entry; the terminal is raw from then on.
    fn begin(&mut self, spec: &VmSpec, spawn: Spawn) -> Result<Option<Raw>, Failed> {
        let deadline = Instant::now() + boot_time(spec.accel);
        self.greeted(spec, deadline)?;
        self.bridge.set_up(setup(spec)?);
        loop {
            match self.turn(Some(deadline))? {
                Event::Ready => break,
                Event::SetupFailed { step, errno } => {
                    let error = rustix::io::Errno::from_raw_os_error(errno);
                    return Err(Failed::new(format!(
                        "the guest cannot be set up: {}: {error}",
                        printable(&step)
                    )));
                }
                Event::Deadline => return Err(late(spec)),
                _ => {}
            }
        }
        let terminal = spawn.terminal;
        let raw = raw(terminal)?;
        let streams = stdio(terminal.is_some()).map_err(broken)?;
        self.bridge.start(spawn, streams).map_err(broken)?;
        self.open(spec)?;
        Ok(raw)
    }

    /// Takes the entry of a saved machine over. What else was started in it belonged to commands that are gone, and goes.
    fn go_on(&mut self, spec: &VmSpec, spawn: &Spawn) -> Result<Option<Raw>, Failed> {
        let hello = self.greeted(spec, Instant::now() + boot_time(spec.accel))?;
        if !hello.set_up || !hello.sessions.contains(&ENTRY) {
            return Err(Failed::new("what was saved is no machine in which an entry runs"));
        }
        let Setup { time, seed, .. } = setup(spec)?;
        self.bridge.reseed_and_time(seed, time);
        let raw = raw(spawn.terminal)?;
        let streams = stdio(spawn.terminal.is_some()).map_err(broken)?;
        for other in hello.sessions.iter().filter(|stream| **stream != ENTRY) {
            self.bridge.signal(*other, libc::SIGKILL);
        }
        self.bridge.adopt(ENTRY, streams, spawn.terminal).map_err(broken)?;
        self.runs = true;
        self.open(spec)?;
        Ok(raw)
    }

    /// What a guest with an entry is served with.
    fn open(&mut self, spec: &VmSpec) -> Result<(), Failed> {
        let clients = listener(SocketType::SEQPACKET, &format!("{FOLDER}/bridge.sock")).map_err(broken)?;
        self.bridge.serve(clients).map_err(broken)?;
        self.bridge.open_doors(listener(SocketType::STREAM, DOOR).map_err(broken)?).map_err(broken)?;
        self.bridge.mirror_ports(true);
        self.bridge.allow_net(spec.capture);
        Ok(())
    }

    /// Until the entry ends.
    fn serve(&mut self) -> Result<End, Failed> {
        let end = loop {
            let deadline = self.desk.wish.as_ref().map(|wish| wish.deadline);
            match self.turn(deadline)? {
                Event::Ended { stream: ENTRY, status, .. } => break End::Status(status),
                Event::NotStarted { stream: ENTRY, errno, folder } => {
                    break End::NotStarted(rustix::io::Errno::from_raw_os_error(errno), folder);
                }
                Event::Started { stream: ENTRY, .. } => self.runs = true,
                Event::Watched(_) => {
                    let bridge = &mut self.bridge;
                    self.desk.take(|| bridge.sync());
                }
                Event::Done { token, errno } => self.saving(Some((token, errno)))?,
                Event::Deadline => {
                    self.refuse("the guest was not still in time: what it prints may be read by nobody")?
                }
                _ => {}
            }
            self.saving(None)?;
        };
        self.settle();
        Ok(end)
    }

    /// The next step of saving the machine, if it is to be saved. `done`: an answer of the guest's.
    fn saving(&mut self, done: Option<(u32, i32)>) -> Result<(), Failed> {
        let Some(wish) = &mut self.desk.wish else { return Ok(()) };
        match (wish.step, done) {
            (Step::Syncing(token) | Step::Holding(token), Some((it, errno))) if it == token && errno != 0 => {
                return match rustix::io::Errno::from_raw_os_error(errno) {
                    rustix::io::Errno::STALE => self.refuse(
                        "a program in it uses a file that was deleted, which could not be given back to it: end that program first",
                    ),
                    error => self.refuse(&format!("the guest cannot be held still: {error}")),
                };
            }
            (Step::Syncing(token), Some((it, _))) if it == token && !self.runs => {
                return self.refuse("its entry does not run yet");
            }
            (Step::Syncing(token), Some((it, _))) if it == token => {
                wish.step = Step::Holding(self.bridge.hold(true));
            }
            (Step::Holding(token), Some((it, _))) if it == token => wish.step = Step::Draining,
            _ => {}
        }
        if wish.step != Step::Draining || !self.bridge.is_drained(ENTRY) {
            return Ok(());
        }
        let written = self.machine.pause().and_then(|()| self.machine.save(wish.file.as_fd(), SAVING));
        if let Err(error) = written {
            self.run_on()?;
            return self.refuse(&super::said(&error));
        }
        match self.desk.wish.take().map(Wish::saved) {
            Some(true) => {
                self.run_on()?;
                let _token = self.bridge.hold(false);
                Ok(())
            }
            _ => Err(Failed::new("it was saved, and whoever asked for that is gone")),
        }
    }

    fn run_on(&mut self) -> Result<(), Failed> {
        self.machine
            .go_on()
            .map_err(|error| Failed::new(format!("the machine does not go on: {}", super::said(&error))))
    }

    /// The machine is not saved, and runs on.
    fn refuse(&mut self, why: &str) -> Result<(), Failed> {
        if let Some(wish) = self.desk.wish.take() {
            if !matches!(wish.step, Step::Syncing(_)) {
                let _token = self.bridge.hold(false);
            }
            wish.refuse(why);
        }
        Ok(())
    }

    /// One thing to know of the guest; what is known of this side is dealt with here.
    fn turn(&mut self, deadline: Option<Instant>) -> Result<Event, Failed> {
        loop {
            let watch = [
                self.share.daemon.pidfd(),
                self.machine.ended(),
                self.machine.console(),
                self.signals.as_fd(),
                self.desk.as_fd(),
            ];
            let event = self
                .bridge
                .turn(&watch, deadline)
                .map_err(|error| Failed::new(format!("the guest's bridge failed: {error}")))?;
            match event {
                Event::Watched(0) => return Err(self.share_ended()),
                Event::Watched(1) => return Err(self.machine_ended()),
                Event::Watched(2) => self.machine.listen(),
                Event::Watched(3) => self.pass_signals(),
                Event::Closed => {
                    self.wait_for_death();
                    return Err(self.machine_ended());
                }
                Event::Lied(lie) => {
                    return Err(Failed::new(format!("the guest broke the agent's protocol: {lie}")));
                }
                Event::Log(text) => {
                    self.said.push(printable(&text.chars().take(400).collect::<String>()));
                    let surplus = self.said.len().saturating_sub(SHOWN);
                    self.said.drain(..surplus);
                }
                event => return Ok(event),
            }
        }
    }

    fn pass_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            if signal != libc::SIGWINCH {
                self.bridge.signal(ENTRY, signal);
            } else if let Some((rows, cols)) = tty::size(std::io::stdin()) {
                self.bridge.resize(ENTRY, rows, cols);
            }
        }
    }

    /// What was written is on the share before the machine goes.
    fn settle(&mut self) {
        let asked = self.bridge.sync();
        let deadline = Instant::now() + SYNC;
        loop {
            match self.turn(Some(deadline)) {
                Ok(Event::Done { token, .. }) if token == asked => break,
                // A machine that dies now has nothing more to say.
                Err(_) | Ok(Event::Deadline) => break,
                Ok(_) => {}
            }
        }
    }

    fn wait_for_death(&self) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut ready = [PollFd::from_borrowed_fd(self.machine.ended(), PollFlags::IN)];
        let wait = Timespec { tv_sec: i64::try_from(DYING.as_secs()).unwrap_or(2), tv_nsec: 0 };
        // A VMM that lives on without its channel is said to have closed it.
        let _ended = poll(&mut ready, Some(&wait));
    }

    fn share_ended(&mut self) -> Failed {
        let end = self.share.daemon.take_end().map_or_else(|| "nobody knows how".to_owned(), how);
        let mut failed = Failed::new(format!("the share daemon (virtiofsd) ended: {end}"));
        let mut bytes = vec![0; 4096];
        let count = self.share.errors.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        failed.0.extend(
            text.lines()
                .filter(|line| !line.trim().is_empty())
                .take(8)
                .map(|line| format!("  {}", printable(line))),
        );
        failed
    }

    fn machine_ended(&mut self) -> Failed {
        // Whoever dies for want of the share daemon is not the one to name.
        if self.share.daemon.take_end().is_some() {
            return self.share_ended();
        }
        let end = self.machine.stop();
        let panicked = self.machine.last_lines(usize::MAX).iter().any(|line| line.contains(PANIC));
        let why = match end {
            None => "the guest closed its channel and ran on".to_owned(),
            Some(_) if panicked => "the guest's kernel panicked".to_owned(),
            Some(end) if end == "exit status 0" => "the guest was switched off".to_owned(),
            Some(end) => format!("the VMM (qemu) ended: {end}"),
        };
        Failed::new(why)
    }

    /// A failure with what the console said last.
    fn with_last_lines(&mut self, mut failed: Failed) -> Failed {
        let mut lines = self.machine.last_lines(usize::MAX);
        // A panic is followed by more than is shown.
        let from = lines.iter().rposition(|line| line.contains(PANIC));
        lines.drain(..from.unwrap_or(lines.len().saturating_sub(SHOWN)));
        lines.truncate(SHOWN);
        if !lines.is_empty() {
            failed.0.push("the last lines of its console:".to_owned());
            failed.0.extend(lines.into_iter().map(|line| format!("  {line}")));
        }
        failed.0.extend(self.said.drain(..).map(|line| format!("  agent: {line}")));
        failed
    }
}

fn late(spec: &VmSpec) -> Failed {
    Failed::new(format!(
        "the guest did not start within {} s ({}, Linux {})",
        boot_time(spec.accel).as_secs(),
        accel_words(spec.accel),
        spec.release
    ))
}

fn broken(errno: rustix::io::Errno) -> Failed {
    Failed::new(format!("cannot reach the guest: {errno}"))
}

/// The terminal, if there is one, as a guest's program is to find it.
fn raw(terminal: Option<(u16, u16)>) -> Result<Option<Raw>, Failed> {
    let enter = |_| {
        Raw::enter(std::io::stdin().as_fd())
            .map_err(|error| Failed::new(format!("cannot use the terminal: {error}")))
    };
    terminal.map(enter).transpose()
}

fn setup(spec: &VmSpec) -> Result<Setup, Failed> {
    let mut seed = vec![0; 64];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Failed::new(format!("no randomness for the guest: {errno}")))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Setup {
        hostname: spec.hostname.clone(),
        mounts: vec![Mount {
            kind: MountKind::Virtiofs,
            source: "root".to_owned(),
            target: "/".to_owned(),
            read_only: false,
        }],
        net: if spec.capture { Net::Captured } else { Net::None },
        time: u64::try_from(since.as_nanos()).unwrap_or(0),
        seed,
        pids: spec.pids.unwrap_or(0),
        open_files: spec.open_files,
    })
}

fn listener(kind: SocketType, path: &str) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 64)?;
    Ok(socket)
}
