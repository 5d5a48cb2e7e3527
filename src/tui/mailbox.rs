//! How threads tell the loop something: a bounded queue, a slot for pictures in which the newest wins, and a
//! descriptor that wakes the loop. Who writes faster than the screen is drawn waits; nothing grows.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::msg::Msg;
use crate::model::TripId;
use crate::term::cells::Picture;

/// Messages that may wait.
const QUEUE: usize = 256;

type Slot = Arc<Mutex<Option<(TripId, Result<Picture, String>)>>>;

/// Something that wakes who polls it.
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    pub(super) fn ring(&self) {
        // Full means that it rings already.
        let _rings = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    pub(super) fn hush(&self) {
        let _hushed = rustix::io::read(&*self.0, &mut [0_u8; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The sending side.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    queue: SyncSender<Msg>,
    slot: Slot,
    bell: Bell,
}

/// The loop's side.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Receiver<Msg>,
    slot: Slot,
    pub(super) bell: Bell,
}

pub(super) fn mailbox() -> std::io::Result<(Mailbox, Inbox)> {
    let (sender, receiver) = sync_channel(QUEUE);
    let (slot, bell) = (Slot::default(), Bell::new()?);
    Ok((
        Mailbox { queue: sender, slot: Arc::clone(&slot), bell: bell.clone() },
        Inbox { queue: receiver, slot, bell },
    ))
}

impl Mailbox {
    /// False when nobody reads any more.
    pub(super) fn send(&self, msg: Msg) -> bool {
        let sent = self.queue.send(msg).is_ok();
        self.bell.ring();
        sent
    }

    /// Replaces what was shown before, read or not.
    pub(super) fn picture(&self, id: &TripId, picture: Result<Picture, String>) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((id.clone(), picture));
        self.bell.ring();
    }
}

impl Inbox {
    pub(super) fn next(&self) -> Option<Msg> {
        if let Ok(msg) = self.queue.try_recv() {
            return Some(msg);
        }
        let picture = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        picture.map(|(id, picture)| Msg::Picture(id, picture))
    }
}
