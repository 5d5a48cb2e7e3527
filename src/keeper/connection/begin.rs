//! A process of the cube, asked of init: its streams, and where its start and its end are told.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::sync::oneshot;

use super::super::state::{Ended, Keeper, Pending, Start};
use crate::host::fdpass;
use crate::jail::spawn::SpawnSpec;
use crate::jail::wire::{self, Message};

type Started = ([Option<OwnedFd>; 3], oneshot::Receiver<Start>, oneshot::Receiver<Ended>);

/// Asks init to start `spec`; our ends of its pipes, and where its start and its end are told.
pub(in crate::keeper) fn start(
    keeper: &Keeper,
    session: u32,
    spec: &SpawnSpec,
    direct: [Option<OwnedFd>; 3],
    rows: u16,
    cols: u16,
) -> io::Result<Started> {
    let spec = fdpass::memory(&spec.encode())?;
    let mut ours = [None, None, None];
    let mut theirs = Vec::new();
    if rows == 0 {
        for (index, direct) in direct.into_iter().enumerate() {
            if let Some(fd) = direct {
                theirs.push(fd);
                continue;
            }
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let (our, their) = if index == 0 { (write, read) } else { (read, write) };
            ours[index] = Some(our);
            theirs.push(their);
        }
    }
    let mut fds = vec![spec.as_fd()];
    fds.extend(theirs.iter().map(AsFd::as_fd));
    let (started_out, started) = oneshot::channel();
    let (ended_out, ended) = oneshot::channel();
    let pending = Pending { started: Some(started_out), ended: Some(ended_out) };
    keeper.pending.borrow_mut().insert(session, pending);
    if let Err(errno) = wire::send(keeper.init.as_fd(), Message::Spawn { session, rows, cols }, &fds) {
        keeper.pending.borrow_mut().remove(&session);
        return Err(errno.into());
    }
    Ok((ours, started, ended))
}
