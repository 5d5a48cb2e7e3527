//! What is known of a cube: its record on disk and its end.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Given, ImageRef, Jail, Layer, LayerStatus, Name, NetPolicyKind, PortMap, RunAs, SeccompProfile, TripId,
};

/// The version of the records that this program writes and reads.
pub const RECORD_VERSION: u32 = 1;

/// What becomes of the cube's system changes when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Dropped.
    Throwaway,
    /// Kept under its name and entered again by `attach` or a launch with the same `--keep`.
    Durable,
}

/// Where a cube is in its life. The same words everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CubeState {
    /// The jail is being built.
    Starting,
    /// The entry runs.
    Running,
    /// Asked to end.
    Stopping,
    /// Held still while a snapshot is taken.
    Frozen,
    /// Ended by itself or by request.
    Exited,
    /// Ended because tripmine could not run it, or its keeper died.
    Failed,
}

impl CubeState {
    /// The word shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Frozen => "frozen",
            Self::Exited => "exited",
            Self::Failed => "failed",
        }
    }

    /// True when nothing of it runs any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Exited | Self::Failed)
    }
}

/// Why a cube ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "detail")]
pub enum ExitReason {
    /// The entry ended by itself.
    Ended,
    /// `stop` or `kill`.
    Stopped,
    /// `pause`: its memory is on disk.
    Paused,
    /// `--timeout` ran out.
    Timeout,
    /// The memory limit: killed by the kernel or by the keeper.
    OutOfMemory(String),
    /// Another limit, which the keeper saw passed: which.
    OverLimit(String),
    /// The entry could not be started.
    NotStarted(String),
    /// A layer was missing after set-up.
    LayerMissing(String),
    /// Set-up failed: step and error.
    SetupFailed(String),
    /// The keeper vanished; found by a later command.
    KeeperLost,
}

/// How a cube ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The exit code as the command line gives it: the entry's, 125, 126, 127 or 128+n.
    pub code: i32,
    /// The signal that killed the entry.
    pub signal: Option<i32>,
    /// Why.
    pub reason: ExitReason,
    /// When, milliseconds since 1970.
    pub ended_unix_ms: u64,
    /// How long it ran.
    pub ran: Duration,
}

/// A cube's record: `headers/record.json` in its folder. Holds no secret: of the environment only
/// the names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CubeRecord {
    /// [`RECORD_VERSION`]; an unknown one is refused.
    pub version: u32,
    /// Its identity.
    pub id: TripId,
    /// The name of a durable cube.
    pub name: Option<Name>,
    /// The machine it was launched on.
    pub machine: Name,
    /// The project, if any.
    pub project: Option<String>,
    /// The project's folder on the host.
    pub project_path: Option<PathBuf>,
    /// The image.
    pub image: ImageRef,
    /// Its manifest's digest; none for `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// It was chosen for this launch only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub image_override: bool,
    /// The jail.
    pub jail: Jail,
    /// The network policy.
    pub net: NetPolicyKind,
    /// Who runs inside.
    pub user: RunAs,
    /// The filter.
    pub seccomp: SeccompProfile,
    /// Throwaway or durable.
    pub keep: Keep,
    /// Home changes are dropped as well.
    pub ephemeral: bool,
    /// What was started.
    pub argv: Vec<String>,
    /// The names of the variables it was given, not the values.
    pub env_names: Vec<String>,
    /// When it was launched, milliseconds since 1970.
    pub created_unix_ms: u64,
    /// State at the last write; a reader that finds the keeper's lock free knows better.
    pub state: CubeState,
    /// The keeper's process id, start time in clock ticks since boot, and the boot's id.
    pub keeper: Option<ProcessRef>,
    /// The cube's init, as the host sees it.
    pub init: Option<ProcessRef>,
    /// What the kernel applied.
    pub layers: Vec<LayerStatus>,
    /// How each limit is enforced, for a person.
    pub limits: Vec<String>,
    /// cgroup folders made for it, to be removed with it.
    pub cgroups: Vec<PathBuf>,
    /// The forwards that it was launched with, as they were asked for.
    #[serde(default)]
    pub publish: Vec<PortMap>,
    /// The forwards that are open.
    #[serde(default)]
    pub forwards: Vec<PortMap>,
    /// What was typed for this launch only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
    /// True when it has a terminal.
    pub tty: bool,
    /// How it ended.
    pub exit: Option<ExitRecord>,
    /// Why it cannot be paused, if it cannot.
    #[serde(default = "unknown")]
    pub cannot_pause: Option<String>,
}

/// For records of before there was a `pause`.
fn unknown() -> Option<String> {
    Some("an older tripmine launched it".to_owned())
}

impl CubeRecord {
    /// Software executes its guest, many times slower than the processor would.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        let emulated = |status: &LayerStatus| {
            status.layer == Layer::Microvm && status.enforcement.detail().contains("EMULATED")
        };
        self.layers.iter().any(emulated)
    }

    /// Its memory was saved, and it goes on from there.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.reason == ExitReason::Paused)
    }

    /// Its state, with the code of its end: what a list shows.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.exit {
            Some(_) if self.is_paused() => "paused".to_owned(),
            Some(exit) if self.state.is_over() => format!("{} {}", self.state.word(), exit.code),
            _ => self.state.word().to_owned(),
        }
    }
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// The number.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: start time in clock ticks since boot.
    pub start: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}
