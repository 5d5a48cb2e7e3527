//! The warden of a cube in place: the process that ends everything of the cube, whoever else is killed.
//!
//! Without a process namespace the kernel ends nothing by itself. So between the keeper and the cube's init stands this
//! process: outside of the cube's Landlock domain, where no signal of the cube reaches it, and a subreaper, so that whatever
//! loses its parent becomes its child. It ends all of that when init is dead, and when the keeper is: its socket then
//! ends. Should it be killed itself, from outside, all of it becomes the keeper's, which does the same.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper,
    set_dumpable_behavior, waitid,
};

use super::taken_out::{Part, taken_out};
use super::{child, confine, init};
use crate::host::{descendants, sys};

/// How long what is ended may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Its name among the host's processes. Not the keeper's: whoever ends all keepers by name is to leave the wardens, which
/// then end the cubes.
const NAME: &std::ffi::CStr = c"cube-warden";

/// Forks the warden, with nothing of its parent left open but `control`, for init, and `tie`. Returns its pidfd.
///
/// # Errors
/// No process can be made.
#[expect(unsafe_code, reason = "a fork in a single-threaded process")]
pub fn fork(control: OwnedFd, tie: OwnedFd) -> std::io::Result<OwnedFd> {
    // SAFETY: the keeper has one thread here: no runtime has been made yet, and nothing starts threads.
    match unsafe { sys::fork_into(0) }? {
        sys::Forked::Parent { pidfd, .. } => Ok(pidfd),
        sys::Forked::Child => {
            if !taken_out(Part::CloseChild) {
                close_all_but(&control, &tie);
            }
            // SAFETY: descriptor 1 is /dev/null, which takes the place of the connection to the face; nothing here owns number 0.
            unsafe { libc::dup2(1, 0) };
            let code = if taken_out(Part::Warden) {
                // What init's number is a warden would tell.
                let _told = rustix::io::write(&tie, &getpid().as_raw_nonzero().get().to_le_bytes());
                child::run_in_place(&control)
            } else {
                run(control, &tie)
            };
            // SAFETY: ends the process without running its parent's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

fn close_all_but(one: &OwnedFd, other: &OwnedFd) {
    let (one, other) = (one.as_raw_fd().unsigned_abs(), other.as_raw_fd().unsigned_abs());
    let (low, high) = (one.min(other), one.max(other));
    sys::close_between(3, low - 1);
    sys::close_between(low + 1, high - 1);
    sys::close_from(high + 1);
}

/// Forks init, which serves on `control`, tells its number over `tie`, and watches until init or the keeper is gone;
/// returns the process's exit code.
#[must_use]
#[expect(unsafe_code, reason = "a fork in a single-threaded process")]
fn run(control: OwnedFd, tie: &OwnedFd) -> i32 {
    let _named = rustix::thread::set_name(NAME);
    crate::host::fork::rename_words(NAME);
    // Without these nothing would be ended: better no cube.
    let Ok(signals) = init::signals() else { return 1 };
    if set_child_subreaper(Some(rustix::process::getpid())).is_err() {
        return 1;
    }
    // SAFETY: this process has one thread, as the keeper that it was forked from.
    let born = match unsafe { sys::fork_into(0) } {
        Err(_) => return 1,
        Ok(sys::Forked::Child) => {
            sys::close_between(3, control.as_raw_fd().unsigned_abs() - 1);
            sys::close_from(control.as_raw_fd().unsigned_abs() + 1);
            // Both were closed: nothing of them may be closed again by number.
            std::mem::forget(signals);
            let _named = rustix::thread::set_name(c"cube-init");
            // Everything that it leaves behind is then the warden's.
            let code = child::run_in_place(&control);
            // SAFETY: ends the process without running its parent's destructors.
            unsafe { libc::_exit(code) }
        }
        Ok(sys::Forked::Parent { pid, .. }) => pid,
    };
    drop(control);
    if rustix::io::write(tie, &born.to_le_bytes()) != Ok(4) || lower().is_err() {
        let _ended = descendants::end_all(PATIENCE);
        return 1;
    }
    watch(born, tie, &signals);
    i32::from(!descendants::end_all(PATIENCE))
}

/// It needs no right from here on but to signal what is its caller's.
fn lower() -> Result<(), Errno> {
    confine::no_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Returns when init has ended, or the keeper has let go.
fn watch(init: i32, tie: &OwnedFd, signals: &OwnedFd) {
    let Some(init) = Pid::from_raw(init) else { return };
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(tie.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        // Nothing is ever said over it: whatever comes is its end.
        if !ready[0].revents().is_empty() {
            return;
        }
        let mut buffer = [0_u8; 512];
        let _drained = rustix::io::read(signals, &mut buffer);
        if !tend(init) {
            return;
        }
    }
}

/// Takes the remains of orphans, and lets an init go on that the cube has stopped. False when init has ended.
fn tend(init: Pid) -> bool {
    loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        match waitid(WaitId::All, options) {
            Ok(Some(status)) if status.stopped() => {
                // Which of the children it was does not matter: only init has this process for its parent while it lives.
                let _goes_on = kill_process(init, Signal::CONT);
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    // Taken above, if it was dead: a number that still answers to its parent lives.
    descendants::parent(init.as_raw_nonzero().get()) == Some(rustix::process::getpid().as_raw_nonzero().get())
}
