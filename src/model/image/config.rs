//! `ImageConfig`: how an image is run, as its config blob says. A stranger wrote it: every value that a launch takes
//! over is checked here, and a bad one is an error that names the field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;
use super::document::{DocumentError, LAYERS_MAX, Platform, or_default, parse, too_many};
use crate::model::EnvVar;

/// No more of a list of texts, and no longer text.
const LIST_MAX: usize = 4096;
const TEXT_MAX: usize = 128 << 10;

/// How an image is run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// For which machine.
    pub platform: Platform,
    /// When it was made, as RFC 3339.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Variables.
    pub env: Vec<EnvVar>,
    /// The user and group, as `name`, `uid`, `name:group` or `uid:gid`.
    pub user: Option<String>,
    /// The folder that the command starts in; absolute, without `..`.
    pub working_dir: Option<String>,
    /// The command's head.
    pub entrypoint: Vec<String>,
    /// The command's tail, or all of it.
    pub cmd: Vec<String>,
    /// The signal that ends it.
    pub stop_signal: Option<String>,
    /// `PORT/tcp`, only shown.
    pub exposed_ports: Vec<String>,
    /// Notes.
    pub labels: BTreeMap<String, String>,
    /// The unpacked layers' names, lowest first.
    pub diff_ids: Vec<Digest>,
    /// How it came to be, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// A line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When, as RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What made the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Said by its author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True when it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[derive(Serialize, Deserialize)]
struct Raw {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    config: RawRun,
    rootfs: RawRoot,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    history: Vec<HistoryEntry>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    stop_signal: String,
}

#[derive(Serialize, Deserialize)]
struct RawRoot {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a config blob.
    ///
    /// # Errors
    /// It is none, or a value of it cannot be taken over: the field is named.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let raw: Raw = parse("image config", bytes)?;
        let run = raw.config;
        if raw.rootfs.kind != "layers" {
            return Err(DocumentError::value("rootfs.type", &raw.rootfs.kind, "only `layers` is known"));
        }
        too_many("layers", raw.rootfs.diff_ids.len(), LAYERS_MAX)?;
        too_many("lines of history", raw.history.len(), LIST_MAX)?;
        too_many("labels", run.labels.len(), LIST_MAX)?;
        for (field, texts) in [("Env", &run.env), ("Entrypoint", &run.entrypoint), ("Cmd", &run.cmd)] {
            texts_fit(field, texts)?;
        }
        Ok(Self {
            platform: raw.platform,
            created: raw.created,
            author: raw.author,
            env: run.env.iter().map(|text| variable(text)).collect::<Result<_, _>>()?,
            user: user(run.user)?,
            working_dir: working_dir(run.working_dir)?,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            stop_signal: stop_signal(run.stop_signal)?,
            exposed_ports: run.exposed_ports.into_keys().collect(),
            labels: run.labels,
            diff_ids: raw.rootfs.diff_ids,
            history: raw.history,
        })
    }

    /// As bytes of a config blob; the same value gives the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let raw = Raw {
            platform: self.platform.clone(),
            created: self.created.clone(),
            author: self.author.clone(),
            config: RawRun {
                user: text(&self.user),
                exposed_ports: self
                    .exposed_ports
                    .iter()
                    .map(|port| (port.clone(), serde_json::Map::new()))
                    .collect(),
                env: self.env.iter().map(|var| format!("{}={}", var.key, var.value)).collect(),
                entrypoint: self.entrypoint.clone(),
                cmd: self.cmd.clone(),
                working_dir: text(&self.working_dir),
                labels: self.labels.clone(),
                stop_signal: text(&self.stop_signal),
            },
            rootfs: RawRoot { kind: "layers".to_owned(), diff_ids: self.diff_ids.clone() },
            history: self.history.clone(),
        };
        serde_json::to_vec(&raw).unwrap_or_default()
    }
}

fn texts_fit(field: &'static str, texts: &[String]) -> Result<(), DocumentError> {
    too_many(field, texts.len(), LIST_MAX)?;
    for text in texts {
        if text.len() > TEXT_MAX {
            return Err(DocumentError::value(field, text, "it is longer than 128 KiB"));
        }
        if text.contains('\0') {
            return Err(DocumentError::value(field, text, "it holds a NUL byte"));
        }
    }
    Ok(())
}

fn variable(text: &str) -> Result<EnvVar, DocumentError> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    EnvVar::new(key, value).map_err(|_| {
        DocumentError::value("Env", key, "a variable is NAME=VALUE, NAME of letters, digits and `_`")
    })
}

fn user(text: String) -> Result<Option<String>, DocumentError> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 64
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-$".contains(&b))
    };
    let good = match text.split_once(':') {
        Some((user, group)) => part(user) && part(group),
        None => part(&text),
    };
    match text.is_empty() {
        true => Ok(None),
        false if good => Ok(Some(text)),
        false => Err(DocumentError::value("User", &text, "a user is a name or number, or two with a colon")),
    }
}

fn working_dir(text: String) -> Result<Option<String>, DocumentError> {
    if text.is_empty() {
        return Ok(None);
    }
    let good = text.starts_with('/')
        && text.len() < 4096
        && !text.contains(char::is_control)
        && text.split('/').all(|part| part != ".." && part.len() <= 255)
        // The folder of an open descriptor leads out of the root (runc, CVE-2024-21626).
        && !["/proc", "/sys", "/dev"].iter().any(|top| text == *top || text.starts_with(&format!("{top}/")));
    if good {
        return Ok(Some(text));
    }
    Err(DocumentError::value(
        "WorkingDir",
        &text,
        "it must be an absolute path without `..`, not in /proc, /sys or /dev",
    ))
}

fn stop_signal(text: String) -> Result<Option<String>, DocumentError> {
    match text.is_empty() {
        true => Ok(None),
        false
            if text.len() <= 16 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b)) =>
        {
            Ok(Some(text))
        }
        false => Err(DocumentError::value("StopSignal", &text, "it is no signal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let config = ImageConfig {
            platform: Platform { architecture: "amd64".into(), os: "linux".into(), variant: None },
            created: Some("2026-11-24T00:00:00Z".into()),
            env: vec![EnvVar::new("PATH", "/bin").expect("good")],
            user: Some("me:1000".into()),
            working_dir: Some("/srv".into()),
            cmd: vec!["sh".into()],
            exposed_ports: vec!["80/tcp".into()],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            diff_ids: vec![Digest::new([7; 32])],
            history: vec![HistoryEntry { created_by: Some("import".into()), ..HistoryEntry::default() }],
            ..ImageConfig::default()
        };
        assert_eq!(ImageConfig::parse(&config.to_bytes()), Ok(config));
        // As Go writes what is empty.
        let nulls = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Labels":null,
            "Entrypoint":null,"ExposedPorts":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        assert!(ImageConfig::parse(nulls).is_ok());
    }

    #[test]
    fn hostile_values_are_named() {
        for (run, part) in [
            (r#"{"Env":["A=1","=x"]}"#, "Env is ``"),
            (r#"{"Env":["A B=1"]}"#, "Env is `A B`"),
            (r#"{"Env":["A=\u0000"]}"#, "NUL"),
            (r#"{"User":"../../etc"}"#, "User is"),
            (r#"{"User":"a\u001b[2J"}"#, "User is `a\\u{1b}[2J`"),
            (r#"{"User":"-1"}"#, "User is"),
            (r#"{"User":"a:"}"#, "User is"),
            (r#"{"WorkingDir":"srv"}"#, "WorkingDir"),
            (r#"{"WorkingDir":"/a/../../b"}"#, "WorkingDir"),
            (r#"{"WorkingDir":"/proc/self/fd/9"}"#, "WorkingDir"),
            (r#"{"Entrypoint":["a\u0000b"]}"#, "Entrypoint"),
            (r#"{"Cmd":"sh"}"#, "image config"),
            (r#"{"StopSignal":"; rm"}"#, "StopSignal"),
        ] {
            let text = format!(r#"{{"os":"linux","config":{run},"rootfs":{{"type":"layers"}}}}"#);
            let error = ImageConfig::parse(text.as_bytes()).expect_err(run).to_string();
            assert!(error.contains(part), "{run}: {error}");
        }
        assert!(ImageConfig::parse(br#"{"rootfs":{"type":"vm"}}"#).is_err());
        assert!(ImageConfig::parse(b"{").is_err());
    }
}
