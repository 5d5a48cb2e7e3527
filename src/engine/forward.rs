//! Forwards and ports of running cubes, for every face: asks the keeper for the one, looks at /proc for the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::Engine;
use super::carry::Done;
use super::client::{Client, unexpected};
use super::running::connect;
use crate::host::ports;
use crate::keeper::protocol::{Answer, Ask};
use crate::model::{
    BindAddr, CubeRecord, Failure, FailureKind, ForwardStatus, HostEnd, Jail, Listening, PortMap, TripId,
};

/// Opens a forward in the cube of `client`. One that is not `kept` ends with the connection.
///
/// # Errors
/// The host's end cannot be had, or the cube has ended.
pub fn open(client: &mut Client, map: PortMap, exact: bool, kept: bool) -> Result<ForwardStatus, Failure> {
    client.ask(&Ask::Forward { map: settled(map), exact, kept })?;
    match client.answer()? {
        Answer::Forwarded(status) => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

/// The forwards that are open, oldest first.
///
/// # Errors
/// The cube has ended.
pub fn list(client: &mut Client) -> Result<Vec<ForwardStatus>, Failure> {
    client.ask(&Ask::Forwards)?;
    match client.answer()? {
        Answer::Forwards { forwards } => Ok(forwards),
        other => Err(unexpected(&other)),
    }
}

/// Closes a forward; its last figures.
///
/// # Errors
/// There is none of this number, or the cube has ended.
pub fn close(client: &mut Client, id: u32) -> Result<ForwardStatus, Failure> {
    client.ask(&Ask::Unforward { id })?;
    match client.answer()? {
        Answer::Forwarded(status) => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

/// What listens in a cube, by port, without what is ours.
///
/// # Errors
/// It has ended, or cannot be looked at.
pub fn ports(record: &CubeRecord) -> Result<Vec<Listening>, Failure> {
    if record.jail == Jail::Landlock {
        // The tables of its network are the host's own.
        return Err(Failure::new(
            FailureKind::Unsupported,
            format!(
                "the cube {} has no network of its own: the jail `landlock` cannot tell its ports",
                record.id.short()
            ),
        )
        .hint("with `--net open` its servers listen on this host: `ss -ltnp`"));
    }
    let ended = || Failure::new(FailureKind::Missing, format!("the cube {} has ended", record.id.short()));
    let init = record.init.as_ref().filter(|init| init.is_alive()).ok_or_else(ended)?;
    let keeper = record.keeper.as_ref().filter(|keeper| keeper.is_alive()).map(|keeper| keeper.pid);
    ports::ports(init.pid, keeper).map_err(|error| {
        Failure::failed(format!("cannot see what listens in the cube {}", record.id.short()))
            .because(&error)
            .hint("a /proc that is mounted with `hidepid` hides it")
    })
}

/// The same forward with the folder of a host socket as it really is: keepers follow no link.
#[must_use]
pub fn settled(mut map: PortMap) -> PortMap {
    if let HostEnd::Unix(path) = &mut map.host
        && let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        && let Ok(real) = parent.canonicalize()
    {
        let real: PathBuf = real.join(name);
        *path = real;
    }
    map
}

/// The host's end as one types it into a browser.
#[must_use]
pub fn place(host: &HostEnd) -> String {
    match host {
        HostEnd::Tcp { bind: BindAddr::Loopback, port } => {
            SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).to_string()
        }
        other => other.to_string(),
    }
}

/// True when `word` means this one: its port, its address with the port, its path, or the whole of it.
#[must_use]
pub fn names(word: &str, map: &PortMap) -> bool {
    let port = match &map.host {
        HostEnd::Tcp { port, .. } => port.to_string(),
        HostEnd::Unix(path) => path.display().to_string(),
    };
    [port, place(&map.host), map.host.to_string(), map.to_string()].iter().any(|name| name == word)
}

impl Engine {
    /// Opens a forward that stays.
    pub(super) fn forward(&self, cube: &TripId, map: &PortMap) -> Result<Done, Failure> {
        let mut client = connect(&self.layout.run, cube)?;
        let status = open(&mut client, map.clone(), false, true)?;
        let place = place(&status.map.host);
        let url = match &status.map.host {
            HostEnd::Tcp { .. } => format!("http://{place}"),
            HostEnd::Unix(_) => place,
        };
        let mut done = Done::say(format!("{url} leads to port {} of cube {}", status.map.cube, cube.short()));
        if status.map.is_public() {
            done.warnings.push(format!("{} is open to other hosts", status.map.host));
        }
        done.copy = Some(url);
        Ok(done)
    }

    /// Closes the forward at this end of the host.
    pub(super) fn unforward(&self, cube: &TripId, host: &str) -> Result<Done, Failure> {
        let mut client = connect(&self.layout.run, cube)?;
        let found = list(&mut client)?.into_iter().find(|status| names(host, &status.map));
        let status = found.ok_or_else(|| {
            Failure::new(
                FailureKind::Missing,
                format!("no forward is open at `{}`", crate::model::sanitize::printable(host)),
            )
        })?;
        close(&mut client, status.id)?;
        Ok(Done::say(format!("closed {} -> {}", place(&status.map.host), status.map.cube)))
    }
}
