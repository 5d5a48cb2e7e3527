//! The grammar of the command line: verbs first, then the launch. Owns what is a verb, a project,
//! an argument of the entry or a command; looks nothing up, so whether a project exists is not its
//! question.

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

use super::launch_args::LaunchArgs;
use super::ps::PsArgs;
use super::verb_args::{ExecArgs, RunArgs, Verb};
use crate::model::sanitize::printable_bytes;
use crate::model::verbs::{is_verb, not_built};
use crate::model::{Failure, FailureKind};
use crate::plan::resolve::What;

mod refusal;
pub use refusal::Stop;

const LONG_ABOUT: &str = "\
Run what you don't trust, and be sure that nothing of it is left.

A cube is one launch: this host's own system, read-only underneath and with a throwaway layer on
top; a home that belongs to the machine and stays; the one project you named; no network; none of
your files, keys or variables.";

const USAGE: &str = "tripmine [OPTIONS] PROJECT [ARG…]
       tripmine [OPTIONS] PROJECT -- CMD…
       tripmine [OPTIONS] --shell [PROJECT]
       tripmine COMMAND …
       tripmine [-m MACHINE]";

const AFTER_SHORT: &str = "\
Examples:
  tripmine site                 what the project `site` starts, else a shell
  tripmine site -- make test    one command in it
  tripmine run host -- true     no project at all
  tripmine                      the menu

`tripmine --help` says more; `tripmine help COMMAND` explains one command.";

const AFTER_LONG: &str = "\
Examples:
  tripmine site                             what the project `site` starts, else a shell
  tripmine site --port 80                   what follows PROJECT goes to the entry
  tripmine site -- make test                another command instead
  tripmine --shell site                     a shell, whatever the entry is
  tripmine .                                a shell that sees all projects
  tripmine -m work site                     on the machine `work`, with its own home
  tripmine --mount ~/src site               the folder ~/src/site, seen at /work
  tripmine --memory 1G --timeout 10m site   with limits
  tripmine -e EDITOR -e CI=1 site           your EDITOR, and a variable of its own
  tripmine --dry-run site                   everything that would be done
  tripmine -d site                          leave it running; `tripmine attach site` enters it
  tripmine --mount ~/Downloads -- ./setup   one command in that folder
  tripmine run host -- python3              no project at all

Options come before PROJECT. A flag wins over a variable, that over the project's .tconfig.yml, that
over the machine, that over config.toml, each setting on its own; `--dry-run` says which won.

Variables: TRIPMINE_MACHINE, _IMAGE, _JAIL, _NET, _USER, _SECCOMP, _MEMORY, _CPUS, _PIDS, _DISK,
_TIMEOUT, _VM_ACCEL, _VM_KERNEL and _VM_ENGINE are the options of these names; TRIPMINE_HOME puts
all that tripmine keeps under one folder; NO_COLOR is kept to.

Exit codes:
  the entry's own, or 128+n when signal n killed it
  127 the entry was not found; 126 it could not be executed; 125 tripmine could not run it
  2 the command line is wrong; 1 anything else failed";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The menu, perhaps on a machine.
    Menu {
        /// `-m`.
        machine: Option<String>,
        /// `--plain`.
        plain: bool,
    },
    /// A launch.
    Launch(Box<Launch>),
    /// Any other verb. Never [`Verb::Run`]: that is a launch.
    Verb(Box<Verb>),
}

/// A launch as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The options.
    pub options: LaunchArgs,
    /// What is launched.
    pub target: Target,
    /// What is started in it.
    pub what: What,
}

/// What is launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The machine alone, or what `--mount` names.
    Nothing,
    /// The word that stands where a project does; `.` is the projects root.
    Project(String),
    /// `tripmine run IMAGE`.
    Image(String),
}

#[derive(Debug, Parser)]
#[command(
    name = "tripmine",
    version,
    about = "Throwaway sandboxes: run what you don't trust",
    long_about = LONG_ABOUT,
    override_usage = USAGE,
    after_help = AFTER_SHORT,
    after_long_help = AFTER_LONG,
    args_conflicts_with_subcommands = true,
    subcommand_help_heading = "Commands",
    subcommand_value_name = "COMMAND",
    max_term_width = 100
)]
struct Grammar {
    #[command(flatten)]
    launch: LaunchArgs,
    /// The menu line by line, for screen readers and dumb terminals
    #[arg(long)]
    plain: bool,
    /// The project, then arguments for its entry
    #[arg(value_name = "PROJECT", trailing_var_arg = true)]
    words: Vec<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// The whole grammar, for completions and the manual page.
#[must_use]
pub fn command() -> clap::Command {
    Grammar::command()
}

/// Parses a whole command line, the program's name first.
///
/// # Errors
/// [`Stop::Show`] for help and version, [`Stop::Failure`] for anything wrong.
pub fn parse(argv: Vec<OsString>) -> Result<Command, Stop> {
    let mut words = utf8(argv)?;
    if let Some(verb) = reserved_verb(&words) {
        return Err(Failure::new(FailureKind::Unsupported, format!("`{verb}` is not built yet"))
            .hint("`tripmine --help` lists what is")
            .into());
    }
    // `--` ends the launch's own words; clap would swallow it and hide where it stood.
    let verb = words.get(1).map(String::as_str).filter(|word| is_verb(word));
    let command = match verb {
        None | Some("run" | "exec") => {
            words.iter().position(|word| word == "--").map(|at| words.split_off(at).split_off(1))
        }
        Some(_) => None,
    };
    let words = match quick(words) {
        Quick::Run(mut run) => {
            run.command = command;
            return Ok(Command::Launch(Box::new(run_launch(*run)?)));
        }
        Quick::Launch(options, words) => return launch(*options, words, command),
        Quick::Exec(mut exec) => {
            exec.command = join(exec.command, command)?;
            return Ok(Command::Verb(Box::new(Verb::Exec(exec))));
        }
        Quick::Ps(ps) => return Ok(Command::Verb(Box::new(Verb::Ps(ps)))),
        Quick::Neither(words) => words,
    };
    let verb = words.get(1).cloned().filter(|word| is_verb(word) && word != "help");
    let grammar = Grammar::try_parse_from(words).map_err(|error| refusal::stop(&error, verb.as_deref()))?;
    match grammar.verb {
        Some(Verb::Run(mut run)) => {
            run.command = command;
            Ok(Command::Launch(Box::new(run_launch(*run)?)))
        }
        Some(Verb::Exec(mut exec)) => {
            exec.command = join(exec.command, command)?;
            Ok(Command::Verb(Box::new(Verb::Exec(exec))))
        }
        Some(verb) => Ok(Command::Verb(Box::new(verb))),
        None if grammar.plain => match launch(grammar.launch, grammar.words, command)? {
            Command::Menu { machine, .. } => Ok(Command::Menu { machine, plain: true }),
            _ => Err(Failure::usage("`--plain` is for the menu: give no project with it").into()),
        },
        None => launch(grammar.launch, grammar.words, command),
    }
}

/// What must be instant, alone and without the other verbs: describing some thirty of them to the parser takes longer than
/// reading the line.
#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct LaunchForm {
    #[command(flatten)]
    launch: LaunchArgs,
    #[arg(trailing_var_arg = true)]
    words: Vec<String>,
}

#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct RunForm {
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct ExecForm {
    #[command(flatten)]
    exec: ExecArgs,
}

#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct PsForm {
    #[command(flatten)]
    ps: PsArgs,
}

enum Quick {
    Run(Box<RunArgs>),
    Launch(Box<LaunchArgs>, Vec<String>),
    Exec(ExecArgs),
    Ps(PsArgs),
    /// Another verb, help, or an error: the whole grammar has the words for it.
    Neither(Vec<String>),
}

fn quick(words: Vec<String>) -> Quick {
    match words.get(1).map(String::as_str) {
        Some("run") => match RunForm::try_parse_from(words.iter().skip(1)) {
            Ok(form) => Quick::Run(Box::new(form.run)),
            Err(_) => Quick::Neither(words),
        },
        Some("exec") => match ExecForm::try_parse_from(words.iter().skip(1)) {
            Ok(form) => Quick::Exec(form.exec),
            Err(_) => Quick::Neither(words),
        },
        Some("ps") => match PsForm::try_parse_from(words.iter().skip(1)) {
            Ok(form) => Quick::Ps(form.ps),
            Err(_) => Quick::Neither(words),
        },
        Some(first) if !is_verb(first) => match LaunchForm::try_parse_from(&words) {
            Ok(form) => Quick::Launch(Box::new(form.launch), form.words),
            Err(_) => Quick::Neither(words),
        },
        _ => Quick::Neither(words),
    }
}

/// Refuses what is not UTF-8: an argument is shown, logged and written to records as text.
fn utf8(argv: Vec<OsString>) -> Result<Vec<String>, Stop> {
    let mut words = Vec::with_capacity(argv.len().max(1));
    for (index, word) in argv.into_iter().enumerate() {
        match word.into_string() {
            Ok(word) => words.push(word),
            // The program's own name is not the user's doing.
            Err(_) if index == 0 => words.push("tripmine".to_owned()),
            Err(word) => {
                let shown: String = printable_bytes(word.as_encoded_bytes()).chars().take(80).collect();
                return Err(Failure::usage(format!("argument {index} is not UTF-8: `{shown}`"))
                    .hint("rename the file or folder, or hand the bytes over in a file")
                    .into());
            }
        }
    }
    if words.is_empty() {
        words.push("tripmine".to_owned());
    }
    Ok(words)
}

/// A verb whose capability is not built, asked for or asked about.
fn reserved_verb(words: &[String]) -> Option<&'static str> {
    let mut rest = words.iter().skip(1);
    let first = rest.next()?;
    let asked = if first == "help" { rest.next()? } else { first };
    not_built().find(|verb| verb == asked)
}

fn launch(options: LaunchArgs, words: Vec<String>, command: Option<Vec<String>>) -> Result<Command, Stop> {
    let mut words = words.into_iter();
    let project = words.next();
    let arguments: Vec<String> = words.collect();
    if let Some(word) = project.as_deref().filter(|word| is_verb(word)) {
        return Err(Failure::usage(format!("`{word}` is a command and comes first"))
            .hint(format!("`tripmine {word} …`; `tripmine help {word}` explains it"))
            .into());
    }
    if options.shell && (command.is_some() || !arguments.is_empty()) {
        return Err(Failure::usage("`--shell` starts a shell and takes neither arguments nor a command")
            .hint("to start a command, leave `--shell` out: `tripmine PROJECT -- CMD…`")
            .into());
    }
    let nothing = project.is_none() && command.is_none();
    if nothing && options.only_machine() {
        return Ok(Command::Menu { machine: options.machine, plain: false });
    }
    if nothing && !options.shell && options.mount.is_none() {
        return Err(Failure::usage("there is nothing to launch: name a PROJECT")
            .hint("`tripmine [OPTIONS] PROJECT`, or a shell without a project: `tripmine [OPTIONS] --shell`")
            .into());
    }
    let what = if options.shell {
        What::Shell
    } else if arguments.is_empty() {
        command.map_or_else(|| Ok(What::default()), |command| checked(command).map(What::Command))?
    } else {
        What::Entry(join(arguments, command)?)
    };
    let target = match project {
        None => Target::Nothing,
        // Completion of folder names leaves a slash behind.
        Some(word) if word.len() > 1 => Target::Project(word.strip_suffix('/').unwrap_or(&word).to_owned()),
        Some(word) => Target::Project(word),
    };
    Ok(Command::Launch(Box::new(Launch { options, target, what })))
}

fn run_launch(run: RunArgs) -> Result<Launch, Stop> {
    let RunArgs { options, named: image, command } = run;
    if let Some(bundle) = image.as_deref().filter(|image| image.ends_with(".tpm") || image.ends_with(".tbi"))
    {
        return Err(Failure::new(FailureKind::Unsupported, format!("bundles are not built yet: `{bundle}`"))
            .hint("an image is run by its name: `tripmine run host -- CMD…`")
            .into());
    }
    if let (Some(option), Some(image)) = (&options.image, &image) {
        return Err(Failure::usage(format!("two images: `--image {option}` and `{image}`"))
            .hint("`tripmine run IMAGE` names it already")
            .into());
    }
    if options.shell && command.is_some() {
        return Err(Failure::usage("`--shell` starts a shell and takes no command").into());
    }
    let what = match command {
        Some(command) => What::Command(checked(command)?),
        None if options.shell => What::Shell,
        None => What::default(),
    };
    let image = image.or_else(|| options.image.clone()).unwrap_or_else(|| "host".to_owned());
    Ok(Launch { options, target: Target::Image(image), what })
}

fn checked(command: Vec<String>) -> Result<Vec<String>, Stop> {
    if command.is_empty() {
        return Err(Failure::usage("`--` is followed by no command").into());
    }
    Ok(command)
}

/// Words before a `--` and those after it: the `--` belongs to the words when some stood before it.
fn join(before: Vec<String>, after: Option<Vec<String>>) -> Result<Vec<String>, Stop> {
    match after {
        None => Ok(before),
        Some(after) if before.is_empty() => checked(after),
        Some(after) => Ok(before.into_iter().chain(std::iter::once("--".to_owned())).chain(after).collect()),
    }
}

#[cfg(test)]
mod tests;
