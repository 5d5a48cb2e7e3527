//! Keys and news for what lies on top of the lists.

mod confirm;
mod picker;
mod prompt;
mod sheet;

use super::super::acts;
use super::super::key::Key;
use super::super::layer::{Layer, paste as paste_into};
use super::super::model::Model;
use super::super::msg::Effect;
use super::super::view::terminal;
use super::pages::page_key;
use crate::model::TripId;
use crate::term::cells::Picture;

pub(super) use sheet::offers;
pub(in crate::tui) use sheet::plan;

type Effects = Vec<Effect>;

/// What a layer wants after a key.
pub(super) enum Next {
    Stay(Effects),
    Close(Effects),
}

/// A key for the uppermost layer.
pub(super) fn press(model: &mut Model, key: Key) -> Effects {
    let Some(layer) = model.layers.pop() else { return Vec::new() };
    // What the key opens lies above.
    let place = model.layers.len();
    let (layer, next) = match layer {
        Layer::Sheet(mut sheet) => {
            let next = sheet::key(model, &mut sheet, key);
            (Layer::Sheet(sheet), next)
        }
        Layer::Confirm(mut confirm) => {
            let next = confirm::key(model, &mut confirm, key);
            (Layer::Confirm(confirm), next)
        }
        Layer::Prompt(mut prompt) => {
            let next = prompt::key(model, &mut prompt, key);
            (Layer::Prompt(prompt), next)
        }
        Layer::Picker(mut picker) => {
            let next = picker::key(model, &mut picker, key);
            (Layer::Picker(picker), next)
        }
        Layer::Page(mut page) => {
            let next = page_key(model, &mut page, key);
            (Layer::Page(page), next)
        }
        // Its keys go to the cube, as bytes; the leader comes as a message.
        Layer::Terminal(terminal) => (Layer::Terminal(terminal), Next::Stay(Vec::new())),
    };
    match next {
        Next::Stay(effects) => {
            model.layers.insert(place.min(model.layers.len()), layer);
            effects
        }
        Next::Close(effects) => effects,
    }
}

/// A paste: into a field, else nowhere. Nothing in it is a key, and several lines become one only when that is meant.
pub(super) fn paste(model: &mut Model, text: &str) -> Effects {
    let field = match model.layers.last_mut() {
        None => model.filtering,
        Some(Layer::Prompt(_) | Layer::Picker(_)) => true,
        Some(Layer::Sheet(sheet)) => sheet.field().is_some(),
        Some(_) => false,
    };
    if field && text.trim_end().lines().count() > 1 {
        return acts::ask_paste(model, text);
    }
    paste_line(model, text.trim_end_matches(['\n', '\r']))
}

/// Types a text into the field that has the keys, as one line.
fn paste_line(model: &mut Model, text: &str) -> Effects {
    match model.layers.last_mut() {
        None if model.filtering => {
            let mut field = tui_input::Input::new(model.list().filter.clone());
            paste_into(&mut field, text);
            let list = model.list_mut();
            list.filter = field.value().chars().take(200).collect();
            (list.at, list.selected) = (0, None);
        }
        Some(Layer::Prompt(prompt)) => {
            prompt.error = None;
            paste_into(&mut prompt.field, text);
        }
        Some(Layer::Picker(picker)) => {
            picker.at = 0;
            paste_into(&mut picker.field, text);
        }
        Some(Layer::Sheet(sheet)) => {
            if let Some(field) = sheet.field() {
                paste_into(field, text);
                return sheet::ask_plan(sheet);
            }
        }
        _ => {}
    }
    Vec::new()
}

/// The screen has another size: so has the terminal of a cube that is typed into.
pub(super) fn resized(model: &mut Model) -> Effects {
    let area = terminal::area(&model.layout());
    match model.layers.last() {
        Some(Layer::Terminal(terminal)) if !model.layout().too_small => vec![Effect::Enter {
            id: terminal.id.clone(),
            rows: area.height.max(1),
            cols: area.width.max(2),
            take_over: false,
        }],
        _ => Vec::new(),
    }
}

pub(super) fn picture(model: &mut Model, id: &TripId, picture: &Result<Picture, String>) {
    if let Some(Layer::Terminal(terminal)) = model.layers.last_mut()
        && terminal.id == *id
    {
        match picture {
            Ok(picture) => terminal.picture = Some(picture.clone()),
            Err(why) => terminal.problem = Some(why.clone()),
        }
    }
}

pub(super) fn writer(model: &mut Model, writes: bool) {
    if let Some(Layer::Terminal(terminal)) = model.layers.last_mut() {
        terminal.writer = Some(writes);
    }
}

/// The size of what a question is about has become known.
pub(super) fn measured(model: &mut Model, what: &str, size: &str) {
    if let Some(Layer::Confirm(confirm)) = model.layers.last_mut()
        && confirm.measures.as_deref() == Some(what)
    {
        let lost = if size.starts_with("nothing") {
            format!("it changed {size}")
        } else {
            format!("{size} would go")
        };
        confirm.lines.insert(0, lost);
        confirm.measures = None;
    }
}
