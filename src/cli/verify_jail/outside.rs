//! What `verify-jail` sets out on the host for the net rows: a SOCKS5 proxy that answers names with a token, and a listener
//! that nobody may reach.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::plan::battery::{NAME, STOP};

/// How long a peer may take for what it says.
const PATIENCE: Duration = Duration::from_secs(5);

/// Both, until dropped.
#[derive(Debug)]
pub(super) struct Outside {
    /// Where the proxy listens.
    pub(super) proxy: SocketAddr,
    /// What it answers names with.
    pub(super) token: String,
    /// The port of the listener, on every address.
    pub(super) port: u16,
    /// Addresses of the host on which it could be reached.
    pub(super) addresses: Vec<IpAddr>,
    reached: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Outside {
    /// Sets both out.
    ///
    /// # Errors
    /// When no port can be had.
    pub(super) fn set_out(token: String) -> io::Result<Self> {
        let proxy = TcpListener::bind("127.0.0.1:0")?;
        let canary = TcpListener::bind("0.0.0.0:0")?;
        let (at, port) = (proxy.local_addr()?, canary.local_addr()?.port());
        let (reached, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (its_over, its_token) = (Arc::clone(&over), token.clone());
        let first = std::thread::spawn(move || serve(&proxy, &its_over, &its_token));
        let (its_over, its_reached) = (Arc::clone(&over), Arc::clone(&reached));
        let second = std::thread::spawn(move || {
            while let Some(mut stream) = next(&canary, &its_over) {
                its_reached.fetch_add(1, Ordering::SeqCst);
                let _told = stream.write_all(b"reached\n");
            }
        });
        let threads = vec![first, second];
        Ok(Self { proxy: at, token, port, addresses: own_addresses(), reached, over, threads })
    }

    /// How often the listener was reached.
    pub(super) fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _joined = thread.join();
        }
    }
}

/// Loopback, and the address that packets to elsewhere would leave from. Nothing is sent to find it.
fn own_addresses() -> Vec<IpAddr> {
    let mut all = vec![IpAddr::from([127, 0, 0, 1])];
    let out = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    all.extend(out.ok().map(|address| address.ip()));
    all
}

/// The next connection, or nothing once it is over. It looks by itself: a connection that would wake it can fail, when the host
/// has no free port left.
fn next(listener: &TcpListener, over: &AtomicBool) -> Option<TcpStream> {
    let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !over.load(Ordering::SeqCst) {
        let ready = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&tick));
        if ready.is_ok_and(|ready| ready > 0)
            && let Ok((stream, _)) = listener.accept()
        {
            return Some(stream);
        }
    }
    None
}

fn serve(listener: &TcpListener, over: &AtomicBool, token: &str) {
    while let Some(mut stream) = next(listener, over) {
        // A client that broke off asked for nothing.
        if ask(&mut stream, token).is_ok_and(|stop| stop) {
            return;
        }
    }
}

/// One client; true when it asked the proxy to go. What it asks is a cube's text and goes nowhere.
fn ask(stream: &mut TcpStream, token: &str) -> io::Result<bool> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut methods = vec![0; usize::from(head[1])];
    stream.read_exact(&mut methods)?;
    stream.write_all(&[5, 0])?;
    let mut request = [0; 5];
    stream.read_exact(&mut request)?;
    if request[3] != 3 {
        // An address is refused (2: not allowed): only names are expected.
        stream.write_all(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0])?;
        return Ok(false);
    }
    let mut name = vec![0; usize::from(request[4]) + 2];
    stream.read_exact(&mut name)?;
    name.truncate(name.len() - 2);
    let stop = name == STOP.as_bytes();
    if name != NAME.as_bytes() && !stop {
        stream.write_all(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0])?;
        return Ok(false);
    }
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    // What it says first is read, so that closing does not reset the answer away.
    let _said = stream.read(&mut [0; 64]);
    stream.write_all(token.as_bytes())?;
    stream.write_all(b"\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    if !stop {
        let _end = stream.read(&mut [0; 1]);
    }
    Ok(stop)
}
