//! Saving a machine: whoever asks for it hands the descriptor over that memory and devices are written to, and holds the
//! machine still by being there. It says whether the machine may go on; one that is gone without a word has saved it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::tell;
use crate::host::fdpass;
use crate::plan::vm::{FOLDER, WHOLE};

/// The answer when all of it is written.
const SAVED: &str = "saved";
/// The word that lets the machine go on.
const GO_ON: &[u8] = b"go on";
/// How long whoever has connected may take to say what it wants.
const ASKING: Duration = Duration::from_secs(2);
/// How long a machine may take until it is still and everything the entry wrote has been taken.
const STILL: Duration = Duration::from_secs(20);

fn path() -> String {
    format!("{FOLDER}/save.sock")
}

/// Where the machine is asked to be saved.
#[derive(Debug)]
pub(super) struct Desk {
    listener: UnixListener,
    /// Who is being served.
    pub(super) wish: Option<Wish>,
}

/// A machine that is to be saved.
#[derive(Debug)]
pub(super) struct Wish {
    asker: UnixStream,
    /// What memory and devices are written to.
    pub(super) file: OwnedFd,
    pub(super) step: Step,
    pub(super) deadline: Instant,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The guest writes its files out; the token of the answer.
    Syncing(u32),
    /// Both sides fall silent.
    Holding(u32),
    /// They are; what the entry wrote is being taken.
    Draining,
}

impl Desk {
    pub(super) fn open() -> io::Result<Self> {
        let listener = UnixListener::bind(path())?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, wish: None })
    }

    /// Takes a wish in. Whoever connects and hands nothing over is not listened to.
    pub(super) fn take(&mut self, token: impl FnOnce() -> u32) {
        let Ok((asker, _)) = self.listener.accept() else { return };
        let mut word = [0; 1];
        let file = asker
            .set_nonblocking(false)
            .and_then(|()| asker.set_read_timeout(Some(ASKING)))
            .and_then(|()| fdpass::receive(&asker, &mut word))
            .map(|(_, fds)| fds.into_iter().next());
        let Ok(Some(file)) = file else { return };
        if self.wish.is_some() {
            let _told = (&asker).write_all(b"it is being saved already");
            return;
        }
        let step = Step::Syncing(token());
        self.wish = Some(Wish { asker, file, step, deadline: Instant::now() + STILL });
    }
}

impl AsFd for Desk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Wish {
    /// It is not saved, and why; nobody may be left to hear it.
    pub(super) fn refuse(mut self, why: &str) {
        let _told = self.asker.write_all(format!("{why}\n").as_bytes());
    }

    /// It is saved. True when the machine may go on all the same: the saved one is not wanted.
    pub(super) fn saved(self) -> bool {
        let Self { mut asker, file, .. } = self;
        // Whoever reads the state waits for its end.
        drop(file);
        let told = asker.write_all(format!("{SAVED}\n").as_bytes());
        let mut word = Vec::new();
        let heard = asker.set_read_timeout(None).and_then(|()| asker.read_to_end(&mut word));
        told.is_ok() && heard.is_ok() && word == GO_ON
    }
}

/// The body of the process that asks.
pub(super) fn ask() -> ExitCode {
    match asked() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(why)) => {
            tell(&[why]);
            ExitCode::from(1)
        }
        Err(error) => {
            tell(&[format!("the virtual machine does not answer: {error}")]);
            ExitCode::from(1)
        }
    }
}

/// Why it was not saved, if it was not.
fn asked() -> io::Result<Option<String>> {
    let mut stream = UnixStream::connect(path())?;
    fdpass::send(&stream, b"S", &[io::stdout().as_fd()])?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    if answer.trim_end() != SAVED {
        let why = answer.trim_end();
        return Ok(Some(if why.is_empty() { "it ended just then".to_owned() } else { why.to_owned() }));
    }
    let mut stdout = io::stdout();
    stdout.write_all(WHOLE)?;
    stdout.flush()?;
    rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null")?)?;
    // Held still until whoever asked lets go; what it keeps of the state it has by then.
    let mut rest = [0; 64];
    while matches!(io::stdin().read(&mut rest), Ok(count) if count > 0) {}
    stream.write_all(GO_ON)?;
    Ok(None)
}
