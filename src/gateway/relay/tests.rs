use std::io::{Read, Write};
use std::net::{Shutdown as How, TcpStream as Std};
use std::thread;

use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;

const PATIENCE: Patience = Patience { whole: Duration::from_secs(60), half: Duration::from_secs(60) };

/// Two sockets that are connected: ours for the runtime, theirs for a thread.
async fn pair() -> (TcpStream, Std) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let theirs = Std::connect(listener.local_addr().expect("address")).expect("connect");
    (listener.accept().await.expect("accept").0, theirs)
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    LocalSet::new().block_on(&runtime, test)
}

#[test]
fn every_byte_arrives_both_ways_and_half_close_is_kept() {
    run(async {
        let ((inside, mut cube), (outside, mut server)) = (pair().await, pair().await);
        let pattern: Vec<u8> = (0..20_000_000u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
        let (sent, wanted) = (pattern.clone(), pattern);
        let server = thread::spawn(move || {
            let mut got = Vec::new();
            server.read_to_end(&mut got).expect("read");
            // Only now, after the other's end, it answers.
            server.write_all(&got[..5_000_000]).expect("write");
            got
        });
        let cube = thread::spawn(move || {
            cube.write_all(&sent).expect("write");
            cube.shutdown(How::Write).expect("shutdown");
            let mut got = Vec::new();
            cube.read_to_end(&mut got).expect("read");
            got
        });
        let (flow, buffers) = (Flow::default(), Buffers::new());
        assert_eq!(relay(&inside, &outside, &flow, &buffers, PATIENCE).await, Over::Done);
        drop((inside, outside));
        assert!(server.join().expect("server") == wanted);
        assert!(cube.join().expect("cube") == wanted[..5_000_000]);
        assert_eq!(flow.sent.into_inner(), 20_000_000);
        assert_eq!(flow.received.into_inner(), 5_000_000);
        assert_eq!(buffers.lent(), 0);
    });
}

#[test]
fn a_slow_reader_stops_the_writer() {
    run(async {
        let ((inside, mut cube), (outside, server)) = (pair().await, pair().await);
        cube.set_write_timeout(Some(Duration::from_millis(500))).expect("timeout");
        let writer = thread::spawn(move || {
            let (chunk, mut written) = (vec![7; 65536], 0);
            while let Ok(count) = cube.write(&chunk) {
                written += count;
                assert!(written < 1 << 30, "nobody stops it");
            }
            written
        });
        let (flow, buffers) = (Flow::default(), Buffers::new());
        let relayed = relay(&inside, &outside, &flow, &buffers, PATIENCE);
        // The kernel's socket buffers and one of ours: then the writer waits, and gives up.
        let ended = tokio::time::timeout(Duration::from_secs(20), relayed).await;
        assert_ne!(ended, Ok(Over::Done));
        let written = writer.join().expect("writer");
        assert!(written < 64 << 20, "{written}");
        drop(server);
    });
}

#[test]
fn a_broken_end_is_told_from_a_finished_one() {
    run(async {
        for server_breaks in [true, false] {
            let ((inside, cube), (outside, server)) = (pair().await, pair().await);
            let (breaks, stays) = if server_breaks { (server, cube) } else { (cube, server) };
            reset(&breaks);
            drop(breaks);
            let over = relay(&inside, &outside, &Flow::default(), &Buffers::new(), PATIENCE).await;
            assert_eq!(over, Over::Broken);
            drop(stays);
        }
    });
}

#[test]
fn silence_ends_it_and_talk_does_not() {
    run(async {
        let ((inside, mut cube), (outside, _server)) = (pair().await, pair().await);
        let patience = Patience { whole: Duration::from_millis(400), half: Duration::from_millis(400) };
        let talker = thread::spawn(move || {
            for _ in 0..8 {
                cube.write_all(b"x").expect("write");
                thread::sleep(Duration::from_millis(100));
            }
            cube
        });
        let start = Instant::now();
        let over = relay(&inside, &outside, &Flow::default(), &Buffers::new(), patience).await;
        assert_eq!(over, Over::Idle);
        assert!(start.elapsed() > Duration::from_millis(1000), "{:?}", start.elapsed());
        drop(talker.join().expect("talker"));
    });
}

#[test]
fn idle_connections_hold_no_buffer() {
    run(async {
        let buffers = Buffers::new();
        let mut kept = Vec::new();
        for _ in 0..40 {
            let ((inside, mut cube), (outside, mut server)) = (pair().await, pair().await);
            let ours = buffers.clone();
            tokio::task::spawn_local(async move {
                relay(&inside, &outside, &Flow::default(), &ours, PATIENCE).await
            });
            cube.write_all(b"hello").expect("write");
            let said = tokio::task::spawn_blocking(move || {
                let mut said = [0; 5];
                server.read_exact(&mut said).expect("read");
                (said, server)
            });
            let (said, server) = said.await.expect("thread");
            assert_eq!(&said, b"hello");
            kept.push((cube, server));
        }
        assert_eq!(buffers.lent(), 0, "{buffers:?}");
    });
}
