//! Forwards: a server inside, clients on the host, with sockets of the tests' own and curl.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::env::{Env, PATIENCE, finish, is_root, pid, signal, skip, until};

/// Each argument is a place: `127.0.0.1:6080`, `::1:6080` or a path. The first line of a client says what it wants.
const SERVER: &str = r#"
import hashlib, os, socket, sys, threading, time
def serve(c):
    f = c.makefile('rb')
    word = f.readline().split()
    if word[:1] == [b'echo']: c.sendall(f.read())
    if word[:1] == [b'sum']:
        h = hashlib.sha256()
        while (got := f.read1(1 << 20)): h.update(got)
        c.sendall(h.hexdigest().encode())
    if word[:1] == [b'down']:
        left, block = int(word[1]), bytes(range(251)) * 4096
        while left > 0:
            piece = block[:left]; c.sendall(piece); left -= len(piece)
    if word[:1] == [b'hold']:
        c.sendall(b'x'); time.sleep(600)
    f.close(); c.close()
def listen(place):
    if place[0] == '/': s = socket.socket(socket.AF_UNIX); s.bind(place)
    else:
        host, port = place.rsplit(':', 1)
        s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, int(port)))
    s.listen(512)
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
for place in sys.argv[1:]: threading.Thread(target=listen, args=(place,)).start()
if len(sys.argv) == 1: time.sleep(600)
"#;

/// A running cube with that server in it.
pub(crate) struct Cube<'e> {
    env: &'e Env,
    pub(crate) id: String,
}

impl<'e> Cube<'e> {
    /// Launches one and waits until `places` listen.
    pub(crate) fn launch(env: &'e Env, options: &[&str], places: &[&str]) -> Self {
        let argv = [&["run", "host", "-d"], options, &["--", "python3", "-c", SERVER], places].concat();
        let cube = Self { env, id: env.tripmine(argv).ok(0).to_owned() };
        cube.wait_for(places.iter().filter(|place| !place.starts_with('/')).count());
        cube
    }

    /// Starts a server beside the entry.
    fn serve(&self, place: &str) {
        let listening = self.ports().len();
        let script =
            format!("nohup python3 -c '{}' {place} </dev/null >/dev/null 2>&1 &", SERVER.replace('\'', "\""));
        self.env.tripmine(["exec", "-T", &self.id, "--", "/bin/sh", "-c", &script]).ok(0);
        self.wait_for(listening + 1);
    }

    fn wait_for(&self, count: usize) {
        until("the servers listen", PATIENCE, || self.ports().len() >= count);
    }

    /// What `ports --json` tells.
    pub(crate) fn ports(&self) -> Vec<Value> {
        let shown: Value =
            serde_json::from_str(self.env.tripmine(["ports", "--json", &self.id]).ok(0)).unwrap();
        shown["cubes"][0]["ports"].as_array().unwrap().clone()
    }

    /// Opens a forward that stays; its port on the host.
    pub(crate) fn forward(&self, map: &str) -> u16 {
        self.forward_with(&[], map)
    }

    fn forward_with(&self, options: &[&str], map: &str) -> u16 {
        let argv = [&["forward", &self.id, "-d", "--port", map], options].concat();
        let output = self.env.tripmine(argv);
        port_of(output.ok(0))
    }

    /// What `forward --list --json` tells.
    fn forwards(&self) -> Vec<Value> {
        let shown: Value =
            serde_json::from_str(self.env.tripmine(["forward", "--list", "--json", &self.id]).ok(0)).unwrap();
        shown["forwards"].as_array().unwrap().iter().map(|entry| entry["forward"].clone()).collect()
    }

    pub(crate) fn keeper(&self) -> i32 {
        i32::try_from(self.env.record()["keeper"]["pid"].as_i64().unwrap()).unwrap()
    }
}

impl Drop for Cube<'_> {
    fn drop(&mut self) {
        // Some tests have ended it already.
        let _ended = self.env.tripmine(["stop", "-t", "0", &self.id]);
    }
}

/// `127.0.0.1:8080 -> 80`.
pub(crate) fn port_of(line: &str) -> u16 {
    line.split_once(" -> ").and_then(|(host, _)| host.rsplit(':').next()?.parse().ok()).expect(line)
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One question, its end, and all of the answer.
pub(crate) fn ask(mut stream: TcpStream, question: &[u8]) -> Vec<u8> {
    stream.write_all(question).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn refused(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

pub(crate) fn python(name: &str) -> bool {
    let there = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there {
        skip(name, "there is no python3");
    }
    there
}

/// The central promise, under every filter and for both users inside: a server on the cube's own loopback, by curl.
#[test]
fn a_server_on_loopback_inside_is_reached_by_curl() {
    if !python("a_server_on_loopback_inside_is_reached_by_curl") {
        return;
    }
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("a_server_on_loopback_inside_is_reached_by_curl", "there is no curl");
    }
    let env = Env::new();
    std::fs::write(env.project("site").join("page"), "from inside").unwrap();
    for options in
        [&[][..], &["--user", "root"], &["--seccomp", "strict"], &["--user", "root", "--seccomp", "strict"]]
    {
        let server = ["site", "--", "python3", "-m", "http.server", "--bind", "127.0.0.1", "3000"];
        let id = env.tripmine([&["-d"], options, &server[..]].concat()).ok(0).to_owned();
        let cube = Cube { env: &env, id };
        cube.wait_for(1);
        let port = cube.forward("0:3000");
        for host in ["127.0.0.1", "[::1]"] {
            if host == "[::1]" && TcpListener::bind("[::1]:0").is_err() {
                continue;
            }
            let url = format!("http://{host}:{port}/page");
            let output =
                Command::new("curl").args(["-sS", "--noproxy", "*", "-m", "20", &url]).output().unwrap();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "from inside",
                "{options:?} {url}: {output:?}"
            );
        }
    }
}

#[test]
fn half_close_is_kept_and_nothing_is_lost() {
    if !python("half_close_is_kept_and_nothing_is_lost") {
        return;
    }
    const SIZE: usize = 48 << 20;
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080"]);
    let port = cube.forward("0:6080");
    assert_eq!(ask(connect(port), b"echo\nhello"), b"hello");
    let block: Vec<u8> = (0..=250).collect();
    let data: Vec<u8> = block.iter().copied().cycle().take(SIZE).collect();
    let digest: String = Sha256::digest(&data).iter().map(|byte| format!("{byte:02x}")).collect();
    let up = ask(connect(port), &[b"sum\n", &data[..]].concat());
    assert_eq!(String::from_utf8_lossy(&up), digest);
    let down = ask(connect(port), format!("down {SIZE}\n").as_bytes());
    assert_eq!(down.len(), SIZE);
    assert_eq!(Sha256::digest(&down), Sha256::digest(&data));
    // Its counters say so too.
    let open = &cube.forwards()[0];
    assert_eq!((open["made"].as_u64(), open["refused"].as_u64()), (Some(3), Some(0)));
    let (bytes_in, bytes_out) = (open["bytes_in"].as_u64().unwrap(), open["bytes_out"].as_u64().unwrap());
    assert!(bytes_in > SIZE as u64 && bytes_out > SIZE as u64, "{open}");
}

#[test]
fn a_port_that_does_not_listen_yet_refuses_until_it_does() {
    if !python("a_port_that_does_not_listen_yet_refuses_until_it_does") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &[]);
    let port = cube.forward("0:4000");
    let begun = Instant::now();
    let mut early = connect(port);
    let error = early.read(&mut [0; 1]).expect_err("nothing listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    cube.serve("127.0.0.1:4000");
    assert_eq!(ask(connect(port), b"echo\nnow"), b"now");
    assert_eq!(cube.forwards()[0]["refused"], 1);
}

/// On whichever address of the cube it listens.
#[test]
fn servers_on_other_addresses_are_found() {
    if !python("servers_on_other_addresses_are_found") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["::1:6081", "0.0.0.0:6082", "127.0.0.9:6083"]);
    for inside in [6081, 6082, 6083] {
        let port = cube.forward(&format!("0:{inside}"));
        for _ in 0..2 {
            assert_eq!(ask(connect(port), b"echo\nhi"), b"hi", "{inside}");
        }
    }
}

#[test]
fn a_busy_host_port_gives_way_and_is_named() {
    if !python("a_busy_host_port_gives_way_and_is_named") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080"]);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = taken.local_addr().unwrap().port();
    let map = format!("{at}:6080");
    let output = env.tripmine(["forward", &cube.id, "-d", "--port", &map]);
    let port = port_of(output.ok(0));
    assert_ne!(port, at);
    assert!(output.stderr.contains(&format!("host port {at} is in use: using {port}")), "{output:?}");
    assert_eq!(ask(connect(port), b"echo\nhi"), b"hi");
    let exact = env.tripmine(["forward", &cube.id, "-d", "--exact", "--port", &map]);
    exact.fails(1, &format!("port {at} of this host is in use"));
    assert!(exact.stderr.contains("is free"), "{exact:?}");
    // The same at launch.
    let output = env.tripmine(["run", "host", "-d", "-p", &map, "--", "sleep", "600"]);
    let second = Cube { env: &env, id: output.ok(0).to_owned() };
    assert!(output.stderr.contains("is in use: using"), "{output:?}");
    drop(second);
}

#[test]
fn other_hosts_get_in_only_when_it_is_said() {
    if !python("other_hosts_get_in_only_when_it_is_said") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080"]);
    let output = env.tripmine(["forward", &cube.id, "-d", "--port", "0.0.0.0:0:6080"]);
    output.fails(2, "would let other hosts in");
    assert!(output.stderr.contains("--bind 0.0.0.0"), "{output:?}");
    assert!(cube.forwards().is_empty());
    // Without it not even another address of loopback answers.
    let port = cube.forward("0:6080");
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err());
    let output = env.tripmine(["forward", &cube.id, "-d", "--port", "0:6080", "--bind", "0.0.0.0"]);
    let port = port_of(output.ok(0));
    assert!(output.stderr.contains("WARNING: 0.0.0.0:"), "{output:?}");
    assert_eq!(ask(TcpStream::connect(("127.0.0.2", port)).unwrap(), b"echo\nhi"), b"hi");
}

#[test]
fn many_at_once_over_several_forwards() {
    if !python("many_at_once_over_several_forwards") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080", "127.0.0.1:6081"]);
    let ports = [cube.forward("0:6080"), cube.forward("0:6081"), cube.forward("0:6080")];
    let clients: Vec<_> = (0..120)
        .map(|number| {
            let port = ports[number % ports.len()];
            std::thread::spawn(move || {
                let said = vec![u8::try_from(number).unwrap(); 10_000 + number];
                assert_eq!(ask(connect(port), &[b"echo\n", &said[..]].concat()), said);
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(cube.forwards().iter().map(|open| open["made"].as_u64().unwrap()).sum::<u64>(), 120);
    // One is removed; the others stay.
    env.tripmine(["forward", "--rm", &ports[0].to_string(), &cube.id]).ok(0);
    assert!(refused(ports[0]));
    assert_eq!(ask(connect(ports[1]), b"echo\nhi"), b"hi");
    env.tripmine(["forward", "--rm", &ports[0].to_string(), &cube.id]).fails(1, "no forward is open at");
}

#[test]
fn an_ended_cube_leaves_no_listener() {
    if !python("an_ended_cube_leaves_no_listener") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080"]);
    let port = cube.forward("0:6080");
    let mut stream = connect(port);
    stream.write_all(b"hold\n").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    let following = env.command(["events", "-f", &cube.id]).spawn().unwrap();
    env.tripmine(["stop", "-t", "0", &cube.id]).ok(0);
    let events = finish(following, PATIENCE);
    let kinds: Vec<&str> = events.ok(0).lines().filter_map(|line| line.split("  ").nth(1)).collect();
    assert_eq!(kinds, ["started", "forward-opened", "stopping", "forward-closed", "ended"], "{events:?}");
    assert!(refused(port), "the port is free when `stop` returns");
    // As any server's death looks: its kernel closes what it had open.
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    let again = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    assert!(again.is_ok(), "{again:?}");
    assert!(env.record()["forwards"].as_array().unwrap().is_empty());
    env.tripmine(["forward", &cube.id, "--port", "80"]).fails(1, "has ended");
}

#[test]
fn a_killed_keeper_leaves_nothing() {
    if !python("a_killed_keeper_leaves_nothing") {
        return;
    }
    let env = Env::new();
    let socket = env.home.canonicalize().unwrap().join("s");
    let cube = Cube::launch(&env, &["-p", &format!("{}:6080", socket.display())], &["127.0.0.1:6080"]);
    let port = cube.forward("0:6080");
    assert_eq!(ask(connect(port), b"echo\nhi"), b"hi");
    let mut held = connect(port);
    held.write_all(b"hold\n").unwrap();
    held.read_exact(&mut [0; 1]).unwrap();
    signal(cube.keeper(), Signal::KILL);
    until("the listener is gone", Duration::from_secs(1), || refused(port));
    assert!(held.read(&mut [0; 1]).is_err(), "reset, not closed");
    // The file of a unix socket cannot go by itself: the next command takes it away.
    env.tripmine(["ps"]).ok(0);
    assert!(!socket.exists());
}

#[test]
fn in_the_foreground_it_lives_as_long_as_its_command() {
    if !python("in_the_foreground_it_lives_as_long_as_its_command") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080"]);
    for ending in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut child = env.command(["forward", &cube.id, "--port", "0:6080"]).spawn().unwrap();
        until("it is open", PATIENCE, || !cube.forwards().is_empty());
        let port = cube.forwards()[0]["map"].as_str().unwrap().split(':').next().unwrap().parse().unwrap();
        assert_eq!(ask(connect(port), b"echo\nhi"), b"hi");
        signal(pid(&child).as_raw_nonzero().get(), ending);
        if ending == Signal::KILL {
            child.wait().unwrap();
        } else {
            let output = finish(child, PATIENCE);
            assert_eq!(output.ok(0), format!("127.0.0.1:{port} -> 6080"));
        }
        until("it is closed", Duration::from_secs(2), || refused(port));
        until("and not listed", Duration::from_secs(2), || cube.forwards().is_empty());
    }
    // It ends with the cube as well.
    let child = env.command(["forward", &cube.id, "--port", "0:6080"]).spawn().unwrap();
    until("it is open", PATIENCE, || !cube.forwards().is_empty());
    drop(cube);
    let output = finish(child, PATIENCE);
    output.ok(0);
    assert!(output.stderr.contains("the cube has ended"), "{output:?}");
}

#[test]
fn launches_open_what_they_and_their_project_ask_for() {
    if !python("launches_open_what_they_and_their_project_ask_for") {
        return;
    }
    let env = Env::new();
    let project = env.project("site");
    std::fs::write(project.join(".tconfig.yml"), "ports: [\"0:6080\", \"0:6081\"]\n").unwrap();
    let server =
        ["site", "--", "python3", "-c", SERVER, "127.0.0.1:6080", "127.0.0.1:6081", "127.0.0.1:6082"];
    for _ in 0..2 {
        let output = env.tripmine([&["-d", "-p", "0:6082"], &server[..]].concat());
        let cube = Cube { env: &env, id: output.ok(0).to_owned() };
        cube.wait_for(3);
        assert_eq!(output.stderr.matches(" of the cube").count(), 3, "{output:?}");
        let open = cube.forwards();
        assert_eq!(open.len(), 3, "declared forwards come back with each launch");
        for forward in open {
            let port = forward["map"].as_str().unwrap().split(':').next().unwrap().parse().unwrap();
            assert_eq!(ask(connect(port), b"echo\nhi"), b"hi", "{forward}");
        }
        let shown: Value = serde_json::from_str(env.tripmine(["inspect", &cube.id]).ok(0)).unwrap();
        assert_eq!(shown["cubes"][0]["forwards"].as_array().map(Vec::len), Some(3));
        let kinds = env.tripmine(["events", &cube.id]).stdout;
        assert_eq!(kinds.matches("forward-opened").count(), 3, "{kinds}");
    }
    // Attached: it is said before the entry's output, which stays as it is.
    let output = env.tripmine(["run", "host", "-p", "0:6080", "--", "echo", "data"]);
    assert_eq!(output.ok(0), "data");
    assert!(output.stderr.contains(" -> 6080 of the cube"), "{output:?}");
    // A project's file, which a cube can write, lets nobody else in.
    std::fs::write(project.join(".tconfig.yml"), "ports: [\"0.0.0.0:8080:6080\"]\n").unwrap();
    let output = env.tripmine(["site", "--", "true"]);
    assert_ne!(output.code, 0);
    assert!(
        output.stderr.contains("a project file cannot ask for an address that others reach"),
        "{output:?}"
    );
}

#[test]
fn unix_sockets_on_either_side() {
    if !python("unix_sockets_on_either_side") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080", "/tmp/in.sock"]);
    let path = env.home.canonicalize().unwrap().join("out.sock");
    let map = format!("{}:/tmp/in.sock", path.display());
    env.tripmine(["forward", &cube.id, "-d", "--port", &map]).ok(0);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut answer = Vec::new();
    until("the server listens", PATIENCE, || {
        answer.clear();
        let mut stream = UnixStream::connect(&path).unwrap();
        let asked = stream.write_all(b"echo\nhi").and_then(|()| stream.shutdown(Shutdown::Write));
        asked.is_ok() && stream.read_to_end(&mut answer).is_ok() && !answer.is_empty()
    });
    assert_eq!(answer, b"hi");
    let port = cube.forward("0:/tmp/in.sock");
    assert_eq!(ask(connect(port), b"echo\nhi"), b"hi");
    // What is there is not replaced.
    let file = env.home.canonicalize().unwrap().join("file");
    std::fs::write(&file, "mine").unwrap();
    let output = env.tripmine(["forward", &cube.id, "-d", "--port", &format!("{}:80", file.display())]);
    output.fails(1, "there is something at");
    // A link inside leads to a place inside.
    let canary = env.root().join("canary.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&canary).unwrap();
    let script = format!("ln -s {} /tmp/link", canary.display());
    env.tripmine(["exec", "-T", &cube.id, "--", "/bin/sh", "-c", &script]).ok(0);
    let port = cube.forward("0:/tmp/link");
    assert!(connect(port).read(&mut [0; 1]).is_err(), "the host's socket was reached");
    drop(cube);
    assert!(!path.exists(), "the socket goes with the cube");
}

#[test]
fn what_cannot_be_says_why() {
    if !python("what_cannot_be_says_why") {
        return;
    }
    let env = Env::new();
    env.tripmine(["forward", "--port", "80"]).fails(1, "no cube runs");
    env.tripmine(["forward", "nobody", "--port", "80"]).fails(1, "there is no cube `nobody`");
    let cube = Cube::launch(&env, &[], &[]);
    env.tripmine(["forward", &cube.id]).fails(1, "nothing listens in the cube");
    for (map, part) in [
        ("0", "cannot be 0"),
        ("80:0", "cannot be 0"),
        ("x", "is no port"),
        ("99999", "is no port"),
        ("53/udp", "is not TCP"),
        ("192.0.2.1:80:6080", "would let other hosts in"),
    ] {
        env.tripmine(["forward", &cube.id, "--port", map]).fails(2, part);
    }
    let output = env.tripmine(["forward", &cube.id, "--port", "0:6080", "--bind", "192.0.2.1"]);
    output.fails(1, "no address to listen on");
    cube.serve("127.0.0.1:8000");
    // Nobody can choose without a terminal: what there is stands in the error.
    let output = env.tripmine(["forward"]);
    output.fails(2, "name what to forward with `--port`");
    assert!(output.stderr.contains("8000") && output.stderr.contains("python3"), "{output:?}");
    // One of several fails: none of them stays.
    let output = env.tripmine(["forward", "-d", "--port", "0:6080", "--port", "/no/such/folder/s:80"]);
    output.fails(1, "cannot make the socket");
    assert!(cube.forwards().is_empty());
}

#[test]
fn a_privileged_port_is_for_root() {
    let low = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if is_root() || low.trim().parse::<u16>().unwrap_or(1024) < 1024 {
        return skip("a_privileged_port_is_for_root", "this user may listen on every port");
    }
    let env = Env::new();
    let id = env.tripmine(["run", "host", "-d", "--", "sleep", "600"]).ok(0).to_owned();
    let cube = Cube { env: &env, id };
    let output = env.tripmine(["forward", &cube.id, "-d", "--port", "81:6080"]);
    output.fails(1, "only root may listen on port 81");
    assert!(output.stderr.contains("8081"), "{output:?}");
    // Nobody named the host's port: another one does.
    let output = env.tripmine(["forward", &cube.id, "-d", "--port", "80"]);
    output.ok(0);
    assert!(output.stderr.contains("host port 80 cannot be had"), "{output:?}");
    env.tripmine(["run", "host", "-p", "81:6080", "--", "true"])
        .fails(125, "only root may listen on port 81");
}

/// Every forward of a flood is answered, and the keeper stays small.
#[test]
fn a_flood_of_connections_is_bounded() {
    if !python("a_flood_of_connections_is_bounded") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080"]);
    let port = cube.forward("0:6080");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect_timeout(&address, PATIENCE).unwrap());
    }
    until("all are in", PATIENCE, || cube.forwards()[0]["open"] == 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", cube.keeper())).unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    assert!(resident < 64 << 10, "{resident} kB");
    // Others are served meanwhile, and a refusal does not tire it.
    let closed = cube.forward("0:4444");
    for _ in 0..300 {
        let _reset = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, closed)), PATIENCE);
    }
    assert_eq!(ask(connect(port), b"echo\nhi"), b"hi");
    drop(idle);
    until("all are gone", PATIENCE, || cube.forwards()[0]["open"] == 0);
}
