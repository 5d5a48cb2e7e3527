//! `tripmine proxy detect` and `tripmine proxy check`: a real SOCKS5 greeting, and a verdict that may also be "could not be
//! told".

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::ctx::Ctx;
use crate::host::socks::{Greeting, greet};
use crate::model::net::ProxyUrl;
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};
use crate::store::machines;

/// Arguments of `tripmine proxy`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ProxyArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ProxyVerb,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ProxyVerb {
    /// Greet the usual ports of this host
    Detect {
        /// Print data as JSON
        #[arg(long)]
        json: bool,
    },
    /// Greet one proxy
    Check {
        /// socks5h://HOST:PORT [default: the proxy of the configuration or the default machine]
        #[arg(value_name = "URL")]
        url: Option<String>,
        /// Print data as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Usual ports, and whose they are.
const USUAL: &[(u16, &str)] = &[
    (9050, "tor"),
    (9150, "Tor Browser"),
    (1080, "SOCKS"),
    (1081, "SOCKS"),
    (1086, "SOCKS"),
    (2080, "SOCKS"),
    (7890, "clash"),
    (7891, "clash"),
    (8889, "SOCKS"),
    (10808, "v2ray"),
];
/// Loopback answers at once, or is not there.
const NEAR: Duration = Duration::from_millis(700);
/// A proxy elsewhere.
const FAR: Duration = Duration::from_secs(5);
/// It could not be told.
const UNCLEAR: u8 = 3;

#[derive(Debug, Clone, Serialize)]
struct Found {
    url: String,
    usual: Option<&'static str>,
    /// `works`, `no-proxy` or `could-not-tell`.
    verdict: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    proxies: &'a [Found],
}

/// Carries the command out; the exit code.
///
/// # Errors
/// The address is no proxy's, or there is none to check.
pub fn run(args: &ProxyArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let (found, json) = match &args.verb {
        ProxyVerb::Detect { json } => (detect(), *json),
        ProxyVerb::Check { url, json } => (vec![check(url.as_deref(), ctx)?], *json),
    };
    if json {
        ctx.out.json(&Report { version: 1, proxies: &found })?;
    } else {
        for one in &found {
            let sign = match one.verdict {
                "works" => "✓",
                "no-proxy" => "✗",
                _ => "?",
            };
            let usual = one.usual.map(|usual| format!("  ({usual})")).unwrap_or_default();
            ctx.out.line(format!("{sign} {}  {}{usual}", one.url, printable(&one.detail)));
        }
        match (&args.verb, found.iter().find(|one| one.verdict == "works")) {
            (ProxyVerb::Detect { .. }, Some(one)) => {
                ctx.out.note(format!(
                    "to use it: tripmine machine edit default --net proxy --proxy {}",
                    one.url
                ));
            }
            (ProxyVerb::Detect { .. }, None) => {
                ctx.out.note("no SOCKS5 proxy answers on the usual ports of this host");
            }
            _ => {}
        }
    }
    Ok(code(&found))
}

fn code(found: &[Found]) -> u8 {
    let any = |verdict| found.iter().any(|one| one.verdict == verdict);
    match (any("works"), any("could-not-tell")) {
        (true, _) => 0,
        (false, true) => UNCLEAR,
        (false, false) => 1,
    }
}

/// The proxies of this host that answered a greeting as SOCKS5 proxies do.
pub(super) fn working() -> Vec<String> {
    detect().into_iter().filter(|one| one.verdict == "works").map(|one| one.url).collect()
}

/// Only what listens is listed.
fn detect() -> Vec<Found> {
    let all: Vec<Option<Found>> = std::thread::scope(|scope| {
        let each: Vec<_> = USUAL
            .iter()
            .map(|(port, usual)| {
                scope.spawn(move || {
                    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *port);
                    let greeting = greet(address, NEAR);
                    (greeting != Greeting::Nobody)
                        .then(|| found(format!("socks5h://{address}"), Some(usual), greeting))
                })
            })
            .collect();
        each.into_iter().map(|one| one.join().unwrap_or_default()).collect()
    });
    all.into_iter().flatten().collect()
}

fn check(url: Option<&str>, ctx: &Ctx) -> Result<Found, Failure> {
    let url = match url {
        Some(text) => ProxyUrl::parse(text).map_err(|error| Failure::usage(error.to_string()))?,
        None => saved(ctx)?,
    };
    let destination = url.destination();
    let place = (destination.host.to_string(), destination.port.get());
    let addresses: Vec<SocketAddr> = match place.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Ok(found(url.to_string(), None, Greeting::Unclear(error.to_string()))),
    };
    // The first that says more than nothing: as who connects by name would.
    let mut greeting = Greeting::Unclear("the name has no address".to_owned());
    for address in addresses {
        greeting = greet(address, FAR);
        if !matches!(greeting, Greeting::Nobody | Greeting::Unclear(_)) {
            break;
        }
    }
    Ok(found(url.to_string(), None, greeting))
}

fn saved(ctx: &Ctx) -> Result<ProxyUrl, Failure> {
    let machine = machines::load(&ctx.layout, &ctx.default_machine())?;
    machine.settings.reach.proxy.or_else(|| ctx.config.defaults.reach.proxy.clone()).ok_or_else(|| {
        Failure::new(
            FailureKind::Usage,
            format!("no proxy is given, and the machine `{}` has none", machine.name),
        )
        .hint("`tripmine proxy check socks5h://HOST:PORT`")
        .hint("`tripmine proxy detect` greets the usual ports")
    })
}

fn found(url: String, usual: Option<&'static str>, greeting: Greeting) -> Found {
    let (verdict, detail) = match greeting {
        Greeting::Open => ("works", "SOCKS5, without a password".to_owned()),
        Greeting::Password => ("works", "SOCKS5, wants a user name and password".to_owned()),
        Greeting::Unwilling => ("no-proxy", "SOCKS5, but no way to log in that tripmine knows".to_owned()),
        Greeting::Other => ("no-proxy", "something listens that does not speak SOCKS5".to_owned()),
        Greeting::Nobody => ("no-proxy", "nobody listens".to_owned()),
        Greeting::Unclear(why) => ("could-not-tell", why),
    };
    Found { url, usual, verdict, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_verdicts_three_codes() {
        let one = |greeting| found("socks5h://h:1".to_owned(), None, greeting);
        let unclear = || Greeting::Unclear("x".to_owned());
        for (list, wanted) in [
            (vec![], 1),
            (vec![one(Greeting::Nobody), one(Greeting::Other)], 1),
            (vec![one(Greeting::Other), one(unclear())], UNCLEAR),
            (vec![one(unclear()), one(Greeting::Password)], 0),
            (vec![one(Greeting::Unwilling)], 1),
        ] {
            assert_eq!(code(&list), wanted, "{list:?}");
        }
    }
}
