//! The program itself, as a file.

use crate::env::Env;

/// What leaves protections out is no part of an ordinary program: not even its variables' names.
#[test]
fn nothing_that_weakens_a_jail_is_in_the_program() {
    let env = Env::new();
    let program = std::fs::read(env.binary()).unwrap();
    let holds = |text: &str| memchr::memmem::find(&program, text.as_bytes()).is_some();
    // Texts are found at all.
    assert!(holds("TRIPMINE_SECCOMP"));
    for text in ["TRIPMINE_TAKE_OUT", "TRIPMINE_BLIND", "is no part of a jail"] {
        assert!(!holds(text), "{text}");
    }
    let mut command = env.command(["run", "host", "--", "/bin/sh", "-c", "grep -c . /proc/net/dev"]);
    command.env("TRIPMINE_TAKE_OUT", "netns,seccomp").env("TRIPMINE_BLIND", "netns,seccomp");
    let output = crate::env::finish(command.spawn().unwrap(), crate::env::PATIENCE);
    // Two lines of head, and loopback.
    assert_eq!(output.ok(0), "3");
}
