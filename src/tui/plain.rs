//! The menu line by line, for screen readers and dumb terminals: a numbered list, a number or a word to answer with,
//! one line for each change. No boxes, no colours, nothing drawn twice.

use std::io::{self, BufRead, Write};

use super::join::{attach_plain, start_plain};
use super::survey::{Seen, survey};
use super::world::World;
use crate::engine::request::Request;
use crate::engine::{Engine, Menu, environment};
use crate::keeper::state::now_ms;
use crate::model::verbs::is_verb;
use crate::model::words::age;
use crate::model::{Failure, Name, TripId};
use crate::plan::Typed;
use crate::plan::resolve::{ProjectRef, What};

enum Entry {
    Project(Name),
    Cube(TripId),
}

/// Asks and answers until the user leaves; the exit code.
///
/// # Errors
/// Standard output or input cannot be used.
pub(super) fn main(engine: &Engine, menu: &Menu) -> Result<u8, Failure> {
    let machine = super::setup::machine(engine, menu);
    if let Some(problem) = &menu.problem {
        say(&format!("error: {problem}"))?;
        say("nothing is launched until this is mended")?;
    }
    loop {
        let world = survey(engine, &machine, &mut Seen::default(), false);
        let entries = list(&world, &machine)?;
        match ask(
            "number, s NUMBER for a shell, x NUMBER to stop, n NAME for a new project, any command (as `machine list`), l to list again, q to leave: ",
        )? {
            None => return Ok(0),
            Some(answer) => match answered(engine, &machine, &entries, answer.trim()) {
                Ok(true) => return Ok(0),
                Ok(false) => {}
                Err(failure) => {
                    say(&format!("error: {failure}"))?;
                    for hint in &failure.hints {
                        say(&format!("hint: {hint}"))?;
                    }
                }
            },
        }
    }
}

fn cannot(error: &io::Error) -> Failure {
    Failure::failed("cannot use the terminal").because(error)
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", super::text::clean(text)).and_then(|()| out.flush()).map_err(|error| cannot(&error))
}

fn ask(question: &str) -> Result<Option<String>, Failure> {
    let mut out = io::stdout().lock();
    write!(out, "{question}").and_then(|()| out.flush()).map_err(|error| cannot(&error))?;
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(line)),
        Err(error) => Err(cannot(&error)),
    }
}

fn list(world: &World, machine: &Name) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    say(&format!("machine {machine}, projects in {}", world.root))?;
    for problem in &world.problems {
        say(&format!("warning: {problem}"))?;
    }
    for project in &world.projects {
        entries.push(Entry::Project(project.name.clone()));
        say(&format!("{} launch project {}", entries.len(), project.name))?;
    }
    for cube in world.cubes.iter().filter(|cube| cube.runs() || cube.kept()) {
        entries.push(Entry::Cube(cube.id.clone()));
        let since = cube.good().map_or(0, |record| record.created_unix_ms);
        let time = age(now_ms().saturating_sub(since));
        let number = entries.len();
        say(&format!(
            "{number} attach cube {} {}, {} since {time}",
            cube.id.short(),
            cube.title(),
            cube.state().word()
        ))?;
    }
    if entries.is_empty() {
        say("nothing here yet: n NAME makes a project")?;
    }
    Ok(entries)
}

/// Runs a command line of ours on this terminal: what the screen can do, every command can.
fn command(line: &str) -> Result<(), Failure> {
    let words = shell_words::split(line).map_err(|error| Failure::usage(error.to_string()))?;
    let status = std::process::Command::new(environment::own_program()?)
        .args(&words)
        .current_dir(std::env::current_dir().map_err(|error| cannot(&error))?)
        .status()
        .map_err(|error| Failure::failed("cannot run `tripmine`").because(&error))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => say(&format!("it ended with code {code}")),
        None => say("it was ended by a signal"),
    }
}

/// True when the user leaves.
fn answered(engine: &Engine, machine: &Name, entries: &[Entry], answer: &str) -> Result<bool, Failure> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    let entry = |text: &str| {
        let at = text.trim().parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        at.and_then(|at| entries.get(at)).ok_or_else(|| {
            Failure::usage(format!("`{}` is no number of the list", crate::model::sanitize::printable(text)))
        })
    };
    let launch = |project: &Name, what| {
        let project = Some(ProjectRef::Named(project.clone()));
        Typed { machine: Some(machine.clone()), project, what, tty: Some(true), ..Typed::default() }
    };
    match word {
        "" | "l" => {}
        "q" => return Ok(true),
        "n" => {
            let name = Name::parse(rest.trim()).map_err(|error| Failure::usage(error.to_string()))?;
            say(&engine.carry_out(&Request::ProjectCreate { machine: machine.clone(), name })?.message)?;
        }
        "s" => match entry(rest)? {
            Entry::Project(name) => say(&start_plain(engine, &launch(name, What::Shell))?)?,
            Entry::Cube(_) => {
                return Err(Failure::usage("a shell is for a project: the number alone attaches"));
            }
        },
        "x" => match entry(rest)? {
            Entry::Cube(id) => {
                let answer = ask(&format!("stop cube {}? y or n: ", id.short()))?.unwrap_or_default();
                if matches!(answer.trim(), "y" | "yes") {
                    say(&engine.carry_out(&Request::Stop(id.clone()))?.message)?;
                } else {
                    say("not stopped")?;
                }
            }
            Entry::Project(_) => return Err(Failure::usage("this is a project: only a cube can be stopped")),
        },
        verb if is_verb(verb) && verb != "tui" => return command(answer).map(|()| false),
        number => match entry(number)? {
            Entry::Project(name) => say(&start_plain(engine, &launch(name, What::default()))?)?,
            Entry::Cube(id) => say(&attach_plain(engine, id)?)?,
        },
    }
    Ok(false)
}
