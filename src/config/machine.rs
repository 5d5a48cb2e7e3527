//! `machines/NAME.toml` ↔ [`Machine`].

use std::path::Path;

use crate::model::net::{ProxyAuth, Rule};
use crate::model::{CarryGroup, CarryPattern, Machine, Name};

use super::edit::{Edit, apply_edits};
use super::error::{ConfigError, Source};
use super::net::{NET_KEYS, holes_past_the_proxy, list, read_net};
use super::settings::{
    LIMIT_KEYS, SETTING_KEYS, folder, read_limit, read_setting, scalar, table, unknown_key, version,
};
use super::tree::{Entry, parse_toml};
use super::vm::{VM_KEYS, read_vm};

/// The colours that a machine may have on the screen, besides `#rrggbb`.
pub const COLOURS: [&str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/// The text of a machine that says nothing yet.
pub const EMPTY_MACHINE: &str = "version = 1\n";

/// Every key of a machine's file.
#[must_use]
pub fn machine_keys() -> Vec<&'static str> {
    let mut keys = vec!["version", "projects", "colour", "carry"];
    keys.extend(SETTING_KEYS);
    keys.extend(VM_KEYS);
    keys.extend(NET_KEYS);
    keys.extend(LIMIT_KEYS);
    keys
}

/// Reads the text of machine `name`; `file` is only for messages.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse_machine(name: &Name, file: &Path, text: &str) -> Result<Machine, ConfigError> {
    let source = Source { file, text };
    let mut machine = Machine::new(name.clone());
    let entries = parse_toml(&source)?;
    for entry in &entries {
        match entry.key.as_str() {
            "version" => version(&source, entry)?,
            "projects" => machine.projects = Some(folder(&source, entry)?),
            "colour" => {
                let text = scalar(&source, entry)?;
                let hex = text
                    .strip_prefix('#')
                    .is_some_and(|h| h.len() == 6 && h.bytes().all(|b| b.is_ascii_hexdigit()));
                if !hex && !COLOURS.contains(&text) {
                    let message =
                        format!("`{text}` is no colour: `#rrggbb` or one of {}", COLOURS.join(", "));
                    return Err(source.unknown(&entry.node.span, message, text, &COLOURS));
                }
                machine.colour = Some(text.to_owned());
            }
            "carry" => machine.carry = Some(carry(&source, entry)?),
            _ if read_setting(&source, &mut machine.settings, entry)?
                || read_vm(&source, &mut machine.settings, entry)?
                || read_net(&source, &mut machine.settings, entry)?
                || read_limit(&source, &mut machine.settings, entry)? => {}
            "limits" => {
                let mut error = unknown_key(&source, entry, &[]);
                error.hint = Some(format!("write {} at the top of the file", LIMIT_KEYS.join(", ")));
                return Err(error);
            }
            _ => return Err(unknown_key(&source, entry, &machine_keys())),
        }
    }
    holes_past_the_proxy(&source, &machine.settings, &entries)?;
    Ok(machine)
}

/// Groups of places in the home: a name, then its patterns.
fn carry(source: &Source<'_>, entry: &Entry) -> Result<Vec<CarryGroup>, ConfigError> {
    let mut groups = Vec::new();
    for group in table(source, entry)? {
        let name = Name::parse(&group.key)
            .map_err(|error| source.error(&group.key_span, format!("`carry`: {error}")))?;
        groups.push(CarryGroup { name, patterns: list(source, group, CarryPattern::parse)? });
    }
    Ok(groups)
}

/// The text of `machine`, which [`parse_machine`] reads back as the same value.
///
/// # Errors
/// Never for a machine that was itself parsed; an odd value is refused rather than written wrong.
pub fn render_machine(machine: &Machine) -> Result<String, ConfigError> {
    apply_edits(Path::new("machine"), EMPTY_MACHINE, &edits_of(machine))
}

fn edits_of(machine: &Machine) -> Vec<Edit> {
    let settings = &machine.settings;
    let limits = &settings.limits;
    let mark = |text: String, required: bool| if required { format!("{text}!") } else { text };
    let mut edits = Vec::new();
    let mut set = |key: &'static str, value: Option<String>| {
        edits.extend(value.map(|value| Edit::Set { key, value }));
    };
    set("image", settings.image.as_ref().map(ToString::to_string));
    set("jail", settings.jail.map(|value| value.to_string()));
    set("vm-accel", settings.vm.accel.map(|value| value.to_string()));
    set("vm-kernel", settings.vm.kernel.as_ref().map(|path| path.display().to_string()));
    set("vm-engine", settings.vm.engine.as_ref().map(|path| path.display().to_string()));
    set("net", settings.net.map(|value| value.to_string()));
    set("proxy", settings.reach.proxy.as_ref().map(ToString::to_string));
    set("lan", settings.reach.lan.map(|value| value.to_string()));
    set("setup", settings.reach.setup.map(|value| value.to_string()));
    set("user", settings.user.map(|value| value.to_string()));
    set("seccomp", settings.seccomp.map(|value| value.to_string()));
    // Sizes are written in bytes where the short form would round.
    let size = |limit: crate::model::Limit<crate::model::ByteSize>| {
        let short = limit.value.to_string();
        let exact = crate::model::ByteSize::parse(&short) == Ok(limit.value);
        mark(if exact { short } else { limit.value.get().to_string() }, limit.required)
    };
    set("memory", limits.memory.map(size));
    set(
        "cpus",
        limits
            .cpus_milli
            .map(|limit| mark(format!("{}.{:03}", limit.value / 1000, limit.value % 1000), limit.required))
            .map(|text| text.replace(".000", "")),
    );
    set("pids", limits.pids.map(|limit| mark(limit.value.to_string(), limit.required)));
    set("disk", limits.disk.map(size));
    set("timeout", limits.timeout.map(|time| humantime::format_duration(time).to_string()));
    set("projects", machine.projects.as_ref().map(|path| path.display().to_string()));
    set("colour", machine.colour.clone());
    match &settings.reach.auth {
        Some(ProxyAuth::File(file)) => {
            edits.push(Edit::Set { key: "proxy-auth-file", value: file.display().to_string() });
        }
        Some(ProxyAuth::Command(argv)) => {
            edits.push(Edit::List { key: "proxy-auth-command", values: argv.clone() });
        }
        Some(ProxyAuth::None) | None => {}
    }
    let texts = |list: &[Rule]| list.iter().map(ToString::to_string).collect();
    if let Some(rules) = &settings.reach.rules {
        edits.push(Edit::List { key: "allow", values: texts(rules) });
    }
    if let Some(holes) = &settings.reach.holes {
        edits.push(Edit::List { key: "holes", values: holes.iter().map(ToString::to_string).collect() });
    }
    if let Some(entry) = &settings.entry {
        edits.push(Edit::Entry(entry.clone()));
    }
    if !settings.ports.is_empty() {
        edits.push(Edit::Ports(settings.ports.clone()));
    }
    edits.extend(settings.env.iter().cloned().map(Edit::Env));
    // A table without a group says that there is none.
    if machine.carry.as_ref().is_some_and(Vec::is_empty) {
        edits.push(Edit::NoCarry);
    }
    edits.extend(machine.carry.iter().flatten().cloned().map(Edit::Carry));
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Machine, ConfigError> {
        parse_machine(&Name::parse("work").expect("name"), Path::new("work.toml"), text)
    }

    const FULL: &str = "version = 1\nimage = \"dev@2\"\njail = \"container\"\nnet = \"none\"\nallow = [\"a.example:443\"]\n\
        proxy = \"socks5h://h:1080\"\nproxy-auth-command = [\"a\", \"b c\"]\nholes = [\"10.0.0.1:80\"]\nlan = true\nsetup = \"open\"\nuser = \"root\"\n\
        seccomp = \"strict\"\nmemory = \"512M!\"\ncpus = 1.5\npids = 300\ndisk = 12345\ntimeout = \"1h 30m\"\n\
        entry = \"sh -c 'echo hi'\"\nports = [\"0.0.0.0:8080:80\", 3000]\nprojects = \"~/p\"\ncolour = \"#aabbcc\"\n[env]\nA = \"1 2\"\nB = 3\n[carry]\nnotes = [\".notes\", \".app/*/log\"]\nb = \".b\"\n";

    #[test]
    fn every_key_reads_and_writes_back() {
        let machine = parse(FULL).expect("full");
        assert_eq!(machine.settings.entry.as_deref(), Some(&["sh", "-c", "echo hi"].map(String::from)[..]));
        assert_eq!((machine.settings.env.len(), machine.settings.ports.len()), (2, 2));
        assert_eq!(machine.settings.limits.cpus_milli.map(|l| l.value), Some(1500));
        assert!(machine.settings.limits.memory.is_some_and(|l| l.required));
        let groups: Vec<String> = machine.carry_groups().iter().map(|group| group.name.to_string()).collect();
        assert_eq!(groups, ["notes", "b"]);
        let text = render_machine(&machine).expect("render");
        assert_eq!(parse(&text).expect(&text), machine);
        assert_eq!(parse("").expect("empty"), Machine::new(Name::parse("work").expect("name")));
    }

    #[test]
    fn mistakes_have_place_and_hint() {
        for (text, shown, hint) in [
            (
                "image = \"host\"\nimgae = 1",
                "work.toml:2:1: unknown key `imgae`",
                Some("did you mean `image`?"),
            ),
            ("net = \"nome\"", "work.toml:1:7: `nome` is no net policy", Some("did you mean `none`?")),
            ("memory = \"lots\"", "work.toml:1:10: `memory`: `lots` is not a size", None),
            ("pids = [3]", "work.toml:1:8: `pids` wants a single value, not a list", None),
            ("entry = \"'open\"", "work.toml:1:9: `entry` cannot be split", None),
            ("entry = []", "work.toml:1:9: `entry` is empty", None),
            ("projects = \"rel\"", "work.toml:1:12: `projects` wants an absolute path", None),
            ("colour = \"gren\"", "work.toml:1:10: `gren` is no colour", Some("did you mean `green`?")),
            (
                "version = 2",
                "work.toml:1:11: version 2 is not known",
                Some("use the tripmine that wrote it, or a newer one"),
            ),
            ("[env]\n\"A-B\" = 1", "work.toml:2:1: `A-B` is not a variable's name", None),
            ("env = 3", "work.toml:1:7: `env` wants a table", None),
            ("carry = 3", "work.toml:1:9: `carry` wants a table", None),
            ("[carry]\na = [\"/etc\"]", "work.toml:2:6: `a`: `/etc` is no place in a home", None),
            (
                "[limits]\npids = 3",
                "work.toml:1:2: unknown key `limits`",
                Some("write memory, cpus, pids, disk, timeout at the top of the file"),
            ),
            ("net = \"none\"\nnet = \"none\"", "work.toml:2:1: duplicate key", None),
            ("net = ", "work.toml:1:7: ", None),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().starts_with(shown), "{text:?}: {error}");
            assert_eq!(error.hint.as_deref(), hint, "{text:?}");
        }
    }
}
