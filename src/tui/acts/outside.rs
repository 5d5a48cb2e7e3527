//! Commands about what leads out of a cube: its net, its ports, its changes, and images made of them.

use super::super::layer::{Choice, Layer, Page, PageKind, PickItem, PickerKind, PromptKind, Then};
use super::super::model::{Job, Loud, Model, Pane};
use super::super::msg::{Drafted, Effect};
use super::super::text::clean;
use super::{Effects, confirm, cube_id, join, keep, leave_after_jobs, page_of, picker, prompt, yes};
use crate::engine::forward::place;
use crate::engine::net::Denial;
use crate::engine::request::{Request, SnapshotFor, Until};
use crate::model::net::Rule;
use crate::model::{Failure, Listening, Name, TripId};

/// The job that copies what a cube changed: it is none of the command log.
pub(in crate::tui) const DRAFTING: usize = usize::MAX;

fn item(id: impl Into<String>, title: impl Into<String>, about: impl Into<String>) -> PickItem {
    PickItem {
        id: id.into(),
        title: title.into(),
        about: about.into(),
        key: String::new(),
        cli: String::new(),
        disabled: None,
    }
}

// Ports and forwards.

pub(in crate::tui) fn forward(model: &mut Model) -> Effects {
    cube_id(model).map(Effect::Ports).into_iter().collect()
}

/// What listens is known: one of it is chosen.
pub(in crate::tui) fn listening(
    model: &mut Model,
    id: TripId,
    choose: bool,
    found: Result<Vec<Listening>, Failure>,
) -> Effects {
    let mut found = match found {
        Ok(found) => found,
        Err(failure) => {
            if choose {
                model.fail(&failure);
            }
            return Vec::new();
        }
    };
    model.listening.insert(id.as_str().to_owned(), found.clone());
    if !choose || !model.layers.is_empty() {
        return Vec::new();
    }
    // A server on both families is one server.
    found.dedup_by_key(|found| found.port);
    let mut items: Vec<PickItem> = found
        .iter()
        .map(|found| {
            let program = found.program.as_deref().map(clean).unwrap_or_default();
            item(found.port.to_string(), found.port.to_string(), format!("{program} ({})", found.scope()))
        })
        .collect();
    items.push(item("other", "another port", "HOST:CUBE, also for what does not listen yet"));
    let title = match items.len() {
        1 => format!("forward into cube {}: nothing listens yet", id.short()),
        _ => format!("forward into cube {}", id.short()),
    };
    picker(model, PickerKind::Forward(id), &title, items)
}

pub(in crate::tui) fn unforward(model: &mut Model) -> Effects {
    let Some(cube) = model.cube() else { return Vec::new() };
    let (id, Some(record)) = (cube.id.clone(), cube.good()) else { return Vec::new() };
    let items = record
        .forwards
        .iter()
        .map(|map| item(clean(&place(&map.host)), clean(&place(&map.host)), format!("-> {}", map.cube)))
        .collect();
    picker(model, PickerKind::Unforward(id), "close a forward", items)
}

pub(in crate::tui) fn ports(model: &mut Model) -> Effects {
    page_of(model, "ports")
}

// The net.

pub(in crate::tui) fn net(model: &mut Model) -> Effects {
    cube_id(model).map(Effect::Denials).into_iter().collect()
}

pub(in crate::tui) fn net_log(model: &mut Model) -> Effects {
    page_of(model, "net")
}

/// What was denied is known: one of it is decided on.
pub(in crate::tui) fn denials(
    model: &mut Model,
    id: TripId,
    choose: bool,
    found: Result<Vec<Denial>, Failure>,
) -> Effects {
    let found = match found {
        Ok(found) => found,
        Err(failure) => {
            if choose {
                model.fail(&failure);
            }
            return Vec::new();
        }
    };
    let mut items: Vec<PickItem> = found
        .iter()
        .map(|denial| {
            let times = if denial.count > 1 { format!(" · {} times", denial.count) } else { String::new() };
            let mut item = item(&denial.place, &denial.place, format!("{}{times}", denial.why));
            if denial.rule.is_none() {
                item.disabled = Some("no rule would let it".into());
            }
            item
        })
        .collect();
    model.denials.insert(id.as_str().to_owned(), found);
    if !choose || !model.layers.is_empty() {
        return Vec::new();
    }
    items.push(item("other", "something else", "NAME:PORT, *.NAME or an address, before it is asked for"));
    let title = match items.len() {
        1 => format!("nothing was denied to cube {} so far", id.short()),
        _ => format!("denied to cube {}", id.short()),
    };
    picker(model, PickerKind::Denials(id), &title, items)
}

/// Something was denied just now: it is told, once, with the key that decides.
pub(in crate::tui) fn denied(model: &mut Model, id: &TripId, denial: Denial) {
    let key = (id.as_str().to_owned(), denial.place.clone());
    if !model.quiet.contains(&key) {
        let how = super::super::command::find("net", Pane::Cubes)
            .map_or_else(String::new, |command| model.keymap.keys(command));
        let text = format!("cube {}: denied {}: {} · {how} decides", id.short(), denial.place, denial.why);
        model.tell(Loud::Warn, text, Vec::new());
    }
    let known = model.denials.entry(key.0).or_default();
    match known.iter().position(|known| known.place == denial.place) {
        Some(at) => {
            let old = known.remove(at);
            known.insert(0, Denial { count: old.count + 1, ..denial });
        }
        None => known.insert(0, denial),
    }
    known.truncate(100);
}

/// For how long?
pub(in crate::tui) fn decide(model: &mut Model, id: &TripId, rule: &Rule, place: &str) -> Effects {
    let allow = |key, label: &str, until| {
        yes(key, label, Request::NetAllow { cube: id.clone(), rule: rule.clone(), until })
    };
    let machine = model.world.cubes.iter().find(|cube| cube.id == *id).and_then(|cube| cube.good());
    let machine =
        machine.map_or_else(|| "its machine".to_owned(), |record| format!("machine {}", record.machine));
    let never = Choice {
        key: 'v',
        label: "never: and do not tell of it again".into(),
        request: None,
        then: Some(Then::Quiet(id.as_str().to_owned(), place.to_owned())),
        disabled: None,
    };
    let choices = vec![
        allow('o', "once: the next connection", Until::Once),
        allow('c', "this cube, until it ends", Until::Cube),
        allow('m', &format!("{machine}: every later cube, too"), Until::Machine),
        never,
        keep(),
    ];
    let lines = vec!["it takes effect at once: the program need only try again".to_owned()];
    confirm(model, format!("let cube {} reach {rule}?", id.short()), lines, choices, None)
}

// Changes.

pub(in crate::tui) fn changes(model: &mut Model) -> Effects {
    cube_id(model).map_or_else(Vec::new, |id| changes_of(model, &id))
}

pub(in crate::tui) fn changes_of(model: &mut Model, id: &TripId) -> Effects {
    let page = Page::new(PageKind::Command("changes"), format!("changes of {}", id.short()));
    model.layers.push(Layer::Page(page));
    vec![Effect::Run("changes", vec!["--diff".into(), id.to_string()])]
}

pub(in crate::tui) fn apply(model: &mut Model) -> Effects {
    let Some(cube) = model.cube() else { return Vec::new() };
    let (id, title) = (cube.id.clone(), cube.title());
    let lines = vec![
        "what it changed in its project, with --review, is written into your project".to_owned(),
        "files that you changed meanwhile keep everything from being written".to_owned(),
    ];
    let some = Choice {
        key: 'p',
        label: "only some places".into(),
        request: None,
        then: Some(Then::Ask(PromptKind::Apply(id.clone()))),
        disabled: None,
    };
    let show = Choice {
        key: 's',
        label: "show the changes".into(),
        request: None,
        then: Some(Then::Changes(id.clone())),
        disabled: None,
    };
    let all = yes('y', "all of them", Request::Apply { cube: id.clone(), paths: Vec::new() });
    let title = format!("take over the changes of cube {} {title}?", id.short());
    confirm(model, title, lines, vec![keep(), show, all, some], None)
}

/// A throwaway that changed its system has ended, and waits.
pub(in crate::tui) fn exit_question(model: &mut Model, id: &TripId, lines: Vec<String>) -> Effects {
    model.held = Some(id.clone());
    let choice =
        |key, label: &str, then| Choice { key, label: label.into(), request: None, then, disabled: None };
    let choices = vec![
        choice('k', "keep as an image", Some(Then::Ask(PromptKind::Snapshot(id.clone())))),
        choice('s', "show the changes", Some(Then::Changes(id.clone()))),
        choice('d', "discard", None),
    ];
    confirm(model, format!("cube {} has ended: keep what it changed?", id.short()), lines, choices, None)
}

/// This question decides on an image.
pub(in crate::tui) fn decides_image(layer: &Layer) -> bool {
    let makes = |choice: &Choice| matches!(&choice.request, Some(Request::Snapshot { .. }));
    matches!(layer, Layer::Confirm(confirm) if confirm.choices.iter().any(makes))
}

/// The question on exit is still open.
pub(in crate::tui) fn asks_of(layer: &Layer, id: &TripId) -> bool {
    let wanted = Then::Ask(PromptKind::Snapshot(id.clone()));
    match layer {
        Layer::Confirm(confirm) => confirm.choices.iter().any(|choice| {
            choice.then.as_ref() == Some(&wanted)
                || matches!(&choice.request, Some(Request::Snapshot { cube, .. }) if cube == id)
        }),
        _ => false,
    }
}

// Snapshots.

pub(in crate::tui) fn snapshot(model: &mut Model) -> Effects {
    cube_id(model).map_or_else(Vec::new, |id| prompt(model, PromptKind::Snapshot(id), ""))
}

pub(in crate::tui) fn draft(model: &mut Model, id: &TripId, name: &str) -> Effects {
    let row = Some(id.as_str().to_owned());
    model.jobs.push(Job {
        number: DRAFTING,
        row,
        verb: "reading its changes",
        at_ms: model.now_ms,
        cancels: false,
        progress: None,
    });
    vec![Effect::Draft(id.clone(), name.to_owned())]
}

/// What goes in is known: it is shown before anything is written.
pub(in crate::tui) fn drafted(
    model: &mut Model,
    id: &TripId,
    name: String,
    drafted: Result<Drafted, Failure>,
) -> Effects {
    model.jobs.retain(|job| job.number != DRAFTING);
    // What was read is to be decided on.
    leave_after_jobs(model, false);
    let drafted = match drafted {
        Ok(drafted) => drafted,
        Err(failure) => {
            model.fail(&failure);
            return Vec::new();
        }
    };
    model.drafted = true;
    let record = model.world.cubes.iter().find(|cube| cube.id == *id).and_then(|cube| cube.good());
    let machine = record.map(|record| record.machine.clone());
    let secrets = match drafted.secrets {
        0 => String::new(),
        1 => ", with the file that looks like a secret".to_owned(),
        count => format!(", with the {count} files that look like secrets"),
    };
    let make = |machine| Request::Snapshot { cube: id.clone(), name: name.clone(), machine };
    let mut choices = vec![keep(), yes('y', &format!("make the image{secrets}"), make(SnapshotFor::Nothing))];
    if let Some(machine) = machine {
        let label = format!("make it, and let machine {machine} start from it");
        choices.push(yes('u', &label, make(SnapshotFor::Update(machine))));
    }
    if let Ok(new) = Name::parse(&name) {
        let taken = model.world.machines.iter().any(|item| item.name == new);
        let mut choice = yes(
            'c',
            &format!("make it, and a machine {new} of it"),
            make(SnapshotFor::Create { name: new, carry: Vec::new() }),
        );
        choice.disabled = taken.then(|| "there is one already".into());
        choices.push(choice);
    }
    let label = "make it, with what the cube was launched with: `resume` goes on from it";
    choices.push(yes('r', label, make(SnapshotFor::Continuation)));
    let older = model.world.images.iter().any(|image| image.name == name);
    let mut lines = drafted.lines;
    if older {
        lines.push(format!("what `{name}` names now stays as `{name}@N`"));
    }
    confirm(model, format!("make the image {name} of cube {}?", id.short()), lines, choices, None)
}

// Images.

pub(in crate::tui) fn resume(model: &mut Model) -> Effects {
    model.selected().map_or_else(Vec::new, |image| join(model, Request::Resume { image, keep: None }))
}

pub(in crate::tui) fn go_on(model: &mut Model) -> Effects {
    let cube = model.cube().map(|cube| cube.id.short().to_owned());
    cube.map_or_else(Vec::new, |image| join(model, Request::Resume { image, keep: None }))
}

pub(in crate::tui) fn image_pull(model: &mut Model) -> Effects {
    prompt(model, PromptKind::Pull, "")
}

pub(in crate::tui) fn image_push(model: &mut Model) -> Effects {
    model.selected().map_or_else(Vec::new, |image| {
        // A name without a place would go to the world's default registry: that is typed, not only entered.
        let text = if image.contains('/') { image.clone() } else { String::new() };
        prompt(model, PromptKind::Push(image), &text)
    })
}

pub(in crate::tui) fn image_import(model: &mut Model) -> Effects {
    prompt(model, PromptKind::Import, "")
}

pub(in crate::tui) fn image_export(model: &mut Model) -> Effects {
    model.selected().map_or_else(Vec::new, |image| prompt(model, PromptKind::Export(image), "oci:"))
}

pub(in crate::tui) fn image_tag(model: &mut Model) -> Effects {
    model.selected().map_or_else(Vec::new, |image| prompt(model, PromptKind::Tag(image), ""))
}

pub(in crate::tui) fn image_history(model: &mut Model) -> Effects {
    let Some(image) = model.selected() else { return Vec::new() };
    model.layers.push(Layer::Page(Page::new(PageKind::Command("image"), format!("history of {image}"))));
    vec![Effect::Run("image", vec!["history".into(), image])]
}

pub(in crate::tui) fn image_rm(model: &mut Model) -> Effects {
    let Some(image) = model.selected() else { return Vec::new() };
    let about = model.world.images.iter().find(|item| item.name == image).map(|item| item.about.clone());
    let mut lines: Vec<String> = about.into_iter().collect();
    let used = model.world.machines.iter().filter(|item| {
        let found = item.machine.as_ref().ok().and_then(|machine| machine.settings.image.as_ref());
        found.is_some_and(|found| found.to_string() == image)
    });
    let used: Vec<String> = used.map(|item| item.name.to_string()).collect();
    if !used.is_empty() {
        lines.push(format!("these machines start from it, and could not any more: {}", used.join(" ")));
    }
    lines.push("with the older images of its name; there is no undo".into());
    let choices = vec![keep(), yes('d', "delete it", Request::ImageRemove(image.clone()))];
    confirm(model, format!("delete image {image}?"), lines, choices, None)
}
