//! The agent as a child process over a socket pair: no machine, no root, the same loop. For the tests of both sides.
#![expect(unsafe_code, reason = "signals must be blocked before the child has a thread")]

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::serve::{Agent, End};

/// Set in the child only.
const MARK: &str = "TRIPMINE_TEST_AGENT";

/// A child that is killed when the test ends.
pub(in crate::microvm) struct Kept(pub(in crate::microvm) Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Runs one test of this program again, as a process of its own that `mark` tells what it is.
pub(in crate::microvm) fn again(test: &str, mark: &str, stdin: OwnedFd) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(mark, "1").stdin(stdin);
    // SAFETY: only a system call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
            Ok(())
        });
    }
    command
}

/// An agent and the host's end of its channel.
pub(in crate::microvm) fn start() -> (OwnedFd, Kept) {
    let (ours, its) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a pair");
    let mut command = again("microvm::agent::tests::agent_process", MARK, its);
    let child = command.stdout(Stdio::null()).spawn().expect("a child");
    (ours, Kept(child))
}

#[test]
fn agent_process() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let channel = rustix::stdio::stdin().as_fd().try_clone_to_owned().expect("the channel");
    let signals = crate::jail::init::signals().expect("signals");
    crate::jail::init::default_signals();
    let end = Agent::new(channel, signals, false).expect("an agent").run();
    assert!(matches!(end, End::PowerOff | End::Alone), "{end:?}");
}
