//! What is left of an [`Env`]'s cubes: processes, mounts, sockets, folders, cgroups. Found from outside, without
//! asking the program under test.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::{Env, signal};

/// How long an orderly end may take until the last folder is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The folders of all cubes.
pub(crate) fn cube_folders(env: &Env) -> Vec<PathBuf> {
    let mines = env.tripmine_home.join("state/Mines");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(mines).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// Processes that belong to `env`: a cube's own have its folders in their mount table (which anybody may read, even
/// of sealed processes), a keeper holds files of it open, a face has it in its environment, and anything may run its
/// copy of the program.
pub(crate) fn processes(env: &Env) -> Vec<i32> {
    let mark = env.root().to_str().unwrap().as_bytes();
    let holds = |bytes: &[u8]| memchr::memmem::find(bytes, mark).is_some();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        let folder = entry.path();
        let text = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
        let link = |path: &Path| fs::read_link(path).is_ok_and(|to| holds(to.as_os_str().as_bytes()));
        let open = || {
            let fds = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
            fds.into_iter().any(|fd| link(&fd.path()))
        };
        if holds(&text("cmdline"))
            || holds(&text("environ"))
            || holds(&text("mountinfo"))
            || link(&folder.join("exe"))
            || link(&folder.join("cwd"))
            || open()
        {
            found.push(pid);
        }
    }
    found
}

fn describe(pid: i32) -> String {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let stat = String::from_utf8_lossy(&read("stat")).into_owned();
    format!("process {pid} `{}` ({})", words.trim(), stat.chars().take(60).collect::<String>())
}

/// Everything that should not be there once all cubes of `env` have ended.
pub(crate) fn remains(env: &Env) -> Vec<String> {
    let mut remains: Vec<String> = processes(env).into_iter().map(describe).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mark = env.tripmine_home.join("").to_str().unwrap().to_owned();
    remains.extend(mounts.lines().filter(|line| line.contains(&mark)).map(|line| format!("mount {line}")));
    for entry in fs::read_dir(env.tripmine_home.join("run")).into_iter().flatten().flatten() {
        remains.push(format!("in run/: {}", entry.path().display()));
    }
    for folder in cube_folders(env) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if spare(&folder, &name) {
            continue;
        }
        if name.len() != 32 || !folder.join("headers/record.json").is_file() {
            remains.push(format!("in Mines/, no record: {name}"));
            continue;
        }
        let record = fs::read_to_string(folder.join("headers/record.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        if folder.join("system-copy").exists() && record["keep"] == "throwaway" {
            remains.push(format!("upper of a throwaway: {name}"));
        }
        if !matches!(record["state"].as_str(), Some("exited" | "failed")) {
            remains.push(format!("record says {}: {name}", record["state"]));
        }
        remains.extend(cgroups_named(Path::new("/sys/fs/cgroup"), &name, 6));
        for cgroup in record["cgroups"].as_array().into_iter().flatten().filter_map(|path| path.as_str()) {
            if Path::new(cgroup).exists() {
                remains.push(format!("cgroup {cgroup}"));
            }
        }
    }
    remains
}

/// A folder that the next launch takes: of no cube, empty, four at most.
fn spare(folder: &Path, name: &str) -> bool {
    let number = name.strip_prefix(".spare-").and_then(|number| number.parse::<u32>().ok());
    let unwritten = fs::metadata(folder.join("headers/record.json")).map_or(true, |meta| meta.len() == 0);
    number.is_some_and(|number| number < 4) && unwritten && !folder.join("system-copy").exists()
}

fn cgroups_named(folder: &Path, name: &str, depth: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(format!("cgroup {}", entry.path().display()));
        } else if depth > 0 {
            found.extend(cgroups_named(&entry.path(), name, depth - 1));
        }
    }
    found
}

/// Waits for the ends that are under way, then panics with a list of what is left.
#[track_caller]
pub(crate) fn assert_nothing_left(env: &Env) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let remains = remains(env);
        if remains.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            kill_all(env);
            panic!("left after {PATIENCE:?}:\n{}", remains.join("\n"));
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Kills whatever is left and removes its cgroups, for the sake of the next test.
pub(crate) fn kill_all(env: &Env) {
    for _ in 0..20 {
        let processes = processes(env);
        if processes.is_empty() {
            break;
        }
        for pid in processes {
            signal(pid, Signal::KILL);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    for record in env.records() {
        for cgroup in record["cgroups"].as_array().into_iter().flatten().filter_map(|path| path.as_str()) {
            // Gone already, or the kernel is not done with it: this is the path of a test that has failed.
            let _removed = fs::remove_dir(cgroup);
        }
    }
}
