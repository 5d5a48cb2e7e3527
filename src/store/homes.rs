//! Homes: one persistent folder per machine, seeded once and never overwritten.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::model::{Failure, FailureKind, Name};

use super::atomic::sync_folder;
use super::fail::{cannot, shown};
use super::layout::Layout;
use super::lock;
use super::remove::remove_tree;
use super::trash::{self, TrashKind, TrashRecord};

pub use super::usage::{Usage, usage};

/// Starts the name of a home that is being built.
const NEW: &str = ".new-";
const LOCK: &str = "homes";
/// How deep and how large a seed may be: it may come with an image.
const SEED_DEPTH: u32 = 32;
const SEED_ENTRIES: u32 = 20_000;

/// The home of `machine`, made and seeded if it does not exist yet: the `seed_sources` (`/etc/skel`
/// …) are copied one over the other, and the result appears by one rename. A source that does not
/// exist is left out. One system call when the home exists.
///
/// # Errors
/// Something else than a folder is there, or it cannot be made.
pub fn ensure_seeded(layout: &Layout, machine: &Name, seed_sources: &[&Path]) -> Result<PathBuf, Failure> {
    let home = layout.home(machine);
    if is_there(&home)? {
        return Ok(home);
    }
    let homes = layout.homes_dir();
    DirBuilder::new().recursive(true).mode(0o700).create(&homes).map_err(|e| cannot("create", &homes, e))?;
    // Whoever holds this lock is the only builder, so every unfinished home is a dead one's.
    let _lock = lock::exclusive(layout, LOCK)?;
    sweep(&homes)?;
    if is_there(&home)? {
        return Ok(home);
    }
    let new = tempfile::Builder::new()
        .prefix(&format!("{NEW}{machine}-"))
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&homes)
        .map_err(|error| cannot("create a home in", &homes, error))?;
    let mut budget = SEED_ENTRIES;
    for source in seed_sources {
        copy_folder(source, new.path(), SEED_DEPTH, &mut budget)
            .map_err(|error| cannot("seed a home from", source, error))?;
    }
    fs::rename(new.path(), &home).map_err(|error| cannot("create", &home, error))?;
    // Its content has moved; the guard must not delete what a later home puts at the old name.
    drop(new.keep());
    drop(sync_folder(&homes));
    Ok(home)
}

/// Makes the home of `machine` by `fill`, which is given the folder that becomes it when all of it is there.
///
/// # Errors
/// There is a home already, or it cannot be made: nothing of it is left then.
pub fn make_with(
    layout: &Layout,
    machine: &Name,
    fill: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> Result<(), Failure> {
    let (homes, home) = (layout.homes_dir(), layout.home(machine));
    DirBuilder::new().recursive(true).mode(0o700).create(&homes).map_err(|e| cannot("create", &homes, e))?;
    let _lock = lock::exclusive(layout, LOCK)?;
    sweep(&homes)?;
    refuse_there(&home)?;
    let new = tempfile::Builder::new()
        .prefix(&format!("{NEW}{machine}-"))
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&homes)
        .map_err(|error| cannot("create a home in", &homes, error))?;
    fill(new.path()).map_err(|error| cannot("fill the home", &home, error))?;
    fs::rename(new.path(), &home).map_err(|error| cannot("create", &home, error))?;
    drop(new.keep());
    sync_folder(&homes).map_err(|error| cannot("sync", &homes, error))
}

/// Refuses where a home is already.
///
/// # Errors
/// There is one.
pub fn refuse_there(home: &Path) -> Result<(), Failure> {
    if !is_there(home)? {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Busy, format!("there is a home already: {}", shown(home)))
        .hint("a machine of that name left it: choose another name, or move it away"))
}

/// Moves a machine's home to the trash; the next launch seeds a new one. The caller holds the
/// machine's lock and knows that no cube uses it.
///
/// # Errors
/// There is no home yet, or it cannot be moved.
pub fn reset_home(layout: &Layout, machine: &Name, used: Usage, now_ms: u64) -> Result<TrashRecord, Failure> {
    trash::put(layout, TrashKind::Home, machine.as_str(), &[&layout.home(machine)], used, now_ms)
}

fn is_there(home: &Path) -> Result<bool, Failure> {
    match fs::metadata(home) {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => Err(Failure::new(FailureKind::Config, format!("this home is no folder: {}", shown(home)))
            .hint("move it away; the next launch makes a new home")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if fs::symlink_metadata(home).is_ok() {
                return Err(Failure::new(
                    FailureKind::Config,
                    format!("this home is a link that leads nowhere: {}", shown(home)),
                ));
            }
            Ok(false)
        }
        Err(error) => Err(cannot("read", home, error)),
    }
}

/// Deletes homes that a killed launch left unfinished.
fn sweep(homes: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(homes).map_err(|error| cannot("list", homes, error))?;
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(NEW.as_bytes()) {
            remove_tree(&entry.path()).map_err(|error| cannot("delete", &entry.path(), error))?;
        }
    }
    Ok(())
}

/// Copies what is in `source` into `target`: folders, plain files, links as links; modes without
/// set-id bits. Devices, pipes and sockets are left out.
fn copy_folder(source: &Path, target: &Path, depth: u32, budget: &mut u32) -> io::Result<()> {
    let entries = match fs::read_dir(source) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let too_much = |what| Err(io::Error::new(ErrorKind::InvalidData, what));
    for entry in entries {
        let entry = entry?;
        let Some(left) = budget.checked_sub(1) else { return too_much("it holds too many files") };
        *budget = left;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let found = fs::symlink_metadata(&from)?;
        let mode = found.permissions().mode() & 0o777;
        if found.is_symlink() {
            replace(&to)?;
            symlink(fs::read_link(&from)?, &to)?;
        } else if found.is_dir() {
            let Some(depth) = depth.checked_sub(1) else { return too_much("its folders are too deep") };
            if !fs::symlink_metadata(&to).is_ok_and(|there| there.is_dir()) {
                replace(&to)?;
                DirBuilder::new().mode(0o700).create(&to)?;
            }
            copy_folder(&from, &to, depth, budget)?;
            fs::set_permissions(&to, Permissions::from_mode(mode | 0o700))?;
        } else if found.is_file() {
            replace(&to)?;
            copy_file(&from, &to, mode | 0o600)?;
        }
    }
    Ok(())
}

/// Makes room: a later source's entry takes the place of an earlier one's.
fn replace(path: &Path) -> io::Result<()> {
    remove_tree(path)
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut input = File::options().read(true).custom_flags(flags).open(from)?;
    let mut output = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut input, &mut output)?;
    output.set_permissions(Permissions::from_mode(mode))?;
    // Seeded once and for all: an empty .bashrc after a power cut would stay.
    output.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn work() -> Name {
        Name::parse("work").expect("name")
    }

    fn setup() -> (tempfile::TempDir, Layout, PathBuf) {
        let folder = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(folder.path());
        let skel = folder.path().join("skel");
        fs::create_dir_all(skel.join(".config/x")).expect("mkdir");
        fs::write(skel.join(".profile"), "a").expect("write");
        fs::set_permissions(skel.join(".profile"), Permissions::from_mode(0o4755)).expect("chmod");
        symlink("/etc/shadow", skel.join("link")).expect("link");
        rustix::fs::mkfifoat(rustix::fs::CWD, skel.join("fifo"), rustix::fs::Mode::RUSR).expect("fifo");
        (folder, layout, skel)
    }

    #[test]
    fn seeded_once_and_never_overwritten() {
        let (folder, layout, skel) = setup();
        fs::create_dir_all(layout.homes_dir().join(".new-old-x/y")).expect("mkdir");
        let seed = folder.path().join("seed");
        fs::create_dir(&seed).expect("mkdir");
        fs::write(seed.join("link"), "plain").expect("write");
        let home = ensure_seeded(&layout, &work(), &[&skel, Path::new("/no/such"), &seed]).expect("seed");
        let mode = |path: &str| fs::symlink_metadata(home.join(path)).expect(path).mode() & 0o7777;
        assert_eq!((mode(""), mode(".profile")), (0o700, 0o755));
        assert_eq!(fs::read(home.join("link")).expect("read"), b"plain");
        assert!(home.join(".config/x").is_dir() && !home.join("fifo").exists());
        fs::write(home.join(".profile"), "mine").expect("write");
        ensure_seeded(&layout, &work(), &[&skel]).expect("again");
        assert_eq!(fs::read(home.join(".profile")).expect("read"), b"mine");
        assert_eq!(fs::read_dir(layout.homes_dir()).expect("list").count(), 1);
    }

    #[test]
    fn links_are_copied_as_links_and_failure_leaves_nothing() {
        let (_folder, layout, skel) = setup();
        let home = ensure_seeded(&layout, &work(), &[&skel]).expect("seed");
        assert_eq!(fs::read_link(home.join("link")).expect("link"), Path::new("/etc/shadow"));
        let other = Name::parse("other").expect("name");
        assert!(ensure_seeded(&layout, &other, &[&skel.join(".profile")]).is_err());
        assert_eq!(fs::read_dir(layout.homes_dir()).expect("list").count(), 1);
        fs::write(layout.home(&other), "").expect("write");
        assert_eq!(ensure_seeded(&layout, &other, &[]).expect_err("file").kind, FailureKind::Config);
    }

    #[test]
    fn two_at_once_make_one_home() {
        let (_folder, layout, skel) = setup();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| ensure_seeded(&layout, &work(), &[&skel]).expect("seed"));
            }
        });
        assert_eq!(fs::read_dir(layout.homes_dir()).expect("list").count(), 1);
    }

    #[test]
    fn reset_goes_to_the_trash() {
        let (_folder, layout, skel) = setup();
        let home = ensure_seeded(&layout, &work(), &[&skel]).expect("seed");
        reset_home(&layout, &work(), usage(&home), 1).expect("reset");
        assert!(!home.exists());
        assert_eq!(
            reset_home(&layout, &work(), usage(&home), 2).expect_err("none").kind,
            FailureKind::Missing
        );
        trash::undo(&layout, None).expect("undo");
        assert!(home.join(".profile").exists());
    }
}
