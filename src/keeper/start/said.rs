//! What is said to the cube's first process and heard of it while it builds the jail, and what a failure is for a person.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Born;
use crate::jail::step::Step;
use crate::jail::wire::{self, Message};
use crate::keeper::readback;
use crate::model::{Layer, LayerStatus};
use crate::plan::LaunchPlan;
use crate::plan::launch::MountPlan;

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
    // The child's own words, if it has said any, explain more than a closed socket.
    wire::send(born.init.as_fd(), message, fds).map_err(|errno| {
        match wire::receive(&born.init, RecvFlags::empty()) {
            Ok(Some(received)) => child_failed(None, received.message),
            _ => NotStarted::new(format!("the cube's first process is gone: {errno}")),
        }
    })
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
