//! A request as the command line that does the same.

use super::{Request, SnapshotFor, Until};
use crate::config::edit::Edit;
use crate::model::words::command;
use crate::plan::resolve::{ProjectRef, Typed, What};

impl Request {
    /// The words of the command line that does the same, without the program's name.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = match self {
            Self::Launch(_) => Vec::new(),
            Self::Unforward { .. } => vec!["forward".to_owned()],
            other => other.kind().split(' ').map(str::to_owned).collect(),
        };
        let mut add = |more: &[&str]| words.extend(more.iter().map(ToString::to_string));
        match self {
            Self::Launch(typed) => return launch_words(typed),
            Self::Resume { image, keep } => {
                if let Some(keep) = keep {
                    add(&["--keep", keep.as_str()]);
                }
                add(&[image]);
            }
            Self::Attach { cube, take_over } => {
                if *take_over {
                    add(&["--take-over"]);
                }
                add(&[cube.short()]);
            }
            Self::Exec { cube, argv } => {
                add(&[cube.short(), "--"]);
                words.extend(argv.iter().cloned());
            }
            Self::Stop(cube) | Self::Kill(cube) | Self::Pause(cube) => add(&[cube.short()]),
            Self::Remove(cube) => add(&["--yes", cube.short()]),
            Self::Rename { cube, name } => add(&[cube.short(), name.as_str()]),
            Self::MachineCreate { name, edits } | Self::MachineEdit { name, edits } => {
                add(&[name.as_str()]);
                words.extend(edits.iter().flat_map(edit_words));
            }
            Self::MachineRename { name, new } => add(&[name.as_str(), new.as_str()]),
            Self::MachineRemove(name) | Self::MachineResetHome(name) => add(&["--yes", name.as_str()]),
            Self::ProjectCreate { machine, name } => add(&["-m", machine.as_str(), name.as_str()]),
            Self::ProjectRemove { machine, name } => {
                add(&["-m", machine.as_str(), "--yes", name.as_str()]);
            }
            Self::Undo(what) => words.extend(what.iter().cloned()),
            Self::Snapshot { cube, name, machine } => {
                add(&["--yes", name, cube.short()]);
                match machine {
                    SnapshotFor::Nothing => {}
                    SnapshotFor::Continuation => add(&["--continuation"]),
                    SnapshotFor::Create { name, carry } => {
                        add(&["--create-machine", name.as_str()]);
                        for group in carry {
                            add(&["--carry", group]);
                        }
                    }
                    SnapshotFor::Update(machine) => add(&["--update-machine", machine.as_str()]),
                }
            }
            Self::Apply { cube, paths } => {
                add(&[cube.short()]);
                words.extend(paths.iter().cloned());
            }
            Self::Forward { cube, map } => {
                // A public address is meant only where it is said apart.
                let bind =
                    match map.host {
                        crate::model::HostEnd::Tcp {
                            bind: crate::model::BindAddr::Address(address), ..
                        } if map.is_public() => Some(address.to_string()),
                        _ => None,
                    };
                add(&["-d", "--port", &map.to_string()]);
                if let Some(bind) = bind {
                    add(&["--bind", &bind]);
                }
                add(&[cube.short()]);
            }
            Self::Unforward { cube, host } => add(&["--rm", host, cube.short()]),
            Self::NetAllow { cube, rule, until } => {
                let until = match until {
                    Until::Once => "--once",
                    Until::Cube => "--cube",
                    Until::Machine => "--machine",
                };
                add(&[cube.short(), "allow", &rule.to_string(), until]);
            }
            Self::ImagePull { remote, machine, plain_http } => {
                add(&["-m", machine.as_str()]);
                add(if *plain_http { &["--plain-http"] } else { &[] });
                add(&[remote]);
            }
            Self::ImagePush { image, remote, machine, plain_http } => {
                add(&["-m", machine.as_str()]);
                add(if *plain_http { &["--plain-http"] } else { &[] });
                add(&[image]);
                words.extend(remote.iter().cloned());
            }
            Self::ImageImport { path, name } => {
                add(&[path]);
                words.extend(name.iter().cloned());
            }
            Self::ImageExport { image, target } => add(&[image, target]),
            Self::ImageTag { image, name } => add(&[image, name]),
            Self::ImageRemove(image) => add(&["--yes", image]),
            Self::Prune => add(&["--yes"]),
        }
        words
    }

    /// The command line as a person would type it, harmless to show.
    #[must_use]
    pub fn command_line(&self) -> String {
        let words: Vec<String> = std::iter::once("tripmine".to_owned()).chain(self.words()).collect();
        command(&words)
    }
}

fn edit_words(edit: &Edit) -> Vec<String> {
    match edit {
        Edit::Set { key, value } => vec![format!("--{}", key.replace('_', "-")), value.clone()],
        Edit::Entry(argv) => vec!["--entry".into(), shell_words::join(argv)],
        Edit::List { key, values } => {
            let flag = if *key == "holes" { "--hole".to_owned() } else { format!("--{key}") };
            values.iter().flat_map(|value| [flag.clone(), value.clone()]).collect()
        }
        // One text more is the list with it; no face asks for that as an edit of its own.
        Edit::Add { key, value } => vec![format!("--{key}"), value.clone()],
        Edit::Ports(ports) => ports.iter().flat_map(|map| ["-p".to_owned(), map.to_string()]).collect(),
        Edit::Env(variable) => vec!["--env".into(), format!("{}={}", variable.key, variable.value)],
        Edit::Carry(group) => {
            let places: Vec<String> = group.patterns.iter().map(ToString::to_string).collect();
            vec!["--carry".into(), format!("{}={}", group.name, places.join(","))]
        }
        Edit::NoCarry => vec!["--no-carry".into()],
        Edit::Unset(key) => vec!["--unset".into(), key.clone()],
    }
}

fn launch_words(typed: &Typed) -> Vec<String> {
    let mut words = Vec::new();
    let settings = &typed.settings;
    let limits = &settings.limits;
    let mark = |text: String, required: bool| if required { format!("{text}!") } else { text };
    let values = [
        ("-m", typed.machine.as_ref().map(ToString::to_string)),
        ("-i", settings.image.as_ref().map(ToString::to_string)),
        ("--mount", typed.mount.as_ref().map(|path| path.to_string_lossy().into_owned())),
        ("--workdir", typed.workdir.clone()),
        ("--jail", settings.jail.map(|value| value.to_string())),
        ("--net", settings.net.map(|value| value.to_string())),
        ("--user", settings.user.map(|value| value.to_string())),
        ("--seccomp", settings.seccomp.map(|value| value.to_string())),
        ("--memory", limits.memory.map(|limit| mark(limit.value.to_string(), limit.required))),
        (
            "--cpus",
            limits
                .cpus_milli
                .map(|limit| mark((f64::from(limit.value) / 1000.0).to_string(), limit.required)),
        ),
        ("--pids", limits.pids.map(|limit| mark(limit.value.to_string(), limit.required))),
        ("--disk", limits.disk.map(|limit| mark(limit.value.to_string(), limit.required))),
        ("--timeout", limits.timeout.map(|time| format!("{}s", time.as_secs()))),
        ("--keep", typed.keep.as_ref().map(ToString::to_string)),
    ];
    for (flag, value) in values {
        words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    let reach = &settings.reach;
    if let Some(url) = &reach.proxy {
        words.extend(["--proxy".to_owned(), url.to_string()]);
    }
    let rules = reach.rules.iter().flatten().map(|rule| ("--allow", rule.to_string()));
    let ports = settings.ports.iter().map(|map| ("-p", map.to_string()));
    words.extend(rules.chain(ports).flat_map(|(flag, value)| [flag.to_owned(), value]));
    let flags = [
        ("--ephemeral", typed.ephemeral),
        ("--review", typed.review),
        ("-d", typed.detach),
        ("--yes-really", typed.yes_really),
        ("--shell", typed.what == What::Shell),
    ];
    words.extend(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| (*flag).to_owned()));
    match &typed.project {
        Some(ProjectRef::Root) => words.push(".".into()),
        Some(ProjectRef::Named(name)) => words.push(name.to_string()),
        None => {}
    }
    match &typed.what {
        What::Entry(arguments) => words.extend(arguments.iter().cloned()),
        What::Command(argv) => {
            words.push("--".into());
            words.extend(argv.iter().cloned());
        }
        What::Shell => {}
    }
    words
}
