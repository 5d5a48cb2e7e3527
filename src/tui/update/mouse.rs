//! The mouse: the wheel moves what is under the pointer, a press selects or does what is written there.

use super::super::acts;
use super::super::input::Mouse;
use super::super::key::{Code, Key};
use super::super::layer::Layer;
use super::super::model::Model;
use super::super::msg::Effect;
use super::super::view::{Target, Zones};

pub(super) fn mouse(model: &mut Model, mouse: Mouse, x: u16, y: u16, zones: &Zones) -> Vec<Effect> {
    let target = zones.at(x, y);
    let key = |model: &mut Model, code| super::press(model, Key::plain(code));
    match (mouse, target) {
        (Mouse::WheelUp | Mouse::WheelDown, target) => {
            let down = mouse == Mouse::WheelDown;
            if !model.layers.is_empty() {
                let code = if down { Code::Down } else { Code::Up };
                return (0..3).flat_map(|_| key(model, code)).collect();
            }
            match target {
                Some(Target::Pane(pane) | Target::Row(pane, _)) => {
                    let before = std::mem::replace(&mut model.focus, *pane);
                    let effects = acts::move_by(model, if down { 3 } else { -3 });
                    model.focus = before;
                    effects
                }
                _ => Vec::new(),
            }
        }
        (Mouse::Press, Some(Target::Command(id))) if model.layers.is_empty() => super::give_named(model, id),
        (Mouse::Press, Some(Target::Pane(pane))) if model.layers.is_empty() => acts::focus(model, *pane),
        (Mouse::Press, Some(Target::Row(pane, id))) if model.layers.is_empty() => {
            model.filtering = false;
            // A press on what is selected already does what Enter does.
            if model.focus == *pane && model.selected().as_deref() == Some(id) {
                return key(model, Code::Enter);
            }
            model.focus = *pane;
            model.list_mut().selected = Some(id.clone());
            Vec::new()
        }
        (Mouse::Press, Some(Target::Item(at))) => match model.layers.last_mut() {
            Some(Layer::Picker(picker)) => {
                let again = picker.at == *at;
                picker.at = *at;
                if again { key(model, Code::Enter) } else { Vec::new() }
            }
            Some(Layer::Sheet(sheet)) => {
                let again = sheet.at == *at;
                sheet.at = (*at).min(sheet.fields.len().saturating_sub(1));
                if again { key(model, Code::Right) } else { Vec::new() }
            }
            _ => Vec::new(),
        },
        (Mouse::Press, Some(Target::Key(key))) => super::press(model, *key),
        (Mouse::Press, _) => Vec::new(),
    }
}
