//! Locks between processes: a file each in `state/locks`, held with flock(2) and let go by the
//! kernel when the holder dies. The files stay: removing one would let two holders in.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use crate::model::{Failure, Name};

use super::fail::cannot;
use super::layout::Layout;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits until nobody else holds the lock called `name`, then holds it alone.
///
/// # Errors
/// The lock file cannot be made or locked.
pub fn exclusive(layout: &Layout, name: &str) -> Result<Lock, Failure> {
    let (file, path) = open(layout, name)?;
    file.lock().map_err(|error| cannot("lock", &path, error))?;
    Ok(Lock { _file: file })
}

/// As [`exclusive`], without waiting: `None` when somebody else holds it.
///
/// # Errors
/// As [`exclusive`].
pub fn exclusive_now(layout: &Layout, name: &str) -> Result<Option<Lock>, Failure> {
    let (file, path) = open(layout, name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(cannot("lock", &path, error)),
    }
}

/// Waits until nobody holds the lock alone, then holds it together with others.
///
/// # Errors
/// The lock file cannot be made or locked.
pub fn shared(layout: &Layout, name: &str) -> Result<Lock, Failure> {
    let (file, path) = open(layout, name)?;
    file.lock_shared().map_err(|error| cannot("lock", &path, error))?;
    Ok(Lock { _file: file })
}

/// The file of the lock called `name`, not locked yet.
///
/// # Errors
/// The file cannot be made.
pub fn file(layout: &Layout, name: &str) -> Result<File, Failure> {
    Ok(open(layout, name)?.0)
}

/// The name of a machine's lock. Whoever changes the machine or its home holds it alone; a launch
/// holds it shared until its cube is listed as live.
#[must_use]
pub fn machine(name: &Name) -> String {
    format!("machine-{name}")
}

fn open(layout: &Layout, name: &str) -> Result<(File, std::path::PathBuf), Failure> {
    let folder = layout.locks_dir();
    let path = folder.join(name);
    let open = || {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
    };
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|error| cannot("create", &folder, error))?;
            open()
        }
        other => other,
    };
    Ok((file.map_err(|error| cannot("open", &path, error))?, path))
}
