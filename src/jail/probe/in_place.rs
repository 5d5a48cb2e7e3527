//! The L rows: what the jail in place promises where others have namespaces for it.

use std::fs::{self, OpenOptions};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, socketpair};
use rustix::process::{Pid, Resource};

use super::{Seen, fail, none_of, pass, untested};

/// Folders and files of every host that no rule names.
const SHUT: &[&str] = &[
    "/",
    "/boot",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/etc",
    "/etc/machine-id",
    "/etc/shadow",
    "/home",
    "/root",
    "/run",
    "/sys",
    "/tmp",
    "/var",
    "/var/log",
];

/// L01.
pub(super) fn reading(of_host: &[String]) -> Seen {
    let opened: Vec<String> = SHUT
        .iter()
        .map(|path| (*path).to_owned())
        .chain(of_host.iter().cloned())
        .filter(|path| {
            fs::read_dir(path).is_ok() || fs::File::open(path).is_ok_and(|file| has_content(&file))
        })
        .map(|path| format!("{path} can be read"))
        .collect();
    none_of(&opened, "none of them opens")
}

fn has_content(mut file: &fs::File) -> bool {
    std::io::Read::read(&mut file, &mut [0; 1]).is_ok()
}

/// L02. `victim` is a file of the host's, made to be tried.
pub(super) fn writing(victim: Option<&str>) -> Seen {
    let name = format!(".tripmine-probe-{}", std::process::id());
    let mut done = Vec::new();
    for folder in ["/", "/dev/shm", "/etc", "/tmp", "/usr", "/usr/local", "/var/tmp"] {
        let path = Path::new(folder).join(&name);
        if fs::write(&path, "").is_ok() {
            let stayed = if fs::remove_file(&path).is_ok() { "" } else { ", and stayed" };
            done.push(format!("a file was made in {folder}{stayed}"));
        }
    }
    if let Some(victim) = victim {
        let beside = format!("{victim}.moved");
        let linked = std::env::temp_dir().join(&name);
        for (what, worked) in [
            ("opened for writing", OpenOptions::new().append(true).open(victim).is_ok()),
            ("linked", fs::hard_link(victim, &linked).is_ok()),
            // And back: where it works, the host keeps its file.
            ("renamed", fs::rename(victim, &beside).is_ok_and(|()| fs::rename(&beside, victim).is_ok())),
            ("removed", fs::remove_file(victim).is_ok()),
        ] {
            if worked {
                done.push(format!("a file of the host was {what}"));
            }
        }
    }
    match victim {
        None if done.is_empty() => untested("no file of the host was named"),
        _ => none_of(&done, "nothing was made or changed"),
    }
}

/// L03.
pub(super) fn unix_sockets() -> Seen {
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    match socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None) {
        Ok(_) => fail("a unix socket can be made"),
        Err(_) if pair.is_err() => fail("not even a pair can be made, which programs need"),
        Err(errno) => pass(errno.to_string()),
    }
}

/// L04.
pub(super) fn settings_of_others(pid: Option<u32>) -> Seen {
    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) else {
        return untested("no process of the host was named");
    };
    let mut done = Vec::new();
    // What is set is what is there, where it can be told: the host must not suffer.
    let own = rustix::process::getrlimit(Resource::Core);
    if rustix::process::prlimit(Some(pid), Resource::Core, own).is_ok() {
        done.push("its limits can be set".to_owned());
    }
    if rustix::process::setpriority_process(Some(pid), 19).is_ok() {
        done.push("its priority can be set".to_owned());
    }
    none_of(&done, "neither limits nor priority")
}

/// L05.
#[expect(unsafe_code, reason = "a system call that nothing wraps")]
pub(super) fn shared_objects() -> Seen {
    // SAFETY: a plain system call without pointers; a segment that it should make is removed again.
    let made = unsafe { libc::syscall(libc::SYS_shmget, libc::IPC_PRIVATE, 4096, 0o600) };
    let errno = Errno::from_io_error(&std::io::Error::last_os_error());
    if made >= 0 {
        // SAFETY: as above; the number is the one that was just given.
        unsafe { libc::syscall(libc::SYS_shmctl, made, libc::IPC_RMID, 0) };
        return fail("shared memory of the host can be had");
    }
    match errno {
        Some(Errno::NOSYS) => pass("they do not exist"),
        other => untested(format!("{other:?}")),
    }
}

/// L06.
pub(super) fn modes(victim: Option<&str>) -> Seen {
    let Some(victim) = victim else { return untested("no file of the host was named") };
    let set = |mode| fs::set_permissions(victim, std::os::unix::fs::PermissionsExt::from_mode(mode)).is_ok();
    let given: Vec<String> = [0o666, 0o4700, 0o2700, 0o620]
        .into_iter()
        .filter(|mode| set(*mode))
        .map(|mode| format!("a file of the host got the mode {mode:o}"))
        .collect();
    none_of(&given, "none that lets others write, or run as its owner")
}

/// L07.
pub(super) fn inspecting(pid: Option<u32>) -> Seen {
    let Some(pid) = pid else { return untested("no process of the host was named") };
    let read = ["environ", "maps", "mem", "auxv", "io"]
        .into_iter()
        .filter(|name| fs::File::open(format!("/proc/{pid}/{name}")).is_ok_and(|file| has_content(&file)));
    // The list of descriptors may be seen, as numbers; what they are may not.
    let followed = ["exe", "cwd", "root", "fd/0", "fd/1", "ns/user"]
        .into_iter()
        .filter(|name| fs::read_link(format!("/proc/{pid}/{name}")).is_ok());
    let open: Vec<String> =
        read.chain(followed).map(|name| format!("/proc/{pid}/{name} can be read")).collect();
    none_of(&open, "its memory, files and environment cannot be read")
}
