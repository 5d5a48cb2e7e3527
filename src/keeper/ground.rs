//! What a keeper does for those who read its cube's changes: it writes down where they are, hands the uppers out, and holds
//! the cube still meanwhile.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::state::Keeper;
use crate::host::{cgroup, fdpass};
use crate::jail::wire::{self, ALL_SESSIONS, Message};
use crate::plan::LaunchPlan;
use crate::plan::changes::Ground;
use crate::plan::launch::UpperPlan;
use crate::upper::manifest;

/// The ground's file in a cube's folder.
pub const FILE: &str = "headers/ground.json";
/// How long the processes of a cube may take to stand still.
const STILL: Duration = Duration::from_secs(2);

/// What is open of a running cube for those who read its changes.
#[derive(Debug)]
pub struct Opened {
    /// Holds the uppers.
    pub store: OwnedFd,
    /// The cube's user namespace.
    pub userns: OwnedFd,
    /// The image is not collected while this is open.
    pub held: Option<fs::File>,
}

/// Says that the image whose lock this is is in use, until the file is closed.
///
/// # Errors
/// One line.
pub fn hold(lock: &Path) -> Result<fs::File, String> {
    let held = fs::File::open(lock).and_then(|file| file.lock_shared().map(|()| file));
    held.map_err(|error| format!("cannot hold the cube's image: {error}"))
}

/// True when something of the plan is on the disk that is read after the cube has ended.
#[must_use]
pub fn outlives(plan: &LaunchPlan) -> bool {
    matches!(plan.root.upper, UpperPlan::Disk { .. })
        || plan.mounts.iter().any(|mount| mount.review.is_some())
}

/// Makes the folders of a review, writes down what the project is now, and the ground itself.
///
/// # Errors
/// What could not be made, with its path.
pub fn write(folder: &Path, plan: &LaunchPlan) -> io::Result<()> {
    if !outlives(plan) {
        return Ok(());
    }
    let held = folder.join("review/upper");
    let pending = fs::read_dir(&held).is_ok_and(|mut entries| entries.next().is_some());
    match plan.mounts.iter().find_map(|mount| mount.review.as_ref().map(|dir| (mount, dir))) {
        Some((mount, dir)) => {
            for name in ["upper", "work"] {
                fs::create_dir_all(dir.join(name))?;
            }
            if !pending {
                // The merged folder shows the upper's own mode.
                let mode = fs::metadata(&mount.source)?.permissions().mode() & 0o777;
                fs::set_permissions(dir.join("upper"), Permissions::from_mode(mode))?;
                manifest::write(&mount.source, &dir.join("base"))?;
            }
        }
        None if pending => {
            return Err(io::Error::other(
                "it holds changes under review: take them over with `tripmine apply`, or launch it with `--review`",
            ));
        }
        None => {}
    }
    let body = serde_json::to_vec(&Ground::of(plan))?;
    let (file, part) = (folder.join(FILE), folder.join("headers/ground.part"));
    fs::write(&part, body)?;
    fs::File::open(&part)?.sync_all()?;
    fs::rename(part, file)
}

/// After the end: a review that holds nothing goes.
pub fn clean(folder: &Path, plan: &LaunchPlan) {
    if plan.mounts.iter().any(|mount| mount.review.is_some()) {
        let review = folder.join("review");
        // Not empty: it stays until it is applied or dropped.
        if fs::remove_dir(review.join("upper")).is_ok() {
            let _removed = crate::store::remove::remove_tree(&review);
        }
    }
}

/// Sends the uppers' descriptors over a client's socket.
///
/// # Errors
/// As sendmsg(2).
pub fn hand_out(opened: &Opened, socket: &OwnedFd) -> io::Result<()> {
    fdpass::send(socket, b"G", &[opened.store.as_fd(), opened.userns.as_fd()])
}

/// Holds every process of the cube still.
///
/// # Errors
/// One line; nothing is held then.
pub async fn freeze(keeper: &Keeper) -> Result<(), String> {
    let begun = Instant::now();
    let by_cgroup = match &keeper.plan.limits.cgroup {
        Some(plan) => {
            cgroup::freeze(plan, true).map_err(|error| format!("cannot freeze the cube: {error}"))?
        }
        None => false,
    };
    if !by_cgroup {
        signal(keeper, libc::SIGSTOP).map_err(|errno| format!("cannot hold the cube still: {errno}"))?;
    }
    loop {
        let still = match (&keeper.plan.limits.cgroup, by_cgroup) {
            (Some(plan), true) => cgroup::is_frozen(plan),
            _ => super::stats::all_stopped(keeper.pid),
        };
        if still {
            return Ok(());
        }
        if begun.elapsed() > STILL {
            thaw(keeper);
            return Err("some process of the cube did not stand still in time".to_owned());
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

/// Lets the cube go on.
pub fn thaw(keeper: &Keeper) {
    let by_cgroup =
        keeper.plan.limits.cgroup.as_ref().is_some_and(|plan| cgroup::freeze(plan, false).unwrap_or(false));
    if !by_cgroup {
        // A cube that has ended meanwhile needs nothing.
        let _sent = signal(keeper, libc::SIGCONT);
    }
}

fn signal(keeper: &Keeper, signal: i32) -> Result<(), rustix::io::Errno> {
    wire::send(keeper.init.as_fd(), Message::Signal { session: ALL_SESSIONS, signal }, &[])
}
