//! The `TRIPMINE_*` variables as settings.

use std::path::PathBuf;

use crate::config::error::nearest;
use crate::model::limits::{parse_cpus, parse_pids, parse_size, parse_timeout};
use crate::model::sanitize::printable;
use crate::model::{Failure, ImageRef, Limits, Name, Settings, VmSettings};

/// What stands behind `TRIPMINE_` in the variables that mean something, in lower case.
const NAMES: [&str; 15] = [
    "machine",
    "image",
    "jail",
    "vm_accel",
    "vm_kernel",
    "vm_engine",
    "net",
    "user",
    "seccomp",
    "memory",
    "cpus",
    "pids",
    "disk",
    "timeout",
    "home",
];

/// A warning for each of `keys` that looks like a slip of the fingers: a limit that is silently none would be worse.
#[must_use]
pub fn slips(keys: impl Iterator<Item = String>) -> Vec<String> {
    let slip = |key: String| {
        let name = key
            .strip_prefix("TRIPMINE_")
            .filter(|name| !NAMES.contains(&name.to_ascii_lowercase().as_str()))?;
        let near = nearest(name, &NAMES)?.to_ascii_uppercase();
        Some(format!("the variable `{}` means nothing: did you mean `TRIPMINE_{near}`?", printable(&key)))
    };
    keys.filter_map(slip).collect()
}

/// Settings from variables, the machine's name beside them.
///
/// # Errors
/// A variable whose value cannot be read, by name.
pub fn settings(lookup: impl Fn(&str) -> Option<String>) -> Result<(Settings, Option<Name>), Failure> {
    let settings = Settings {
        image: parse(&lookup, "TRIPMINE_IMAGE", ImageRef::parse)?,
        jail: parse(&lookup, "TRIPMINE_JAIL", str::parse)?,
        vm: VmSettings {
            accel: parse(&lookup, "TRIPMINE_VM_ACCEL", str::parse)?,
            kernel: parse(&lookup, "TRIPMINE_VM_KERNEL", absolute)?,
            engine: parse(&lookup, "TRIPMINE_VM_ENGINE", absolute)?,
        },
        net: parse(&lookup, "TRIPMINE_NET", str::parse)?,
        user: parse(&lookup, "TRIPMINE_USER", str::parse)?,
        seccomp: parse(&lookup, "TRIPMINE_SECCOMP", str::parse)?,
        limits: Limits {
            memory: parse(&lookup, "TRIPMINE_MEMORY", parse_size)?,
            cpus_milli: parse(&lookup, "TRIPMINE_CPUS", parse_cpus)?,
            pids: parse(&lookup, "TRIPMINE_PIDS", parse_pids)?,
            disk: parse(&lookup, "TRIPMINE_DISK", parse_size)?,
            timeout: parse(&lookup, "TRIPMINE_TIMEOUT", parse_timeout)?,
        },
        ..Settings::default()
    };
    Ok((settings, parse(&lookup, "TRIPMINE_MACHINE", Name::parse)?))
}

fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    if text.starts_with('/') { Ok(PathBuf::from(text)) } else { Err("it wants an absolute path") }
}

/// An empty value is as good as none, as for `NO_COLOR`.
fn parse<T, E: std::fmt::Display>(
    lookup: &impl Fn(&str) -> Option<String>,
    key: &str,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    lookup(key)
        .filter(|value| !value.is_empty())
        .map(|value| read(&value).map_err(|error| Failure::usage(format!("the variable `{key}`: {error}"))))
        .transpose()
}

/// The path of this program, for starting itself as a keeper.
///
/// # Errors
/// When /proc is not mounted.
pub fn own_program() -> Result<PathBuf, Failure> {
    let path = PathBuf::from("/proc/self/exe");
    if path.exists() {
        Ok(path)
    } else {
        Err(Failure::failed("cannot find tripmine's own program: `/proc` is not mounted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_and_refused_by_name() {
        let one = |wanted: &'static str, value: &'static str| {
            move |key: &str| (key == wanted).then(|| value.to_owned())
        };
        let (settings_read, machine) = settings(one("TRIPMINE_MACHINE", "work")).expect("valid");
        assert_eq!(machine.map(String::from).as_deref(), Some("work"));
        assert_eq!(settings_read, Settings::default());
        assert_eq!(settings(one("TRIPMINE_MEMORY", "")).expect("empty is none").0, Settings::default());
        let keys =
            ["TRIPMINE_MEMROY", "TRIPMINE_HOME", "TRIPMINE_TEST_X", "TRIPMINE", "MEMROY", "TRIPMINE_TIMEOUT"];
        assert_eq!(
            slips(keys.iter().map(ToString::to_string)),
            ["the variable `TRIPMINE_MEMROY` means nothing: did you mean `TRIPMINE_MEMORY`?"]
        );
        let failure = settings(one("TRIPMINE_MEMORY", "lots")).expect_err("no size");
        assert!(failure.message.contains("TRIPMINE_MEMORY"), "{failure}");
    }
}
