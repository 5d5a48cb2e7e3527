//! A world for tests: always the same, with what is awkward in it.

use std::sync::Arc;

use super::keymap::Keymap;
use super::model::{Model, Peek, Setup};
use super::text::clean;
use super::world::{CubeItem, ImageItem, MachineItem, ProjectItem, Samples, World};
use crate::keeper::protocol::Usage;
use crate::model::cube::ExitRecord;
use crate::model::{
    CubeRecord, CubeState, Enforcement, ExitReason, Layer, LayerStatus, Machine, Name, NetPolicyKind,
};
use crate::store::cubes::tests::{durable, sample};
use crate::term::Screen;

/// Everything happened around this moment.
pub(crate) const NOW: u64 = 1_700_000_100_000;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn ended(record: &mut CubeRecord, code: i32, reason: ExitReason) {
    record.state = if code == 125 { CubeState::Failed } else { CubeState::Exited };
    record.exit = Some(ExitRecord {
        code,
        signal: None,
        reason,
        ended_unix_ms: NOW - 60_000,
        ran: std::time::Duration::from_secs(300),
    });
}

fn cube(record: CubeRecord, live: bool) -> CubeItem {
    CubeItem { id: record.id.clone(), record: Ok(Arc::new(record)), live }
}

pub(crate) fn world() -> World {
    let machine = |text: &str, net| {
        let mut machine = Machine::new(name(text));
        machine.settings.net = net;
        MachineItem {
            name: name(text),
            machine: Ok(machine),
            file: format!("/home/ann/.config/tripmine/machines/{text}.toml"),
            home: format!("/home/ann/.local/share/tripmine/homes/{text}"),
            seeded: text == "default",
        }
    };
    let mut broken = machine("old", None);
    broken.machine = Err("old.toml:3:1: unknown key `netz` (did you mean `net`?)".into());
    let project = |text: &str| ProjectItem {
        name: name(text),
        path: format!("/home/ann/projects/{text}").into(),
        shown: format!("/home/ann/projects/{text}"),
        link: false,
        modified_ms: NOW - 3_000_000,
        entry: (text == "site").then(|| "make serve".to_owned()),
        problem: None,
    };
    let mut running = sample(1);
    running.created_unix_ms = NOW - 65_000;
    running.state = CubeState::Running;
    running.tty = true;
    running.project = Some("site".into());
    running.project_path = Some("/home/ann/projects/site".into());
    running.layers = [Layer::UserNs, Layer::MountNs, Layer::NetNs, Layer::Seccomp, Layer::Landlock]
        .map(|layer| LayerStatus { layer, enforcement: Enforcement::Full("read back".into()) })
        .to_vec();
    running.layers.push(LayerStatus {
        layer: Layer::Cgroup,
        enforcement: Enforcement::Partial("no memory controller".into()),
    });
    let mut hostile = sample(2);
    hostile.created_unix_ms = NOW - 7_300_000;
    hostile.state = CubeState::Running;
    hostile.tty = false;
    hostile.project = Some("a\x1b]0;PWN\x07\u{202e}漢字\n".into());
    hostile.argv = vec!["sh".into(), "-c".into(), format!("x\x1b[2J{}", "e\u{301}\u{301}".repeat(2000))];
    let mut kept = durable(3, "box");
    kept.created_unix_ms = NOW - 90_000_000;
    ended(&mut kept, 0, ExitReason::Ended);
    let mut failed = sample(4);
    failed.created_unix_ms = NOW - 600_000;
    ended(&mut failed, 125, ExitReason::OutOfMemory("512M".into()));
    let torn = CubeItem {
        id: sample(5).id,
        record: Err("the record is damaged: expected value".into()),
        live: false,
    };
    World {
        machines: vec![machine("default", None), broken, machine("work", Some(NetPolicyKind::None))],
        projects: ["api-server", "notes", "site", "webshop"].map(project).to_vec(),
        cubes: vec![cube(running, true), cube(hostile, true), cube(kept, false), cube(failed, false), torn],
        images: vec![
            ImageItem { name: "host".into(), about: "this host's system".into(), detail: Vec::new() },
            ImageItem {
                name: "dev".into(),
                about: "41M · 2 layers".into(),
                detail: vec![
                    ("source".into(), "snapshot".into()),
                    ("layer".into(), "sha256:0123 40M".into()),
                ],
            },
        ],
        root: clean("/home/ann/projects"),
        root_exists: true,
        problems: Vec::new(),
    }
}

/// A screen that has looked at [`world`].
pub(crate) fn model(columns: u16, rows: u16) -> Model {
    let setup = Setup {
        theme: "default".into(),
        glyphs: crate::config::screen::GlyphSet::Unicode,
        mouse: true,
        leader: Some("Ctrl-]".into()),
        themes: ["default", "mono", "nord"].map(str::to_owned).to_vec(),
    };
    let mut model = Model::new((columns, rows), Name::default_machine(), setup, Keymap::new(&[]).0);
    model.now_ms = NOW;
    model.world = world();
    model.loaded = true;
    let id = model.world.cubes[0].id.as_str().to_owned();
    let mut samples = Samples::default();
    for second in 0..40_u64 {
        let usage = Usage {
            processes: 3,
            threads: 7,
            memory: (40 + second % 13) << 20,
            cpu_ms: second * second * 9,
            age_ms: second * 1000,
            net: Some(second * second * 1500),
        };
        samples.add(usage, 1);
    }
    model.samples.insert(id.clone(), samples);
    let mut screen = Screen::new(24, 80, 0);
    let _replies =
        screen.feed("\x1b[1;32mready\x1b[0m on :8080\r\n\x1b[31mGET\x1b[0m /漢字 200\r\n$ ".as_bytes());
    model.peek = Some(Peek { id, picture: Ok(screen.picture()) });
    model.settle();
    model
}
