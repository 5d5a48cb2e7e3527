//! From the options as typed to model values. Owns the naming of the flag in every parse error;
//! looks nothing up.

use std::fmt::Display;
use std::path::PathBuf;

use super::args::{Launch, Target};
use crate::model::forward::PortMapError;
use crate::model::net::{NetSettings, ProxyUrl, Rule};
use crate::model::sanitize::printable;
use crate::model::{Failure, ImageRef, Limits, Name, Settings, limits};
use crate::plan::env::EnvChoice;
use crate::plan::resolve::{ProjectRef, Typed};

/// Parses every option of a launch.
///
/// # Errors
/// The first option that cannot be understood, by its flag.
pub fn typed(launch: &Launch) -> Result<Typed, Failure> {
    let options = &launch.options;
    let (project, image) = match &launch.target {
        Target::Nothing => (None, options.image.as_deref()),
        Target::Project(word) => (Some(project(word)?), options.image.as_deref()),
        Target::Image(image) => (None, Some(image.as_str())),
    };
    let image_flag = if matches!(launch.target, Target::Image(_)) { "run" } else { "--image" };
    let settings = Settings {
        image: optional(image_flag, image, ImageRef::parse)?,
        jail: optional("--jail", options.jail.as_deref(), str::parse)?,
        net: optional("--net", options.net.as_deref(), str::parse)?,
        reach: reach(options)?,
        user: optional("--user", options.user.as_deref(), str::parse)?,
        seccomp: optional("--seccomp", options.seccomp.as_deref(), str::parse)?,
        limits: Limits {
            memory: optional("--memory", options.memory.as_deref(), limits::parse_size)?,
            cpus_milli: optional("--cpus", options.cpus.as_deref(), limits::parse_cpus)?,
            pids: optional("--pids", options.pids.as_deref(), limits::parse_pids)?,
            disk: optional("--disk", options.disk.as_deref(), limits::parse_size)?,
            timeout: optional("--timeout", options.timeout.as_deref(), limits::parse_timeout)?,
        },
        env: Vec::new(),
        entry: None,
        ports: options
            .publish
            .iter()
            .map(|text| text.parse().map_err(|error: PortMapError| wrong("-p", &error)))
            .collect::<Result<_, _>>()?,
    };
    Ok(Typed {
        machine: optional("--machine", options.machine.as_deref(), Name::parse)?,
        project,
        what: launch.what.clone(),
        settings,
        mount: path("--mount", options.mount.as_deref())?,
        env: options
            .env
            .iter()
            .map(|text| EnvChoice::parse(text).map_err(|error| wrong("-e", &error)))
            .collect::<Result<_, _>>()?,
        env_files: options
            .env_file
            .iter()
            .map(|file| path("--env-file", Some(file)))
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?,
        keep: optional("--keep", options.keep.as_deref(), Name::parse)?,
        ephemeral: options.ephemeral,
        review: options.review,
        detach: options.detach,
        tty: match (options.tty, options.no_tty) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        },
        workdir: options.workdir.clone(),
        yes_really: options.yes_really,
        runs_image: matches!(launch.target, Target::Image(_)),
    })
}

/// `--allow` and `--proxy`.
fn reach(options: &super::launch_args::LaunchArgs) -> Result<NetSettings, Failure> {
    let rules = options.allow.iter().map(|text| Rule::parse(text).map_err(|error| wrong("--allow", &error)));
    let rules: Vec<Rule> = rules.collect::<Result<_, _>>()?;
    Ok(NetSettings {
        rules: Some(rules).filter(|rules| !rules.is_empty()),
        proxy: optional("--proxy", options.proxy.as_deref(), ProxyUrl::parse)?,
        ..NetSettings::default()
    })
}

/// A project's word.
///
/// # Errors
/// When it can name no project.
pub fn project(word: &str) -> Result<ProjectRef, Failure> {
    if word == "." {
        return Ok(ProjectRef::Root);
    }
    Name::parse(word).map(ProjectRef::Named).map_err(|error| {
        let failure = Failure::usage(format!("this can be no project: {error}"));
        if word.contains('/') {
            failure.hint(format!("to work on a folder elsewhere: `tripmine --mount {}`", printable(word)))
        } else {
            failure
        }
    })
}

fn optional<T, E: Display>(
    flag: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    text.map(|text| parse(text).map_err(|error| wrong(flag, &error))).transpose()
}

fn path(flag: &str, text: Option<&str>) -> Result<Option<PathBuf>, Failure> {
    match text {
        Some("") => Err(wrong(flag, &"the path is empty")),
        Some(text) if text.contains('\0') => Err(wrong(flag, &"the path holds a NUL byte")),
        text => Ok(text.map(PathBuf::from)),
    }
}

fn wrong(flag: &str, error: &dyn Display) -> Failure {
    Failure::usage(format!("{flag}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::args::{Command, parse};
    use super::*;
    use crate::model::{ByteSize, FailureKind, JailChoice, Limit, NetPolicyKind, RunAs, SeccompProfile};

    fn launch(words: &[&str]) -> Launch {
        let argv = std::iter::once("tripmine").chain(words.iter().copied()).map(Into::into).collect();
        match parse(argv) {
            Ok(Command::Launch(launch)) => *launch,
            other => panic!("no launch: {other:?}"),
        }
    }

    #[test]
    fn every_option_arrives() {
        let typed = typed(&launch(&[
            "-m",
            "work",
            "-i",
            "dev@2",
            "--mount",
            "/srv",
            "--jail",
            "microvm",
            "--net",
            "open",
            "--allow",
            "a.example:1",
            "--allow",
            "b.example",
            "-e",
            "A=1",
            "-e",
            "B",
            "--env-file",
            "x.env",
            "-p",
            "80:80",
            "--memory",
            "64M!",
            "--cpus",
            "0.5",
            "--pids",
            "32",
            "--disk",
            "1G",
            "--timeout",
            "5s",
            "--user",
            "root",
            "--keep",
            "box",
            "--ephemeral",
            "--review",
            "-d",
            "--seccomp",
            "strict",
            "-T",
            "--workdir",
            "/x",
            "--yes-really",
            "site",
        ]))
        .expect("good");
        assert_eq!(typed.machine.as_ref().map(Name::as_str), Some("work"));
        assert_eq!(typed.project, project("site").ok());
        let settings = &typed.settings;
        assert_eq!(settings.image, ImageRef::parse("dev@2").ok());
        assert_eq!(
            (settings.jail, settings.net, settings.user, settings.seccomp),
            (
                Some(JailChoice::Microvm),
                Some(NetPolicyKind::Open),
                Some(RunAs::Root),
                Some(SeccompProfile::Strict)
            )
        );
        assert_eq!(settings.limits.memory, Some(Limit { value: ByteSize::mib(64), required: true }));
        assert_eq!(settings.limits.cpus_milli.map(|l| l.value), Some(500));
        assert_eq!(settings.limits.pids.map(|l| l.value), Some(32));
        assert_eq!(settings.limits.disk.map(|l| l.value), Some(ByteSize::mib(1024)));
        assert_eq!(settings.limits.timeout.map(|t| t.as_secs()), Some(5));
        assert_eq!(typed.mount, Some("/srv".into()));
        assert_eq!(
            (settings.reach.rules.as_ref().map(Vec::len), typed.settings.ports.len(), typed.env.len()),
            (Some(2), 1, 2)
        );
        assert_eq!(typed.env_files, [PathBuf::from("x.env")]);
        assert_eq!(typed.keep.as_ref().map(Name::as_str), Some("box"));
        assert!(typed.ephemeral && typed.review && typed.detach && typed.yes_really);
        assert_eq!((typed.tty, typed.workdir.as_deref()), (Some(false), Some("/x")));
    }

    #[test]
    fn run_names_the_image() {
        let typed = typed(&launch(&["run", "dev", "--user", "root"])).expect("good");
        assert_eq!(typed.settings.image, ImageRef::parse("dev").ok());
        assert_eq!((typed.project, typed.settings.user), (None, Some(RunAs::Root)));
    }

    #[test]
    fn errors_name_the_flag() {
        for (words, part) in [
            (&["-m", "a/b", "x"][..], "--machine: the name `a/b` holds a `/`"),
            (&["-m", "run", "x"], "--machine: the name `run` is a command"),
            (&["-i", "../x", "x"], "--image: `../x` is not an image"),
            (&["run", ":x"], "run: `:x` is not an image"),
            (&["--memory", "12x", "x"], "--memory: `12x` is not a size"),
            (&["--memory", "-1", "x"], "--memory: `-1` is not a size"),
            (&["--cpus", "0", "x"], "--cpus: `0` is not"),
            (&["--pids", "1", "x"], "--pids: `1` is not"),
            (&["--disk", "", "x"], "--disk: `` is not a size"),
            (&["--timeout", "soon", "x"], "--timeout: `soon` is not a time"),
            (&["-e", "1A=x", "x"], "-e: `1A` is not"),
            (&["-p", "80:0", "x"], "-p: the cube's port cannot be 0"),
            (&["--keep", ".x", "x"], "--keep: the name `.x` must start"),
            (&["--mount", "", "x"], "--mount: the path is empty"),
            (&["--env-file", "", "x"], "--env-file: the path is empty"),
            (&["a b"], "this can be no project: the name `a b` holds a space"),
            (&["/etc"], "holds a `/`"),
            (&["../x"], "holds a `/`"),
        ] {
            let error = typed(&launch(words)).expect_err(part);
            assert_eq!(error.kind, FailureKind::Usage);
            assert!(error.message.contains(part), "{words:?}: {error}");
        }
        let error = project("../x").expect_err("no project");
        assert_eq!(error.hints, ["to work on a folder elsewhere: `tripmine --mount ../x`"]);
    }
}
