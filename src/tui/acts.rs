//! What the commands of the registry do to the model.

mod outside;
mod questions;
mod when;

use super::command::{COMMANDS, Place};
use super::layer::{
    Layer, Page, PageKind, PageLine, PickItem, Picker, PickerKind, Prompt, PromptKind, Terminal,
};
use super::model::{Loud, Model, Pane};
use super::msg::Effect;
use super::sheet::Sheet;
use super::world::CubeItem;
use crate::config::edit::Edit;
use crate::engine::request::Request;
use crate::model::words::age;
use crate::model::{Name, TripId};
use crate::plan::Typed;
use crate::plan::resolve::{ProjectRef, What};

pub(super) use outside::*;
pub(super) use questions::*;
pub(super) use when::*;

type Effects = Vec<Effect>;

fn machine(model: &Model) -> Option<Name> {
    (model.focus == Pane::Machines)
        .then(|| model.selected())
        .flatten()
        .and_then(|name| Name::parse(&name).ok())
}

fn project(model: &Model) -> Option<Name> {
    (model.focus == Pane::Projects)
        .then(|| model.selected())
        .flatten()
        .and_then(|name| Name::parse(&name).ok())
}

// Requests.

/// Carries out what needs no terminal, in the background.
pub(super) fn carry(model: &mut Model, request: Request, row: Option<String>, verb: &'static str) -> Effects {
    let number = log(model, &request);
    let cancels = request.may_take_long();
    model.jobs.push(super::model::Job { number, row, verb, at_ms: model.now_ms, cancels, progress: None });
    vec![Effect::Carry(number, request)]
}

fn log(model: &mut Model, request: &Request) -> usize {
    model.last = Some(request.clone());
    model.log.push(super::model::Logged {
        at_ms: model.now_ms,
        command: request.command_line(),
        result: None,
    });
    model.log.len() - 1
}

/// Hands the terminal over.
pub(super) fn join(model: &mut Model, request: Request) -> Effects {
    let number = log(model, &request);
    model.log[number].result = Some(Ok("joined".into()));
    vec![Effect::Join(request)]
}

fn launch(model: &mut Model, typed: Typed) -> Effects {
    let request = Request::Launch(Box::new(Typed { tty: Some(true), ..typed }));
    join(model, request)
}

fn open_sheet(model: &mut Model, project: Option<ProjectRef>, change: impl FnOnce(&mut Sheet)) -> Effects {
    let good = model.world.machines.iter().filter(|item| item.machine.is_ok());
    let machines: Vec<Name> = good.map(|item| item.name.clone()).collect();
    let images: Vec<String> = model.world.images.iter().map(|image| image.name.clone()).collect();
    let mut sheet = Sheet::new(project, &model.machine, &machines, &images);
    change(&mut sheet);
    model.layers.push(Layer::Sheet(Box::new(sheet)));
    super::update::layers::plan(model)
}

pub(super) fn sheet(model: &mut Model) -> Effects {
    let Some(name) = project(model) else { return Vec::new() };
    open_sheet(model, Some(ProjectRef::Named(name)), |_| {})
}

pub(super) fn again(model: &mut Model) -> Effects {
    let Some(record) = model.cube().and_then(CubeItem::good).cloned() else { return Vec::new() };
    let root = std::path::Path::new(&model.world.root);
    let here = |name: &str| record.project_path.as_deref() == Some(&root.join(name));
    let project = match record.project.as_deref() {
        Some(".") => Some(ProjectRef::Root),
        Some(name) if here(name) => Name::parse(name).ok().map(ProjectRef::Named),
        _ => None,
    };
    open_sheet(model, project.clone(), |sheet| {
        sheet.set("machine", record.machine.as_str());
        if let (None, Some(path)) = (&project, &record.project_path) {
            sheet.set("mount", &path.to_string_lossy());
        }
    })
}

pub(super) fn image_launch(model: &mut Model) -> Effects {
    let Some(image) = model.selected() else { return Vec::new() };
    open_sheet(model, None, |sheet| {
        sheet.set("image", &image);
        sheet.set("start", "shell");
    })
}

pub(super) fn run_now(model: &mut Model) -> Effects {
    let (project, machine) = (project(model).map(ProjectRef::Named), Some(model.machine.clone()));
    launch(model, Typed { project, machine, ..Typed::default() })
}

pub(super) fn shell(model: &mut Model) -> Effects {
    let (project, machine) = (project(model).map(ProjectRef::Named), Some(model.machine.clone()));
    launch(model, Typed { project, machine, what: What::Shell, ..Typed::default() })
}

pub(super) fn machine_shell(model: &mut Model) -> Effects {
    let machine = machine(model);
    launch(model, Typed { machine, what: What::Shell, ..Typed::default() })
}

fn cube_id(model: &Model) -> Option<TripId> {
    model.cube().map(|cube| cube.id.clone())
}

pub(super) fn attach(model: &mut Model) -> Effects {
    match cube_id(model) {
        Some(cube) => join(model, Request::Attach { cube, take_over: false }),
        None => Vec::new(),
    }
}

pub(super) fn take_over(model: &mut Model) -> Effects {
    match cube_id(model) {
        Some(cube) => join(model, Request::Attach { cube, take_over: true }),
        None => Vec::new(),
    }
}

pub(super) fn enter(model: &mut Model) -> Effects {
    let Some(id) = cube_id(model) else { return Vec::new() };
    model.layers.push(Layer::Terminal(Terminal {
        id: id.clone(),
        picture: None,
        writer: None,
        problem: None,
    }));
    let area = super::view::terminal::area(&model.layout());
    vec![Effect::Enter { id, rows: area.height.max(1), cols: area.width.max(2), take_over: false }]
}

pub(super) fn logs(model: &mut Model) -> Effects {
    let Some(cube) = model.cube() else { return Vec::new() };
    let (id, title) = (cube.id.clone(), format!("log of {} {}", cube.id.short(), cube.title()));
    let mut page = Page::new(PageKind::Log(id.clone()), title);
    page.follow = true;
    model.layers.push(Layer::Page(page));
    vec![Effect::Log(id)]
}

fn page_of(model: &mut Model, verb: &'static str) -> Effects {
    let Some(id) = cube_id(model) else { return Vec::new() };
    model.layers.push(Layer::Page(Page::new(PageKind::Command(verb), format!("{verb} {}", id.short()))));
    vec![Effect::Run(verb, vec![id.to_string()])]
}

pub(super) fn inspect(model: &mut Model) -> Effects {
    page_of(model, "inspect")
}

pub(super) fn events(model: &mut Model) -> Effects {
    page_of(model, "events")
}

pub(super) fn show(model: &mut Model, verb: &'static str, words: Vec<String>) -> Effects {
    let title = format!("{verb} {}", words.join(" "));
    model.layers.push(Layer::Page(Page::new(PageKind::Command(verb), title)));
    vec![Effect::Run(verb, words)]
}

pub(super) fn image_check(model: &mut Model) -> Effects {
    show(model, "image", vec!["check".to_owned()])
}

pub(super) fn command_page(model: &mut Model, verb: &'static str, words: &[&str]) -> Effects {
    model.layers.push(Layer::Page(Page::new(PageKind::Command(verb), verb)));
    vec![Effect::Run(verb, words.iter().map(ToString::to_string).collect())]
}

// Prompts.

fn prompt(model: &mut Model, kind: PromptKind, text: &str) -> Effects {
    let field = tui_input::Input::new(text.to_owned());
    model.layers.push(Layer::Prompt(Prompt { kind, field, error: None }));
    Vec::new()
}

pub(super) fn project_create(model: &mut Model) -> Effects {
    prompt(model, PromptKind::ProjectCreate, "")
}

pub(super) fn machine_create(model: &mut Model) -> Effects {
    prompt(model, PromptKind::MachineCreate, "")
}

pub(super) fn machine_edit(model: &mut Model) -> Effects {
    machine(model).map_or_else(Vec::new, |name| prompt(model, PromptKind::MachineEdit(name), ""))
}

pub(super) fn machine_rename(model: &mut Model) -> Effects {
    machine(model).map_or_else(Vec::new, |name| {
        let text = name.to_string();
        prompt(model, PromptKind::MachineRename(name), &text)
    })
}

pub(super) fn rename(model: &mut Model) -> Effects {
    let Some(cube) = model.cube() else { return Vec::new() };
    let (id, title) = (cube.id.clone(), cube.title());
    prompt(model, PromptKind::CubeRename(id), &title)
}

pub(super) fn exec(model: &mut Model) -> Effects {
    cube_id(model).map_or_else(Vec::new, |id| prompt(model, PromptKind::Exec(id), ""))
}

pub(super) fn set_image(model: &mut Model) -> Effects {
    let Some(value) = model.selected() else { return Vec::new() };
    let request =
        Request::MachineEdit { name: model.machine.clone(), edits: vec![Edit::Set { key: "image", value }] };
    carry(model, request, None, "setting")
}

pub(super) fn use_machine(model: &mut Model) -> Effects {
    let Some(name) = machine(model) else { return Vec::new() };
    model.tell(Loud::Info, format!("launches happen on machine {name} now"), Vec::new());
    model.machine = name;
    model.focus = Pane::Projects;
    vec![Effect::Refresh]
}

// Moving about.

pub(super) fn focus(model: &mut Model, pane: Pane) -> Effects {
    model.focus = pane;
    Vec::new()
}

pub(super) fn next_pane(model: &mut Model) -> Effects {
    focus(model, Pane::ALL[(model.focus.index() + 1) % Pane::ALL.len()])
}

pub(super) fn previous_pane(model: &mut Model) -> Effects {
    focus(model, Pane::ALL[(model.focus.index() + Pane::ALL.len() - 1) % Pane::ALL.len()])
}

pub(super) fn move_by(model: &mut Model, by: isize) -> Effects {
    model.step(by);
    Vec::new()
}

pub(super) fn mark(model: &mut Model) -> Effects {
    if let Some(id) = model.selected()
        && !model.marked.remove(&id)
    {
        model.marked.insert(id);
    }
    move_by(model, 1)
}

pub(super) fn refresh(model: &mut Model) -> Effects {
    model.measured.clear();
    vec![Effect::Refresh]
}

pub(super) fn filter(model: &mut Model) -> Effects {
    model.filtering = true;
    let selected = model.selected();
    model.list_mut().before = selected;
    Vec::new()
}

// Lists of commands, and other layers.

fn picker(model: &mut Model, kind: PickerKind, title: &str, items: Vec<PickItem>) -> Effects {
    let field = tui_input::Input::default();
    model.layers.push(Layer::Picker(Picker { kind, title: title.to_owned(), items, field, at: 0, top: 0 }));
    Vec::new()
}

fn commands(model: &Model, here: bool) -> Vec<PickItem> {
    let rank = |place: Place| match place {
        Place::In(pane) if pane == model.focus => 0,
        Place::Everywhere => 1,
        Place::In(_) => 2,
    };
    let mut shown: Vec<_> = COMMANDS.iter().filter(|command| !here || rank(command.place) < 2).collect();
    shown.sort_by_key(|command| rank(command.place));
    let item = |command: &&super::command::Command| {
        let elsewhere = match command.place {
            Place::In(pane) if pane != model.focus => Some(format!("in the {}", pane.word())),
            _ => None,
        };
        PickItem {
            id: command.id.to_owned(),
            title: command.title.to_owned(),
            about: command.about.to_owned(),
            key: model.keymap.keys(command),
            cli: command.cli.to_owned(),
            disabled: elsewhere.or_else(|| command.check(model).err()),
        }
    };
    shown.iter().map(item).collect()
}

pub(super) fn help(model: &mut Model) -> Effects {
    let items = commands(model, true);
    let title = format!("help: {}", model.focus.word());
    picker(model, PickerKind::Command, &title, items)
}

pub(super) fn palette(model: &mut Model) -> Effects {
    let items = commands(model, false);
    picker(model, PickerKind::Command, "commands", items)
}

/// The row that a request is about, and what is being done to it.
pub(super) fn about(request: &Request) -> (Option<String>, &'static str) {
    let id = |id: &TripId| Some(id.as_str().to_owned());
    match request {
        Request::Stop(cube) => (id(cube), "stopping"),
        Request::Kill(cube) => (id(cube), "killing"),
        Request::Remove(cube) => (id(cube), "removing"),
        Request::Snapshot { cube, .. } => (id(cube), "packing"),
        Request::Apply { cube, .. } => (id(cube), "applying"),
        Request::Forward { cube, .. } => (id(cube), "forwarding"),
        Request::ImagePull { .. } => (None, "pulling"),
        Request::ImagePush { image, .. } => (Some(image.clone()), "pushing"),
        Request::ImageImport { .. } => (None, "importing"),
        Request::ImageExport { image, .. } => (Some(image.clone()), "exporting"),
        Request::ImageRemove(image) => (Some(image.clone()), "removing"),
        _ => (None, "working"),
    }
}

/// What is under way; Enter breaks it off.
pub(super) fn jobs(model: &mut Model) -> Effects {
    let items = job_items(model);
    picker(model, PickerKind::Job, "under way: enter breaks it off", items)
}

/// The list of what is under way, if it is open, says how it is now.
pub(super) fn refresh_jobs(model: &mut Model) {
    if matches!(model.layers.last(), Some(Layer::Picker(picker)) if picker.kind == PickerKind::Job) {
        let items = job_items(model);
        if let Some(Layer::Picker(picker)) = model.layers.last_mut() {
            picker.at = picker.at.min(items.len().saturating_sub(1));
            picker.items = items;
        }
    }
}

fn job_items(model: &Model) -> Vec<PickItem> {
    let item = |job: &super::model::Job| {
        let command = model.log.get(job.number).map_or("", |logged| logged.command.as_str());
        PickItem {
            id: job.number.to_string(),
            title: job.verb.to_owned(),
            about: format!(
                "{}for {} · {command}",
                job.progress.map(|progress| format!("{} · ", progress.text())).unwrap_or_default(),
                age(model.now_ms.saturating_sub(job.at_ms))
            ),
            key: String::new(),
            cli: String::new(),
            disabled: (!job.cancels).then(|| "this is not broken off in the middle".to_owned()),
        }
    };
    model.jobs.iter().map(item).collect()
}

pub(super) fn theme(model: &mut Model) -> Effects {
    let item = |name: &String| PickItem {
        id: name.clone(),
        title: name.clone(),
        about: String::new(),
        key: String::new(),
        cli: String::new(),
        disabled: None,
    };
    let items: Vec<PickItem> = model.setup.themes.iter().map(item).collect();
    let before = model.setup.theme.clone();
    let at = items.iter().position(|item| item.id == before).unwrap_or(0);
    let effects = picker(model, PickerKind::Theme(before), "theme", items);
    if let Some(Layer::Picker(picker)) = model.layers.last_mut() {
        picker.at = at;
    }
    effects
}

fn page(model: &mut Model, kind: PageKind, title: &str, lines: Vec<PageLine>) -> Effects {
    let mut page = Page::new(kind, title);
    page.times = true;
    page.add(lines);
    page.top = page.lines.len();
    model.layers.push(Layer::Page(page));
    Vec::new()
}

pub(super) fn command_log(model: &mut Model) -> Effects {
    let lines = model.log.iter().map(|logged| {
        let (text, loud) = match &logged.result {
            None => (format!("{}  …", logged.command), None),
            Some(Ok(_)) => (logged.command.clone(), None),
            Some(Err(why)) => (format!("{}  failed: {why}", logged.command), Some(Loud::Error)),
        };
        PageLine { time: super::update::clock(logged.at_ms), mark: "", text, loud }
    });
    let lines = lines.collect();
    page(model, PageKind::Commands, "command log", lines)
}

pub(super) fn notices(model: &mut Model) -> Effects {
    let lines = model.notices.iter().flat_map(|notice| {
        let time = super::update::clock(notice.at_ms);
        let first = PageLine { time, mark: "", text: notice.text.clone(), loud: Some(notice.loud) };
        let hint = |hint: &String| PageLine { text: format!("  hint: {hint}"), ..PageLine::default() };
        std::iter::once(first).chain(notice.hints.iter().map(hint)).collect::<Vec<_>>()
    });
    let lines = lines.collect();
    page(model, PageKind::Notices, "messages", lines)
}

pub(super) fn copy(model: &mut Model) -> Effects {
    let Some(id) = model.selected() else { return Vec::new() };
    let project =
        model.world.projects.iter().find(|item| model.focus == Pane::Projects && item.name.as_str() == id);
    vec![Effect::Copy(project.map_or(id, |project| project.path.to_string_lossy().into_owned()))]
}

pub(super) fn copy_command(model: &mut Model) -> Effects {
    model.log.last().map(|logged| Effect::Copy(logged.command.clone())).into_iter().collect()
}

pub(super) fn repeat(model: &mut Model) -> Effects {
    match model.last.clone() {
        Some(request) => join(model, request),
        None => Vec::new(),
    }
}

pub(super) fn undo(model: &mut Model) -> Effects {
    carry(model, Request::Undo(None), None, "bringing back")
}

pub(super) fn mouse(model: &mut Model) -> Effects {
    model.setup.mouse = !model.setup.mouse;
    let text = if model.setup.mouse { "the mouse is taken" } else { "the mouse is your terminal's" };
    model.tell(Loud::Info, text, Vec::new());
    vec![Effect::Mouse(model.setup.mouse)]
}

pub(super) fn quit(model: &mut Model) -> Effects {
    if !model.jobs.is_empty() {
        return leave_jobs(model);
    }
    model.quit = Some(0);
    Vec::new()
}
