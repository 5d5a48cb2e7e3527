//! The parts of the net together: forwards and ports under each policy, cubes that are over before their network is captured,
//! ways out through what leads in, and deaths at the worst moment.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::env::{Env, PATIENCE, finish, signal, skip, until};
use crate::forward::{Cube, ask, connect, python};
use crate::net_peers::free_port;
use crate::peers::Peer;

/// The gateway's listeners on the cube's loopback, as `net --json` tells.
fn gateway_ports(env: &Env, id: &str) -> Vec<u64> {
    let json: Value = serde_json::from_str(env.tripmine(["net", id, "--json"]).ok(0)).unwrap();
    json["status"]["ports"].as_array().unwrap().iter().map(|port| port.as_u64().unwrap()).collect()
}

/// A forward leads in whatever leads out, and the gateway's own listeners are nobody's to see.
#[test]
fn forwards_and_ports_under_each_policy() {
    if !python("forwards_and_ports_under_each_policy") {
        return;
    }
    let env = Env::new();
    let nobody = format!("socks5h://127.0.0.1:{}", free_port());
    for (options, policy) in [
        (&["--net", "none"][..], "none"),
        (&["--allow", "unused.example:443"], "allow"),
        (&["--net", "open"], "open"),
        (&["--proxy", &nobody], "proxy"),
    ] {
        let cube = Cube::launch(&env, options, &["127.0.0.1:6080"]);
        until("the network is captured", PATIENCE, || !gateway_ports(&env, &cube.id).is_empty());
        let port = cube.forward("0:6080");
        assert_eq!(ask(connect(port), b"echo\nthrough"), b"through", "{options:?}");
        let hidden = gateway_ports(&env, &cube.id);
        // They are there, in the table that `ports` reads.
        let table = env.tripmine(["exec", "-T", &cube.id, "--", "cat", "/proc/net/tcp"]);
        let listens = |port: u64| table.ok(0).contains(&format!("0100007F:{port:04X} 00000000:0000 0A"));
        assert!(hidden.iter().filter(|port| listens(**port)).count() >= 2, "{hidden:?}: {table:?}");
        let shown: Vec<u64> = cube.ports().iter().map(|port| port["port"].as_u64().unwrap()).collect();
        assert_eq!(shown, [6080], "{options:?}");
        // The same word everywhere.
        let of = |words: &[&str], at: &str| {
            let json: Value = serde_json::from_str(env.tripmine(words.iter().copied()).ok(0)).unwrap();
            json.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        assert_eq!(of(&["net", &cube.id, "--json"], "/status/gateway/policy"), policy);
        assert_eq!(of(&["ps", "--json"], "/cubes/0/net"), policy);
        assert_eq!(of(&["inspect", &cube.id], "/cubes/0/net"), policy);
    }
}

/// Cubes that end before, while and after their network is captured end as if there were none.
#[test]
fn a_short_cube_does_not_wait_for_its_network() {
    let env = Env::new();
    env.inside("true").ok(0);
    for round in 0..24 {
        let script = format!("[ {round} -lt 4 ] || sleep 0.00{}; exit 7", round % 10);
        let output = env.inside(&script);
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "", ""), "{round}");
    }
    for record in env.records() {
        let events = env.tripmine(["events", record["id"].as_str().unwrap(), "--json"]);
        assert!(!events.ok(0).contains("net-not-captured"), "{events:?}");
    }
}

/// N21: a forward's end on the host is a part of the host, also for the cube that it leads into.
#[test]
fn a_forward_is_no_way_around_the_policy() {
    if !python("a_forward_is_no_way_around_the_policy") {
        return;
    }
    let env = Env::new();
    let inner = Cube::launch(&env, &[], &["127.0.0.1:6080"]);
    let port = inner.forward("0:6080");
    let script = "import socket, sys\ntry:\n s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 8)\n \
                  s.sendall(b'echo\\nloop'); s.shutdown(1); print(s.recv(9).decode() or 'ended')\n\
                  except OSError as error: print('refused')";
    let from = |options: &[&str], host: &str| {
        let words = ["--", "python3", "-c", script, host, &port.to_string()];
        env.tripmine([&["run", "host"], options, &words].concat()).ok(0).to_owned()
    };
    let rule = format!("127.0.0.1:{port}");
    for (options, host, reached) in [
        (&["--allow", &rule][..], "host.tripmine.internal", true),
        (&["--allow", "127.0.0.1:1"], "host.tripmine.internal", false),
        (&["--net", "open"], "host.tripmine.internal", false),
        (&["--net", "open"], "127.0.0.1", false),
        (&["--net", "none"], "host.tripmine.internal", false),
    ] {
        assert_eq!(from(options, host) == "loop", reached, "{options:?} {host}");
    }
    let own = env.tripmine([
        "exec",
        "-T",
        &inner.id,
        "--",
        "python3",
        "-c",
        script,
        "host.tripmine.internal",
        &port.to_string(),
    ]);
    assert_ne!(own.ok(0), "loop", "{own:?}");
}

/// N09: bytes that travel with the first packet wait for the decision like all others.
#[test]
fn fast_open_is_decided_too() {
    if !python("fast_open_is_decided_too") {
        return;
    }
    let (env, canary) = (Env::new(), Peer::canary());
    let script = "import socket, sys\nto = socket.getaddrinfo('host.tripmine.internal', int(sys.argv[1]), socket.AF_INET)[0][4]\n\
                  s = socket.socket(); s.setsockopt(1, 20, (8).to_bytes(8, 'little') + bytes(8))\ntry:\n s.sendto(b'x', 0x20000000, to); print(s.recv(9) or 'ended')\n\
                  except OSError as error: print(type(error).__name__)\n\
                  try: socket.socket(2, 1, 262); print('mptcp')\nexcept OSError: print('no mptcp')";
    let port = canary.port().to_string();
    let words = ["run", "host", "--allow", "host.example", "--", "python3", "-c", script, &port];
    let output = env.tripmine(words);
    let lines: Vec<&str> = output.ok(0).lines().collect();
    assert!(["ConnectionResetError", "ConnectionRefusedError", "ended"].contains(&lines[0]), "{output:?}");
    assert_eq!(lines[1], "no mptcp");
    assert_eq!(canary.seen(), Vec::<String>::new());
    // The same packet with a rule arrives: the capture takes such connections at all.
    let rule = format!("127.0.0.1:{port}");
    env.tripmine(["run", "host", "--allow", &rule, "--", "python3", "-c", script, &port]).ok(0);
    until("it is let through", PATIENCE, || canary.seen() == ["reached"]);
}

/// A keeper that dies while its cube starts and already tries to get out: whenever it is, nobody is reached.
#[test]
fn a_keeper_killed_at_any_moment_of_a_launch_lets_nothing_out() {
    if !python("a_keeper_killed_at_any_moment_of_a_launch_lets_nothing_out") {
        return;
    }
    let (env, canary) = (Env::with_own_binary(), Peer::canary());
    let script = "import socket, sys\nwhile True:\n for host in ('host.tripmine.internal', '192.0.2.9', '127.0.0.1'):\n  \
                  try: socket.create_connection((host, int(sys.argv[1])), 1).sendall(b'x')\n  except OSError: pass";
    let port = canary.port().to_string();
    let (mut killed, begun) = (0, Instant::now());
    for round in 0..16 {
        let policy = if round % 2 == 0 { ["--allow", "127.0.0.1:1"] } else { ["--net", "none"] };
        let words = [&["run", "host"], &policy[..], &["--", "python3", "-c", script, &port]].concat();
        let face = env.command(words).spawn().unwrap();
        let face_pid = i32::try_from(face.id()).unwrap();
        let deadline = Instant::now() + Duration::from_millis(4 + 5 * round);
        until("its moment", PATIENCE, || Instant::now() >= deadline);
        let met = killed;
        for pid in crate::left::processes(&env) {
            let is_keeper = std::fs::read(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.starts_with(b"tripmine-keeper"));
            if pid != face_pid && is_keeper {
                signal(pid, Signal::KILL);
                killed += 1;
            }
        }
        if killed == met {
            // Too early for its keeper, which comes yet and would run on.
            until("it is listed", PATIENCE, || env.tripmine(["ps"]).stdout.lines().count() > 1);
            env.tripmine(["kill", "--all"]).ok(0);
        }
        let output = finish(face, PATIENCE);
        assert_ne!(output.code, 0, "{output:?}");
    }
    // Whoever comes next clears what the killed ones left.
    env.tripmine(["ps"]).ok(0);
    assert!(killed >= 4, "{killed} keepers met, in {:?}", begun.elapsed());
    assert_eq!(canary.seen(), Vec::<String>::new());
}

/// The keeper dies in the middle of a proxied stream: so does the stream, on both sides, and nothing is dialled past it.
#[test]
fn a_keeper_killed_in_a_stream_ends_it() {
    if !python("a_keeper_killed_in_a_stream_ends_it") {
        return;
    }
    let (env, proxy, canary) = (Env::new(), Peer::socks(None), Peer::canary());
    let script =
        "import socket\ns = socket.create_connection(('endless.example', 80))\nwhile s.recv(4096): pass";
    let url = format!("socks5h://{}", proxy.address);
    let output = env.tripmine(["run", "-d", "--proxy", &url, "host", "--", "python3", "-c", script]);
    let id = output.ok(0).to_owned();
    until("it streams", PATIENCE, || proxy.seen() == ["3 endless.example:80"]);
    let keeper = i32::try_from(env.record()["keeper"]["pid"].as_i64().unwrap()).unwrap();
    // Held first: what the cube sends meanwhile waits where it is.
    signal(keeper, Signal::STOP);
    std::thread::park_timeout(Duration::from_millis(50));
    let before = established(proxy.port());
    signal(keeper, Signal::KILL);
    until("the proxy's side ends", Duration::from_secs(2), || established(proxy.port()) == 0);
    until("the cube ends", PATIENCE, || !env.runs(&id));
    assert_eq!((before, canary.seen()), (1, Vec::new()));
}

/// Connections from this host to `port` of its loopback that stand.
fn established(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().filter(|line| line.contains(&format!(" 0100007F:{port:04X} 01 "))).count()
}

/// A flood from inside costs the keeper no memory, and other cubes and the host go on.
#[test]
fn a_flood_of_attempts_is_bounded() {
    if !python("a_flood_of_attempts_is_bounded") {
        return;
    }
    let _alone = crate::env::alone();
    let (env, web) = (Env::new(), Peer::web());
    let script = "import socket, os\nfor _ in range(3): os.fork() or 1\nwhile True:\n s = socket.socket(); s.setblocking(False)\n \
                  s.connect_ex(('198.18.0.77', 80)); s.close()";
    let id = env
        .tripmine(["run", "-d", "--allow", "unused.example", "host", "--", "python3", "-c", script])
        .ok(0)
        .to_owned();
    let asked = || -> u64 {
        let json: Value = serde_json::from_str(env.tripmine(["net", &id, "--json"]).ok(0)).unwrap();
        json["status"]["gateway"]["asked"].as_u64().unwrap()
    };
    until("it floods", PATIENCE, || asked() > 5_000);
    let rule = format!("127.0.0.1:{}", web.port());
    let get = "import urllib.request, sys; print(urllib.request.urlopen('http://host.tripmine.internal:' + sys.argv[1], timeout=9).read().decode())";
    let port = web.port().to_string();
    let output = env.tripmine(["run", "host", "--allow", &rule, "--", "python3", "-c", get, &port]);
    if output.code != 0 {
        env.tripmine(["kill", &id]).ok(0);
        return skip("a_flood_of_attempts_is_bounded", "python3 inside has no urllib");
    }
    assert_eq!(output.ok(0), "hello from outside");
    let keeper = env.records().iter().find(|record| record["id"] == id.as_str()).unwrap()["keeper"]["pid"]
        .as_i64()
        .unwrap();
    let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let most: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    assert!(most < 64 << 10, "{most} kB");
    env.tripmine(["kill", &id]).ok(0);
    let log = env.tripmine(["net", &id, "--json"]);
    assert!(log.ok(0).len() < 2 << 20, "{} bytes of log", log.stdout.len());
}

/// Without `--port` a person chooses from what listens; what is chosen works until Ctrl-C.
#[test]
fn what_to_forward_is_chosen_on_a_terminal() {
    if !python("what_to_forward_is_chosen_on_a_terminal") {
        return;
    }
    let env = Env::new();
    let cube = Cube::launch(&env, &[], &["127.0.0.1:6080", "127.0.0.1:6081"]);
    let mut pty = crate::pty::Pty::tripmine(&env, &["forward", &cube.id]);
    pty.wait_for("what to forward of the cube");
    pty.type_text("2\r");
    pty.wait_for("-> 6081");
    let json: Value = serde_json::from_str(env.tripmine(["forward", "--list", "--json"]).ok(0)).unwrap();
    let port = crate::forward::port_of(&format!(
        "{} -> 6081",
        json["forwards"][0]["forward"]["map"].as_str().unwrap().trim_end_matches(":6081")
    ));
    assert_eq!(ask(connect(port), b"echo\nchosen"), b"chosen");
    pty.type_text("\x03");
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// The name service as programs meet it: at whatever server they ask, over UDP and TCP, backwards, and for kinds that it has not.
#[test]
fn names_are_answered_whatever_server_is_asked() {
    if !python("names_are_answered_whatever_server_is_asked") {
        return;
    }
    let script = r"
import socket, struct
def ask(name, kind, tcp=False):
    p = b'\x12\x34\x01\0\0\x01\0\0\0\0\0\0' + b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\0' + struct.pack('>HH', kind, 1)
    if tcp:
        s = socket.create_connection(('198.51.100.1', 53), 5); s.sendall(struct.pack('>H', len(p)) + p)
        f = s.makefile('rb'); r = f.read(struct.unpack('>H', f.read(2))[0])
    else:
        s = socket.socket(2, 2); s.settimeout(5); s.sendto(p, ('9.9.9.9', 53)); r, at = s.recvfrom(600); assert at == ('9.9.9.9', 53)
    return r[3] & 15, struct.unpack('>H', r[6:8])[0]
for question in ('www.example.com', 1), ('www.example.com', 1, True), ('www.example.com', 28), ('www.example.com', 16), ('www.example.com', 65), ('www.example.com', 252), ('a%00b.example', 1):
    print(*ask(*question))
print(socket.gethostbyaddr(socket.gethostbyname('www.example.com'))[0])";
    let env = Env::new();
    let output = env.tripmine(["run", "host", "--allow", "example.com", "--", "python3", "-c", script]);
    // Code and number of answers: found, found, found (or no IPv6 here), nothing of the kind twice, refused, no name.
    let lines: Vec<&str> = output.ok(0).lines().collect();
    assert!(["0 1", "0 0"].contains(&lines[2]), "{output:?}");
    assert_eq!(
        [&lines[..2], &lines[3..]].concat(),
        ["0 1", "0 1", "0 0", "0 0", "5 0", "3 0", "www.example.com"]
    );
}

/// A program of 67 bytes: it connects to 8.8.8.8:80 as its first act, and its exit code is the error.
const CONNECTS: [u8; 67] = [
    0xb8, 0x29, 0, 0, 0, 0xbf, 2, 0, 0, 0, 0xbe, 1, 0, 0, 0, 0x31, 0xd2, 0x0f, 5, // socket
    0x89, 0xc7, 0xb8, 0x2a, 0, 0, 0, 0x48, 0x8d, 0x35, 0x12, 0, 0, 0, 0xba, 0x10, 0, 0, 0, 0x0f,
    5, // connect
    0x89, 0xc7, 0xf7, 0xdf, 0xb8, 0x3c, 0, 0, 0, 0x0f, 5, // exit
    2, 0, 0, 80, 8, 8, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// It is there before the entry is: a program that connects before it does anything else is not refused.
#[test]
fn the_gateway_is_there_before_the_entry() {
    let name = "the_gateway_is_there_before_the_entry";
    if !cfg!(target_arch = "x86_64") {
        return skip(name, "its program is one for x86_64");
    }
    let env = Env::new();
    let proxy = Peer::socks(None);
    let project = env.project("own");
    // An ELF file of one segment (elf(5)): all of it, read and run.
    let start = 0x40_0000_u64;
    let length = 120 + CONNECTS.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    file.extend([start + 120, 64, 0].iter().flat_map(|number| number.to_le_bytes()));
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0");
    file.extend([0, start, start, length, length, 0x1000].iter().flat_map(|number| number.to_le_bytes()));
    file.extend(CONNECTS);
    std::fs::write(project.join("first"), file).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(project.join("first"), mode).unwrap();
    let url = format!("socks5h://{}", proxy.address);
    // Detached, the keeper has the most to do before it serves.
    for round in 0..30 {
        let output = env.tripmine(["-d", "--proxy", &url, "own", "--", "./first"]);
        let id = output.ok(0).to_owned();
        let ended = env.tripmine(["wait", &id]);
        assert_eq!(ended.stdout.lines().last(), Some("0"), "{round}: {ended:?}");
    }
}

/// One that has said all may wait two hours for its answer. The kernel's list of connections, through which the answer finds its
/// way, forgets such a connection after a minute unless it is told otherwise.
#[test]
fn a_half_closed_connection_keeps_its_way_back() {
    let env = Env::new();
    let output = env.inside_with(
        &["--net", "open"],
        "cd /proc/sys/net/netfilter; cat nf_conntrack_tcp_timeout_close_wait nf_conntrack_tcp_timeout_fin_wait",
    );
    let seconds: Vec<u64> = output.stdout.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(seconds.len(), 2, "{output:?}");
    assert!(seconds.iter().all(|seconds| *seconds > 2 * 3600), "{seconds:?}");
}
