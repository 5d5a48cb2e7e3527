use std::path::Path;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::*;
use crate::config::screen::GlyphSet;
use crate::config::theme::{built_in, parse_theme};
use crate::tui::input::Input;
use crate::tui::key::parse_keys;
use crate::tui::look::Depth;
use crate::tui::model::{Loud, Progress};
use crate::tui::msg::{Msg, Planned};
use crate::tui::testing::model;
use crate::tui::text::width;
use crate::tui::update::update;

fn look(theme: &str, ascii: bool, depth: Depth) -> Look {
    let find = |name: &str| built_in(name).map(str::to_owned);
    let text = built_in(theme).expect("built in");
    let glyphs = if ascii { GlyphSet::Ascii } else { GlyphSet::Unicode };
    Look::new(&parse_theme(theme, Path::new(theme), text, &find).expect("good"), glyphs, depth)
}

fn drawn(model: &Model, look: &Look) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, model.size.0, model.size.1));
    let _zones = draw(model, look, &mut buffer);
    buffer
}

/// The text of a buffer, trailing blanks cut.
fn text(buffer: &Buffer) -> String {
    let mut lines = Vec::new();
    for y in 0..buffer.area.height {
        let line: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n") + "\n"
}

/// Where each style begins, row by row: text alone is blind to colours.
fn styles(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut before = None;
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let style = (cell.fg, cell.bg, cell.modifier);
            if before != Some(style) {
                let color = |color: ratatui::style::Color| color.to_string().to_lowercase();
                out.push_str(&format!("{y}:{x} {}/{} {:?}\n", color(style.0), color(style.1), style.2));
                before = Some(style);
            }
        }
    }
    out
}

/// Compares with a file beside this one; writes it when `TRIPMINE_WRITE_DOCS` is set.
fn same(name: &str, shown: &str) {
    let path = format!("{}/src/tui/view/shots/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TRIPMINE_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(Path::new(&path).parent().expect("a folder")).expect("made");
        std::fs::write(&path, shown).expect("written");
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(before == shown, "{name} looks different now:\n{shown}\nTRIPMINE_WRITE_DOCS=1 takes it over");
}

fn press(model: &mut Model, keys: &str) {
    for key in parse_keys(keys).expect(keys) {
        let _effects = update(model, Msg::Input(Input::Key(key)), &Zones::default());
    }
}

fn planned(model: &mut Model) {
    let lines =
        ["cube          01m85w951n9mdh4eaae3nne1_f83ehj7", "jail          container: the kernel is shared"];
    let plan = Planned {
        lines: lines.map(str::to_owned).to_vec(),
        warnings: vec!["the swap is not limited".into()],
        settings: [("jail", "container"), ("net", "none"), ("pids", "4096")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
    };
    for number in 0..9 {
        let _effects = update(model, Msg::Planned(number, Ok(plan.clone())), &Zones::default());
    }
    let progress = Progress { done: 13_000_000, total: Some(29_800_000) };
    let _effects = update(model, Msg::Progress(0, progress), &Zones::default());
}

type Scene = (&'static str, &'static str);

/// A name and the keys that lead there.
const SCENES: &[Scene] = &[
    ("projects", "2"),
    ("cubes", "3"),
    ("machines", "1"),
    ("images", "4"),
    ("sheet", "2 j j enter down down"),
    ("stop", "3 x"),
    ("remove", "3 j j X"),
    ("help", "3 ? s t o"),
    ("prompt", "2 n a /"),
    ("filter", "2 / s i"),
    ("prefix", "2 g"),
    ("pane", "3 i"),
    ("pull", "4 P d e b i a n enter"),
    ("jobs", "4 P d e b i a n enter j p x enter J"),
];

#[test]
fn scenes_look_as_they_did() {
    for (size, columns, rows) in [("wide", 120, 40), ("middle", 80, 24), ("small", 40, 12)] {
        for (scene, keys) in SCENES {
            let mut model = model(columns, rows);
            press(&mut model, keys);
            planned(&mut model);
            same(&format!("{scene}-{size}"), &text(&drawn(&model, &look("default", false, Depth::True))));
        }
    }
    for (size, columns, rows) in [("wide", 120, 40), ("middle", 80, 24), ("small", 40, 12)] {
        for (scene, keys) in
            SCENES.iter().filter(|(scene, _)| ["cubes", "sheet", "stop", "help"].contains(scene))
        {
            let mut model = model(columns, rows);
            press(&mut model, keys);
            planned(&mut model);
            let end = if size == "middle" { String::new() } else { format!("-{size}") };
            same(&format!("{scene}-ascii{end}"), &text(&drawn(&model, &look("default", true, Depth::True))));
            same(
                &format!("{scene}-styles{end}"),
                &styles(&drawn(&model, &look("default", false, Depth::True))),
            );
            same(&format!("{scene}-mono{end}"), &styles(&drawn(&model, &look("mono", false, Depth::None))));
        }
    }
}

#[test]
fn an_empty_world_teaches() {
    let mut model = model(120, 30);
    let _effects = update(&mut model, Msg::World(Box::default()), &Zones::default());
    let shown = text(&drawn(&model, &look("default", false, Depth::True)));
    same("empty-wide", &shown);
    for step in ["1  check what this host can enforce", "2  make a project", "3  launch it"] {
        assert!(shown.contains(step), "{shown}");
    }
}

/// Whatever names are, columns stay where they are and nothing reaches the terminal but text.
#[test]
fn nothing_hostile_is_drawn_at_any_size() {
    for look in [look("default", false, Depth::True), look("nord", true, Depth::Sixteen)] {
        for (columns, rows) in [
            (1, 1),
            (10, 3),
            (39, 9),
            (40, 10),
            (59, 15),
            (60, 16),
            (80, 24),
            (99, 20),
            (100, 20),
            (200, 60),
            (500, 200),
        ] {
            for (scene, keys) in SCENES {
                let mut model = model(columns, rows);
                press(&mut model, keys);
                press(&mut model, "j");
                planned(&mut model);
                model.tell(Loud::Error, "bad\x1b]52;c;x\x07 thing".repeat(9), vec!["try\nthis".into()]);
                let buffer = drawn(&model, &look);
                for y in 0..rows {
                    let mut x = 0;
                    while x < columns {
                        let symbol = buffer[(x, y)].symbol();
                        assert!(
                            !symbol.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)),
                            "{scene} at {columns}x{rows}: {symbol:?}"
                        );
                        let wide = u16::try_from(width(symbol)).expect("narrow");
                        assert!(
                            x + wide.max(1) <= columns,
                            "{scene} at {columns}x{rows}: {symbol:?} sticks out"
                        );
                        x += wide.max(1);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_drawn_can_be_pressed() {
    let mut model = model(120, 40);
    let mut buffer = Buffer::empty(Rect::new(0, 0, 120, 40));
    let zones = draw(&model, &look("default", false, Depth::True), &mut buffer);
    let shown = text(&buffer);
    let place = |words: &str| {
        let (y, line) = shown.lines().enumerate().find(|(_, line)| line.contains(words)).expect(words);
        let x = width(&line[..line.find(words).expect(words)]);
        (u16::try_from(x).expect("small"), u16::try_from(y).expect("small"))
    };
    let mut click = |words: &str| {
        let (x, y) = place(words);
        let mouse = crate::tui::input::Mouse::Press;
        update(&mut model, Msg::Input(Input::Mouse(mouse, x, y)), &zones)
    };
    let _effects = click("webshop");
    let _effects = click("3 cubes");
    let _effects = click("? help");
    assert_eq!(model.selected_in(Pane::Projects).as_deref(), Some("webshop"));
    assert_eq!(model.focus, Pane::Cubes);
    assert!(matches!(model.layers.last(), Some(Layer::Picker(_))));
}

/// Six keys of the place at most, whatever is selected; the rest is in the help.
#[test]
fn the_line_of_keys_stays_short() {
    for pane in Pane::ALL {
        for at in 0..6 {
            let mut model = model(200, 40);
            model.focus = pane;
            for _ in 0..at {
                press(&mut model, "j");
            }
            let shown = text(&drawn(&model, &look("default", false, Depth::True)));
            let line = shown.lines().nth(38).expect("the keys");
            let own = line.split("  ").filter(|part| !part.trim().is_empty()).count();
            assert!(own <= 6 + 3, "{line}");
            assert!(line.contains("? help"), "{line}");
        }
        // Where there is no room for them, the key to all of them stays.
        let mut small = model(40, 12);
        small.focus = pane;
        press(&mut small, "g g");
        let shown = text(&drawn(&small, &look("default", false, Depth::True)));
        assert!(shown.lines().nth(10).is_some_and(|line| line.contains("? help")), "{shown}");
    }
}

/// The badge over all cubes says what was read back, and nothing else.
#[test]
fn the_badge_of_the_last_line_cannot_lie() {
    let last = |model: &Model| {
        let shown = text(&drawn(model, &look("default", false, Depth::True)));
        shown.lines().last().unwrap_or_default().to_owned()
    };
    let mut model = model(120, 40);
    assert!(last(&model).contains("~ 2 not in full"), "{}", last(&model));
    for cube in &mut model.world.cubes {
        if let Ok(record) = &mut cube.record {
            let full = crate::model::Enforcement::Full("read back".into());
            std::sync::Arc::make_mut(record).layers =
                vec![crate::model::LayerStatus { layer: crate::model::Layer::UserNs, enforcement: full }];
        }
    }
    assert!(last(&model).contains("all in force"), "{}", last(&model));
    if let Ok(record) = &mut model.world.cubes[0].record {
        let record = std::sync::Arc::make_mut(record);
        record.layers.clear();
        record.created_unix_ms = model.now_ms + 3_600_000;
    }
    assert!(last(&model).contains("~ 1 not in full"), "nothing was read back: {}", last(&model));
    assert!(last(&model).contains("the clock went back"), "{}", last(&model));
}
