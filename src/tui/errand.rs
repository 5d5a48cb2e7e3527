//! Requests that may take long, carried out as the command line that does the same: a process of its own can be broken off
//! in the middle, and what it leaves then is what any command leaves that is interrupted.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::model::Progress;
use super::text::clean;
use crate::engine::carry::Done;
use crate::engine::environment;
use crate::engine::request::Request;
use crate::model::Failure;

/// Between looks whether it was broken off.
const GLANCE: Duration = Duration::from_millis(50);
/// What it may say, in bytes.
const SAID_MAX: u64 = 64 << 10;

/// Breaks a request off when it is set.
pub(super) type Cancel = Arc<AtomicBool>;

/// Carries `request` out until it is done or broken off.
///
/// # Errors
/// What it said of its failure, or that it was broken off.
pub(super) fn run(
    request: &Request,
    cancel: &Cancel,
    tell: impl Fn(Progress) + Send + 'static,
) -> Result<Done, Failure> {
    let fail = |error: &std::io::Error| {
        Failure::failed(format!("cannot run `{}`", request.command_line())).because(error)
    };
    let here = std::env::current_dir().map_err(|error| fail(&error))?;
    let (reader, writer) = std::io::pipe().map_err(|error| fail(&error))?;
    let more = writer.try_clone().map_err(|error| fail(&error))?;
    let mut child = Command::new(environment::own_program()?)
        .args(request.words())
        .args(["--progress", "lines"])
        .current_dir(here)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(more)
        .spawn()
        .map_err(|error| fail(&error))?;
    // Ends when the process and all that hold its output have ended.
    let said = std::thread::spawn(move || listen(reader, &tell));
    let mut told = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| fail(&error))? {
            break status;
        }
        if cancel.load(Ordering::Relaxed) && !told {
            told = true;
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _asked = kill_process(pid, Signal::TERM);
            }
        }
        std::thread::park_timeout(GLANCE);
    };
    let bytes = said.join().unwrap_or_default();
    if told && !status.success() {
        return Err(Failure::failed(format!("`{}` was broken off", request.command_line())));
    }
    read(&String::from_utf8_lossy(&bytes), status.success())
}

/// Reads what a command says until its end: how it goes on is told at once, the rest is given back, the beginning of it.
fn listen(reader: impl Read, tell: &dyn Fn(Progress)) -> Vec<u8> {
    let (mut reader, mut said, mut line) = (BufReader::new(reader), Vec::new(), Vec::new());
    loop {
        line.clear();
        // A line that never ends would otherwise be held whole.
        match reader.by_ref().take(SAID_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return said,
            Ok(_) => {}
        }
        match progress(&line) {
            Some(progress) => tell(progress),
            None => {
                let room = usize::try_from(SAID_MAX).unwrap_or(0).saturating_sub(said.len());
                said.extend_from_slice(&line[..line.len().min(room)]);
            }
        }
    }
}

/// `progress DONE TOTAL`, as `--progress lines` says it.
fn progress(line: &[u8]) -> Option<Progress> {
    let mut words = std::str::from_utf8(line).ok()?.strip_prefix("progress ")?.split_whitespace();
    let done = words.next()?.parse().ok()?;
    let total = match words.next()? {
        "-" => None,
        total => Some(total.parse().ok()?),
    };
    words.next().is_none().then_some(Progress { done, total })
}

/// What it said, as the answer of a request.
fn read(said: &str, good: bool) -> Result<Done, Failure> {
    let lines = || said.lines().map(clean).filter(|line| !line.trim().is_empty());
    let with = |head: &str| lines().filter_map(|line| line.strip_prefix(head).map(str::to_owned)).collect();
    let (warnings, hints): (Vec<String>, Vec<String>) = (with("warning: "), with("hint: "));
    if good {
        let message = lines().rfind(|line| !line.starts_with("warning: ") && !line.starts_with("hint: "));
        return Ok(Done {
            message: message.unwrap_or_else(|| "done".into()),
            undo: false,
            warnings,
            copy: None,
        });
    }
    let errors: Vec<String> = with("error: ");
    let message = errors.into_iter().next().or_else(|| lines().next_back());
    let failure = Failure::failed(message.unwrap_or_else(|| "it failed without a word".into()));
    Err(hints.iter().fold(failure, |failure, hint| failure.hint(hint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_and_is_no_answer() {
        let told = std::cell::RefCell::new(Vec::new());
        let said = listen(
            &b"reading\nprogress 10 -\nprogress 5 20\nprogress x 20\nprogress 20 20\n`dev` is 0123\n"[..],
            &|progress| told.borrow_mut().push((progress.done, progress.percent())),
        );
        assert_eq!(told.into_inner(), [(10, None), (5, Some(25)), (20, Some(100))]);
        assert_eq!(said, b"reading\nprogress x 20\n`dev` is 0123\n");
        // Neither a line without end nor many of them are held.
        let endless = listen(std::io::repeat(b'x').take(1 << 20), &|_| {});
        assert!(endless.len() as u64 <= SAID_MAX);
        let more = Progress { done: 30, total: Some(20) };
        assert_eq!((more.percent(), more.text().as_str()), (Some(100), "100 %  20B of 20B"));
    }

    #[test]
    fn what_a_command_says_is_an_answer() {
        let done = read("reading\nwarning: old\n`dev` is 0123\n", true).expect("good");
        assert_eq!((done.message.as_str(), done.warnings), ("`dev` is 0123", vec!["old".to_owned()]));
        let failure = read("pulling\nerror: cannot pull\u{1b}[2J `x`: no host\nhint: try again\n", false)
            .expect_err("failed");
        assert!(
            failure.message.starts_with("cannot pull") && !failure.message.contains('\u{1b}'),
            "{failure}"
        );
        assert_eq!(failure.hints, ["try again"]);
        assert_eq!(read("", true).expect("good").message, "done");
        assert!(read("", false).is_err());
    }
}
