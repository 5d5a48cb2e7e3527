//! Names and addresses as the host sees them: look-ups, and which addresses are the host's own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Instant;

use super::Lookup;
use super::limits::{ADDRESSES, LOOK_UP, LOOK_UP_KEPT, LOOK_UPS_KEPT};
use crate::model::net::{Hole, Host, HostName};
use crate::model::{Failure, FailureKind};
use crate::plan::net::OpenHole;

/// Asks the host's resolver (getaddrinfo(3)). Blocks.
pub(super) fn host_lookup(name: &HostName) -> io::Result<Vec<IpAddr>> {
    Ok((name.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// The addresses of a hole at launch.
pub(super) fn open_hole(hole: &Hole) -> Result<OpenHole, Failure> {
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

/// True when a connection to `address` would not leave the host: the kernel would send from the
/// very address. Nothing is sent to find out; a connected datagram socket tells.
pub(super) fn is_own(address: IpAddr) -> bool {
    if address.is_loopback() {
        return true;
    }
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(address, 9))?;
        socket.local_addr()
    });
    // Without a way there it is nobody's, and dialling it fails as well.
    source.is_ok_and(|source| source.ip() == address)
}

/// Look-ups, each on a helper thread, with a short memory.
pub(super) struct Resolver {
    lookup: Lookup,
    kept: RefCell<HashMap<HostName, (Instant, Vec<IpAddr>)>>,
}

impl Resolver {
    pub(super) fn new(lookup: Lookup) -> Self {
        Self { lookup, kept: RefCell::new(HashMap::new()) }
    }

    /// The addresses of `name`; the first ones, in the order in which they are to be tried.
    pub(super) async fn addresses(&self, name: &HostName) -> io::Result<Vec<IpAddr>> {
        if name.is_host_alias() {
            return Ok(loopbacks());
        }
        let now = Instant::now();
        if let Some((when, addresses)) = self.kept.borrow().get(name)
            && now.saturating_duration_since(*when) < LOOK_UP_KEPT
        {
            return Ok(addresses.clone());
        }
        let (lookup, wanted) = (self.lookup.clone(), name.clone());
        let found = tokio::task::spawn_blocking(move || lookup(&wanted));
        let found = tokio::time::timeout(LOOK_UP, found)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the name servers do not answer"))?;
        let addresses = tidy(found.map_err(io::Error::other)??);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= LOOK_UPS_KEPT {
            kept.retain(|_, (when, _)| now.saturating_duration_since(*when) < LOOK_UP_KEPT);
            if kept.len() >= LOOK_UPS_KEPT {
                kept.clear();
            }
        }
        kept.insert(name.clone(), (now, addresses.clone()));
        Ok(addresses)
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
    fn the_host_knows_its_own_addresses() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        // Documentation addresses belong to nobody (RFC 5737).
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()));
    }
}
