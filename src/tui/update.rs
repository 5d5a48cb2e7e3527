//! `update`: what the screen becomes when something happens, and what is to be done outside. Pure: the time stands in
//! the model.

pub mod layers;
pub mod mouse;
mod pages;

use super::acts;
use super::command::{self, Command};
use super::input::Input;
use super::key::{Code, Key};
use super::keymap::Meaning;
use super::layer::{self, Layer};
use super::model::{Loud, Model, Pane, Peek, TOAST_MS};
use super::msg::{Effect, Msg, Return};
use super::view::Zones;

/// Ctrl-C twice within this many milliseconds leaves.
const TWICE_MS: u64 = 1500;

/// What happens when `msg` does. `zones` say what was drawn where.
pub fn update(model: &mut Model, msg: Msg, zones: &Zones) -> Vec<Effect> {
    let mut effects = match msg {
        Msg::Input(Input::Key(key)) => press(model, key),
        Msg::Input(Input::Paste(text)) => layers::paste(model, &text),
        Msg::Input(Input::Mouse(mouse, x, y)) => mouse::mouse(model, mouse, x, y, zones),
        Msg::Resize(columns, rows) => {
            model.size = (columns, rows);
            layers::resized(model)
        }
        Msg::World(world) => {
            let first = !std::mem::replace(&mut model.loaded, true);
            for problem in &world.problems {
                if !model.world.problems.contains(problem) {
                    model.tell(Loud::Warn, problem.clone(), Vec::new());
                }
            }
            model.world = *world;
            if let Some((pane, id)) = model.expected.clone()
                && super::rows::rows(model, pane).iter().any(|row| row.id == id)
            {
                model.lists[pane.index()].selected = Some(id);
                model.expected = None;
            }
            let known: Vec<&str> = model.world.cubes.iter().map(|cube| cube.id.as_str()).collect();
            model.samples.retain(|id, _| known.contains(&id.as_str()));
            model.marked.retain(|id| known.contains(&id.as_str()));
            model.silent.retain(|id, _| known.contains(&id.as_str()));
            model.listening.retain(|id, _| known.contains(&id.as_str()));
            model.denials.retain(|id, _| known.contains(&id.as_str()));
            model.quiet.retain(|(id, _)| known.contains(&id.as_str()));
            if first
                && model.world.cubes.iter().any(super::world::CubeItem::runs)
                && model.world.projects.is_empty()
            {
                model.focus = Pane::Cubes;
            }
            Vec::new()
        }
        Msg::Picture(id, picture) => {
            layers::picture(model, &id, &picture);
            if picture.is_ok() {
                model.silent.remove(id.as_str());
            }
            if model.watched.as_deref() == Some(id.as_str()) {
                model.peek = Some(Peek { id: id.as_str().to_owned(), picture });
            }
            Vec::new()
        }
        Msg::Silent(id, again) => {
            match again {
                Some(at) => model.silent.insert(id.as_str().to_owned(), at),
                None => model.silent.remove(id.as_str()),
            };
            Vec::new()
        }
        Msg::Usage(id, usage, viewers) => {
            model.silent.remove(id.as_str());
            model.samples.entry(id.as_str().to_owned()).or_default().add(usage, viewers);
            Vec::new()
        }
        Msg::Writer(writes) => {
            layers::writer(model, writes);
            Vec::new()
        }
        Msg::Planned(number, result) => {
            if let Some(Layer::Sheet(sheet)) = model.layers.last_mut()
                && sheet.asked == number
            {
                if let Ok(planned) = &result {
                    sheet.set.clone_from(&planned.settings);
                }
                sheet.plan = Some(result);
            }
            Vec::new()
        }
        Msg::Progress(number, progress) => {
            if let Some(job) = model.jobs.iter_mut().find(|job| job.number == number) {
                job.progress = Some(progress);
            }
            acts::refresh_jobs(model);
            Vec::new()
        }
        Msg::Done(number, result) => done(model, number, result),
        Msg::Back(result) => {
            let mut effects = vec![Effect::Refresh];
            match result {
                Ok(Return { text, runs_on, question }) => {
                    if let Some(id) = runs_on {
                        // It is what one looks for when one is back.
                        model.focus = Pane::Cubes;
                        model.lists[Pane::Cubes.index()].selected = Some(id.as_str().to_owned());
                        model.lists[Pane::Cubes.index()].filter.clear();
                        model.expected = Some((Pane::Cubes, id.as_str().to_owned()));
                    }
                    if !text.is_empty() {
                        model.tell(Loud::Info, text, Vec::new());
                    }
                    if let Some((id, lines)) = question {
                        effects.extend(acts::exit_question(model, &id, lines));
                    }
                }
                Err(failure) => model.fail(&failure),
            }
            // What was watched before is watched anew.
            model.watched = None;
            effects
        }
        Msg::Ports(id, choose, found) => acts::listening(model, id, choose, found),
        Msg::Denials(id, choose, found) => acts::denials(model, id, choose, found),
        Msg::Denied(id, denial) => {
            acts::denied(model, &id, denial);
            Vec::new()
        }
        Msg::Drafted(id, name, result) => acts::drafted(model, &id, name, result),
        Msg::Left => {
            if matches!(model.layers.last(), Some(Layer::Terminal(_))) {
                model.layers.pop();
            }
            model.watched = None;
            vec![Effect::Mouse(model.setup.mouse)]
        }
        Msg::Lines(lines) => {
            pages::lines(model, lines);
            Vec::new()
        }
        Msg::Measured(what, size) => {
            layers::measured(model, &what, &size);
            model.measured.insert(what, size);
            Vec::new()
        }
        Msg::Themed(Ok(name)) => {
            model.setup.theme = name;
            Vec::new()
        }
        Msg::NotTaken(text) => vec![Effect::CopyByTerminal(text)],
        Msg::Offers(offers) => {
            layers::offers(model, offers);
            Vec::new()
        }
        Msg::Copied(Ok(text)) => {
            model.tell(Loud::Info, text, Vec::new());
            Vec::new()
        }
        Msg::Themed(Err(why)) | Msg::Copied(Err(why)) => {
            model.tell(Loud::Warn, why, Vec::new());
            Vec::new()
        }
        Msg::Tick => {
            model.frame = model.frame.wrapping_add(1);
            acts::refresh_jobs(model);
            Vec::new()
        }
    };
    model.settle();
    effects.extend(follow(model));
    effects
}

fn done(
    model: &mut Model,
    number: usize,
    result: Result<crate::engine::carry::Done, crate::model::Failure>,
) -> Vec<Effect> {
    model.jobs.retain(|job| job.number != number);
    model.measured.clear();
    let mut effects = vec![Effect::Refresh];
    acts::leave_after_jobs(model, result.is_ok());
    let kept = match &result {
        Ok(done) => Ok(done.message.clone()),
        Err(failure) => Err(failure.to_string()),
    };
    if let Some(logged) = model.log.get_mut(number) {
        logged.result = Some(kept);
    }
    match result {
        Ok(done) => {
            let undo = if done.undo { " · u brings it back" } else { "" };
            model.tell(Loud::Info, format!("{}{undo}", done.message), Vec::new());
            for warning in done.warnings {
                model.tell(Loud::Warn, warning, Vec::new());
            }
            effects.extend(done.copy.map(Effect::Copy));
            if let Some(id) = model.held.clone() {
                // What was asked on exit is answered.
                model.layers.retain(|layer| !acts::asks_of(layer, &id));
            }
        }
        Err(failure) => model.fail(&failure),
    }
    effects
}

/// What follows from how things are now: the cube that is selected is watched, what its detail wants is measured.
fn follow(model: &mut Model) -> Vec<Effect> {
    let mut effects = Vec::new();
    if model.drafted && !model.layers.iter().any(acts::decides_image) {
        model.drafted = false;
        effects.push(Effect::DropDraft);
    }
    if let Some(id) = &model.held
        && model.jobs.is_empty()
        && !model.layers.iter().any(|layer| acts::asks_of(layer, id))
    {
        model.held = None;
        effects.push(Effect::Release);
    }
    if matches!(model.layers.last(), Some(Layer::Terminal(_))) {
        // The one that is typed into took the place of the one that was watched.
        model.watched = None;
        return effects;
    }
    let wanted = match model.cube() {
        Some(cube) if cube.runs() && model.layout().detail.is_some() => Some(cube.id.clone()),
        _ => None,
    };
    if wanted.as_ref().map(crate::model::TripId::as_str) != model.watched.as_deref() {
        model.watched = wanted.as_ref().map(|id| id.as_str().to_owned());
        if model.peek.as_ref().map(|peek| &peek.id) != model.watched.as_ref() {
            model.peek = None;
        }
        effects.push(Effect::Watch(wanted));
    }
    if let Some(id) = &model.watched
        && model.samples.get(id).is_some_and(|samples| samples.memory.len() > 1)
    {
        // Who only passes by on the way to another row asks nothing of a cube.
        let what = format!("changes {id}");
        if !model.measured.contains_key(&what) {
            model.measured.insert(what.clone(), String::new());
            effects.push(Effect::Measure(what));
        }
    }
    if let (Pane::Machines, Some(name)) = (model.focus, model.selected()) {
        let what = format!("home {name}");
        if !model.measured.contains_key(&what) {
            model.measured.insert(what.clone(), String::new());
            effects.push(Effect::Measure(what));
        }
    }
    effects
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    // An error is read once a key is pressed.
    let now = model.now_ms;
    for notice in &mut model.notices {
        notice.gone |= notice.loud == Loud::Error && now >= notice.at_ms + TOAST_MS / 4;
    }
    if key == Key::ctrl('c') {
        return interrupt(model);
    }
    if model.layout().too_small {
        if key == Key::char('q') {
            model.quit = Some(0);
        }
        return Vec::new();
    }
    if !model.layers.is_empty() {
        return layers::press(model, key);
    }
    if model.filtering {
        return filter(model, key);
    }
    if key == Key::plain(Code::Esc) {
        return escape(model);
    }
    model.prefix.push(key);
    let keys = model.prefix.clone();
    match model.keymap.look(model.focus, &keys) {
        Meaning::Command(command) => {
            model.prefix.clear();
            give(model, command)
        }
        Meaning::Prefix(_) => Vec::new(),
        Meaning::Nothing => {
            model.prefix.clear();
            Vec::new()
        }
    }
}

/// Gives a command, or says why it cannot be given.
pub(super) fn give(model: &mut Model, command: &'static Command) -> Vec<Effect> {
    match command.check(model) {
        Ok(()) => (command.run)(model),
        Err(why) => {
            model.tell(Loud::Warn, format!("{}: {why}", command.title), Vec::new());
            Vec::new()
        }
    }
}

/// Gives the command called `id`.
pub(super) fn give_named(model: &mut Model, id: &str) -> Vec<Effect> {
    match command::find(id, model.focus) {
        Some(command) => give(model, command),
        None => Vec::new(),
    }
}

/// Gives the command called `id` about what `rest` names first, in its own list: `stop web`, `rename box lab`. What
/// follows is typed into what the command asks.
pub(super) fn give_about(model: &mut Model, id: &str, rest: &str) -> Vec<Effect> {
    let Some(command) = command::find(id, model.focus) else { return Vec::new() };
    let pane = match command.place {
        command::Place::In(pane) => pane,
        command::Place::Everywhere => return give(model, command),
    };
    let (name, more) = rest.split_once(' ').map_or((rest, ""), |(name, more)| (name, more.trim()));
    let rows = super::rows::rows(model, pane);
    let titled = |row: &&super::rows::Row| row.title.split_whitespace().any(|word| word == name);
    let found = rows.iter().find(|row| row.id == name).or_else(|| rows.iter().find(titled));
    let Some(row) = found.map(|row| row.id.clone()) else {
        let name = crate::model::sanitize::printable(name);
        model.tell(Loud::Warn, format!("there is no `{name}` among the {}", pane.word()), Vec::new());
        return Vec::new();
    };
    model.focus = pane;
    let list = model.list_mut();
    list.filter.clear();
    list.selected = Some(row);
    model.settle();
    let effects = give(model, command);
    if let Some(Layer::Prompt(prompt)) = model.layers.last_mut()
        && !more.is_empty()
    {
        prompt.field = tui_input::Input::new(more.to_owned());
    }
    effects
}

/// Ctrl-C: ends what is on top; twice, leaves.
fn interrupt(model: &mut Model) -> Vec<Effect> {
    let twice = model.now_ms < model.interrupted_ms + TWICE_MS;
    model.interrupted_ms = model.now_ms;
    if twice {
        model.quit = Some(130);
        return Vec::new();
    }
    if model.layers.is_empty() && !model.filtering {
        let effects = escape(model);
        model.tell(Loud::Info, "ctrl-c again leaves; what runs goes on running", Vec::new());
        return effects;
    }
    if model.filtering {
        filter(model, Key::plain(Code::Esc))
    } else {
        layers::press(model, Key::plain(Code::Esc))
    }
}

/// Esc on the lists: one step back, never out.
fn escape(model: &mut Model) -> Vec<Effect> {
    if !model.prefix.is_empty() {
        model.prefix.clear();
    } else if !model.list().filter.is_empty() {
        let selected = model.selected();
        let list = model.list_mut();
        list.filter.clear();
        list.selected = selected;
    } else {
        for notice in &mut model.notices {
            notice.gone = true;
        }
    }
    Vec::new()
}

fn filter(model: &mut Model, key: Key) -> Vec<Effect> {
    match (key.code, key.ctrl) {
        (Code::Esc, _) => {
            model.filtering = false;
            let list = model.list_mut();
            list.filter.clear();
            list.selected = list.before.take();
        }
        (Code::Enter, _) => model.filtering = false,
        (Code::Up, _) | (Code::Char('p'), true) => return acts::move_by(model, -1),
        (Code::Down, _) | (Code::Char('n'), true) => return acts::move_by(model, 1),
        _ => {
            let mut field = tui_input::Input::new(model.list().filter.clone());
            if layer::edit(&mut field, key) {
                let list = model.list_mut();
                list.filter = field.value().chars().take(200).collect();
                // The best match is the first that is left.
                list.at = 0;
                list.selected = None;
            }
        }
    }
    Vec::new()
}

/// A moment as hours, minutes and seconds of UTC.
#[must_use]
pub fn clock(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod hands;
#[cfg(test)]
mod more_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
