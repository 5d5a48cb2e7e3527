//! From the plan to what the child needs: C strings, bytes, tables. Runs in the child, before its first step; touches
//! nothing.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::thread::CapabilitySet;

use super::spawn::SpawnSpec;
use crate::model::EnvVar;
use crate::model::sanitize::printable;
use crate::plan::LaunchPlan;
use crate::plan::launch::{
    FileIdentity, IdMap, InPlace, LandlockAccess, LandlockPlan, MapWriter, StdioPlan, UpperPlan,
};

/// Everything that the child applies.
#[derive(Debug)]
pub struct Prepared {
    /// The child writes its own one-line maps; otherwise it waits for the keeper.
    pub own_maps: Option<(Vec<u8>, Vec<u8>)>,
    /// Ids to take once mapped (only where the caller's own id is not mapped).
    pub take_ids: Option<(u32, u32)>,
    /// Lowers, topmost first.
    pub lowers: Vec<Source>,
    /// Where changes go.
    pub upper: Upper,
    /// `size=` of the scratch tmpfs.
    pub scratch_size: CString,
    /// `nr_inodes=` of it: empty files take kernel memory too.
    pub scratch_inodes: CString,
    /// Host system folders.
    pub system: Vec<Tree>,
    /// Home, project and others.
    pub mounts: Vec<Bind>,
    /// The root around the guest's, in a microvm jail.
    pub outer: Option<Outer>,
    /// The home is covered by a throwaway layer.
    pub ephemeral_home: bool,
    /// Host name.
    pub hostname: Vec<u8>,
    /// Anybody may listen on ports below 1024 of the cube's own network.
    pub low_ports: bool,
    /// Limits: resource, soft and hard.
    pub rlimits: Vec<(rustix::process::Resource, u64)>,
    /// Open files of what init starts: init itself may have more.
    pub open_files: u64,
    /// Lower scheduling priority, for lack of anything better.
    pub nice: bool,
    /// Capabilities that stay in the bounding set.
    pub capabilities: CapabilitySet,
    /// What is started has them although its user is not root.
    pub ambient: bool,
    /// Landlock: the ABI and (path, access, optional).
    pub landlock: LandlockPlan,
    /// Its paths, as C strings.
    pub landlock_paths: Vec<Ruled>,
    /// In the host's own root.
    pub in_place: Option<InPlace>,
    /// Rows and columns of the entry's terminal, if it has one.
    pub terminal: Option<(u16, u16)>,
    /// The entry.
    pub entry: SpawnSpec,
}

/// One rule of Landlock's, ready to be made.
#[derive(Debug)]
pub struct Ruled {
    /// The path.
    pub path: CString,
    /// What may be done beneath it.
    pub access: LandlockAccess,
    /// It need not exist.
    pub optional: bool,
    /// What must be there, in place: which mount of the plan, and its identity.
    pub planned: Option<(usize, FileIdentity)>,
}

/// A folder or file of the host: a path that the child opens itself, or a detached mount with an
/// id map that the keeper (as root) has made.
#[derive(Debug)]
pub struct Source {
    /// The canonical path.
    pub path: CString,
    /// What it must be.
    pub identity: Option<FileIdentity>,
    /// The id-mapped clone, if any.
    pub mapped: Option<OwnedFd>,
}

/// Where changes go.
#[derive(Debug)]
pub enum Upper {
    /// The scratch tmpfs.
    Scratch,
    /// A folder of the cube.
    Disk(Source),
}

/// A host system folder.
#[derive(Debug)]
pub struct Tree {
    /// Where it is.
    pub source: Source,
    /// Relative to the root.
    pub target: CString,
    /// Overlay instead of a read-only bind.
    pub writable: bool,
    /// What lies over it, topmost first.
    pub lowers: Vec<Source>,
}

/// A folder or file of the user's.
#[derive(Debug)]
pub struct Bind {
    /// Where it is.
    pub source: Source,
    /// Each prefix of the target, relative to the root: `projects`, `projects/site`.
    pub target: Vec<CString>,
    /// A folder, not a file.
    pub directory: bool,
    /// No writing.
    pub read_only: bool,
    /// It is the home.
    pub home: bool,
    /// The folder of the cube that holds its upper: the source itself is not written.
    pub review: Option<Source>,
}

/// The root of the jail around a virtual machine.
#[derive(Debug)]
pub struct Outer {
    /// Lowers, topmost first.
    pub lowers: Vec<Source>,
    /// Host system folders, read-only.
    pub system: Vec<Tree>,
    /// Files of the machine's own.
    pub files: Vec<Bind>,
}

/// Why a plan could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A NUL byte in a text.
    #[error("`{}` holds a NUL byte", printable(.0))]
    Nul(String),
    /// An unknown capability.
    #[error("unknown capability `{}`", printable(.0))]
    Capability(String),
    /// Fewer id-mapped folders came along than the plan has.
    #[error("an id-mapped folder is missing")]
    Mapped,
}

/// PATH where the environment has none (execvp(3) of the C library has the same idea).
const FALLBACK_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

impl SpawnSpec {
    /// Prepares a command.
    ///
    /// # Errors
    /// A NUL byte in any of the texts.
    pub fn new(argv: &[String], env: &[EnvVar], cwd: &str) -> Result<Self, PrepareError> {
        let text = |value: String| {
            CString::new(value)
                .map_err(|error| PrepareError::Nul(printable(&String::from_utf8_lossy(&error.into_vec()))))
        };
        let program = argv.first().cloned().unwrap_or_default();
        let candidates = if program.contains('/') {
            vec![text(program)?]
        } else {
            let path = env.iter().find(|v| v.key == "PATH").map_or(FALLBACK_PATH, |v| v.value.as_str());
            path.split(':')
                .filter(|part| !part.is_empty())
                .map(|part| text(format!("{part}/{program}")))
                .collect::<Result<_, _>>()?
        };
        Ok(Self {
            argv: argv.iter().cloned().map(text).collect::<Result<_, _>>()?,
            env: env.iter().map(|v| text(format!("{}={}", v.key, v.value))).collect::<Result<_, _>>()?,
            cwd: text(cwd.to_owned())?,
            candidates,
        })
    }
}

fn text(value: &str) -> Result<CString, PrepareError> {
    CString::new(value).map_err(|_| PrepareError::Nul(value.to_owned()))
}

fn path(value: &Path) -> Result<CString, PrepareError> {
    CString::new(value.as_os_str().as_bytes())
        .map_err(|_| PrepareError::Nul(value.to_string_lossy().into_owned()))
}

fn relative(value: &Path) -> Result<CString, PrepareError> {
    path(value.strip_prefix("/").unwrap_or(value))
}

/// `uid_map` text of user_namespaces(7).
#[must_use]
pub fn map_text(map: &[IdMap]) -> String {
    map.iter().map(|line| format!("{} {} {}\n", line.inside, line.outside, line.count)).collect()
}

/// The folders of `plan` that need an id-mapped view when the plan wants one, in the order in which [`prepare`] takes
/// those views.
#[must_use]
pub fn mapped_folders(plan: &LaunchPlan) -> Vec<(&Path, Option<FileIdentity>)> {
    let upper = match &plan.root.upper {
        UpperPlan::Tmpfs { .. } | UpperPlan::Nothing => None,
        UpperPlan::Disk { dir } => Some((dir.as_path(), None)),
    };
    upper
        .into_iter()
        .chain(plan.root.lowers.iter().map(|lower| (lower.as_path(), None)))
        .chain(plan.root.system.iter().flat_map(|tree| {
            std::iter::once(&tree.path).chain(&tree.lowers).map(|path| (path.as_path(), None))
        }))
        .chain(plan.mounts.iter().flat_map(|mount| {
            let review = mount.review.as_deref().map(|dir| (dir, None));
            std::iter::once((mount.source.as_path(), Some(mount.identity))).chain(review)
        }))
        .chain(plan.vm.iter().flat_map(|vm| {
            let lowers = vm.jail_root.lowers.iter().map(|lower| (lower.as_path(), None));
            let system = vm.jail_root.system.iter().map(|tree| (tree.path.as_path(), None));
            // A device has no view of its own: its file system knows no id maps.
            let files = vm
                .files
                .iter()
                .filter(|file| file.read_only)
                .map(|file| (file.source.as_path(), Some(file.identity)));
            lowers.chain(system).chain(files)
        }))
        .collect()
}

/// Prepares `plan`; `mapped` are the views of [`mapped_folders`], if the plan wants any.
///
/// # Errors
/// A text with a NUL, an unknown capability, or a view that is missing.
pub fn prepare(plan: &LaunchPlan, mapped: Vec<OwnedFd>) -> Result<Prepared, PrepareError> {
    let mut mapped = mapped.into_iter();
    let mut source = |place: &Path, identity: Option<FileIdentity>| -> Result<Source, PrepareError> {
        let mapped = match plan.user.idmapped_mounts {
            true => Some(mapped.next().ok_or(PrepareError::Mapped)?),
            false => None,
        };
        Ok(Source { path: path(place)?, identity, mapped })
    };
    let own = plan.user.map_writer == MapWriter::Own;
    let (upper, size) = match &plan.root.upper {
        UpperPlan::Tmpfs { size } => (Upper::Scratch, size.get()),
        UpperPlan::Nothing => (Upper::Scratch, 0),
        UpperPlan::Disk { dir } => {
            (Upper::Disk(source(dir, None)?), plan.limits.memory.map_or(1 << 30, |(size, _)| size.get()))
        }
    };
    let mut lowers = Vec::with_capacity(plan.root.lowers.len());
    for lower in &plan.root.lowers {
        lowers.push(source(lower, None)?);
    }
    let mut system = Vec::with_capacity(plan.root.system.len());
    for tree in &plan.root.system {
        system.push(Tree {
            source: source(&tree.path, None)?,
            target: relative(&tree.path)?,
            writable: tree.writable,
            lowers: tree.lowers.iter().map(|lower| source(lower, None)).collect::<Result<_, _>>()?,
        });
    }
    let mut mounts = Vec::with_capacity(plan.mounts.len());
    for mount in &plan.mounts {
        mounts.push(Bind {
            source: source(&mount.source, Some(mount.identity))?,
            target: prefixes(&mount.target)?,
            directory: mount.directory,
            read_only: mount.read_only,
            home: mount.kind == crate::plan::launch::MountKind::Home,
            review: mount.review.as_deref().map(|dir| source(dir, None)).transpose()?,
        });
    }
    let outer = plan.vm.as_ref().map(|vm| -> Result<Outer, PrepareError> {
        let mut lowers = Vec::with_capacity(vm.jail_root.lowers.len());
        for lower in &vm.jail_root.lowers {
            lowers.push(source(lower, None)?);
        }
        let mut system = Vec::with_capacity(vm.jail_root.system.len());
        for tree in &vm.jail_root.system {
            let (source, target) = (source(&tree.path, None)?, relative(&tree.path)?);
            system.push(Tree { source, target, writable: false, lowers: Vec::new() });
        }
        let mut files = Vec::with_capacity(vm.files.len());
        for file in &vm.files {
            files.push(Bind {
                source: match file.read_only {
                    true => source(&file.source, Some(file.identity))?,
                    false => {
                        Source { path: path(&file.source)?, identity: Some(file.identity), mapped: None }
                    }
                },
                target: prefixes(&file.target)?,
                directory: file.directory,
                read_only: file.read_only,
                home: false,
                review: None,
            });
        }
        Ok(Outer { lowers, system, files })
    });
    let outer = outer.transpose()?;
    let mut capabilities = CapabilitySet::empty();
    for name in &plan.user.capabilities {
        capabilities |= capability(name)?;
    }
    let mut landlock_paths = Vec::with_capacity(plan.landlock.rules.len());
    for rule in &plan.landlock.rules {
        // In a root of its own a rule is for what was mounted, which has been compared before.
        let planned = plan.mounts.iter().position(|mount| mount.target == rule.path);
        let planned = planned.filter(|_| plan.in_place.is_some());
        landlock_paths.push(Ruled {
            path: text(&rule.path)?,
            access: rule.access,
            optional: rule.optional,
            planned: planned.and_then(|at| Some((at, plan.mounts.get(at)?.identity))),
        });
    }
    Ok(Prepared {
        own_maps: own
            .then(|| (map_text(&plan.user.uid_map).into_bytes(), map_text(&plan.user.gid_map).into_bytes())),
        take_ids: (plan.user.map_writer == MapWriter::Keeper).then_some((plan.user.uid, plan.user.gid)),
        lowers,
        upper,
        scratch_size: text(&size.to_string())?,
        scratch_inodes: text(&(size / BYTES_PER_INODE).max(LEAST_INODES).to_string())?,
        system,
        mounts,
        outer,
        ephemeral_home: plan.ephemeral,
        hostname: plan.hostname.clone().into_bytes(),
        low_ports: plan.vm.is_some(),
        rlimits: rlimits(plan),
        open_files: plan.limits.open_files,
        nice: plan.limits.cpus_milli.is_some_and(|(_, by)| by == crate::plan::launch::Enforcer::Nice),
        capabilities,
        ambient: plan.vm.is_some(),
        landlock: plan.landlock.clone(),
        landlock_paths,
        in_place: plan.in_place.clone(),
        terminal: match plan.stdio {
            StdioPlan::Pty { rows, cols } => Some((rows, cols)),
            StdioPlan::Pipes { .. } => None,
        },
        entry: {
            let (argv, cwd) = crate::plan::vm::entry_words(plan);
            SpawnSpec::new(&argv, &plan.env, &cwd)?
        },
    })
}

/// One file for so many bytes of the scratch file system, as mkfs counts for small files.
const BYTES_PER_INODE: u64 = 2048;
/// However small it is: a package manager's temporary files must fit.
const LEAST_INODES: u64 = 8192;

fn rlimits(plan: &LaunchPlan) -> Vec<(rustix::process::Resource, u64)> {
    use rustix::process::Resource;
    let files = plan.limits.open_files.saturating_add(crate::plan::limits::FILES_OF_INIT);
    let mut limits = vec![(Resource::Nofile, files), (Resource::Core, 0)];
    if let Some((pids, _)) = plan.limits.pids {
        // Counted per user namespace since Linux 5.14, so a second wall even beside a cgroup. In place all that the user runs
        // counts, which is no more than all that runs here.
        let others = if plan.in_place.is_some() { u64::from(rustix::system::sysinfo().procs) } else { 0 };
        limits.push((Resource::Nproc, u64::from(pids) + others));
    }
    limits
}

/// The prefixes of an absolute path inside: `/a/b` gives `a`, `a/b`.
fn prefixes(target: &str) -> Result<Vec<CString>, PrepareError> {
    let mut all = Vec::new();
    let mut whole = String::new();
    for part in target.split('/').filter(|part| !part.is_empty()) {
        if !whole.is_empty() {
            whole.push('/');
        }
        whole.push_str(part);
        all.push(text(&whole)?);
    }
    Ok(all)
}

fn capability(name: &str) -> Result<CapabilitySet, PrepareError> {
    Ok(match name.strip_prefix("CAP_").unwrap_or(name) {
        "CHOWN" => CapabilitySet::CHOWN,
        "DAC_OVERRIDE" => CapabilitySet::DAC_OVERRIDE,
        "FOWNER" => CapabilitySet::FOWNER,
        "FSETID" => CapabilitySet::FSETID,
        "SETUID" => CapabilitySet::SETUID,
        "SETGID" => CapabilitySet::SETGID,
        "SETFCAP" => CapabilitySet::SETFCAP,
        "KILL" => CapabilitySet::KILL,
        "NET_BIND_SERVICE" => CapabilitySet::NET_BIND_SERVICE,
        "SETPCAP" => CapabilitySet::SETPCAP,
        "SYS_CHROOT" => CapabilitySet::SYS_CHROOT,
        _ => return Err(PrepareError::Capability(name.to_owned())),
    })
}

impl Source {
    /// The descriptor of the id-mapped clone, if any.
    #[must_use]
    pub fn mapped(&self) -> Option<BorrowedFd<'_>> {
        self.mapped.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_split() {
        let shown: Vec<_> = prefixes("/projects/site")
            .expect("no NUL")
            .into_iter()
            .map(|c| c.into_string().expect("utf-8"))
            .collect();
        assert_eq!(shown, ["projects", "projects/site"]);
        assert!(prefixes("/a\0b").is_err());
    }

    #[test]
    fn maps_are_written_as_the_kernel_reads_them() {
        assert_eq!(
            map_text(&[
                IdMap { inside: 0, outside: 1000, count: 1 },
                IdMap { inside: 1, outside: 100_000, count: 65536 }
            ]),
            "0 1000 1\n1 100000 65536\n"
        );
    }
}
