//! Picks the personality before any thread exists: face, keeper, a guest's first process, the helpers that read uppers and
//! archives, or the probe of `verify-jail`. Nothing else.

use std::ffi::OsString;
use std::process::ExitCode;

use tripmine::keeper::serve::Expected;

/// The C library's allocator (musl's) asks the kernel for nearly every block of a short run; this one asks a few times,
/// which is a tenth of a launch. It is written in Rust and needs no compiler for C.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(feature = "tui")]
const MENU: Option<tripmine::engine::ShowMenu> = Some(tripmine::tui::main);
#[cfg(not(feature = "tui"))]
const MENU: Option<tripmine::engine::ShowMenu> = None;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    #[cfg(feature = "counterproof")]
    tripmine::jail::taken_out::read(&argv);
    if tripmine::microvm::agent::is_wanted(&argv) {
        tripmine::microvm::agent::main();
    }
    let code = match argv.get(1).and_then(|word| word.to_str()) {
        Some("__keeper") => u8::try_from(tripmine::keeper::serve::main(Expected::OwnRoot)).unwrap_or(125),
        Some(tripmine::upper::helper::VERB) => tripmine::upper::helper::main(),
        Some(tripmine::plan::battery::PROBE_VERB) => tripmine::cli::probe_jail(&argv[2..]),
        Some(tripmine::image::helper::HELPER_VERB) => tripmine::image::helper::main(argv.get(2)),
        _ => {
            // Asked now: a keeper has no environment.
            let expected = tripmine::cli::run::expected(&argv, std::env::var_os("TRIPMINE_JAIL").as_deref());
            // A keeper takes a moment to come up: it does so while the command line is read.
            match tripmine::cli::run::may_launch(&argv).then(tripmine::engine::launch::fork_keeper) {
                Some(Ok(None)) => u8::try_from(tripmine::keeper::serve::main(expected)).unwrap_or(125),
                waiting => tripmine::cli::run::main(argv, waiting.and_then(Result::ok).flatten(), MENU),
            }
        }
    };
    ExitCode::from(code)
}
