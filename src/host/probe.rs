//! Facts of this host, each read or tried on its own. Nothing here decides what they mean:
//! `plan::diagnose` does.
//!
//! What a file or a query tells is cheap (microseconds) and may be asked on every launch. What only
//! trying shows (namespaces, overlay, nftables) is tried in a forked child inside namespaces of its
//! own, so nothing of it remains; that costs milliseconds and is for `doctor`.

mod cgroup;
mod children;
pub(crate) mod raw;
mod subordinate;

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::system::{sysinfo, uname};

use crate::model::ByteSize;
use crate::model::host::{
    DeviceFacts, HostFacts, KernelFacts, LandlockFacts, TerminalFacts, Tried, UserNamespaceFacts,
};

pub use cgroup::{cgroup_layout, cgroups};
pub use children::{fresh_proc, network_namespace, nftables, overlay, tmpfs_xattrs};
pub use subordinate::subordinate_ids;

/// The kernel's Landlock ABI, 0 without Landlock. One system call.
#[must_use]
pub fn landlock_abi() -> u32 {
    raw::landlock_abi()
}

/// ABI and errata. Two system calls.
#[must_use]
pub fn landlock() -> LandlockFacts {
    LandlockFacts { abi: raw::landlock_abi(), errata: raw::landlock_errata() }
}

/// Can seccomp filters end a process? One system call, nothing is installed.
#[must_use]
pub fn seccomp() -> Tried {
    match raw::seccomp_kill_available() {
        Ok(()) => Tried::Works,
        Err(error) => Tried::Refused(format!("asking for the filter action: {error}")),
    }
}

/// User namespaces: the settings, and a real try.
#[must_use]
pub fn user_namespaces() -> UserNamespaceFacts {
    UserNamespaceFacts {
        tried: children::user_namespace(),
        max: setting("user/max_user_namespaces"),
        clone_allowed: setting("kernel/unprivileged_userns_clone").map(|value| value != 0),
        apparmor_restricts: setting("kernel/apparmor_restrict_unprivileged_userns").map(|value| value != 0),
    }
}

/// A number under `/proc/sys`; `None` when this kernel does not have it.
fn setting(name: &str) -> Option<u64> {
    std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok()
}

/// Can a container jail be made here? What it needs is tried, one after the other, until one is refused.
#[must_use]
pub fn container_jail() -> Tried {
    let parts = [children::user_namespace, overlay, fresh_proc, network_namespace];
    let failed = parts.into_iter().map(|part| part()).find(|tried| *tried != Tried::Works);
    failed.unwrap_or(Tried::Works)
}

/// Release and version of the kernel.
#[must_use]
pub fn kernel() -> KernelFacts {
    let release = uname().release().to_string_lossy().into_owned();
    KernelFacts { version: parse_version(&release), release }
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The host's memory.
#[must_use]
pub fn memory_total() -> ByteSize {
    let info = sysinfo();
    #[allow(clippy::useless_conversion, reason = "the field's width differs between architectures")]
    let total = u64::try_from(info.totalram).unwrap_or(0);
    ByteSize::bytes(total.saturating_mul(u64::from(info.mem_unit.max(1))))
}

/// `/dev/kvm`.
#[must_use]
pub fn kvm() -> DeviceFacts {
    let device = "/dev/kvm";
    DeviceFacts {
        exists: Path::new(device).exists(),
        usable: rustix::fs::access(device, Access::READ_OK | Access::WRITE_OK).is_ok(),
    }
}

/// The terminal on standard input and output.
#[must_use]
pub fn terminal() -> TerminalFacts {
    let (input, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let size = rustix::termios::tcgetwinsize(output).ok().map(|size| (size.ws_col, size.ws_row));
    TerminalFacts {
        term: std::env::var("TERM").ok().filter(|term| !term.is_empty()),
        interactive: rustix::termios::isatty(input) && rustix::termios::isatty(output),
        size: size.filter(|(columns, rows)| *columns > 0 && *rows > 0),
    }
}

/// Is this host itself a container? The sign that was seen.
#[must_use]
pub fn container() -> Option<String> {
    for (file, sign) in [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")] {
        if Path::new(file).exists() {
            return Some(format!("{sign} ({file})"));
        }
    }
    if let Ok(kind) = std::fs::read_to_string("/run/systemd/container") {
        return Some(kind.trim().to_owned());
    }
    let groups = std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    ["docker", "kubepods", "containerd", "libpod", "lxc"]
        .into_iter()
        .find(|sign| groups.contains(sign))
        .map(|sign| format!("{sign} (cgroup of process 1)"))
}

/// All facts, for the user `user`. Takes some milliseconds: several namespaces are tried.
#[must_use]
pub fn all(user: &str) -> HostFacts {
    HostFacts {
        uid: rustix::process::geteuid().as_raw(),
        user: user.to_owned(),
        program: program(),
        kernel: kernel(),
        landlock: landlock(),
        seccomp: seccomp(),
        user_namespaces: user_namespaces(),
        overlay: overlay(),
        tmpfs_xattrs: tmpfs_xattrs(),
        fresh_proc: fresh_proc(),
        network_namespace: network_namespace(),
        nftables: nftables(),
        subordinate: subordinate_ids(user),
        cgroup_layout: cgroup_layout(),
        cgroups: cgroups(),
        kvm: kvm(),
        terminal: terminal(),
        container: container(),
        memory_total: memory_total(),
    }
}

fn program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (release, version) in
            [("6.18.44-fc", (6, 18)), ("5.4.0-150-generic", (5, 4)), ("7.0", (7, 0)), ("odd", (0, 0))]
        {
            assert_eq!(parse_version(release), version, "{release}");
        }
    }

    #[test]
    fn this_host_has_what_every_linux_has() {
        let facts = all("nobody");
        assert!(facts.kernel.version >= (4, 0), "{:?}", facts.kernel);
        assert!(facts.memory_total > ByteSize::mib(16));
        assert_eq!(facts.seccomp, Tried::Works);
        // An abi that this kernel's version cannot have would mean that the query is wrong.
        assert!(facts.landlock.abi < 100);
        assert!(facts.landlock.abi > 0 || !Path::new("/sys/kernel/security/landlock").exists());
    }
}
