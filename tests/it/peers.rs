//! What stands outside in tests of the net: a web server, a SOCKS5 proxy that notes what it is asked for, and listeners that
//! nobody may reach.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A server on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it was asked for, in order.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn new(address: &str, serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, open, over) =
            (Arc::default(), Arc::<Mutex<Vec<TcpStream>>>::default(), Arc::<AtomicBool>::default());
        let (its_asked, its_open, its_over) = (Arc::clone(&asked), Arc::clone(&open), Arc::clone(&over));
        let serve = Arc::new(serve);
        let thread = std::thread::spawn(move || {
            while let Some(stream) = next(&listener, &its_over) {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                its_open.lock().unwrap().push(stream.try_clone().unwrap());
                let (serve, asked) = (Arc::clone(&serve), Arc::clone(&its_asked));
                std::thread::spawn(move || {
                    let whole = stream.try_clone().unwrap();
                    serve(stream, &asked);
                    // The list above holds it open otherwise.
                    let _gone = whole.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address, asked, over, open, thread: Some(thread) }
    }

    /// A web server that answers every request with `hello from outside`.
    pub(crate) fn web() -> Self {
        Self::web_on("127.0.0.1:0")
    }

    /// The same on every address of the host.
    pub(crate) fn web_everywhere() -> Self {
        Self::web_on("0.0.0.0:0")
    }

    fn web_on(address: &str) -> Self {
        Self::new(address, |mut stream, asked| {
            if let Some(head) = head(&mut stream) {
                asked.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                answer(&mut stream, "hello from outside\n");
            }
        })
    }

    /// The same on every address of the host: what a leak would reach.
    pub(crate) fn canary() -> Self {
        Self::new("0.0.0.0:0", |_, asked| asked.lock().unwrap().push("reached".to_owned()))
    }

    /// A SOCKS5 proxy that notes `TYPE HOST:PORT [USER:PASSWORD]` and answers as the other end would: a page, or for the
    /// name `endless.example` bytes without an end.
    pub(crate) fn socks(secret: Option<&'static str>) -> Self {
        Self::new("127.0.0.1:0", move |mut stream, asked| {
            let _broken = socks(&mut stream, asked, secret);
        })
    }

    /// What it was asked for so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _gone = stream.shutdown(std::net::Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
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

/// A request up to its empty line.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut one).ok()?;
        bytes.push(one[0]);
    }
    String::from_utf8(bytes).ok()
}

fn answer(stream: &mut TcpStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _gone = stream.write_all((head + body).as_bytes());
}

fn socks(stream: &mut TcpStream, asked: &Mutex<Vec<String>>, secret: Option<&str>) -> std::io::Result<()> {
    let mut exact = |count: usize| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let hello = exact(2)?;
    let methods = exact(usize::from(hello[1]))?;
    let method = if secret.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]);
    }
    stream.write_all(&[5, method])?;
    let mut who = String::new();
    if let Some(secret) = secret {
        let mut field = |skip: usize| -> std::io::Result<String> {
            let mut head = vec![0; skip + 1];
            stream.read_exact(&mut head)?;
            let mut text = vec![0; usize::from(head[skip])];
            stream.read_exact(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let said = format!("{}:{}", field(1)?, field(0)?);
        let right = said == secret;
        who = format!(" {said}");
        stream.write_all(&[1, u8::from(!right)])?;
        if !right {
            asked.lock().unwrap().push(format!("refused{who}"));
            return Ok(());
        }
    }
    let mut exact = |count: usize| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let request = exact(4)?;
    let host = match request[3] {
        1 => exact(4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        3 => {
            let length = usize::from(exact(1)?[0]);
            String::from_utf8_lossy(&exact(length)?).into_owned()
        }
        _ => format!("{:?}", exact(16)?),
    };
    let port = exact(2)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    asked.lock().unwrap().push(format!("{} {host}:{port}{who}", request[3]));
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    if host == "endless.example" {
        loop {
            stream.write_all(&[b'x'; 4096])?;
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
    if head(stream).is_some() {
        answer(stream, &format!("through the proxy to {host}\n"));
    }
    Ok(())
}
