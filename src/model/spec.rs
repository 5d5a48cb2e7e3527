//! What a cube was launched with, to launch the same once more: kept in its record and, for a continuation, in its image.
//! Owns what is remembered. Refuses values of variables: they may be secrets, so only their names are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CubeRecord, Jail, Name, NetPolicyKind, PortMap, RunAs, SeccompProfile, Settings};

/// The version of [`CubeSpec`] that this program writes and reads.
const VERSION: u32 = 1;

/// What was typed for one launch and is in no other part of its record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// Image, limits, what it may reach; no variables.
    pub settings: Settings,
    /// The working directory.
    #[serde(default)]
    pub workdir: Option<String>,
    /// The names of the variables.
    #[serde(default)]
    pub env_names: Vec<String>,
}

/// A launch that can be repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CubeSpec {
    version: u32,
    /// The machine.
    pub machine: Name,
    /// The project, as its record names it.
    pub project: Option<String>,
    /// The project's folder on the host.
    pub project_path: Option<PathBuf>,
    /// The jail.
    pub jail: Jail,
    /// The network policy.
    pub net: NetPolicyKind,
    /// Who runs inside.
    pub user: RunAs,
    /// The filter.
    pub seccomp: SeccompProfile,
    /// Home changes are dropped.
    pub ephemeral: bool,
    /// What is started.
    pub argv: Vec<String>,
    /// The forwards that it asked for.
    pub publish: Vec<PortMap>,
    /// What else was typed.
    pub given: Given,
    /// The digest of an image of its memory, which only a virtual machine has. Nothing writes or reads such an image yet:
    /// a spec with one is refused rather than resumed without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// Why a text is no spec that can be launched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not what this program writes.
    #[error("what it was launched with cannot be read: {0}")]
    Odd(String),
    /// Of another version.
    #[error("what it was launched with has version {0}, this tripmine reads version {VERSION}")]
    Version(u64),
    /// With memory.
    #[error("it holds an image of the cube's memory, which this tripmine cannot resume")]
    Memory,
}

impl CubeSpec {
    /// That of a cube.
    #[must_use]
    pub fn of(record: &CubeRecord) -> Self {
        Self {
            version: VERSION,
            machine: record.machine.clone(),
            project: record.project.clone(),
            project_path: record.project_path.clone(),
            jail: record.jail,
            net: record.net,
            user: record.user,
            seccomp: record.seccomp,
            ephemeral: record.ephemeral,
            argv: record.argv.clone(),
            publish: record.publish.clone(),
            given: record.given.clone().unwrap_or_default(),
            memory: None,
        }
    }

    /// As a line of JSON.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads [`CubeSpec::text`] back.
    ///
    /// # Errors
    /// It is none, of another version, or asks for what cannot be done.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let odd = |error: &serde_json::Error| SpecError::Odd(error.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| odd(&error))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(SpecError::Version(version)),
            None => return Err(SpecError::Odd("it has no version".to_owned())),
        }
        let spec: Self = serde_json::from_value(value).map_err(|error| odd(&error))?;
        if spec.argv.is_empty() {
            return Err(SpecError::Odd("it starts nothing".to_owned()));
        }
        if spec.memory.is_some() { Err(SpecError::Memory) } else { Ok(spec) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"version":1,"machine":"work","project":"site","project_path":"/p/site","jail":"container",
        "net":"none","user":"me","seccomp":"default","ephemeral":false,"argv":["make"],"publish":[],
        "given":{"settings":{"image":null,"jail":null,"net":null,"user":null,"seccomp":null,
        "limits":{"memory":{"value":1048576,"required":true},"cpus_milli":null,"pids":null,"disk":null,"timeout":null},
        "env":[],"entry":null},"workdir":"/opt","env_names":["TOKEN"]}}"#;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_named() {
        let spec = CubeSpec::parse(TEXT).expect("a spec");
        assert!(spec.given.settings.limits.memory.is_some_and(|limit| limit.required));
        assert_eq!(CubeSpec::parse(&spec.text()), Ok(spec));
        for (wrong, why) in [
            (TEXT.replace("\"version\":1", "\"version\":2"), "version 2"),
            (TEXT.replace("\"version\":1,", ""), "no version"),
            (TEXT.replace("\"version\":1", "\"version\":1,\"memory\":\"sha256:aa\""), "memory"),
            (TEXT.replace("\"version\":1", "\"version\":1,\"extra\":1"), "unknown field"),
            (TEXT.replace("[\"make\"]", "[]"), "starts nothing"),
            (TEXT[..TEXT.len() / 2].to_owned(), "cannot be read"),
        ] {
            let error = CubeSpec::parse(&wrong).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
