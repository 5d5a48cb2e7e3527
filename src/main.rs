//! Picks the personality before any thread exists: face, keeper, or the probe of `verify-jail`. Nothing else.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let code = match argv.get(1).and_then(|word| word.to_str()) {
        Some("__keeper") => u8::try_from(tripmine::keeper::serve::main()).unwrap_or(125),
        Some(tripmine::plan::battery::PROBE_VERB) => tripmine::cli::probe_jail(&argv[2..]),
        _ => tripmine::cli::run::main(argv),
    };
    ExitCode::from(code)
}
