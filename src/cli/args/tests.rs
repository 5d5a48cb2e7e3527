//! Tables for the grammar.

use std::os::unix::ffi::OsStringExt;

use super::super::man::ManArgs;
use super::super::verb_args::{AttachArgs, ExecArgs, KillArgs, RmArgs, StatsArgs, StopArgs, WaitArgs};
use super::*;

fn argv(words: &[&str]) -> Vec<OsString> {
    std::iter::once("tripmine").chain(words.iter().copied()).map(OsString::from).collect()
}

fn launched(words: &[&str]) -> Launch {
    match parse(argv(words)) {
        Ok(Command::Launch(launch)) => *launch,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn verb(words: &[&str]) -> Verb {
    match parse(argv(words)) {
        Ok(Command::Verb(verb)) => *verb,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn refused(words: &[&str]) -> Failure {
    match parse(argv(words)) {
        Err(Stop::Failure(failure)) => failure,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn the_grammar_is_consistent() {
    command().debug_assert();
}

#[test]
fn every_built_verb_is_a_subcommand_and_the_other_way_round() {
    let mut built: Vec<_> = crate::model::verbs::VERBS.iter().filter(|v| v.built).map(|v| v.name).collect();
    let mut grammar = command();
    grammar.build();
    let mut known: Vec<_> = grammar.get_subcommands().map(clap::Command::get_name).collect();
    built.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, built);
}

#[test]
fn launches() {
    let project = |name: &str| Target::Project(name.to_owned());
    let entry = |words: &[&str]| What::Entry(owned(words));
    let run = |words: &[&str]| What::Command(owned(words));
    let image = |name: &str| Target::Image(name.to_owned());
    for (words, target, what) in [
        (&["site"][..], project("site"), entry(&[])),
        (&["site/"], project("site"), entry(&[])),
        (&["."], project("."), entry(&[])),
        (&["./"], project("."), entry(&[])),
        (
            &["site", "build", "-v", "--help", "-m", "x"],
            project("site"),
            entry(&["build", "-v", "--help", "-m", "x"]),
        ),
        (&["site", "--detach"], project("site"), entry(&["--detach"])),
        (&["site", "-m", "work"], project("site"), entry(&["-m", "work"])),
        (&["site", "ps"], project("site"), entry(&["ps"])),
        (&["site", "build", "--", "-x"], project("site"), entry(&["build", "--", "-x"])),
        (&["site", "build", "--"], project("site"), entry(&["build", "--"])),
        (&["site", "--", "make", "-j", "--", "x"], project("site"), run(&["make", "-j", "--", "x"])),
        (&["site", "--", "run"], project("site"), run(&["run"])),
        (&["-m", "work", "site"], project("site"), entry(&[])),
        (&["-m", "work", "--", "true"], Target::Nothing, run(&["true"])),
        (&["--", "run"], Target::Nothing, run(&["run"])),
        (&["--shell"], Target::Nothing, What::Shell),
        (&["--shell", "site"], project("site"), What::Shell),
        (&["--mount", "/srv"], Target::Nothing, entry(&[])),
        (&["--mount", "run", "x"], project("x"), entry(&[])),
        (&["verfiy-jail"], project("verfiy-jail"), entry(&[])),
        (&["run", "host", "--", "true"], image("host"), run(&["true"])),
        (&["run", "--", "true"], image("host"), run(&["true"])),
        (&["run"], image("host"), entry(&[])),
        (&["run", "-i", "dev"], image("dev"), entry(&[])),
        (&["run", "--shell", "host"], image("host"), What::Shell),
    ] {
        let launch = launched(words);
        assert_eq!((launch.target, launch.what), (target, what), "{words:?}");
    }
}

#[test]
fn options_of_run_stand_on_both_sides_of_the_image() {
    let launch = launched(&["run", "-m", "work", "host", "--pids", "32", "-T", "--", "sh", "-c", "x"]);
    assert_eq!(launch.options.machine.as_deref(), Some("work"));
    assert_eq!((launch.options.pids.as_deref(), launch.options.no_tty), (Some("32"), true));
    assert_eq!(launch.what, What::Command(owned(&["sh", "-c", "x"])));
}

#[test]
fn the_last_of_t_and_no_t_wins() {
    let launch = launched(&["-t", "-T", "x"]);
    assert_eq!((launch.options.tty, launch.options.no_tty), (false, true));
}

#[test]
fn the_menu() {
    for (words, machine) in [(&[][..], None), (&["-m", "work"], Some("work"))] {
        assert_eq!(
            parse(argv(words)),
            Ok(Command::Menu { machine: machine.map(str::to_owned), plain: false })
        );
    }
    assert_eq!(parse(Vec::new()), Ok(Command::Menu { machine: None, plain: false }));
}

#[test]
fn verbs_with_their_arguments() {
    let cube = || "site".to_owned();
    for (words, want) in [
        (
            &["attach", "site", "--read-only"][..],
            Verb::Attach(AttachArgs { cube: cube(), read_only: true, take_over: false }),
        ),
        (
            &["stop", "a", "b", "--time", "3"],
            Verb::Stop(StopArgs { cubes: owned(&["a", "b"]), all: false, time: Some(3) }),
        ),
        (&["stop", "--all"], Verb::Stop(StopArgs { all: true, ..StopArgs::default() })),
        (
            &["kill", "-s", "HUP", "a"],
            Verb::Kill(KillArgs { cubes: owned(&["a"]), all: false, signal: "HUP".to_owned() }),
        ),
        (
            &["rm", "a", "-y", "-f"],
            Verb::Rm(RmArgs { cubes: owned(&["a"]), all: false, yes: true, force: true }),
        ),
        (&["stats", "--json"], Verb::Stats(StatsArgs { json: true, ..StatsArgs::default() })),
        (&["wait", "a"], Verb::Wait(WaitArgs { cubes: owned(&["a"]) })),
        (&["man"], Verb::Man(ManArgs::default())),
    ] {
        assert_eq!(verb(words), want, "{words:?}");
    }
}

#[test]
fn the_other_verbs_with_their_arguments() {
    use super::super::{doctor, events, inspect, logs, machine, project, prune, ps, undo, verify_jail};
    let cube = || "site".to_owned();
    for (words, want) in [
        (&["ps", "-a", "--json"][..], Verb::Ps(ps::PsArgs { all: true, json: true })),
        (
            &["logs", "-f", "--tail", "3", "--stream", "err", "site"],
            Verb::Logs(logs::LogsArgs {
                cube: cube(),
                follow: true,
                tail: Some(3),
                stream: Some(crate::store::log::Stream::Err),
                ..logs::LogsArgs::default()
            }),
        ),
        (&["events", "site"], Verb::Events(events::EventsArgs { cube: cube(), follow: false, json: false })),
        (
            &["inspect", "a", "b"],
            Verb::Inspect(inspect::InspectArgs { cubes: vec!["a".to_owned(), "b".to_owned()], json: false }),
        ),
        (
            &["machine", "list"],
            Verb::Machine(machine::MachineArgs { verb: machine::MachineVerb::List { json: false } }),
        ),
        (
            &["project", "create", "site", "-m", "work"],
            Verb::Project(project::ProjectArgs {
                verb: project::ProjectVerb::Create { name: cube() },
                machine: Some("work".to_owned()),
            }),
        ),
        (&["undo", "--list"], Verb::Undo(undo::UndoArgs { list: true, ..undo::UndoArgs::default() })),
        (
            &["prune", "--older-than", "7d", "-y"],
            Verb::Prune(prune::PruneArgs {
                older_than: Some(std::time::Duration::from_secs(7 * 86_400)),
                yes: true,
                ..prune::PruneArgs::default()
            }),
        ),
        (&["doctor", "--json"], Verb::Doctor(doctor::DoctorArgs { json: true })),
        (
            &["verify-jail", "--user", "root"],
            Verb::VerifyJail(verify_jail::VerifyJailArgs {
                jail: "container".to_owned(),
                user: "root".to_owned(),
                seccomp: "default".to_owned(),
                json: false,
            }),
        ),
        (&["man", "--all", "x"], Verb::Man(ManArgs { all: Some("x".into()) })),
    ] {
        assert_eq!(verb(words), want, "{words:?}");
    }
    assert!(refused(&["verify-jail", "--user", "king"]).message.contains("one of me, root"));
    assert!(refused(&["logs", "--stream", "x", "site"]).message.contains("--stream"));
    assert!(refused(&["prune", "--older-than", "soon"]).message.contains("is not a time"));
}

#[test]
fn the_help_of_every_verb_has_an_example() {
    for verb in crate::model::verbs::VERBS.iter().filter(|verb| verb.built && verb.name != "help") {
        let Err(Stop::Show(text)) = parse(argv(&[verb.name, "--help"])) else { panic!("{}", verb.name) };
        assert!(text.contains("Example"), "{text}");
        assert!(text.contains(&format!("  tripmine {}", verb.name)) || verb.name == "wait", "{text}");
    }
}

#[test]
fn exec_takes_its_command_after_dashes_or_without() {
    let exec = |no_tty, command: &[&str]| {
        Verb::Exec(ExecArgs {
            no_tty,
            cube: "site".to_owned(),
            command: owned(command),
            ..ExecArgs::default()
        })
    };
    for (words, want) in [
        (&["exec", "site", "--", "ls", "-la"][..], exec(false, &["ls", "-la"])),
        (&["exec", "site", "-T", "--", "ls", "--", "x"], exec(true, &["ls", "--", "x"])),
        (&["exec", "-T", "site", "ls", "-T", "-la"], exec(true, &["ls", "-T", "-la"])),
        (&["exec", "site", "grep", "--", "-x"], exec(false, &["grep", "--", "-x"])),
        (&["exec", "site"], exec(false, &[])),
    ] {
        assert_eq!(verb(words), want, "{words:?}");
    }
}

#[test]
fn refusals() {
    for (words, part) in [
        (&["-m", "work", "ps"][..], "`ps` is a command and comes first"),
        (&["-d", "run", "host"], "`run` is a command and comes first"),
        (&["--shell", "site", "x"], "`--shell` starts a shell"),
        (&["--shell", "site", "--", "x"], "`--shell` starts a shell"),
        (&["run", "--shell", "--", "x"], "`--shell` starts a shell"),
        (&["site", "--"], "`--` is followed by no command"),
        (&["run", "host", "--"], "`--` is followed by no command"),
        (&["exec", "site", "--"], "`--` is followed by no command"),
        (&["--dry-run"], "nothing to launch"),
        (&["--net", "none"], "nothing to launch"),
        (&["run", "host", "true"], "there is no place for `true`"),
        (&["run", "-i", "a", "b"], "two images"),
        (&["--netz", "none", "x"], "there is no option `--netz`"),
        (&["-Q", "x"], "there is no option `-Q`"),
        (&["--jail", "vm", "x"], "does not take `vm`: one of landlock, container, microvm"),
        (&["--user", "bob", "x"], "one of me, root"),
        (&["--memory"], "needs a value"),
        (&["--memory", "1G", "--memory", "2G", "x"], "more than once"),
        (&["stop"], "is missing"),
        (&["stop", "--all", "x"], "cannot go with"),
        (&["stop", "--time", "x", "a"], "does not take `x`: invalid digit"),
        (&["attach"], "`CUBE` is missing"),
        (&["exec"], "is missing"),
        (&["rename", "a"], "`NAME` is missing"),
        (&["help", "nonsense"], "there is no command `nonsense`"),
        (&["completions", "cmd"], "one of bash"),
    ] {
        let failure = refused(words);
        assert_eq!(failure.kind, FailureKind::Usage, "{words:?}: {failure}");
        assert!(failure.message.contains(part), "{words:?}: {failure}");
    }
    assert!(refused(&["--memroy", "1G", "x"]).hints[0].contains("`--memory`"));
    // The likeliest first, and the help that explains it.
    let failure = refused(&["machine", "creat", "x"]);
    assert_eq!(failure.hints.first().map(String::as_str), Some("did you mean `create`?"));
    assert!(failure.hints.last().is_some_and(|hint| hint.contains("tripmine help machine")), "{failure:?}");
}

#[test]
fn reserved_verbs_say_that_they_are_not_built() {
    for verb in not_built() {
        for words in [&[verb, "x", "--whatever"][..], &["help", verb]] {
            let failure = refused(words);
            assert_eq!(failure.kind, FailureKind::Unsupported);
            assert_eq!(failure.message, format!("`{verb}` is not built yet"));
        }
    }
    assert!(refused(&["run", "x.tpm"]).message.contains("bundles are not built yet"));
}

#[test]
fn hostile_arguments() {
    let failure = match parse(vec!["tripmine".into(), OsString::from_vec(b"a\xff\x1b[2J".to_vec())]) {
        Err(Stop::Failure(failure)) => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!(failure.message, "argument 1 is not UTF-8: `a\\xff\\u{1b}[2J`");
    assert_eq!(
        parse(vec![OsString::from_vec(vec![0xff])]),
        Ok(Command::Menu { machine: None, plain: false })
    );
    let failure = refused(&["--\x1b]0;pwn\x07", "x"]);
    assert!(!failure.message.contains('\x1b'), "{failure:?}");
    let long = "x".repeat(100_000);
    let launch = launched(&["site", "--", "echo", &long, ""]);
    assert_eq!(launch.what, What::Command(owned(&["echo", &long, ""])));
    assert_eq!(launched(&[&long]).target, Target::Project(long));
}

#[test]
fn help_teaches() {
    let show = |words: &[&str]| match parse(argv(words)) {
        Err(Stop::Show(text)) => text,
        other => panic!("{words:?}: {other:?}"),
    };
    let (short, long) = (show(&["-h"]), show(&["--help"]));
    assert!(short.lines().count() < long.lines().count());
    for part in ["Examples:", "tripmine [OPTIONS] PROJECT", "What it may take", "verify-jail"] {
        assert!(short.contains(part), "{part}\n{short}");
        assert!(long.contains(part), "{part}\n{long}");
    }
    assert!(long.contains("Exit codes:") && long.contains("--seccomp") && !short.contains("--seccomp"));
    assert!(show(&["--version"]).starts_with("tripmine "));
    assert!(show(&["run", "--help"]).contains("tripmine run host -- python3"));
    assert!(show(&["help", "exec"]).contains("tripmine exec"));
}

/// What the screen says does the same is a command line that is understood.
#[test]
fn every_request_is_a_command_line() {
    for request in crate::engine::request::tests::samples() {
        let words = request.words();
        let parsed = parse(argv(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        match (request.kind(), parsed) {
            ("launch", Ok(Command::Launch(launch))) => {
                let typed = crate::cli::typed::typed(&launch).expect("understood");
                assert_eq!(crate::engine::request::Request::Launch(Box::new(typed)), request);
            }
            (kind, Ok(Command::Verb(verb))) => {
                let shown = format!("{verb:?}").to_lowercase();
                assert!(shown.starts_with(&words[0]), "{kind}: {shown}");
            }
            (kind, other) => panic!("{kind}: `{words:?}` is {other:?}"),
        }
    }
}
