//! `tripmine verify-jail`: starts a cube whose entry is tripmine's own probe and says which promises
//! it found kept. Here: what the probe is told about this host, and how its answers are shown. Exit
//! code 0 only when every promise was tested and kept.

use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use serde::Serialize;

use crate::model::{RunAs, SeccompProfile};
use crate::plan::battery::{Canaries, Observation, read};
use crate::plan::diagnose::Verdict;

/// The arguments of `tripmine verify-jail`.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyJailArgs {
    /// Print the answers as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The canaries of this host, alive as long as this value.
#[derive(Debug)]
pub struct HostCanaries {
    /// What the probe is told.
    pub canaries: Canaries,
    /// Kept open so that a cube which reaches it is noticed.
    _listener: UnixListener,
}

/// Sets the canaries out. `given` are the variables that the cube does get; every other variable of
/// this process must be absent inside.
///
/// # Errors
/// When the abstract socket cannot be made.
pub fn set_out(run_as: RunAs, profile: SeccompProfile, given: &[&str]) -> io::Result<HostCanaries> {
    let name = format!("tripmine-canary-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let mut canaries = Canaries::new(run_as, profile);
    canaries.host_pid = Some(std::process::id());
    canaries.abstract_socket = Some(name);
    canaries.env = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| !given.contains(&name.as_str()))
        .collect();
    canaries.hostname = Some(rustix::system::uname().nodename().to_string_lossy().into_owned());
    canaries.machine_id = std::fs::read_to_string("/etc/machine-id")
        .ok()
        .map(|id| id.trim().to_owned())
        .filter(|id| !id.is_empty());
    // Sockets that give whoever reaches them the user's agents, bus and screen.
    canaries.absent = ["XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "GPG_AGENT_INFO", "DOCKER_HOST"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .map(|path| path.trim_start_matches("unix://").to_owned())
        .filter(|path| path.starts_with('/') && Path::new(path).exists())
        .collect();
    Ok(HostCanaries { canaries, _listener: listener })
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    kept: bool,
    rows: &'a [Observation],
}

/// Shows what the probe printed (`output`, a stranger's text) and returns the exit code.
///
/// # Errors
/// When `out` cannot be written to.
pub fn report(args: &VerifyJailArgs, output: &str, out: &mut dyn Write) -> io::Result<u8> {
    let rows = read(output);
    let kept = rows.iter().all(|row| row.verdict == Verdict::Pass);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &Report { version: 1, kept, rows: &rows })?;
        writeln!(out)?;
    } else {
        render(&rows, out)?;
    }
    Ok(u8::from(!kept))
}

fn render(rows: &[Observation], out: &mut dyn Write) -> io::Result<()> {
    let width = rows.iter().map(|row| row.topic.chars().count()).max().unwrap_or(0);
    for row in rows {
        let sign = match row.verdict {
            Verdict::Pass => "✓ kept    ",
            Verdict::Fail => "✗ BROKEN  ",
            Verdict::CouldNotTest => "? untested",
        };
        writeln!(out, "{sign}  {}  {:width$}  {}", row.id, row.topic, row.detail)?;
    }
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    writeln!(
        out,
        "\n{} of {} promises kept, {} broken, {} untested",
        count(Verdict::Pass),
        rows.len(),
        count(Verdict::Fail),
        count(Verdict::CouldNotTest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::battery::ROWS;

    fn shown(output: &str, json: bool) -> (u8, String) {
        let mut out = Vec::new();
        let code = report(&VerifyJailArgs { json }, output, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    fn lines(verdict_of_s14: Verdict) -> String {
        ROWS.iter()
            .map(|row| {
                let verdict = if row.id == "S14" { verdict_of_s14 } else { Verdict::Pass };
                let observation = Observation::new(*row, verdict, "x\u{1b}[2J".to_owned());
                serde_json::to_string(&observation).unwrap() + "\n"
            })
            .collect()
    }

    #[test]
    fn only_a_whole_battery_that_is_kept_is_good() {
        for (output, code, words) in [
            (lines(Verdict::Pass), 0, ", 0 broken, 0 untested"),
            (lines(Verdict::Fail), 1, ", 1 broken, 0 untested"),
            (lines(Verdict::CouldNotTest), 1, ", 0 broken, 1 untested"),
            (String::new(), 1, "0 of "),
        ] {
            let (got, text) = shown(&output, false);
            assert_eq!(got, code, "{text}");
            assert!(text.contains(words) && !text.contains('\u{1b}'), "{text}");
            let value: serde_json::Value = serde_json::from_str(&shown(&output, true).1).unwrap();
            assert_eq!(value["version"], 1);
            assert_eq!(value["kept"], code == 0);
        }
    }

    #[test]
    fn the_probe_is_told_what_the_host_has() {
        let host = set_out(RunAs::Me, SeccompProfile::Default, &["PATH"]).unwrap();
        assert!(host.canaries.host_pid.is_some() && host.canaries.abstract_socket.is_some());
        assert!(!host.canaries.env.iter().any(|name| name == "PATH"));
        assert_eq!(Canaries::parse(&host.canaries.arguments()).as_ref(), Ok(&host.canaries));
    }
}
