//! What takes a text into a clipboard: a program of the desktop's, or the terminal itself (OSC 52). Over ssh the desktop
//! that is meant is where the terminal is, so only the terminal is asked.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A program that takes a text on its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Helper {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: &'static [&'static str],
}

/// The helper for this session, if there is one: `lookup` reads a variable, `exists` says whether a program is there.
pub(super) fn helper(
    lookup: impl Fn(&str) -> Option<String>,
    exists: impl Fn(&std::path::Path) -> bool,
) -> Option<Helper> {
    const KNOWN: [(&str, &str, &[&str]); 3] = [
        ("WAYLAND_DISPLAY", "wl-copy", &[]),
        ("DISPLAY", "xclip", &["-selection", "clipboard"]),
        ("DISPLAY", "xsel", &["--input", "--clipboard"]),
    ];
    let set = |key: &str| lookup(key).filter(|value| !value.is_empty());
    if set("SSH_CONNECTION").is_some() {
        return None;
    }
    let path = set("PATH").unwrap_or_default();
    KNOWN.into_iter().filter(|(variable, ..)| set(variable).is_some()).find_map(|(_, name, arguments)| {
        let places = path.split(':').filter(|folder| folder.starts_with('/'));
        let program =
            places.map(|folder| PathBuf::from(folder).join(name)).find(|program| exists(program))?;
        Some(Helper { name, program, arguments })
    })
}

/// Hands `text` over.
///
/// # Errors
/// Why it was not taken.
pub(super) fn hand_over(helper: &Helper, text: &str) -> Result<(), String> {
    let mut child = Command::new(&helper.program)
        .args(helper.arguments)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let until = Instant::now() + PATIENCE;
    // It leaves a child of its own behind that serves the clipboard, and ends itself.
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() && written.is_ok() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it ended with {status}")),
            Ok(None) if Instant::now() < until => std::thread::park_timeout(Duration::from_millis(10)),
            Ok(None) => {
                let _killed = child.kill();
                let _ended = child.wait();
                return Err(format!("it took longer than {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_decides_who_copies() {
        let all = [("PATH", "/usr/bin"), ("DISPLAY", ":0")];
        for (more, there, name) in [
            (&[][..], "xclip xsel wl-copy", Some("xclip")),
            (&[], "xsel", Some("xsel")),
            (&[], "wl-copy", None),
            (&[("WAYLAND_DISPLAY", "wayland-0")], "xclip wl-copy", Some("wl-copy")),
            (&[("SSH_CONNECTION", "1 2 3 4")], "xclip wl-copy", None),
            (&[("DISPLAY", "")], "xclip", None),
        ] {
            let lookup = |key: &str| {
                more.iter().chain(&all).find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
            };
            let exists = |path: &std::path::Path| {
                there.split(' ').any(|name| path == std::path::Path::new("/usr/bin").join(name))
            };
            assert_eq!(helper(lookup, exists).map(|helper| helper.name), name, "{more:?} {there}");
        }
    }

    #[test]
    fn what_fails_is_told() {
        let helper = |program: &str, arguments| Helper { name: "x", program: program.into(), arguments };
        assert_eq!(hand_over(&helper("/bin/sh", &["-c", "test \"$(cat)\" = text"]), "text"), Ok(()));
        assert!(hand_over(&helper("/bin/sh", &["-c", "cat > /dev/null; exit 3"]), "text").is_err());
        assert!(hand_over(&helper("/nowhere/at/all", &[]), "text").is_err());
    }
}
