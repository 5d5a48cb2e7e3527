//! `Request`: what changes something, whichever face asks for it. Each says the command line that does the same:
//! the screen shows it before and after, and a test holds the command line to it.

use crate::config::edit::Edit;
use crate::model::net::Rule;
use crate::model::words::command;
use crate::model::{Name, PortMap, TripId};
use crate::plan::resolve::{ProjectRef, Typed, What};

/// One act.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Launch, stay joined unless detached.
    Launch(Box<Typed>),
    /// Launch a cube again from a continuation, or let a paused one go on; stay joined.
    Resume {
        /// The continuation, or the cube.
        image: String,
        /// The name of a durable cube.
        keep: Option<Name>,
    },
    /// Join a running cube.
    Attach {
        /// Which.
        cube: TripId,
        /// Take typing over from whoever has it.
        take_over: bool,
    },
    /// Another process in a running cube.
    Exec {
        /// Which.
        cube: TripId,
        /// The command.
        argv: Vec<String>,
    },
    /// End a cube: TERM, then KILL after its grace.
    Stop(TripId),
    /// End a cube at once.
    Kill(TripId),
    /// Save a cube's memory and end it: it goes on from there.
    Pause(TripId),
    /// Delete a cube that has ended, with what it kept.
    Remove(TripId),
    /// Another name for a kept cube.
    Rename {
        /// Which.
        cube: TripId,
        /// The new name.
        name: Name,
    },
    /// Make a machine.
    MachineCreate {
        /// Its name.
        name: Name,
        /// What it saves.
        edits: Vec<Edit>,
    },
    /// Change a machine.
    MachineEdit {
        /// Its name.
        name: Name,
        /// What changes.
        edits: Vec<Edit>,
    },
    /// Another name for a machine and its home.
    MachineRename {
        /// Its name.
        name: Name,
        /// The new one.
        new: Name,
    },
    /// Delete a machine and its home, into the trash.
    MachineRemove(Name),
    /// Delete a machine's home, into the trash.
    MachineResetHome(Name),
    /// Make a project.
    ProjectCreate {
        /// On whose projects root.
        machine: Name,
        /// Its name.
        name: Name,
    },
    /// Delete a project, into the trash.
    ProjectRemove {
        /// On whose projects root.
        machine: Name,
        /// Its name.
        name: Name,
    },
    /// Bring back what was deleted last, or what is named.
    Undo(Option<String>),
    /// Make an image of what a cube changed in its system. Whoever asks has shown what goes in.
    Snapshot {
        /// Which cube.
        cube: TripId,
        /// The image's name.
        name: String,
        /// A machine that starts from it.
        machine: SnapshotFor,
    },
    /// Take over what a cube changed in its project, beneath these places; none: everything.
    Apply {
        /// Which cube.
        cube: TripId,
        /// Places in the project.
        paths: Vec<String>,
    },
    /// Lead a host port to one of a cube, until it is closed or the cube ends.
    Forward {
        /// Which cube.
        cube: TripId,
        /// From where to where.
        map: PortMap,
    },
    /// Close a forward.
    Unforward {
        /// Which cube.
        cube: TripId,
        /// The host's end, as it is listed.
        host: String,
    },
    /// Let a running cube reach something.
    NetAllow {
        /// Which cube.
        cube: TripId,
        /// What.
        rule: Rule,
        /// For how long.
        until: Until,
    },
    /// Fetch an image from a registry.
    ImagePull {
        /// As docker and podman write it.
        remote: String,
        /// Through whose proxy, if it has one.
        machine: Name,
        /// Without encryption; only from this host itself.
        plain_http: bool,
    },
    /// Send an image to a registry.
    ImagePush {
        /// Which.
        image: String,
        /// Where to, as docker and podman write it; none: its name.
        remote: Option<String>,
        /// Through whose proxy, if it has one.
        machine: Name,
        /// Without encryption; only to this host itself.
        plain_http: bool,
    },
    /// Make an image of a folder or an archive.
    ImageImport {
        /// What comes in.
        path: String,
        /// Its name; none: its own.
        name: Option<String>,
    },
    /// Hand an image out.
    ImageExport {
        /// Which.
        image: String,
        /// `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE`.
        target: String,
    },
    /// Another name for an image.
    ImageTag {
        /// Which.
        image: String,
        /// The name.
        name: String,
    },
    /// Delete an image, by name with its history.
    ImageRemove(String),
    /// Delete for good what is left over: the trash, old records, what no image needs.
    Prune,
}

/// What a snapshot is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotFor {
    /// New cubes, wherever it is named.
    Nothing,
    /// A new machine that starts from it, otherwise like the cube's own.
    Create {
        /// Its name.
        name: Name,
        /// The groups of the home's `carry` patterns that come along with the rest of the home.
        carry: Vec<String>,
    },
    /// This machine, which starts from it from now on.
    Update(Name),
    /// `resume`.
    Continuation,
}

/// How long a cube may reach what it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// For the next connection.
    Once,
    /// Until the cube ends.
    Cube,
    /// Every later cube of its machine, too.
    Machine,
}

impl Request {
    /// The kinds, for the test that walks them: the command's words that every face knows it by.
    pub const KINDS: &'static [&'static str] = &[
        "launch",
        "resume",
        "attach",
        "exec",
        "stop",
        "kill",
        "pause",
        "rm",
        "rename",
        "machine create",
        "machine edit",
        "machine rename",
        "machine rm",
        "machine reset-home",
        "project create",
        "project rm",
        "undo",
        "image snapshot",
        "apply",
        "forward",
        "forward rm",
        "net",
        "image pull",
        "image push",
        "image import",
        "image export",
        "image tag",
        "image rm",
        "prune",
    ];

    /// Which of [`Request::KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Launch(_) => "launch",
            Self::Resume { .. } => "resume",
            Self::Attach { .. } => "attach",
            Self::Exec { .. } => "exec",
            Self::Stop(_) => "stop",
            Self::Kill(_) => "kill",
            Self::Pause(_) => "pause",
            Self::Remove(_) => "rm",
            Self::Rename { .. } => "rename",
            Self::MachineCreate { .. } => "machine create",
            Self::MachineEdit { .. } => "machine edit",
            Self::MachineRename { .. } => "machine rename",
            Self::MachineRemove(_) => "machine rm",
            Self::MachineResetHome(_) => "machine reset-home",
            Self::ProjectCreate { .. } => "project create",
            Self::ProjectRemove { .. } => "project rm",
            Self::Undo(_) => "undo",
            Self::Snapshot { .. } => "image snapshot",
            Self::Apply { .. } => "apply",
            Self::Forward { .. } => "forward",
            Self::Unforward { .. } => "forward rm",
            Self::NetAllow { .. } => "net",
            Self::ImagePull { .. } => "image pull",
            Self::ImagePush { .. } => "image push",
            Self::ImageImport { .. } => "image import",
            Self::ImageExport { .. } => "image export",
            Self::ImageTag { .. } => "image tag",
            Self::ImageRemove(_) => "image rm",
            Self::Prune => "prune",
        }
    }

    /// It may take minutes: whoever asks can be offered to break it off.
    #[must_use]
    pub const fn may_take_long(&self) -> bool {
        matches!(
            self,
            Self::ImagePull { .. }
                | Self::ImagePush { .. }
                | Self::ImageImport { .. }
                | Self::ImageExport { .. }
        )
    }

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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{NetPolicyKind, Settings};

    /// One of each kind.
    pub(crate) fn samples() -> Vec<Request> {
        let name = |text: &str| Name::parse(text).expect("a name");
        let cube = || TripId::from_parts(1, [7; 16]);
        let typed = Typed {
            machine: Some(name("work")),
            project: Some(ProjectRef::Named(name("site"))),
            settings: Settings { net: Some(NetPolicyKind::None), ..Settings::default() },
            keep: Some(name("box")),
            detach: true,
            ..Typed::default()
        };
        let edits = vec![Edit::Set { key: "net", value: "none".into() }, Edit::Entry(vec!["make".into()])];
        vec![
            Request::Launch(Box::new(typed)),
            Request::Resume { image: "dev".into(), keep: Some(name("box")) },
            Request::Attach { cube: cube(), take_over: true },
            Request::Exec { cube: cube(), argv: vec!["ls".into(), "-l".into()] },
            Request::Stop(cube()),
            Request::Kill(cube()),
            Request::Pause(cube()),
            Request::Remove(cube()),
            Request::Rename { cube: cube(), name: name("lab") },
            Request::MachineCreate { name: name("lab"), edits: edits.clone() },
            Request::MachineEdit { name: name("lab"), edits },
            Request::MachineRename { name: name("lab"), new: name("lab2") },
            Request::MachineRemove(name("lab")),
            Request::MachineResetHome(name("lab")),
            Request::ProjectCreate { machine: name("default"), name: name("site") },
            Request::ProjectRemove { machine: name("default"), name: name("site") },
            Request::Undo(None),
            Request::Snapshot {
                cube: cube(),
                name: "dev".into(),
                machine: SnapshotFor::Create { name: name("lab"), carry: vec!["notes".into()] },
            },
            Request::Apply { cube: cube(), paths: vec!["src".into()] },
            Request::Forward { cube: cube(), map: "8080:80".parse().expect("a forward") },
            Request::Unforward { cube: cube(), host: "127.0.0.1:8080".into() },
            Request::NetAllow {
                cube: cube(),
                rule: Rule::parse("a.example:443").expect("a rule"),
                until: Until::Machine,
            },
            Request::ImagePull { remote: "debian:12".into(), machine: name("default"), plain_http: true },
            Request::ImagePush {
                image: "dev".into(),
                remote: Some("reg.example/dev:1".into()),
                machine: name("work"),
                plain_http: false,
            },
            Request::ImageImport { path: "/srv/root.tar".into(), name: Some("root".into()) },
            Request::ImageExport { image: "dev".into(), target: "oci:/srv/out".into() },
            Request::ImageTag { image: "dev".into(), name: "dev2".into() },
            Request::ImageRemove("dev".into()),
            Request::Prune,
        ]
    }

    #[test]
    fn every_kind_has_a_sample() {
        let kinds: Vec<&str> = samples().iter().map(Request::kind).collect();
        assert_eq!(kinds, Request::KINDS);
    }

    #[test]
    fn command_lines_read_as_typed() {
        let lines: Vec<String> = samples().iter().map(Request::command_line).collect();
        assert_eq!(lines[0], "tripmine -m work --net none --keep box -d site");
        assert_eq!(lines[9], "tripmine machine create lab --net none --entry make");
        assert_eq!(lines[15], "tripmine project rm -m default --yes site");
        let ends = [
            (1, "tripmine resume --keep box dev"),
            (17, "--create-machine lab --carry notes"),
            (19, "--port 8080:80 "),
            (20, "forward --rm 127.0.0.1:8080 "),
            (21, " allow a.example:443 --machine"),
            (23, "tripmine image push -m work dev reg.example/dev:1"),
            (27, "tripmine image rm --yes dev"),
        ];
        for (at, part) in ends {
            assert!(lines[at].contains(part), "{}", lines[at]);
        }
    }
}
