//! Keys for a list to choose from, and what is done with what was chosen.

use super::{Effects, Next, sheet};
use crate::engine::request::Request;
use crate::model::TripId;
use crate::tui::acts::{self, carry};
use crate::tui::key::{Code, Key};
use crate::tui::layer::{Layer, PickItem, Picker, PickerKind, Prompt, PromptKind, edit};
use crate::tui::model::{Loud, Model};
use crate::tui::msg::Effect;
use crate::tui::view;

pub(super) fn key(model: &mut Model, picker: &mut Picker, key: Key) -> Next {
    let count = picker.shown().len();
    let step = |by: isize, at: usize| at.saturating_add_signed(by).min(count.saturating_sub(1));
    match (key.code, key.ctrl) {
        (Code::Esc, _) => {
            return Next::Close(match &picker.kind {
                PickerKind::Theme(before) => vec![Effect::Theme(before.clone())],
                _ => Vec::new(),
            });
        }
        (Code::Up, _) | (Code::Char('p'), true) => picker.at = step(-1, picker.at),
        (Code::Down | Code::Tab, _) | (Code::Char('n'), true) => picker.at = step(1, picker.at),
        (Code::PageUp, _) => picker.at = step(-10, picker.at),
        (Code::PageDown, _) => picker.at = step(10, picker.at),
        (Code::Enter, _) => {
            let Some(item) = picker.shown().get(picker.at).map(|item| (*item).clone()) else {
                return Next::Stay(Vec::new());
            };
            if let Some((named, rest)) = picker.with_arguments() {
                let (id, rest) = (named.id.clone(), rest.to_owned());
                return Next::Close(super::super::give_about(model, &id, &rest));
            }
            return match (&picker.kind, item.disabled.clone()) {
                (_, Some(why)) => {
                    model.tell(Loud::Warn, format!("{}: {why}", item.title), Vec::new());
                    Next::Stay(Vec::new())
                }
                (PickerKind::Command, None) => Next::Close(super::super::give_named(model, &item.id)),
                (PickerKind::Theme(_), None) => Next::Close(vec![Effect::KeepTheme(item.id)]),
                (kind, None) => Next::Close(picked(model, kind, &item)),
            };
        }
        _ => {
            if edit(&mut picker.field, key) {
                picker.at = 0;
            }
        }
    }
    fit_picker(model, picker);
    let shown = picker.shown().get(picker.at).map(|item| item.id.clone());
    match (&picker.kind, shown) {
        (PickerKind::Theme(_), Some(id)) if id != model.setup.theme => Next::Stay(vec![Effect::Theme(id)]),
        _ => Next::Stay(Vec::new()),
    }
}

/// What was picked of what is out there.
fn picked(model: &mut Model, kind: &PickerKind, item: &PickItem) -> Effects {
    let ask = |model: &mut Model, kind| {
        let field = tui_input::Input::default();
        model.layers.push(Layer::Prompt(Prompt { kind, field, error: None }));
        Vec::new()
    };
    let row = |id: &TripId| Some(id.as_str().to_owned());
    match kind {
        PickerKind::Forward(cube) if item.id == "other" => ask(model, PromptKind::Forward(cube.clone())),
        PickerKind::Forward(cube) => match item.id.parse().map(crate::model::PortMap::same) {
            Ok(map) => carry(model, Request::Forward { cube: cube.clone(), map }, row(cube), "forwarding"),
            Err(_) => Vec::new(),
        },
        PickerKind::Unforward(cube) => {
            let request = Request::Unforward { cube: cube.clone(), host: item.id.clone() };
            carry(model, request, row(cube), "closing")
        }
        PickerKind::Denials(cube) if item.id == "other" => ask(model, PromptKind::NetAllow(cube.clone())),
        PickerKind::Denials(cube) => {
            let found = model.denials.get(cube.as_str()).into_iter().flatten();
            let rule = found.filter(|denial| denial.place == item.id).find_map(|denial| denial.rule.clone());
            rule.map_or_else(Vec::new, |rule| acts::decide(model, cube, &rule, &item.id))
        }
        PickerKind::Word(field) => match model.layers.last_mut() {
            Some(Layer::Sheet(sheet)) => {
                sheet.set(field, &item.id);
                sheet::changed_plan(sheet)
            }
            _ => Vec::new(),
        },
        PickerKind::Job => item.id.parse().ok().map(Effect::Cancel).into_iter().collect(),
        PickerKind::Command | PickerKind::Theme(_) => Vec::new(),
    }
}

fn fit_picker(model: &Model, picker: &mut Picker) {
    let height = view::picker::height(model.size);
    picker.top = picker.top.clamp((picker.at + 1).saturating_sub(height), picker.at);
}
