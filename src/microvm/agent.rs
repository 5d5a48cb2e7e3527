//! PID 1 of a guest: the same program as everywhere, as `/init` of the first file system. Loads modules, opens the port to
//! the host, makes the root that it is told to, and starts what it is told to. It owns the guest and decides nothing.
//!
//! It must not end: the kernel would panic. So it never panics itself, writes nothing to a console that may be dead but with
//! its errors ignored, and powers the machine off when its loop ends.

mod boot;
mod deleted;
mod limits;
mod net;
mod ports;
mod root;
mod serve;
mod sessions;
mod stats;
#[cfg(test)]
pub(super) mod tests;
mod worker;

use std::ffi::OsString;

use rustix::system::RebootCommand;

use serve::{Agent, End};

/// On the kernel's command line: without it, some container's `/init` that happens to be tripmine is not taken for a guest's.
pub const KERNEL_WORD: &str = "tripmine_agent=1";

/// Whether this process is a guest's first: by its number, its name, and the kernel's command line.
#[must_use]
pub fn is_wanted(argv: &[OsString]) -> bool {
    if std::process::id() != 1 || argv.first().is_none_or(|name| name != "/init") {
        return false;
    }
    // Nothing is mounted yet; what the kernel does not know as its own parameter it hands to init.
    let in_words = argv.iter().any(|word| word == KERNEL_WORD);
    let (name, value) = KERNEL_WORD.split_once('=').unwrap_or_default();
    in_words || std::env::var(name).is_ok_and(|it| it == value)
}

/// Serves the host, then powers the machine off.
pub fn main() {
    let signals = crate::jail::init::signals();
    crate::jail::init::default_signals();
    let ended = match (boot::channel(), signals) {
        (Ok(channel), Ok(signals)) => match Agent::new(channel, signals, true) {
            Ok(mut agent) => match agent.run() {
                End::PowerOff => None,
                end => Some(format!("{end:?}")),
            },
            Err(error) => Some(error.to_string()),
        },
        (Err(error), _) => Some(error),
        (_, Err(failed)) => Some(failed.errno.to_string()),
    };
    if let Some(why) = ended {
        root::complain(&why);
    }
    rustix::fs::sync();
    // Without power management the other way: the machine is started so that a restart ends it.
    let _off = rustix::system::reboot(RebootCommand::PowerOff);
    let _again = rustix::system::reboot(RebootCommand::Restart);
    loop {
        std::thread::park();
    }
}
