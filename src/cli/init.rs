//! `tripmine init`: checks this host, asks where projects are and which machine is the usual one, shows what it would
//! write, and writes it. Everything can be given as an option; it can be repeated.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use clap::Args;

use super::ctx::{Ctx, name};
use super::proxy;
use crate::config::global::{Start, with_start};
use crate::config::load::read_text;
use crate::host::probe;
use crate::model::net::ProxyUrl;
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind, NetPolicyKind};
use crate::plan::diagnose::{Matters, Verdict, diagnose, is_ready};
use crate::store::fail::{cannot, shown};
use crate::store::{atomic, machines, projects};

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
    /// What cubes reach: none, allow, proxy or open [default: none]
    #[arg(long, value_name = "POLICY")]
    pub net: Option<String>,
    /// The proxy of the policy `proxy` [default: one that greets]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
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
    let (net, proxy) = net(args, asks, ctx)?;
    let file = ctx.layout.config_file();
    let before = read_text(&file, true)?.unwrap_or_default();
    let start = Start { projects: &root, machine: machine.as_str(), net, proxy: proxy.as_deref() };
    let after = with_start(&file, &before, &start)?;
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

/// What cubes reach, and through what.
fn net(args: &InitArgs, asks: bool, ctx: &Ctx) -> Result<(NetPolicyKind, Option<String>), Failure> {
    let found = proxy::working();
    let seen = match found.as_slice() {
        [] => "no SOCKS5 proxy greets on the usual ports".to_owned(),
        found => format!("greets as a SOCKS5 proxy: {}", found.join(", ")),
    };
    ctx.out.note(format!("   {seen}"));
    let now = ctx.config.defaults.net.unwrap_or(NetPolicyKind::None);
    let kind = match (&args.net, asks) {
        (Some(kind), _) => kind.clone(),
        (None, true) => ask("4  what may cubes reach: none, allow, proxy or open?", &now.to_string())?,
        (None, false) => now.to_string(),
    };
    let kind: NetPolicyKind = kind.parse().map_err(Failure::usage)?;
    if kind != NetPolicyKind::Proxy {
        return Ok((kind, None));
    }
    let saved = ctx.config.defaults.reach.proxy.as_ref().map(ToString::to_string);
    let usual = args.proxy.clone().or(saved).or_else(|| found.first().cloned());
    let url = match (usual, asks && args.proxy.is_none()) {
        (Some(usual), true) => ask("   through which proxy?", &usual)?,
        (Some(usual), false) => usual,
        (None, true) => ask("   through which proxy?", "socks5h://HOST:PORT")?,
        (None, false) => {
            return Err(Failure::usage("the net policy `proxy` needs a proxy, and none greets here")
                .hint("name it: `--proxy socks5h://HOST:PORT`"));
        }
    };
    let url = ProxyUrl::parse(&url).map_err(|error| Failure::usage(error.to_string()))?.to_string();
    if !found.contains(&url) {
        ctx.out.note(format!("   not seen to greet just now: `tripmine proxy check {url}` says more"));
    }
    Ok((kind, Some(url)))
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
    fn the_net_is_decided_and_a_proxy_is_named() {
        let (folder, mut ctx) = testing::ctx();
        let args = |net: &str, proxy: Option<&str>| InitArgs {
            projects: Some(folder.path().join("code").to_string_lossy().into_owned()),
            net: Some(net.into()),
            proxy: proxy.map(str::to_owned),
            yes: true,
            ..InitArgs::default()
        };
        assert_eq!(run(&args("opne", None), &ctx).expect_err("no policy").kind, FailureKind::Usage);
        assert!(
            run(&args("proxy", Some("socks5://127.0.0.1:1")), &ctx).is_err(),
            "names would be looked up here"
        );
        assert!(!ctx.layout.config_file().exists());
        let _code = run(&args("proxy", Some("socks5h://127.0.0.1:1")), &ctx).expect("written");
        ctx.config = crate::config::load::load_config(&ctx.layout.config_file()).expect("good");
        assert_eq!(ctx.config.defaults.net, Some(NetPolicyKind::Proxy));
        assert!(ctx.out.text().1.contains("+ net = \"proxy\""), "{}", ctx.out.text().1);
        assert!(ctx.out.text().1.contains("not seen to greet"), "nobody listens on port 1");
        // Repeated without a word, nothing changes.
        let again = InitArgs { net: None, proxy: None, ..args("none", None) };
        let _code = run(&again, &ctx).expect("again");
        assert!(ctx.out.text().1.contains("nothing to change"));
    }
}
