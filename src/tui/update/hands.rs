//! For tests of `update`: hands that press keys on a screen of the usual world, and what comes of that.

use super::{Effect, Msg, update};
use crate::engine::request::Request;
use crate::tui::input::Input;
use crate::tui::key::parse_keys;
use crate::tui::layer::DEAF_MS;
use crate::tui::model::{Model, Pane};
use crate::tui::testing::{model, world};
use crate::tui::view::Zones;

pub(super) fn say(model: &mut Model, msg: Msg) -> Vec<Effect> {
    update(model, msg, &Zones::default())
}

/// Presses keys, written as the configuration writes them; what came of the last. Between two groups, parted by `|`, a
/// question has been on the screen long enough.
pub(super) fn press(model: &mut Model, keys: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (at, group) in keys.split('|').enumerate() {
        if at > 0 {
            model.now_ms += DEAF_MS;
        }
        for key in parse_keys(group).expect(keys) {
            effects = say(model, Msg::Input(Input::Key(key)));
        }
    }
    effects
}

/// Pastes a text into what is typed, and enters it.
pub(super) fn typed(model: &mut Model, text: &str) -> Vec<Effect> {
    say(model, Msg::Input(Input::Paste(text.to_owned())));
    press(model, "enter")
}

/// A screen with this row selected.
pub(super) fn on(pane: Pane, id: &str) -> Model {
    let mut model = model(120, 40);
    model.focus = pane;
    model.lists[pane.index()].selected = Some(id.to_owned());
    say(&mut model, Msg::Tick);
    model
}

/// A screen with this cube selected.
pub(super) fn cube(at: usize) -> Model {
    on(Pane::Cubes, world().cubes[at].id.as_str())
}

pub(super) fn requests(effects: &[Effect]) -> Vec<Request> {
    let request = |effect: &Effect| match effect {
        Effect::Carry(_, request) | Effect::Join(request) => Some(request.clone()),
        _ => None,
    };
    effects.iter().filter_map(request).collect()
}

/// The same as command lines.
pub(super) fn carried(effects: &[Effect]) -> Vec<String> {
    requests(effects).iter().map(Request::command_line).collect()
}
