//! `tripmine forward`: host ports that lead into a running cube; open, listed, removed.

use std::io;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::json;

use super::ctx::Ctx;
use super::cube_ref;
use super::inspect::JSON_VERSION;
use crate::engine::client::Client;
use crate::engine::forward as engine;
use crate::host::tty::Signals;
use crate::model::sanitize::printable;
use crate::model::{
    BindAddr, ByteSize, Failure, FailureKind, ForwardStatus, HostEnd, Listening, PortMap, TripId,
};
use crate::store::cubes::CubeEntry;

/// Between two looks at what was refused, while a forward is held open.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Arguments of `tripmine forward`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ForwardArgs {
    /// The cube: a TripID or its start, a name, or a project with one running cube; none: the only one that runs
    pub cube: Option<String>,
    /// Lead host port HOST, or the same, to port CUBE (repeatable); a path on either side is a unix socket
    #[arg(short, long, value_name = "[HOST:]CUBE", conflicts_with_all = ["list", "rm"])]
    pub port: Vec<String>,
    /// Listen on this address of the host [default: 127.0.0.1 and ::1]; others than loopback let other hosts in
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["list", "rm"])]
    pub bind: Option<String>,
    /// Refuse when the host port is in use instead of taking the next free one
    #[arg(long, conflicts_with_all = ["list", "rm"])]
    pub exact: bool,
    /// Leave it open until it is removed or the cube ends
    #[arg(short, long, conflicts_with_all = ["list", "rm"])]
    pub detach: bool,
    /// List what is open
    #[arg(short, long)]
    pub list: bool,
    /// Remove what is open at this host port or path (repeatable)
    #[arg(long, value_name = "HOST", conflicts_with = "list")]
    pub rm: Vec<String>,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such cube, nothing to forward, or the host's end cannot be had.
pub fn run(args: &ForwardArgs, ctx: &Ctx) -> Result<u8, Failure> {
    if args.list {
        return list(args, ctx);
    }
    if !args.rm.is_empty() {
        return remove(args, ctx);
    }
    let bind = args.bind.as_deref().map(BindAddr::parse).transpose();
    let bind = bind.map_err(|error| Failure::usage(format!("--bind: {error}")))?;
    let mut maps = args.port.iter().map(|text| parse(text, bind)).collect::<Result<Vec<_>, _>>()?;
    let entry = cube_ref::only(ctx, args.cube.as_deref())?;
    if maps.is_empty() {
        let map = choose(ctx, &entry)?;
        maps.push(bind.map_or_else(|| map.clone(), |bind| map.clone().bound_to(bind)));
    }
    let mut client = cube_ref::connect(ctx, &entry)?;
    let mut opened = Vec::new();
    for map in maps {
        match engine::open(&mut client, map, args.exact, args.detach) {
            Ok(status) => opened.push(status),
            Err(failure) => {
                // All or nothing: what is held goes with the connection, what is kept is taken back.
                for status in opened.iter().filter(|_| args.detach) {
                    engine::close(&mut client, status.id)?;
                }
                return Err(failure);
            }
        }
    }
    for status in &opened {
        tell(status, ctx);
    }
    if args.json {
        ctx.out.json(&json!({ "version": JSON_VERSION, "id": entry.id, "forwards": opened }))?;
    } else {
        for status in &opened {
            ctx.out.line(format!("{} -> {}", place(&status.map.host), status.map.cube));
        }
    }
    if args.detach {
        return Ok(0);
    }
    ctx.out.note(format!("into the cube {} · Ctrl-C ends it, -d leaves it open", cube_ref::shown(&entry)));
    hold(&mut client, &opened, ctx)
}

fn parse(text: &str, bind: Option<BindAddr>) -> Result<PortMap, Failure> {
    let map: PortMap = text.parse().map_err(|error| Failure::usage(format!("--port: {error}")))?;
    if map.is_public() && bind.is_none() {
        let address = match &map.host {
            HostEnd::Tcp { bind: BindAddr::Address(address), .. } => address.to_string(),
            _ => String::new(),
        };
        return Err(Failure::usage(format!("--port: `{text}` would let other hosts in"))
            .hint(format!("to mean it, say so: `--bind {address}`")));
    }
    // One says an address, the other says another: nobody is let in by a guess.
    if let (HostEnd::Tcp { bind: its @ BindAddr::Address(address), .. }, Some(other)) = (&map.host, bind)
        && *its != other
    {
        return Err(Failure::usage(format!("--port: `{text}` names an address, and --bind another one"))
            .hint(format!("leave one of them out, or write `--bind {address}`")));
    }
    Ok(bind.map_or_else(|| map.clone(), |bind| map.clone().bound_to(bind)))
}

/// What a person is told of a forward that is open: another port than asked for, and who else can use it.
pub(super) fn tell(status: &ForwardStatus, ctx: &Ctx) {
    if let (HostEnd::Tcp { port: asked, .. }, HostEnd::Tcp { port, .. }) =
        (&status.asked.host, &status.map.host)
        && asked != port
        && *asked != 0
    {
        let why = if *asked < crate::model::forward::PRIVILEGED && status.asked.host_implied {
            "cannot be had"
        } else {
            "is in use"
        };
        ctx.out.note(format!("host port {asked} {why}: using {port}"));
    }
    if status.map.is_public() {
        ctx.out.note(format!(
            "WARNING: {} is open to other hosts: whoever reaches it reaches port {} of the cube",
            status.map.host, status.map.cube
        ));
    }
}

pub(super) use crate::engine::forward::place;

/// One of what listens, chosen on the terminal.
fn choose(ctx: &Ctx, entry: &CubeEntry) -> Result<PortMap, Failure> {
    let record = entry.record.as_ref().map_err(|error| Failure::failed(error.to_string()))?;
    let mut listening = engine::ports(record)?;
    // A server on both families is one server.
    listening.dedup_by_key(|found| found.port);
    let shown = cube_ref::shown(entry);
    if listening.is_empty() {
        return Err(Failure::new(FailureKind::Missing, format!("nothing listens in the cube {shown} yet"))
            .hint("`--port PORT` forwards a port that will be there later"));
    }
    let rows: Vec<String> = listening.iter().map(row).collect();
    let question = format!("what to forward of the cube {shown}?");
    if let Some(index) = ctx.out.pick(&question, &rows) {
        return listening
            .get(index)
            .and_then(|found| found.port.try_into().ok())
            .map(PortMap::same)
            .ok_or_else(|| Failure::failed("nothing was chosen"));
    }
    let failure = Failure::usage(format!("name what to forward with `--port`; in the cube {shown} listens:"));
    Err(rows.into_iter().fold(failure, Failure::hint))
}

fn row(found: &Listening) -> String {
    let program = found.program.as_deref().map(printable).unwrap_or_default();
    format!("{:<5} {}  {}", found.port, found.scope(), program).trim_end().to_owned()
}

/// Holds forwards open until the user or the cube ends it.
fn hold(client: &mut Client, opened: &[ForwardStatus], ctx: &Ctx) -> Result<u8, Failure> {
    let signals = Signals::take(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])
        .map_err(|error| Failure::failed("cannot take signals").because(&error))?;
    let mut refused = vec![0; opened.len()];
    loop {
        let mut fds =
            [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, Some(&LOOK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Failure::failed("cannot wait for the cube").because(&io::Error::from(errno)));
            }
        }
        if signals.next().is_some() {
            for status in opened {
                // Closed when the prompt is back; whoever removed it before us did the same.
                let _closed = engine::close(client, status.id);
            }
            return Ok(0);
        }
        let Ok(now) = engine::list(client) else {
            ctx.out.note("the cube has ended, and its forwards with it");
            return Ok(0);
        };
        if !opened.iter().any(|status| now.iter().any(|open| open.id == status.id)) {
            ctx.out.note("removed by another command");
            return Ok(0);
        }
        for (status, told) in opened.iter().zip(&mut refused) {
            let Some(open) = now.iter().find(|open| open.id == status.id) else { continue };
            // Once, until a connection gets through.
            if open.refused > *told && *told == 0 {
                ctx.out.note(format!(
                    "refused a connection: nothing listens on {} in the cube yet",
                    status.map.cube
                ));
            }
            *told = open.refused;
        }
    }
}

/// The cubes that are meant: the one that is named, or all that run.
fn cubes(args: &ForwardArgs, ctx: &Ctx) -> Result<Vec<CubeEntry>, Failure> {
    match &args.cube {
        Some(word) => Ok(vec![cube_ref::live(ctx, word)?]),
        None => cube_ref::all_live(ctx),
    }
}

fn list(args: &ForwardArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let mut found: Vec<(TripId, ForwardStatus)> = Vec::new();
    for entry in cubes(args, ctx)? {
        // One that ends meanwhile has none.
        let Ok(open) = cube_ref::connect(ctx, &entry).and_then(|mut client| engine::list(&mut client)) else {
            continue;
        };
        found.extend(open.into_iter().map(|status| (entry.id.clone(), status)));
    }
    if args.json {
        let forwards: Vec<_> =
            found.iter().map(|(id, status)| json!({ "cube": id, "forward": status })).collect();
        ctx.out.json(&json!({ "version": JSON_VERSION, "forwards": forwards }))?;
        return Ok(0);
    }
    if found.is_empty() {
        ctx.out.note("no forward is open");
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|(id, status)| {
            vec![
                place(&status.map.host),
                id.short().to_owned(),
                status.map.cube.to_string(),
                if status.kept { "until removed" } else { "with its command" }.to_owned(),
                format!("{} ({} open)", status.made, status.open),
                status.refused.to_string(),
                ByteSize::bytes(status.bytes_in).to_string(),
                ByteSize::bytes(status.bytes_out).to_string(),
            ]
        })
        .collect();
    ctx.out.table(&["HOST", "CUBE", "TO", "STAYS", "CONNECTIONS", "REFUSED", "IN", "OUT"], &rows);
    Ok(0)
}

fn remove(args: &ForwardArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let mut clients = Vec::new();
    for entry in cubes(args, ctx)? {
        if let Ok(mut client) = cube_ref::connect(ctx, &entry)
            && let Ok(open) = engine::list(&mut client)
        {
            clients.push((client, open));
        }
    }
    let mut failures = Vec::new();
    for word in &args.rm {
        let mut removed = false;
        for (client, open) in &mut clients {
            for status in open.iter().filter(|status| names(word, status)) {
                match engine::close(client, status.id) {
                    Ok(status) => {
                        removed = true;
                        ctx.out.note(format!("closed {} -> {}", place(&status.map.host), status.map.cube));
                    }
                    Err(failure) => failures.push(failure),
                }
            }
        }
        if !removed {
            let word = printable(word);
            failures.push(
                Failure::new(FailureKind::Missing, format!("no forward is open at `{word}`"))
                    .hint("`tripmine forward --list` shows what is"),
            );
        }
    }
    for failure in &failures {
        ctx.out.failure(failure);
    }
    Ok(failures.iter().map(Failure::exit_code).max().unwrap_or(0))
}

fn names(word: &str, status: &ForwardStatus) -> bool {
    engine::names(word, &status.map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(asked: &str, map: &str) -> ForwardStatus {
        let read = |text: &str| text.parse().expect("a forward");
        let (asked, map) = (read(asked), read(map));
        ForwardStatus {
            id: 1,
            asked,
            map,
            kept: true,
            open: 0,
            made: 0,
            refused: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    #[test]
    fn a_public_address_needs_bind() {
        let failure = parse("0.0.0.0:8080:80", None).expect_err("loud");
        assert_eq!((failure.kind, failure.exit_code()), (FailureKind::Usage, 2));
        assert!(failure.hints[0].contains("--bind 0.0.0.0"), "{failure:?}");
        let bind = BindAddr::parse("0.0.0.0").ok();
        assert_eq!(parse("8080:80", bind).expect("meant").to_string(), "0.0.0.0:8080:80");
        assert_eq!(parse("127.0.0.1:8080:80", None).expect("loopback").to_string(), "127.0.0.1:8080:80");
        let failure = parse("127.0.0.1:8080:80", bind).expect_err("two addresses");
        assert!(failure.message.contains("another one"), "{failure}");
        assert!(parse("0.0.0.0:8080:80", bind).is_ok(), "the same one twice");
    }

    #[test]
    fn what_differs_is_told() {
        for (asked, map, part) in [
            ("8080:80", "8080:80", ""),
            ("8080:80", "8081:80", "host port 8080 is in use: using 8081"),
            ("80", "8080:80", "host port 80 cannot be had: using 8080"),
            ("0:80", "40000:80", ""),
            ("0.0.0.0:1:80", "0.0.0.0:1:80", "WARNING: 0.0.0.0:1 is open to other hosts"),
        ] {
            let (_folder, ctx) = crate::cli::ctx::testing::ctx();
            tell(&status(asked, map), &ctx);
            let (_, talk) = ctx.out.text();
            assert!(talk.contains(part) && talk.is_empty() == part.is_empty(), "{asked}: {talk}");
        }
    }

    #[test]
    fn a_forward_is_named_by_its_host_end() {
        let open = status("8080:80", "8080:80");
        for (word, named) in [
            ("8080", true),
            ("127.0.0.1:8080", true),
            ("8080:80", true),
            ("80", false),
            ("808", false),
            ("", false),
        ] {
            assert_eq!(names(word, &open), named, "{word}");
        }
        assert!(names("/tmp/a", &status("/tmp/a:80", "/tmp/a:80")));
    }
}
