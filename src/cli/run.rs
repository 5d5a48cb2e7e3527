//! The command line from its words to its exit code.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};

use super::args::{self, Command, Stop};
use super::ctx::{Ctx, Out};
use super::doctor::DoctorArgs;
use super::ps::PsArgs;
use super::verb_args::{TuiArgs, Verb};
use super::{
    apply, attach, changes, completions, doctor, events, exec, forward, image, init, inspect, kill, launch,
    logs, machine, man, pause, ports, project, prune, ps, rename, resume, rm, stats, stop, theme, undo,
    verify_jail, version, vm, wait,
};
use super::{net, proxy};
use crate::config::Config;
use crate::config::load::load_config;
use crate::config::screen::ColorDepth;
use crate::engine::launch::Waiting;
use crate::engine::{Menu, ShowMenu};
use crate::host::caller;
use crate::keeper::serve::Expected;
use crate::model::verbs::is_verb;
use crate::model::{Failure, FailureKind, Name, VmAccel, VmSettings};
use crate::plan::diagnose::microvm;
use crate::store::layout::Layout;
use crate::store::{cubes, machines};
use crate::upper::discard;

/// Whether a command line may well be a launch, at one glance. A wrong guess costs a process that ends at once when nobody
/// has a plan for it; a missed one, the time it takes to start.
#[must_use]
pub fn may_launch(argv: &[OsString]) -> bool {
    let words: Vec<&str> =
        argv.iter().skip(1).map_while(|word| word.to_str()).take_while(|word| *word != "--").collect();
    let Some(first) = words.first() else { return argv.len() > 1 };
    let talks = |word: &&str| matches!(*word, "-h" | "--help" | "-V" | "--version" | "--dry-run");
    *first != completions::NAMES_VERB && (*first == "run" || !is_verb(first)) && !words.iter().any(talks)
}

/// Which kind of child a launch will want, at one glance at its words and at `TRIPMINE_JAIL`. A wrong guess costs time only:
/// the plan decides.
#[must_use]
pub fn expected(argv: &[OsString], variable: Option<&OsStr>) -> Expected {
    let words: Vec<&str> =
        argv.iter().skip(1).map_while(|word| word.to_str()).take_while(|word| *word != "--").collect();
    let typed =
        words.iter().zip(words.iter().skip(1)).find(|(flag, _)| **flag == "--jail").map(|(_, kind)| *kind);
    let joined = words.iter().find_map(|word| word.strip_prefix("--jail="));
    match typed.or(joined).or(variable.and_then(OsStr::to_str)) {
        Some("landlock") => Expected::InPlace,
        _ => Expected::OwnRoot,
    }
}

/// Runs the command line; the process's exit code.
#[must_use]
pub fn main(argv: Vec<OsString>, waiting: Option<Waiting>, menu: Option<ShowMenu>) -> u8 {
    let out = Out::real();
    discard::install();
    if let [_, verb, kind, ..] = argv.as_slice()
        && verb == completions::NAMES_VERB
    {
        // A shell that asks in the middle of a line is told no errors.
        if let Ok(places) = look() {
            completions::names(&kind.to_string_lossy(), &ctx(out, places));
        }
        return 0;
    }
    let command = match args::parse(argv) {
        Ok(command) => command,
        Err(Stop::Show(text)) => {
            out.text_block(&text);
            return finish(&out, 0);
        }
        Err(Stop::Failure(failure)) => return fail(&out, &failure, failure.exit_code()),
    };
    // Of a launch or an exec that failed, 125 says that it was tripmine and not the entry.
    let launches = match &command {
        Command::Launch(_) => true,
        Command::Verb(verb) => matches!(**verb, Verb::Exec(_) | Verb::Resume(_)),
        Command::Menu { .. } => false,
    };
    let code = |failure: &Failure| match failure.exit_code() {
        1 if launches => launch::NOT_RUN,
        code => code,
    };
    let (places, problem) = match look() {
        Ok(places) => (places, None),
        // The menu opens all the same, says what is wrong, and launches nothing until that is mended.
        Err(failure) if failure.kind == FailureKind::Config && shows_menu(&command) => match layout() {
            Ok(layout) => ((layout, Config::default()), Some(failure)),
            Err(failure) => return fail(&out, &failure, code(&failure)),
        },
        // What runs can be seen and ended, and this host asked, whatever stands in that file.
        Err(failure) if failure.kind == FailureKind::Config && starts_nothing(&command) => match layout() {
            Ok(layout) => {
                out.note(format!("warning: {failure} (what the file says is not used here)"));
                // A record that it would have kept longer stays.
                let config = Config { log_retention: FOR_EVER, ..Config::default() };
                ((layout, config), None)
            }
            Err(_) => return fail(&out, &failure, code(&failure)),
        },
        Err(failure) => return fail(&out, &failure, code(&failure)),
    };
    let ctx = ctx(out, places);
    match carry_out(&command, &ctx, waiting, menu, problem) {
        Ok(code) => finish(&ctx.out, code),
        Err(failure) => fail(&ctx.out, &failure, code(&failure)),
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

/// Ten thousand years.
const FOR_EVER: std::time::Duration = std::time::Duration::from_secs(10_000 * 365 * 86_400);

/// It looks at cubes or this host, ends cubes, or prints what depends on nothing.
fn starts_nothing(command: &Command) -> bool {
    let Command::Verb(verb) = command else { return false };
    matches!(
        **verb,
        Verb::Ps(_)
            | Verb::Stop(_)
            | Verb::Kill(_)
            | Verb::Wait(_)
            | Verb::Logs(_)
            | Verb::Events(_)
            | Verb::Inspect(_)
            | Verb::Stats(_)
            | Verb::Ports(_)
            | Verb::Doctor(_)
            | Verb::Completions(_)
            | Verb::Man(_)
            | Verb::Version(_)
    )
}

fn shows_menu(command: &Command) -> bool {
    match command {
        Command::Menu { .. } => true,
        Command::Verb(verb) => matches!(**verb, Verb::Tui(_)),
        Command::Launch(_) => false,
    }
}

/// Where things are on disk.
fn layout() -> Result<Layout, Failure> {
    let uid = rustix::process::geteuid().as_raw();
    Ok(Layout::from_env(|key| std::env::var_os(key), uid)?.settle(uid))
}

/// The same, and what `config.toml` says.
fn look() -> Result<(Layout, Config), Failure> {
    let layout = layout()?;
    let config = load_config(&layout.config_file())?;
    Ok((layout, config))
}

fn ctx(out: Out, (layout, config): (Layout, Config)) -> Ctx {
    let uid = rustix::process::geteuid().as_raw();
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
    // One that is no name is refused by what launches on it.
    let machine = std::env::var("TRIPMINE_MACHINE").ok().and_then(|name| Name::parse(&name).ok());
    let (user, home) = caller::caller();
    Ctx { layout, config, out, user, home, uid, machine, editor, live: Box::new(live) }
}

fn carry_out(
    command: &Command,
    ctx: &Ctx,
    waiting: Option<Waiting>,
    show: Option<ShowMenu>,
    problem: Option<Failure>,
) -> Result<u8, Failure> {
    match command {
        Command::Launch(launch) => launch::run(launch, ctx, waiting),
        Command::Menu { machine, plain } => {
            let args = TuiArgs { machine: machine.clone(), plain: *plain, color: None };
            menu(&args, show, ctx, problem)
        }
        Command::Verb(verb) => match &**verb {
            Verb::Tui(args) => tui(args, show, ctx, problem),
            verb => verb_run(verb, ctx),
        },
    }
}

/// The menu; without a terminal, the list of cubes.
fn menu(args: &TuiArgs, show: Option<ShowMenu>, ctx: &Ctx, problem: Option<Failure>) -> Result<u8, Failure> {
    let machine = args.machine.as_deref().map(super::ctx::name).transpose()?.or_else(|| ctx.machine.clone());
    if let Some(machine) = &machine {
        machines::load(&ctx.layout, machine)?;
    }
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if let Some(show) = show.filter(|_| terminal || args.plain) {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let color = args.color.as_deref().map(ColorDepth::parse).transpose();
        let color = color.map_err(Failure::usage)?.flatten();
        // The menu owns the terminal: nothing is said beside it.
        let engine = crate::engine::Engine { unpacking: None, ..ctx.engine() };
        return show(&engine, &Menu { machine, plain: args.plain || dumb, color, problem });
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    ctx.out.note(if terminal {
        "this build has no menu: this is `tripmine ps`"
    } else {
        "no terminal for the menu: this is `tripmine ps`"
    });
    ps::run(&PsArgs::default(), ctx)?;
    Ok(0)
}

/// The menu by its own name: without a terminal that is a mistake, and not the list of cubes.
fn tui(args: &TuiArgs, show: Option<ShowMenu>, ctx: &Ctx, problem: Option<Failure>) -> Result<u8, Failure> {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !terminal && !args.plain {
        return Err(Failure::usage("the menu needs a terminal").hint("`tripmine ps` lists the cubes"));
    }
    menu(args, show, ctx, problem)
}

fn verb_run(verb: &Verb, ctx: &Ctx) -> Result<u8, Failure> {
    let done = |()| 0;
    match verb {
        // The grammar turns it into a launch.
        Verb::Run(_) => Err(Failure::usage("`run` is a launch")),
        Verb::Tui(_) => Err(Failure::usage("`tui` is the menu")),
        Verb::Init(args) => init::run(args, ctx),
        Verb::Theme(args) => theme::run(args, ctx),
        Verb::Resume(args) => resume::run(args, ctx),
        Verb::Pause(args) => pause::run(args, ctx).map(done),
        Verb::Ps(args) => ps::run(args, ctx).map(done),
        Verb::Attach(args) => attach::run(args, ctx),
        Verb::Exec(args) => exec::run(args, ctx),
        Verb::Logs(args) => logs::run(args, ctx).map(done),
        Verb::Events(args) => events::run(args, ctx).map(done),
        Verb::Net(args) => net::run(args, ctx).map(done),
        Verb::Proxy(args) => proxy::run(args, ctx),
        Verb::Stop(args) => stop::run(args, ctx),
        Verb::Kill(args) => kill::run(args, ctx),
        Verb::Rm(args) => rm::run(args, ctx),
        Verb::Rename(args) => rename::run(args, ctx).map(done),
        Verb::Inspect(args) => inspect::run(args, ctx).map(done),
        Verb::Changes(args) => changes::run(args, ctx).map(done),
        Verb::Apply(args) => apply::run(args, ctx).map(done),
        Verb::Stats(args) => stats::run(args, ctx),
        Verb::Forward(args) => forward::run(args, ctx),
        Verb::Ports(args) => ports::run(args, ctx).map(done),
        Verb::Wait(args) => wait::run(args, ctx).map(done),
        Verb::Machine(args) => machine::run(args, ctx).map(done),
        Verb::Project(args) => project::run(args, ctx).map(done),
        Verb::Image(args) => image::run(args, ctx),
        Verb::Undo(args) => undo::run(args, ctx).map(done),
        Verb::Prune(args) => prune::run(args, ctx).map(done),
        Verb::Vm(args) => vm::run(args, ctx),
        Verb::Doctor(args) => doctor_run(args, ctx),
        Verb::VerifyJail(args) => verify_jail::run(args, ctx),
        Verb::Completions(args) => completions::run(args, &ctx.out).map(done),
        Verb::Man(args) => man::run(args, &ctx.out).map(done),
        Verb::Version(args) => version::run(args, &ctx.out).map(done),
    }
}

fn doctor_run(args: &DoctorArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let mut code = 1;
    let settings =
        [&VmSettings { accel: Some(VmAccel::Tcg), ..VmSettings::default() }, &ctx.config.defaults.vm];
    let findings = microvm(&crate::engine::vm::gather(&ctx.engine(), &settings, &ctx.user));
    ctx.out.rendered(|out| {
        code = doctor::run(args, &ctx.user, findings, out)?;
        Ok(())
    })?;
    Ok(code)
}
