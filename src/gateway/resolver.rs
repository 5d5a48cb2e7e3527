//! Names as the host sees them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Lookup;
use super::limits::{ADDRESSES, LOOK_UP, LOOK_UP_KEPT, LOOK_UPS_KEPT};
use crate::model::net::{Hole, HoleError, Host, HostName, ProxyUrl};
use crate::model::{Failure, FailureKind};
use crate::plan::net::OpenHole;

/// Asks the host's resolver (getaddrinfo(3)). Blocks.
///
/// A name of several parts is the whole name, as it was decided about: no suffix of the host's (resolv.conf(5), `search` and
/// `ndots`) makes another one of it. A name of one part may only mean something with such a suffix.
pub(super) fn host_lookup(name: &HostName) -> io::Result<Vec<IpAddr>> {
    let ask = |text: &str| Ok((text, 0).to_socket_addrs()?.map(|address| address.ip()).collect());
    if !name.as_str().contains('.') {
        return ask(name.as_str());
    }
    // The file knows no name with a dot at its end.
    let file = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let written: Vec<IpAddr> = in_hosts(&file, name.as_str()).collect();
    if written.is_empty() { ask(&format!("{name}.")) } else { Ok(written) }
}

/// The addresses of a name in a file of hosts(5).
fn in_hosts<'a>(file: &'a str, name: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    file.lines().filter_map(move |line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

/// The addresses of a hole at launch. None of them is that of the proxy, whatever names the two go by.
pub(super) fn open_hole(hole: &Hole, proxy: &ProxyUrl) -> Result<OpenHole, Failure> {
    let destination = hole.destination();
    let addresses = match &destination.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) if name.is_host_alias() => loopbacks(),
        Host::Name(name) => host_lookup(name).map_err(|error| {
            Failure::failed(format!("the hole `{hole}` cannot be resolved: {error}"))
                .hint("a hole past the proxy is looked up once, when the cube starts")
        })?,
    };
    let addresses = tidy(addresses);
    for address in &addresses {
        hole.check(*address).map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))?;
    }
    if addresses.is_empty() {
        return Err(Failure::failed(format!("the hole `{hole}` has no address")));
    }
    let proxy = proxy.destination();
    if proxy.port == destination.port {
        let its = match &proxy.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) if name.is_host_alias() => loopbacks(),
            // One that has no address now is not reached either.
            Host::Name(name) => host_lookup(name).unwrap_or_default(),
        };
        let same = |address: &IpAddr| {
            its.iter().any(|it| it == address || (it.is_loopback() && address.is_loopback()))
        };
        if addresses.iter().any(same) {
            return Err(Failure::new(FailureKind::Denied, HoleError::Itself(hole.to_string()).to_string()));
        }
    }
    Ok(OpenHole { hole: hole.clone(), addresses })
}

fn loopbacks() -> Vec<IpAddr> {
    vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

/// Each once, the families by turns (RFC 8305, 4), no more than are tried.
fn tidy(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut same, mut other) = (Vec::new(), Vec::new());
    for address in addresses {
        let family = if address.is_ipv6() == first_is_v6 { &mut same } else { &mut other };
        if !family.contains(&address) {
            family.push(address);
        }
    }
    let longest = same.len().max(other.len());
    let turns = (0..longest).flat_map(|at| [same.get(at), other.get(at)]).flatten();
    turns.copied().take(ADDRESSES).collect()
}

/// Look-ups, each on a helper thread, with a short memory.
pub(super) struct Resolver {
    lookup: Lookup,
    kept: Arc<Mutex<Kept>>,
}

/// What was found of late.
#[derive(Default)]
struct Kept(HashMap<HostName, (Instant, Vec<IpAddr>)>);

impl Kept {
    fn get(&self, name: &HostName, now: Instant) -> Option<Vec<IpAddr>> {
        let (when, addresses) = self.0.get(name)?;
        (now.saturating_duration_since(*when) < LOOK_UP_KEPT).then(|| addresses.clone())
    }

    fn put(&mut self, name: HostName, now: Instant, addresses: Vec<IpAddr>) {
        if self.0.len() >= LOOK_UPS_KEPT {
            self.0.retain(|_, (when, _)| now.saturating_duration_since(*when) < LOOK_UP_KEPT);
            if self.0.len() >= LOOK_UPS_KEPT {
                self.0.clear();
            }
        }
        self.0.insert(name, (now, addresses));
    }
}

impl Resolver {
    pub(super) fn new(lookup: Lookup) -> Self {
        Self { lookup, kept: Arc::default() }
    }

    /// The addresses of `name`; the first ones, in the order in which they are to be tried.
    pub(super) async fn addresses(&self, name: &HostName) -> io::Result<Vec<IpAddr>> {
        if name.is_host_alias() {
            return Ok(loopbacks());
        }
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(name, Instant::now());
        if let Some(addresses) = known {
            return Ok(addresses);
        }
        let (lookup, kept, wanted) = (self.lookup.clone(), Arc::clone(&self.kept), name.clone());
        // Remembered by whoever finds it: the one who asked may not be waiting any more.
        let found = tokio::task::spawn_blocking(move || {
            let addresses = tidy(lookup(&wanted)?);
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            kept.lock().unwrap_or_else(PoisonError::into_inner).put(
                wanted,
                Instant::now(),
                addresses.clone(),
            );
            Ok(addresses)
        });
        let found = tokio::time::timeout(LOOK_UP, found)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the name servers do not answer"))?;
        found.map_err(io::Error::other)?
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_nothing_is_tried_twice() {
        let parse =
            |list: &str| list.split(' ').map(|it| it.parse().expect("address")).collect::<Vec<IpAddr>>();
        for (found, want) in [
            ("1.1.1.1 1.0.0.1 1.1.1.1", "1.1.1.1 1.0.0.1"),
            ("::2 ::3 1.1.1.1", "::2 1.1.1.1 ::3"),
            ("1.0.0.1 1.0.0.2 ::2 ::2 ::3", "1.0.0.1 ::2 1.0.0.2 ::3"),
            (
                "1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6 1.0.0.7 1.0.0.8 1.0.0.9",
                "1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6 1.0.0.7 1.0.0.8",
            ),
        ] {
            assert_eq!(tidy(parse(found)), parse(want));
        }
    }

    #[test]
    fn a_file_of_hosts_is_read_by_whole_names() {
        let file = "# of names\n127.0.0.1 localhost\n10.0.0.5\tdb.corp DB.Lan # db.old\n::5 db.lan\nnonsense db.lan\n";
        let found = |name| in_hosts(file, name).map(|address| address.to_string()).collect::<Vec<_>>();
        assert_eq!(found("db.lan"), ["10.0.0.5", "::5"]);
        for name in ["db.old", "lan", "db", "corp", "b.lan"] {
            assert!(found(name).is_empty(), "{name}");
        }
    }
}
