#!/usr/bin/env python3
"""What a cube's net costs, beside pasta and slirp4netns, beside a SOCKS client of the host, beside socat, and beside no net.

    benches/net.py all                            everything, with the numbers of a record run
    benches/net.py speed -n 3 --user ann          one of them, short, as an ordinary user (when started by root)

The same server and the same client each time; only the way between them differs, and the ways take turns. The rivals need
/dev/net/tun: started by root they get one of their own in a mount namespace, as most distributions give it to everybody.
What is not installed is said and not measured. Nothing outside a temporary folder is written.
"""

import contextlib
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bench import main, pairs, report, wait_for  # noqa: E402

NAME = "host.tripmine.internal"

SERVER = r"""
import os, socket, sys, threading
MIB = bytes(1 << 20)
kept = []
def serve(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    word = c.recv(1)
    if word == b"e":
        while (got := c.recv(1)):
            c.sendall(got)
    elif word == b"d":
        for _ in range(int.from_bytes(c.recv(4), "big")):
            c.sendall(MIB)
    elif word == b"u":
        left, into = int.from_bytes(c.recv(4), "big") << 20, bytearray(1 << 20)
        while left > 0 and (got := c.recv_into(into)):
            left -= got
        c.sendall(b"k")
    elif word == b"k":
        c.sendall(b"k")
        kept.append(c)
        return
    c.close()
threading.stack_size(128 << 10)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0))
s.listen(4096)
print(s.getsockname()[1], flush=True)
while True:
    c = s.accept()[0]
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"""

# Arguments: what, how much, host, port, and a SOCKS proxy's port or 0. Prints numbers.
CLIENT = r"""
import socket, sys, time
what, much, host, port, socks = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
at = ("127.0.0.1", socks) if socks else (socket.gethostbyname(host), port)
def connect():
    c = socket.socket()
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.connect(at)
    if socks:
        c.sendall(b"\5\1\0"); c.recv(2)
        c.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")); c.recv(10)
    return c
if what == "up":
    block = bytes(1 << 20)
    c = connect()
    begun = time.perf_counter()
    c.sendall(b"u" + much.to_bytes(4, "big"))
    for _ in range(much):
        c.sendall(block)
    assert c.recv(1) == b"k"
    print((much << 20) / 1e6 / (time.perf_counter() - begun))
elif what == "down":
    into, left = bytearray(1 << 20), much << 20
    c = connect()
    begun = time.perf_counter()
    c.sendall(b"d" + much.to_bytes(4, "big"))
    while left > 0:
        got = c.recv_into(into)
        assert got
        left -= got
    print((much << 20) / 1e6 / (time.perf_counter() - begun))
elif what == "connect":
    for _ in range(much):
        begun = time.perf_counter()
        c = connect()
        print((time.perf_counter() - begun) * 1e6)
        c.close()
elif what == "setup":
    for _ in range(much):
        begun = time.perf_counter()
        c = connect()
        c.sendall(b"e1")
        assert c.recv(1) == b"1"
        print((time.perf_counter() - begun) * 1e6)
        c.close()
elif what == "bounce":
    c = connect()
    c.sendall(b"e")
    for _ in range(much):
        begun = time.perf_counter()
        c.sendall(b"1"); c.recv(1)
        print((time.perf_counter() - begun) * 1e6)
"""

KEEP = r"""
import os, socket, sys, time
count, each = int(sys.argv[3]), 400
at = (socket.gethostbyname(sys.argv[1]), int(sys.argv[2]))
for first in range(0, count, each):
    if os.fork() == 0:
        kept = []
        for _ in range(min(each, count - first)):
            c = socket.socket(); c.connect(at); c.sendall(b"k"); assert c.recv(1) == b"k"
            kept.append(c)
        print("open", flush=True)
        time.sleep(1000)
    os.wait3(os.WNOHANG)
time.sleep(1000)
"""

FLOOD = r"""
import os, socket, sys, time
for _ in range(2):
    os.fork()
until = time.time() + int(sys.argv[1])
count = 0
while time.time() < until:
    for _ in range(100):
        s = socket.socket(); s.setblocking(False); s.connect_ex(("198.18.0.77", 80)); s.close()
        count += 1
print(count, flush=True)
"""


class Ways:
    """The ways from a client to a server on the host's loopback."""

    def __init__(self, world, port):
        self.world, self.port = world, port
        rule = f"127.0.0.1:{port}"
        self.ways = {
            "direct": lambda *client: (["python3", "-c", CLIENT, *client, "127.0.0.1", str(port), "0"], {}),
            "allow": self.cube("--allow", rule),
            "open": self.cube("--net", "open", "--allow", rule),
        }
        if not self.works("open"):
            del self.ways["open"]
            print("  open: refuses the host's own loopback, so it is measured as allow: the path is the same")
        self.rivals()

    def cube(self, *options):
        head = [self.world.binary, "run", *options, "host", "--", "python3", "-c", CLIENT]
        return lambda *client: ([*head, *client, NAME, str(self.port), "0"], {})

    def rivals(self):
        tun = None
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK) or self.world.user:
            if os.getuid() != 0:
                return print("  pasta, slirp4netns: not measured, /dev/net/tun is for root here (start as root with --user)")
            tun = os.path.join(self.world.folder, "tun")
            os.mknod(tun, 0o20666, os.makedev(10, 200))
            os.chmod(tun, 0o666)
        with open("/proc/net/route", encoding="ascii") as file:
            gateways = [line.split()[2] for line in file if line.split()[1] == "00000000"]
        if shutil.which("pasta") and gateways:
            gateway = socket.inet_ntoa(bytes.fromhex(gateways[0])[::-1])
            inside = lambda host, *more: lambda *client: (self.rival(
                tun, ["pasta", "--config-net", "-q", *more, "--", "python3", "-c", CLIENT, *client, host, str(self.port), "0"]), {})
            self.ways["pasta, tap"] = inside(gateway, "-t", "none", "-u", "none", "-T", "none", "-U", "none")
            self.ways["pasta, -T splice"] = inside("127.0.0.1", "-t", "none", "-u", "none", "-T", str(self.port), "-U", "none")
        else:
            print("  pasta: not measured, it is not installed or there is no default route")
        if shutil.which("slirp4netns"):
            self.ways["slirp4netns"] = lambda *client: (self.rival(tun, [
                sys.executable, "-c", SLIRP, "python3", "-c", CLIENT, *client, "10.0.2.2", str(self.port), "0"]), {})
        else:
            print("  slirp4netns: not measured, it is not installed")
        for name in [name for name in self.ways if name not in ("direct", "allow", "open")]:
            if not self.works(name):
                print(f"  {name}: does not run here: {self.why}")
                del self.ways[name]

    def rival(self, tun, argv):
        if not tun:
            return argv
        script = 'mount --bind "$1" /dev/net/tun; shift; exec "$@"'
        become = []
        if self.world.user:
            become = ["setpriv", f"--reuid={self.world.user}", f"--regid={self.world.identity['group']}", "--init-groups"]
        return ["unshare", "-m", "sh", "-c", script, "sh", tun, *become, *argv]

    def works(self, name):
        try:
            self.run(name, "setup", 1)
            return True
        except RuntimeError as error:
            self.why = str(error)[-300:]
            return False

    def run(self, name, what, much):
        argv, _ = self.ways[name](what, str(much))
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": self.world.env}
        # The rivals change users themselves, after their mount.
        identity = {} if argv[0] == "unshare" else self.world.identity
        child = subprocess.Popen(argv, cwd=self.world.home, **identity, **more)
        try:
            out, err = child.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            child.kill()
            raise RuntimeError(f"{name}: took longer than three minutes") from None
        if child.returncode != 0:
            raise RuntimeError(f"{name}: {child.returncode}: {err.decode(errors='replace')}")
        return [float(line) for line in out.split()]


# A namespace of one's own, slirp4netns for it, then the command in it.
SLIRP = r"""
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(0x10000000 | 0x40000000) != 0:
        os._exit(99)
    open("/proc/self/setgroups", "w").write("deny")
    open("/proc/self/uid_map", "w").write(f"0 {uid} 1")
    open("/proc/self/gid_map", "w").write(f"0 {gid} 1")
    os.write(ready[1], b"1")
    os.read(go[0], 1)
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
up = os.pipe()
os.set_inheritable(up[1], True)
slirp = subprocess.Popen(["slirp4netns", "--configure", "--mtu=65520", f"--ready-fd={up[1]}", str(child), "tap0"],
                         pass_fds=[up[1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.close(up[1])
if os.read(up[0], 1) != b"1":
    os.kill(child, 9); sys.exit("slirp4netns does not start")
os.write(go[1], b"1")
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
slirp.kill(); slirp.wait()
sys.exit(code)
"""


def start_server(world):
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env=world.env)
    return server, int(server.stdout.readline())


def table(title, unit, figures, against="direct"):
    print(f"\n{title} ({unit}; n = {len(next(iter(figures.values())))})")
    print(f"  {'':22} {'median':>9} {'min':>9} {'max':>9}   of {against}")
    base = statistics.median(figures[against])
    for name, values in figures.items():
        middle = statistics.median(values)
        print(f"  {name:22} {middle:9.1f} {min(values):9.1f} {max(values):9.1f}   {middle / base:6.2f}")
    sys.stdout.flush()


def turns(names, rounds):
    for index in range(rounds):
        for name in names if index % 2 == 0 else reversed(names):
            yield name


def measured(ways, names, rounds, mib, each):
    for what, much, unit, title in [("up", mib, "MB/s", "out of the cube"), ("down", mib, "MB/s", "into the cube"),
                                    ("setup", each, "us", "set-up and one byte there and back"),
                                    ("bounce", each, "us", "one byte there and back")]:
        figures = {name: [] for name in names}
        for name in turns(names, rounds):
            try:
                values = ways.run(name, what, much)
            except RuntimeError:
                # pasta's tap resets a connection now and then: once more, and what fails twice is an error.
                values = ways.run(name, what, much)
            # Of many small ones each run counts as its median.
            figures[name].append(statistics.median(values))
        yield title, unit, figures


def speed(world, rounds):
    """Through allow and open, against pasta and slirp4netns."""
    server, port = start_server(world)
    try:
        ways = Ways(world, port)
        for title, unit, figures in measured(ways, list(ways.ways), rounds, 1024, 300):
            table(title, unit, figures)
    finally:
        server.kill()
        server.wait()


def proxy(world, rounds):
    """Through proxy, against a SOCKS client of the host; both by way of microsocks."""
    if not shutil.which("microsocks"):
        return print("proxy: not measured, microsocks is not installed")
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        if socket.gethostbyname(name).startswith("127."):
            return proxied(world, rounds, name)
    return print("proxy: not measured, the host's own name does not lead to its loopback")


def proxied(world, rounds, name):
    server, port = start_server(world)
    with socket.socket() as spare:
        spare.bind(("127.0.0.1", 0))
        at = spare.getsockname()[1]
    socks = subprocess.Popen(["microsocks", "-i", "127.0.0.1", "-p", str(at)], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        ways = Ways.__new__(Ways)
        ways.world, ways.port = world, port
        head = [world.binary, "run", "--proxy", f"socks5h://127.0.0.1:{at}", "host", "--", "python3", "-c", CLIENT]
        ways.ways = {
            "SOCKS client": lambda *client: (["python3", "-c", CLIENT, *client, name, str(port), str(at)], {}),
            "proxy": lambda *client: ([*head, *client, name, str(port), "0"], {}),
        }
        for title, unit, figures in measured(ways, list(ways.ways), rounds, 512, 300):
            table(title + ", by microsocks", unit, figures, "SOCKS client")
    finally:
        for process in (server, socks):
            process.kill()
            process.wait()


def forward(world, rounds):
    """A forward to a server inside, against the same server outside, and against socat, which decides and counts nothing."""
    server, port = start_server(world)
    peer, cube = None, world.text("run", "host", "-d", "-p", "0:7000", "--", "python3", "-c", SERVER, "7000").strip()
    try:
        listed = json.loads(world.text("forward", "--list", "--json"))["forwards"]
        ports = {"direct": port, "forward": listed[0]["forward"]["map"].split(":")[0]}
        if shutil.which("socat"):
            with socket.create_server(("127.0.0.1", 0)) as spare:
                ports["socat"] = spare.getsockname()[1]
            listen = f"TCP-LISTEN:{ports['socat']},bind=127.0.0.1,fork,nodelay,backlog=512"
            peer = subprocess.Popen(["socat", "-b", str(1 << 20), listen, f"TCP:127.0.0.1:{port},nodelay"],
                                    stderr=subprocess.DEVNULL)
        else:
            print("  socat: not measured, it is not installed")
        ways = Ways.__new__(Ways)
        ways.world, ways.port = world, port
        plain = lambda port: lambda *client: (["python3", "-c", CLIENT, *client, "127.0.0.1", str(port), "0"], {})
        ways.ways = {name: plain(port) for name, port in ports.items()}
        wait_for(lambda: all(ways.works(name) for name in ports))
        for title, unit, figures in measured(ways, list(ways.ways), rounds, 1024, 300):
            # The client stands outside here.
            turned = {"out of the cube": "into the cube", "into the cube": "out of the cube"}
            table("forward: " + turned.get(title, title), unit, figures)
    finally:
        world.tripmine("stop", "--time", "0", cube).wait()
        for process in filter(None, [server, peer]):
            process.kill()
            process.wait()


def status_kib(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def many(world, count):
    """Memory of a keeper with so many connections open through its gateway."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4 * count, 4 * count))
    except ValueError:
        # Two descriptors each, and those of the keeper itself.
        count = min(count, (before[1] - 256) // 2)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
        print(f"many: {count} connections, since {before[1]} open files are the hard limit here")
    server, port = start_server(world)
    argv = [world.binary, "run", "--allow", f"127.0.0.1:{port}", "host", "--", "python3", "-c", KEEP, NAME, str(port), str(count)]
    cube = world.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: any(record["keeper"] and not record["exit"] for record in world.records()))
        record = [record for record in world.records() if not record["exit"]][-1]
        keeper, first = record["keeper"]["pid"], status_kib(record["keeper"]["pid"], "VmRSS:")

        def open_now():
            return json.loads(world.text("net", record["id"], "--json"))["status"]["gateway"]["open"]

        wait_for(lambda: open_now() >= count)
        print(f"\n{open_now()} connections open: keeper {status_kib(keeper, 'VmRSS:')} KiB resident "
              f"(at most {status_kib(keeper, 'VmHWM:')}), before them {first} KiB", flush=True)
    finally:
        world.tripmine("stop", "--all", "--time", "0").wait()
        cube.wait()
        server.kill()
        server.wait()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def flood(world, seconds):
    """Attempts a second from inside, and what the keeper needs for them."""
    print()
    for options in (["--net", "none"], ["--allow", "unused.example"]):
        argv = [world.binary, "run", *options, "host", "--", "python3", "-c", FLOOD, str(seconds)]
        cube = world.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        most = 0
        while cube.poll() is None:
            for record in world.records():
                if record["keeper"] and not record["exit"]:
                    with contextlib.suppress(OSError, StopIteration):
                        most = max(most, status_kib(record["keeper"]["pid"], "VmHWM:"))
            time.sleep(0.1)
        total = sum(int(line) for line in cube.stdout.read().split())
        print(f"flood, {' '.join(options)}: {total / seconds:.0f} attempts a second, keeper at most {most} KiB", flush=True)


def launch(world, count):
    """What the net adds to a launch, by how long the cube lives: with `none` it is captured after 4 ms."""
    run = lambda *words: lambda: world.tripmine("run", *words)
    times = pairs(run("--net", "open", "host", "--", "true"), run("--net", "none", "host", "--", "true"), count)
    report("launch of `true`", ("--net open, captured first", "--net none"), times)


if __name__ == "__main__":
    main(__doc__, {"speed": (speed, 5), "proxy": (proxy, 5), "forward": (forward, 5), "many": (many, 10_000), "flood": (flood, 5),
                   "launch": (launch, 200)}, "rounds, connections, seconds or pairs")
