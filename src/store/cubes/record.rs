//! A cube's record as a file: read whole or refused, replaced whole or not at all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, RenameFlags, fdatasync, fsync, openat, renameat, renameat_with};
use rustix::io::Errno;

use super::{CubeError, RECORD};
use crate::model::cube::{ExitReason, ExitRecord, RECORD_VERSION};
use crate::model::{CubeRecord, CubeState, Keep, TripId};

/// No record of ours comes near this; a larger file is no record.
const RECORD_MAX: u64 = 4 << 20;
/// The code of a cube whose keeper vanished: tripmine failed, not the entry.
const KEEPER_LOST_CODE: i32 = 125;

/// The record as written, and when that was (milliseconds since 1970).
pub(crate) fn read_record(
    mines: BorrowedFd<'_>,
    path: &Path,
    id: &TripId,
) -> Result<(CubeRecord, u64), CubeError> {
    let record_path = || path.join(RECORD);
    let torn = |why: String| CubeError::Torn { path: record_path(), why };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match openat(mines, format!("{id}/{RECORD}"), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(torn("it is missing".into())),
        Err(error) => return Err(CubeError::io("open", record_path(), error)),
    };
    let failed = |error| CubeError::io("read", record_path(), error);
    let mut bytes = Vec::with_capacity(4096);
    (&file).take(RECORD_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let modified = file.metadata().map_err(failed)?;
    let modified =
        modified.mtime().cast_unsigned() * 1000 + modified.mtime_nsec().cast_unsigned() / 1_000_000;
    let record: CubeRecord = match version_of(&bytes) {
        Some(version) if version != u64::from(RECORD_VERSION) => {
            return Err(CubeError::UnknownVersion { path: record_path(), version });
        }
        _ => serde_json::from_slice(&bytes).map_err(|error| torn(error.to_string()))?,
    };
    if record.id == *id { Ok((record, modified)) } else { Err(torn("it is another cube's".into())) }
}

/// The state as it must be when nobody holds the lock.
pub(crate) fn mark_lost(record: &mut CubeRecord, ended_unix_ms: u64) {
    let ended = ended_unix_ms.max(record.created_unix_ms);
    record.state = CubeState::Failed;
    record.exit = Some(ExitRecord {
        code: KEEPER_LOST_CODE,
        signal: None,
        reason: ExitReason::KeeperLost,
        ended_unix_ms: ended,
        ran: Duration::from_millis(ended - record.created_unix_ms),
    });
}

/// Every version of the record begins with its number, so that even a torn one tells whose it is.
fn version_of(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"version\"")?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

pub(crate) fn write_record_at(headers: &OwnedFd, record: &CubeRecord) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(openat(headers, "record.json.new", flags, Mode::RUSR | Mode::WUSR)?);
    write_over(&mut file, &encode(record)?).map_err(errno)?;
    let durable = record.keep == Keep::Durable;
    if durable {
        fdatasync(&file)?;
        renameat(headers, "record.json.new", headers, "record.json")?;
        return fsync(headers);
    }
    // Over an existing file, ext4 makes rename(2) start to write the data out (`auto_da_alloc`), which the end of a launch would
    // wait for; an exchange is as whole for every reader, and a throwaway's record need not survive a power loss.
    match renameat_with(headers, "record.json.new", headers, "record.json", RenameFlags::EXCHANGE) {
        // What stays under the other name is written over by the next record.
        Ok(()) => Ok(()),
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
            renameat(headers, "record.json.new", headers, "record.json")
        }
        Err(error) => Err(error),
    }
}

/// Replaces what is in a file that nobody reads yet. Not by truncating it first: of a file that was emptied, ext4 writes the
/// data out when it is closed (`auto_da_alloc`), and the next who opens it waits for the disk.
pub(super) fn write_over(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    let length = bytes.len() as u64;
    if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
}

pub(super) fn encode(record: &CubeRecord) -> rustix::io::Result<Vec<u8>> {
    // A record is made of texts and numbers; a path that is not UTF-8 is what can fail here.
    let mut bytes = Vec::with_capacity(4096);
    serde_json::to_writer_pretty(&mut bytes, record).map_err(|_| Errno::ILSEQ)?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
