//! How machines are listed and shown. Values of variables are not: they may be secrets.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::ctx::Ctx;
use crate::model::net::ProxyAuth;
use crate::model::{CarryGroup, Failure, Machine, Name, PortMap, Settings};
use crate::store::usage::{Usage, usage};
use crate::store::{machines, projects};

/// A machine for a list, as JSON has it.
#[derive(Debug, Serialize)]
pub(super) struct MachineView {
    name: Name,
    settings: Shown,
    projects: PathBuf,
    colour: Option<String>,
    /// The carry groups of its home; none: the usual ones.
    carry: Option<Vec<CarryGroup>>,
    file: PathBuf,
    home: PathBuf,
    cubes: Vec<String>,
    /// What is wrong with its file.
    error: Option<String>,
}

/// Settings as texts, in the order shown.
#[derive(Debug, Default, Serialize)]
struct Shown {
    image: Option<String>,
    jail: Option<String>,
    net: Option<String>,
    allow: Option<Vec<String>>,
    proxy: Option<String>,
    /// Where its secret comes from, never what it is.
    proxy_auth: Option<String>,
    holes: Option<Vec<String>>,
    lan: Option<bool>,
    setup: Option<String>,
    user: Option<String>,
    seccomp: Option<String>,
    memory: Option<String>,
    cpus: Option<String>,
    pids: Option<String>,
    disk: Option<String>,
    timeout: Option<String>,
    entry: Option<Vec<String>>,
    ports: Vec<PortMap>,
    env_names: Vec<String>,
}

impl Shown {
    fn of(settings: &Settings) -> Self {
        let mark = |text: String, required| if required { format!("{text}!") } else { text };
        let limits = &settings.limits;
        Self {
            image: settings.image.as_ref().map(ToString::to_string),
            jail: settings.jail.map(|value| value.to_string()),
            net: settings.net.map(|value| value.to_string()),
            allow: settings.reach.rules.as_deref().map(texts),
            proxy: settings.reach.proxy.as_ref().map(ToString::to_string),
            proxy_auth: settings.reach.auth.as_ref().and_then(auth),
            holes: settings.reach.holes.as_deref().map(texts),
            lan: settings.reach.lan,
            setup: settings.reach.setup.map(|value| value.to_string()),
            user: settings.user.map(|value| value.to_string()),
            seccomp: settings.seccomp.map(|value| value.to_string()),
            memory: limits.memory.map(|limit| mark(limit.value.to_string(), limit.required)),
            cpus: limits
                .cpus_milli
                .map(|limit| mark((f64::from(limit.value) / 1000.0).to_string(), limit.required)),
            pids: limits.pids.map(|limit| mark(limit.value.to_string(), limit.required)),
            disk: limits.disk.map(|limit| mark(limit.value.to_string(), limit.required)),
            timeout: limits.timeout.map(|time| humantime::format_duration(time).to_string()),
            entry: settings.entry.clone(),
            ports: settings.ports.clone(),
            env_names: settings.env.iter().map(|variable| variable.key.clone()).collect(),
        }
    }
}

impl MachineView {
    pub(super) fn of(name: &Name, machine: Result<Machine, Failure>, ctx: &Ctx) -> Self {
        let known = machine.as_ref().ok();
        Self {
            name: name.clone(),
            settings: known.map(|machine| Shown::of(&machine.settings)).unwrap_or_default(),
            projects: projects::root(known, &ctx.config, &ctx.home),
            colour: known.and_then(|machine| machine.colour.clone()),
            carry: known.and_then(|machine| machine.carry.clone()),
            file: ctx.layout.machine_file(name),
            home: ctx.layout.home(name),
            cubes: ctx.cubes_on(name),
            error: machine.err().map(|failure| failure.to_string()),
        }
    }

    pub(super) fn show(&self, json: bool, ctx: &Ctx) -> Result<(), Failure> {
        let used = usage(&self.home);
        if json {
            #[derive(Serialize)]
            struct Whole<'v> {
                version: u32,
                machine: &'v MachineView,
                home_usage: Usage,
            }
            return ctx.out.json(&Whole { version: 1, machine: self, home_usage: used });
        }
        let settings = &self.settings;
        let unset = |default: &str| format!("{default} (not set)");
        let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| unset(default));
        let home = if self.home.exists() { used.text() } else { "made at the first launch".to_owned() };
        let ports: Vec<String> = settings.ports.iter().map(ToString::to_string).collect();
        let ports = ports.join(" ");
        let mut rows = vec![
            ("machine", self.name.to_string()),
            ("image", or(&settings.image, "host")),
            ("jail", or(&settings.jail, "container")),
        ];
        rows.extend(reach(settings));
        rows.extend([
            ("user", or(&settings.user, "me")),
            ("seccomp", or(&settings.seccomp, "default")),
            ("memory", or(&settings.memory, "no limit of its own")),
            ("cpus", or(&settings.cpus, "no limit of its own")),
            ("pids", or(&settings.pids, "no limit of its own")),
            ("disk", or(&settings.disk, "no limit of its own")),
            ("timeout", or(&settings.timeout, "none")),
            ("entry", settings.entry.as_ref().map_or_else(|| unset("a shell"), shell_words::join)),
            ("env", if settings.env_names.is_empty() { unset("none") } else { settings.env_names.join(" ") }),
            ("ports", if settings.ports.is_empty() { unset("none") } else { ports }),
            ("colour", or(&self.colour, "the theme's")),
            ("carry", self.carry.as_ref().map_or_else(|| unset("the usual"), |groups| carry(groups))),
            ("projects", self.projects.display().to_string()),
            ("home", format!("{} ({home})", self.home.display())),
            ("file", self.file.display().to_string()),
            ("cubes", if self.cubes.is_empty() { "none".to_owned() } else { self.cubes.join(" ") }),
        ]);
        for (key, value) in rows {
            ctx.out.line(format!("{key:<9} {value}"));
        }
        Ok(())
    }
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn auth(auth: &ProxyAuth) -> Option<String> {
    match auth {
        ProxyAuth::None => None,
        ProxyAuth::File(file) => Some(format!("file {}", file.display())),
        ProxyAuth::Command(argv) => Some(format!("command {}", shell_words::join(argv))),
    }
}

/// The net policy, and beneath it what goes with it.
fn reach(settings: &Shown) -> Vec<(&'static str, String)> {
    let mut lines = vec![("net", settings.net.clone().unwrap_or_else(|| "none (not set)".to_owned()))];
    let mut add =
        |key: &str, value: Option<String>| lines.extend(value.map(|value| ("", format!("{key} {value}"))));
    add("allows", settings.allow.as_ref().map(|rules| rules.join(" ")));
    add("through", settings.proxy.clone());
    add("secret from", settings.proxy_auth.clone());
    add("past it", settings.holes.as_ref().map(|holes| holes.join(" ")));
    add("lan", settings.lan.map(|lan| lan.to_string()));
    add("during the set-up", settings.setup.clone());
    lines
}

/// What a copy of the home asks about, in a line.
fn carry(groups: &[CarryGroup]) -> String {
    if groups.is_empty() {
        return "nothing is left out".to_owned();
    }
    let group = |group: &CarryGroup| {
        let places: Vec<String> = group.patterns.iter().map(ToString::to_string).collect();
        format!("{}={}", group.name, places.join(","))
    };
    groups.iter().map(group).collect::<Vec<_>>().join(" ")
}

pub(super) fn list(json: bool, ctx: &Ctx) -> Result<(), Failure> {
    let views: Vec<MachineView> = machines::list(&ctx.layout)?
        .into_iter()
        .map(|(name, machine)| MachineView::of(&name, machine, ctx))
        .collect();
    if json {
        #[derive(Serialize)]
        struct Whole<'v> {
            version: u32,
            machines: &'v [MachineView],
        }
        return ctx.out.json(&Whole { version: 1, machines: &views });
    }
    let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            if view.error.is_some() {
                return vec![view.name.to_string(), "(its file is wrong)".to_owned()];
            }
            vec![
                view.name.to_string(),
                or(&view.settings.image, "host"),
                or(&view.settings.jail, "container"),
                or(&view.settings.net, "none"),
                or(&view.settings.user, "me"),
                view.cubes.len().to_string(),
            ]
        })
        .collect();
    ctx.out.table(&["NAME", "IMAGE", "JAIL", "NET", "USER", "CUBES"], &rows);
    for error in views.iter().filter_map(|view| view.error.as_ref()) {
        ctx.out.note(format!("warning: {error}"));
    }
    Ok(())
}
