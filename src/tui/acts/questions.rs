//! Questions before something is interrupted or lost. Enter is always no, what is lost is said in numbers, and several
//! things at once need their number typed.

use super::super::layer::{Bulk, Choice, Confirm, Layer, PromptKind, Then};
use super::super::model::{Loud, Model};
use super::super::msg::Effect;
use super::super::world::CubeItem;
use super::{Effects, carry, machine, project};
use crate::engine::request::Request;
use crate::model::TripId;

pub(in crate::tui) fn confirm(
    model: &mut Model,
    title: String,
    lines: Vec<String>,
    choices: Vec<Choice>,
    measures: Option<String>,
) -> Effects {
    let opened_ms = model.now_ms;
    let effects = measures.iter().cloned().map(Effect::Measure).collect();
    model.layers.push(Layer::Confirm(Confirm { title, lines, choices, opened_ms, measures, bulk: None }));
    effects
}

/// Several lines for a field of one.
pub(in crate::tui) fn ask_paste(model: &mut Model, text: &str) -> Effects {
    let count = text.trim_end().lines().count();
    let paste = |key, label: &str, text: String| Choice {
        key,
        label: label.to_owned(),
        request: None,
        then: Some(Then::Paste(text)),
        disabled: None,
    };
    let first = text.lines().next().unwrap_or_default().to_owned();
    let choices = vec![
        keep(),
        paste('f', "the first line only", first),
        paste('j', "all, joined by blanks", text.trim_end().to_owned()),
    ];
    let lines = text.lines().take(3).map(super::super::text::clean).collect();
    confirm(model, format!("paste {count} lines where one is typed?"), lines, choices, None)
}

/// The question about all marked cubes that `fits`, if any are marked: their number, typed, says yes.
fn bulk(
    model: &mut Model,
    verb: &str,
    lines: &[&str],
    fits: impl Fn(&CubeItem) -> bool,
    request: impl Fn(TripId) -> Request,
) -> Option<Effects> {
    if model.marked.is_empty() {
        return None;
    }
    let marked = model.world.cubes.iter().filter(|cube| model.marked.contains(cube.id.as_str()));
    let (some, others): (Vec<_>, Vec<_>) = marked.partition(|cube| fits(cube));
    let (titles, count): (Vec<String>, usize) =
        (some.iter().map(|cube| format!("{} {}", cube.id.short(), cube.title())).collect(), some.len());
    let requests: Vec<Request> = some.iter().map(|cube| request(cube.id.clone())).collect();
    let left = others.len();
    if requests.is_empty() {
        model.tell(Loud::Warn, format!("none of the {left} marked cubes can be told to {verb}"), Vec::new());
        return Some(Vec::new());
    }
    let mut shown: Vec<String> = lines.iter().map(ToString::to_string).collect();
    shown.extend(titles.iter().take(6).cloned());
    if count > 6 {
        shown.push(format!("and {} more", count - 6));
    }
    if left > 0 {
        shown.push(format!("{left} more are marked, and cannot be told to {verb} now"));
    }
    let effects = confirm(model, format!("{verb} {count} cubes?"), shown, vec![keep()], None);
    if let Some(Layer::Confirm(confirm)) = model.layers.last_mut() {
        confirm.bulk = Some(Bulk { requests, typed: String::new() });
    }
    Some(effects)
}

/// The one command line that does all of them.
pub(in crate::tui) fn bulk_line(requests: &[Request]) -> String {
    let mut line = requests.first().map(Request::command_line).unwrap_or_default();
    for request in &requests[1.min(requests.len())..] {
        if let Some(last) = request.words().pop() {
            line.push_str(&format!(" {last}"));
        }
    }
    line
}

pub(in crate::tui) fn yes(key: char, label: &str, request: Request) -> Choice {
    Choice { key, label: label.to_owned(), request: Some(request), then: None, disabled: None }
}

pub(in crate::tui) fn keep() -> Choice {
    Choice { key: 'n', label: "no, leave it".into(), request: None, then: None, disabled: None }
}

pub(in crate::tui) fn stop(model: &mut Model) -> Effects {
    let lost = ["what throwaways changed in their system vanishes"];
    if let Some(effects) = bulk(model, "stop", &lost, CubeItem::runs, Request::Stop) {
        return effects;
    }
    let Some(cube) = model.cube() else { return Vec::new() };
    let (id, title) = (cube.id.clone(), cube.title());
    let lost = if cube.kept() {
        "it is kept: what it changed stays"
    } else {
        "a throwaway: what it changed in its system vanishes"
    };
    let lines = vec![lost.to_owned()];
    let measures = (!cube.kept()).then(|| format!("changes {id}"));
    let choices = vec![keep(), yes('y', "stop it", Request::Stop(id.clone())), image_first(&id)];
    confirm(model, format!("stop cube {} {title}?", id.short()), lines, choices, measures)
}

pub(in crate::tui) fn pause(model: &mut Model) -> Effects {
    let Some(cube) = model.cube() else { return Vec::new() };
    let (id, title) = (cube.id.clone(), cube.title());
    let lines = vec!["its memory goes to the disk and it ends; its connections to the net break".to_owned()];
    let choices = vec![keep(), yes('y', "pause it", Request::Pause(id.clone()))];
    confirm(model, format!("pause cube {} {title}?", id.short()), lines, choices, None)
}

/// What is lost otherwise can be kept.
fn image_first(id: &TripId) -> Choice {
    Choice {
        key: 's',
        label: "make an image of it first".into(),
        request: None,
        then: Some(Then::Ask(PromptKind::Snapshot(id.clone()))),
        disabled: None,
    }
}

pub(in crate::tui) fn kill(model: &mut Model) -> Effects {
    let lost = ["their programs get no moment to end by themselves"];
    if let Some(effects) = bulk(model, "kill", &lost, CubeItem::runs, Request::Kill) {
        return effects;
    }
    let Some(cube) = model.cube() else { return Vec::new() };
    let (id, title) = (cube.id.clone(), cube.title());
    let lines = vec!["its programs get no moment to end by themselves".to_owned()];
    confirm(
        model,
        format!("kill cube {} {title}?", id.short()),
        lines,
        vec![keep(), yes('y', "kill it", Request::Kill(id))],
        None,
    )
}

pub(in crate::tui) fn rm(model: &mut Model) -> Effects {
    let kept = model.world.cubes.iter().filter(|cube| model.marked.contains(cube.id.as_str()));
    let kept = format!(
        "{} of them are kept cubes: for good, with what they changed",
        kept.filter(|c| c.kept()).count()
    );
    if let Some(effects) = bulk(model, "remove", &[&kept], |cube| !cube.live, Request::Remove) {
        return effects;
    }
    let Some(cube) = model.cube() else { return Vec::new() };
    let (id, title, kept) = (cube.id.clone(), cube.title(), cube.kept());
    if !kept {
        // What kept nothing but a record needs no question.
        let row = Some(id.as_str().to_owned());
        return carry(model, Request::Remove(id), row, "removing");
    }
    let lines = vec!["for good, with what it changed in its system".to_owned()];
    let choices = vec![image_first(&id), keep(), yes('d', "delete it", Request::Remove(id.clone()))];
    confirm(model, format!("delete the kept cube {title}?"), lines, choices, Some(format!("cube {id}")))
}

/// Leaving would break off what is under way.
pub(in crate::tui) fn leave_jobs(model: &mut Model) -> Effects {
    let lines = model.jobs.iter().take(6).map(|job| format!("{}…", job.verb)).collect();
    let leave = Choice {
        key: 'y',
        label: "leave all the same: it is broken off".into(),
        request: None,
        then: Some(Then::Quit),
        disabled: None,
    };
    let title = match model.jobs.len() {
        1 => "leave while a job is under way?".to_owned(),
        count => format!("leave while {count} jobs are under way?"),
    };
    confirm(model, title, lines, vec![keep(), leave], None)
}

/// A job has ended, well or not: if it was the last that kept somebody from leaving, there is nothing to ask any more.
pub(in crate::tui) fn leave_after_jobs(model: &mut Model, good: bool) {
    let asks = |layer: &Layer| match layer {
        Layer::Confirm(confirm) => confirm.choices.iter().any(|choice| choice.then == Some(Then::Quit)),
        _ => false,
    };
    if !model.jobs.is_empty() || !model.layers.iter().any(asks) {
        return;
    }
    model.layers.retain(|layer| !asks(layer));
    // What went wrong is read first.
    if good {
        model.quit = Some(0);
    }
}

pub(in crate::tui) fn prune(model: &mut Model) -> Effects {
    let lines = [
        "the trash, which no undo brings back then",
        "records and logs of throwaways that ended long ago",
        "what no image and no cube needs of the stored images; kept cubes stay",
    ];
    let show = Choice {
        key: 's',
        label: "show what would go".into(),
        request: None,
        then: Some(Then::Show("prune", vec!["--dry-run".into()])),
        disabled: None,
    };
    let choices = vec![keep(), show, yes('d', "delete it for good", Request::Prune)];
    let lines = lines.map(str::to_owned).to_vec();
    confirm(model, "delete for good what is left over?".into(), lines, choices, Some("prune".into()))
}

pub(in crate::tui) fn project_rm(model: &mut Model) -> Effects {
    let Some(name) = project(model) else { return Vec::new() };
    let machine = model.machine.clone();
    let lines = vec!["into the trash: `u` brings it back until `tripmine prune`".to_owned()];
    let choices = vec![keep(), yes('d', "delete it", Request::ProjectRemove { machine, name: name.clone() })];
    confirm(
        model,
        format!("delete project {name} with everything in it?"),
        lines,
        choices,
        Some(format!("project {name}")),
    )
}

pub(in crate::tui) fn machine_rm(model: &mut Model) -> Effects {
    let Some(name) = machine(model) else { return Vec::new() };
    let lines = vec!["into the trash: `u` brings it back until `tripmine prune`".to_owned()];
    let choices = vec![keep(), yes('d', "delete it", Request::MachineRemove(name.clone()))];
    confirm(
        model,
        format!("delete machine {name} and its home?"),
        lines,
        choices,
        Some(format!("home {name}")),
    )
}

pub(in crate::tui) fn machine_reset_home(model: &mut Model) -> Effects {
    let Some(name) = machine(model) else { return Vec::new() };
    let lines = vec!["into the trash: `u` brings it back until `tripmine prune`".to_owned()];
    let choices = vec![keep(), yes('d', "delete it", Request::MachineResetHome(name.clone()))];
    confirm(
        model,
        format!("delete the home of machine {name}?"),
        lines,
        choices,
        Some(format!("home {name}")),
    )
}
