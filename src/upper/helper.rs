//! The helper: a process of its own that takes the cube's ids and reads its uppers, so that files of every owner and mode
//! can be read, and whatever a cube put there meets a process that holds nothing else.
//!
//! It gets one connection as its standard input, one request over it, and ends.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::meta::open_folder;
use super::read::{ReadError, RegionReader};
use super::text;
use super::wire::{Bytes, Fate, Ids, Line, Request, Told, Want};
use crate::host::{fdpass, userns};
use crate::model::Failure;
use crate::model::sanitize::printable;
use crate::plan::changes::{Change, Kind, Region, UpperPlace, Visit, What, join, walk, within};

/// The word that makes this program the helper.
pub const VERB: &str = "__upper";
/// The longest line that is read from the helper.
const MAX_LINE: u64 = 8 << 20;

/// Runs the helper and hands each of its lines to `hear`.
///
/// # Errors
/// It cannot be started, fails, or `hear` does.
pub fn run(
    request: &Request,
    fds: &[std::os::fd::BorrowedFd<'_>],
    hear: &mut dyn FnMut(Line) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let fail = |error: &dyn std::error::Error| {
        Failure::failed("cannot start the process that reads a cube's changes").because(error)
    };
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| fail(&error))?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("tripmine-upper")
        .arg(VERB)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(its))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| fail(&error))?;
    let ours = UnixStream::from(ours);
    let result = talk(&ours, request, fds, hear);
    // Whatever happened: with the connection gone it ends.
    drop(ours);
    if result.is_err() {
        // It may hang in a read; ESRCH is fine.
        let _ended = child.kill();
    }
    let _reaped = child.wait();
    result
}

fn talk(
    ours: &UnixStream,
    request: &Request,
    fds: &[std::os::fd::BorrowedFd<'_>],
    hear: &mut dyn FnMut(Line) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let gone = |error: &dyn std::error::Error| {
        Failure::failed("the process that reads a cube's changes is gone").because(error)
    };
    let mut body = serde_json::to_vec(request).map_err(|error| gone(&error))?;
    body.push(b'\n');
    fdpass::send(ours, b"U", fds).map_err(|error| gone(&error))?;
    (&mut &*ours).write_all(&body).map_err(|error| gone(&error))?;
    let mut reader = BufReader::with_capacity(64 * 1024, ours);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| gone(&e))?;
        if count == 0 {
            return Err(Failure::failed("the process that reads a cube's changes ended too early"));
        }
        match serde_json::from_slice(&line).map_err(|error| gone(&error))? {
            Line::Done => return Ok(()),
            Line::Failed { message } => return Err(Failure::failed(message)),
            Line::Maps { pid } => {
                let Ids::Fresh { uid_map, gid_map, .. } = &request.ids else {
                    return Err(Failure::failed("the helper asked for id maps out of turn"));
                };
                userns::write_maps_by_helper(pid, uid_map, gid_map).map_err(|error| {
                    Failure::failed("cannot give the helper the cube's ids").because(&error)
                })?;
                (&mut &*ours).write_all(b"M").map_err(|error| gone(&error))?;
            }
            Line::Hold => {
                hear(Line::Hold)?;
                (&mut &*ours).write_all(b"H").map_err(|error| gone(&error))?;
            }
            other => hear(other)?,
        }
    }
}

/// The body of the helper; its exit code.
#[must_use]
pub fn main() -> u8 {
    let Ok(stream) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else { return 1 };
    let result = serve(&stream);
    let line = match result {
        Ok(()) => Line::Done,
        Err(message) => Line::Failed { message },
    };
    let mut body = serde_json::to_vec(&line).unwrap_or_default();
    body.push(b'\n');
    u8::from((&stream).write_all(&body).is_err())
}

fn serve(stream: &UnixStream) -> Result<(), String> {
    let mut first = [0];
    let (count, fds) = fdpass::receive(stream, &mut first).map_err(|error| error.to_string())?;
    if count != 1 {
        return Err("nothing was asked".to_owned());
    }
    let mut body = Vec::new();
    let mut reader = BufReader::new(stream).take(MAX_LINE);
    reader.read_until(b'\n', &mut body).map_err(|error| error.to_string())?;
    let request: Request = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let mut fds = fds.into_iter();
    let store = if request.store { fds.next() } else { None };
    take_ids(&request.ids, &mut fds, stream)?;
    let shift = match &request.ids {
        Ids::Own { shift } => shift.clone(),
        _ => super::ids::Shift::default(),
    };
    let mut out = BufWriter::with_capacity(64 * 1024, stream);
    let source = |leave_out| super::copy::Source {
        regions: &request.regions,
        store: store.as_ref(),
        leave_out,
        ids: &shift,
    };
    match &request.want {
        Want::List { diffs, only, most } => {
            for (index, region) in request.regions.iter().enumerate() {
                let reader = open_region(region, store.as_ref(), &shift)?;
                let mut lister =
                    Lister { index, region, only, diffs: *diffs, left: *most, out: &mut out, reader: None };
                lister.run(reader).map_err(|error| error.to_string())?;
            }
        }
        Want::Scan => {
            let target = fds.next().ok_or("no folder to look through came along")?;
            super::secrets::scan(&target, &mut out)?;
        }
        Want::Remove { name } => {
            let target = fds.next().ok_or("no folder to delete in came along")?;
            crate::store::remove::remove_in(&target, std::ffi::OsStr::from_bytes(&name.0))
                .map_err(|error| error.to_string())?;
        }
        Want::Copy { leave_out, twice } => {
            let target = fds.next().ok_or("no place to copy to came along")?;
            super::copy::copy(&source(leave_out), &target, twice.as_ref(), &mut out, &mut |out| {
                hold(stream, out).map_err(|error| error.to_string())
            })?;
        }
        Want::Pack { leave_out, owners, noted } => {
            let target = fds.next().ok_or("no pipe to pack into came along")?;
            super::pack::pack(&source(leave_out), target, owners, *noted, &mut out)?;
        }
    }
    out.flush().map_err(|error| error.to_string())
}

/// Opens a region's upper and its lowers.
pub(super) fn open_region(
    region: &Region,
    store: Option<&OwnedFd>,
    shift: &super::ids::Shift,
) -> Result<RegionReader, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A folder on the disk shows the ids as they are inside: to the host's root, and in the user namespace.
    let shift = match region.upper {
        UpperPlace::Store { .. } => shift.clone(),
        UpperPlace::Disk { .. } => super::ids::Shift::default(),
    };
    let upper = match (&region.upper, store) {
        (UpperPlace::Store { name }, Some(store)) => open_folder(store.as_fd(), name.as_bytes())
            .map_err(|errno| format!("cannot open the cube's upper layer: {errno}"))?,
        (UpperPlace::Store { .. }, None) => {
            return Err("the cube's upper layer did not come along".to_owned());
        }
        (UpperPlace::Disk { dir }, _) => {
            openat(CWD, dir.join("upper"), flags, Mode::empty()).map_err(|errno| {
                format!("cannot open `{}`: {errno}", printable(&dir.join("upper").to_string_lossy()))
            })?
        }
    };
    RegionReader::new(upper, &region.lowers, shift).map_err(|error| error.to_string())
}

/// Asks for the cube to be held still, and waits until it is.
fn hold(mut stream: &UnixStream, out: &mut dyn Write) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Line::Hold)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()?;
    stream.read_exact(&mut [0])
}

/// From here on this process is root of a user namespace in which the cube's files have owners.
fn take_ids(
    ids: &Ids,
    fds: &mut impl Iterator<Item = OwnedFd>,
    mut stream: &UnixStream,
) -> Result<(), String> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    match ids {
        Ids::Own { .. } => Ok(()),
        Ids::Enter => {
            let userns = fds.next().ok_or("the cube's user namespace did not come along")?;
            move_into_link_name_space(userns.as_fd(), Some(LinkNameSpaceType::User))
                .map_err(|errno| format!("cannot enter the cube's user namespace: {errno}"))
        }
        Ids::Fresh { uid_map, gid_map, by_helper } => {
            userns::enter_new().map_err(|error| format!("cannot make a user namespace: {error}"))?;
            if *by_helper {
                let pid = rustix::process::getpid().as_raw_nonzero().get();
                let mut line = serde_json::to_vec(&Line::Maps { pid }).map_err(|error| error.to_string())?;
                line.push(b'\n');
                let mut answer = [0];
                stream
                    .write_all(&line)
                    .and_then(|()| stream.read_exact(&mut answer))
                    .map_err(|e| e.to_string())?;
                return Ok(());
            }
            let write = |path: &str, text: &str| {
                std::fs::write(Path::new(path), text)
                    .map_err(|error| format!("cannot write `{path}`: {error}"))
            };
            write("/proc/self/setgroups", "deny")?;
            write("/proc/self/uid_map", uid_map)?;
            write("/proc/self/gid_map", gid_map)
        }
    }
}

/// Tells the changes of a region.
struct Lister<'a, W: Write> {
    index: usize,
    region: &'a Region,
    only: &'a [Bytes],
    diffs: bool,
    left: u64,
    out: &'a mut W,
    reader: Option<DiffReader>,
}

/// For differences: another reader of the same region, because the walk holds the first.
type DiffReader = RegionReader;

impl<W: Write> Lister<'_, W> {
    fn run(&mut self, mut reader: RegionReader) -> Result<(), ReadError> {
        if self.diffs {
            let upper = reader.root().try_clone().map_err(|error| ReadError::Other(error.to_string()))?;
            self.reader = Some(RegionReader::new(upper, &self.region.lowers, super::ids::Shift::default())?);
        }
        walk(&mut reader, self)
    }

    fn say(&mut self, line: &Line) -> Result<(), ReadError> {
        let other = |error: &dyn std::error::Error| ReadError::Other(error.to_string());
        serde_json::to_writer(&mut *self.out, line).map_err(|error| other(&error))?;
        self.out.write_all(b"\n").map_err(|error| other(&error))
    }

    fn wanted(&self, path: &[u8]) -> bool {
        let inside = join(self.region.prefix.as_bytes(), path);
        self.only.is_empty() || self.only.iter().any(|only| within(&inside, &only.0))
    }

    fn diff(&mut self, change: &Change) -> Option<text::Diff> {
        let reader = self.reader.as_mut()?;
        let path = &change.path;
        match &change.what {
            What::Added(entry) if entry.kind == Kind::File => {
                Some(text::diff(None, Some(reader.new_file(path).ok()?)))
            }
            What::Deleted(entry) if entry.kind == Kind::File => {
                Some(text::diff(Some(reader.old_file(path).ok()?), None))
            }
            What::Changed { new, old, aspects }
                if new.kind == Kind::File
                    && old.kind == Kind::File
                    && aspects.contains(&crate::plan::changes::Aspect::Content) =>
            {
                Some(text::diff(Some(reader.old_file(path).ok()?), Some(reader.new_file(path).ok()?)))
            }
            _ => None,
        }
    }
}

impl<W: Write> Visit<ReadError> for Lister<'_, W> {
    fn skips(&self, path: &[u8]) -> bool {
        skips(self.region, path)
    }

    fn is_scaffold(&self, path: &[u8]) -> bool {
        is_scaffold(self.region, path)
    }

    fn change(&mut self, change: Change) -> Result<(), ReadError> {
        if !self.wanted(&change.path) || (self.region.project && only_set_id(&change.what)) {
            return Ok(());
        }
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        if self.left == 0 {
            return self.say(&Line::More);
        }
        let diff = self.diff(&change);
        let told = told(self.index, change, diff);
        self.say(&Line::Change(Box::new(told)))
    }

    fn too_deep(&mut self, path: &[u8]) -> Result<(), ReadError> {
        self.say(&Line::TooDeep { region: self.index, path: Bytes(path.to_vec()) })
    }
}

/// Set-id and sticky bits never reach a project, so they are nothing to decide on.
fn only_set_id(what: &What) -> bool {
    matches!(what, What::Changed { old, new, aspects }
        if *aspects == [crate::plan::changes::Aspect::Mode] && (old.mode ^ new.mode) & 0o777 == 0)
}

/// Something else is mounted here: what the upper holds shows nowhere.
pub(super) fn skips(region: &Region, path: &[u8]) -> bool {
    region.mounted.iter().any(|mounted| within(path, mounted.as_bytes()))
}

/// Made by the set-up for a mount to be there.
pub(super) fn is_scaffold(region: &Region, path: &[u8]) -> bool {
    region.mounted.iter().any(|mounted| within(mounted.as_bytes(), path))
}

fn told(region: usize, change: Change, diff: Option<text::Diff>) -> Told {
    let (fate, old, new, aspects) = match change.what {
        What::Added(new) => (Fate::Added, None, new, Vec::new()),
        What::Deleted(old) => (Fate::Deleted, None, old, Vec::new()),
        What::Changed { old, new, aspects } => (Fate::Changed, Some(old), new, aspects),
    };
    Told {
        region,
        path: Bytes(change.path),
        fate,
        kind: new.kind,
        old_kind: old.as_ref().map(|old| old.kind).filter(|kind| *kind != new.kind),
        mode: new.mode,
        old_mode: old.as_ref().map(|old| old.mode).filter(|mode| *mode != new.mode),
        size: new.size,
        old_size: old.as_ref().map(|old| old.size),
        target: new.target.map(Bytes),
        aspects,
        diff,
    }
}
