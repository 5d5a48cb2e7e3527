//! A plan as lines for a person: `--dry-run` and the launch sheet. Owns the wording and the order;
//! every text from outside passes `printable`, and values that look secret are not shown.

mod net;

use std::fmt::Write as _;
use std::path::Path;

use super::env::looks_secret;
use super::launch::{
    CgroupPlan, IdMap, LandlockAccess, LaunchPlan, MapWriter, MountKind, StdioPlan, UpperPlan,
};
use super::limits::{cpus_text, seconds};
use crate::model::sanitize::{printable, printable_bytes};
use crate::model::{Jail, Keep, RunAs, SeccompProfile};

/// The longest value that is shown whole, in characters.
const VALUE_MAX: usize = 100;
/// The width of the labels.
const LABEL: usize = 14;

/// The plan, one line each, without trailing blanks. Sections are parted by empty lines.
#[must_use]
pub fn explain(plan: &LaunchPlan) -> Vec<String> {
    let mut page = Page::default();
    identity(plan, &mut page);
    page.part();
    user(plan, &mut page);
    page.part();
    files(plan, &mut page);
    page.part();
    confinement(plan, &mut page);
    forwards(plan, &mut page);
    page.part();
    limits(plan, &mut page);
    page.part();
    started(plan, &mut page);
    page.part();
    settings(plan, &mut page);
    page.lines
}

/// Labelled lines; a repeated label is left blank.
#[derive(Default)]
struct Page {
    lines: Vec<String>,
    label: &'static str,
}

impl Page {
    fn row(&mut self, label: &'static str, text: impl AsRef<str>) {
        let shown = if self.label == label { "" } else { label };
        self.label = label;
        self.lines.push(format!("{shown:<LABEL$}{}", text.as_ref()).trim_end().to_owned());
    }

    fn part(&mut self) {
        self.label = "";
        self.lines.push(String::new());
    }
}

fn path(path: &Path) -> String {
    printable_bytes(path.as_os_str().as_encoded_bytes())
}

fn identity(plan: &LaunchPlan, page: &mut Page) {
    page.row("cube", plan.id.as_str());
    let name = plan.name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
    page.row(
        "kept",
        match plan.keep {
            Keep::Throwaway => "no: changes to the system vanish with the cube".to_owned(),
            Keep::Durable => format!("yes{name}: changes to the system stay and are entered again"),
        },
    );
    page.row("machine", plan.machine.as_str());
    match &plan.project {
        None => page.row("project", "none"),
        Some(project) => page.row(
            "project",
            format!(
                "{}  {} seen at {}",
                printable(&project.name),
                path(&project.path),
                printable(&project.target)
            ),
        ),
    }
    page.row("image", printable(&plan.image.to_string()));
    page.row(
        "host name",
        match plan.in_place {
            Some(_) => "the host's own".to_owned(),
            None => printable(&plan.hostname),
        },
    );
}

fn map_text(map: &[IdMap]) -> String {
    let lines: Vec<_> = map
        .iter()
        .map(|line| match line.count {
            1 => format!("{} is {} outside", line.inside, line.outside),
            count => {
                let last = |first: u32| u64::from(first) + u64::from(count) - 1;
                format!(
                    "{}-{} are {}-{} outside",
                    line.inside,
                    last(line.inside),
                    line.outside,
                    last(line.outside)
                )
            }
        })
        .collect();
    lines.join(", ")
}

fn user(plan: &LaunchPlan, page: &mut Page) {
    let user = &plan.user;
    let asked = match user.run_as {
        RunAs::Me if plan.in_place.is_some() => "me: as outside, without any capability",
        RunAs::Me => "me: no capability",
        RunAs::Root if user.idmapped_mounts => "root inside, nobody outside",
        RunAs::Root => "root inside, no more than you outside",
    };
    let name = printable(&user.name);
    page.row(
        "user",
        format!("{name} ({}:{}), home {}  ({asked})", user.uid, user.gid, printable(&user.home)),
    );
    let maps_by = match user.map_writer {
        MapWriter::Own => Some("the cube's first process, its own id only"),
        MapWriter::Keeper => Some("the keeper, as the host's root"),
        MapWriter::Helper => Some("newuidmap and newgidmap"),
        MapWriter::Nobody => None,
    };
    if let Some(maps_by) = maps_by {
        page.row("user ids", map_text(&user.uid_map));
        page.row("group ids", map_text(&user.gid_map));
        page.row("maps by", maps_by);
    }
    if user.idmapped_mounts {
        page.row("mounts", "id-mapped, so files on disk keep their owner");
    }
    let capabilities = if user.capabilities.is_empty() {
        "none".to_owned()
    } else {
        user.capabilities
            .iter()
            .map(|name| name.trim_start_matches("CAP_").to_lowercase())
            .collect::<Vec<_>>()
            .join(" ")
    };
    page.row("capabilities", capabilities);
}

fn files(plan: &LaunchPlan, page: &mut Page) {
    for lower in &plan.root.lowers {
        page.row("root", format!("{}  read-only layer", path(lower)));
    }
    match &plan.root.upper {
        UpperPlan::Tmpfs { size } => {
            page.row("changes", format!("in memory, at most {size}, gone at the end"))
        }
        UpperPlan::Disk { dir } => page.row("changes", format!("on disk in {}", path(dir))),
        UpperPlan::Nothing => page.row("root", "the host's own: nothing of the system is written"),
    }
    if let Some(place) = &plan.in_place {
        page.row("temporary", format!("{}  gone at the end", path(&place.tmp)));
    }
    for tree in &plan.root.system {
        let how = if tree.writable { "changes go to the throwaway layer" } else { "read-only" };
        page.row("system", format!("{}  {how}", path(&tree.path)));
    }
    for mount in &plan.mounts {
        let kind = match mount.kind {
            MountKind::Home if plan.ephemeral => "home, changes are dropped",
            MountKind::Home => "home",
            MountKind::Project => "project",
            MountKind::Extra => "extra",
            MountKind::Tool => "tool",
        };
        let access = match (&mount.review, mount.read_only) {
            (Some(_), _) => "changes are held until `tripmine apply`",
            (None, true) => "read-only",
            (None, false) => "read and write",
        };
        let what = if mount.directory { "" } else { ", one file" };
        page.row(
            "mount",
            format!("{}  from {}  {access} ({kind}{what})", printable(&mount.target), path(&mount.source)),
        );
    }
}

fn forwards(plan: &LaunchPlan, page: &mut Page) {
    for map in &plan.forwards {
        let who = if map.is_public() { "  OPEN TO OTHER HOSTS" } else { "" };
        page.row(
            "forward",
            printable(&format!("{} of this host leads to {} inside{who}", map.host, map.cube)),
        );
    }
}

fn confinement(plan: &LaunchPlan, page: &mut Page) {
    page.row(
        "jail",
        match plan.jail {
            Jail::Landlock => {
                "landlock: in place; it sees the host's processes and the names of files, and the kernel is shared"
            }
            Jail::Container => "container: the kernel is shared with the host",
            Jail::Microvm => "microvm: a kernel of its own",
        },
    );
    let words: Vec<_> = plan.layers.iter().map(|layer| layer.word()).collect();
    for chunk in words.chunks(8) {
        page.row("layers", chunk.join(" "));
    }
    for line in net::lines(plan) {
        page.row("network", line);
    }
    page.row(
        "seccomp",
        match plan.seccomp {
            SeccompProfile::Default => "default: dangerous and unknown system calls are refused",
            SeccompProfile::Strict => "strict: only system calls known to be harmless",
            SeccompProfile::Debug => "debug: default, with ptrace for debuggers",
        },
    );
    let landlock = &plan.landlock;
    let mut scopes = String::new();
    for (on, text) in [(landlock.scope_abstract, "abstract sockets"), (landlock.scope_signal, "signals")] {
        if on {
            let _infallible = write!(scopes, "; {text} stay inside");
        }
    }
    if landlock.no_tcp {
        scopes.push_str("; no TCP");
    }
    page.row("landlock", format!("ABI {} (at least {}){scopes}", landlock.abi, landlock.required_abi));
    for rule in &landlock.rules {
        let access = match rule.access {
            LandlockAccess::ReadExecute => "read, execute",
            LandlockAccess::ReadWrite => "read, write, execute",
            LandlockAccess::ReadWriteFiles => "read, write existing files",
            LandlockAccess::Devices => "devices",
        };
        let optional = if rule.optional { "  (if it exists)" } else { "" };
        page.row("landlock", format!("{}  {access}{optional}", printable(&rule.path)));
    }
}

fn limits(plan: &LaunchPlan, page: &mut Page) {
    let limits = &plan.limits;
    let none = || "no limit".to_owned();
    page.row("memory", limits.memory.map_or_else(none, |(size, by)| format!("{size}  ({})", by.word())));
    page.row(
        "cpus",
        limits.cpus_milli.map_or_else(none, |(milli, by)| format!("{}  ({})", cpus_text(milli), by.word())),
    );
    page.row("processes", limits.pids.map_or_else(none, |(count, by)| format!("{count}  ({})", by.word())));
    page.row("disk", limits.disk.map_or_else(none, |(size, by)| format!("{size}  ({})", by.word())));
    page.row("open files", format!("{} for each process  (rlimit)", limits.open_files));
    page.row(
        "time",
        limits.timeout.map_or_else(none, |time| format!("{}  (stopped by the keeper)", seconds(time))),
    );
    page.row("stop", format!("TERM, then KILL after {}", seconds(plan.stop_grace)));
    match &limits.cgroup {
        None => page.row("cgroup", "none"),
        Some(CgroupPlan::V2 { dir }) => page.row("cgroup", format!("{}  (version 2)", path(dir))),
        Some(CgroupPlan::V1 { dirs }) => {
            for (controller, dir) in dirs {
                page.row("cgroup", format!("{}  ({})", path(dir), printable(controller)));
            }
        }
    }
}

/// A word as a shell would take it back.
fn quoted(word: &str) -> String {
    let plain =
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&b));
    if plain { word.to_owned() } else { format!("'{}'", printable(&word.replace('\'', "'\\''"))) }
}

fn short(text: &str) -> String {
    let shown = printable(text);
    if shown.chars().count() <= VALUE_MAX {
        return shown;
    }
    let start: String = shown.chars().take(VALUE_MAX).collect();
    format!("{start}… ({} bytes)", text.len())
}

fn started(plan: &LaunchPlan, page: &mut Page) {
    let command: Vec<_> = plan.entry.argv.iter().map(|word| short(&quoted(word))).collect();
    page.row("starts", command.join(" "));
    page.row("in", printable(&plan.entry.cwd));
    let how = |direct: bool| if direct { "direct" } else { "through the keeper" };
    page.row(
        "streams",
        match plan.stdio {
            StdioPlan::Pty { rows, cols } => format!("a terminal of its own, {cols} columns by {rows} rows"),
            StdioPlan::Pipes { stdin_direct, stdout_direct, stderr_direct } => format!(
                "pipes: stdin {}, stdout {}, stderr {}",
                how(stdin_direct),
                how(stdout_direct),
                how(stderr_direct)
            ),
        },
    );
    for variable in &plan.env {
        let value = if looks_secret(variable) {
            format!("(hidden, {} bytes)", variable.value.len())
        } else {
            short(&variable.value)
        };
        page.row("environment", format!("{}={value}", printable(&variable.key)));
    }
}

fn settings(plan: &LaunchPlan, page: &mut Page) {
    let width = |text: &str| text.chars().count();
    let keys = plan.settings.iter().map(|s| width(&s.key)).max().unwrap_or(0);
    let values = plan.settings.iter().map(|s| width(&short(&s.value))).max().unwrap_or(0);
    for setting in &plan.settings {
        page.row(
            "settings",
            format!(
                "{:<keys$}  {:<values$}  {}",
                printable(&setting.key),
                short(&setting.value),
                setting.origin.word()
            ),
        );
    }
    if !plan.warnings.is_empty() {
        page.part();
    }
    for warning in &plan.warnings {
        page.label = "";
        page.row("warning", printable(warning));
    }
}

#[cfg(test)]
mod tests {
    use super::super::env::EnvChoice;
    use super::super::launch::Origin;
    use super::super::resolve::{Typed, What, resolve};
    use super::super::samples::facts;
    use super::*;
    use crate::model::{RunAs, Settings, limits};

    fn text(change: impl Fn(&mut Typed, &mut crate::plan::Facts)) -> String {
        let (mut typed, mut facts) = (Typed::default(), facts());
        change(&mut typed, &mut facts);
        explain(&resolve(&typed, &facts).expect("a plan")).join("\n")
    }

    #[test]
    fn a_plain_launch_reads_like_this() {
        assert_eq!(text(|_, _| {}), include_str!("explain/plain.txt").trim_end());
    }

    #[test]
    fn an_unusual_launch_reads_like_this() {
        let shown = text(|typed, facts| {
            typed.settings.user = Some(RunAs::Root);
            typed.settings.limits.memory = limits::parse_size("512M").ok();
            typed.settings.limits.cpus_milli = limits::parse_cpus("1.5").ok();
            typed.settings.limits.timeout = limits::parse_timeout("90m").ok();
            typed.ephemeral = true;
            typed.tty = Some(false);
            typed.keep = crate::model::Name::parse("box").ok();
            typed.what = What::Command(vec!["sh".into(), "-c".into(), "echo 'a b'".into(), String::new()]);
            typed.env = ["API_TOKEN", "DB=postgres://u:pw@db/x", "NOTE=a\x1b[2Jb"]
                .iter()
                .map(|text| EnvChoice::parse(text).expect("good"))
                .collect();
            facts.machine_origin = Origin::Flag;
            facts.project_file = Some(Settings { user: None, ..Settings::default() });
        });
        assert_eq!(shown, include_str!("explain/unusual.txt").trim_end());
    }

    #[test]
    fn secrets_and_controls_are_not_shown() {
        let shown = text(|typed, facts| {
            typed.env = ["API_TOKEN", "URL=https://u:pw@host/", "NOTE=a\x1b]52;c;x\x07b\nc"]
                .iter()
                .map(|text| EnvChoice::parse(text).expect("good"))
                .collect();
            typed.what = What::Command(vec!["a\x1b[2Jb".into(), "x".repeat(5000)]);
            facts.project.as_mut().expect("one").path = "/home/ann/projects/\x1b[31m\u{202e}x".into();
        });
        assert!(!shown.contains("hunter2") && !shown.contains("u:pw"), "{shown}");
        assert!(shown.contains("API_TOKEN=(hidden, 7 bytes)"), "{shown}");
        assert!(shown.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{shown:?}");
        assert!(shown.lines().all(|line| line.chars().count() < 300 && line.trim_end() == line), "{shown}");
    }
}
