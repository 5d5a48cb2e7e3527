//! Cgroup folders of a cube: made, limited, entered, killed, read, removed. Version 1, version 2 and hybrid.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::plan::launch::{CgroupPlan, Enforcer, LimitsPlan};

/// One write that was asked for and failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{value}` to `{file}`: {error}")]
pub struct CgroupError {
    file: String,
    value: String,
    error: io::Error,
}

fn put(dir: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(|error| CgroupError {
        file: path.display().to_string(),
        value: value.to_owned(),
        error,
    })
}

/// Microseconds of one period for CPU limits: the kernel's own default (cgroup-v2.rst, `cpu.max`).
const PERIOD_US: u64 = 100_000;

/// Makes the folders of `plan` and writes the limits that a cgroup is to enforce.
///
/// # Errors
/// The file that could not be made or written. What was made until then is removed again.
pub fn make(plan: &CgroupPlan, limits: &LimitsPlan) -> Result<(), CgroupError> {
    let result = make_all(plan, limits);
    if result.is_err() {
        remove(&plan.folders());
    }
    result
}

fn make_all(plan: &CgroupPlan, limits: &LimitsPlan) -> Result<(), CgroupError> {
    for folder in plan.folders() {
        make_folder(&folder)?;
    }
    let amount =
        |value: Option<(u64, Enforcer)>| value.filter(|(_, by)| *by == Enforcer::Cgroup).map(|(v, _)| v);
    let memory = amount(limits.memory.map(|(size, by)| (size.get(), by)));
    let pids = amount(limits.pids.map(|(count, by)| (u64::from(count), by)));
    let quota = amount(limits.cpus_milli.map(|(milli, by)| (u64::from(milli) * PERIOD_US / 1000, by)));
    match plan {
        CgroupPlan::V2 { dir } => {
            if let Some(memory) = memory {
                put(dir, "memory.max", &memory.to_string())?;
                // Without swap accounting the file is absent, and then swap is not the cube's to use up either.
                if dir.join("memory.swap.max").exists() {
                    put(dir, "memory.swap.max", "0")?;
                }
                put(dir, "memory.oom.group", "1")?;
            }
            if let Some(pids) = pids {
                put(dir, "pids.max", &pids.to_string())?;
            }
            if let Some(quota) = quota {
                put(dir, "cpu.max", &format!("{quota} {PERIOD_US}"))?;
            }
        }
        CgroupPlan::V1 { dirs } => {
            for (controller, dir) in dirs {
                match controller.as_str() {
                    "memory" => {
                        if let Some(memory) = memory {
                            put(dir, "memory.limit_in_bytes", &memory.to_string())?;
                            if dir.join("memory.memsw.limit_in_bytes").exists() {
                                put(dir, "memory.memsw.limit_in_bytes", &memory.to_string())?;
                            }
                        }
                    }
                    "pids" => {
                        if let Some(pids) = pids {
                            put(dir, "pids.max", &pids.to_string())?;
                        }
                    }
                    "cpu" => {
                        if let Some(quota) = quota {
                            put(dir, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
                            put(dir, "cpu.cfs_quota_us", &quota.to_string())?;
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), CgroupError> {
    let fail =
        |error| CgroupError { file: folder.display().to_string(), value: "a new folder".into(), error };
    if let Some(parent) = folder.parent()
        && !parent.exists()
    {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(fail(error)),
        _ => Ok(()),
    }
}

/// Moves `pid` into every folder of `plan`.
///
/// # Errors
/// The folder that refused.
pub fn enter(plan: &CgroupPlan, pid: i32) -> Result<(), CgroupError> {
    for dir in plan.folders() {
        put(&dir, "cgroup.procs", &pid.to_string())?;
    }
    Ok(())
}

/// How often the kernel killed for lack of memory, if it can be told.
#[must_use]
pub fn oom_kills(plan: &CgroupPlan) -> u64 {
    let (file, key) = match plan {
        CgroupPlan::V2 { dir } => (dir.join("memory.events"), "oom_kill"),
        CgroupPlan::V1 { dirs } => match dirs.iter().find(|(name, _)| name == "memory") {
            Some((_, dir)) => (dir.join("memory.oom_control"), "oom_kill"),
            None => return 0,
        },
    };
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, count)| count.parse().ok())
        .unwrap_or(0)
}

/// Ends every process of the cgroup at once, forks in flight included, where the kernel can: version 2, since Linux 5.14.
pub fn kill(plan: &CgroupPlan) {
    if let CgroupPlan::V2 { dir } = plan {
        // Where it cannot, whoever asks ends the processes one by one.
        let _written = fs::write(dir.join("cgroup.kill"), "1");
    }
}

/// Removes empty cgroup folders. One that still has a process answers EBUSY and stays for the next sweep.
pub fn remove(folders: &[PathBuf]) -> bool {
    let mut all = true;
    for folder in folders {
        match fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => all = false,
        }
    }
    all
}

/// Holds all processes of the cgroup still, or lets them go on. False: only version 2 can (cgroups(7)).
///
/// # Errors
/// The file cannot be written.
pub fn freeze(plan: &CgroupPlan, still: bool) -> io::Result<bool> {
    match plan {
        // The folder holds init too, which is frozen with the rest: nothing may be asked of it meanwhile.
        CgroupPlan::V2 { dir } => {
            fs::write(dir.join("cgroup.freeze"), if still { "1" } else { "0" })?;
            Ok(true)
        }
        CgroupPlan::V1 { .. } => Ok(false),
    }
}

/// Every process of the cgroup is frozen.
#[must_use]
pub fn is_frozen(plan: &CgroupPlan) -> bool {
    match plan {
        CgroupPlan::V2 { dir } => fs::read_to_string(dir.join("cgroup.events"))
            .is_ok_and(|text| text.lines().any(|line| line == "frozen 1")),
        CgroupPlan::V1 { .. } => false,
    }
}
