//! What a cube finds as its root, and where its changes go.

use std::path::PathBuf;

use super::Typed;
use crate::model::{ByteSize, RunAs};
use crate::plan::facts::Facts;
use crate::plan::launch::{RootPlan, SystemTree, UpperPlan, UserPlan};
use crate::plan::limits;
use crate::plan::pick::Places;

/// The root of the image `host`, for the jail around a virtual machine.
pub(super) fn host_root(facts: &Facts) -> RootPlan {
    let system = facts.system.iter();
    let system =
        system.map(|path| SystemTree { path: path.clone(), writable: false, lowers: Vec::new() }).collect();
    RootPlan {
        lowers: vec![facts.skeleton.clone()],
        upper: UpperPlan::Tmpfs { size: ByteSize::mib(64) },
        system,
    }
}

/// The host's own, of which system folders are read.
pub(super) fn root_in_place(facts: &Facts) -> RootPlan {
    let tree = |path: &PathBuf| SystemTree { path: path.clone(), writable: false, lowers: Vec::new() };
    RootPlan {
        lowers: Vec::new(),
        upper: UpperPlan::Nothing,
        system: facts.system.iter().map(tree).collect(),
    }
}

pub(super) fn root(
    typed: &Typed,
    facts: &Facts,
    places: &Places<'_>,
    user: &UserPlan,
    warnings: &mut Vec<String>,
) -> RootPlan {
    // Overlayfs in a user namespace needs user.* extended attributes, which tmpfs has since 6.6.
    let tmpfs = facts.kernel >= (6, 6);
    let upper = if typed.keep.is_some() || !tmpfs {
        if typed.keep.is_none() {
            warnings.push(format!(
                "changes go to the disk and are deleted at the end: kernel {}.{} is older than 6.6 and cannot \
                 keep them in memory",
                facts.kernel.0, facts.kernel.1
            ));
        }
        UpperPlan::Disk { dir: facts.cube_dir.join("system-copy") }
    } else {
        let size = places
            .pick(|s| s.limits.disk)
            .map_or_else(|| limits::default_upper(facts.memory_total), |picked| picked.value.value);
        UpperPlan::Tmpfs { size }
    };
    if let Some(image) = facts.image.as_ref().filter(|image| !image.on_host) {
        return RootPlan { lowers: image.lowers.clone(), upper, system: Vec::new() };
    }
    let writable = user.idmapped_mounts && user.run_as == RunAs::Root;
    let over = |path: &PathBuf| {
        let all = facts.image.iter().flat_map(|image| image.over_system.iter());
        all.filter(|(tree, _)| tree == path).flat_map(|(_, lowers)| lowers.iter().cloned()).collect()
    };
    let system = facts.system.iter();
    let system = system.map(|path| SystemTree { path: path.clone(), writable, lowers: over(path) }).collect();
    let above = facts.image.iter().flat_map(|image| image.lowers.iter().cloned());
    RootPlan { lowers: above.chain([facts.skeleton.clone()]).collect(), upper, system }
}
