//! What wakes who looks at the world: folders that change, records that are written, keepers that die. Event by event, so
//! that nothing need be asked again and again.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::mailbox::Bell;
use super::watch::timespec;
use super::world::{CubeItem, World};
use crate::store::cubes;

/// Keepers whose end is waited for at once; more would be more descriptors than a process may have.
const KEEPERS: usize = 256;

/// What is looked at.
pub(super) struct Lookout {
    /// Without it, nothing is noticed by itself.
    folders: Option<OwnedFd>,
    /// The folders of records, by cube.
    records: HashMap<String, i32>,
    /// Those that live, by cube.
    keepers: HashMap<String, OwnedFd>,
}

/// What ended the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noticed {
    /// Something changed, or somebody asks.
    Something,
    /// Nothing, in all that time.
    Nothing,
}

impl Lookout {
    pub(super) fn new() -> Self {
        let folders = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Self { folders, records: HashMap::new(), keepers: HashMap::new() }
    }

    /// Folders appear and go: what is watched is said again before each look. Saying it twice changes nothing.
    pub(super) fn open(&self, folders: &[&Path]) {
        let Some(eyes) = &self.folders else { return };
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        for folder in folders {
            // One that is not there yet is found by the next look.
            let _watched = inotify::add_watch(eyes, *folder, events);
        }
    }

    /// After a look: of cubes that can change by themselves, the records are watched, and the keepers of those that live.
    pub(super) fn follow(&mut self, mines: &Path, world: &World) {
        let live = of(world, |cube| cube.live);
        self.keepers.retain(|id, _| live.contains(id.as_str()));
        for cube in world.cubes.iter().filter(|cube| cube.live) {
            let id = cube.id.as_str();
            if self.keepers.len() < KEEPERS
                && !self.keepers.contains_key(id)
                && let Some(keeper) = cube.good().and_then(|record| record.keeper.as_ref())
                && let Some(handle) = keeper.open()
                // One that is dead and not yet buried would be noticed for ever.
                && keeper.is_alive()
            {
                self.keepers.insert(id.to_owned(), handle);
            }
        }
        let Some(eyes) = &self.folders else { return };
        let changing = of(world, changes);
        self.records.retain(|id, watch| {
            let wanted = changing.contains(id.as_str());
            if !wanted {
                // It goes by itself with its folder.
                let _gone = inotify::remove_watch(eyes, *watch);
            }
            wanted
        });
        for cube in world.cubes.iter().filter(|cube| changes(cube)) {
            let id = cube.id.as_str();
            if !self.records.contains_key(id)
                && let Ok(watch) =
                    inotify::add_watch(eyes, mines.join(id).join("headers"), WatchFlags::MOVED_TO)
            {
                self.records.insert(id.to_owned(), watch);
            }
        }
    }

    /// The cubes that live and whose end would not be noticed.
    pub(super) fn blind_for<'a>(&self, world: &'a World) -> Vec<&'a crate::model::TripId> {
        let live = world.cubes.iter().filter(|cube| cube.live).map(|cube| &cube.id);
        live.filter(|id| !self.keepers.contains_key(id.as_str())).collect()
    }

    /// Waits until something changes, somebody rings, or the time is over.
    pub(super) fn wait(&mut self, bell: &Bell, patience: Duration) -> Noticed {
        let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
        let ids: Vec<String> = self.keepers.keys().cloned().collect();
        fds.extend(ids.iter().filter_map(|id| self.keepers.get(id)).map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.folders.as_ref().map(|eyes| PollFd::new(eyes, PollFlags::IN)));
        if matches!(poll(&mut fds, Some(&timespec(patience))), Ok(0)) {
            return Noticed::Nothing;
        }
        let dead = fds[1..].iter().zip(&ids).filter(|(fd, _)| !fd.revents().is_empty());
        let dead: Vec<String> = dead.map(|(_, id)| id.clone()).collect();
        drop(fds);
        for id in dead {
            self.keepers.remove(&id);
        }
        Noticed::Something
    }

    /// Forgets what was noticed: it is looked at now.
    pub(super) fn blink(&self) {
        if let Some(eyes) = &self.folders {
            let mut space = [0_u8; 4096];
            while rustix::io::read(eyes, &mut space).is_ok_and(|count| count > 0) {}
        }
    }
}

/// The cubes of which something is true.
fn of(world: &World, fits: impl Fn(&CubeItem) -> bool) -> HashSet<&str> {
    world.cubes.iter().filter(|cube| fits(cube)).map(|cube| cube.id.as_str()).collect()
}

/// It may change without a new folder or socket: it lives, or can be started again.
fn changes(cube: &CubeItem) -> bool {
    cube.live || cube.kept()
}

/// A cube that lived when it was looked at last does no more.
pub(super) fn somebody_died(mines: &Path, unseen: &[&crate::model::TripId]) -> bool {
    unseen.iter().any(|id| !cubes::load(mines, id).is_ok_and(|entry| entry.live))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::Arc;

    use super::*;
    use crate::model::cube::ProcessRef;
    use crate::store::cubes::tests::sample;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    /// The end of a keeper is noticed as it comes, once, and written records are; nothing else wakes.
    #[test]
    fn a_death_and_a_record_wake_and_nothing_else_does() {
        let mines = tempfile::tempdir().expect("a folder");
        let mut keeper =
            Command::new("/bin/sleep").arg("600").stdin(Stdio::null()).spawn().expect("a process");
        let mut record = sample(1);
        record.keeper = ProcessRef::capture(i32::try_from(keeper.id()).expect("small")).ok();
        let headers = mines.path().join(record.id.as_str()).join("headers");
        std::fs::create_dir_all(&headers).expect("made");
        let cube = CubeItem { id: record.id.clone(), record: Ok(Arc::new(record)), live: true };
        let world = World { cubes: vec![cube], ..World::default() };
        let (mut lookout, bell) = (Lookout::new(), Bell::new().expect("a bell"));
        lookout.open(&[mines.path()]);
        lookout.follow(mines.path(), &world);
        assert!(lookout.blind_for(&world).is_empty());
        assert_eq!(lookout.wait(&bell, SHORT), Noticed::Nothing);
        std::fs::write(headers.join("record.json.new"), "x").expect("written");
        std::fs::rename(headers.join("record.json.new"), headers.join("record.json")).expect("renamed");
        assert_eq!(lookout.wait(&bell, LONG), Noticed::Something);
        lookout.blink();
        assert_eq!(lookout.wait(&bell, SHORT), Noticed::Nothing);
        keeper.kill().expect("killed");
        assert_eq!(lookout.wait(&bell, LONG), Noticed::Something);
        // Dead, and nobody has buried it: it does not wake again, and is asked for instead.
        lookout.follow(mines.path(), &world);
        assert_eq!(lookout.wait(&bell, SHORT), Noticed::Nothing);
        assert_eq!(lookout.blind_for(&world).len(), 1);
        assert!(somebody_died(mines.path(), &lookout.blind_for(&world)));
        keeper.wait().expect("buried");
        bell.ring();
        assert_eq!(lookout.wait(&bell, LONG), Noticed::Something);
    }
}
