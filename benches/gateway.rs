//! The gateway by itself: throughput, set-up, memory with many connections, a flood.
//!
//! `cargo bench --bench gateway` (or `cargo test --bench gateway` for an unoptimised look). The
//! gateway runs in a process of its own, so that its memory is its own; the redirect is replaced
//! by one fixed destination, everything else is what a keeper runs. Each figure stands beside the
//! same thing done directly, in turns. What the kernel's redirect costs on top is measured with
//! whole cubes, not here.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people that may give up")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tripmine::gateway::{Capture, GatewayFacts, start, terms};
use tripmine::model::net::NetPolicy;

/// The first address that the pool gives away.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, policy, port] = arguments.as_slice()
        && mode == "serve"
    {
        serve(serde_json::from_str(policy).unwrap(), port.parse().unwrap());
        return;
    }
    let megabytes = 1000;
    let sink = server(|mut stream| {
        let mut buffer = vec![0; 1 << 20];
        while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
        let _done = stream.write_all(b"d");
    });
    let echo = server(|mut stream| {
        let mut byte = [0; 1];
        while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
    });
    let socks = server(|stream| {
        let _ended = socks(stream);
    });
    let allow = |port: u16| format!(r#"{{"kind":"allow","rules":["host.tripmine.internal:{port}"]}}"#);
    let proxy = format!(r#"{{"kind":"proxy","url":"socks5h://127.0.0.1:{socks}"}}"#);

    println!("throughput, one connection, MB/s (runs in turns)");
    let (ours, proxied) = (Gateway::new(&allow(sink), sink), Gateway::new(&proxy, sink));
    let mut rates: [Vec<f64>; 4] = Default::default();
    for _ in 0..5 {
        rates[0].push(push(direct(sink), megabytes));
        rates[1].push(push(ours.connect(), megabytes));
        rates[2].push(push(through_socks(socks, sink), megabytes));
        rates[3].push(push(proxied.connect(), megabytes));
    }
    for (what, rates) in ["direct", "allow", "direct SOCKS client", "proxy"].iter().zip(&rates) {
        println!(
            "  {what:20} {:7.0} median  {:7.0} best",
            median(rates),
            rates.iter().fold(0.0, |a, b| b.max(a))
        );
    }

    println!(
        "  processor time of the gateway: {:.2} s/GB",
        ours.cpu() / (5.0 * f64::from(megabytes) * 1.048_576e-3)
    );

    println!("set-up: connect, one byte there and back, microseconds");
    let (ours, proxied) = (Gateway::new(&allow(echo), echo), Gateway::new(&proxy, echo));
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..500 {
        times[0].push(round(|| direct(echo)));
        times[1].push(round(|| ours.connect()));
        times[2].push(round(|| through_socks(socks, echo)));
        times[3].push(round(|| proxied.connect()));
    }
    for (what, times) in ["direct", "allow", "direct SOCKS client", "proxy"].iter().zip(&times) {
        println!(
            "  {what:20} {:7.0} median  {:7.0} best",
            median(times),
            times.iter().fold(f64::MAX, |a, b| b.min(a))
        );
    }

    println!("memory of the gateway's process, KiB resident");
    let (greeter, kept) = greeter();
    let gateway = Gateway::new(&allow(greeter), greeter);
    println!("  started              {:8}", gateway.resident());
    let mut open = Vec::new();
    // Both ends of the bench are open files of this process, two of each connection are the gateway's.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = (files.saturating_sub(400) * 7 / 16).min(10_000);
    for _ in 0..count {
        let mut stream = gateway.connect();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        open.push(stream);
    }
    println!("  {count:6} connections   {:8}", gateway.resident());
    drop(open);
    kept.lock().unwrap().clear();
    thread::sleep(Duration::from_secs(1));
    println!("  all closed           {:8}", gateway.resident());

    println!("flood of connections that are refused, 10 seconds, 4 threads");
    let gateway = Gateway::new(r#"{"kind":"none"}"#, echo);
    let until = Instant::now() + Duration::from_secs(10);
    let (gateway_at, mut peak, mut attempts) = (gateway.at, 0, 0u64);
    thread::scope(|scope| {
        let floods = [0; 4].map(|_| {
            scope.spawn(move || {
                let mut attempts = 0u64;
                while Instant::now() < until {
                    attempts += u64::from(TcpStream::connect(gateway_at).is_ok());
                }
                attempts
            })
        });
        while Instant::now() < until {
            peak = peak.max(gateway.resident());
            thread::sleep(Duration::from_millis(50));
        }
        attempts = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    });
    println!("  {} attempts a second, {peak} KiB resident at most", attempts / 10);
}

/// The process that is measured: one gateway, every connection going to `port` of the host.
fn serve(policy: NetPolicy, port: u16) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    println!("{} {}", tcp.local_addr().unwrap().port(), dns.local_addr().unwrap().port());
    let capture = Capture {
        tcp4: tcp.into(),
        tcp6: None,
        dns_udp4: dns.into(),
        dns_udp6: None,
        dns_tcp4: TcpListener::bind("127.0.0.1:0").unwrap().into(),
        dns_tcp6: None,
    };
    let mut facts = GatewayFacts::new(
        "bench".into(),
        false,
        Arc::new(|address| tripmine::host::route::is_own(address).unwrap_or(true)),
    );
    facts.original = Arc::new(move |_| Ok(SocketAddr::new(IpAddr::V4(FIRST), port)));
    let handle = start(capture, terms(&policy).unwrap(), facts, Box::new(|_| {})).unwrap();
    let _end = std::io::stdin().read(&mut [0]);
    handle.stop();
}

struct Gateway {
    process: Child,
    at: SocketAddr,
}

impl Gateway {
    fn new(policy: &str, port: u16) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["serve", policy, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (tcp, dns) = line.trim().split_once(' ').unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, tcp.parse().unwrap()));
        // This name gets the pool's first address. The host's own is nothing that a proxy is asked for.
        let name = if policy.contains("socks5h") { "bench.test" } else { "host.tripmine.internal" };
        let mut question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend_from_slice(label.as_bytes());
        }
        question.extend_from_slice(b"\0\0\x01\0\x01");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&question, (Ipv4Addr::LOCALHOST, dns.parse().unwrap())).unwrap();
        socket.recv(&mut [0; 600]).unwrap();
        Self { process, at }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).unwrap()
    }

    /// Seconds of processor time so far.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<f64> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse().unwrap())
            .collect();
        (fields[0] + fields[1]) / 100.0
    }

    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::Builder::new().stack_size(128 << 10).spawn(move || serve(stream)).unwrap();
        }
    });
    port
}

/// A server that answers one byte and keeps the connection.
fn greeter() -> (u16, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let ours = Arc::clone(&kept);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.read_exact(&mut [0]).and_then(|()| stream.write_all(b"y")).unwrap();
            ours.lock().unwrap().push(stream);
        }
    });
    (port, kept)
}

/// As much of a SOCKS server as is needed: every name is this host.
fn socks(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = [0; 3];
    stream.read_exact(&mut head)?;
    stream.write_all(b"\x05\0")?;
    let mut request = [0; 5];
    stream.read_exact(&mut request)?;
    let mut rest = vec![0; usize::from(request[4]) + 2];
    stream.read_exact(&mut rest)?;
    let port = u16::from_be_bytes([rest[rest.len() - 2], rest[rest.len() - 1]]);
    let mut server = direct(port);
    stream.write_all(b"\x05\0\0\x01\0\0\0\0\0\0")?;
    let (mut from, mut to) = (stream.try_clone()?, server.try_clone()?);
    let out = thread::spawn(move || {
        let _over = std::io::copy(&mut from, &mut to);
        to.shutdown(std::net::Shutdown::Write)
    });
    std::io::copy(&mut server, &mut stream)?;
    let _joined = out.join();
    Ok(())
}

fn direct(port: u16) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()
}

fn through_socks(socks: u16, port: u16) -> TcpStream {
    let mut stream = direct(socks);
    stream.write_all(b"\x05\x01\0").unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    let mut request = b"\x05\x01\0\x03\x09localhost".to_vec();
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    stream
}

/// Sends, waits until all has arrived; megabytes a second.
fn push(mut stream: TcpStream, megabytes: u32) -> f64 {
    let block = vec![7; 1 << 20];
    let start = Instant::now();
    for _ in 0..megabytes {
        stream.write_all(&block).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    f64::from(megabytes) * 1.048_576 / start.elapsed().as_secs_f64()
}

fn round(connect: impl Fn() -> TcpStream) -> f64 {
    let start = Instant::now();
    let mut stream = connect();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    start.elapsed().as_secs_f64() * 1e6
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
