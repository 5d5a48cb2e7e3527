//! `tripmine verify-jail`: starts a cube whose entry is tripmine's own probe and says which promises
//! it found kept. Here: what the probe is told about this host, how it is started, and how its answers
//! are shown. Exit code 0 only when every promise was tested and kept.

mod launches;
mod outside;

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use outside::Outside;

use super::ctx::Ctx;
use super::launch_args::words;
use crate::engine::client::{Client, Heard, refused};
use crate::engine::launch;
use crate::keeper::protocol::{Answer, Kind};
use crate::model::net::{NetSettings, ProxyUrl};
use crate::model::{
    ByteSize, ExitReason, Failure, Jail, Limit, Limits, Name, NetPolicyKind, RunAs, SeccompProfile, Settings,
};
use crate::plan::Typed;
use crate::plan::battery::{self, Canaries, Observation, PROBE_VERB, read, settle};
use crate::plan::diagnose::Verdict;
use crate::plan::launch::{Enforcer, FileIdentity, MountKind, MountPlan, StdioPlan};
use crate::plan::resolve::What;

/// The arguments of `tripmine verify-jail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct VerifyJailArgs {
    /// Try this kind of jail
    #[arg(long, value_name = "KIND", value_parser = words(&["landlock", "container"]), default_value = "container")]
    pub jail: String,
    /// Try a cube of this user
    #[arg(long, value_name = "WHO", value_parser = words(RunAs::WORDS), default_value = "me")]
    pub user: String,
    /// Try this system-call filter
    #[arg(long, value_name = "PROFILE", value_parser = words(SeccompProfile::WORDS), default_value = "default")]
    pub seccomp: String,
    /// Print the answers as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where the probe lies inside.
const PROBE: &str = "/tripmine-probe";
/// The longest that a battery takes; a probe that hangs is ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// The limit on processes, low so that the flood of them is short.
const PIDS: u32 = 128;
/// The limit on written data, for the same reason.
const DISK_MIB: u64 = 64;
/// The limit on memory: above what the other floods need.
const MEMORY_MIB: u64 = 256;
/// The most that is read of what the probe prints.
const OUTPUT_MAX: usize = 4 << 20;

/// Carries the command out and returns the exit code.
///
/// # Errors
/// The cube could not be started at all.
pub fn run(args: &VerifyJailArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let wrong = |text: String| Failure::usage(text);
    let run_as: RunAs = args.user.parse().map_err(wrong)?;
    let profile: SeccompProfile = args.seccomp.parse().map_err(wrong)?;
    let jail: Jail = args.jail.parse().map_err(wrong)?;
    let in_place = jail == Jail::Landlock;
    let engine = ctx.engine();
    engine.layout.ensure(ctx.uid)?;
    let leaked = leak_a_descriptor()
        .map_err(|error| Failure::failed("cannot open a descriptor to leak").because(&error))?;
    let waiting = launch::start_keeper()?;
    let outside = Outside::set_out(format!("token-{}", std::process::id()))
        .map_err(|error| Failure::failed("cannot listen on the host for the net's rows").because(&error))?;
    let proxy = ProxyUrl::parse(&format!("socks5h://{}", outside.proxy))
        .map_err(|error| Failure::failed(error.to_string()))?;
    let typed = Typed {
        machine: Some(Name::default_machine()),
        what: What::Command(vec![PROBE.to_owned()]),
        settings: Settings {
            jail: Some(jail.into()),
            user: Some(run_as),
            // In place there is no proxy, no disk of its own and no home that vanishes.
            net: Some(if in_place { NetPolicyKind::None } else { NetPolicyKind::Proxy }),
            reach: NetSettings { proxy: Some(proxy).filter(|_| !in_place), ..NetSettings::default() },
            seccomp: Some(profile),
            limits: Limits {
                pids: Some(Limit { value: PIDS, required: false }),
                memory: Some(Limit { value: ByteSize::mib(MEMORY_MIB), required: false }),
                disk: (!in_place).then_some(Limit { value: ByteSize::mib(DISK_MIB), required: false }),
                timeout: Some(PATIENCE),
                ..Limits::default()
            },
            ..Settings::default()
        },
        ephemeral: !in_place,
        tty: Some(false),
        ..Typed::default()
    };
    let mut planned = launch::plan(&engine, &typed, vec![own_program()?], false)?;
    let plan = &mut planned.plan;
    // All that it prints comes back over the connection, whatever our own streams are.
    plan.stdio = StdioPlan::Pipes { stdin_direct: false, stdout_direct: false, stderr_direct: false };
    let given: Vec<String> = plan.env.iter().map(|variable| variable.key.clone()).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let mut host = set_out(run_as, profile, &given)
        .map_err(|error| Failure::failed("cannot listen on a socket for the cube to miss").because(&error))?;
    host.canaries.jail = jail;
    let victim =
        victim().map_err(|error| Failure::failed("cannot make a file to be tried").because(&error))?;
    host.canaries.victim = Some(victim.path().to_string_lossy().into_owned());
    host.canaries.absent.push(engine.layout.mines_dir().to_string_lossy().into_owned());
    host.canaries.mounts = plan
        .mounts
        .iter()
        .map(|mount| mount.target.clone())
        .chain(plan.root.system.iter().map(|tree| tree.path.to_string_lossy().into_owned()))
        .collect();
    host.canaries.port = Some(outside.port);
    host.canaries.addresses.clone_from(&outside.addresses);
    host.canaries.token = Some(outside.token.clone());
    host.canaries.system =
        plan.root.system.iter().map(|tree| tree.path.to_string_lossy().into_owned()).collect();
    host.canaries.open_files = Some(plan.limits.open_files);
    host.canaries.memory = plan.limits.memory.map(|(size, _)| size.get());
    let counted = plan.limits.pids.filter(|(_, by)| *by != Enforcer::Watch);
    host.canaries.pids = counted.map(|(pids, _)| pids);
    let besides: &[(&str, &str)] = if counted.is_none() {
        &[("R02", "the keeper counts them, and ends the cube: it would not see the end of the battery")]
    } else {
        &[]
    };
    let probe = plan.mounts.iter().find(|mount| mount.kind == MountKind::Tool);
    let probe = probe.map_or_else(|| PROBE.to_owned(), |mount| mount.target.clone());
    host.canaries.disk =
        plan.limits.disk.filter(|(_, enforcer)| *enforcer == Enforcer::TmpfsSize).map(|(size, _)| size.get());
    plan.entry.argv = vec![probe, PROBE_VERB.to_owned()];
    plan.entry.argv.extend(host.canaries.arguments());
    ctx.out
        .note(format!("trying a cube of `{}`, jail {jail}, user {run_as}, seccomp {profile}", plan.machine));
    let mut client = launch::launch(&engine, &planned, waiting, true)?;
    drop(planned.locks);
    // Nothing is typed; the cube may know.
    let _sent = client.send(Kind::InputEnd, &[]);
    let (output, ended) = listen(&mut client, ctx)?;
    drop((leaked, host, victim));
    // What the listener saw counts, whatever the rows say.
    let reached = outside.reached();
    drop(outside);
    let tried = if battery::launches(jail).is_empty() {
        String::new()
    } else {
        launches::observe(ctx, run_as, profile)
    };
    let output = output + &tried;
    super::sweep::sweep(ctx);
    let mut code = 1;
    ctx.out.rendered(|out| {
        code = report(args.json, &settle(read(&output, jail, besides), ended.as_deref()), out)?;
        Ok(())
    })?;
    if reached > 0 {
        let message = "the cube reached a listener of the host: the net policy is broken";
        return Err(
            Failure::failed(message).hint("do not run anything untrusted on this host; please report it")
        );
    }
    Ok(code)
}

/// Collects what the probe prints until it ends; beside it why, when it was the memory limit.
fn listen(client: &mut Client, ctx: &Ctx) -> Result<(String, Option<String>), Failure> {
    let gone = || Failure::failed("the cube's keeper went away in the middle of the battery");
    let mut output = Vec::new();
    loop {
        match client.hear().map_err(|error| gone().because(&error))? {
            None => return Err(gone()),
            Some(Heard::Output(bytes)) => {
                let room = OUTPUT_MAX.saturating_sub(output.len());
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Some(Heard::ErrorOutput(bytes)) => {
                ctx.out.note(format!("the probe says: {}", String::from_utf8_lossy(&bytes).trim_end()));
            }
            Some(Heard::Answer(Answer::Refused { message, hints })) => {
                return Err(refused(message, hints));
            }
            Some(Heard::Answer(Answer::Exited(exit))) => {
                let output = String::from_utf8_lossy(&output).into_owned();
                if let ExitReason::OutOfMemory(why) = exit.reason {
                    return Ok((output, Some(why)));
                }
                if let Some(line) = crate::engine::ending::ending(&exit) {
                    ctx.out.note(line);
                } else if exit.code != 0 {
                    ctx.out.note(format!("the probe ended with the exit code {}", exit.code));
                }
                return Ok((output, None));
            }
            Some(Heard::Answer(_)) => {}
        }
    }
}

/// This program, to be seen inside.
fn own_program() -> Result<MountPlan, Failure> {
    let look = || -> io::Result<MountPlan> {
        let source = std::env::current_exe()?.canonicalize()?;
        let meta = source.metadata()?;
        Ok(MountPlan {
            kind: MountKind::Tool,
            identity: FileIdentity { dev: meta.dev(), ino: meta.ino() },
            source,
            directory: false,
            target: PROBE.to_owned(),
            read_only: true,
            review: None,
        })
    };
    look().map_err(|error| Failure::failed("cannot find tripmine's own program").because(&error))
}

/// A file of the caller's that the cube must leave as it is.
fn victim() -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("tripmine-victim-").tempfile()?;
    file.write_all(b"the caller's own")?;
    Ok(file)
}

/// A descriptor that every child of this process inherits, as a careless parent leaves some open.
fn leak_a_descriptor() -> io::Result<OwnedFd> {
    // A duplicate is not closed on exec.
    Ok(rustix::io::dup(std::fs::File::open("/")?)?)
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
    canaries.namespaces = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
        .into_iter()
        .filter_map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
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

/// Shows what was seen of each row and returns the exit code.
///
/// # Errors
/// When `out` cannot be written to.
pub fn report(json: bool, rows: &[Observation], out: &mut dyn Write) -> io::Result<u8> {
    let kept = rows.iter().all(|row| matches!(row.verdict, Verdict::Pass | Verdict::NotPromised));
    if json {
        serde_json::to_writer_pretty(&mut *out, &Report { version: 1, kept, rows })?;
        writeln!(out)?;
    } else {
        render(rows, out)?;
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
            Verdict::NotPromised => "- no promise",
        };
        writeln!(out, "{sign:12}  {}  {:width$}  {}", row.id, row.topic, row.detail)?;
    }
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let none = count(Verdict::NotPromised);
    let besides =
        if none == 0 { String::new() } else { format!("; {none} rows are not promised by this jail") };
    writeln!(
        out,
        "\n{} of {} promises kept, {} broken, {} untested{besides}",
        count(Verdict::Pass),
        rows.len() - none,
        count(Verdict::Fail),
        count(Verdict::CouldNotTest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::battery::{LAUNCHES, ROWS};

    fn shown(output: &str, json: bool) -> (u8, String) {
        let mut out = Vec::new();
        let code = report(json, &read(output, Jail::Container, &[]), &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    fn lines(verdict_of_s14: Verdict) -> String {
        ROWS.iter()
            .chain(LAUNCHES)
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
