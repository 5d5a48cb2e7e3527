//! A home copied, without what belongs to the work that was done on it. Its files are a cube's own, and the cube may run:
//! no link is followed, no path leaves the home, and what vanishes meanwhile is left out.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, linkat, mkdirat, openat2, symlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::copy::contents;
use super::meta::{BENEATH, look, open_file, open_folder};

/// What a copy did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files and links.
    pub files: u64,
    /// Their lengths, in bytes.
    pub bytes: u64,
    /// Files that belong to another id and may not be read, pipes and sockets.
    pub left: u64,
}

/// Adds up what lies in a home, each thing under the number that `which` gives its topmost place; `None` stands for the
/// rest. What is not asked for is not walked.
///
/// # Errors
/// The home cannot be read.
pub fn measure(
    home: &OwnedFd,
    groups: usize,
    which: &dyn Fn(&[u8]) -> Option<usize>,
) -> io::Result<Vec<(Copied, Option<Vec<u8>>)>> {
    let mut found = vec![(Copied::default(), None); groups];
    let mut count = |path: &[u8], stat: &Stat| {
        let Some((copied, first)) = group_of(path, which).and_then(|at| found.get_mut(at)) else {
            return Ok(());
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            copied.files += 1;
            copied.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
        if first.is_none() {
            *first = Some(path.to_vec());
        }
        Ok(())
    };
    walk(home, &|_| false, &mut count)?;
    Ok(found)
}

/// The group of a path: that of the first of its parents that has one.
fn group_of(path: &[u8], which: &dyn Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
    ends.map(|end| &path[..end]).find_map(which)
}

/// Copies `from` into the empty folder `to`, but for what `skip` says, with all that is beneath it.
///
/// # Errors
/// Something that should be copied cannot be.
pub fn copy(from: &OwnedFd, to: &OwnedFd, skip: &dyn Fn(&[u8]) -> bool) -> io::Result<Copied> {
    let mut copied = Copied::default();
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut folders: Vec<(Vec<u8>, u32, Timestamps)> = Vec::new();
    walk(from, skip, &mut |path, stat| {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        let folder = open_folder(to.as_fd(), parent)?;
        let times = times(stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(&folder, name, Mode::RWXU)?;
                folders.push((path.to_vec(), stat.st_mode & 0o777 | 0o700, times));
                return Ok(());
            }
            FileType::Symlink => {
                let Some((entry, _)) = look(from.as_fd(), path)? else { return Ok(()) };
                let Some(target) = entry.target else { return Ok(()) };
                symlinkat(target.as_slice(), &folder, name)?;
            }
            FileType::RegularFile => {
                let key = (stat.st_dev, stat.st_ino);
                if let Some(first) = links.get(&key) {
                    linkat(to, first.as_slice(), &folder, name, AtFlags::empty())?;
                    copied.files += 1;
                    return Ok(());
                }
                let source = match open_file(from.as_fd(), path) {
                    Ok(source) => source,
                    Err(Errno::NOENT) => return Ok(()),
                    // Another id's, of a cube that had several; or it has become something else.
                    Err(Errno::ACCESS | Errno::INVAL | Errno::LOOP) => {
                        copied.left += 1;
                        return Ok(());
                    }
                    Err(errno) => return Err(errno.into()),
                };
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let made = File::from(openat2(&folder, name, flags, Mode::RUSR | Mode::WUSR, BENEATH)?);
                let size = source.metadata()?.len();
                let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
                contents(&source, &made, size, allocated)?;
                // Without set-id bits: nothing in a home needs them.
                rustix::fs::fchmod(&made, Mode::from(stat.st_mode & 0o777))?;
                copied.bytes += size;
                if stat.st_nlink > 1 {
                    links.insert(key, path.to_vec());
                }
            }
            _ => {
                copied.left += 1;
                return Ok(());
            }
        }
        copied.files += 1;
        utimensat(&folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    })?;
    // They were written into since they were made.
    for (path, mode, times) in folders.into_iter().rev() {
        let folder = open_folder(to.as_fd(), &path)?;
        rustix::fs::fchmod(&folder, Mode::from(mode))?;
        rustix::fs::futimens(&folder, &times)?;
    }
    Ok(copied)
}

/// [`super::manifest::each`], but it leaves out what `skip` says with all that is beneath, and folders of other ids.
fn walk(
    root: &OwnedFd,
    skip: &dyn Fn(&[u8]) -> bool,
    each: &mut dyn FnMut(&[u8], &Stat) -> io::Result<()>,
) -> io::Result<()> {
    super::manifest::each_but(root.as_fd(), b"", skip, each)
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::upper::manifest::open_root;

    #[test]
    fn a_home_is_copied_without_what_is_left_out_and_without_following_links() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(from.join(".app/sessions/deep")).expect("mkdir");
        fs::create_dir(&to).expect("mkdir");
        fs::write(from.join(".app/sessions/deep/said"), "secret").expect("write");
        fs::write(from.join(".app/settings"), "x").expect("write");
        fs::set_permissions(from.join(".app/settings"), fs::Permissions::from_mode(0o4640)).expect("chmod");
        fs::hard_link(from.join(".app/settings"), from.join("same")).expect("link");
        symlink("/etc", from.join("etc")).expect("link");
        fs::set_permissions(from.join(".app"), fs::Permissions::from_mode(0o750)).expect("chmod");
        rustix::fs::mkfifoat(rustix::fs::CWD, from.join("fifo"), Mode::RUSR).expect("fifo");
        let open = |path: &std::path::Path| open_root(path).expect("open");
        let sessions = |path: &[u8]| path == b".app/sessions";
        let found = measure(&open(&from), 1, &|path| sessions(path).then_some(0)).expect("measured");
        assert_eq!(found[0].0, Copied { files: 1, bytes: 6, left: 0 });
        assert_eq!(found[0].1.as_deref(), Some(&b".app/sessions"[..]));
        let copied = copy(&open(&from), &open(&to), &sessions).expect("copied");
        assert_eq!(copied, Copied { files: 3, bytes: 1, left: 1 });
        assert!(!to.join(".app/sessions").exists() && !to.join("fifo").exists());
        let meta = |name: &str| fs::symlink_metadata(to.join(name)).expect(name);
        assert_eq!((meta(".app/settings").mode() & 0o7777, meta(".app").mode() & 0o7777), (0o640, 0o750));
        assert_eq!(meta(".app/settings").ino(), meta("same").ino());
        assert_eq!(fs::read_link(to.join("etc")).expect("link"), std::path::Path::new("/etc"));
        assert_eq!(meta(".app").mtime_nsec(), fs::metadata(from.join(".app")).expect("meta").mtime_nsec());
    }
}
