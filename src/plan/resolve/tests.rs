//! Tables for `resolve`.

use super::super::facts::{EnvFile, IdRange, MissingLayer, SubordinateIds};
use super::super::launch::{CgroupPlan, Enforcer, FileIdentity, MapWriter, Setting};
use super::super::samples::facts;
use super::*;
use crate::model::EnvVar;
use crate::model::net::{NetPolicy, NetSettings, Rule};
use crate::model::{ByteSize, Layer, Limit, NetPolicyKind};
use crate::plan::facts::StreamKind;
use crate::plan::launch::{EntryPlan, StdioPlan, UpperPlan};

type Change = fn(&mut Typed, &mut Facts);

fn apply(change: Change) -> (Typed, Facts) {
    let mut typed =
        Typed { project: Some(ProjectRef::Named(Name::parse("site").expect("good"))), ..Typed::default() };
    let mut facts = facts();
    change(&mut typed, &mut facts);
    (typed, facts)
}

fn planned(change: Change) -> LaunchPlan {
    let (typed, facts) = apply(change);
    resolve(&typed, &facts).expect("a plan")
}

fn refused(change: Change) -> Failure {
    let (typed, facts) = apply(change);
    resolve(&typed, &facts).expect_err("a refusal")
}

fn setting<'a>(plan: &'a LaunchPlan, key: &str) -> &'a Setting {
    plan.settings.iter().find(|setting| setting.key == key).expect("a setting")
}

fn value<'a>(plan: &'a LaunchPlan, key: &str) -> Option<&'a str> {
    plan.env.iter().find(|v| v.key == key).map(|v| v.value.as_str())
}

fn var(key: &str, value: &str) -> EnvVar {
    EnvVar::new(key, value).expect("good")
}

#[test]
fn the_defaults() {
    let plan = planned(|_, _| {});
    assert_eq!(plan.image, ImageRef::Host);
    assert_eq!(
        (plan.jail, plan.net, plan.seccomp, plan.user.run_as),
        (Jail::Container, NetPolicy::None, SeccompProfile::Default, RunAs::Me)
    );
    assert_eq!((plan.keep, plan.ephemeral, plan.name.as_ref()), (Keep::Throwaway, false, None));
    assert_eq!(plan.root.upper, UpperPlan::Tmpfs { size: ByteSize::bytes(8 << 30) });
    assert!(plan.root.system.iter().all(|tree| !tree.writable));
    assert_eq!((plan.user.uid, plan.user.map_writer), (1000, MapWriter::Own));
    assert_eq!(
        plan.entry,
        EntryPlan { argv: vec!["/bin/bash".into()], cwd: "/projects/site".into(), shell: true }
    );
    let places: Vec<_> = plan.mounts.iter().map(|m| (m.kind, m.target.as_str(), m.read_only)).collect();
    assert_eq!(
        places,
        [(MountKind::Home, "/home/ann", false), (MountKind::Project, "/projects/site", false)]
    );
    assert_eq!(plan.hostname, "site");
    assert_eq!(plan.stdio, StdioPlan::Pty { rows: 50, cols: 132 });
    assert_eq!(plan.limits.pids, Some((4096, Enforcer::Rlimit)));
    assert_eq!(plan.stop_grace.as_secs(), 10);
    assert_eq!(plan.landlock.rules.len(), 3);
    assert_eq!(plan.warnings, Vec::<String>::new());
    for layer in [Layer::UserNs, Layer::NetNs, Layer::Landlock, Layer::Seccomp, Layer::InitSealed] {
        assert!(plan.layers.contains(&layer), "{layer:?}");
    }
    assert!(!plan.layers.contains(&Layer::Cgroup));
    assert!(plan.settings.iter().all(|s| s.origin == Origin::BuiltIn), "{:?}", plan.settings);
    let keys: Vec<_> = plan.env.iter().map(|v| v.key.as_str()).collect();
    assert_eq!(keys, ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TRIPMINE", "USER"]);
}

#[test]
fn precedence_for_each_key() {
    fn all(facts: &mut Facts) -> [&mut Settings; 4] {
        [
            &mut facts.environment,
            facts.project_file.get_or_insert_default(),
            &mut facts.machine.settings,
            &mut facts.config,
        ]
    }
    let cases: [(Change, Origin, u32); 5] = [
        (
            |t, f| {
                t.settings.limits.pids = Some(Limit { value: 10, required: false });
                let next = 11..;
                for (s, n) in all(f).into_iter().zip(next) {
                    s.limits.pids = Some(Limit { value: n, required: false });
                }
            },
            Origin::Flag,
            10,
        ),
        (
            |_, f| {
                for (s, n) in all(f).into_iter().zip(11..) {
                    s.limits.pids = Some(Limit { value: n, required: false });
                }
            },
            Origin::Environment,
            11,
        ),
        (
            |_, f| {
                for (s, n) in all(f).into_iter().zip(11..).skip(1) {
                    s.limits.pids = Some(Limit { value: n, required: false });
                }
            },
            Origin::ProjectFile,
            12,
        ),
        (
            |_, f| {
                for (s, n) in all(f).into_iter().zip(11..).skip(2) {
                    s.limits.pids = Some(Limit { value: n, required: false });
                }
            },
            Origin::Machine,
            13,
        ),
        (
            |_, f| {
                for (s, n) in all(f).into_iter().zip(11..).skip(3) {
                    s.limits.pids = Some(Limit { value: n, required: false });
                }
            },
            Origin::Config,
            14,
        ),
    ];
    for (change, origin, value) in cases {
        let plan = planned(change);
        assert_eq!(plan.limits.pids.map(|(n, _)| n), Some(value), "{origin:?}");
        assert_eq!(setting(&plan, "pids").origin, origin);
    }
    // Keys are on their own: a place that says one leaves the others to weaker places.
    let plan = planned(|t, f| {
        t.settings.seccomp = Some(SeccompProfile::Strict);
        f.machine.settings.user = Some(RunAs::Root);
        f.config.limits.timeout = Some(std::time::Duration::from_secs(60));
    });
    let origins = ["seccomp", "user", "timeout", "net"].map(|key| setting(&plan, key).origin);
    assert_eq!(origins, [Origin::Flag, Origin::Machine, Origin::Config, Origin::BuiltIn]);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let cases: [(Change, &str); 2] = [
        (|t, _| t.settings.image = ImageRef::parse("dev").ok(), "image `dev` (from: flag) is not built yet"),
        (|_, f| f.machine.settings.image = ImageRef::parse("dev@2").ok(), "image `dev@2` (from: machine)"),
    ];
    for (change, part) in cases {
        let failure = refused(change);
        assert_eq!(failure.kind, FailureKind::Unsupported, "{part}");
        assert!(failure.message.contains(part) && failure.message.contains("not built yet"), "{failure}");
        assert!(!failure.hints.is_empty(), "{part}");
    }
}

#[test]
fn other_refusals() {
    let cases: [(Change, FailureKind, &str); 9] = [
        (
            |_, f| f.project.as_mut().expect("one").path = "/home/ann".into(),
            FailureKind::Denied,
            "whole home",
        ),
        (
            |t, f| {
                t.yes_really = true;
                f.project.as_mut().expect("one").path = "/home/ann/.config/tripmine/x".into();
            },
            FailureKind::Denied,
            "never shown to a cube",
        ),
        (|_, f| f.project.as_mut().expect("one").directory = false, FailureKind::Denied, "not a folder"),
        (
            |_, f| f.extra.push(extra(MountKind::Extra, "/home/ann/.ssh")),
            FailureKind::Denied,
            "holds credentials",
        ),
        (
            |t, _| t.settings.limits.memory = Some(Limit { value: ByteSize::mib(64), required: true }),
            FailureKind::Unsupported,
            "memory limit (flag) is required",
        ),
        (|t, _| t.workdir = Some("/proc/self/fd/3".into()), FailureKind::Usage, "below /proc"),
        (
            |t, _| t.what = What::Entry(vec!["build".into()]),
            FailureKind::Usage,
            "there is no entry that could take `build`",
        ),
        (|t, _| t.what = What::Command(vec![]), FailureKind::Usage, "followed by no command"),
        (|_, f| f.landlock_abi = 0, FailureKind::Unsupported, "no Landlock"),
    ];
    for (change, kind, part) in cases {
        let failure = refused(change);
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(part), "{failure}");
    }
    let failure = refused(|_, f| {
        f.missing = vec![MissingLayer { layer: Layer::UserNs, why: "w".into(), fix: "do this".into() }];
    });
    assert!(failure.message.contains("`userns`") && failure.hints[0] == "do this", "{failure:?}");
    let failure = refused(|t, _| t.what = What::Command(vec!["x".repeat(200_000)]));
    assert!(failure.message.contains("too long"), "{failure}");
    let failure = refused(|_, f| {
        f.env_files.push(EnvFile { name: "dev.env".into(), text: "A=1\n9=x".into() });
    });
    assert!(failure.message.starts_with("dev.env:2:"), "{failure}");
}

fn extra(kind: MountKind, source: &str) -> MountPlan {
    MountPlan {
        kind,
        source: source.into(),
        identity: FileIdentity { dev: 1, ino: 9 },
        directory: true,
        target: "/tool".into(),
        read_only: true,
        review: None,
    }
}

#[test]
fn tripmines_own_tools_may_be_mounted() {
    let plan = planned(|_, f| f.extra.push(extra(MountKind::Tool, "/home/ann/.local/share/tripmine/probe")));
    assert_eq!(plan.mounts.len(), 3);
}

#[test]
fn a_confirmed_danger_is_a_warning() {
    let plan = planned(|t, f| {
        t.yes_really = true;
        f.project.as_mut().expect("one").path = "/home/ann".into();
    });
    assert!(plan.warnings.iter().any(|w| w.contains("whole home")), "{:?}", plan.warnings);
}

#[test]
fn entries() {
    let cases: [(Change, &[&str], bool, Origin); 6] = [
        (
            |t, _| t.what = What::Command(vec!["make".into(), "-j".into()]),
            &["make", "-j"],
            false,
            Origin::Flag,
        ),
        (
            |t, f| {
                t.what = What::Shell;
                f.machine.settings.entry = Some(vec!["serve".into()]);
            },
            &["/bin/bash"],
            true,
            Origin::Flag,
        ),
        (
            |t, f| {
                t.what = What::Entry(vec!["--port".into(), "80".into()]);
                f.machine.settings.entry = Some(vec!["serve".into()]);
            },
            &["serve", "--port", "80"],
            false,
            Origin::Machine,
        ),
        (
            |_, f| {
                f.machine.settings.entry = Some(vec!["serve".into()]);
                f.project_file = Some(Settings { entry: Some(vec!["dev".into()]), ..Settings::default() });
            },
            &["dev"],
            false,
            Origin::ProjectFile,
        ),
        (|_, f| f.machine.settings.entry = Some(vec![]), &["/bin/bash"], true, Origin::BuiltIn),
        (|_, _| {}, &["/bin/bash"], true, Origin::BuiltIn),
    ];
    for (change, argv, shell, origin) in cases {
        let plan = planned(change);
        assert_eq!(
            (plan.entry.argv.as_slice(), plan.entry.shell),
            (argv.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice(), shell)
        );
        assert_eq!(setting(&plan, "entry").origin, origin);
    }
}

#[test]
fn working_directories() {
    let cases: [(Change, &str); 5] = [
        (|_, _| {}, "/projects/site"),
        (|_, f| f.project.as_mut().expect("one").name = ".".into(), "/projects"),
        (|t, _| t.mount = Some("/srv".into()), "/work"),
        (|_, f| f.project = None, "/home/ann"),
        (|t, _| t.workdir = Some("/usr/share/".into()), "/usr/share"),
    ];
    for (change, cwd) in cases {
        assert_eq!(planned(change).entry.cwd, cwd);
    }
    let alone = planned(|_, f| f.project = None);
    assert_eq!((alone.project, alone.hostname.as_str(), alone.mounts.len()), (None, "default", 1));
}

#[test]
fn uppers() {
    let disk = |plan: &LaunchPlan| match &plan.root.upper {
        UpperPlan::Disk { dir } => dir.ends_with("system-copy") && dir.starts_with("/home/ann/.local/state"),
        UpperPlan::Tmpfs { .. } | UpperPlan::Nothing => false,
    };
    let kept = planned(|t, _| t.keep = Name::parse("box").ok());
    assert!(disk(&kept) && kept.keep == Keep::Durable && kept.name.is_some());
    assert_eq!(kept.limits.disk, None);
    let old = planned(|_, f| f.kernel = (6, 5));
    assert!(disk(&old) && old.keep == Keep::Throwaway);
    assert!(old.warnings.iter().any(|w| w.contains("older than 6.6")), "{:?}", old.warnings);
    assert!(!disk(&planned(|_, f| f.kernel = (6, 6))));
    let small = planned(|t, _| {
        t.settings.limits.disk = Some(Limit { value: ByteSize::mib(10), required: true });
    });
    assert_eq!(small.root.upper, UpperPlan::Tmpfs { size: ByteSize::mib(10) });
    assert_eq!(small.limits.disk, Some((ByteSize::mib(10), Enforcer::TmpfsSize)));
    let watched = planned(|t, _| {
        t.keep = Name::parse("box").ok();
        t.settings.limits.disk = Some(Limit { value: ByteSize::mib(10), required: false });
    });
    assert_eq!(watched.limits.disk, Some((ByteSize::mib(10), Enforcer::Watch)));
}

#[test]
fn users() {
    let single = planned(|t, _| t.settings.user = Some(RunAs::Root));
    assert_eq!((single.user.map_writer, single.user.home.as_str()), (MapWriter::Own, "/root"));
    assert!(single.warnings.iter().any(|w| w.contains("chown")), "{:?}", single.warnings);
    assert_eq!(single.mounts[0].target, "/root");
    let full = planned(|t, f| {
        t.settings.user = Some(RunAs::Root);
        let range = IdRange { start: 100_000, count: 65_536 };
        f.subordinate = Some(SubordinateIds { uids: range, gids: range });
        f.id_helpers = true;
    });
    assert_eq!((full.user.map_writer, full.warnings.len()), (MapWriter::Helper, 0));
    assert!(full.root.system.iter().all(|tree| !tree.writable));
    let host_root = planned(|t, f| {
        t.settings.user = Some(RunAs::Root);
        f.caller.uid = 0;
        f.caller.gid = 0;
    });
    assert!(host_root.user.idmapped_mounts && host_root.root.system.iter().all(|tree| tree.writable));
    let host_me = planned(|_, f| f.caller.uid = 0);
    assert_eq!((host_me.user.uid, host_me.user.name.as_str()), (0, "root"));
    assert!(host_me.user.capabilities.is_empty());
    assert!(host_me.root.system.iter().all(|tree| !tree.writable));
}

#[test]
fn the_projects_own_file_never_widens() {
    let plan = planned(|_, f| {
        f.project_file = Some(Settings {
            user: Some(RunAs::Root),
            seccomp: Some(SeccompProfile::Debug),
            net: Some(NetPolicyKind::Open),
            ..Settings::default()
        });
    });
    let from_file = plan.warnings.iter().filter(|w| w.contains("project's own file")).count();
    assert_eq!(from_file, 3, "{:?}", plan.warnings);
    assert_eq!((plan.net, plan.user.run_as), (NetPolicy::None, RunAs::Me));
    assert_eq!(plan.seccomp, SeccompProfile::Default);
}

#[test]
fn the_net_is_complete_in_the_plan() {
    let plan = planned(|t, f| {
        t.settings.reach.rules = Rule::parse("b.example:443").ok().map(|rule| vec![rule]);
        f.machine.settings.net = Some(NetPolicyKind::Allow);
        f.machine.settings.reach.rules = Rule::parse("*.a.example").ok().map(|rule| vec![rule]);
        f.machine.settings.reach =
            NetSettings { setup: Some(NetPolicyKind::Open), ..f.machine.settings.reach.clone() };
    });
    let NetPolicy::Allow { rules } = &plan.net else { panic!("{:?}", plan.net) };
    assert_eq!(rules.iter().map(ToString::to_string).collect::<Vec<_>>(), ["*.a.example", "b.example:443"]);
    assert_eq!(plan.setup.as_ref().map(NetPolicy::kind), Some(NetPolicyKind::Open));
    assert_eq!(
        (setting(&plan, "net").origin, setting(&plan, "setup").origin),
        (Origin::Machine, Origin::Machine)
    );
    assert_eq!(refused(|_, f| f.machine.settings.net = Some(NetPolicyKind::Proxy)).kind, FailureKind::Config);
}

#[test]
fn variables_merge_by_name() {
    let plan = planned(|t, f| {
        f.config.env = vec![var("A", "config"), var("B", "config")];
        f.machine.settings.env = vec![var("A", "machine"), var("C", "machine")];
        f.project_file = Some(Settings { env: vec![var("C", "project")], ..Settings::default() });
        f.env_files.push(EnvFile { name: "x".into(), text: "D=file\nE=file\nEDITOR\n".into() });
        t.env = ["E=flag", "PATH=/opt", "API_TOKEN", "MISSING"]
            .iter()
            .map(|text| EnvChoice::parse(text).expect("good"))
            .collect();
    });
    for (key, want) in [
        ("A", Some("machine")),
        ("B", Some("config")),
        ("C", Some("project")),
        ("D", Some("file")),
        ("E", Some("flag")),
        ("EDITOR", Some("vi")),
        ("API_TOKEN", Some("hunter2")),
        ("PATH", Some("/opt")),
        ("MISSING", None),
    ] {
        assert_eq!(value(&plan, key), want, "{key}");
    }
    assert_eq!(setting(&plan, "env A").origin, Origin::Machine);
    assert_eq!(setting(&plan, "env E").origin, Origin::Flag);
    assert!(plan.warnings.iter().any(|w| w.contains("`MISSING` is not set here")), "{:?}", plan.warnings);
    assert_eq!(value(&planned(|_, _| {}), "API_TOKEN"), None);
}

#[test]
fn standard_streams() {
    let pty = |rows, cols| StdioPlan::Pty { rows, cols };
    let pipes = |stdin_direct, stdout_direct, stderr_direct| StdioPlan::Pipes {
        stdin_direct,
        stdout_direct,
        stderr_direct,
    };
    let cases: [(Change, StdioPlan); 8] = [
        (|t, _| t.tty = Some(false), pipes(false, false, false)),
        (|_, f| f.stdio.stdout = StreamKind::Direct, pipes(false, true, false)),
        (|_, f| f.stdio.stdin = StreamKind::Direct, pipes(true, false, false)),
        (
            |_, f| {
                f.stdio.stdin = StreamKind::Other;
                f.stdio.stderr = StreamKind::Direct;
            },
            pipes(false, false, true),
        ),
        (
            |t, f| {
                t.tty = Some(true);
                f.stdio.stdin = StreamKind::Direct;
                f.stdio.terminal = None;
            },
            pty(24, 80),
        ),
        (
            |t, f| {
                t.detach = true;
                f.stdio.stdout = StreamKind::Direct;
            },
            pty(50, 132),
        ),
        (
            |t, f| {
                t.detach = true;
                t.tty = Some(false);
                f.stdio.stdout = StreamKind::Direct;
            },
            pipes(false, false, false),
        ),
        (|_, f| f.stdio.terminal = Some((0, 0)), pty(24, 80)),
    ];
    for (change, want) in cases {
        assert_eq!(planned(change).stdio, want);
    }
}

#[test]
fn a_cgroup_becomes_a_layer() {
    let plan = planned(|t, f| {
        t.settings.limits.memory = Some(Limit { value: ByteSize::mib(64), required: true });
        f.cgroups = super::super::facts::CgroupFacts::V2 {
            base: "/sys/fs/cgroup/x".into(),
            controllers: vec!["memory".into(), "pids".into()],
        };
    });
    assert!(plan.layers.contains(&Layer::Cgroup));
    assert!(matches!(plan.limits.cgroup, Some(CgroupPlan::V2 { .. })));
    assert_eq!(plan.limits.pids.map(|(_, by)| by), Some(Enforcer::Cgroup));
}
