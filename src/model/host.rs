//! What this host is and can do: the values that probes return and that doctor and plans read.

use std::path::PathBuf;

use serde::Serialize;

use super::ByteSize;

/// What came of trying something for real. Not trying is neither success nor failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer", content = "why")]
pub enum Tried {
    /// It worked.
    Works,
    /// The kernel refused; the step and the error.
    Refused(String),
    /// It could not be tried; why.
    Untested(String),
}

/// Everything that `doctor` looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// The effective user.
    pub uid: u32,
    /// The user's login name, for commands to copy.
    pub user: String,
    /// The running program, for an AppArmor profile; `None` when it cannot be known.
    pub program: Option<PathBuf>,
    /// The kernel.
    pub kernel: KernelFacts,
    /// Landlock.
    pub landlock: LandlockFacts,
    /// Filters that end a process can be installed.
    pub seccomp: Tried,
    /// User namespaces.
    pub user_namespaces: UserNamespaceFacts,
    /// An overlay can be mounted in a user namespace.
    pub overlay: Tried,
    /// A tmpfs in a user namespace keeps `user.*` attributes, which overlays need.
    pub tmpfs_xattrs: Tried,
    /// A fresh `/proc` can be mounted in a user and pid namespace.
    pub fresh_proc: Tried,
    /// A network namespace can be made in a user namespace.
    pub network_namespace: Tried,
    /// nftables tables can be made in a network namespace of one's own.
    pub nftables: Tried,
    /// Subordinate ids.
    pub subordinate: SubordinateFacts,
    /// Which kind of tree is mounted.
    pub cgroup_layout: CgroupLayout,
    /// What this process may make in it.
    pub cgroups: CgroupFacts,
    /// `/dev/kvm`.
    pub kvm: KvmFacts,
    /// The terminal.
    pub terminal: TerminalFacts,
    /// Signs that this host is itself a container: what was seen.
    pub container: Option<String>,
    /// The host's memory.
    pub memory_total: ByteSize,
}

/// The kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelFacts {
    /// First and second number of the release.
    pub version: (u32, u32),
    /// The whole release.
    pub release: String,
}

/// Landlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LandlockFacts {
    /// The kernel's ABI; 0 without Landlock.
    pub abi: u32,
    /// Bits of the errata that the kernel has fixed.
    pub errata: u32,
}

/// User namespaces and what may forbid them; `None`: the setting does not exist here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserNamespaceFacts {
    /// Making one, mapping oneself and mounting in it.
    pub tried: Tried,
    /// `user.max_user_namespaces`.
    pub max: Option<u64>,
    /// `kernel.unprivileged_userns_clone` (Debian's patch).
    pub clone_allowed: Option<bool>,
    /// `kernel.apparmor_restrict_unprivileged_userns` (Ubuntu 23.10 and later).
    pub apparmor_restricts: Option<bool>,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IdSpan {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// The caller's subordinate ids and the programs that map them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubordinateFacts {
    /// The largest range of `/etc/subuid`.
    pub uids: Option<IdSpan>,
    /// The largest range of `/etc/subgid`.
    pub gids: Option<IdSpan>,
    /// `newuidmap`.
    pub newuidmap: HelperFacts,
    /// `newgidmap`.
    pub newgidmap: HelperFacts,
}

/// A privileged helper program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "path")]
pub enum HelperFacts {
    /// Not installed.
    Missing,
    /// Installed without the set-user-id bit and without file capabilities.
    Powerless(PathBuf),
    /// Installed and able.
    Ready(PathBuf),
}

/// Which cgroup trees are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupLayout {
    /// No tree.
    None,
    /// Version 1 only.
    V1,
    /// Version 1 with a version 2 tree beside it.
    Hybrid,
    /// Version 2 only.
    V2,
}

/// What cgroups this process may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "version")]
pub enum CgroupFacts {
    /// None.
    None {
        /// Why, in one line.
        why: String,
    },
    /// Version 2.
    V2 {
        /// The folder whose children are cubes. Its parent exists; it may have to be made.
        base: PathBuf,
        /// The controllers that children get, or can get when the process is the host's root.
        controllers: Vec<String>,
    },
    /// Version 1 or hybrid.
    V1 {
        /// Controller, and the folder whose children are cubes. Its parent exists; it may have to
        /// be made.
        bases: Vec<(String, PathBuf)>,
    },
}

/// `/dev/kvm`, as trying it for real shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum KvmFacts {
    /// It executes a guest.
    Works {
        /// `st_dev` of the device's node.
        dev: u64,
        /// `st_ino` of it.
        ino: u64,
        /// Its mode.
        mode: u32,
    },
    /// There is no such device.
    Missing,
    /// This user may not open it.
    Denied {
        /// User and group that it belongs to, `root:kvm`.
        owner: String,
        /// Its mode.
        mode: u32,
        /// Who may not.
        user: String,
    },
    /// It opens, and makes no machine: the error.
    Busy {
        /// What it said.
        why: String,
    },
    /// It makes machines whose instructions are interpreted one by one: no kernel boots in that.
    Interprets {
        /// Milliseconds for a loop of 100 000 rounds; a processor needs less than one.
        ms: u64,
    },
    /// It could not be tried.
    Untested {
        /// Why.
        why: String,
    },
}

/// The terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TerminalFacts {
    /// `TERM`.
    pub term: Option<String>,
    /// Standard input and output are a terminal.
    pub interactive: bool,
    /// Columns and rows.
    pub size: Option<(u16, u16)>,
}
