//! The client's side of SOCKS5 (RFC 1928, RFC 1929): a name in, a connection or a reason out.
//!
//! Written here because it must not read a byte more than the reply (what follows is the other
//! end's and goes through splice), must send an empty password, and must never fall back to no
//! authentication when there is a secret: to Tor that would mean to share a circuit.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::limits::{PROXY_CONNECT, PROXY_GREETING};
use super::secret::Secret;
use crate::model::net::{Destination, Host};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Why the proxy made no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocksError {
    /// It did not say a thing in time.
    #[error("does not answer")]
    Silent,
    /// It closed, or the connection to it broke.
    #[error("broke off: {0}")]
    Broken(#[from] io::Error),
    /// It speaks something else.
    #[error("does not speak SOCKS5: {0}")]
    NotSocks(&'static str),
    /// It wants what we do not have, or have and it does not want.
    #[error("{0}")]
    Method(&'static str),
    /// The secret is wrong.
    #[error("did not accept the user name and password")]
    Secret,
    /// It tried, and this is what came of it.
    #[error("{}", reply_text(*.0))]
    Refused(u8),
}

/// Asks the proxy at the other end of `stream` for `destination`. Afterwards the stream is the
/// connection to it.
pub(super) async fn ask(
    stream: &mut TcpStream,
    secret: Option<&Secret>,
    destination: &Destination,
) -> Result<(), SocksError> {
    timeout(PROXY_GREETING, greet(stream, secret)).await.map_err(|_| SocksError::Silent)??;
    timeout(PROXY_CONNECT, connect(stream, destination)).await.map_err(|_| SocksError::Silent)?
}

async fn greet(stream: &mut TcpStream, secret: Option<&Secret>) -> Result<(), SocksError> {
    let method = if secret.is_some() { PASSWORD } else { NO_AUTHENTICATION };
    stream.write_all(&[VERSION, 1, method]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match (chosen, secret) {
        ([VERSION, NO_AUTHENTICATION], None) => Ok(()),
        ([VERSION, PASSWORD], Some(secret)) => authenticate(stream, secret).await,
        ([VERSION, _], None) => Err(SocksError::Method("wants a user name and password")),
        ([VERSION, _], Some(_)) => Err(SocksError::Method("does not take a user name and password")),
        _ => Err(SocksError::NotSocks("its greeting has another version")),
    }
}

async fn authenticate(stream: &mut TcpStream, secret: &Secret) -> Result<(), SocksError> {
    let mut request = vec![PASSWORD_VERSION];
    for field in [secret.user(), secret.password()] {
        request.push(u8::try_from(field.len()).map_err(|_| SocksError::Secret)?);
        request.extend_from_slice(field);
    }
    stream.write_all(&request).await?;
    let mut status = [0; 2];
    stream.read_exact(&mut status).await?;
    // The version of the reply is wrong in proxies that are otherwise right; the status decides.
    if status[1] == 0 { Ok(()) } else { Err(SocksError::Secret) }
}

async fn connect(stream: &mut TcpStream, destination: &Destination) -> Result<(), SocksError> {
    stream.write_all(&request(destination)?).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    match head {
        [VERSION, 0, ..] => {}
        [VERSION, code, ..] => return Err(SocksError::Refused(code)),
        _ => return Err(SocksError::NotSocks("its reply has another version")),
    }
    // The address it connected from means nothing here, but must be read to its last byte.
    let length = match head[3] {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(SocksError::NotSocks("its reply has an address of an unknown kind")),
    };
    let mut rest = [0; 255 + 2];
    stream.read_exact(&mut rest[..length + 2]).await?;
    Ok(())
}

/// The request for a connection: names as names.
fn request(destination: &Destination) -> Result<Vec<u8>, SocksError> {
    let mut request = vec![VERSION, CONNECT, 0];
    match &destination.host {
        Host::Address(IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend_from_slice(&address.octets());
        }
        Host::Address(IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend_from_slice(&address.octets());
        }
        Host::Name(name) => {
            let name = name.as_str().as_bytes();
            request.push(NAME);
            request.push(u8::try_from(name.len()).map_err(|_| SocksError::NotSocks("the name is too long"))?);
            request.extend_from_slice(name);
        }
    }
    request.extend_from_slice(&destination.port.get().to_be_bytes());
    Ok(request)
}

const fn reply_text(code: u8) -> &'static str {
    match code {
        1 => "failed",
        2 => "does not allow this connection",
        3 => "cannot reach the network",
        4 => "cannot reach the host, or does not find the name",
        5 => "was refused by the other end",
        6 => "waited too long for the other end",
        7 => "cannot connect at all",
        8 => "cannot use this kind of address",
        _ => "failed for a reason of its own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_names() {
        for (to, want) in [
            ("example.com:443", &b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"[..]),
            ("192.0.2.7:80", b"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50"),
            ("[2001:db8::1]:80", b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50"),
        ] {
            assert_eq!(request(&to.parse().expect(to)).expect(to), want, "{to}");
        }
    }
}
