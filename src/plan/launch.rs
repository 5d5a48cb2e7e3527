//! `LaunchPlan`: everything that a launch will do. Applying it needs no further decision.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::net::NetPolicy;
use crate::model::{
    ByteSize, EnvVar, ImageRef, Jail, Keep, Layer, Name, PortMap, RunAs, SeccompProfile, TripId,
};

/// The complete plan of one cube.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The cube's identity.
    pub id: TripId,
    /// The name of a durable cube.
    pub name: Option<Name>,
    /// The machine.
    pub machine: Name,
    /// The project, if any.
    pub project: Option<ProjectPlan>,
    /// The image.
    pub image: ImageRef,
    /// Its manifest's digest; none for `host`.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// It was chosen for this launch only, in the place of the machine's own.
    #[serde(default)]
    pub image_override: bool,
    /// The jail.
    pub jail: Jail,
    /// What it may reach.
    pub net: NetPolicy,
    /// What it may reach until somebody switches to `net`.
    pub setup: Option<NetPolicy>,
    /// The seccomp profile.
    pub seccomp: SeccompProfile,
    /// What becomes of system changes.
    pub keep: Keep,
    /// Home changes are dropped as well (the home is covered by a throwaway layer).
    pub ephemeral: bool,
    /// Who runs inside and how ids are mapped.
    pub user: UserPlan,
    /// What is started.
    pub entry: EntryPlan,
    /// The whole environment of the entry.
    pub env: Vec<EnvVar>,
    /// The root file system.
    pub root: RootPlan,
    /// Host folders that are seen inside, in the order they are mounted.
    pub mounts: Vec<MountPlan>,
    /// In the host's own root, without a view of its own: the jail `landlock`.
    #[serde(default)]
    pub in_place: Option<InPlace>,
    /// The Landlock rules.
    pub landlock: LandlockPlan,
    /// The layers that must be in force before the entry runs.
    pub layers: Vec<Layer>,
    /// The virtual machine of a microvm jail, which the rest of the jail stands around.
    #[serde(default)]
    pub vm: Option<super::vm::VmPlan>,
    /// The limits with who enforces each.
    pub limits: LimitsPlan,
    /// The host's ports that lead into the cube from its start.
    #[serde(default)]
    pub forwards: Vec<PortMap>,
    /// The host name inside.
    pub hostname: String,
    /// Terminal or pipes.
    pub stdio: StdioPlan,
    /// Time between TERM and KILL when stopping.
    pub stop_grace: Duration,
    /// Where each setting came from, for `--dry-run`.
    pub settings: Vec<Setting>,
    /// What the user should know before it starts.
    pub warnings: Vec<String>,
}

/// What a cube without namespaces has in the place of a root of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// Its private folder for temporary files: made with the cube, removed at its end.
    pub tmp: PathBuf,
    /// Sockets of the internet families can be made, on the host's own network.
    pub network: bool,
    /// The host's root launches it: calls that are harmless for others are refused too.
    pub host_root: bool,
}

/// The project of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectPlan {
    /// Its name as shown; `.` for the projects root itself.
    pub name: String,
    /// Its folder on the host, canonical.
    pub path: PathBuf,
    /// Where it is seen inside: `/projects/NAME`, `/projects` or `/work`.
    pub target: String,
}

/// Who runs inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPlan {
    /// What was asked for.
    pub run_as: RunAs,
    /// The user id inside.
    pub uid: u32,
    /// The group id inside.
    pub gid: u32,
    /// The user's name inside.
    pub name: String,
    /// The home inside.
    pub home: String,
    /// `/proc/PID/uid_map`.
    pub uid_map: Vec<IdMap>,
    /// `/proc/PID/gid_map`.
    pub gid_map: Vec<IdMap>,
    /// Who writes the maps.
    pub map_writer: MapWriter,
    /// Host folders are mounted with an id map (only when tripmine itself runs as root), so that
    /// the owner on disk stays the caller.
    pub idmapped_mounts: bool,
    /// Names (`CAP_CHOWN`) of the capabilities that the entry may hold in its own user namespace.
    pub capabilities: Vec<String>,
}

/// One line of an id map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Who may write a map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapWriter {
    /// The child itself: one id, its own.
    Own,
    /// The keeper, as root on the host.
    Keeper,
    /// `newuidmap` and `newgidmap`, with subordinate ids.
    Helper,
    /// Nobody: there is no user namespace, and ids are the host's.
    Nobody,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPlan {
    /// The command and its arguments. The first is searched in the cube's own PATH.
    pub argv: Vec<String>,
    /// The working directory inside.
    pub cwd: String,
    /// True when this is the shell and no entry was given.
    pub shell: bool,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPlan {
    /// Read-only lowers, topmost first: for `host` the synthetic skeleton.
    pub lowers: Vec<PathBuf>,
    /// Where changes go.
    pub upper: UpperPlan,
    /// Host system folders put on top of the root (`/usr` …), in order.
    pub system: Vec<SystemTree>,
}

/// Where the changes of a cube go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum UpperPlan {
    /// A tmpfs that vanishes with the cube.
    Tmpfs {
        /// Its size limit.
        size: ByteSize,
    },
    /// The cube's `system-copy` folder.
    Disk {
        /// The folder; holds `upper/` and `work/`.
        dir: PathBuf,
    },
    /// There are none: the root is the host's own, and is not written.
    Nothing,
}

/// A system folder of the host, seen inside at the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemTree {
    /// The absolute path, on the host and inside.
    pub path: PathBuf,
    /// False: a read-only bind. True: an overlay whose changes go to the upper (only useful when
    /// an id map makes the host's root appear as root inside).
    pub writable: bool,
    /// What layers of an image on `host` have here, topmost first.
    #[serde(default)]
    pub lowers: Vec<PathBuf>,
}

/// A host folder or file seen inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// What it is.
    pub kind: MountKind,
    /// The canonical path on the host.
    pub source: PathBuf,
    /// Device and inode at planning time. The set-up opens the path again inside its own mount
    /// namespace without following links and refuses when this differs.
    pub identity: FileIdentity,
    /// True for a folder, false for a file.
    pub directory: bool,
    /// Where it is seen inside: absolute, no `.` or `..`.
    pub target: String,
    /// No writing through it.
    pub read_only: bool,
    /// Writing goes to an upper in this folder of the cube, and reaches the source only by `apply`.
    #[serde(default)]
    pub review: Option<PathBuf>,
}

impl LaunchPlan {
    /// The cube writes into a folder of the host that is not tripmine's own, where others may be.
    #[must_use]
    pub fn writes_outside(&self) -> bool {
        let outside = |mount: &MountPlan| matches!(mount.kind, MountKind::Project | MountKind::Extra);
        self.mounts.iter().any(|mount| outside(mount) && !mount.read_only && mount.review.is_none())
    }
}

/// What names a file whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// What a mount is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// The machine's home.
    Home,
    /// The project.
    Project,
    /// `--mount`, without being the project.
    Extra,
    /// A file of tripmine's own (the probe of `verify-jail`).
    Tool,
    /// A file of a microvm, outside the guest.
    Vm,
}

/// The Landlock rules, in the words of landlock(7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockPlan {
    /// The ABI whose rights are handled: the host's, capped at what this program knows.
    pub abi: u32,
    /// The smallest ABI that the profile accepts.
    pub required_abi: u32,
    /// What is allowed, by place inside. Everything else is denied.
    pub rules: Vec<LandlockRule>,
    /// Abstract unix sockets outside the cube are out of reach (ABI 6).
    pub scope_abstract: bool,
    /// Signals cannot leave the cube (ABI 6).
    pub scope_signal: bool,
    /// TCP is handled, with nothing allowed (ABI 4): the second wall of a cube in place that may not connect.
    #[serde(default)]
    pub no_tcp: bool,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockRule {
    /// A path inside.
    pub path: String,
    /// What may be done beneath it.
    pub access: LandlockAccess,
    /// The path need not exist; any other missing path fails the launch.
    pub optional: bool,
}

/// Sets of rights that rules use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LandlockAccess {
    /// Read files and folders, execute.
    ReadExecute,
    /// Everything but device ioctls and making devices.
    ReadWrite,
    /// Read and write existing files only: `/proc`.
    ReadWriteFiles,
    /// Read, write and ioctl on devices: `/dev`.
    Devices,
}

/// A limit as it will be enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsPlan {
    /// Bytes, and by whom.
    pub memory: Option<(ByteSize, Enforcer)>,
    /// Thousandths of a CPU.
    pub cpus_milli: Option<(u32, Enforcer)>,
    /// Tasks.
    pub pids: Option<(u32, Enforcer)>,
    /// Bytes in the upper.
    pub disk: Option<(ByteSize, Enforcer)>,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Open files for each process (soft and hard).
    pub open_files: u64,
    /// The cgroup to make, if one can be written.
    pub cgroup: Option<CgroupPlan>,
}

/// Who enforces a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcer {
    /// The kernel, by cgroup.
    Cgroup,
    /// The kernel, by a resource limit of the cube's own user namespace.
    Rlimit,
    /// The kernel, by the size of the tmpfs.
    TmpfsSize,
    /// The keeper, which looks every quarter of a second and ends the cube.
    Watch,
    /// The keeper and `cpu` weight: best effort (`SCHED_IDLE` nice), see the text.
    Nice,
}

impl Enforcer {
    /// For lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Rlimit => "rlimit",
            Self::TmpfsSize => "tmpfs size",
            Self::Watch => "watched by the keeper",
            Self::Nice => "nice only",
        }
    }
}

/// The cgroups of a cube.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "version")]
pub enum CgroupPlan {
    /// Version 2: one folder, entered at clone.
    V2 {
        /// The folder to make.
        dir: PathBuf,
    },
    /// Version 1 (or hybrid): one folder per controller.
    V1 {
        /// Controller name and the folder to make in its tree.
        dirs: Vec<(String, PathBuf)>,
    },
}

impl CgroupPlan {
    /// The folders to make, and to remove afterwards.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        match self {
            Self::V2 { dir } => vec![dir.clone()],
            Self::V1 { dirs } => dirs.iter().map(|(_, dir)| dir.clone()).collect(),
        }
    }
}

/// How the entry's standard streams are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum StdioPlan {
    /// A terminal of the cube's own.
    Pty {
        /// Rows at start.
        rows: u16,
        /// Columns at start.
        cols: u16,
    },
    /// Pipes. A stream that the caller gave as an anonymous pipe goes straight to it and is
    /// not in the log; the others pass through the keeper.
    Pipes {
        /// Standard input goes straight in.
        stdin_direct: bool,
        /// Standard output goes straight out.
        stdout_direct: bool,
        /// Standard error goes straight out.
        stderr_direct: bool,
    },
}

/// One setting and its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// What, as the command line calls it.
    pub key: String,
    /// The value, for a person.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

/// Who said so, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The command line.
    Flag,
    /// A `TRIPMINE_*` variable.
    Environment,
    /// The project's `.tconfig.yml`.
    ProjectFile,
    /// The machine.
    Machine,
    /// `config.toml`.
    Config,
    /// The image.
    Image,
    /// tripmine itself.
    BuiltIn,
}

impl Origin {
    /// For lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::ProjectFile => "project file",
            Self::Machine => "machine",
            Self::Config => "config",
            Self::Image => "image",
            Self::BuiltIn => "built-in",
        }
    }
}
