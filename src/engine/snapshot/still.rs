//! Holding a running cube still, no longer than must be.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::engine::client::{Client, unexpected};
use crate::host::descendants;
use crate::keeper::protocol::{Answer, Ask};
use crate::model::{CubeRecord, Failure};
use crate::upper::again::a_while_ago;
use crate::upper::wire::{Bytes, Twice};

/// A cube with a keeper, and whether it is held still now.
#[derive(Debug)]
pub(super) struct Stillness {
    client: Client,
    /// Its PID 1; `None` when nothing of it runs any more.
    init: Option<i32>,
    runs: bool,
    begun: Option<Instant>,
    lasted: Option<Duration>,
}

impl Stillness {
    /// `running`: the record of a cube that runs; one that has just ended stands still already.
    pub(super) fn new(client: Client, running: Option<&CubeRecord>) -> Self {
        let init = running.and_then(|record| record.init.as_ref()).map(|init| init.pid);
        Self { client, init, runs: running.is_some(), begun: None, lasted: None }
    }

    /// What lets a first look go before the cube is held still; `None`: that is not known, or not needed.
    pub(super) fn twice(&self) -> Option<Twice> {
        // Before the processes are looked at: whatever is mapped later shows in a file's time.
        let since_ns = i64::try_from(a_while_ago()).ok()?;
        Some(Twice { since_ns, mapped: mapped(self.init?)?.into_iter().map(Bytes).collect() })
    }

    pub(super) fn hold(&mut self) -> Result<(), Failure> {
        if !self.runs || self.begun.is_some() {
            return Ok(());
        }
        self.client.ask(&Ask::Freeze)?;
        let asked = Instant::now();
        match self.client.answer()? {
            Answer::Done => self.begun = Some(asked),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    pub(super) fn release(&mut self) {
        if let Some(begun) = self.begun.take() {
            // A keeper that is gone has let nobody waiting.
            let _thawed = self.client.ask(&Ask::Thaw).and_then(|()| self.client.answer());
            self.lasted = Some(begun.elapsed());
        }
    }

    pub(super) const fn lasted(&self) -> Option<Duration> {
        self.lasted
    }
}

/// Every file that the processes beneath `init` have mapped and share, as paths inside; `None` when one of them does not let
/// itself be looked at. Init itself maps none.
fn mapped(init: i32) -> Option<BTreeSet<Vec<u8>>> {
    /// Looks for processes that were made while we looked.
    const ROUNDS: usize = 8;
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        let fresh: Vec<i32> =
            descendants::beneath(init).into_iter().filter(|pid| seen.insert(*pid)).collect();
        if fresh.is_empty() {
            return Some(found);
        }
        for pid in fresh {
            match std::fs::read(format!("/proc/{pid}/maps")) {
                Ok(maps) => found.extend(maps.split(|byte| *byte == b'\n').filter_map(shared)),
                // It has ended.
                Err(error)
                    if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(_) => return None,
            }
        }
    }
    None
}

/// The file of a line of maps (proc_pid_maps(5)), if it is one that is shared: without its leading slash.
fn shared(line: &[u8]) -> Option<Vec<u8>> {
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let _addresses = fields.next()?;
    if fields.next()?.get(3) != Some(&b's') {
        return None;
    }
    let at = line.iter().position(|byte| *byte == b'/')?;
    let path = &line[at + 1..];
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            // Line ends are written so.
            (b'\\', [b'0', b'1', b'2', tail @ ..]) => (plain, rest) = ([plain, vec![b'\n']].concat(), tail),
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        for (line, path) in [
            ("7f00-7f01 rw-s 00000000 00:2a 17    /var/db/a b", Some("var/db/a b")),
            ("7f00-7f01 r--s 00000000 00:2a 17    /var/a\\012b", Some("var/a\nb")),
            ("7f00-7f01 r-xp 00000000 08:01 17    /usr/bin/true", None),
            ("7f00-7f01 rw-p 00000000 00:00 0", None),
            ("7f00-7f01 rw-s 00000000 00:01 5", None),
            ("", None),
        ] {
            assert_eq!(shared(line.as_bytes()), path.map(|path| path.as_bytes().to_vec()), "{line}");
        }
    }

    #[test]
    fn what_a_process_maps_is_found() {
        // No child of this test maps a file that it shares.
        assert!(mapped(std::process::id().try_into().expect("a pid")).is_some());
    }
}
