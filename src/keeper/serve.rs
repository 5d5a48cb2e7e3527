//! A keeper's life: from `main` to the end of its cube.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::LocalSet;

use super::forward::{self, Forwards};
use super::protocol::{self, Answer, Kind};
use super::start::{self, Born, Handover, Jailed, Known, NotStarted};
use super::state::{Ended, Keeper, Pending, Start, now_ms};
use super::{connection, end, in_place, net, output, watch as limits};
use crate::jail::wire::{self, Message};
use crate::model::{CubeState, ExitReason, ExitRecord, Keep};
use crate::plan::launch::StdioPlan;
use crate::store::log::{KEEP_FILES, LogWriter, Stream};
use crate::term::screen::{HISTORY, Screen};

/// The body of `tripmine __keeper`; the process's exit code. Nobody reads it: what happened is in the record.
#[must_use]
pub fn main(expected: Expected) -> i32 {
    // A session of its own: no terminal, no signal and no closing window of a face reaches it.
    let _session = rustix::process::setsid();
    let _moved = rustix::process::chdir(c"/");
    rustix::process::umask(rustix::fs::Mode::from(0o077));
    let _named = rustix::thread::set_name(c"tripmine-keeper");
    crate::upper::discard::install();
    let born = match expected {
        Expected::InPlace => in_place::birth(),
        Expected::OwnRoot => start::birth(),
    };
    let Ok(mut handover) = start::take_over(born.as_ref().ok()) else {
        if let Ok(born) = born {
            born.life.end();
        }
        return 125;
    };
    // Descriptor 0 has been adopted and closed; the lowest free number must not become a socket.
    let _null = std::fs::File::open("/dev/null").map(OwnedFd::from).map(std::mem::forget);
    let mut known = None;
    let born = as_planned(born, expected, &handover);
    match born.and_then(|born| start::jail(&handover.launch, &mut handover.direct, born, &mut known)) {
        Ok(jailed) => run(handover, jailed, known),
        Err(not_started) => fail(handover, known, not_started),
    }
}

/// What the caller's words let expect. A wrong guess costs a child that is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A cube with namespaces.
    OwnRoot,
    /// A cube in place.
    InPlace,
}

/// The child that the plan needs: the one that was born early, if it is of that kind.
fn as_planned(
    born: Result<Born, NotStarted>,
    expected: Expected,
    handover: &Handover,
) -> Result<Born, NotStarted> {
    let planned = if handover.launch.plan.in_place.is_some() { Expected::InPlace } else { Expected::OwnRoot };
    if expected == planned {
        return born;
    }
    // Why the other kind could not be born does not matter to this one.
    if let Ok(other) = born {
        other.life.end();
    }
    let born = match planned {
        Expected::InPlace => in_place::birth(),
        Expected::OwnRoot => start::birth(),
    }?;
    start::tell(&born, &handover.body);
    Ok(born)
}

/// Tells the face, writes the end down if there is a record, and leaves nothing. The exit code.
fn fail(handover: Handover, known: Option<Known>, not_started: NotStarted) -> i32 {
    let Handover { mut face, launch, .. } = handover;
    let reason = match not_started.layer {
        Some(layer) => ExitReason::LayerMissing(layer.word().to_owned()),
        None => ExitReason::SetupFailed(not_started.message.clone()),
    };
    if let Some(Known { dir, mut record }) = known {
        record.state = CubeState::Failed;
        record.exit = Some(ExitRecord {
            code: 125,
            signal: None,
            reason,
            ended_unix_ms: now_ms(),
            ran: Duration::ZERO,
        });
        // The face is told in any case; a full disk only costs the record.
        let _written = dir.write_record(&record);
        let _socket = std::fs::remove_file(&launch.socket);
        if launch.plan.keep == Keep::Throwaway {
            let _removed = crate::store::remove::remove_tree(&dir.system_copy());
        }
        if let Some(cgroup) = &launch.plan.limits.cgroup {
            crate::host::cgroup::remove(&cgroup.folders());
        }
    }
    let answer = Answer::Refused { message: not_started.message, hints: not_started.hints };
    let _told = say(&mut face, &answer);
    125
}

fn say(face: &mut StdStream, answer: &Answer) -> std::io::Result<()> {
    let body = serde_json::to_vec(answer)?;
    face.write_all(&protocol::head(Kind::Answer, body.len()))?;
    face.write_all(&body)
}

fn run(handover: Handover, jailed: Jailed, known: Option<Known>) -> i32 {
    let Handover { mut face, launch, body, .. } = handover;
    let Some(Known { dir, mut record }) = known else { return 125 };
    let tty = match launch.plan.stdio {
        StdioPlan::Pty { rows, cols } => Some((rows, cols)),
        StdioPlan::Pipes { .. } => None,
    };
    let (rows, cols) = tty.unwrap_or((0, 0));
    let bound = match forward::bind_all(&launch.plan.forwards) {
        Ok(bound) => bound,
        Err(failure) => {
            jailed.born.life.end();
            let message = failure.to_string();
            let not_started = NotStarted { message, hints: failure.hints, layer: None };
            let handover = Handover { face, launch, direct: [None, None, None], body };
            return fail(handover, Some(Known { dir, record }), not_started);
        }
    };
    let restored = launch.plan.vm.as_ref().is_some_and(|machine| machine.restore);
    if restored && let Err(error) = crate::store::memory::mark_used(&dir.path) {
        jailed.born.life.end();
        let message = format!("what was saved of the cube cannot be used: {error}");
        let not_started = NotStarted { message, hints: Vec::new(), layer: None };
        let handover = Handover { face, launch, direct: [None, None, None], body };
        return fail(handover, Some(Known { dir, record }), not_started);
    }
    // The layers are in force: the entry may run. What follows happens beside it.
    let go = wire::send(jailed.born.init.as_fd(), Message::Spawn { session: 0, rows, cols }, &[]);
    if go.is_err() {
        jailed.born.life.end();
        super::machine::spend(&launch.plan, &dir.path, false);
        let not_started = NotStarted {
            message: "the cube's first process died before the entry ran".into(),
            hints: Vec::new(),
            layer: None,
        };
        let handover = Handover { face, launch, direct: [None, None, None], body };
        return fail(handover, Some(Known { dir, record }), not_started);
    }
    drop(body);
    record.layers.clone_from(&jailed.layers);
    record.state = CubeState::Running;
    let attached = launch.attached;
    let forwards = rustix::io::fcntl_dupfd_cloexec(&jailed.born.init, 3)
        .map(|init| Forwards::new(init, jailed.born.pid, launch.plan.vm.is_some()))
        .and_then(|forwards| forwards.adopt_all(bound).map(|()| forwards).map_err(|_| Errno::AGAIN));
    let Ok(forwards) = forwards else {
        jailed.born.life.end();
        return 125;
    };
    record.forwards = forwards.maps();
    if !attached {
        // Whoever asks after the launch has returned is told that it runs.
        let _written = dir.write_record(&record);
        let layers = jailed.layers.clone();
        let started = Answer::Started { pid: 2, layers, forwards: forwards.list() };
        // The face may have gone; the cube runs all the same.
        let _told = say(&mut face, &started);
    }
    let log_dir = dir.log_dir();
    let keeper = Rc::new(Keeper {
        record: RefCell::new(record),
        dir,
        init: jailed.born.init,
        life: jailed.born.life,
        pid: jailed.born.pid,
        log: RefCell::new(LogWriter::new(log_dir, launch.log_bytes, KEEP_FILES)),
        screen: RefCell::new(tty.map(|(rows, cols)| Screen::new(rows, cols, HISTORY))),
        master: RefCell::new(None),
        stdin: RefCell::new(None),
        viewers: RefCell::new(Vec::new()),
        writer: Cell::new(None),
        next_number: Cell::new(1),
        pending: RefCell::new(HashMap::new()),
        ending: RefCell::new(None),
        stop: watch::channel(None).0,
        over: watch::channel(false).0,
        started: std::time::Instant::now(),
        net: net::Net::default(),
        room: Notify::new(),
        moved: Cell::new(0),
        hurried: Cell::new(false),
        forwards,
        opened: jailed.opened,
        frozen_by: Cell::new(None),
        socket_dir: launch.socket.parent().map(std::path::Path::to_path_buf).unwrap_or_default(),
        plan: launch.plan,
    });
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        keeper.end_all();
        return 125;
    };
    let local = LocalSet::new();
    let face = attached.then_some(face);
    let net = jailed.net;
    let living = life(Rc::clone(&keeper), jailed.listener, jailed.pipes, face, net);
    let result = local.block_on(&runtime, living);
    keeper.end_all();
    end::clean(&keeper);
    i32::from(result.is_err())
}

/// How long a face may take to hear of the end before init is ended beside it.
const TOLD_FIRST: Duration = Duration::from_millis(5);

/// From "go" to the last byte of the last client.
async fn life(
    keeper: Rc<Keeper>,
    listener: std::os::unix::net::UnixListener,
    pipes: [Option<OwnedFd>; 3],
    face: Option<StdStream>,
    net: net::Start,
) -> std::io::Result<()> {
    let later = match net {
        net::Start::Now(ready) => {
            net::open(&keeper, *ready)?;
            None
        }
        net::Start::Absent => None,
        net::Start::Later(namespaces) => {
            Some(tokio::task::spawn_local(net::open_later(Rc::clone(&keeper), namespaces)))
        }
    };
    let (started_out, started) = oneshot::channel();
    let (ended_out, ended) = oneshot::channel();
    let entry = Pending { started: Some(started_out), ended: Some(ended_out) };
    keeper.pending.borrow_mut().insert(0, entry);
    let init = tokio::task::spawn_local(hear_init(Rc::clone(&keeper)));
    let [stdin, stdout, stderr] = pipes;
    let mut pumps = Vec::new();
    for (stream, fd) in [(Stream::Out, stdout), (Stream::Err, stderr)] {
        if let Some(fd) = fd {
            let fd = output::watched(fd)?;
            pumps.push(tokio::task::spawn_local(output::pump(Rc::clone(&keeper), stream, fd)));
        }
    }
    if let Some(stdin) = stdin {
        *keeper.stdin.borrow_mut() = Some(output::watched(stdin)?);
    }
    let launcher = match face {
        Some(face) => {
            face.set_nonblocking(true)?;
            let face = UnixStream::from_std(face)?;
            Some(tokio::task::spawn_local(connection::serve_launcher(Rc::clone(&keeper), face)))
        }
        // A detached cube reads nothing: its input is at its end.
        None => {
            keeper.stdin.borrow_mut().take();
            None
        }
    };
    listener.set_nonblocking(true)?;
    let accepting = tokio::task::spawn_local(accept(Rc::clone(&keeper), UnixListener::from_std(listener)?));
    keeper.save();
    let exit = match started.await {
        Ok(Start::Running(_, master)) => {
            keeper.event("started", serde_json::Value::Null);
            forward::ask::opened_at_launch(&keeper);
            if let Some(master) = master {
                let master = output::watched(master)?;
                *keeper.master.borrow_mut() = Some(Rc::clone(&master));
                keeper.room.notify_waiters();
                pumps.push(tokio::task::spawn_local(output::pump(Rc::clone(&keeper), Stream::Tty, master)));
            }
            let ended = until_end(&keeper, ended).await;
            if !ended.is_some_and(|ended| ended.alone) {
                keeper.end_all();
            }
            // Otherwise nothing untrusted is left: init itself may end when the face has been told.
            end::record_of(&keeper, ended.map(|ended| ended.status))
        }
        Ok(Start::Refused { errno, folder }) => {
            keeper.end_all();
            super::machine::spend(&keeper.plan, &keeper.dir.path, false);
            let program = keeper.plan.entry.argv.first().map_or("", String::as_str);
            let cwd = keeper.plan.entry.cwd.as_str();
            ExitRecord {
                code: end::not_started_code(errno, folder),
                signal: None,
                reason: ExitReason::NotStarted(end::not_started_why(program, folder.then_some(cwd), errno)),
                ended_unix_ms: now_ms(),
                ran: Duration::ZERO,
            }
        }
        Err(_) => {
            keeper.end_all();
            end::record_of(&keeper, None)
        }
    };
    if let Some(later) = later {
        later.abort();
    }
    net::close(&keeper);
    // Nothing inside can answer: the host's ports are free at once.
    forward::ask::end(&keeper);
    // Everything inside but init is dead, so every stream has an end.
    output::drain(&keeper, pumps).await;
    let state = if matches!(exit.reason, ExitReason::NotStarted(_) | ExitReason::SetupFailed(_)) {
        CubeState::Failed
    } else {
        CubeState::Exited
    };
    {
        let mut record = keeper.record.borrow_mut();
        record.state = state;
        record.exit = Some(exit.clone());
    }
    keeper.save();
    output::tell_viewers(&keeper, &exit).await;
    keeper.over.send_replace(true);
    // Sessions and waiters are answered by their own tasks, which end with their clients.
    keeper.pending.borrow_mut().clear();
    init.abort();
    // Init's end costs a processor for a moment: the one who waits for the exit code gets it first.
    let left = match launcher {
        Some(mut launcher) => {
            tokio::time::timeout(TOLD_FIRST, &mut launcher).await.is_err().then_some(launcher)
        }
        None => None,
    };
    keeper.end_all();
    keeper.event("ended", serde_json::to_value(&exit).unwrap_or_default());
    // One that takes nothing is not waited for when the end was asked for. One that has heard of the end is: its user may be
    // asked what becomes of the changes.
    if let Some(launcher) = left.filter(|_| !(keeper.hurried.get() && output::launcher_is_stuck(&keeper))) {
        let _left = launcher.await;
    }
    accepting.abort();
    // Others get a moment to take their last bytes.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    while !keeper.hurried.get()
        && !keeper.viewers.borrow().is_empty()
        && tokio::time::Instant::now() < deadline
    {
        tokio::select! { () = keeper.room.notified() => {}, () = tokio::time::sleep(Duration::from_millis(20)) => {} }
    }
    tokio::task::yield_now().await;
    Ok(())
}

/// Waits for the entry's end, a stop, or the timeout. The status, if the entry told one.
async fn until_end(keeper: &Rc<Keeper>, ended: oneshot::Receiver<Ended>) -> Option<Ended> {
    let watching = tokio::task::spawn_local(limits::watch(Rc::clone(keeper)));
    let timeout = keeper.plan.limits.timeout;
    let timer = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let mut ended = std::pin::pin!(ended);
    let mut stopping = std::pin::pin!(end::stop_sequence(Rc::clone(keeper)));
    let mut timer = std::pin::pin!(timer);
    let mut timed_out = false;
    let ended = loop {
        tokio::select! {
            ended = &mut ended => break ended.ok(),
            () = &mut stopping => break None,
            () = &mut timer, if !timed_out => {
                timed_out = true;
                keeper.end(ExitReason::Timeout, None);
            }
        }
    };
    watching.abort();
    ended
}

/// Hears init until it is gone.
async fn hear_init(keeper: Rc<Keeper>) {
    let Ok(fd) = rustix::io::fcntl_dupfd_cloexec(&keeper.init, 3) else { return };
    let Ok(fd) = crate::host::aio::watched(fd) else { return };
    loop {
        let Ok(mut guard) = fd.readable().await else { break };
        match wire::receive(&keeper.init, RecvFlags::DONTWAIT) {
            Ok(Some(received)) => hear(&keeper, received),
            Err(Errno::AGAIN) => guard.clear_ready(),
            Ok(None) | Err(_) => break,
        }
    }
    keeper.forwards.connects.over();
    // Init is dead, or lies: nothing inside can be trusted to run on.
    keeper.pending.borrow_mut().clear();
}

fn hear(keeper: &Keeper, received: wire::Received) {
    let mut pending = keeper.pending.borrow_mut();
    match received.message {
        Message::Started { session, pid } => {
            let master = received.fds.into_iter().next();
            if let Some(sender) = pending.get_mut(&session).and_then(|pending| pending.started.take()) {
                let _told = sender.send(Start::Running(pid, master));
            }
        }
        Message::NotStarted { session, errno, folder } => {
            if let Some(sender) = pending.remove(&session).and_then(|pending| pending.started) {
                let _told = sender.send(Start::Refused { errno, folder });
            }
        }
        Message::Ended { session, status, alone } => {
            if let Some(sender) = pending.remove(&session).and_then(|pending| pending.ended) {
                let _told = sender.send(Ended { status, alone });
            }
        }
        Message::Given { number, errno } => {
            keeper.forwards.connects.answered(number, errno, received.fds);
        }
        _ => {}
    }
}

async fn accept(keeper: Rc<Keeper>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(connection::accept(Rc::clone(&keeper), stream));
            }
            // Out of descriptors: clients wait, the cube does not.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
