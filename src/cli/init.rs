//! `tripmine init`: checks this host, asks where projects are and which machine is the usual one, shows what it would
//! write, and writes it. Everything can be given as an option; it can be repeated.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::ctx::{Ctx, name};
use crate::config::global::with_start;
use crate::config::load::read_text;
use crate::host::probe;
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};
use crate::plan::diagnose::{Matters, Verdict, diagnose, is_ready};
use crate::store::fail::{cannot, shown};
use crate::store::{atomic, machines, projects};

/// How long a proxy may take to greet.
const GREETING: Duration = Duration::from_millis(500);
/// Where SOCKS proxies usually listen: Tor, its browser, ssh -D.
const USUAL: [u16; 3] = [9050, 9150, 1080];

/// Set up tripmine
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct InitArgs {
    /// A new project from a template comes with a later version
    #[arg(value_name = "NAME", hide = true)]
    pub project: Option<String>,
    /// The folder that projects are beneath [default: ~/projects]
    #[arg(long, value_name = "DIR")]
    pub projects: Option<String>,
    /// The machine used without `-m` [default: default]
    #[arg(short, long, value_name = "NAME")]
    pub machine: Option<String>,
    /// Write without asking
    #[arg(short, long)]
    pub yes: bool,
}

/// Carries the command out; 1 when no cube can start on this host.
///
/// # Errors
/// What was given is wrong, was not confirmed, or cannot be written.
pub fn run(args: &InitArgs, ctx: &Ctx) -> Result<u8, Failure> {
    if args.project.is_some() {
        return Err(Failure::new(FailureKind::Unsupported, "projects from templates are not built yet")
            .hint("`tripmine project create NAME` makes an empty one"));
    }
    let ready = check_host(ctx);
    let asks = !args.yes && io::stdin().is_terminal() && io::stderr().is_terminal();
    let now = projects::root(None, &ctx.config, &ctx.home);
    let root = match (&args.projects, asks) {
        (Some(root), _) => root.clone(),
        (None, true) => ask("2  where are your projects?", &shown(&now))?,
        (None, false) => now.to_string_lossy().into_owned(),
    };
    let usual = ctx.default_machine();
    let machine = match (&args.machine, asks) {
        (Some(machine), _) => machine.clone(),
        (None, true) => ask("3  which machine do you usually launch on?", usual.as_str())?,
        (None, false) => usual.to_string(),
    };
    let machine = name(&machine)?;
    proxies(ctx);
    let file = ctx.layout.config_file();
    let before = read_text(&file, true)?.unwrap_or_default();
    let after = with_start(&file, &before, &root, machine.as_str())?;
    let folder = projects::expand(Path::new(&root), &ctx.home);
    let makes_machine = !machines::exists(&ctx.layout, &machine);
    let makes_folder = !folder.exists();
    if after == before && !makes_machine && !makes_folder {
        ctx.out.note("5  nothing to change: it is set up already");
        return Ok(u8::from(!ready));
    }
    ctx.out.note("5  this is what would be written:");
    if after != before {
        ctx.out.note(format!("   {}", shown(&file)));
        for line in after.lines().filter(|line| !before.lines().any(|old| old == *line)) {
            ctx.out.note(format!("     + {line}"));
        }
    }
    if makes_machine {
        ctx.out.note(format!("   {}", shown(&ctx.layout.machine_file(&machine))));
    }
    if makes_folder {
        ctx.out.note(format!("   the folder {}", shown(&folder)));
    }
    ctx.out.confirm("write it?", args.yes)?;
    write(&file, &before, &after, ctx)?;
    if makes_machine {
        machines::create_with(&ctx.layout, &machine, &[])?;
    }
    if makes_folder {
        std::fs::create_dir_all(&folder).map_err(|error| cannot("make", &folder, error))?;
    }
    ctx.out.note("done; next: `tripmine project create NAME`, then `tripmine`");
    Ok(u8::from(!ready))
}

/// True when a cube can start here.
fn check_host(ctx: &Ctx) -> bool {
    let findings = diagnose(&probe::all(&ctx.user));
    let ready = is_ready(&findings);
    let words = if ready { "a cube can start here" } else { "no cube can start here yet" };
    ctx.out.note(format!("1  this host: {words}"));
    for finding in findings.iter().filter(|f| f.verdict != Verdict::Pass && f.matters != Matters::Later) {
        ctx.out
            .note(format!("   {}: {} (without it: {})", finding.title, finding.found, finding.what_it_costs));
        for fix in &finding.fix {
            ctx.out.note(format!("     fix: {fix}"));
        }
    }
    ready
}

/// What greets as a SOCKS5 proxy; nothing is taken for one that does not.
fn proxies(ctx: &Ctx) {
    let found: Vec<String> = USUAL
        .iter()
        .map(|port| SocketAddr::from(([127, 0, 0, 1], *port)))
        .filter(|address| greets(*address))
        .map(|address| format!("socks5h://{address}"))
        .collect();
    if found.is_empty() {
        ctx.out.note("4  the net: `none`, nothing is reached; no SOCKS5 proxy greets on the usual ports");
    } else {
        ctx.out.note(format!(
            "4  the net: `none`, nothing is reached; this greets as a SOCKS5 proxy: {}",
            found.join(", ")
        ));
    }
}

fn greets(address: SocketAddr) -> bool {
    let connect = || -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&address, GREETING)?;
        stream.set_read_timeout(Some(GREETING))?;
        stream.set_write_timeout(Some(GREETING))?;
        Ok(stream)
    };
    connect().is_ok_and(is_socks)
}

/// RFC 1928: version 5, one method, "no authentication"; a proxy answers version 5 and a method.
fn is_socks(mut stream: impl Read + Write) -> bool {
    let mut greet = || -> io::Result<[u8; 2]> {
        stream.write_all(&[5, 1, 0])?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    matches!(greet(), Ok([5, _]))
}

fn ask(question: &str, usual: &str) -> Result<String, Failure> {
    let cannot = |error: io::Error| Failure::failed("cannot ask").because(&error);
    let mut out = io::stderr().lock();
    write!(out, "{question} [{}] ", printable(usual)).and_then(|()| out.flush()).map_err(cannot)?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).map_err(cannot)? == 0 {
        return Err(Failure::new(FailureKind::Denied, "not confirmed: nothing was changed"));
    }
    let line = line.trim();
    Ok(if line.is_empty() { usual.to_owned() } else { line.to_owned() })
}

fn write(file: &Path, before: &str, after: &str, ctx: &Ctx) -> Result<(), Failure> {
    if before == after {
        return Ok(());
    }
    ctx.layout.ensure(ctx.uid)?;
    std::fs::create_dir_all(&ctx.layout.config).map_err(|error| cannot("make", &ctx.layout.config, error))?;
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    atomic::write_atomic(&real, after.as_bytes(), 0o600).map_err(|error| cannot("write", &real, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctx::testing;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_written_is_shown_and_a_second_time_changes_nothing() {
        let (folder, mut ctx) = testing::ctx();
        let root = folder.path().join("code").to_string_lossy().into_owned();
        let args = |yes| InitArgs {
            projects: Some(root.clone()),
            machine: Some("work".into()),
            yes,
            ..InitArgs::default()
        };
        assert_eq!(run(&args(false), &ctx).expect_err("nobody to ask").kind, FailureKind::Denied);
        assert!(!ctx.layout.config_file().exists(), "nothing was written");
        let _code = run(&args(true), &ctx).expect("written");
        let text = std::fs::read_to_string(ctx.layout.config_file()).expect("written");
        assert!(text.contains("machine = \"work\"") && Path::new(&root).is_dir(), "{text}");
        assert!(ctx.out.text().1.contains("+ machine = \"work\""));
        ctx.config = crate::config::load::load_config(&ctx.layout.config_file()).expect("good");
        let _code = run(&args(true), &ctx).expect("again");
        assert!(ctx.out.text().1.contains("nothing to change"));
        assert_eq!(std::fs::read_to_string(ctx.layout.config_file()).expect("there"), text);
    }

    #[test]
    fn only_what_greets_is_a_proxy() {
        for (answer, is) in [(&[5, 0][..], true), (&[5, 0xff], true), (b"HT", false), (&[], false)] {
            let (ours, mut its) = UnixStream::pair().expect("a pair");
            its.write_all(answer).expect("written");
            its.shutdown(std::net::Shutdown::Write).expect("shut");
            assert_eq!(is_socks(ours), is, "{answer:?}");
            let mut greeting = [0; 3];
            its.read_exact(&mut greeting).expect("a greeting");
            assert_eq!(greeting, [5, 1, 0]);
        }
    }
}
