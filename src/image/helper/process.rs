//! Running the helper and being it: the request is an argument, the answer a line on a socket that is its standard error.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::{HELPER_VERB, Reply, Sink, Work, answer, carry_out, mapped};
use crate::host::userns;
use crate::model::Failure;
use crate::model::sanitize::printable;
use crate::plan::launch::IdMap;

use super::super::pack::IdRule;
use super::super::store::Ownership;

/// What the helper says when it waits for its maps, and what it is told then.
const READY: &str = "ready\n";
const GO: &str = "go\n";
/// No answer is longer.
const ANSWER_MAX: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    parent: i32,
    mapped: bool,
    work: Work,
}

fn failed(what: &str, error: impl Into<std::io::Error>) -> Failure {
    Failure::failed(what).because(&error.into())
}

/// Runs the helper to its end. What it packs goes to `sink`.
pub(super) fn run(
    ownership: &Ownership,
    work: Work,
    folder: Option<BorrowedFd<'_>>,
    sink: Sink<'_>,
) -> Result<Reply, Failure> {
    let packs = folder.is_some();
    // Hashing touches no file, and a folder of other ids is read as it is seen from here.
    let outside = matches!(&work, Work::Hash { .. })
        || matches!(&work, Work::Pack { options } if matches!(options.ids, IdRule::One { .. }));
    let mapped = mapped(ownership) && !outside;
    let job = Job { parent: getpid().as_raw_nonzero().get(), mapped, work };
    let request = serde_json::to_string(&job).map_err(|error| {
        Failure::failed("the folder of tripmine's data has a name that is no UTF-8").because(&error)
    })?;
    let (ours, theirs) = UnixStream::pair().map_err(|error| failed("cannot make a socket", error))?;
    let input = match folder {
        Some(folder) => Stdio::from(
            folder.try_clone_to_owned().map_err(|error| failed("cannot hand a folder over", error))?,
        ),
        None => Stdio::null(),
    };
    let mut child = Command::new("/proc/self/exe")
        .arg0("tripmine")
        .arg(HELPER_VERB)
        .arg(request)
        .env_clear()
        .current_dir("/")
        .stdin(input)
        .stdout(if packs { Stdio::piped() } else { Stdio::null() })
        .stderr(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(|error| failed("cannot start the helper that unpacks images", error))?;
    let pid = i32::try_from(child.id()).unwrap_or(0);
    let mut answers = BufReader::new(ours.take(ANSWER_MAX));
    let outcome = converse(
        mapped.then_some(ownership),
        pid,
        &mut answers,
        packs.then(|| child.stdout.take()).flatten(),
        sink,
    );
    if outcome.is_err() {
        // It may wait for us; that it is gone already is fine.
        drop(child.kill());
    }
    let ended = child.wait().map_err(|error| failed("cannot wait for the helper", error))?;
    let line = outcome?;
    serde_json::from_str(&line).map_err(|_| {
        let said: String = printable(line.trim()).chars().take(300).collect();
        let failure =
            Failure::failed(format!("the helper that unpacks images ended without an answer ({ended})"));
        if said.is_empty() { failure } else { failure.hint(format!("it said: {said}")) }
    })
}

fn converse(
    ownership: Option<&Ownership>,
    pid: i32,
    answers: &mut BufReader<std::io::Take<UnixStream>>,
    packed: Option<std::process::ChildStdout>,
    sink: Sink<'_>,
) -> Result<String, Failure> {
    let lost = |error| failed("lost the helper that unpacks images", error);
    let mut line = String::new();
    if let Some(Ownership::Mapped { uid_map, gid_map }) = ownership {
        answers.read_line(&mut line).map_err(lost)?;
        if line != READY {
            return Ok(line);
        }
        line.clear();
        userns::write_maps_by_helper(pid, &text(uid_map), &text(gid_map))
            .map_err(|error| failed("cannot map your subordinate ids", error))?;
        answers.get_mut().get_mut().write_all(GO.as_bytes()).map_err(lost)?;
    }
    if let Some(mut packed) = packed {
        widen(&packed);
        sink(&mut packed)?;
    }
    let mut last = String::new();
    // The answer is the last line: a panic may have spoken before.
    while answers.read_line(&mut line).map_err(lost)? > 0 {
        last = std::mem::take(&mut line);
    }
    Ok(last)
}

/// Lets more be on its way through a pipe: fewer turns between who packs and who writes.
pub fn widen(pipe: impl AsFd) {
    /// What an ordinary user may have (`fs.pipe-max-size`).
    const MOST: usize = 1 << 20;
    // Slower without, and otherwise the same.
    let _slower = rustix::pipe::fcntl_setpipe_size(pipe, MOST);
}

fn text(map: &[IdMap]) -> String {
    let lines: Vec<String> = map.iter().map(|m| format!("{} {} {}", m.inside, m.outside, m.count)).collect();
    lines.join("\n")
}

/// Being the helper: the program's main function when its first word is [`HELPER_VERB`].
#[must_use]
pub fn main(request: Option<&std::ffi::OsString>) -> u8 {
    let job = request.and_then(|text| text.to_str()).and_then(|text| serde_json::from_str::<Job>(text).ok());
    let Some(job) = job else { return 2 };
    // It must not inherit what its parent had open: nothing is above 2 but by accident.
    crate::host::sys::close_from(3);
    let reply = answer(prepare(&job).and_then(|()| {
        let stdin = std::io::stdin();
        let folder = matches!(job.work, Work::Pack { .. }).then(|| stdin.as_fd());
        // Not through the standard library's own buffer, which looks for line ends.
        let stdout = std::io::stdout().as_fd().try_clone_to_owned();
        let mut stdout = File::from(stdout.map_err(|error| failed("cannot write", error))?);
        carry_out(&job.work, folder, &mut stdout)
    }));
    let code = u8::from(matches!(reply, Reply::Failed { .. }));
    let line = serde_json::to_string(&reply).unwrap_or_default();
    // The parent may be gone; then nobody wants an answer.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
    code
}

fn prepare(job: &Job) -> Result<(), Failure> {
    if job.mapped {
        userns::enter_new().map_err(|error| failed("cannot make a user namespace", error))?;
        let talk = |error| failed("lost the parent", error);
        let mut stderr = std::io::stderr().lock();
        stderr.write_all(READY.as_bytes()).map_err(talk)?;
        let mut word = [0; GO.len()];
        // Standard error is a socket: it can be read from as well.
        let socket = stderr.as_fd().try_clone_to_owned().map_err(talk)?;
        UnixStream::from(socket).read_exact(&mut word).map_err(talk)?;
    }
    // After the change of namespaces, which would forget it.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| failed("cannot follow the parent", error))?;
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if parent != job.parent {
        return Err(Failure::failed("the parent is gone"));
    }
    Ok(())
}
