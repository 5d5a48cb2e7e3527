//! `Facts`: everything about this host and this caller that a launch depends on, looked up by the
//! engine beforehand. Values only; nothing here looks anything up.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::launch::{FileIdentity, LandlockPlan, LaunchPlan, MountPlan, Origin};
use crate::model::host::Tried;
use crate::model::{ByteSize, EnvVar, Layer, Machine, Settings, TripId};

/// A stored image, made ready to be a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its manifest's digest.
    pub digest: String,
    /// Its layers and what is laid over them, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The host's own system folders lie beneath it: it was made of a cube on `host`.
    pub on_host: bool,
    /// What its layers have in the host's system folders, topmost first: laid over those.
    pub over_system: Vec<(PathBuf, Vec<PathBuf>)>,
    /// The shell in it.
    pub shell: String,
    /// Its `Env`.
    pub env: Vec<EnvVar>,
    /// Its `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// Its `Cmd`.
    pub cmd: Vec<String>,
    /// Its `WorkingDir`.
    pub working_dir: Option<String>,
    /// Its `User`, looked up in it; `None` for root or none.
    pub user: Option<ImageUser>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// The user that an image wants to be run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Its name, if it is a plain one.
    pub name: Option<String>,
}

/// What the engine found before planning.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The identity that the cube will have.
    pub id: TripId,
    /// `config.toml`.
    pub config: Settings,
    /// The machine that is launched on.
    pub machine: Machine,
    /// Who chose the machine: the flag, `TRIPMINE_MACHINE`, the configuration or nobody.
    pub machine_origin: Origin,
    /// The project's own file, if it has one.
    pub project_file: Option<Settings>,
    /// The stored image that is launched; `None` for `host`.
    pub image: Option<ImageFacts>,
    /// The `TRIPMINE_*` variables.
    pub environment: Settings,
    /// Who launches.
    pub caller: Caller,
    /// The `--env-file` files, in the order they were typed.
    pub env_files: Vec<EnvFile>,
    /// The project's folder, or that of `--mount`; `None` when neither was named.
    pub project: Option<FoundProject>,
    /// The machine's home on the host.
    pub home: FoundFile,
    /// Mounts that tripmine adds itself, such as the probe of `verify-jail`.
    pub extra: Vec<MountPlan>,
    /// Canonical folders of tripmine itself (config, data, state, runtime). Never mounted; not looked up where nothing of the
    /// user's is.
    pub own_folders: Vec<PathBuf>,
    /// The cube's folder, `Mines/<TripID>`.
    pub cube_dir: PathBuf,
    /// The synthetic lower of the image `host`.
    pub skeleton: PathBuf,
    /// The host's system folders that exist and are no links, in mount order (`/usr` …).
    pub system: Vec<PathBuf>,
    /// The Landlock ABI of the kernel; 0 without Landlock.
    pub landlock_abi: u32,
    /// Whether a container jail works here, tried for a launch whose jail is `auto`; `None` for any other.
    pub container: Option<Tried>,
    /// Layers that this host cannot give, each with the reason and the fix.
    pub missing: Vec<MissingLayer>,
    /// What cgroups can be made.
    pub cgroups: CgroupFacts,
    /// The caller's subordinate ids: the first user range and the first group range.
    pub subordinate: Option<SubordinateIds>,
    /// True when `newuidmap` and `newgidmap` are installed.
    pub id_helpers: bool,
    /// Kernel version: major and minor.
    pub kernel: (u32, u32),
    /// The host's memory.
    pub memory_total: ByteSize,
    /// The caller's standard streams.
    pub stdio: StdioFacts,
    /// The shell that exists in the image: an absolute path inside.
    pub shell: String,
    /// What a microvm needs; looked up only for one.
    pub vm: Option<super::vm::VmFacts>,
    /// Makes the Landlock rules of a plan (whose own `landlock` is still empty) for a kernel ABI.
    pub landlock: fn(&LaunchPlan, u32) -> LandlockPlan,
}

/// Who launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Effective user id; 0 is the host's root.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// The login name.
    pub name: String,
    /// The home folder, canonical.
    pub home: PathBuf,
    /// The hard limit of open files (`RLIMIT_NOFILE`).
    pub hard_open_files: u64,
    /// The caller's environment; only variables that the user names are taken from it, and `TERM`
    /// and `LANG` when they are sane.
    pub env: CallerEnv,
}

/// The caller's environment. It holds secrets: `{:?}` shows only how many variables there are.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CallerEnv(BTreeMap<String, String>);

impl CallerEnv {
    /// The variables whose names and values are UTF-8.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

impl fmt::Debug for CallerEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} variables>", self.0.len())
    }
}

/// A file of variables, read but not parsed. It may hold secrets: `{:?}` shows only the name.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// As it was typed, for messages.
    pub name: String,
    /// The content.
    pub text: String,
}

impl fmt::Debug for EnvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} <{} bytes>", self.name, self.text.len())
    }
}

/// A file or folder on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Canonical.
    pub path: PathBuf,
    /// Device and inode.
    pub identity: FileIdentity,
}

/// The folder of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProject {
    /// The project's name, `.` for the projects root, or the folder's own name for `--mount DIR`.
    pub name: String,
    /// Canonical.
    pub path: PathBuf,
    /// Device and inode.
    pub identity: FileIdentity,
    /// True for a folder.
    pub directory: bool,
    /// Everybody on this host may enter all folders above it.
    pub open_to_others: bool,
}

/// A layer that this host cannot give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLayer {
    /// Which.
    pub layer: Layer,
    /// Why, in one line.
    pub why: String,
    /// What the user can do.
    pub fix: String,
}

pub use crate::model::host::CgroupFacts;

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// `/etc/subuid` and `/etc/subgid` of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubordinateIds {
    /// User ids.
    pub uids: IdRange,
    /// Group ids.
    pub gids: IdRange,
}

/// What a standard stream of the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// A terminal.
    Tty,
    /// An anonymous pipe or the null device: the cube may have it itself.
    Direct,
    /// Anything else (a socket, a device, closed): passes through the keeper.
    Other,
}

/// The caller's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StdioFacts {
    /// Standard input.
    pub stdin: StreamKind,
    /// Standard output.
    pub stdout: StreamKind,
    /// Standard error.
    pub stderr: StreamKind,
    /// Rows and columns of the caller's terminal, if there is one.
    pub terminal: Option<(u16, u16)>,
}
