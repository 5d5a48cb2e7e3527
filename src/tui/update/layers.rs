//! Keys and news for what lies on top of the lists.

use super::super::acts::{self, carry, join};
use super::super::key::{Code, Key};
use super::super::layer::{
    Confirm, DEAF_MS, Layer, PickItem, Picker, PickerKind, Prompt, PromptKind, Then, edit,
    paste as paste_into,
};
use super::super::model::Model;
use super::super::msg::Effect;
use super::super::view::terminal;
use super::pages::{look_for, page_key};
use crate::config::edit::Edit;
use crate::engine::request::Request;
use crate::model::net::Rule;
use crate::model::{Failure, Name, TripId};
use crate::term::cells::Picture;

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
            let next = sheet_key(model, &mut sheet, key);
            (Layer::Sheet(sheet), next)
        }
        Layer::Confirm(mut confirm) => {
            let next = confirm_key(model, &mut confirm, key);
            (Layer::Confirm(confirm), next)
        }
        Layer::Prompt(mut prompt) => {
            let next = prompt_key(model, &mut prompt, key);
            (Layer::Prompt(prompt), next)
        }
        Layer::Picker(mut picker) => {
            let next = picker_key(model, &mut picker, key);
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

fn sheet_key(model: &mut Model, sheet: &mut super::super::sheet::Sheet, key: Key) -> Next {
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
pub(super) fn offers(model: &mut Model, offers: Vec<(String, Option<Failure>)>) {
    for layer in &mut model.layers {
        if let Layer::Sheet(sheet) = layer {
            sheet.offers.clone_from(&offers);
        }
    }
}

/// After another choice: what else can be chosen may differ, too.
fn changed_plan(sheet: &mut super::super::sheet::Sheet) -> Effects {
    let mut effects = ask_plan(sheet);
    effects.extend(sheet.typed().ok().map(|typed| Effect::Offers(Box::new(typed))));
    effects
}

fn ask_plan(sheet: &mut super::super::sheet::Sheet) -> Effects {
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

fn confirm_key(model: &mut Model, confirm: &mut Confirm, key: Key) -> Next {
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
                    model.tell(super::Loud::Warn, format!("{}: {why}", choice.label), Vec::new());
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

/// The row that a request is about, and what is being done to it.
fn about(request: &Request) -> (Option<String>, &'static str) {
    let id = |id: &TripId| Some(id.as_str().to_owned());
    match request {
        Request::Stop(cube) => (id(cube), "stopping"),
        Request::Kill(cube) => (id(cube), "killing"),
        Request::Remove(cube) => (id(cube), "removing"),
        Request::Snapshot { cube, .. } => (id(cube), "packing"),
        Request::Apply { cube, .. } => (id(cube), "applying"),
        _ => (None, "working"),
    }
}

fn prompt_key(model: &mut Model, prompt: &mut Prompt, key: Key) -> Next {
    match key.code {
        Code::Esc => Next::Close(Vec::new()),
        Code::Enter => match answered(model, &prompt.kind, prompt.field.value().trim()) {
            Ok(effects) => Next::Close(effects),
            Err(failure) => {
                prompt.error = Some(failure.message);
                Next::Stay(Vec::new())
            }
        },
        _ => {
            if edit(&mut prompt.field, key) {
                prompt.error = None;
                if prompt.kind == PromptKind::Search {
                    look_for(model, prompt.field.value().to_owned());
                }
            }
            Next::Stay(Vec::new())
        }
    }
}

fn answered(model: &mut Model, kind: &PromptKind, text: &str) -> Result<Effects, Failure> {
    let name = || Name::parse(text).map_err(|error| Failure::usage(error.to_string()));
    let request = match kind {
        PromptKind::MachineCreate => Request::MachineCreate { name: name()?, edits: Vec::new() },
        PromptKind::MachineRename(old) => Request::MachineRename { name: old.clone(), new: name()? },
        PromptKind::MachineEdit(name) => {
            Request::MachineEdit { name: name.clone(), edits: vec![setting(text)?] }
        }
        PromptKind::ProjectCreate => Request::ProjectCreate { machine: model.machine.clone(), name: name()? },
        PromptKind::CubeRename(cube) => Request::Rename { cube: cube.clone(), name: name()? },
        PromptKind::Exec(cube) => {
            let argv = shell_words::split(text).map_err(|error| Failure::usage(error.to_string()))?;
            if argv.is_empty() {
                return Err(Failure::usage("there is nothing to run"));
            }
            return Ok(join(model, Request::Exec { cube: cube.clone(), argv }));
        }
        PromptKind::Search => {
            look_for(model, text.to_owned());
            return Ok(Vec::new());
        }
        PromptKind::Snapshot(cube) => {
            let name =
                crate::model::image::image_name(text).map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(acts::draft(model, cube, &name));
        }
        PromptKind::Forward(cube) => {
            let map: crate::model::PortMap = text
                .parse()
                .map_err(|error: crate::model::forward::PortMapError| Failure::usage(error.to_string()))?;
            Request::Forward { cube: cube.clone(), map }
        }
        PromptKind::NetAllow(cube) => {
            let rule = Rule::parse(text).map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(acts::decide(model, cube, &rule, text));
        }
        PromptKind::Apply(cube) => {
            let paths = words(text)?;
            if paths.is_empty() {
                return Err(Failure::usage("name at least one place"));
            }
            Request::Apply { cube: cube.clone(), paths }
        }
        PromptKind::Pull => {
            crate::model::image::remote::RemoteRef::parse(text)
                .map_err(|error| Failure::usage(error.to_string()))?;
            Request::ImagePull { remote: text.to_owned() }
        }
        PromptKind::Import => {
            let mut words = words(text)?.into_iter();
            match (words.next(), words.next(), words.next()) {
                (Some(path), name, None) if path.starts_with('/') => Request::ImageImport { path, name },
                _ => {
                    return Err(Failure::usage(
                        "write the whole path, beginning with `/`, then perhaps a name",
                    ));
                }
            }
        }
        PromptKind::Export(image) => Request::ImageExport { image: image.clone(), target: text.to_owned() },
        PromptKind::Tag(image) => Request::ImageTag { image: image.clone(), name: text.to_owned() },
    };
    if let Request::ProjectCreate { name, .. } | Request::MachineCreate { name, .. } = &request {
        // It is selected as soon as it is there.
        model.expected = Some((model.focus, name.to_string()));
    }
    Ok(carry(model, request, None, "working"))
}

fn words(text: &str) -> Result<Vec<String>, Failure> {
    shell_words::split(text).map_err(|error| Failure::usage(error.to_string()))
}

/// `net=none`, `memory=512M`, `entry=make run`, `env.KEY=value`; nothing after the sign takes it away.
fn setting(text: &str) -> Result<Edit, Failure> {
    let how =
        || Failure::usage("write key=value: `net=none`, `memory=512M`, `entry=make run`, `env.KEY=value`");
    let (key, value) = text.split_once('=').ok_or_else(how)?;
    let (key, value) = (key.trim(), value.trim());
    if value.is_empty() {
        return Ok(Edit::Unset(key.to_owned()));
    }
    if let Some(variable) = key.strip_prefix("env.") {
        let variable =
            crate::model::EnvVar::new(variable, value).map_err(|error| Failure::usage(error.to_string()))?;
        return Ok(Edit::Env(variable));
    }
    if key == "entry" {
        return Ok(Edit::Entry(
            shell_words::split(value).map_err(|error| Failure::usage(error.to_string()))?,
        ));
    }
    let known = crate::config::machine::machine_keys();
    match known.iter().find(|known| **known == key) {
        Some(key) => Ok(Edit::Set { key, value: value.to_owned() }),
        None => {
            let near =
                crate::config::error::nearest(key, &known).map(|near| format!(" (did you mean `{near}`?)"));
            let key = crate::model::sanitize::printable(key);
            Err(Failure::usage(format!("`{key}` is no setting{}", near.unwrap_or_default())))
        }
    }
}

fn picker_key(model: &mut Model, picker: &mut Picker, key: Key) -> Next {
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
                return Next::Close(super::give_about(model, &id, &rest));
            }
            return match (&picker.kind, item.disabled.clone()) {
                (_, Some(why)) => {
                    model.tell(super::Loud::Warn, format!("{}: {why}", item.title), Vec::new());
                    Next::Stay(Vec::new())
                }
                (PickerKind::Command, None) => Next::Close(super::give_named(model, &item.id)),
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
                changed_plan(sheet)
            }
            _ => Vec::new(),
        },
        PickerKind::Job => item.id.parse().ok().map(Effect::Cancel).into_iter().collect(),
        PickerKind::Command | PickerKind::Theme(_) => Vec::new(),
    }
}

fn fit_picker(model: &Model, picker: &mut Picker) {
    let height = super::super::view::picker::height(model.size);
    picker.top = picker.top.clamp((picker.at + 1).saturating_sub(height), picker.at);
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
                return ask_plan(sheet);
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
