#!/usr/bin/env python3
"""The figures of docs/BENCHMARKS.md: pairs, side by side in one run, on this machine.

    benches/bench.py all                      everything, with the numbers of a record run
    benches/bench.py launch -n 20 --user ann  one of them, short, as an ordinary user (when started by root)

Every comparison alternates its two sides (A B, then B A), so that a machine that slows down slows both. What cannot
be measured here is said, never left out in silence. Nothing is installed and nothing outside a temporary folder is
written.
"""

import argparse
import contextlib
import encodings.ascii  # noqa: F401 now: where root's own Python runs this, the user may not read what it would load later
import json
import os
import platform
import pty as ptys
import pwd
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.path.join(REPOSITORY, "target/x86_64-unknown-linux-musl/release/tripmine")
LEAVE = b"\x1dd"


class World:
    """A private home, the program under test, and who runs it. The runtime folder is in memory, as a login gives it."""

    def __init__(self, options):
        self.user = options.user
        self.folder = tempfile.mkdtemp(prefix="tmb", dir="/tmp")
        self.binary = os.path.join(self.folder, "tripmine")
        shutil.copy2(options.bin, self.binary)
        self.home = os.path.join(self.folder, "home")
        os.mkdir(self.home)
        self.env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": self.home,
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": tempfile.mkdtemp(prefix="tmb", dir="/dev/shm" if os.path.isdir("/dev/shm") else None),
        }
        self.identity = {}
        if self.user:
            entry = pwd.getpwnam(self.user)
            for path in (self.folder, self.binary, self.home, self.env["XDG_RUNTIME_DIR"]):
                os.chown(path, entry.pw_uid, entry.pw_gid)
            self.identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def spawn(self, argv, **more):
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more}
        return subprocess.Popen(argv, env=self.env, cwd=self.home, **self.identity, **more)

    def tripmine(self, *args, **more):
        return self.spawn([self.binary, *args], **more)

    def text(self, *args):
        child = self.tripmine(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = child.communicate(timeout=120)
        if child.returncode != 0:
            sys.exit(f"tripmine {' '.join(args)}: {child.returncode}: {err.decode()}")
        return out.decode()

    def records(self):
        mines = os.path.join(self.home, ".local/state/tripmine/Mines")
        for name in sorted(os.listdir(mines)) if os.path.isdir(mines) else []:
            with contextlib.suppress(OSError, ValueError):
                with open(os.path.join(mines, name, "headers/record.json"), encoding="utf-8") as file:
                    yield json.load(file)

    def close(self):
        self.tripmine("stop", "--all", "--time", "0").wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.env["XDG_RUNTIME_DIR"], ignore_errors=True)


def filter_bytes():
    """A filter of about the size of ours: the architecture, x32, a list of refused calls, and the rest allowed."""
    refused = [101, 155, 161, 163, 165, 166, 167, 168, 169, 172, 173, 175, 176, 179, 180, 212, 227, 246, 248, 249, 250, 272,
               278, 279, 298, 300, 303, 304, 305, 308, 310, 311, 312, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431,
               432, 433, 435, 438, 440, 442, 443, 467, 103, 134, 135, 153, 154, 156, 159, 164, 170, 171, 174, 177, 178, 205]
    load, equal, above, give = 0x20, 0x15, 0x35, 0x06
    kill, eperm, allow = 0x80000000, 0x00050001, 0x7FFF0000
    code = [(load, 0, 0, 4), (equal, 1, 0, 0xC000003E), (give, 0, 0, kill), (load, 0, 0, 0), (above, 0, 1, 0x40000000),
            (give, 0, 0, kill)]
    for number in refused:
        code += [(equal, 0, 1, number), (give, 0, 0, eperm)]
    code.append((give, 0, 0, allow))
    return b"".join(struct.pack("HBBI", *line) for line in code)


def bwrap(world, fd, *command):
    """bubblewrap with the nearest equal of tripmine's default cube."""
    argv = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--hostname", "cube", "--clearenv",
            "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/home/me", "--tmpfs", "/", "--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink("/" + name):
            argv += ["--symlink", os.readlink("/" + name), "/" + name]
        elif os.path.isdir("/" + name):
            argv += ["--ro-bind", "/" + name, "/" + name]
    for name in ("/etc/passwd", "/etc/group", "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/alternatives"):
        if os.path.exists(name):
            argv += ["--ro-bind", name, name]
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/dev/shm", "--bind",
             world.home, "/home/me", "--chdir", "/home/me", "--cap-drop", "ALL", "--seccomp", str(fd), "--", *command]
    return argv


def timed(start):
    begun = time.perf_counter_ns()
    child = start()
    code = child.wait()
    taken = (time.perf_counter_ns() - begun) / 1e6
    if code != 0:
        sys.exit(f"{child.args[:6]}… ended with {code}")
    return taken


def pairs(first, second, count, warm=5):
    """Alternates the two sides; both lists of milliseconds."""
    times = ([], [])
    for index in range(count + warm):
        order = (0, 1) if index % 2 == 0 else (1, 0)
        for side in order:
            taken = timed((first, second)[side])
            if index >= warm:
                times[side].append(taken)
    return times


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def report(title, names, times):
    print(f"\n{title} (n = {len(times[0])} each, milliseconds)")
    print(f"  {'':34} {'median':>8} {'p95':>8} {'min':>8}")
    for name, values in zip(names, times):
        print(f"  {name:34} {statistics.median(values):8.2f} {quantile(values, 0.95):8.2f} {min(values):8.2f}")
    medians = statistics.median(times[0]) / statistics.median(times[1])
    tails = quantile(times[0], 0.95) / quantile(times[1], 0.95)
    print(f"  ratio {names[0]} / {names[1]}: median {medians:.2f}, p95 {tails:.2f}", flush=True)


def launch(world, count):
    if not shutil.which("bwrap"):
        return print("launch: not measured, there is no bwrap")
    path = os.path.join(world.folder, "filter.bpf")
    with open(path, "wb") as file:
        file.write(filter_bytes())
    os.chmod(path, 0o644)

    def rival():
        fd = os.open(path, os.O_RDONLY)
        try:
            return world.spawn(bwrap(world, fd, "true"), pass_fds=[fd])
        finally:
            os.close(fd)

    times = pairs(lambda: world.tripmine("run", "host", "--", "true"), rival, count)
    report("launch of `true`", ("tripmine run host -- true", "bwrap, nearest equal"), times)
    main = pairs(lambda: world.tripmine("version"), lambda: world.spawn(["/usr/bin/true"]), count)
    report("reaching main", ("tripmine version", "/usr/bin/true"), main)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def execs(world, count):
    cube = world.text("run", "host", "-d", "--", "sleep", "1000000").strip()
    wait_for(lambda: any(record["init"] for record in world.records()))
    init = [record for record in world.records() if record["id"] == cube][0]["init"]["pid"]
    entry = children(init)[0]
    enter = ["nsenter", "-t", str(entry), "-U", "-m", "-u", "-i", "-n", "-p", "-C", "--preserve-credentials", "--", "true"]
    if world.spawn(enter).wait() != 0:
        print("exec: nsenter may not enter the cube here; tripmine exec alone")
        times = [timed(lambda: world.tripmine("exec", cube, "--", "true")) for _ in range(count)]
        return report("exec of `true`", ("tripmine exec", "tripmine exec"), (times, times))
    report("exec of `true`", ("tripmine exec", "nsenter, same namespaces"),
           pairs(lambda: world.tripmine("exec", cube, "--", "true"), lambda: world.spawn(enter), count))


def wait_for(condition, patience=120):
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("a condition was not met in time")
        time.sleep(0.002)


def pss_kib(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    return None


def idle(world, count):
    print(f"\n{count} idle cubes")
    begun = time.monotonic()
    gate = threading.Semaphore(2 * (os.cpu_count() or 1))
    failed = []

    def one():
        with gate:
            if world.tripmine("run", "host", "-d", "--", "sleep", "1000000").wait() != 0:
                failed.append(1)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    up = time.monotonic() - begun
    wait_for(lambda: sum(1 for record in world.records() if record["init"]) == count - len(failed))
    records = list(world.records())
    print(f"  up: {count - len(failed)} of {count} in {up:.1f} s")
    sizes = [(pss_kib(record["keeper"]["pid"]), pss_kib(record["init"]["pid"])) for record in records]
    known = [(keeper, init) for keeper, init in sizes if keeper is not None and init is not None]
    if known:
        keepers, inits = zip(*known)
        both = [keeper + init for keeper, init in known]
        print(f"  PSS KiB: keeper median {statistics.median(keepers)}, init median {statistics.median(inits)}, "
              f"both median {statistics.median(both)}, max {max(both)} (n = {len(known)})")
    else:
        print("  PSS: not measured, reading it of sealed processes needs root (start as root with --user)")
    lists = [timed(lambda: world.tripmine("ps")) for _ in range(21)]
    print(f"  ps: median {statistics.median(lists):.1f} ms, p95 {quantile(lists, 0.95):.1f} ms")
    begun = time.monotonic()
    world.text("stop", "--all", "--time", "0")
    print(f"  all ended in {time.monotonic() - begun:.1f} s")
    pids = [record[who]["pid"] for record in records for who in ("keeper", "init")]
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    left = [name for name in os.listdir(os.path.join(world.env["XDG_RUNTIME_DIR"], "tripmine")) if name.endswith(".sock")]
    print(f"  all processes gone after {time.monotonic() - begun:.1f} s; sockets left: {len(left)}", flush=True)


def on_terminal(world, argv, during=None):
    """Runs argv on a terminal of ours and reads all that comes: (seconds, bytes)."""
    master, slave = ptys.openpty()
    child = world.spawn(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                        preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0))
    os.close(slave)
    total, begun, first = 0, time.monotonic(), None
    while True:
        if not select.select([master], [], [], 60)[0]:
            child.kill()
            sys.exit(f"{argv[:4]}: silent for a minute")
        try:
            chunk = os.read(master, 1 << 16)
        except OSError:
            break
        if not chunk:
            break
        if first is None and len(chunk) > 1000:
            first = time.monotonic()
        total += len(chunk)
        if during:
            during(master, child, total)
    taken = time.monotonic() - (first or begun)
    child.wait()
    os.close(master)
    return taken, total


def flood(world, count):
    size = f"{count}M"
    command = f"yes | head -c {size}"
    print(f"\nflood of {size} through a terminal")
    largest, looked = [0], [0.0]

    def watch(_master, _child, total):
        if time.monotonic() - looked[0] > 0.1:
            looked[0] = time.monotonic()
            for record in world.records():
                if record["keeper"] and not record["exit"]:
                    with contextlib.suppress(OSError):
                        with open(f"/proc/{record['keeper']['pid']}/status", encoding="ascii") as file:
                            rss = [int(line.split()[1]) for line in file if line.startswith("VmHWM:")]
                            largest[0] = max(largest[0], *rss)

    speeds = ([], [])
    for index in range(3 if count <= 256 else 1):
        for side in ((0, 1) if index % 2 == 0 else (1, 0)):
            argv = [world.binary, "run", "host", "--", "sh", "-c", command] if side == 0 else \
                ["script", "-qc", command, "/dev/null"]
            taken, total = on_terminal(world, argv, watch if side == 0 else None)
            speeds[side].append(total / taken / 1e6)
    ours, theirs = statistics.median(speeds[0]), statistics.median(speeds[1])
    print(f"  tripmine {ours:.0f} MB/s, script {theirs:.0f} MB/s, ratio {ours / theirs:.2f}; keeper at most {largest[0]} KiB")
    waits = []
    for _ in range(5):
        typed = []

        def leave(master, _child, total):
            if not typed and total > 4 << 20:
                typed.append(time.monotonic())
                os.write(master, LEAVE)

        on_terminal(world, [world.binary, "run", "host", "--", "sh", "-c", "yes"], leave)
        if typed:
            waits.append((time.monotonic() - typed[0]) * 1000)
        world.text("stop", "--all", "--time", "0")
    if waits:
        print(f"  leaving in the flood: median {statistics.median(waits):.0f} ms, max {max(waits):.0f} ms (n = {len(waits)})")
    else:
        print("  leaving in the flood: not measured, the end came with the last bytes")
    sys.stdout.flush()


def pipes(world, count):
    def drain(argv):
        begun = time.monotonic()
        child = world.spawn(argv, stdout=subprocess.PIPE)
        total = 0
        while chunk := os.read(child.stdout.fileno(), 1 << 20):
            total += len(chunk)
        child.wait()
        return total / (time.monotonic() - begun) / 1e6

    command = ["head", "-c", f"{count}M", "/dev/zero"]
    speeds = ([], [])
    for index in range(7):
        for side in ((0, 1) if index % 2 == 0 else (1, 0)):
            argv = [world.binary, "run", "host", "--", *command] if side == 0 else command
            speeds[side].append(drain(argv))
    ours, theirs = statistics.median(speeds[0]), statistics.median(speeds[1])
    print(f"\n{count} MB through a pipe: tripmine {ours:.0f} MB/s, no jail {theirs:.0f} MB/s, time ratio {theirs / ours:.2f}",
          flush=True)


# What any keeper does at the least: a session of its own, a lock and a record on disk, a pipe, fork and exec, the exit code
# back to whoever asked. In C, so that no interpreter is measured.
LEAST = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int talk[2], out[2], status = 0, length, lock, record;
    char place[256], text[512], buffer[4096];
    if (argc < 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, talk)) return 125;
    if (fork()) {
        close(talk[1]);
        return read(talk[0], &status, sizeof status) == sizeof status ? WEXITSTATUS(status) : 125;
    }
    close(talk[0]);
    setsid();
    snprintf(place, sizeof place, "%s/%d", argv[1], getpid());
    if (mkdir(place, 0700) || chdir(place) || pipe(out)) return 125;
    lock = open("lock", O_CREAT | O_RDWR, 0600);
    flock(lock, LOCK_EX);
    record = open("record", O_CREAT | O_RDWR, 0600);
    length = snprintf(text, sizeof text, "{\"state\":\"running\",\"keeper\":%d}", getpid());
    if (write(record, text, length) != length) return 125;
    pid_t child = fork();
    if (!child) {
        dup2(out[1], 1);
        dup2(out[1], 2);
        close(out[0]);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    close(out[1]);
    while (read(out[0], buffer, sizeof buffer) > 0) {}
    waitpid(child, &status, 0);
    length = snprintf(text, sizeof text, "{\"state\":\"exited\",\"code\":%d}", WEXITSTATUS(status));
    if (pwrite(record, text, length, 0) != length) return 125;
    return write(talk[1], &status, sizeof status) != sizeof status;
}
"""


def place(world, count):
    """The jail in place against fork, exec and the least keeper."""
    source, least = os.path.join(world.folder, "least.c"), os.path.join(world.folder, "least")
    records = os.path.join(world.folder, "least.records")
    with open(source, "w", encoding="utf-8") as file:
        file.write(LEAST)
    if not shutil.which("cc"):
        print("\nplace: not measured, there is no C compiler")
        return
    subprocess.run(["cc", "-O2", "-static", "-o", least, source], check=True)
    os.mkdir(records, 0o777)
    os.chmod(records, 0o777)
    timed(lambda: world.tripmine("run", "--jail", "landlock", "host", "--", "true"))
    ours, theirs = pairs(lambda: world.tripmine("run", "--jail", "landlock", "host", "--", "true"),
                         lambda: world.spawn([least, records, "true"]), count)
    plain = [timed(lambda: world.spawn(["/usr/bin/true"])) for _ in range(count)]
    report("launch of `true` in place", ("tripmine --jail landlock", "fork + exec + least keeper"), (ours, theirs))
    print(f"  plain fork + exec of the same command: median {statistics.median(plain):.2f} ms", flush=True)


def machine(world):
    model = "unknown processor"
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    who = world.user or pwd.getpwuid(os.getuid()).pw_name
    load = os.getloadavg()[0]
    print(f"{model}, {os.cpu_count()} processors, {memory:.0f} GiB, Linux {platform.release()}, as {who}, load {load:.2f}")
    print(world.text("version").strip(), flush=True)


def by_the_user(bench):
    """A bench in a process that has become the user: to change the user for each program that is started costs Python a whole
    fork each time, which is longer than what is measured here."""
    def run(world, count):
        if not world.identity:
            return bench(world, count)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(world.identity["group"])
                os.setuid(world.identity["user"])
                world.identity = {}
                bench(world, count)
                code = 0
            except SystemExit as error:
                print(error, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        if os.waitpid(child, 0)[1] != 0:
            sys.exit(1)
    return run


def main(about, benches, much):
    """The command line of a file of benches: each with the numbers of a record run; `much` says what `-n` counts."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=[*benches, "all"])
    parser.add_argument("-n", type=int, help=f"{much}, instead of those of a record run")
    parser.add_argument("--bin", default=BINARY, help="the program under test [default: the release build]")
    parser.add_argument("--user", help="run everything as this user (when started by root)")
    options = parser.parse_args()
    if not os.path.exists(options.bin):
        sys.exit("there is no release build: cargo build --release --target x86_64-unknown-linux-musl")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    world = World(options)
    try:
        machine(world)
        for name in benches if options.bench == "all" else [options.bench]:
            bench, count = benches[name]
            bench(world, options.n or count)
    finally:
        world.close()


if __name__ == "__main__":
    # The memory of a thousand keepers is read by root.
    main(__doc__, {"launch": (by_the_user(launch), 300), "place": (by_the_user(place), 300), "exec": (by_the_user(execs), 200),
                   "flood": (by_the_user(flood), 256), "pipes": (by_the_user(pipes), 4096), "idle": (idle, 1000)},
         "pairs, cubes or megabytes")
