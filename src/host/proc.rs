//! What /proc says of a process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::io::{read, retry_on_intr};

/// Bytes that most files there are shorter than.
const ENOUGH: usize = 16 * 1024;

/// The lines of `/proc/PID/status` that tell of confinement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// `NoNewPrivs`.
    pub no_new_privs: bool,
    /// `Seccomp`: 2 is a filter.
    pub seccomp: u32,
    /// `Seccomp_filters`.
    pub seccomp_filters: u32,
    /// `CapEff`, `CapPrm`, `CapBnd`, `CapAmb`, `CapInh`: all of them or-ed.
    pub capabilities: u64,
    /// `CapBnd` alone.
    pub bounding: u64,
    /// The last number of `NSpid`: its id in its own pid namespace.
    pub inner_pid: Option<i32>,
}

/// Parses the text of a status file.
#[must_use]
pub fn parse_status(text: &str) -> Status {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key {
            "NoNewPrivs" => status.no_new_privs = value == "1",
            "NSpid" => status.inner_pid = value.split_whitespace().last().and_then(|pid| pid.parse().ok()),
            "Seccomp" => status.seccomp = value.parse().unwrap_or(0),
            "Seccomp_filters" => status.seccomp_filters = value.parse().unwrap_or(0),
            "CapBnd" => status.bounding = u64::from_str_radix(value, 16).unwrap_or(u64::MAX),
            "CapInh" | "CapPrm" | "CapEff" | "CapAmb" => {
                status.capabilities |= u64::from_str_radix(value, 16).unwrap_or(u64::MAX);
            }
            _ => {}
        }
    }
    status
}

/// Reads a small file of /proc with as few calls as it allows: each read there costs as much as the whole.
///
/// # Errors
/// As open(2) and read(2).
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    read_open(&fs::File::open(path)?)
}

fn read_open(file: &fs::File) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(ENOUGH);
    while retry_on_intr(|| read(file, spare_capacity(&mut bytes)))? > 0 {
        bytes.reserve(ENOUGH / 2);
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned()))
}

/// Reads `/proc/PID/status`, and tells whether the process is sealed: the files of one that may not be inspected belong to
/// the host's root (proc(5), `task_dump_owner`).
///
/// # Errors
/// When the process is gone.
pub fn status_and_seal(pid: i32) -> io::Result<(Status, bool)> {
    use std::os::unix::fs::MetadataExt;
    let file = fs::File::open(format!("/proc/{pid}/status"))?;
    let sealed = file.metadata()?.uid() == 0;
    Ok((parse_status(&read_open(&file)?), sealed))
}

/// The identity of one of a process's namespaces, such as `net:[4026531840]`.
///
/// # Errors
/// When the process is gone, or may not be looked at.
pub fn namespace(pid: &str, kind: &str) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
}

/// One line of an id map: first inside, first outside, count.
///
/// # Errors
/// When the process is gone.
pub fn id_map(pid: i32, kind: &str) -> io::Result<Vec<(u32, u32, u32)>> {
    let text = read_text(format!("/proc/{pid}/{kind}_map"))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
            Some((numbers.next()??, numbers.next()??, numbers.next()??))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_parsed() {
        let status = parse_status(
            "Name:\tx\nNSpid:\t77\t1\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000002\nCapBnd:\t0000000000000400\nCapAmb:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n",
        );
        assert_eq!(
            status,
            Status {
                no_new_privs: true,
                seccomp: 2,
                seccomp_filters: 3,
                capabilities: 3,
                bounding: 0x400,
                inner_pid: Some(1)
            }
        );
    }
}
