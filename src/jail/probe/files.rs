//! The F rows: what lies in the cube's root. And its network interfaces.

use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat, unlink};

use super::{Seen, fail, none_of, pass, untested};

/// What must not exist in any cube.
const HOST_ONLY: &[&str] = &[
    "/oldroot",
    "/newroot",
    "/run/user",
    "/run/docker.sock",
    "/run/podman",
    "/run/dbus/system_bus_socket",
    "/boot/vmlinuz",
];

pub(super) fn absent(of_host: &[String]) -> Seen {
    let found: Vec<String> = HOST_ONLY
        .iter()
        .map(|path| (*path).to_owned())
        .chain(of_host.iter().cloned())
        .filter(|path| Path::new(path).symlink_metadata().is_ok())
        .map(|path| format!("{path} exists"))
        .collect();
    none_of(&found, "none of them")
}

pub(super) fn kernel_settings() -> Seen {
    const SETTINGS: &[&str] = &[
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        // Owned by root inside, so that only the cover refuses it.
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/hostname",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/profiling",
    ];
    let open: Vec<String> = SETTINGS
        .iter()
        // Opened, never written: where it succeeds the host must not suffer.
        .filter(|path| std::fs::OpenOptions::new().write(true).open(path).is_ok())
        .map(|path| format!("{path} can be written"))
        .collect();
    none_of(&open, "none can be opened for writing")
}

pub(super) fn kernel_disclosure() -> Seen {
    const FILES: &[&str] = &[
        "kallsyms",
        "keys",
        "key-users",
        "config.gz",
        "interrupts",
        "softirqs",
        "iomem",
        "ioports",
        "cmdline",
        "kcore",
        "timer_list",
        "slabinfo",
        "sched_debug",
    ];
    const FOLDERS: &[&str] = &["/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware"];
    let tells = |path: &String| {
        let mut head = [0; 64];
        let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut head));
        read.is_ok_and(|count| head[..count].iter().any(|byte| *byte != 0))
    };
    let files = FILES.iter().map(|name| format!("/proc/{name}")).filter(tells);
    let lists = |path: &&&str| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let folders = FOLDERS.iter().filter(lists).map(|path| (*path).to_owned());
    let open: Vec<String> = files.chain(folders).map(|path| format!("{path} can be read")).collect();
    none_of(&open, "none of it can be read")
}

pub(super) fn devices() -> Seen {
    const ORDINARY: &[&str] = &[
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd",
        "stdin", "stdout", "stderr", "core",
    ];
    let Ok(entries) = std::fs::read_dir("/dev") else { return untested("/dev cannot be read") };
    let more: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !ORDINARY.contains(&name.as_str()))
        .collect();
    none_of(&more, "the ordinary ones")
}

pub(super) fn making_devices() -> Seen {
    let folder = std::env::temp_dir();
    for (kind, number) in [(FileType::CharacterDevice, makedev(1, 3)), (FileType::BlockDevice, makedev(8, 0))]
    {
        let path = folder.join(format!(".probe-{}", std::process::id()));
        match mknodat(CWD, &path, kind, Mode::RUSR, number) {
            Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {}
            Err(error) => return untested(format!("making a {kind:?}: {error}")),
            Ok(()) => {
                // Root on the host leaves nothing behind even so.
                let removed = unlink(&path).is_ok();
                return fail(format!("a {kind:?} was made{}", if removed { "" } else { " and stayed" }));
            }
        }
    }
    pass("neither character nor block devices")
}

pub(super) fn interfaces() -> Seen {
    match std::fs::read_to_string("/proc/self/net/dev") {
        Ok(text) => judge_interfaces(&text),
        Err(error) if error.kind() == ErrorKind::NotFound => untested("/proc/self/net is absent"),
        Err(error) => untested(format!("/proc/self/net/dev: {error}")),
    }
}

fn judge_interfaces(table: &str) -> Seen {
    let all: Vec<&str> =
        table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    let more: Vec<String> = all.iter().filter(|name| **name != "lo").map(|name| (*name).to_owned()).collect();
    none_of(&more, if all.is_empty() { "none at all" } else { "lo" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::diagnose::Verdict;

    #[test]
    fn only_loopback() {
        let head = "Inter-| Receive\n face |bytes\n";
        for (rest, expected) in
            [("    lo: 0 0\n", Verdict::Pass), ("", Verdict::Pass), ("    lo: 0\n  eth0: 0\n", Verdict::Fail)]
        {
            assert_eq!(judge_interfaces(&format!("{head}{rest}")).0, expected, "{rest}");
        }
    }
}
