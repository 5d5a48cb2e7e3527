//! What a project was when its review began: who changed a file since is found by comparing.
//!
//! One record an entry, ended by a NUL: `DEV INO MODE SIZE MTIME CTIME PATH`, times in nanoseconds, the mode in octal with
//! the file's type; a later record of a path counts. `- PATH` says that nothing is there any more. Read from the start
//! each time and never held whole: a project may be large.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, openat, openat2, statat};
use rustix::io::Errno;

use super::meta::{BENEATH, open_folder};
use crate::plan::changes::{MAX_DEPTH, join};

/// The most entries of a project that may be reviewed: a launch waits for the walk.
pub const MAX_ENTRIES: u64 = 2_000_000;

/// What tells whether a file is still the one it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
    /// `st_mode`, with the type.
    pub mode: u32,
    /// `st_size`.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i128,
    /// Nanoseconds since 1970: no program sets it back.
    pub ctime: i128,
}

impl Identity {
    /// That of a stat(2).
    #[must_use]
    #[expect(
        clippy::unnecessary_cast,
        reason = "the widths of st_dev and st_ino differ between architectures"
    )]
    pub fn of(stat: &Stat) -> Self {
        let time =
            |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            mode: stat.st_mode,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or(0)),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec.try_into().unwrap_or(0)),
        }
    }

    /// It is a folder: what is in it has records of its own.
    #[must_use]
    pub const fn is_folder(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Nobody changed it: of a folder only that it is the same one.
    #[must_use]
    pub fn unchanged(&self, now: &Self) -> bool {
        if self.is_folder() && now.is_folder() {
            (self.dev, self.ino) == (now.dev, now.ino)
        } else {
            self == now
        }
    }
}

/// The identity at `path` beneath `root`; `None` when nothing is there.
///
/// # Errors
/// The path leads through a link, a file or another mount, or cannot be looked at.
pub fn identity(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Identity>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(root, path, flags, Mode::empty(), BENEATH) {
        Ok(fd) => Ok(Some(Identity::of(&rustix::fs::fstat(&fd)?))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a folder by its path, following no link.
///
/// # Errors
/// As openat2(2).
pub fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::NO_SYMLINKS | rustix::fs::ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, path, flags, Mode::empty(), resolve)
}

/// Calls `each` for everything beneath `start` in `root`, folders before what is in them.
///
/// # Errors
/// What cannot be read, or what `each` answers.
pub fn each(
    root: BorrowedFd<'_>,
    start: &[u8],
    each: &mut dyn FnMut(&[u8], &Stat) -> io::Result<()>,
) -> io::Result<()> {
    each_but(root, start, &|_| false, each)
}

/// As [`each`], without what `skip` says and all that is beneath it.
///
/// # Errors
/// What cannot be read, or what `each` answers.
pub fn each_but(
    root: BorrowedFd<'_>,
    start: &[u8],
    skip: &dyn Fn(&[u8]) -> bool,
    each: &mut dyn FnMut(&[u8], &Stat) -> io::Result<()>,
) -> io::Result<()> {
    let mut waiting = vec![(start.to_vec(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        let open = match open_folder(root, &folder) {
            Ok(open) => open,
            // A folder of another mount, or one that has just gone.
            Err(Errno::XDEV | Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        for entry in Dir::read_from(&open)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match statat(&open, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let path = join(&folder, name.to_bytes());
            if skip(&path) {
                continue;
            }
            each(&path, &stat)?;
            if Identity::of(&stat).is_folder() && depth < MAX_DEPTH {
                waiting.push((path, depth + 1));
            }
        }
    }
    Ok(())
}

/// Writes the manifest of `project` to `file`, which appears whole or not at all.
///
/// # Errors
/// The project cannot be read, has too many entries, or the file cannot be written.
pub fn write(project: &Path, file: &Path) -> io::Result<()> {
    let root = open_root(project)?;
    let part = file.with_extension("part");
    let mut out = BufWriter::new(File::create(&part)?);
    let mut left = MAX_ENTRIES;
    each(root.as_fd(), b"", &mut |path, stat| {
        left = left.checked_sub(1).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("it holds more than {MAX_ENTRIES} entries"))
        })?;
        record(&mut out, path, Some(&Identity::of(stat)))
    })?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&part, file)
}

fn record(out: &mut impl Write, path: &[u8], identity: Option<&Identity>) -> io::Result<()> {
    match identity {
        Some(Identity { dev, ino, mode, size, mtime, ctime }) => {
            write!(out, "{dev} {ino} {mode:o} {size} {mtime} {ctime} ")?;
        }
        None => out.write_all(b"- ")?,
    }
    out.write_all(path)?;
    out.write_all(b"\0")
}

/// Adds what was taken over: from now on this is what the project was.
///
/// # Errors
/// The file cannot be written.
pub fn append(file: &Path, records: &[(Vec<u8>, Option<Identity>)]) -> io::Result<()> {
    let mut all = Vec::new();
    for (path, identity) in records {
        record(&mut all, path, identity.as_ref())?;
    }
    let mut out = File::options().append(true).open(file)?;
    out.write_all(&all)?;
    out.sync_all()
}

/// The records of the paths for which `wanted` says yes.
///
/// # Errors
/// The file cannot be read, or holds what is no record.
pub fn read(file: &Path, wanted: &dyn Fn(&[u8]) -> bool) -> io::Result<HashMap<Vec<u8>, Identity>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "it holds something that is no record");
    let mut reader = BufReader::with_capacity(
        256 * 1024,
        File::from(openat(CWD, file, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?),
    );
    let mut found = HashMap::new();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if reader.read_until(0, &mut bytes)? == 0 {
            return Ok(found);
        }
        // A record without its end was being written when somebody died.
        if bytes.pop() != Some(0) {
            return Ok(found);
        }
        if let Some(path) = bytes.strip_prefix(b"- ") {
            found.remove(path);
            continue;
        }
        let mut fields = bytes.splitn(7, |byte| *byte == b' ');
        let mut next = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
        let mut parse = || -> Option<Identity> {
            Some(Identity {
                dev: next()?.parse().ok()?,
                ino: next()?.parse().ok()?,
                mode: u32::from_str_radix(next()?, 8).ok()?,
                size: next()?.parse().ok()?,
                mtime: next()?.parse().ok()?,
                ctime: next()?.parse().ok()?,
            })
        };
        let identity = parse().ok_or_else(bad)?;
        let path = fields.next().ok_or_else(bad)?;
        if wanted(path) {
            found.insert(path.to_vec(), identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_changes_show() {
        let base = tempfile::tempdir().expect("tempdir");
        let project = base.path().join("p");
        fs::create_dir_all(project.join("d")).expect("mkdir");
        fs::write(project.join("d/a b\n"), "1").expect("write");
        fs::write(project.join("same"), "1").expect("write");
        std::os::unix::fs::symlink("/etc", project.join("link")).expect("link");
        let file = base.path().join("base");
        write(&project, &file).expect("manifest");
        let all = read(&file, &|_| true).expect("read");
        assert_eq!(all.len(), 4, "{all:?}");
        let root = open_root(&project).expect("open");
        let now = |path: &[u8]| identity(root.as_fd(), path).expect("look");
        assert!(all[&b"same".to_vec()].unchanged(&now(b"same").expect("there")));
        fs::write(project.join("d/a b\n"), "2").expect("write");
        assert!(!all[&b"d/a b\n".to_vec()].unchanged(&now(b"d/a b\n").expect("there")));
        assert!(all[&b"d".to_vec()].unchanged(&now(b"d").expect("there")), "a folder is its own");
        assert!(identity(root.as_fd(), b"link/passwd").is_err(), "a link is not followed");

        append(&file, &[(b"same".to_vec(), None), (b"d".to_vec(), now(b"same"))]).expect("append");
        let later = read(&file, &|path| path != b"link").expect("read");
        assert_eq!((later.len(), later[&b"d".to_vec()].is_folder()), (2, false));
        let mut torn = fs::read(&file).expect("read");
        torn.pop();
        fs::write(&file, torn).expect("write");
        assert_eq!(read(&file, &|_| true).expect("read")[&b"d".to_vec()], all[&b"d".to_vec()]);
    }
}
