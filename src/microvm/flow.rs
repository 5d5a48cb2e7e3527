//! The credit of one lane, on both its ends: what may still be sent, and what came and was not taken yet. Pure.

use std::collections::VecDeque;

use super::wire::Lie;

/// The sending end: bytes that the other side has room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leave {
    left: u32,
    window: u32,
}

impl Leave {
    pub(super) const fn new(window: u32) -> Self {
        Self { left: window, window }
    }

    pub(super) const fn left(self) -> usize {
        self.left as usize
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The other side has made room. It cannot have more than the window.
    pub(super) fn earn(&mut self, bytes: u32) -> Result<(), Lie> {
        self.left = self.left.checked_add(bytes).filter(|left| *left <= self.window).ok_or(Lie::Credit)?;
        Ok(())
    }
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: VecDeque<u8>,
    window: u32,
    /// Taken, and not yet told.
    owed: u32,
}

impl Inbox {
    pub(super) const fn new(window: u32) -> Self {
        Self { waiting: VecDeque::new(), window, owed: 0 }
    }

    /// Bytes that have arrived.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Lie> {
        if self.waiting.len() + bytes.len() + self.owed as usize > self.window as usize {
            return Err(Lie::Credit);
        }
        self.waiting.extend(bytes);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The first of what waits, in one piece.
    pub(super) fn front(&self) -> &[u8] {
        self.waiting.as_slices().0
    }

    /// So many of them have been taken.
    pub(super) fn took(&mut self, bytes: usize) {
        let bytes = bytes.min(self.waiting.len());
        self.waiting.drain(..bytes);
        self.owed += u32::try_from(bytes).unwrap_or(0);
        if self.waiting.is_empty() && self.waiting.capacity() > 4096 {
            self.waiting = VecDeque::new();
        }
    }

    /// Another sender, with leave for a whole window besides what waits already.
    pub(super) fn renew(&mut self, window: u32) {
        self.window = window.saturating_add(u32::try_from(self.waiting.len()).unwrap_or(0));
        self.owed = 0;
    }

    /// Lets go of everything that waits.
    pub(super) fn discard(&mut self) {
        self.took(self.waiting.len());
    }

    /// What the other side is to be told, if it is worth a message.
    pub(super) fn due(&mut self) -> Option<u32> {
        (self.owed >= self.window / 4).then(|| std::mem::take(&mut self.owed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_sends_more_than_fits_and_nobody_earns_more_than_the_window() {
        let (mut leave, mut inbox) = (Leave::new(100), Inbox::new(100));
        inbox.put(&[1; 100]).expect("it fits");
        assert_eq!(inbox.put(&[1]), Err(Lie::Credit));
        leave.spend(100);
        assert_eq!((leave.left(), leave.earn(101)), (0, Err(Lie::Credit)));
        assert_eq!(inbox.due(), None);
        inbox.took(24);
        assert_eq!(inbox.due(), None, "too little to speak of");
        // Taken but not told is not yet leave to send.
        assert_eq!(inbox.put(&[1]), Err(Lie::Credit));
        inbox.took(1);
        let due = inbox.due().expect("a quarter");
        leave.earn(due).expect("earned");
        assert_eq!((due, leave.left()), (25, 25));
        assert_eq!(leave.earn(u32::MAX), Err(Lie::Credit));
    }

    proptest! {
        #[test]
        fn an_honest_pair_never_stalls_and_never_lies(steps in proptest::collection::vec((0_usize..300, 0_usize..300), 1..200)) {
            let (mut leave, mut inbox) = (Leave::new(256), Inbox::new(256));
            for (send, take) in steps {
                let send = send.min(leave.left());
                leave.spend(send);
                prop_assert!(inbox.put(&vec![0; send]).is_ok());
                inbox.took(take);
                if let Some(due) = inbox.due() {
                    prop_assert!(leave.earn(due).is_ok());
                }
                // When all is taken there is leave for most of the window.
                prop_assert!(!inbox.is_empty() || leave.left() > 256 * 3 / 4 - 1);
            }
        }
    }
}
