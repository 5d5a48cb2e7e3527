//! `tripmine kill`: a signal to the entry of each cube; KILL ends the cube as a whole.

use std::str::FromStr;

use nix::sys::signal::Signal;

use super::ctx::Ctx;
use super::stop;
use super::verb_args::KillArgs;
use crate::engine::running;
use crate::model::Failure;
use crate::model::sanitize::printable;

/// The highest signal number of Linux.
const LAST: i32 = 64;

/// Carries the command out: prints the id of each cube.
///
/// # Errors
/// No such signal, or the cubes cannot be listed. What fails for one cube is told, and the exit code is 1.
pub fn run(args: &KillArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let signal = parse(&args.signal)?;
    let (found, mut failures) = stop::running(&args.cubes, args.all, ctx)?;
    if signal == libc::SIGKILL {
        return Ok(stop::end_all(&found, failures, Some(0), ctx));
    }
    for entry in &found {
        match running::signal(&ctx.layout.run, &entry.id, signal) {
            Ok(()) => ctx.out.line(entry.id.as_str()),
            Err(failure) => failures.push(failure),
        }
    }
    for failure in &failures {
        ctx.out.failure(failure);
    }
    Ok(failures.iter().map(Failure::exit_code).max().unwrap_or(0))
}

/// Reads `TERM`, `SIGTERM`, `term` or `15`.
fn parse(text: &str) -> Result<i32, Failure> {
    if let Ok(number) = text.parse::<i32>() {
        if (1..=LAST).contains(&number) {
            return Ok(number);
        }
    } else {
        let name = text.to_ascii_uppercase();
        let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
        if let Ok(signal) = Signal::from_str(&name) {
            return Ok(signal as i32);
        }
    }
    Err(Failure::usage(format!("there is no signal `{}`", printable(text)))
        .hint("write a name like `HUP`, or a number from 1 to 64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [("TERM", 15), ("SIGHUP", 1), ("usr1", 10), ("9", 9), ("64", 64)] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in ["0", "65", "-1", "", "SIG", "BOGUS\u{1b}"] {
            let failure = parse(text).expect_err(text);
            assert!(!failure.message.contains('\u{1b}'), "{failure}");
        }
    }
}
