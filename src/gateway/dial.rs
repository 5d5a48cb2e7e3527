//! Dialling: to addresses that were checked, and to no others.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::limits::{ALIVE, ALIVE_AGAIN, ALIVE_TIMES, CONNECT, HEAD_START};
use crate::model::net::Port;

/// Connects to the first of `addresses` that answers. Each has a head start before the next one is
/// tried beside it (RFC 8305, "happy eyeballs"); whichever is connected first is taken.
///
/// # Errors
/// That of the last one that failed, or a time-out of all.
pub(super) async fn dial(addresses: &[IpAddr], port: Port) -> io::Result<(TcpStream, IpAddr)> {
    dial_within(addresses, port, CONNECT).await
}

/// As [`dial`] with a time limit of the caller's.
pub(super) async fn dial_within(
    addresses: &[IpAddr],
    port: Port,
    limit: Duration,
) -> io::Result<(TcpStream, IpAddr)> {
    let racing = race(addresses, port);
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
    let (stream, address) = tokio::time::timeout(limit, racing).await.map_err(|_| late())??;
    // Without it a short message would wait for the answer to the one before.
    let _set = stream.set_nodelay(true);
    // A peer that has gone without a word ends the connection in minutes.
    let _set = rustix::net::sockopt::set_socket_keepalive(&stream, true)
        .and_then(|()| rustix::net::sockopt::set_tcp_keepidle(&stream, ALIVE))
        .and_then(|()| rustix::net::sockopt::set_tcp_keepintvl(&stream, ALIVE_AGAIN))
        .and_then(|()| rustix::net::sockopt::set_tcp_keepcnt(&stream, ALIVE_TIMES));
    Ok((stream, address))
}

async fn race(addresses: &[IpAddr], port: Port) -> io::Result<(TcpStream, IpAddr)> {
    if let [only] = addresses {
        return connect(*only, port).await;
    }
    let mut waiting = addresses.iter().copied();
    let mut tries = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no address to connect to");
    loop {
        let next = waiting.next();
        let more = next.is_some();
        if let Some(address) = next {
            tries.spawn_local(connect(address, port));
        }
        let head_start =
            async { if more { tokio::time::sleep(HEAD_START).await } else { std::future::pending().await } };
        tokio::select! {
            tried = tries.join_next() => match tried {
                Some(Ok(Ok(connected))) => return Ok(connected),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None => return Err(last),
            },
            () = head_start => {}
        }
    }
}

async fn connect(address: IpAddr, port: Port) -> io::Result<(TcpStream, IpAddr)> {
    Ok((TcpStream::connect(SocketAddr::new(address, port.get())).await?, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hours, the kernel's own patience, would hold the cube's program as long.
    #[test]
    fn a_peer_that_vanishes_is_noticed_in_minutes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("address");
        let port = Port::new(at.port()).expect("port");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let (stream, address) = runtime.block_on(dial(&[at.ip()], port)).expect("dialled");
        use rustix::net::sockopt::{socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl};
        assert_eq!((address, socket_keepalive(&stream)), (at.ip(), Ok(true)));
        let (idle, again) = (tcp_keepidle(&stream).expect("idle"), tcp_keepintvl(&stream).expect("again"));
        let times = tcp_keepcnt(&stream).expect("times");
        assert!(idle + again * times < Duration::from_secs(300), "{idle:?} {again:?} {times}");
    }
}
