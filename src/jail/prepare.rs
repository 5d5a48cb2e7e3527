//! From the plan to what the child needs: C strings, bytes, tables. Runs in the keeper, before the clone; opens
//! nothing but the id-mapped folders that only the host's root can make.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::thread::CapabilitySet;

use super::spawn::SpawnSpec;
use crate::model::sanitize::printable;
use crate::plan::LaunchPlan;
use crate::plan::launch::{
    CgroupPlan, FileIdentity, IdMap, LandlockAccess, LandlockPlan, MapWriter, UpperPlan,
};

/// Everything that the child applies.
#[derive(Debug)]
pub struct Prepared {
    /// `CLONE_NEW*` for clone3(2).
    pub namespaces: u64,
    /// The child writes its own one-line maps; otherwise it waits for the keeper.
    pub own_maps: Option<(Vec<u8>, Vec<u8>)>,
    /// Ids to take once mapped (only where the caller's own id is not mapped).
    pub take_ids: Option<(u32, u32)>,
    /// Take the cgroup namespace only after the keeper has moved the child (version 1).
    pub late_cgroup_ns: bool,
    /// Lowers, topmost first.
    pub lowers: Vec<Source>,
    /// Where changes go.
    pub upper: Upper,
    /// `size=` of the scratch tmpfs.
    pub scratch_size: CString,
    /// Host system folders.
    pub system: Vec<Tree>,
    /// Home, project and others.
    pub mounts: Vec<Bind>,
    /// The home is covered by a throwaway layer.
    pub ephemeral_home: bool,
    /// Host name.
    pub hostname: Vec<u8>,
    /// Limits: resource, soft and hard.
    pub rlimits: Vec<(rustix::process::Resource, u64)>,
    /// Lower scheduling priority, for lack of anything better.
    pub nice: bool,
    /// Capabilities that stay in the bounding set.
    pub capabilities: CapabilitySet,
    /// Landlock: the ABI and (path, access, optional).
    pub landlock: LandlockPlan,
    /// Its paths, as C strings.
    pub landlock_paths: Vec<(CString, LandlockAccess, bool)>,
    /// Compiled filters, in the order of installation.
    pub filters: Vec<Vec<libc::sock_filter>>,
    /// The entry.
    pub entry: SpawnSpec,
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
    /// An id-mapped mount could not be made.
    #[error("cannot make an id-mapped view of `{0}`: {1}")]
    IdMap(String, std::io::Error),
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

/// Prepares `plan`. `filters` are compiled by the caller; `userns` is a user namespace with the
/// plan's maps, given only when the plan wants id-mapped mounts.
///
/// # Errors
/// A text with a NUL, an unknown capability, or an id-mapped mount that cannot be made.
pub fn prepare(
    plan: &LaunchPlan,
    filters: Vec<Vec<libc::sock_filter>>,
    userns: Option<BorrowedFd<'_>>,
) -> Result<Prepared, PrepareError> {
    let source = |place: &Path, identity: Option<FileIdentity>| -> Result<Source, PrepareError> {
        let mapped = match userns {
            Some(userns) => Some(
                super::mounts::idmapped_clone(place, identity, userns)
                    .map_err(|error| PrepareError::IdMap(printable(&place.to_string_lossy()), error))?,
            ),
            None => None,
        };
        Ok(Source { path: path(place)?, identity, mapped })
    };
    let v1 = matches!(plan.limits.cgroup, Some(CgroupPlan::V1 { .. }));
    let mut namespaces = (libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS) as u64
        | CLONE_NEWTIME;
    if !v1 {
        namespaces |= libc::CLONE_NEWCGROUP as u64;
    }
    let own = plan.user.map_writer == MapWriter::Own;
    let (upper, size) = match &plan.root.upper {
        UpperPlan::Tmpfs { size } => (Upper::Scratch, size.get()),
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
        });
    }
    let mut capabilities = CapabilitySet::empty();
    for name in &plan.user.capabilities {
        capabilities |= capability(name)?;
    }
    let mut landlock_paths = Vec::with_capacity(plan.landlock.rules.len());
    for rule in &plan.landlock.rules {
        landlock_paths.push((text(&rule.path)?, rule.access, rule.optional));
    }
    Ok(Prepared {
        namespaces,
        own_maps: own
            .then(|| (map_text(&plan.user.uid_map).into_bytes(), map_text(&plan.user.gid_map).into_bytes())),
        take_ids: (plan.user.map_writer == MapWriter::Keeper).then_some((plan.user.uid, plan.user.gid)),
        late_cgroup_ns: v1,
        lowers,
        upper,
        scratch_size: text(&size.to_string())?,
        system,
        mounts,
        ephemeral_home: plan.ephemeral,
        hostname: plan.hostname.clone().into_bytes(),
        rlimits: rlimits(plan),
        nice: plan.limits.cpus_milli.is_some_and(|(_, by)| by == crate::plan::launch::Enforcer::Nice),
        capabilities,
        landlock: plan.landlock.clone(),
        landlock_paths,
        filters,
        entry: SpawnSpec::new(&plan.entry.argv, &plan.env, &plan.entry.cwd)?,
    })
}

/// `CLONE_NEWTIME` of sched.h; allowed for clone3(2), where the low byte is no signal.
const CLONE_NEWTIME: u64 = 0x80;

fn rlimits(plan: &LaunchPlan) -> Vec<(rustix::process::Resource, u64)> {
    use rustix::process::Resource;
    let mut limits = vec![(Resource::Nofile, plan.limits.open_files), (Resource::Core, 0)];
    if let Some((pids, _)) = plan.limits.pids {
        // Counted per user namespace since Linux 5.14, so a second wall even beside a cgroup.
        limits.push((Resource::Nproc, u64::from(pids)));
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
        "SYS_CHROOT" => CapabilitySet::SYS_CHROOT,
        _ => return Err(PrepareError::Capability(name.to_owned())),
    })
}

impl Prepared {
    /// The descriptors that the child needs of what the keeper has opened.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let upper = match &self.upper {
            Upper::Disk(source) => Some(source),
            Upper::Scratch => None,
        };
        self.lowers
            .iter()
            .chain(upper)
            .chain(self.system.iter().map(|tree| &tree.source))
            .chain(self.mounts.iter().map(|bind| &bind.source))
            .filter_map(|source| source.mapped.as_ref().map(AsRawFd::as_raw_fd))
    }
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
