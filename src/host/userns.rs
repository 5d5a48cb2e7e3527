//! User namespaces: writing maps from outside, and entering a new one.
#![expect(unsafe_code, reason = "unshare has no safe wrapper")]

use std::fs;
use std::io;
use std::process::{Command, Stdio};

/// Writes the maps of process `pid`, as the host's root.
///
/// # Errors
/// As the kernel says (user_namespaces(7)).
pub fn write_maps(pid: i32, uid_map: &str, gid_map: &str) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/uid_map"), uid_map)?;
    fs::write(format!("/proc/{pid}/gid_map"), gid_map)
}

/// Lets `newuidmap` and `newgidmap` write the maps, with the caller's subordinate ids.
///
/// # Errors
/// When a program is missing or refuses; its own words are in the error.
pub fn write_maps_by_helper(pid: i32, uid_map: &str, gid_map: &str) -> io::Result<()> {
    for (program, map) in [("newuidmap", uid_map), ("newgidmap", gid_map)] {
        let output = Command::new(program)
            .arg(pid.to_string())
            .args(map.split_whitespace())
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("{program}: {}", words.trim())));
        }
    }
    Ok(())
}

/// Moves this process, which must have one thread, into a new user namespace. Its maps are written from outside.
///
/// # Errors
/// As unshare(2).
pub fn enter_new() -> io::Result<()> {
    // SAFETY: a plain system call; the kernel refuses it to a process with several threads.
    let result = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
