//! Every request can be made with the keys of the screen: each kind is walked to, key by key, and what comes out is that
//! kind. A kind that nobody added here has no way on the screen that a test knows of, and fails.

use super::hands::{cube, on, press, requests, say, typed};
use super::*;
use crate::engine::net::Denial;
use crate::engine::request::Request;
use crate::model::Listening;
use crate::tui::layer::DEAF_MS;
use crate::tui::msg::Drafted;
use crate::tui::testing::world;

/// A machine that no cube runs on, with a home.
fn idle_machine() -> Model {
    let mut model = on(Pane::Machines, "work");
    for machine in &mut model.world.machines {
        machine.seeded = true;
    }
    model
}

/// What the keys of the screen make of the wish for a request of this kind.
fn walked(kind: &str) -> Vec<Effect> {
    let (running, kept) = (|| cube(0), || cube(2));
    let id = world().cubes[0].id.clone();
    match kind {
        "launch" => press(&mut on(Pane::Projects, "site"), "r"),
        "resume" => press(&mut on(Pane::Images, "dev"), "r"),
        "attach" => press(&mut running(), "enter"),
        "exec" => press(&mut running(), "e l s enter"),
        "stop" => press(&mut running(), "x|y"),
        "kill" => press(&mut running(), "K|y"),
        "pause" => press(&mut running(), "P|y"),
        "rm" => press(&mut kept(), "X|d"),
        "rename" => press(&mut kept(), "m x enter"),
        "machine create" => press(&mut on(Pane::Machines, "work"), "n l a b enter"),
        "machine edit" => {
            let mut model = on(Pane::Machines, "work");
            press(&mut model, "E");
            typed(&mut model, "net=none")
        }
        "machine rename" => press(&mut idle_machine(), "m x enter"),
        "machine rm" => press(&mut idle_machine(), "X|d"),
        "machine reset-home" => press(&mut idle_machine(), "H|d"),
        "project create" => press(&mut on(Pane::Projects, "site"), "n s h o p enter"),
        "project rm" => press(&mut on(Pane::Projects, "notes"), "X|d"),
        "undo" => press(&mut on(Pane::Projects, "notes"), "u"),
        "image snapshot" => {
            let mut model = running();
            press(&mut model, "s d e v enter");
            let drafted = Drafted { lines: Vec::new(), secrets: 0 };
            say(&mut model, Msg::Drafted(id, "dev".into(), Ok(drafted)));
            model.now_ms += DEAF_MS;
            press(&mut model, "y")
        }
        "apply" => press(&mut kept(), "A|y"),
        "forward" => {
            let mut model = running();
            press(&mut model, "f");
            let found = Listening { port: 3000, address: [127, 0, 0, 1].into(), program: None, pid: None };
            say(&mut model, Msg::Ports(id, true, Ok(vec![found])));
            press(&mut model, "enter")
        }
        "forward rm" => {
            let mut model = running();
            if let Ok(record) = &mut model.world.cubes[0].record {
                std::sync::Arc::make_mut(record).forwards = vec!["8080:80".parse().expect("a forward")];
            }
            press(&mut model, "F enter")
        }
        "net" => {
            let mut model = running();
            press(&mut model, "n");
            let denial = Denial {
                place: "a.example:443".into(),
                why: "no rule allows it".into(),
                rule: crate::model::net::Rule::parse("a.example:443").ok(),
                count: 1,
                time_ms: 1,
            };
            say(&mut model, Msg::Denials(id, true, Ok(vec![denial])));
            press(&mut model, "enter|c")
        }
        "image pull" => {
            let mut model = on(Pane::Images, "dev");
            press(&mut model, "P");
            typed(&mut model, "debian:12")
        }
        "image push" => {
            let mut model = on(Pane::Images, "dev");
            press(&mut model, "p");
            typed(&mut model, "reg.example/dev:1")
        }
        "image import" => {
            let mut model = on(Pane::Images, "dev");
            press(&mut model, "I");
            typed(&mut model, "/srv/root.tar root")
        }
        "image export" => {
            let mut model = on(Pane::Images, "dev");
            press(&mut model, "e");
            typed(&mut model, "/srv/out")
        }
        "image tag" => press(&mut on(Pane::Images, "dev"), "m d e v 2 enter"),
        "prune" => {
            let mut model = on(Pane::Images, "dev");
            press(&mut model, ": p r u n e enter|d")
        }
        "image rm" => press(&mut on(Pane::Images, "dev"), "X|d"),
        other => panic!("no keys are known here that lead to a request of the kind `{other}`"),
    }
}

#[test]
fn every_request_can_be_made_with_keys() {
    for kind in Request::KINDS {
        let effects = walked(kind);
        assert_eq!(requests(&effects).first().map(Request::kind), Some(*kind), "{effects:?}");
    }
}

/// A kind that is left out of the list of kinds would be walked by no test.
#[test]
fn the_kinds_are_all_there_are() {
    let source = include_str!("../../engine/request.rs");
    let body = source.split("pub enum Request {").nth(1).and_then(|rest| rest.split("\n}\n").next());
    let variants = body.expect("the enum").lines().filter(|line| {
        line.strip_prefix("    ")
            .is_some_and(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
    });
    assert_eq!(variants.count(), Request::KINDS.len());
}
