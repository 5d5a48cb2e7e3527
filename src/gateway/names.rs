//! The name service on its sockets: packets over UDP, and over TCP with their length before them.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

use super::Asker;
use super::accept::Gate;
use super::dns::{self, MAX_QUESTION};
use super::journal::Said;
use super::limits::{NAME_STREAM, NAME_STREAMS, QUESTIONS_A_TURN};
use crate::model::net::{Connection, Decision, EventKind, OWN_V4, OWN_V6, Transport};

/// Answers one packet, and writes a refused name down. It came from `asker`'s address.
fn answer(gate: &Gate, packet: &[u8], asker: Asker) -> Option<Vec<u8>> {
    let shared = &gate.shared;
    shared.named();
    let now = Instant::now();
    let answered = shared
        .with_scene(|scene| dns::answer(packet, scene, &mut gate.pool.borrow_mut(), shared.facts.ipv6, now));
    if let Some((name, reason)) = answered.denied {
        shared.event(EventKind::Denied, || Said {
            connection: Some(Connection {
                id: 0,
                transport: Transport::Dns,
                who: gate.who(asker),
                name,
                address: None,
                port: 0,
            }),
            decision: Some(Decision { allowed: false, via: None, reason }),
            ..Said::default()
        });
    }
    answered.bytes
}

/// Serves a UDP socket for ever.
pub(super) async fn packets(gate: Rc<Gate>, socket: UdpSocket) {
    let mut packet = vec![0; MAX_QUESTION + 1];
    loop {
        for _ in 0..QUESTIONS_A_TURN {
            match socket.recv_from(&mut packet).await {
                Ok((length, from)) => {
                    // Most ask the one that is written in resolv.conf(5).
                    let own: IpAddr = if from.is_ipv4() { OWN_V4.into() } else { OWN_V6.into() };
                    let to = Some(SocketAddr::new(own, 53));
                    let asker = Asker { transport: Transport::Dns, from, to };
                    if let Some(answer) = answer(&gate, &packet[..length], asker) {
                        // A full queue loses the answer; whoever asked asks again.
                        let _sent = socket.try_send_to(&answer, from);
                    }
                }
                // An answer that met a closed socket comes back as an error of the next call.
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Serves a TCP listener for ever.
pub(super) async fn streams(gate: Rc<Gate>, listener: TcpListener) {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= NAME_STREAMS {
            open.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, from)) => {
                let gate = Rc::clone(&gate);
                open.spawn_local(async move { stream_of(&gate, stream, from).await });
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
        while open.try_join_next().is_some() {}
    }
}

/// Questions until the end, a silence, or one that is too long to be one.
async fn stream_of(gate: &Gate, mut stream: TcpStream, from: SocketAddr) {
    let to = (gate.shared.facts.original)(&stream).ok();
    // Over TCP, so the socket is one of TCP's.
    let asker = Asker { transport: Transport::Tcp, from, to };
    // Whatever breaks here is the end of this stream and of nothing else.
    let _over: std::io::Result<()> = async {
        loop {
            let length = timeout(NAME_STREAM, stream.read_u16()).await?? as usize;
            if length > MAX_QUESTION {
                return Ok(());
            }
            let mut packet = vec![0; length];
            timeout(NAME_STREAM, stream.read_exact(&mut packet)).await??;
            let Some(answer) = answer(gate, &packet, asker) else { return Ok(()) };
            let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(&answer);
            timeout(NAME_STREAM, stream.write_all(&framed)).await??;
        }
    }
    .await;
}
