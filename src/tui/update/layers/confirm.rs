//! Keys for a question: none is heard before it could be read, Enter is no, and several things need their number.

use super::{Next, paste_line};
use crate::tui::acts::{self, about, carry};
use crate::tui::key::{Code, Key};
use crate::tui::layer::{Confirm, DEAF_MS, Layer, Prompt, Then};
use crate::tui::model::{Loud, Model};

pub(super) fn key(model: &mut Model, confirm: &mut Confirm, key: Key) -> Next {
    if key.code == Code::Esc {
        // To leave it is never wrong.
        return Next::Close(Vec::new());
    }
    if model.now_ms < confirm.opened_ms + DEAF_MS {
        return Next::Stay(Vec::new());
    }
    match key.code {
        Code::Enter | Code::Char('q') => Next::Close(Vec::new()),
        Code::Char(digit @ '0'..='9') if confirm.bulk.is_some() => bulk_key(model, confirm, digit),
        Code::Char(typed) if !key.ctrl && !key.alt => {
            let Some(choice) = confirm.choices.iter().find(|choice| choice.key == typed) else {
                return Next::Stay(Vec::new());
            };
            match (&choice.disabled, &choice.request) {
                (Some(why), _) => {
                    model.tell(Loud::Warn, format!("{}: {why}", choice.label), Vec::new());
                    Next::Stay(Vec::new())
                }
                (None, None) => match choice.then.clone() {
                    None => Next::Close(Vec::new()),
                    Some(Then::Quiet(cube, place)) => {
                        model.quiet.insert((cube, place));
                        Next::Close(Vec::new())
                    }
                    // The question is off the stack: what lies beneath it is typed into.
                    Some(Then::Paste(text)) => Next::Close(paste_line(model, &text)),
                    Some(Then::Quit) => {
                        model.quit = Some(0);
                        Next::Close(Vec::new())
                    }
                    Some(Then::Show(verb, words)) => Next::Stay(acts::show(model, verb, words)),
                    Some(Then::Changes(id)) => Next::Stay(acts::changes_of(model, &id)),
                    Some(Then::Ask(kind)) => {
                        let field = tui_input::Input::default();
                        model.layers.push(Layer::Prompt(Prompt { kind, field, error: None }));
                        Next::Stay(Vec::new())
                    }
                },
                (None, Some(request)) => {
                    let (row, verb) = about(request);
                    Next::Close(carry(model, request.clone(), row, verb))
                }
            }
        }
        _ => Next::Stay(Vec::new()),
    }
}

/// Their number, digit by digit; a wrong one begins anew.
fn bulk_key(model: &mut Model, confirm: &mut Confirm, digit: char) -> Next {
    let Some(bulk) = &mut confirm.bulk else { return Next::Stay(Vec::new()) };
    let wanted = bulk.requests.len().to_string();
    bulk.typed.push(digit);
    if bulk.typed != wanted {
        if !wanted.starts_with(&bulk.typed) {
            bulk.typed.clear();
        }
        return Next::Stay(Vec::new());
    }
    model.marked.clear();
    let requests = bulk.requests.clone();
    Next::Close(
        requests
            .into_iter()
            .flat_map(|request| {
                let (row, verb) = about(&request);
                carry(model, request, row, verb)
            })
            .collect(),
    )
}
