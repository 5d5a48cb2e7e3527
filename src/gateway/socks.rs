//! The client's side of SOCKS5 (RFC 1928, RFC 1929): a name in, a connection or a reason out.
//!
//! Written here because it must not read a byte more than the reply (what follows is the other
//! end's and is carried as it is), must send an empty password, and must never fall back to no
//! authentication when there is a secret: to Tor that would mean to share a circuit.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::limits::PROXY_CONNECT;
use super::secret::Secret;
use crate::model::net::{Destination, Host};

/// A connection to a proxy.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

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

/// Greets the proxy at the other end of `stream`, and shows it who we are, by `deadline`.
pub(super) async fn greet(
    stream: &mut impl Wire,
    secret: Option<&Secret>,
    deadline: Instant,
) -> Result<(), SocksError> {
    timeout_at(deadline, introduce(stream, secret)).await.map_err(|_| SocksError::Silent)?
}

/// Asks a proxy that was greeted for `destination`. Afterwards the stream is the connection to it.
pub(super) async fn connect(stream: &mut impl Wire, destination: &Destination) -> Result<(), SocksError> {
    timeout(PROXY_CONNECT, ask(stream, destination)).await.map_err(|_| SocksError::Silent)?
}

async fn introduce(stream: &mut impl Wire, secret: Option<&Secret>) -> Result<(), SocksError> {
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

async fn authenticate(stream: &mut impl Wire, secret: &Secret) -> Result<(), SocksError> {
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

async fn ask(stream: &mut impl Wire, destination: &Destination) -> Result<(), SocksError> {
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
    use proptest::prelude::*;

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

    /// Asks a proxy that says `said` whatever it hears, in pieces of `piece` bytes, and then closes; what was made of it and
    /// what it left unread.
    fn asked(said: &[u8], piece: usize, secret: Option<&Secret>) -> (Result<(), SocksError>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            // Small, so that pieces arrive as pieces.
            let (mut ours, mut its) = tokio::io::duplex(piece.max(1));
            let destination = "a.test:80".parse().expect("destination");
            let talk = async {
                let (mut hear, mut say) = tokio::io::split(&mut its);
                let hearing = async { tokio::io::copy(&mut hear, &mut tokio::io::sink()).await };
                let saying = async {
                    let _refused = say.write_all(said).await;
                    let _closed = say.shutdown().await;
                };
                tokio::join!(hearing, saying)
            };
            let listen = async {
                let deadline = Instant::now() + crate::gateway::limits::PROXY_GREETING;
                let went = match greet(&mut ours, secret, deadline).await {
                    Ok(()) => connect(&mut ours, &destination).await,
                    Err(error) => Err(error),
                };
                let mut rest = Vec::new();
                ours.read_to_end(&mut rest).await.expect("the rest");
                drop(ours);
                (went, rest)
            };
            tokio::join!(listen, talk).0
        })
    }

    /// The length of the replies that `said` begins with, if they say yes: an independent reading of RFC 1928 and 1929.
    fn agreed(said: &[u8], secret: bool) -> Option<usize> {
        let mut at = 2;
        if said.get(..2)? != [5, if secret { 2 } else { 0 }] {
            return None;
        }
        if secret {
            at += 2;
            if said.get(3)? != &0 {
                return None;
            }
        }
        let head = said.get(at..at + 4)?;
        let address = match (head[0], head[1], head[3]) {
            (5, 0, 1) => 4,
            (5, 0, 4) => 16,
            (5, 0, 3) => 1 + usize::from(*said.get(at + 4)?),
            _ => return None,
        };
        let end = at + 4 + address + 2;
        (said.len() >= end).then_some(end)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        /// Whatever a proxy says, in whatever pieces: it is taken for a yes exactly when it is one, and not a byte of what
        /// follows is read.
        #[test]
        fn a_yes_is_a_yes_and_nothing_behind_it_is_read(
            random in prop::collection::vec(any::<u8>(), 0..40),
            kind in prop::sample::select(vec![1u8, 3, 4, 0, 9]), length in 0u8..20,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in any::<prop::sample::Index>(), whole in any::<bool>(),
            piece in 1usize..30, with_secret in any::<bool>(), wild in any::<bool>(),
        ) {
            let secret = Secret::of(b"me", b"");
            let mut said = if wild { random } else {
                let mut said = if with_secret { vec![5, 2, 1, 0] } else { vec![5, 0] };
                said.extend([5, 0, 0, kind]);
                let address = match kind { 1 => 4, 4 => 16, _ => { said.push(length); usize::from(length) } };
                said.extend(std::iter::repeat_n(7, address + 2));
                said.extend(random);
                said
            };
            for (at, byte) in changes {
                if !said.is_empty() {
                    let at = at.index(said.len());
                    said[at] = byte;
                }
            }
            if !whole {
                said.truncate(cut.index(said.len() + 1));
            }
            let (went, rest) = asked(&said, piece, with_secret.then_some(&secret));
            match agreed(&said, with_secret) {
                Some(end) => {
                    prop_assert!(went.is_ok(), "{went:?}: {said:?}");
                    prop_assert_eq!(rest, &said[end..]);
                }
                None => prop_assert!(went.is_err(), "taken for a yes: {said:?}"),
            }
        }
    }
}
