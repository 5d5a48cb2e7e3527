//! That nothing else leaves, by the kernel's own counters: the whole program runs in a network namespace of the test's own,
//! whose only way out is a device that nobody listens on and that counts; and what is said where a network cannot be captured.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::env::{Env, skip, until};
use crate::peers::Peer;

/// A network namespace with a way out, held by a process that sleeps.
struct Outside(Child);

impl Drop for Outside {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Outside {
    /// `None` where this user or this kernel cannot make one.
    fn new() -> Option<Self> {
        // No IPv6 on the device: it would announce itself.
        let script = "set -e; ip link set lo up; ip link add out type dummy 2>/dev/null || ip link add out type veth peer name sink; \
                      echo 1 > /proc/sys/net/ipv6/conf/out/disable_ipv6; ip link set out arp off; ip addr add 203.0.113.9/24 dev out; ip link set out up; \
                      [ ! -e /sys/class/net/sink ] || ip link set sink up; ip route add default dev out; echo ready; exec sleep 600";
        let mut child = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", &format!("mount -t sysfs sysfs /sys && {script}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let read = std::io::BufRead::read_line(
            &mut std::io::BufReader::new(child.stdout.take().unwrap()),
            &mut line,
        );
        let made = Self(child);
        (read.is_ok() && line == "ready\n").then_some(made)
    }

    /// Runs `test` on a thread of this namespace; whatever it starts is there too.
    fn within(&self, test: impl FnOnce() + Send) {
        let namespace = File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                test();
            });
            inside.join().unwrap();
        });
    }
}

/// What has left by the device, and every datagram that was sent, to whomever: a resolver on loopback as well.
fn counters() -> (u64, u64) {
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let out = devices.lines().find_map(|line| line.trim().strip_prefix("out:")).expect("the device");
    let packets = out.split_whitespace().nth(9).unwrap().parse().unwrap();
    let table = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut udp = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (udp.next().unwrap(), udp.next().unwrap());
    let at = names.split(' ').position(|name| name == "OutDatagrams").unwrap();
    (packets, values.split(' ').nth(at).unwrap().parse().unwrap())
}

/// N12, N13, N14, N19: names, addresses, datagrams, a static program, a name that no rule allows, a proxy that has gone.
#[test]
fn nothing_leaves_but_through_the_proxy() {
    let name = "nothing_leaves_but_through_the_proxy";
    let Some(outside) = Outside::new() else {
        return skip(name, "a network namespace with a way out cannot be made here: it takes root and `ip`");
    };
    outside.within(|| {
        let env = Env::new();
        let proxy = Peer::socks(None);
        let url = format!("socks5h://{}", proxy.address);
        let (allowed, canary) = (Peer::web(), Peer::canary());
        let project = env.project("own");
        std::fs::copy(env.binary(), project.join("tm")).unwrap();
        let client = r#"ask() { { exec 3<>"/dev/$1/$2/$3" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && timeout 2 cat <&3; exec 3>&-; } 2>/dev/null; }
            for name in www.example.com other.example; do ask tcp $name 80; done
            for to in 192.0.2.1 203.0.113.77 203.0.113.9 169.254.169.254 10.0.0.1; do ask tcp $to "$1"; ask tcp $to 443; done
            for port in 53 123 443 5353; do ask udp 192.0.2.1 $port; ask udp 203.0.113.77 $port; done
            ./tm proxy check socks5h://192.0.2.3:1080; true"#;
        let port = canary.port().to_string();
        let run = |policy: &[&str]| {
            let words = ["own", "--", "bash", "-c", client, "bash", &port];
            env.tripmine([policy, &words].concat())
        };
        let before = counters();
        let output = run(&["--proxy", &url]);
        assert!(output.stdout.contains("through the proxy to www.example.com"), "{output:?}");
        assert!(proxy.seen().contains(&"3 www.example.com:80".to_owned()), "{:?}", proxy.seen());
        let rule = format!("127.0.0.1:{}", allowed.port());
        run(&["--allow", &rule]);
        run(&["--net", "none"]);
        drop(proxy);
        let output = run(&["--proxy", &url]);
        assert!(!output.stdout.contains("through"), "{output:?}");
        assert_eq!(counters(), before, "packets by the device, datagrams");
        assert_eq!((canary.seen(), allowed.seen()), (Vec::<String>::new(), Vec::<String>::new()));
        // The counters do count: a policy that reaches the internet sends packets there, and asks for names.
        let reach = "timeout 2 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80; exec 4<>/dev/tcp/www.example.com/80'; timeout 2 bash -c 'exec 4<>/dev/tcp/www.example.com/80'; true";
        env.inside_with(&["--net", "open"], reach).ok(0);
        let (packets, datagrams) = counters();
        assert!(packets > before.0 && datagrams > before.1, "{packets} packets, {datagrams} datagrams");
    });
}

/// N16: an address is the host's own also when it is the second of its device (whose packets leave from the first), is one of a
/// whole network that a route makes local, or has come while the cube ran.
#[test]
fn further_addresses_of_the_host_are_its_own() {
    let name = "further_addresses_of_the_host_are_its_own";
    let Some(outside) = Outside::new() else {
        return skip(name, "a network namespace with a way out cannot be made here: it takes root and `ip`");
    };
    outside.within(|| {
        let ip = |words: &str| {
            let made = Command::new("ip").args(words.split(' ')).status();
            assert!(made.is_ok_and(|status| status.success()), "ip {words}");
        };
        // As if of the internet: in this namespace they are nobody else's.
        ip("addr add 93.184.216.10/24 dev out");
        ip("addr add 93.184.216.11/24 dev out");
        ip("route add local 93.184.217.0/24 dev lo");
        let env = Env::new();
        let canary = Peer::canary();
        let id = env.tripmine(["run", "-d", "--net", "open", "host", "--", "sleep", "600"]).ok(0).to_owned();
        ip("addr add 93.184.216.12/24 dev out");
        let all = ["93.184.216.10", "93.184.216.11", "93.184.217.9", "93.184.216.12"];
        for address in all {
            let client = format!("exec 3<>/dev/tcp/{address}/{} && timeout 2 cat <&3", canary.port());
            env.tripmine(["exec", "-T", &id, "--", "bash", "-c", &client]);
        }
        assert_eq!(canary.seen(), Vec::<String>::new(), "{}", env.tripmine(["net", &id]).stdout);
        let log = env.tripmine(["net", &id]).stdout;
        assert_eq!(log.matches("it leads to the host itself").count(), all.len(), "{log}");
        env.tripmine(["kill", &id]).ok(0);
        // They do lead to it, from outside of a cube.
        for address in all {
            std::net::TcpStream::connect((address, canary.port())).unwrap();
        }
        until("all are seen", crate::env::PATIENCE, || canary.seen().len() == all.len());
    });
}

/// A filter that refuses netlink sockets of netfilter, as a kernel without nftables does; then the command.
const WITHOUT_NFTABLES: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def op(code, jt, jf, k): return struct.pack('HBBI', code, jt, jf, k)
# socket(2) is 41; AF_NETLINK 16, NETLINK_NETFILTER 12: EPROTONOSUPPORT.
code = op(0x20,0,0,0) + op(0x15,0,5,41) + op(0x20,0,0,16) + op(0x15,0,3,16) + op(0x20,0,0,32) + op(0x15,0,1,12) + op(0x06,0,0,0x5005d) + op(0x06,0,0,0x7fff0000)
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(code) // 8, ctypes.addressof(buffer)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// A cube that is to reach something is refused by name where its network cannot be captured; one that reaches nothing starts.
#[test]
fn without_nftables_a_cube_that_reaches_something_does_not_start() {
    let name = "without_nftables_a_cube_that_reaches_something_does_not_start";
    if !cfg!(target_arch = "x86_64") || Command::new("python3").arg("--version").output().is_err() {
        return skip(name, "there is no python3, or this is no x86-64");
    }
    let (env, canary) = (Env::new(), Peer::canary());
    let run = |words: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-c", WITHOUT_NFTABLES]).arg(env.binary()).args(words);
        command.env_clear().envs(env.variables()).current_dir(&env.home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        crate::env::finish(command.spawn().unwrap(), crate::env::PATIENCE)
    };
    let connect = format!("exec 3<>/dev/tcp/203.0.113.1/{}", canary.port());
    for policy in [&["--net", "open"][..], &["--allow", "example.com"], &["--proxy", "socks5h://127.0.0.1:1"]]
    {
        let output = run(&[&["run", "host"], policy, &["--", "bash", "-c", &connect]].concat());
        output.fails(125, "this kernel refuses nftables in a user namespace");
        assert!(output.stderr.contains("modprobe"), "{output:?}");
    }
    let doctor = run(&["doctor"]);
    assert!(doctor.stdout.contains("nftables"), "{doctor:?}");
    let output = run(&["run", "-d", "host", "--", "sleep", "600"]);
    let id = output.ok(0).to_owned();
    until("it is said", crate::env::PATIENCE, || {
        env.tripmine(["events", &id]).stdout.contains("net-not-captured")
    });
    let denied = env.tripmine(["exec", "-T", &id, "--", "bash", "-c", &connect]);
    assert_ne!(denied.code, 0, "{denied:?}");
    env.tripmine(["net", &id, "allow", "example.com:80"]).fails(1, "not captured");
    env.tripmine(["kill", &id]).ok(0);
    assert_eq!(canary.seen(), Vec::<String>::new());
}
