//! Probes that try: each runs in a forked child, in namespaces of its own that end with it.

use std::io::{Read as _, Write as _};

use rustix::fs::{Mode, XattrFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::raw::{self, Ended};
use crate::model::host::Tried;

/// Long enough for a loaded machine that loads a kernel module on the way.
const PATIENCE_SECONDS: u32 = 10;
/// Where the children mount: a folder that every system has. Only their own mount namespace sees it.
const PLACE: &str = "/run";

/// Why a probe did not succeed.
enum Stop {
    /// The kernel refused what the probe is about.
    Refused(String),
    /// Something that comes before it did not work.
    Before(String),
}

type Outcome = Result<(), Stop>;

/// Makes a user and mount namespace, maps the caller to root in it and mounts a tmpfs. The mount is
/// part of it: an AppArmor restriction lets the namespace be made and then refuses its use.
#[must_use]
pub(super) fn user_namespace() -> Tried {
    attempt(|| {
        enter(libc::CLONE_NEWNS).map_err(|why| Stop::Refused(before(why)))?;
        tmpfs().map_err(|why| Stop::Refused(before(why)))
    })
}

/// Mounts an overlay with `userxattr` in a user namespace.
#[must_use]
pub fn overlay() -> Tried {
    attempt(|| {
        enter(libc::CLONE_NEWNS)?;
        tmpfs()?;
        for folder in ["l", "u", "w", "m"] {
            step("making a folder", rustix::fs::mkdir(folder, Mode::RWXU)).map_err(unrefuse)?;
        }
        let data = c"lowerdir=l,upperdir=u,workdir=w,userxattr";
        step("mounting an overlay", mount("overlay", "m", "overlay", MountFlags::empty(), data))?;
        step("writing through the overlay", rustix::fs::mkdir("m/x", Mode::RWXU))
    })
}

/// Sets a `user.*` attribute on a tmpfs that was mounted in a user namespace.
#[must_use]
pub fn tmpfs_xattrs() -> Tried {
    attempt(|| {
        enter(libc::CLONE_NEWNS)?;
        tmpfs()?;
        step("making a folder", rustix::fs::mkdir("x", Mode::RWXU)).map_err(unrefuse)?;
        let set = rustix::fs::setxattr("x", "user.overlay.opaque", b"y", XattrFlags::empty());
        step("setting a user attribute on tmpfs", set)
    })
}

/// Mounts `/proc` as the first process of a pid namespace.
#[must_use]
pub fn fresh_proc() -> Tried {
    attempt(|| {
        enter(libc::CLONE_NEWNS | libc::CLONE_NEWPID)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let ended = raw::in_child(|| {
            raw::end_after(PATIENCE_SECONDS);
            match mount("proc", PLACE, "proc", flags, None) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error(),
            }
        });
        match ended {
            Ok(Ended::Code(0)) => Ok(()),
            Ok(Ended::Code(code)) => step("mounting /proc", Err(rustix::io::Errno::from_raw_os_error(code))),
            Ok(Ended::Signal(signal)) => Err(Stop::Before(format!("ended by signal {signal}"))),
            Err(error) => Err(Stop::Before(format!("forking in the pid namespace: {error}"))),
        }
    })
}

/// Makes a network namespace in a user namespace.
#[must_use]
pub fn network_namespace() -> Tried {
    attempt(|| {
        enter(0)?;
        step("making a network namespace", raw::unshare(libc::CLONE_NEWNET))
    })
}

/// Captures a network namespace of its own, with the rules and listeners of a real cube.
#[must_use]
pub fn nftables() -> Tried {
    attempt(|| {
        enter(libc::CLONE_NEWNET)?;
        step("capturing a network", crate::host::capture::try_here().map_err(std::io::Error::other))
    })
}

/// A new user namespace with `others`, in which the caller is root.
fn enter(others: libc::c_int) -> Outcome {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let before = |what: &str, result: std::io::Result<()>| step(what, result).map_err(unrefuse);
    before("making a user namespace", raw::unshare(libc::CLONE_NEWUSER | others))?;
    before("writing setgroups", std::fs::write("/proc/self/setgroups", "deny"))?;
    before("writing uid_map", std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")))?;
    before("writing gid_map", std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")))
}

/// A tmpfs at [`PLACE`], which becomes the working directory.
fn tmpfs() -> Outcome {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step("making mounts private", mount_change("/", private)).map_err(unrefuse)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    step("mounting a tmpfs", mount("tmpfs", PLACE, "tmpfs", flags, None)).map_err(unrefuse)?;
    step("entering the tmpfs", rustix::process::chdir(PLACE)).map_err(unrefuse)
}

fn step<E: Into<std::io::Error>>(what: &str, result: Result<(), E>) -> Outcome {
    result.map_err(|error| Stop::Refused(format!("{what}: {}", error.into())))
}

fn unrefuse(stop: Stop) -> Stop {
    Stop::Before(before(stop))
}

fn before(stop: Stop) -> String {
    match stop {
        Stop::Refused(why) | Stop::Before(why) => why,
    }
}

const REFUSED: i32 = 1;
const UNTESTED: i32 = 2;

/// Runs `work` in a child; the reason comes back through a pipe.
fn attempt(work: impl FnOnce() -> Outcome) -> Tried {
    let (mut reader, mut writer) = match std::io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return Tried::Untested(format!("making a pipe: {error}")),
    };
    let ended = raw::in_child(|| {
        // Nothing of this process may live on in the child: a lock that it inherits would seem held.
        let keep = std::os::fd::AsRawFd::as_raw_fd(&writer).unsigned_abs();
        crate::host::sys::close_between(3, keep - 1);
        crate::host::sys::close_from(keep + 1);
        raw::end_after(PATIENCE_SECONDS);
        let (code, why) = match work() {
            Ok(()) => return 0,
            Err(Stop::Refused(why)) => (REFUSED, why),
            Err(Stop::Before(why)) => (UNTESTED, why),
        };
        // Without the reason the code still tells refused from untested.
        drop(writer.write_all(why.as_bytes()));
        code
    });
    drop(writer);
    let mut why = String::new();
    if reader.read_to_string(&mut why).is_err() || why.is_empty() {
        why = "no reason given".to_owned();
    }
    match ended {
        Ok(Ended::Code(0)) => Tried::Works,
        Ok(Ended::Code(REFUSED)) => Tried::Refused(why),
        Ok(Ended::Code(_)) => Tried::Untested(why),
        Ok(Ended::Signal(signal)) => Tried::Untested(format!("the probe was ended by signal {signal}")),
        Err(error) => Tried::Untested(format!("forking: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_back_with_their_reason() {
        assert_eq!(attempt(|| Ok(())), Tried::Works);
        assert_eq!(attempt(|| Err(Stop::Refused("no".to_owned()))), Tried::Refused("no".to_owned()));
        assert_eq!(attempt(|| Err(Stop::Before("later".to_owned()))), Tried::Untested("later".to_owned()));
    }

    /// What needs a user namespace is untested, not refused, where there is none; and where there
    /// is one, the rest has a verdict.
    #[test]
    fn the_rest_follows_the_user_namespace() {
        let usable = user_namespace() == Tried::Works;
        for (what, tried) in [
            ("overlay", overlay()),
            ("xattrs", tmpfs_xattrs()),
            ("proc", fresh_proc()),
            ("net", network_namespace()),
            ("nft", nftables()),
        ] {
            assert_eq!(matches!(tried, Tried::Untested(_)), !usable, "{what}: {tried:?}");
        }
    }
}
