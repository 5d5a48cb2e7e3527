//! What must be known of a cube to read its changes later, when its plan is gone: where uppers and lowers are, how ids
//! were mapped, what was mounted over them. Holds no environment and no command, so no secret.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::launch::{LaunchPlan, MountKind, MountPlan, RootPlan, UserPlan};
use crate::model::{ImageRef, Name, TripId};

/// The version that this program writes and reads.
pub const GROUND_VERSION: u32 = 1;

/// The ground of a cube's changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ground {
    /// [`GROUND_VERSION`]; an unknown one is refused.
    pub version: u32,
    /// The cube.
    pub id: TripId,
    /// The machine.
    pub machine: Name,
    /// The project's name.
    pub project: Option<String>,
    /// The image.
    pub image: ImageRef,
    /// Its manifest's digest.
    pub image_digest: Option<String>,
    /// The root.
    pub root: RootPlan,
    /// Who runs inside, with the id maps.
    pub user: UserPlan,
    /// What was mounted.
    pub mounts: Vec<MountPlan>,
}

/// Where the upper of a region is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "place")]
pub enum UpperPlace {
    /// A folder of the cube's store: its tmpfs, or its `system-copy`.
    Store {
        /// The folder's name.
        name: String,
    },
    /// A folder on the disk.
    Disk {
        /// Holds `upper/`.
        dir: PathBuf,
    },
}

/// One overlay of a cube: an upper over lowers, seen at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Where it is seen inside, without a leading slash; empty for the root.
    pub prefix: String,
    /// It is the project under review, not the system.
    pub project: bool,
    /// The upper.
    pub upper: UpperPlace,
    /// The lowers, topmost first.
    pub lowers: Vec<PathBuf>,
    /// Places in it, relative to it, where something else is mounted.
    pub mounted: Vec<String>,
}

/// Folders of the root that hold nothing of an upper: the kernel's, and those in memory.
const COVERED: [&str; 4] = ["proc", "dev", "tmp", "run"];

impl Ground {
    /// That of a plan.
    #[must_use]
    pub fn of(plan: &LaunchPlan) -> Self {
        Self {
            version: GROUND_VERSION,
            id: plan.id.clone(),
            machine: plan.machine.clone(),
            project: plan.project.as_ref().map(|project| project.name.clone()),
            image: plan.image.clone(),
            image_digest: plan.image_digest.clone(),
            root: plan.root.clone(),
            user: plan.user.clone(),
            mounts: plan.mounts.clone(),
        }
    }

    /// Every overlay whose changes are told: those of the system, then that of the project under review.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        let inside = |path: &str| path.trim_start_matches('/').to_owned();
        let mut mounted: Vec<String> = COVERED.iter().map(|&name| name.to_owned()).collect();
        mounted.extend(self.mounts.iter().map(|mount| inside(&mount.target)));
        mounted.extend(self.root.system.iter().map(|tree| inside(&tree.path.to_string_lossy())));
        let mut regions = vec![Region {
            prefix: String::new(),
            project: false,
            upper: UpperPlace::Store { name: "upper".to_owned() },
            lowers: self.root.lowers.clone(),
            mounted,
        }];
        for (index, tree) in self.root.system.iter().enumerate().filter(|(_, tree)| tree.writable) {
            regions.push(Region {
                prefix: inside(&tree.path.to_string_lossy()),
                project: false,
                upper: UpperPlace::Store { name: system_upper(index) },
                lowers: tree.lowers.iter().chain([&tree.path]).cloned().collect(),
                mounted: Vec::new(),
            });
        }
        for mount in &self.mounts {
            if let (MountKind::Project, Some(dir)) = (mount.kind, &mount.review) {
                regions.push(Region {
                    prefix: inside(&mount.target),
                    project: true,
                    upper: UpperPlace::Disk { dir: dir.clone() },
                    lowers: vec![mount.source.clone()],
                    mounted: Vec::new(),
                });
            }
        }
        regions
    }

    /// The project under review: its mount.
    #[must_use]
    pub fn review(&self) -> Option<&MountPlan> {
        self.mounts.iter().find(|mount| mount.kind == MountKind::Project && mount.review.is_some())
    }
}

/// The name of the upper of the system folder with this number, as the set-up makes it.
#[must_use]
pub(super) fn system_upper(index: usize) -> String {
    let letter = b"abcdefghijklmnopqrstuvwxyz"[index % 26];
    format!("u{}", char::from(letter))
}
