//! How everything of a cube is ended, whatever it does: by its process namespace, or by its tree of processes.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::host::{cgroup, descendants};
use crate::plan::launch::CgroupPlan;

/// How long a warden may take before the keeper does its work.
const WARDEN: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How long the keeper itself takes at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a cube's life hangs on.
#[derive(Debug)]
pub enum Life {
    /// PID 1 of a namespace: the kernel ends the rest with it.
    Namespace(OwnedFd),
    /// Init among the host's processes, and the warden above it ([`crate::jail::warden`]).
    Tree {
        /// Init.
        init: OwnedFd,
        /// The warden.
        warden: OwnedFd,
        /// Held open: at its end, also by our own death, the warden ends everything.
        tie: OwnedFd,
    },
}

impl Life {
    /// Ends init and everything else of the cube; returns when all of it is gone.
    pub fn end(&self) {
        match self {
            Self::Namespace(init) => {
                // ESRCH: gone already. The wait returns when the kernel has ended every process of the namespace.
                let _gone = pidfd_send_signal(init, Signal::KILL);
                let _reaped = waitid(WaitId::PidFd(init.as_fd()), WaitIdOptions::EXITED);
            }
            Self::Tree { init, warden, .. } => {
                // The warden sees it die, and ends what is left.
                let _gone = pidfd_send_signal(init, Signal::KILL);
                let ended = poll(&mut [PollFd::new(warden, PollFlags::IN)], Some(&WARDEN));
                if ended != Ok(1) {
                    let _stuck = pidfd_send_signal(warden, Signal::KILL);
                }
                // Whatever a warden leaves that was killed is our own child by now. What sleeps in the kernel for longer
                // than this dies as it wakes.
                let _ended = descendants::end_all(PATIENCE);
            }
        }
    }

    /// As [`Life::end`], with a cgroup that the kernel empties at once.
    pub fn end_with(&self, plan: Option<&CgroupPlan>) {
        if let (Self::Tree { .. }, Some(plan)) = (self, plan) {
            cgroup::kill(plan);
        }
        self.end();
    }
}
