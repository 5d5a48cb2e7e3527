//! The detail of what is selected.

use ratatui::layout::Rect;

use super::super::model::{Model, Pane};
use super::super::role::{Line, Role, labelled, line};
use super::super::text::{clean, fit, fit_end, wrap};
use super::super::world::{CubeItem, MachineItem, ProjectItem};
use super::boxes::Brush;
use crate::model::words::{age, command};
use crate::model::{Limits, Settings};

pub(super) fn draw(model: &Model, brush: &mut Brush<'_>, area: Rect) {
    let frame = |brush: &mut Brush<'_>, title: String| {
        let inside = brush.frame(area, false, &line(Role::Strong, title), "");
        Rect { x: inside.x + 1, width: inside.width.saturating_sub(2), ..inside }
    };
    let Some(id) = model.selected() else {
        let inside = frame(brush, "tripmine".into());
        return first_steps(model, brush, inside);
    };
    match model.focus {
        Pane::Cubes => {
            if let Some(cube) = model.cube() {
                super::cube::draw(model, cube, brush, area);
            }
        }
        Pane::Machines => {
            if let Some(item) = model.world.machines.iter().find(|item| item.name.as_str() == id) {
                let inside = frame(brush, format!("machine {id}"));
                brush.lines(inside, &machine(model, item, usize::from(inside.width)));
            }
        }
        Pane::Projects => {
            if let Some(item) = model.world.projects.iter().find(|item| item.name.as_str() == id) {
                let inside = frame(brush, format!("project {id}"));
                brush.lines(inside, &project(model, item, usize::from(inside.width)));
            }
        }
        Pane::Images => {
            let inside = frame(brush, format!("image {id}"));
            brush.lines(inside, &image(model, &id, usize::from(inside.width)));
        }
    }
}

/// The next steps of somebody who has just come.
fn first_steps(model: &Model, brush: &mut Brush<'_>, area: Rect) {
    let key = |id: &str| {
        let found = super::super::command::find(id, model.focus);
        found.map_or_else(String::new, |command| model.keymap.keys(command))
    };
    let step = |number: &str, text: &str, key: String| -> Line {
        vec![(Role::Accent, format!("{number}  ")), (Role::Text, format!("{text}  ")), (Role::Key, key)]
    };
    let lines = vec![
        line(Role::Strong, "Run what you don't trust, and be sure that nothing of it is left."),
        Line::new(),
        step("1", "check what this host can enforce", key("doctor")),
        step("2", "make a project", format!("{} {}", key("projects"), key("project-create"))),
        step("3", "launch it: a throwaway cube", "enter".into()),
        Line::new(),
        vec![
            (Role::Dim, "all keys  ".into()),
            (Role::Key, key("help")),
            (Role::Dim, "   any command  ".into()),
            (Role::Key, key("palette")),
        ],
        line(Role::Dim, "`tripmine init` sets the projects root and the default machine"),
    ];
    brush.lines(area, &lines);
}

fn settings(settings: &Settings) -> Vec<Line> {
    let as_default = |value: Option<String>, default: &str| match value {
        Some(value) => (Role::Strong, value),
        None => (Role::Dim, format!("{default} (default)")),
    };
    let mut lines = Vec::new();
    for (label, value, default) in [
        ("image", settings.image.as_ref().map(|image| clean(&image.to_string())), "host"),
        ("jail", settings.jail.map(|value| value.to_string()), "container"),
        ("net", settings.net.map(|value| value.to_string()), "none"),
        ("user", settings.user.map(|value| value.to_string()), "me"),
        ("seccomp", settings.seccomp.map(|value| value.to_string()), "default"),
    ] {
        let (role, text) = as_default(value, default);
        lines.push(labelled(label, role, text));
    }
    if let Some(entry) = &settings.entry {
        lines.push(labelled("entry", Role::Strong, clean(&command(entry))));
    }
    if let Some(text) = limits(&settings.limits) {
        lines.push(labelled("limits", Role::Strong, text));
    }
    if !settings.env.is_empty() {
        let names: Vec<&str> = settings.env.iter().map(|variable| variable.key.as_str()).collect();
        lines.push(labelled("env", Role::Text, clean(&names.join(" "))));
    }
    lines
}

fn limits(limits: &Limits) -> Option<String> {
    let texts = [
        limits.memory.map(|limit| format!("memory {}", limit.value)),
        limits.cpus_milli.map(|limit| format!("cpus {}", f64::from(limit.value) / 1000.0)),
        limits.pids.map(|limit| format!("pids {}", limit.value)),
        limits.disk.map(|limit| format!("disk {}", limit.value)),
        limits.timeout.map(|time| format!("timeout {}", humantime::format_duration(time))),
    ];
    let texts: Vec<String> = texts.into_iter().flatten().collect();
    (!texts.is_empty()).then(|| texts.join(" · "))
}

fn cubes(model: &Model, of: impl Fn(&CubeItem) -> bool) -> Vec<Line> {
    let mut lines = vec![Line::new(), line(Role::Title, "cubes")];
    let before = lines.len();
    for cube in model.world.cubes.iter().filter(|cube| of(cube)).take(8) {
        let (role, state) =
            if cube.runs() { (Role::Running, "running") } else { (Role::Exited, cube.state().word()) };
        let since = cube.good().map_or(0, |record| record.created_unix_ms);
        lines.push(vec![
            (role, format!("{state:<9}")),
            (Role::Text, format!("{}  {}  ", cube.id.short(), cube.title())),
            (Role::Dim, format!("{} ago", age(model.now_ms.saturating_sub(since)))),
        ]);
    }
    if lines.len() == before {
        lines.push(line(Role::Dim, "none yet"));
    }
    lines
}

fn machine(model: &Model, item: &MachineItem, width: usize) -> Vec<Line> {
    let room = width.saturating_sub(10);
    let mut lines = match &item.machine {
        Ok(machine) => {
            let mut lines = settings(&machine.settings);
            if let Some(projects) = &machine.projects {
                lines.push(labelled(
                    "projects",
                    Role::Text,
                    fit_end(&clean(&projects.to_string_lossy()), room),
                ));
            }
            lines
        }
        Err(why) => wrap(why, width).into_iter().map(|text| line(Role::Error, text)).collect(),
    };
    lines.push(Line::new());
    let size = model.measured.get(&format!("home {}", item.name)).filter(|size| !size.is_empty());
    let size = match (item.seeded, size) {
        (false, _) => "none yet: the first launch makes it".to_owned(),
        (true, Some(size)) => size.clone(),
        (true, None) => "measuring…".to_owned(),
    };
    lines.push(labelled("home", Role::Strong, size));
    lines.push(labelled("", Role::Dim, fit_end(&item.home, room)));
    lines.push(labelled("file", Role::Dim, fit_end(&item.file, room)));
    lines.extend(cubes(model, |cube| cube.good().is_some_and(|record| record.machine == item.name)));
    lines
}

fn project(model: &Model, item: &ProjectItem, width: usize) -> Vec<Line> {
    let room = width.saturating_sub(10);
    let link = if item.link { " (a link)" } else { "" };
    let mut lines = vec![
        labelled(
            "folder",
            Role::Text,
            format!("{}{link}", fit_end(&item.shown, room.saturating_sub(link.len()))),
        ),
        labelled("inside", Role::Text, format!("/projects/{}", item.name)),
        labelled(
            "changed",
            Role::Text,
            format!("{} ago", age(model.now_ms.saturating_sub(item.modified_ms))),
        ),
        match &item.entry {
            Some(entry) => labelled("entry", Role::Strong, entry.clone()),
            None => labelled("entry", Role::Dim, "that of the machine, else a shell"),
        },
        labelled("machine", Role::Text, model.machine.to_string()),
    ];
    if let Some(problem) = &item.problem {
        lines.extend(wrap(problem, width).into_iter().map(|text| line(Role::Error, text)));
    }
    let here =
        |cube: &CubeItem| cube.good().is_some_and(|record| record.project_path.as_ref() == Some(&item.path));
    lines.extend(cubes(model, here));
    lines
}

fn image(model: &Model, id: &str, width: usize) -> Vec<Line> {
    let about = model.world.images.iter().find(|image| image.name == id).map_or("", |image| &image.about);
    let mut lines = vec![labelled("about", Role::Text, about)];
    let detail = model.world.images.iter().find(|image| image.name == id).map(|image| &image.detail);
    for (label, text) in detail.into_iter().flatten() {
        lines.push(labelled(label, Role::Text, fit(text, width.saturating_sub(10))));
    }
    if id == "host" {
        let text = "This host's own system folders, read-only, with an /etc of its own: no download, always current. \
                    Nothing of your home, no keys, no sockets.";
        lines.push(Line::new());
        lines.extend(wrap(text, width).into_iter().map(|text| line(Role::Text, text)));
    }
    let used = |item: &&MachineItem| {
        let image = item.machine.as_ref().ok().and_then(|machine| machine.settings.image.as_ref());
        image.map_or(id == "host", |image| image.to_string() == id)
    };
    let names: Vec<String> =
        model.world.machines.iter().filter(used).map(|item| item.name.to_string()).collect();
    lines.push(Line::new());
    lines.push(labelled(
        "machines",
        Role::Text,
        if names.is_empty() { "none".into() } else { names.join(" ") },
    ));
    lines.extend(cubes(model, |cube| cube.good().is_some_and(|record| record.image.to_string() == id)));
    lines
}
