//! What the tests of the screen share: how one leaves, answers a question, and looks after what runs.

use crate::env::{Env, PATIENCE};
use crate::pty::Pty;

/// Ctrl-] and d.
pub(crate) const DETACH: &str = "\x1dd";

/// The end of a shell's prompt in the project `site`: what is typed before it is there may be lost, as in any terminal.
pub(crate) const PROMPT: &str = ":/projects/site";

/// The ids of the cubes that run.
pub(crate) fn running(env: &Env) -> Vec<String> {
    let list = env.tripmine(["ps", "--json"]);
    let value: serde_json::Value = serde_json::from_str(list.ok(0)).unwrap();
    let ids = value["cubes"].as_array().unwrap().iter();
    ids.map(|cube| cube["id"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn stop_all(env: &Env) {
    env.tripmine(["stop", "--all", "-t", "0"]);
}

/// Answers a question that ignores keys at first.
pub(crate) fn answer(screen: &mut Pty, key: &str) {
    // It ignores what comes before it can have been read, and says when it listens.
    screen.wait_shown("enter leaves it");
    screen.type_text(key);
    screen.wait_gone("sure?");
}

/// Leaves the lists.
pub(crate) fn leave(screen: &mut Pty) {
    screen.type_text("q");
    assert_eq!(screen.wait_exit(PATIENCE), 0);
}
