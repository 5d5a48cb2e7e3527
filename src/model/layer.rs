//! Layers in force: what the kernel really applied to a cube.

use serde::{Deserialize, Serialize};

/// One protection of a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Own user namespace, mapped away from the host's root.
    UserNs,
    /// Own mount namespace with its own root.
    MountNs,
    /// Own process ids; PID 1 ends all.
    PidNs,
    /// Own, empty network namespace.
    NetNs,
    /// All of it leads to the gateway.
    NetCapture,
    /// Own System V and POSIX message objects.
    IpcNs,
    /// Own host name.
    UtsNs,
    /// Own view of the cgroup tree.
    CgroupNs,
    /// Own clocks offsets.
    TimeNs,
    /// `no_new_privs`.
    NoNewPrivs,
    /// Capabilities bounded to the profile's set.
    Capabilities,
    /// Landlock domain.
    Landlock,
    /// Its scopes: signals and abstract sockets end at it.
    Scopes,
    /// seccomp filter.
    Seccomp,
    /// A cgroup that holds the limits.
    Cgroup,
    /// PID 1 cannot be inspected from inside.
    InitSealed,
    /// Resource limits of each process.
    Rlimits,
    /// A process out of the cube's reach ends whatever it leaves running.
    Warden,
}

impl Layer {
    /// Short word for lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UserNs => "userns",
            Self::MountNs => "mountns",
            Self::PidNs => "pidns",
            Self::NetNs => "netns",
            Self::NetCapture => "net-capture",
            Self::IpcNs => "ipcns",
            Self::UtsNs => "utsns",
            Self::CgroupNs => "cgroupns",
            Self::TimeNs => "timens",
            Self::NoNewPrivs => "no-new-privs",
            Self::Capabilities => "capabilities",
            Self::Landlock => "landlock",
            Self::Scopes => "scopes",
            Self::Seccomp => "seccomp",
            Self::Cgroup => "cgroup",
            Self::InitSealed => "init-sealed",
            Self::Rlimits => "rlimits",
            Self::Warden => "warden",
        }
    }
}

/// How far a layer is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "detail")]
pub enum Enforcement {
    /// Applied as planned; the text says how (`ABI 7`, `uid 0 → 1000`).
    Full(String),
    /// Applied in part: what is missing.
    Partial(String),
    /// Not applied: why.
    None(String),
}

impl Enforcement {
    /// True for [`Enforcement::Full`].
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// The text beside the state.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Full(text) | Self::Partial(text) | Self::None(text) => text,
        }
    }
}

/// A layer with what the kernel said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerStatus {
    /// Which protection.
    pub layer: Layer,
    /// What was read back.
    #[serde(flatten)]
    pub enforcement: Enforcement,
}
