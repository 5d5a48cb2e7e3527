//! Requests of every kind, and the command lines that they are shown as.

use super::*;
use crate::model::{NetPolicyKind, Settings};
use crate::plan::resolve::{ProjectRef, Typed};

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
