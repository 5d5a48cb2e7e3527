//! A paused machine on disk: `memory/` in the folder of a kept cube. `state` is what the VMM wrote, `machine.json` what it
//! belongs to, and `used` is there once a cube has gone on from it: from then on the cube's files are newer than its memory,
//! and nothing goes on from it again.
//!
//! Whoever changes anything here holds the cube's lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::remove::remove_tree;

const FOLDER: &str = "memory";
/// While it is being written.
const PART: &str = "memory.part";
const STATE: &str = "state";
const MACHINE: &str = "machine.json";
const USED: &str = "used";

/// Where the state is, of the cube in the folder `cube`.
#[must_use]
pub fn state(cube: &Path) -> PathBuf {
    cube.join(FOLDER).join(STATE)
}

/// There is a paused machine to go on from.
#[must_use]
pub fn is_there(cube: &Path) -> bool {
    state(cube).is_file() && !cube.join(FOLDER).join(USED).exists()
}

/// What the machine was.
///
/// # Errors
/// It cannot be read.
pub fn machine(cube: &Path) -> io::Result<Vec<u8>> {
    fs::read(cube.join(FOLDER).join(MACHINE))
}

/// Begins one: the file that the state goes into.
///
/// # Errors
/// It cannot be made.
pub fn begin(cube: &Path, machine: &[u8]) -> io::Result<File> {
    let part = cube.join(PART);
    give_up(cube)?;
    DirBuilder::new().mode(0o700).create(&part)?;
    let new = |name: &str| OpenOptions::new().write(true).create_new(true).mode(0o600).open(part.join(name));
    let mut file = new(MACHINE)?;
    file.write_all(machine)?;
    file.sync_all()?;
    new(STATE)
}

/// The state is whole and on the disk: it is there from now on, in the place of an older one.
///
/// # Errors
/// It cannot be put in its place.
pub fn keep(cube: &Path) -> io::Result<()> {
    File::open(cube.join(PART))?.sync_all()?;
    forget(cube)?;
    fs::rename(cube.join(PART), cube.join(FOLDER))?;
    File::open(cube)?.sync_all()
}

/// Removes one that was only begun.
///
/// # Errors
/// It cannot be removed.
pub fn give_up(cube: &Path) -> io::Result<()> {
    remove_tree(&cube.join(PART))
}

/// A cube goes on from it, now: nothing else may.
///
/// # Errors
/// That cannot be written down.
pub fn mark_used(cube: &Path) -> io::Result<()> {
    let folder = cube.join(FOLDER);
    File::create(folder.join(USED))?.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Nothing went on from it after all.
///
/// # Errors
/// That cannot be written down.
pub fn put_back(cube: &Path) -> io::Result<()> {
    fs::remove_file(cube.join(FOLDER).join(USED))
}

/// Removes it, whatever its state. True when a cube could have gone on from it.
///
/// # Errors
/// It cannot be removed.
pub fn forget(cube: &Path) -> io::Result<bool> {
    let was = is_there(cube);
    remove_tree(&cube.join(FOLDER))?;
    Ok(was)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_there_once_it_is_whole_and_until_something_goes_on_from_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let cube = folder.path();
        let save = |bytes: &[u8]| {
            let mut file = begin(cube, b"{}").expect("begun");
            file.write_all(bytes).expect("written");
        };
        save(b"half");
        assert!(!is_there(cube), "only begun");
        save(b"whole");
        keep(cube).expect("kept");
        assert!(is_there(cube));
        assert_eq!(fs::read(state(cube)).expect("read"), b"whole");
        assert_eq!(machine(cube).expect("read"), b"{}");
        mark_used(cube).expect("used");
        assert!(!is_there(cube));
        put_back(cube).expect("put back");
        assert!(is_there(cube));
        mark_used(cube).expect("used");
        save(b"again");
        keep(cube).expect("kept");
        assert!(is_there(cube), "another one is not used");
        assert!(forget(cube).expect("gone") && !forget(cube).expect("nothing left"));
        assert_eq!(fs::read_dir(cube).expect("read").count(), 0, "nothing is left behind");
    }
}
