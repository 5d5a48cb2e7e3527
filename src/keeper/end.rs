//! How a cube ends, and what is written down of it.

use std::rc::Rc;
use std::time::Duration;

use super::state::{Keeper, now_ms};
use crate::host::cgroup;
use crate::jail::wire::{self, ALL_SESSIONS, Message};
use crate::model::{CubeState, ExitReason, ExitRecord, Keep};
use crate::plan::vm::{FAILED_SIGNAL, NOT_RESTORED_SIGNAL};
use crate::store::sweep;
use std::os::fd::AsFd;

/// Time between TERM and HUP for a cube with a terminal.
const HANG_UP: Duration = Duration::from_millis(300);

/// The exit code and signal of a wait status, as a shell has them (waitpid(2)).
#[must_use]
pub const fn decode(status: i32) -> (i32, Option<i32>) {
    let signal = status & 0x7f;
    if signal == 0 { (status >> 8 & 0xff, None) } else { (128 + signal, Some(signal)) }
}

/// The exit code for an entry that could not be executed: 127 not found, 126 anything else.
#[must_use]
pub const fn not_started_code(errno: i32, folder: bool) -> i32 {
    if errno == libc::ENOENT && !folder { 127 } else { 126 }
}

/// Why an entry could not be executed, or its working directory not entered, for a person.
#[must_use]
pub fn not_started_why(program: &str, folder: Option<&str>, errno: i32) -> String {
    let program = crate::model::sanitize::printable(program);
    if let Some(folder) = folder {
        let error = rustix::io::Errno::from_raw_os_error(errno);
        let folder = crate::model::sanitize::printable(folder);
        return format!("the working directory `{folder}` of the cube cannot be entered: {error}");
    }
    match errno {
        libc::ENOENT if program.contains('/') => {
            format!("`{program}` is not in the cube, or the interpreter that it names is not")
        }
        libc::ENOENT => format!("`{program}` is not in the cube's PATH"),
        libc::EACCES => format!("`{program}` may not be executed: it is no executable file"),
        libc::ENOEXEC => format!("`{program}` is no program that this kernel can execute"),
        libc::EAGAIN => {
            format!("`{program}` cannot be started: the cube is at its limit of processes (`--pids`)")
        }
        libc::E2BIG => "its arguments and environment are too long".to_owned(),
        _ => {
            let error = rustix::io::Errno::from_raw_os_error(errno);
            format!("`{program}` cannot be executed: {error}")
        }
    }
}

/// Waits until someone asks for the end, then asks the cube politely, then returns when it must be killed.
pub async fn stop_sequence(keeper: Rc<Keeper>) {
    let mut stop = keeper.stop.subscribe();
    let grace = loop {
        if let Some(grace) = *stop.borrow_and_update() {
            break grace;
        }
        if stop.changed().await.is_err() {
            return;
        }
    };
    keeper.record.borrow_mut().state = CubeState::Stopping;
    keeper.save();
    if grace == 0 {
        return;
    }
    let tty = keeper.record.borrow().tty;
    let send = |signal| {
        let message = Message::Signal { session: ALL_SESSIONS, signal };
        wire::send(keeper.init.as_fd(), message, &[])
    };
    if send(libc::SIGTERM).and_then(|()| send(libc::SIGCONT)).is_err() {
        return;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(grace);
    // A second request may shorten the grace, never lengthen it.
    // A shell at a terminal ignores TERM and obeys HUP, as when its window is closed; whoever has his own way of
    // ending on TERM gets the time for it.
    let mut hang_up = tty.then(|| tokio::time::Instant::now() + HANG_UP);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => return,
            () = tokio::time::sleep_until(hang_up.unwrap_or(deadline)), if hang_up.is_some() => {
                hang_up = None;
                if send(libc::SIGHUP).is_err() {
                    return;
                }
            }
            changed = stop.changed() => match (changed, *stop.borrow_and_update()) {
                (Err(_), _) | (Ok(()), Some(0)) => return,
                _ => {}
            },
        }
    }
}

/// The exit record of an entry that ran.
#[must_use]
pub fn record_of(keeper: &Keeper, status: Option<i32>) -> ExitRecord {
    let asked = keeper.ending.borrow().clone();
    // Ended by us before it told a status: as killed.
    let (code, signal) = status.map_or((128 + libc::SIGKILL, Some(libc::SIGKILL)), decode);
    let oom =
        code != 0 && keeper.plan.limits.cgroup.as_ref().is_some_and(|cgroup| cgroup::oom_kills(cgroup) > 0);
    let ran = keeper.started.elapsed();
    if asked == Some(ExitReason::Paused) {
        return ExitRecord {
            code: 0,
            signal: None,
            reason: ExitReason::Paused,
            ended_unix_ms: now_ms(),
            ran,
        };
    }
    let restored = keeper.plan.vm.as_ref().is_some_and(|machine| machine.restore);
    let not_restored = restored && signal == Some(NOT_RESTORED_SIGNAL);
    super::machine::spend(&keeper.plan, &keeper.dir.path, !not_restored);
    if keeper.plan.vm.is_some() && (not_restored || signal == Some(FAILED_SIGNAL)) && asked.is_none() {
        let what = if not_restored { "did not go on, and can be tried again" } else { "failed" };
        let why = format!("its virtual machine {what} (`tripmine logs {}` says how)", keeper.plan.id);
        return ExitRecord {
            code: 125,
            signal: None,
            reason: ExitReason::SetupFailed(why),
            ended_unix_ms: now_ms(),
            ran,
        };
    }
    let reason = match asked {
        Some(reason) => reason,
        None if oom => {
            let limit = keeper.plan.limits.memory.map(|(size, _)| size.to_string()).unwrap_or_default();
            // A shell lives on when its command is killed (version 1 of cgroups), and only its code tells of that.
            let what = if signal == Some(libc::SIGKILL) { "" } else { "a process of it was " };
            ExitReason::OutOfMemory(format!("{what}killed by the kernel at the limit of {limit}"))
        }
        None => ExitReason::Ended,
    };
    ExitRecord { code, signal, reason, ended_unix_ms: now_ms(), ran }
}

/// Writes the end down, and removes what a throwaway leaves. The caller's answer is out already, except for the record.
pub fn clean(keeper: &Keeper) {
    // What cannot be removed now is found and removed by the next command's sweep.
    let _socket = std::fs::remove_file(crate::store::cubes::socket_path(&keeper.socket_dir, &keeper.plan.id));
    if let Some(plan) = &keeper.plan.limits.cgroup {
        let folders = plan.folders();
        // The kernel frees a dead process's cgroup a moment after its death is seen.
        for _ in 0..50 {
            if cgroup::remove(&folders) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    if keeper.plan.keep == Keep::Throwaway {
        let _removed = crate::store::remove::remove_tree(&keeper.dir.system_copy());
    }
    super::ground::clean(&keeper.dir.path, &keeper.plan);
    if let Some(mines) = keeper.dir.path.parent()
        && keeper.plan.keep == Keep::Throwaway
    {
        crate::store::cubes::make_spares(mines, &keeper.plan.id);
    }
    // The user has the answer; whatever a killed keeper left is cleared now, on nobody's time.
    if let Some(mines) = keeper.dir.path.parent()
        && sweep::worth_it(mines, &keeper.socket_dir)
    {
        sweep::told::quietly(mines, &keeper.socket_dir, now_ms());
    }
}
