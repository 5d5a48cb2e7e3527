//! The command-line face: turns what a person typed into a request, and a reply into what they see.

pub mod apply;
pub mod args;
pub mod attach;
pub mod changes;
pub mod completions;
pub mod ctx;
pub mod cube_ref;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod exit_question;
pub mod forward;
pub mod image;
pub mod init;
pub mod inspect;
pub mod kill;
pub mod launch;
pub mod launch_args;
pub mod logs;
pub mod machine;
pub mod man;
pub mod net;
pub mod out;
pub mod pause;
pub mod plan_json;
pub mod ports;
pub mod project;
pub mod proxy;
pub mod prune;
pub mod ps;
pub mod rename;
pub mod resume;
pub mod rm;
pub mod run;
pub mod stats;
pub mod stop;
pub mod sweep;
pub mod theme;
pub mod typed;
pub mod undo;
pub mod verb_args;
pub mod verify_jail;
pub mod version;
pub mod vm;
pub mod wait;

/// The body of `tripmine __probe-jail KEY=VALUE…`: the inside of `verify-jail`.
#[must_use]
pub fn probe_jail(words: &[std::ffi::OsString]) -> u8 {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Ok(canaries) = crate::plan::battery::Canaries::parse(&words) else { return 2 };
    u8::from(crate::jail::probe::run(&canaries, &mut std::io::stdout().lock()).is_err())
}
