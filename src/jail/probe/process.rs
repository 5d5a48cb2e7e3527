//! The P rows: what the cube's processes are and see. And what binds them.

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, test_kill_process};

use super::{Seen, fail, none_of, pass, untested};
use crate::model::{Jail, RunAs};

/// Bits of the capabilities that root in a cube may have: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`,
/// `FSETID`, `KILL`, `SETGID`, `SETUID`, `NET_BIND_SERVICE`, `SYS_CHROOT`, `SETFCAP`.
const ROOT_CAPABILITIES: u64 =
    1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 18 | 1 << 31;

pub(super) fn privileges(run_as: RunAs, jail: Jail) -> Seen {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return untested("/proc/self/status cannot be read");
    };
    // Without a user namespace an ordinary user may not lower the bounding set; `no_new_privs` keeps it from mattering.
    let bounding = jail != Jail::Landlock || rustix::process::geteuid().is_root();
    judge_status(&status, run_as, bounding)
}

fn judge_status(status: &str, run_as: RunAs, bounding: bool) -> Seen {
    let fields: BTreeMap<&str, &str> =
        status.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k, v.trim())).collect();
    let allowed = match run_as {
        RunAs::Me => 0,
        RunAs::Root => ROOT_CAPABILITIES,
    };
    let mut wrong = Vec::new();
    for (name, expected) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        if fields.get(name) != Some(&expected) {
            wrong.push(format!("{name} is {}", fields.get(name).unwrap_or(&"absent")));
        }
    }
    for name in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        if name == "CapBnd" && !bounding {
            continue;
        }
        let held = fields.get(name).and_then(|text| u64::from_str_radix(text, 16).ok());
        if held.is_none_or(|held| held & !allowed != 0) {
            wrong.push(format!("{name} is {}", fields.get(name).unwrap_or(&"absent")));
        }
    }
    none_of(&wrong, "as promised")
}

pub(super) fn descriptors() -> Seen {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return untested("/proc/self/fd cannot be read");
    };
    let numbers: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The listing itself is open while it is read, and gone afterwards.
    let left: Vec<String> = numbers
        .into_iter()
        .filter(|number| *number > 2)
        .filter_map(|number| {
            let to = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
            Some(format!("{number} → {}", to.display()))
        })
        .collect();
    none_of(&left, "0, 1 and 2 only")
}

/// `caller` is a process of the host that has these variables, where its number means anything inside.
pub(super) fn environment(names: &[String], caller: Option<u32>) -> Seen {
    if names.is_empty() {
        return untested("no variable of the host was named");
    }
    let mut of_init = std::fs::read("/proc/1/environ").unwrap_or_default();
    of_init.extend(
        caller.and_then(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok()).unwrap_or_default(),
    );
    let seen: Vec<String> = names
        .iter()
        .filter_map(|name| {
            let prefix = format!("{name}=");
            let in_init = of_init.split(|byte| *byte == 0).any(|one| one.starts_with(prefix.as_bytes()));
            if std::env::var_os(name).is_some() {
                Some(format!("{name} in the own environment"))
            } else {
                in_init.then(|| format!("{name} in that of another process"))
            }
        })
        .collect();
    none_of(&seen, "none of the host's variables")
}

pub(super) fn visible_processes() -> Seen {
    let Ok(entries) = std::fs::read_dir("/proc") else { return untested("/proc cannot be read") };
    let count = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .count();
    match count {
        0 => untested("no process is seen, not even this one"),
        1..=6 => pass(format!("{count} processes")),
        _ => fail(format!("{count} processes")),
    }
}

/// Starts what is setuid here and looks as whom it runs. The C library's loader tells: it shows the program's
/// identity on request, and refuses to when the program runs with the rights of another.
pub(super) fn setuid_programs() -> Seen {
    const FOLDERS: &[&str] = &["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    let (own, mut told, mut silent) = (rustix::process::geteuid().as_raw(), 0, 0);
    for path in FOLDERS.iter().flat_map(|folder| setuid_files(folder)) {
        let Ok(output) = Command::new(&path)
            .arg("--help")
            .env_clear()
            .env("LD_SHOW_AUXV", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
        else {
            silent += 1;
            continue;
        };
        match effective_user(&String::from_utf8_lossy(&output.stdout)) {
            Some(user) if user == own => told += 1,
            Some(user) => return fail(format!("{} ran as user {user}", path.display())),
            None => silent += 1,
        }
    }
    match (told, silent) {
        (0, 0) => pass("there are none"),
        (0, _) => untested(format!("none of {silent} tells as whom it runs")),
        _ => pass(format!("{told} ran as the caller")),
    }
}

fn setuid_files(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o4000 != 0))
        .map(|entry| entry.path())
        .collect()
}

/// `AT_EUID` of what `LD_SHOW_AUXV` prints (ld.so(8)).
fn effective_user(auxiliary: &str) -> Option<u32> {
    auxiliary.lines().find_map(|line| line.strip_prefix("AT_EUID:")?.trim().parse().ok())
}

pub(super) fn own_program() -> Seen {
    let open = |path: &str| std::fs::OpenOptions::new().append(true).open(path);
    let written: Vec<String> = ["/proc/1/exe", "/proc/self/exe"]
        .into_iter()
        .filter(|path| open(path).is_ok())
        .map(|path| format!("{path} can be opened for writing"))
        .collect();
    none_of(&written, "neither its own nor that of process 1")
}

/// In place the process is there, and must refuse.
pub(super) fn host_process(pid: Option<u32>, in_place: bool) -> Seen {
    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) else {
        return untested("no process of the host was named");
    };
    match test_kill_process(pid) {
        Err(rustix::io::Errno::PERM) if in_place => pass("not permitted"),
        Err(rustix::io::Errno::SRCH) if in_place => untested("the host's process is gone"),
        Err(rustix::io::Errno::SRCH) => pass("no such process"),
        Err(error) => fail(format!("the host's process {pid} answers: {error}")),
        Ok(()) => fail(format!("the host's process {pid} can be signalled")),
    }
}

pub(super) fn names(hostname: Option<&str>, machine_id: Option<&str>) -> Seen {
    if hostname.is_none() && machine_id.is_none() {
        return untested("neither name nor machine id of the host was given");
    }
    let own_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let mut same = Vec::new();
    if hostname.is_some_and(|host| host == own_name || host == read("/etc/hostname")) {
        same.push("the host's name is seen".to_owned());
    }
    if machine_id.is_some_and(|host| !host.is_empty() && host == read("/etc/machine-id")) {
        same.push("the host's machine id is seen".to_owned());
    }
    none_of(&same, "its own")
}

pub(super) fn abstract_socket(name: Option<&str>) -> Seen {
    let Some(name) = name else { return untested("no socket of the host was named") };
    let Ok(address) = SocketAddr::from_abstract_name(name) else {
        return untested("the name of the host's socket is too long");
    };
    match UnixStream::connect_addr(&address) {
        Ok(_) => fail("connected to the host"),
        Err(error) => pass(error.to_string()),
    }
}

/// `of_host`: the host's namespaces, as `net:[4026531840]`.
pub(super) fn namespaces(of_host: &[String]) -> Seen {
    if of_host.is_empty() {
        return untested("no namespace of the host was told");
    }
    let mut shared = Vec::new();
    for theirs in of_host {
        let kind = theirs.split(':').next().unwrap_or_default();
        match std::fs::read_link(format!("/proc/self/ns/{kind}")) {
            Ok(own) if own.as_os_str() == theirs.as_str() => shared.push(format!("{kind} is the host's")),
            Ok(_) => {}
            Err(error) => return untested(format!("{kind}: {error}")),
        }
    }
    none_of(&shared, &format!("{} of them", of_host.len()))
}

pub(super) fn sealed() -> Seen {
    let opened = ["environ", "maps", "mem", "auxv", "io"].into_iter().filter(|name| {
        std::fs::File::open(format!("/proc/1/{name}")).is_ok_and(|mut file| readable(&mut file))
    });
    let followed = ["exe", "cwd", "root"]
        .into_iter()
        .filter(|name| std::fs::read_link(format!("/proc/1/{name}")).is_ok());
    let listed = ["fd"].into_iter().filter(|name| std::fs::read_dir(format!("/proc/1/{name}")).is_ok());
    let open: Vec<String> =
        opened.chain(followed).chain(listed).map(|name| format!("/proc/1/{name} can be read")).collect();
    none_of(&open, "its memory, files and environment cannot be read")
}

/// Some files open, and refuse to be read.
fn readable(file: &mut std::fs::File) -> bool {
    std::io::Read::read(file, &mut [0; 16]).is_ok()
}

/// The limits that were set, as far as they were told.
pub(super) fn limits(pids: Option<u32>, open_files: Option<u64>) -> Seen {
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else {
        return untested("/proc/self/limits cannot be read");
    };
    judge_limits(&limits, pids.map(u64::from), open_files)
}

fn judge_limits(limits: &str, pids: Option<u64>, open_files: Option<u64>) -> Seen {
    let mut found = Vec::new();
    for (name, most) in [("Max processes", pids), ("Max open files", open_files)] {
        let hard = limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1));
        match hard {
            Some("unlimited") => return fail(format!("{name}: unlimited")),
            Some(number)
                if most.is_some_and(|most| number.parse().is_ok_and(|number: u64| number > most)) =>
            {
                return fail(format!("{name}: {number}"));
            }
            Some(number) => found.push(format!("{name}: {number}")),
            None => return untested(format!("{name}: not told")),
        }
    }
    pass(found.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::diagnose::Verdict;

    #[test]
    fn privileges_by_user() {
        let status = |bounding: &str, nnp: &str, seccomp: &str| {
            format!(
                "Name:\tx\nCapInh:\t0\nCapPrm:\t{bounding}\nCapEff:\t{bounding}\nCapBnd:\t{bounding}\n\
                 CapAmb:\t0\nNoNewPrivs:\t{nnp}\nSeccomp:\t{seccomp}\n"
            )
        };
        let cases = [
            (status("0", "1", "2"), RunAs::Me, Verdict::Pass),
            (status("0", "0", "2"), RunAs::Me, Verdict::Fail),
            (status("0", "1", "0"), RunAs::Me, Verdict::Fail),
            (status("1", "1", "2"), RunAs::Me, Verdict::Fail),
            (status("800404fb", "1", "2"), RunAs::Root, Verdict::Pass),
            (status("200000", "1", "2"), RunAs::Root, Verdict::Fail), // SYS_ADMIN
            (String::new(), RunAs::Me, Verdict::Fail),
        ];
        for (text, run_as, expected) in cases {
            assert_eq!(judge_status(&text, run_as, true).0, expected, "{text}");
        }
    }

    #[test]
    fn the_loader_tells_the_user() {
        let text = "AT_SECURE:            0\nAT_EUID:              1001\nUsage: su\n";
        assert_eq!((effective_user(text), effective_user("Usage: su\n")), (Some(1001), None));
    }

    #[test]
    fn limits_must_be_finite() {
        let text = |processes: &str| {
            format!("Max processes  10  {processes}  processes\nMax open files  1024  4096  files\n")
        };
        for (processes, pids, files, expected) in [
            ("512", None, None, Verdict::Pass),
            ("512", Some(512), Some(4096), Verdict::Pass),
            ("512", Some(511), None, Verdict::Fail),
            ("512", None, Some(4095), Verdict::Fail),
            ("unlimited", None, None, Verdict::Fail),
        ] {
            assert_eq!(
                judge_limits(&text(processes), pids, files).0,
                expected,
                "{processes} {pids:?} {files:?}"
            );
        }
        assert_eq!(judge_limits("", None, None).0, Verdict::CouldNotTest);
        assert_eq!(
            (namespaces(&[]).0, namespaces(&["uts:[0]".to_owned()]).0),
            (Verdict::CouldNotTest, Verdict::Pass)
        );
    }
}
