//! Keys for the launch sheet: each choice asks for the plan anew, and only a plan that can be carried out is launched.

use super::{Effects, Next};
use crate::engine::request::Request;
use crate::model::Failure;
use crate::tui::acts::{carry, join};
use crate::tui::key::{Code, Key};
use crate::tui::layer::{Layer, edit};
use crate::tui::model::Model;
use crate::tui::msg::Effect;
use crate::tui::sheet::Sheet;

pub(super) fn key(model: &mut Model, sheet: &mut Sheet, key: Key) -> Next {
    let last = sheet.fields.len().saturating_sub(1);
    match (key.code, key.ctrl) {
        (Code::Esc, _) => return Next::Close(Vec::new()),
        (Code::Enter, _) => {
            return match (sheet.typed(), &sheet.plan) {
                (Ok(typed), Some(Ok(_)) | None) if typed.detach => {
                    Next::Close(carry(model, Request::Launch(Box::new(typed)), None, "launching"))
                }
                (Ok(typed), Some(Ok(_)) | None) => Next::Close(join(model, Request::Launch(Box::new(typed)))),
                (Ok(_), Some(Err(failure))) => {
                    let failure = failure.clone();
                    model.fail(&failure);
                    Next::Stay(Vec::new())
                }
                (Err(failure), _) => {
                    model.fail(&failure);
                    Next::Stay(Vec::new())
                }
            };
        }
        (Code::Up | Code::BackTab, _) | (Code::Char('p'), true) => {
            sheet.at = sheet.at.checked_sub(1).unwrap_or(last)
        }
        (Code::Down | Code::Tab, _) | (Code::Char('n'), true) => {
            sheet.at = if sheet.at == last { 0 } else { sheet.at + 1 }
        }
        (Code::PageDown, _) | (Code::Char('d'), true) => sheet.top += 5,
        (Code::PageUp, _) => sheet.top = sheet.top.saturating_sub(5),
        _ => {
            let changed = match (key.code, sheet.field()) {
                (_, Some(field)) => {
                    let before = field.value().to_owned();
                    if edit(field, key) && field.value() != before {
                        return Next::Stay(ask_plan(sheet));
                    }
                    false
                }
                (Code::Left | Code::Char('h'), None) => sheet.turn(false),
                (Code::Right | Code::Char('l' | ' '), None) => sheet.turn(true),
                (Code::Up | Code::Char('k'), None) => {
                    sheet.at = sheet.at.checked_sub(1).unwrap_or(last);
                    false
                }
                (Code::Char('j'), None) => {
                    sheet.at = if sheet.at == last { 0 } else { sheet.at + 1 };
                    false
                }
                (Code::Char('/'), None) => {
                    model.layers.extend(sheet.words().map(Layer::Picker));
                    false
                }
                (Code::Char('q'), None) => return Next::Close(Vec::new()),
                _ => false,
            };
            if changed {
                return Next::Stay(changed_plan(sheet));
            }
        }
    }
    Next::Stay(Vec::new())
}

/// Asks for the plan of the sheet on top.
pub(in crate::tui) fn plan(model: &mut Model) -> Effects {
    match model.layers.last_mut() {
        Some(Layer::Sheet(sheet)) => changed_plan(sheet),
        _ => Vec::new(),
    }
}

/// Which jails there are was looked up.
pub(in crate::tui::update) fn offers(model: &mut Model, offers: Vec<(String, Option<Failure>)>) {
    for layer in &mut model.layers {
        if let Layer::Sheet(sheet) = layer {
            sheet.offers.clone_from(&offers);
        }
    }
}

/// After another choice: what else can be chosen may differ, too.
pub(super) fn changed_plan(sheet: &mut Sheet) -> Effects {
    let mut effects = ask_plan(sheet);
    effects.extend(sheet.typed().ok().map(|typed| Effect::Offers(Box::new(typed))));
    effects
}

pub(super) fn ask_plan(sheet: &mut Sheet) -> Effects {
    sheet.asked += 1;
    sheet.top = 0;
    match sheet.typed() {
        Ok(typed) => {
            sheet.plan = None;
            vec![Effect::Plan(sheet.asked, Box::new(typed))]
        }
        Err(failure) => {
            sheet.plan = Some(Err(failure));
            Vec::new()
        }
    }
}
