//! What is said to the cube's first process and heard of it while it builds the jail, and what a failure is for a person.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Born;
use crate::jail::step::Step;
use crate::jail::wire::{self, Message};
use crate::keeper::readback;
use crate::model::{Layer, LayerStatus};
use crate::plan::LaunchPlan;
use crate::plan::launch::MountPlan;

/// How long is waited for other descriptors of this user to arrive, and between two tries.
const CROWDED: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(5);

/// Why a cube could not be started: one line, next steps, and the layer that is to blame, if one is.
#[derive(Debug)]
pub struct NotStarted {
    /// One line.
    pub message: String,
    /// Next steps.
    pub hints: Vec<String>,
    /// The layer that the kernel did not apply.
    pub layer: Option<Layer>,
}

impl NotStarted {
    pub(in crate::keeper) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), layer: None }
    }

    pub(in crate::keeper) fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !hint.is_empty() {
            self.hints.push(hint);
        }
        self
    }
}

pub(in crate::keeper) fn send(
    born: &Born,
    message: Message,
    fds: &[BorrowedFd<'_>],
) -> Result<(), NotStarted> {
    let until = Instant::now() + CROWDED;
    loop {
        match wire::send(born.init.as_fd(), message, fds) {
            Ok(()) => return Ok(()),
            // Too many descriptors of this user are on their way, somewhere (unix(7)): they arrive.
            Err(Errno::TOOMANYREFS) if Instant::now() < until => std::thread::sleep(AGAIN),
            Err(errno) => return Err(unheard(&born.init, errno)),
        }
    }
}

/// Why the child could not be told something. Its own words, if it has said any, explain more than a closed socket; one that
/// has not may still be there, and waits itself.
fn unheard(init: &OwnedFd, errno: Errno) -> NotStarted {
    match wire::receive(init, RecvFlags::DONTWAIT) {
        Ok(Some(received)) => child_failed(None, received.message),
        Ok(None) => NotStarted::new(format!("the cube's first process is gone: {errno}")),
        Err(_) => NotStarted::new(format!("the cube's first process cannot be told what to do: {errno}")),
    }
}

/// One layer that is missing ends the launch.
pub(in crate::keeper) fn all_in_force(layers: &[LayerStatus]) -> Result<(), NotStarted> {
    readback::missing(layers).map_or(Ok(()), |status| {
        Err(NotStarted {
            layer: Some(status.layer),
            ..NotStarted::new(format!(
                "the layer `{}` is not in force: {}",
                status.layer.word(),
                status.enforcement.detail()
            ))
        })
    })
}

/// The same while the child still works: one that has failed meanwhile knows better why there is nothing to read.
pub(in crate::keeper) fn standing_or_said(
    layers: &[LayerStatus],
    plan: &LaunchPlan,
    born: &Born,
) -> Result<(), NotStarted> {
    all_in_force(layers).map_err(|missing| match wire::receive(&born.init, RecvFlags::DONTWAIT) {
        Ok(Some(received)) if matches!(received.message, Message::Failed { .. }) => {
            child_failed(Some(plan), received.message)
        }
        _ => missing,
    })
}

pub(in crate::keeper) fn wait_for(
    message: Message,
    plan: &LaunchPlan,
    born: &Born,
) -> Result<Vec<OwnedFd>, NotStarted> {
    match wire::receive(&born.init, RecvFlags::empty()) {
        Ok(Some(received)) if received.message == message => Ok(received.fds),
        Ok(Some(received)) => Err(child_failed(Some(plan), received.message)),
        Ok(None) => {
            let died = NotStarted::new("the cube's first process died while it built the jail");
            Err(match plan.limits.memory {
                Some((size, _)) => died.hint(format!("its memory limit of {size} may be too small")),
                None => died,
            })
        }
        Err(errno) => Err(NotStarted::new(format!("cannot hear the cube's first process: {errno}"))),
    }
}

pub(super) fn child_failed(plan: Option<&LaunchPlan>, message: Message) -> NotStarted {
    let Message::Failed { step, index, errno } = message else {
        return NotStarted::new(format!("the cube's first process said {message:?} out of turn"));
    };
    let step = Step::from_number(step).unwrap_or(Step::Namespaces);
    let mount = match step {
        Step::Source | Step::Identity | Step::Target | Step::Bind => {
            plan.and_then(|plan| plan.mounts.get(usize::from(index)))
        }
        Step::Machine => plan.and_then(|plan| plan.vm.as_ref()?.files.get(usize::from(index))),
        _ => None,
    };
    step_failed(step, Errno::from_raw_os_error(errno), mount)
}

pub(super) fn step_failed(step: Step, errno: Errno, mount: Option<&MountPlan>) -> NotStarted {
    let on = mount
        .map(|mount| format!(" (`{}` at `{}`)", mount.source.display(), mount.target))
        .unwrap_or_default();
    let why = match (step, errno) {
        // What the kernel says here is of file systems (user_namespaces(7)).
        (Step::Namespaces, Errno::NOSPC) => {
            "no further user namespace is allowed (`user.max_user_namespaces`)".to_owned()
        }
        _ => errno.to_string(),
    };
    NotStarted::new(format!("the cube was not started: {}{on}: {why}", step.text())).hint(step.hint())
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    /// Both would wait for the other for ever.
    #[test]
    fn a_child_that_was_not_told_is_not_waited_for() {
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, its) = pair().expect("pair");
        assert!(unheard(&ours, Errno::TOOMANYREFS).message.contains("cannot be told"));
        let failed = Message::Failed { step: 0, index: 0, errno: Errno::NOSPC.raw_os_error() };
        wire::send(its.as_fd(), failed, &[]).expect("said");
        drop(its);
        assert!(unheard(&ours, Errno::PIPE).message.contains("was not started"), "its last words");
        assert!(unheard(&ours, Errno::PIPE).message.contains("is gone"));
    }
}
