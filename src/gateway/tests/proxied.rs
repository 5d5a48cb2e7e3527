//! The policy `proxy`, against a SOCKS server of the tests' own that does as it is told.

use super::*;

/// What the server does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// What it should. The connection is a shouter's.
    Right,
    /// As right, after it was shown this.
    Secret(&'static [u8]),
    /// Takes the connection and says nothing.
    Silent,
    /// Says this whatever it is asked, and waits.
    Lies(&'static [u8]),
    /// Refuses with this code.
    Code(u8),
    /// Connects, and dies after a few bytes.
    Dies,
    /// As right, half a second before each word.
    Tardy,
}

/// The address, and every request for a connection as it came.
pub(super) fn server(manner: Manner) -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = listener.local_addr().expect("address").port();
    let asked: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let ours = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), asked) = (stream, Arc::clone(&ours)) else { break };
            thread::spawn(move || serve(stream, manner, &asked));
        }
    });
    (port, asked)
}

fn serve(mut stream: TcpStream, manner: Manner, asked: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let take = |count: usize| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        (&stream).read_exact(&mut bytes)?;
        Ok(bytes)
    };
    if manner == Manner::Silent {
        thread::sleep(Duration::from_secs(20));
        return Ok(());
    }
    let methods = take(2).and_then(|head| take(head[1].into()))?;
    let tarry = || {
        if manner == Manner::Tardy {
            thread::sleep(Duration::from_millis(500));
        }
    };
    tarry();
    match manner {
        Manner::Lies(text) => {
            (&stream).write_all(text)?;
            thread::sleep(Duration::from_secs(20));
            return Ok(());
        }
        Manner::Secret(secret) => {
            assert_eq!(methods, [2], "with a secret nothing else is offered");
            (&stream).write_all(&[5, 2])?;
            let shown = take(secret.len())?;
            (&stream).write_all(&[1, u8::from(shown != secret)])?;
        }
        Manner::Tardy if methods == [2] => {
            (&stream).write_all(&[5, 2])?;
            take(1).and_then(|_| take(1)).and_then(|user| take(usize::from(user[0]) + 1))?;
            tarry();
            (&stream).write_all(&[1, 0])?;
        }
        _ => (&stream).write_all(&[5, 0])?,
    }
    let mut request = take(4)?;
    if request[3] == 3 {
        request.extend(take(1)?);
    }
    let length = match request[3] {
        1 => 4,
        3 => request[4].into(),
        _ => 16,
    };
    request.extend(take(length + 2)?);
    asked.lock().expect("lock").push(request);
    tarry();
    if let Manner::Code(code) = manner {
        return (&stream).write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    // A name as the address it is bound to, and the first data in the same packet as the reply.
    stream.write_all(b"\x05\x00\x00\x03\x04host\x12\x34first ")?;
    if manner == Manner::Dies {
        crate::gateway::relay::reset(&stream);
        thread::sleep(Duration::from_millis(50));
        return Ok(());
    }
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    stream.write_all(&said.to_ascii_uppercase())
}

pub(super) fn proxy_at(port: u16, user: &str, holes: &[String]) -> NetPolicy {
    let url = format!("socks5h://{user}127.0.0.1:{port}").parse().expect("url");
    let holes = holes.iter().map(|hole| hole.parse().expect(hole)).collect();
    NetPolicy::proxy(Some(url), ProxyAuth::None, holes).expect("policy")
}

#[test]
fn names_reach_the_proxy_and_no_resolver() {
    let (port, asked) = server(Manner::Right);
    let cube = Cube::new(proxy_at(port, "", &[]));
    assert_eq!(talk(cube.connect_name("hidden.onion", 80), b"abc").expect("talk"), b"first ABC");
    assert_eq!(
        talk(cube.connect("8.8.4.4:443".parse().expect("address")), b"ip").expect("talk"),
        b"first IP"
    );
    let asked = asked.lock().expect("lock");
    assert_eq!(asked[0], b"\x05\x01\x00\x03\x0chidden.onion\x00\x50");
    assert_eq!(asked[1], b"\x05\x01\x00\x01\x08\x08\x04\x04\x01\xbb");
    assert_eq!(cube.looked_up(), 0);
    let closed = cube.event(EventKind::Closed);
    assert_eq!(closed.decision.and_then(|it| it.via), Some(crate::model::net::Via::Proxy));
}

#[test]
fn the_secret_is_shown_and_never_left_out() {
    let (port, _) = server(Manner::Secret(b"\x01\x04work\x00"));
    let cube = Cube::new(proxy_at(port, "work@", &[]));
    assert_eq!(talk(cube.connect_name("a.test", 80), b"x").expect("talk"), b"first X");
    let other = Cube::new(proxy_at(port, "else@", &[]));
    assert!(is_reset(talk(other.connect_name("a.test", 22), b"x")));
    let failed = other.event(EventKind::Failed);
    let why = failed.end.expect("end").reason.to_string();
    assert!(why.contains("did not accept"), "{why}");
    // A server that wants none: the secret is what keeps streams apart, so this is no connection.
    let (port, asked) = server(Manner::Right);
    let cube = Cube::new(proxy_at(port, "work@", &[]));
    assert!(is_reset(talk(cube.connect_name("a.test", 22), b"x")));
    assert!(asked.lock().expect("lock").is_empty());
}

#[test]
fn no_proxy_no_connection_within_a_second() {
    // Bound and not listening: refused, and nobody else gets the port meanwhile.
    let bound = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
        .expect("socket");
    rustix::net::bind(&bound, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
    let dead = SocketAddr::try_from(rustix::net::getsockname(&bound).expect("name")).expect("address").port();
    let canary = shouter();
    for (port, manner) in [
        (Some(dead), Manner::Silent),
        (None, Manner::Silent),
        (None, Manner::Lies(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        (None, Manner::Lies(b"\x04\x00")),
        (None, Manner::Lies(b"\x05")),
        (None, Manner::Lies(b"\x05\xff")),
        (None, Manner::Lies(b"\x05\x02")),
        (None, Manner::Lies(b"\x05\x00\x04\x00\x00\x01")),
        (None, Manner::Lies(b"\x05\x00\x05\x00\x00\x09")),
        (None, Manner::Lies(b"\x05\x00\x05\xff\x00\x01")),
        (None, Manner::Code(2)),
        (None, Manner::Code(5)),
        (None, Manner::Code(200)),
    ] {
        let port = port.unwrap_or_else(|| server(manner).0);
        let cube = Cube::new(proxy_at(port, "", &[]));
        let stream = cube.connect_name("canary.local.test", canary);
        let start = Instant::now();
        assert!(is_reset(talk(stream, b"\x16x")), "{manner:?}");
        assert!(start.elapsed() < Duration::from_millis(1000), "{manner:?}: {:?}", start.elapsed());
        let failed = cube.event(EventKind::Failed);
        assert!(matches!(failed.end.map(|end| end.reason), Some(EndReason::Proxy(_))), "{manner:?}");
        assert_eq!((cube.looked_up(), cube.handle.status().opened), (0, 0), "{manner:?}");
    }
}

#[test]
fn a_proxy_that_dies_ends_the_stream() {
    let (port, _) = server(Manner::Dies);
    let cube = Cube::new(proxy_at(port, "", &[]));
    let start = Instant::now();
    let stream = cube.connect_name("a.test", 80);
    let mut said = Vec::new();
    let ended = (&stream).read_to_end(&mut said);
    assert!(ended.is_err() || said.len() <= 6);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(
        (&stream)
            .write_all(b"x")
            .and_then(|()| {
                thread::sleep(Duration::from_millis(20));
                (&stream).write_all(b"y")
            })
            .is_err()
    );
    let closed = cube.event(EventKind::Closed);
    assert_eq!(closed.end.map(|end| end.reason), Some(EndReason::Reset));
}

#[test]
fn holes_go_past_the_proxy_and_nothing_else_does() {
    let echo = shouter();
    let (port, asked) = server(Manner::Right);
    let cube = Cube::new(proxy_at(port, "", &[format!("127.0.0.1:{echo}")]));
    assert_eq!(talk(cube.connect_name("host.tripmine.internal", echo), b"hole").expect("talk"), b"HOLE");
    assert!(asked.lock().expect("lock").is_empty());
    assert!(is_reset(talk(cube.connect_name("host.tripmine.internal", port), b"\x16")));
    assert!(is_reset(talk(cube.connect("192.168.0.1:80".parse().expect("address")), b"\x16")));
    assert!(asked.lock().expect("lock").is_empty());
}

/// Debian's `microsocks`, which is not of our making, with a user and without.
#[test]
fn a_real_proxy_takes_what_it_is_given() {
    use std::process::{Command, Stdio};
    // A name of this host that is not `localhost`: only the proxy looks it up.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let name = hosts
        .lines()
        .filter(|line| line.starts_with("127."))
        .find_map(|line| line.split_whitespace().skip(1).find(|name| !name.starts_with("localhost")));
    let Some(name) = name else {
        println!("SKIPPED a_real_proxy_takes_what_it_is_given: /etc/hosts has one name for loopback");
        return;
    };
    let listener = TcpListener::bind("0.0.0.0:0").expect("listener");
    let echo = listener.local_addr().expect("address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut said = [0; 7];
            let _answered = stream.read_exact(&mut said).and_then(|()| stream.write_all(&said));
        }
    });
    let dir = tempfile::tempdir().expect("dir");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "s3cret\n").expect("write");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    for (arguments, user, right) in [
        (&[][..], "", true),
        (&["-u", "ann", "-P", "s3cret"], "ann@", true),
        (&["-u", "ann", "-P", "s3cret"], "bob@", false),
        (&["-u", "ann", "-P", "s3cret"], "", false),
    ] {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("port").port();
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &free.to_string()]).args(arguments);
        let Ok(mut server) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            println!("SKIPPED a_real_proxy_takes_what_it_is_given: there is no `microsocks`");
            return;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, free)).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let url = format!("socks5h://{user}127.0.0.1:{free}").parse().expect("url");
        let auth = if user.is_empty() { ProxyAuth::None } else { ProxyAuth::File(secret.clone()) };
        let cube = Cube::new(NetPolicy::proxy(Some(url), auth, Vec::new()).expect("policy"));
        // This server closes both ways when one end has said all: so that is not said.
        let mut stream = cube.connect_name(name, echo);
        let mut answer = vec![0; 7];
        let answer =
            stream.write_all(b"through").and_then(|()| stream.read_exact(&mut answer)).map(|()| answer);
        let _ended = server.kill().and_then(|()| server.wait());
        assert_eq!(answer.ok().as_deref(), right.then_some(&b"through"[..]), "{arguments:?} {user}");
        assert_eq!(cube.looked_up(), 0);
    }
}
