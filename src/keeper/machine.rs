//! A guest held still: by a process of the cube that asks the bridge for it, and for as long as that one is let run. What
//! the guest has written is on the share then. And a machine paused: its memory, as such a process writes it, in the cube's
//! folder.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::connection::start;
use super::output::{self, Read};
use super::start::Pipes;
use super::state::{Ended, Keeper, Start};
use crate::jail::spawn::SpawnSpec;
use crate::model::ExitReason;
use crate::plan::LaunchPlan;
use crate::plan::vm::{self, FROZEN, ShimTask, WHOLE};
use crate::store::memory;

/// How long a guest may take: an emulated one on a busy host writes much out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Dropped, the guest goes on.
#[derive(Debug)]
pub struct Hold {
    _stdin: Option<OwnedFd>,
}

/// Starts a process of the cube that asks the bridge for something: its streams, and how its end is heard. `gone` is said of a
/// cube that has ended.
async fn begin(
    keeper: &Rc<Keeper>,
    task: &ShimTask,
    gone: &str,
) -> Result<(Pipes, oneshot::Receiver<Ended>), String> {
    let words = vm::shim_words(task, &[]);
    let spec = SpawnSpec::new(&words, &[], "/").map_err(|error| error.to_string())?;
    let (ours, started, ended) =
        start(keeper, keeper.number(), &spec, [None, None, None], 0, 0).map_err(|error| error.to_string())?;
    match started.await {
        Ok(Start::Running(..)) => Ok((ours, ended)),
        Ok(Start::Refused { errno, .. }) => Err(rustix::io::Errno::from_raw_os_error(errno).to_string()),
        Err(_) => Err(gone.to_owned()),
    }
}

/// Holds the guest still.
///
/// # Errors
/// One line.
pub async fn hold(keeper: &Rc<Keeper>) -> Result<Hold, String> {
    let fail = |why: &str| format!("cannot hold the guest still: {why}");
    let begun = begin(keeper, &ShimTask::Freeze, "the cube has ended").await;
    let ([stdin, stdout, stderr], _ended) = begun.map_err(|why| fail(&why))?;
    let said = async {
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else { return Err(fail("it has no streams")) };
        let (stdout, stderr) = (output::watched(stdout), output::watched(stderr));
        let (Ok(stdout), Ok(stderr)) = (stdout, stderr) else {
            return Err(fail("its streams cannot be watched"));
        };
        let mut buffer = [0; 512];
        match output::read(&stdout, &mut buffer).await {
            Read::Bytes(count) | Read::End(count) if buffer[..count] == *FROZEN => Ok(()),
            _ => {
                let (Read::Bytes(count) | Read::End(count)) = output::read(&stderr, &mut buffer).await;
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                Err(fail(&crate::model::sanitize::printable(text.trim_end())))
            }
        }
    };
    match tokio::time::timeout(PATIENCE, said).await {
        Ok(Ok(())) => Ok(Hold { _stdin: stdin }),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(fail(&format!("it did not answer within {} s", PATIENCE.as_secs()))),
    }
}

/// How long a machine's memory may take to be on the disk.
const WRITING: Duration = Duration::from_secs(600);
/// A saved state is not larger than the guest's memory and this: devices, and the head of each page.
const DEVICES: u64 = 256 << 20;

/// Saves the machine into the cube's folder and ends the cube. What is returned holds the machine still until it has ended.
///
/// # Errors
/// One line and next steps: it cannot be saved, or it refuses. It runs on.
pub async fn pause(keeper: &Rc<Keeper>) -> Result<Hold, (String, Vec<String>)> {
    let id = keeper.plan.id.short();
    let fail = |why: &str| (format!("the cube {id} cannot be paused: {why}"), Vec::new());
    if let Some((why, fix)) = vm::cannot_pause(&keeper.plan) {
        return Err((fail(&why).0, vec![fix.to_owned()]));
    }
    let Some(machine) = &keeper.plan.vm else { return Err(fail("it is no virtual machine")) };
    if keeper.frozen_by.get().is_some() {
        return Err(fail("it is held still by another command"));
    }
    let number = keeper.number();
    keeper.frozen_by.set(Some(number));
    keeper.event("pausing", serde_json::Value::Null);
    let most = machine.spec.memory.get().saturating_add(DEVICES);
    let saved = save(keeper, &serde_json::to_vec(&machine.spec).unwrap_or_default(), most).await;
    keeper.frozen_by.set(None);
    match saved {
        Ok(hold) => {
            keeper.end(ExitReason::Paused, Some(0));
            Ok(hold)
        }
        Err(why) => {
            // What stays is removed by the next pause.
            let _removed = memory::give_up(&keeper.dir.path);
            keeper.event("not-paused", why.clone());
            Err(fail(&why))
        }
    }
}

/// What holds the machine still, when its state is whole and in its place.
async fn save(keeper: &Rc<Keeper>, machine: &[u8], most: u64) -> Result<Hold, String> {
    let text = |error: io::Error| error.to_string();
    let file = memory::begin(&keeper.dir.path, machine).map_err(text)?;
    let (ours, ended) = begin(keeper, &ShimTask::Save, "it has ended").await?;
    let [stdin, Some(stdout), Some(stderr)] = ours else { return Err("it has no streams".to_owned()) };
    let (told, written) = oneshot::channel();
    // Beside this thread: a gigabyte may be under way, and the cube's terminal goes on meanwhile.
    let copying = std::thread::Builder::new().name("memory".into()).spawn(move || {
        // Whoever waits may have given up.
        let _told = told.send(copy(&mut File::from(stdout), file, most));
    });
    copying.map_err(text)?;
    let whole = match tokio::time::timeout(WRITING, written).await {
        Ok(Ok(copied)) => copied.map_err(text)?,
        _ => return Err(format!("its memory was not written within {} s", WRITING.as_secs())),
    };
    if whole {
        memory::keep(&keeper.dir.path).map_err(text)?;
        return Ok(Hold { _stdin: stdin });
    }
    let said = async {
        let stderr = output::watched(stderr).ok()?;
        let mut buffer = [0; 1024];
        let (Read::Bytes(count) | Read::End(count)) = output::read(&stderr, &mut buffer).await;
        Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
    };
    let said = tokio::time::timeout(PATIENCE, said).await.ok().flatten().unwrap_or_default();
    let _ended = tokio::time::timeout(PATIENCE, ended).await;
    let said = said.trim().trim_start_matches("tripmine: ");
    Err(if said.is_empty() {
        "it does not say why".to_owned()
    } else {
        crate::model::sanitize::printable(said)
    })
}

/// Copies a state to the disk. False when it is not whole.
fn copy(from: &mut File, mut to: File, most: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut size, mut tail) = (0_u64, Vec::new());
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        size += count as u64;
        if size > most {
            return Err(io::Error::other("it writes more than it has memory"));
        }
        to.write_all(&buffer[..count])?;
        tail.extend_from_slice(&buffer[count.saturating_sub(WHOLE.len())..count]);
        tail.drain(..tail.len().saturating_sub(WHOLE.len()));
    }
    if tail != WHOLE {
        return Ok(false);
    }
    to.set_len(size - WHOLE.len() as u64)?;
    to.seek(SeekFrom::Start(0))?;
    to.sync_all()?;
    Ok(true)
}

/// What becomes of the state that this cube was to go on from: it is worth something only when nothing went on from it.
pub fn spend(plan: &LaunchPlan, cube: &Path, went_on: bool) {
    if !plan.vm.as_ref().is_some_and(|machine| machine.restore) {
        return;
    }
    // Whoever launches it next finds what could not be written down: a state that was used is never gone on from.
    let _spent = if went_on { memory::forget(cube).map(drop) } else { memory::put_back(cube) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_whole_or_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let copied = |bytes: &[u8], most| {
            std::fs::write(folder.path().join("from"), bytes).expect("written");
            let to = folder.path().join("to");
            let mut from = File::open(folder.path().join("from")).expect("opened");
            let whole = copy(&mut from, File::create(&to).expect("made"), most);
            (whole.ok(), std::fs::read(to).expect("read"))
        };
        let long = vec![7; 600_000];
        for state in [&b"state"[..], b"", &long] {
            let whole = [state, WHOLE].concat();
            assert_eq!(copied(&whole, 1 << 20), (Some(true), state.to_vec()));
            assert_eq!(copied(&whole[..whole.len() - 1], 1 << 20).0, Some(false), "cut off");
        }
        assert_eq!(copied(&long, 1000).0, None, "too much");
    }
}
