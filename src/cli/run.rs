//! The command line from its words to its exit code.

use std::ffi::OsString;

use super::args::{self, Command, Stop};
use super::ctx::{Ctx, Out};
use super::launch;
use super::verb_args::Verb;
use crate::config::load::load_config;
use crate::engine::home;
use crate::engine::launch::Waiting;
use crate::model::Failure;
use crate::model::verbs::is_verb;
use crate::store::cubes;
use crate::store::layout::Layout;

/// Whether a command line may well be a launch, at one glance. A wrong guess costs a process that ends at once when nobody
/// has a plan for it; a missed one, the time it takes to start.
#[must_use]
pub fn may_launch(argv: &[OsString]) -> bool {
    let words: Vec<&str> =
        argv.iter().skip(1).map_while(|word| word.to_str()).take_while(|word| *word != "--").collect();
    let Some(first) = words.first() else { return argv.len() > 1 };
    let talks = |word: &&str| matches!(*word, "-h" | "--help" | "-V" | "--version" | "--dry-run");
    (*first == "run" || !is_verb(first)) && !words.iter().any(talks)
}

/// Runs the command line; the process's exit code.
#[must_use]
pub fn main(argv: Vec<OsString>, waiting: Option<Waiting>) -> u8 {
    let out = Out::real();
    let command = match args::parse(argv) {
        Ok(command) => command,
        Err(Stop::Show(text)) => {
            out.text_block(&text);
            return finish(&out, 0);
        }
        Err(Stop::Failure(failure)) => return fail(&out, &failure, failure.exit_code()),
    };
    // Of a launch that failed, 125 says that it was tripmine and not the entry.
    let launches = matches!(command, Command::Launch(_));
    let ctx = match ctx(out) {
        Ok(ctx) => ctx,
        Err((out, failure)) => return fail(&out, &failure, failure.exit_code()),
    };
    match carry_out(&command, &ctx, waiting) {
        Ok(code) => finish(&ctx.out, code),
        Err(failure) => {
            let code = match failure.exit_code() {
                1 if launches => launch::NOT_RUN,
                code => code,
            };
            fail(&ctx.out, &failure, code)
        }
    }
}

fn finish(out: &Out, code: u8) -> u8 {
    match out.finish() {
        Ok(()) => code,
        Err(failure) => fail(out, &failure, 1),
    }
}

fn fail(out: &Out, failure: &Failure, code: u8) -> u8 {
    out.failure(failure);
    code
}

fn ctx(out: Out) -> Result<Ctx, (Out, Failure)> {
    let uid = rustix::process::geteuid().as_raw();
    let look = || -> Result<_, Failure> {
        let layout = Layout::from_env(|key| std::env::var_os(key), uid)?.settle(uid);
        let config = load_config(&layout.config_file())?;
        Ok((layout, config))
    };
    let (layout, config) = match look() {
        Ok(found) => found,
        Err(failure) => return Err((out, failure)),
    };
    let mines = layout.mines_dir();
    let live = move || {
        cubes::list(&mines)
            .unwrap_or_default()
            .into_iter()
            .filter(|entry| entry.live)
            .filter_map(|entry| entry.record.ok())
            .collect()
    };
    let editor =
        ["VISUAL", "EDITOR"].into_iter().find_map(|key| std::env::var(key).ok()).filter(|e| !e.is_empty());
    Ok(Ctx { layout, config, out, home: home::caller().1, uid, editor, live: Box::new(live) })
}

fn carry_out(command: &Command, ctx: &Ctx, waiting: Option<Waiting>) -> Result<u8, Failure> {
    match command {
        Command::Launch(launch) => launch::run(launch, ctx, waiting),
        Command::Menu { .. } => {
            Err(Failure::new(crate::model::FailureKind::Unsupported, "the full-screen menu is not built yet")
                .hint("`tripmine ps` lists the cubes; `tripmine --help` the commands"))
        }
        Command::Verb(verb) => verb_run(verb, ctx),
    }
}

fn verb_run(verb: &Verb, _ctx: &Ctx) -> Result<u8, Failure> {
    Err(Failure::failed(format!("not wired: {verb:?}")))
}
