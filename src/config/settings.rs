//! Reads the keys that machines, project files and the configuration's `[defaults]` share.

use crate::model::forward::PortMapError;
use crate::model::limits::{parse_cpus, parse_pids, parse_size, parse_timeout};
use crate::model::sanitize::printable;
use crate::model::{EnvVar, ImageRef, JailChoice, NetPolicyKind, PortMap, RunAs, SeccompProfile, Settings};

use super::error::{ConfigError, Source};
use super::tree::{Entry, Node, Value};

/// The keys of [`Settings`] that stand for one value each, without limits.
pub const SETTING_KEYS: [&str; 8] = ["image", "jail", "net", "user", "seccomp", "entry", "env", "ports"];

/// The keys of the limits.
pub const LIMIT_KEYS: [&str; 5] = ["memory", "cpus", "pids", "disk", "timeout"];

/// Reads `entry` into `settings` when it is one of [`SETTING_KEYS`]; false when it is not.
pub(crate) fn read_setting(
    source: &Source<'_>,
    settings: &mut Settings,
    entry: &Entry,
) -> Result<bool, ConfigError> {
    match entry.key.as_str() {
        "image" => {
            let text = scalar(source, entry)?;
            settings.image = Some(
                ImageRef::parse(text)
                    .map_err(|error| source.error(&entry.node.span, format!("`image`: {error}")))?,
            );
        }
        "jail" => settings.jail = Some(word(source, entry, JailChoice::WORDS)?),
        "net" => settings.net = Some(word(source, entry, NetPolicyKind::WORDS)?),
        "user" => settings.user = Some(word(source, entry, RunAs::WORDS)?),
        "seccomp" => settings.seccomp = Some(word(source, entry, SeccompProfile::WORDS)?),
        "entry" => settings.entry = Some(argv(source, entry)?),
        "env" => settings.env = env(source, entry)?,
        "ports" => settings.ports = ports(source, entry)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Reads `entry` into the limits when it is one of [`LIMIT_KEYS`]; false when it is not.
pub(crate) fn read_limit(
    source: &Source<'_>,
    settings: &mut Settings,
    entry: &Entry,
) -> Result<bool, ConfigError> {
    if !LIMIT_KEYS.contains(&entry.key.as_str()) {
        return Ok(false);
    }
    let text = scalar(source, entry)?;
    let limits = &mut settings.limits;
    let read = match entry.key.as_str() {
        "memory" => parse_size(text).map(|limit| limits.memory = Some(limit)),
        "cpus" => parse_cpus(text).map(|limit| limits.cpus_milli = Some(limit)),
        "pids" => parse_pids(text).map(|limit| limits.pids = Some(limit)),
        "disk" => parse_size(text).map(|limit| limits.disk = Some(limit)),
        _ => parse_timeout(text).map(|time| limits.timeout = Some(time)),
    };
    read.map_err(|error| source.error(&entry.node.span, format!("`{}`: {error}", entry.key)))?;
    Ok(true)
}

/// Refuses a key that nobody reads.
pub(crate) fn unknown_key(source: &Source<'_>, entry: &Entry, known: &[&str]) -> ConfigError {
    source.unknown(
        &entry.key_span,
        format!("unknown key `{}`", printable(&entry.key.chars().take(64).collect::<String>())),
        &entry.key,
        known,
    )
}

/// The text of a single value.
pub(crate) fn scalar<'e>(source: &Source<'_>, entry: &'e Entry) -> Result<&'e str, ConfigError> {
    match &entry.node.value {
        Value::Scalar(text) => Ok(text),
        other => Err(source
            .error(&entry.node.span, format!("`{}` wants a single value, not {}", entry.key, other.what()))),
    }
}

/// A table's entries.
pub(crate) fn table<'e>(source: &Source<'_>, entry: &'e Entry) -> Result<&'e [Entry], ConfigError> {
    match &entry.node.value {
        Value::Table(entries) => Ok(entries),
        other => {
            Err(source
                .error(&entry.node.span, format!("`{}` wants a table, not {}", entry.key, other.what())))
        }
    }
}

/// One of a few words.
pub(crate) fn word<T: std::str::FromStr<Err = String>>(
    source: &Source<'_>,
    entry: &Entry,
    words: &[&str],
) -> Result<T, ConfigError> {
    let text = scalar(source, entry)?;
    text.parse().map_err(|message: String| source.unknown(&entry.node.span, message, text, words))
}

/// The version of a file: absent is 1, anything else is refused.
pub(crate) fn version(source: &Source<'_>, entry: &Entry) -> Result<(), ConfigError> {
    match scalar(source, entry)? {
        "1" => Ok(()),
        other => {
            let mut error = source.error(
                &entry.node.span,
                format!("version {} is not known to this tripmine, which reads version 1", printable(other)),
            );
            error.hint = Some("use the tripmine that wrote it, or a newer one".to_owned());
            Err(error)
        }
    }
}

/// A folder: absolute, or `~` and `~/…`. Stays as written.
pub(crate) fn folder(source: &Source<'_>, entry: &Entry) -> Result<std::path::PathBuf, ConfigError> {
    let text = scalar(source, entry)?;
    if text.contains('\0') || !(text.starts_with('/') || text == "~" || text.starts_with("~/")) {
        let message =
            format!("`{}` wants an absolute path or one that starts with `~/`: `{text}`", entry.key);
        return Err(source.error(&entry.node.span, message));
    }
    Ok(text.into())
}

/// A command: one text that is split as a shell does, or a list of words.
pub(crate) fn argv(source: &Source<'_>, entry: &Entry) -> Result<Vec<String>, ConfigError> {
    let fail = |node: &Node, message: String| Err(source.error(&node.span, message));
    let argv = match &entry.node.value {
        Value::Scalar(text) => match shell_words::split(text) {
            Ok(argv) => argv,
            Err(error) => {
                return fail(&entry.node, format!("`{}` cannot be split into words: {error}", entry.key));
            }
        },
        Value::List(items) => {
            let mut argv = Vec::with_capacity(items.len());
            for item in items {
                match &item.value {
                    Value::Scalar(text) => argv.push(text.clone()),
                    other => return fail(item, format!("`{}` wants words, not {}", entry.key, other.what())),
                }
            }
            argv
        }
        other => return fail(&entry.node, format!("`{}` wants a command, not {}", entry.key, other.what())),
    };
    if argv.first().is_none_or(String::is_empty) {
        return fail(&entry.node, "`entry` is empty: leave it out to start a shell".to_owned());
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return fail(&entry.node, "`entry` holds a NUL byte".to_owned());
    }
    Ok(argv)
}

/// Forwards: one text, or a list of such.
fn ports(source: &Source<'_>, entry: &Entry) -> Result<Vec<PortMap>, ConfigError> {
    let one = |node: &Node| match &node.value {
        Value::Scalar(text) => {
            text.parse().map_err(|error: PortMapError| source.error(&node.span, format!("`ports`: {error}")))
        }
        other => Err(source
            .error(&node.span, format!("`ports` wants forwards such as \"8080:80\", not {}", other.what()))),
    };
    match &entry.node.value {
        Value::List(items) => items.iter().map(one).collect(),
        _ => Ok(vec![one(&entry.node)?]),
    }
}

fn env(source: &Source<'_>, entry: &Entry) -> Result<Vec<EnvVar>, ConfigError> {
    let mut variables: Vec<EnvVar> = Vec::new();
    for variable in table(source, entry)? {
        let value = scalar(source, variable)?;
        variables.push(
            EnvVar::new(&variable.key, value)
                .map_err(|error| source.error(&variable.key_span, error.to_string()))?,
        );
    }
    Ok(variables)
}
