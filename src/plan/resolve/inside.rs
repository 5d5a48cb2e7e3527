//! What runs inside: the entry, its streams and its variables.

use std::path::Path;

use super::{Typed, What};
use crate::model::sanitize::printable;
use crate::model::{EnvVar, Failure};
use crate::plan::env::{self, BaseInput};
use crate::plan::facts::{Facts, StreamKind};
use crate::plan::launch::{EntryPlan, Origin, ProjectPlan, StdioPlan, UserPlan};
use crate::plan::pick::{Places, Record};
use crate::plan::{images, mounts};

pub(super) fn stdio(typed: &Typed, facts: &Facts) -> StdioPlan {
    let streams = &facts.stdio;
    let tty = typed.tty.unwrap_or(
        // A detached cube gets a terminal so that `attach` finds one.
        typed.detach || (streams.stdin == StreamKind::Tty && streams.stdout == StreamKind::Tty),
    );
    if tty {
        let (rows, cols) = streams.terminal.filter(|(rows, cols)| *rows > 0 && *cols > 0).unwrap_or((24, 80));
        return StdioPlan::Pty { rows, cols };
    }
    let direct = |kind| !typed.detach && kind == StreamKind::Direct;
    StdioPlan::Pipes {
        stdin_direct: direct(streams.stdin),
        stdout_direct: direct(streams.stdout),
        stderr_direct: direct(streams.stderr),
    }
}

pub(super) fn entry(
    typed: &Typed,
    facts: &Facts,
    places: &Places<'_>,
    project: Option<&ProjectPlan>,
    user: &UserPlan,
    record: &mut Record,
) -> Result<EntryPlan, Failure> {
    let said = places.pick(|s| s.entry.clone().filter(|argv| !argv.is_empty()));
    let of_image = match (&typed.what, &facts.image) {
        (What::Entry(arguments), Some(image)) => images::command(image, arguments),
        _ => None,
    };
    let (argv, shell, origin) = match (&typed.what, said) {
        (What::Entry(_), None) if of_image.is_some() => {
            let argv = of_image.unwrap_or_default();
            let shell = images::is_shell(&argv);
            (argv, shell, Origin::Image)
        }
        (What::Command(argv), _) if argv.is_empty() => {
            return Err(Failure::usage("`--` is followed by no command"));
        }
        (What::Command(argv), _) => (argv.clone(), false, Origin::Flag),
        (What::Shell, _) => (vec![shell_of(facts).to_owned()], true, Origin::Flag),
        (What::Entry(arguments), Some(said)) => {
            let argv = said.value.into_iter().chain(arguments.iter().cloned()).collect();
            (argv, false, said.origin)
        }
        (What::Entry(arguments), None) if arguments.is_empty() => {
            (vec![shell_of(facts).to_owned()], true, Origin::BuiltIn)
        }
        (What::Entry(arguments), None) => {
            let first: String = arguments.concat().chars().take(40).collect();
            return Err(Failure::usage(format!(
                "there is no entry that could take `{}`: neither the project nor the machine `{}` has one",
                printable(&first),
                facts.machine.name
            ))
            .hint("to start a command, write it after `--`: `tripmine PROJECT -- CMD ARG…`"));
        }
    };
    record.add("entry", &if shell { "shell" } else { "command" }, origin);
    let cwd = match (&typed.workdir, project) {
        (Some(text), _) => mounts::workdir(text)?,
        (None, Some(project)) => project.target.clone(),
        (None, None) => match facts.image.as_ref().and_then(|image| image.working_dir.as_deref()) {
            Some(text) if text != "/" => images::working_dir(text)?,
            _ => user.home.clone(),
        },
    };
    Ok(EntryPlan { argv, cwd, shell })
}

pub(super) fn environment(
    typed: &Typed,
    facts: &Facts,
    places: &Places<'_>,
    (user, tmp): (&UserPlan, Option<&Path>),
    stdio: &StdioPlan,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> Result<Vec<EnvVar>, Failure> {
    let caller = &facts.caller.env;
    let mut base = env::base(&BaseInput {
        id: &facts.id,
        user: &user.name,
        home: &user.home,
        run_as: user.run_as,
        shell: shell_of(facts),
        terminal: matches!(stdio, StdioPlan::Pty { .. }),
        caller,
    });
    base.extend(tmp.and_then(|tmp| EnvVar::new("TMPDIR", tmp.to_str()?).ok()));
    let of_image = facts.image.as_ref().map(|image| (Origin::Image, images::variables(image)));
    let mut named: Vec<(Origin, Vec<EnvVar>)> = of_image
        .into_iter()
        .chain(places.weakest_first().map(|(origin, settings)| (origin, settings.env.clone())))
        .collect();
    let mut from_flags = Vec::new();
    for file in &facts.env_files {
        from_flags.extend(env::parse_file(file)?);
    }
    from_flags.extend(typed.env.iter().cloned());
    let mut resolved = Vec::new();
    for choice in &from_flags {
        match choice.resolve(caller) {
            Some(variable) => resolved.push(variable),
            None => warnings
                .push(format!("`{}` is not set here, so it is not set in the cube either", choice.key())),
        }
    }
    named.push((Origin::Flag, resolved));
    let merged = env::merge(std::iter::once(base).chain(named.iter().map(|(_, list)| list.clone())));
    for variable in &merged {
        let origin = named.iter().rev().find(|(_, list)| list.iter().any(|v| v.key == variable.key));
        if let Some((origin, _)) = origin {
            record.add(&format!("env {}", variable.key), &"set", *origin);
        }
    }
    Ok(merged)
}

/// The shell inside.
pub(super) fn shell_of(facts: &Facts) -> &str {
    facts.image.as_ref().map_or(&facts.shell, |image| &image.shell)
}
