#!/usr/bin/env python3
"""What the screen promises about speed, measured on a real terminal: docs/BENCHMARKS.md, "The screen".

    benches/screen.py all                     everything; as an ordinary user or, with --user, started by root
    benches/screen.py first keys -n 20        some of it, short

A pseudo-terminal of 200x60 is read by a small model of a terminal; times are taken when the bytes arrive, before they
are looked at. A key's time ends with the end of the synchronized frame after which the model shows what the key did.
Nothing is written outside a temporary folder.
"""

import argparse
import concurrent.futures
import fcntl
import os
import platform
import re
import select
import signal
import statistics
import struct
import sys
import termios
import time

from bench import BINARY, World, quantile

COLUMNS, ROWS = 200, 60
FRAME_END = b"\x1b[?2026l"
SEQUENCE = re.compile(rb"\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[^\[\]P])")


class Screen:
    """The screen under test on a terminal of its own, and what that shows."""

    def __init__(self, world, *args):
        self.grid = [[" "] * COLUMNS for _ in range(ROWS)]
        self.at = (0, 0)
        self.rest = b""
        self.closed = False
        self.master, slave = os.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.begun = time.perf_counter_ns()
        # A session of its own whose first terminal this becomes; no fork of this interpreter is in the way.
        name = os.ttyname(slave)
        actions = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
        argv = [world.binary, *args]
        if world.user:
            os.chown(name, world.identity["user"], -1)
            argv = ["setpriv", f"--reuid={world.user}", f"--regid={world.identity['group']}", "--init-groups", "--inh-caps=-all",
                    "--", *argv]
        os.chdir(world.home)
        self.pid = os.posix_spawnp(argv[0], argv, world.env, file_actions=actions, setsid=True)
        os.close(slave)

    def text(self):
        return "\n".join("".join(row) for row in self.grid)

    def last_row(self):
        return "".join(self.grid[-1])

    def last_rows(self):
        """The line of keys and the status line."""
        return "\n".join("".join(row) for row in self.grid[-2:])

    def feed(self, data):
        """Cells only: where they go and what they say. A sequence that is cut off waits for its rest."""
        data = self.rest + data
        self.rest = b""
        place = 0
        while place < len(data):
            if data[place] == 0x1B:
                found = SEQUENCE.match(data, place)
                if not found:
                    self.rest = data[place:]
                    return
                if found.group(2) == b"H":
                    row, _, column = (found.group(1) or b"1;1").partition(b";")
                    self.at = (int(row or 1) - 1, int(column or 1) - 1)
                elif found.group(2) == b"J":
                    self.grid = [[" "] * COLUMNS for _ in range(ROWS)]
                place = found.end()
                continue
            end = data.find(b"\x1b", place)
            end = len(data) if end < 0 else end
            if end == len(data):
                # Half of a character at the end waits, too.
                while end > place and data[end - 1] & 0xC0 == 0x80:
                    end -= 1
                if end > place and data[end - 1] >= 0xC0:
                    end -= 1
                else:
                    end = len(data)
            row, column = self.at
            for character in data[place:end].decode("utf-8", "replace"):
                if row < ROWS and column < COLUMNS:
                    self.grid[row][column] = character
                column += 1
            self.at = (row, column)
            if end == place:
                self.rest = data[place:]
                return
            place = end

    def wait(self, done, patience=30.0, frame=True):
        """The time at which the frame arrived after which `done` is true; None when it never is."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            readable, _, _ = select.select([self.master], [], [], 0.2)
            if not readable:
                continue
            try:
                data = os.read(self.master, 1 << 20)
            except OSError:
                data = b""
            now = time.perf_counter_ns()
            if not data:
                self.closed = True
                return None
            ends = FRAME_END in (self.rest[-16:] + data)
            self.feed(data)
            if (ends or not frame) and done(self):
                return now
        return None

    def key(self, keys, done, patience=10.0):
        """Milliseconds from a key to the frame that shows what it did."""
        begun = time.perf_counter_ns()
        os.write(self.master, keys)
        shown = self.wait(done, patience)
        if shown is None:
            sys.exit(f"{keys!r} showed nothing within {patience} s:\n{self.text()}")
        return (shown - begun) / 1e6

    def settle(self, seconds):
        self.wait(lambda _: False, seconds)

    def status(self, field):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            return int(next(line for line in file if line.startswith(field)).split()[1])

    def threads(self):
        """Of every thread: nanoseconds on a processor, and how often it was put on one."""
        found = {}
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            folder = f"/proc/{self.pid}/task/{thread}"
            with open(f"{folder}/schedstat", encoding="utf-8") as file, open(f"{folder}/comm", encoding="utf-8") as comm:
                figures = file.read().split()
                found[(thread, comm.read().strip())] = (int(figures[0]), int(figures[2]))
        return found

    def close(self):
        os.kill(self.pid, signal.SIGTERM)
        self.wait(lambda _: False, 5)
        os.waitpid(self.pid, 0)
        os.close(self.master)


def fill(world, recorded, running):
    """`recorded` cubes, `running` of them running, all launched for real; those that have ended are kept ones, since of
    throwaways only the last few stay recorded."""
    have = sum(1 for _ in world.records())
    ended = recorded - running - have
    keep = lambda number: world.text("run", "-d", "--keep", f"cube-{number}", "host", "--", "true")
    launch = lambda _: world.text("run", "-d", "-t", "host", "--", "sleep", "1000000")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(keep, range(max(0, ended))))
        if not have:
            list(pool.map(launch, range(running)))


def line(name, values, target):
    print(f"  {name:52} n={len(values):<4} median {statistics.median(values):7.2f}  p95 {quantile(values, 0.95):7.2f}  "
          f"max {max(values):7.2f}  {target}", flush=True)


def first(world, options):
    fill(world, options.cubes, options.running)
    times, whole = [], []
    for turn in range(options.count + 3):
        screen = Screen(world)
        shown = screen.wait(lambda it: "machines" in it.text())
        lists = screen.wait(lambda it: f"of {options.cubes}" in it.text()) if f"of {options.cubes}" not in screen.text() else shown
        if turn >= 3:
            times.append((shown - screen.begun) / 1e6)
            whole.append((lists - screen.begun) / 1e6)
        screen.close()
    line(f"first frame after exec, {options.cubes} cubes, {options.running} running", times, "target 30")
    line("the same, until every list is filled", whole, "")


def flooded(world):
    """The screen, with a cube selected that prints without pause."""
    identity = world.text("run", "-d", "-t", "host", "--", "yes", "an endless flood of lines").strip()
    screen = Screen(world)
    screen.wait(lambda it: "3 cubes" in it.text())
    screen.key(b"3", lambda it: "cubes" in it.last_row())
    os.write(screen.master, b"gg")
    screen.wait(lambda it: "an endless flood" in it.text())
    return screen, identity


def keys(world, options):
    fill(world, options.cubes, options.running)
    screen, identity = flooded(world)
    moves, letters, helps = [], [], []
    for turn in range(options.count * 2):
        before = screen.last_row()
        moves.append(screen.key(b"j" if turn % 2 == 0 else b"k", lambda it, before=before: it.last_row() != before))
        # The hand of a person: what came of the key goes on in the meantime.
        screen.settle(0.05)
    screen.key(b"/", lambda it: "/" in it.text())
    for turn in range(options.count):
        if turn % 2 == 0:
            letters.append(screen.key(b"e", lambda it: "cubes /e" in it.text()))
        else:
            letters.append(screen.key(b"\x7f", lambda it: "cubes /e" not in it.text()))
        screen.settle(0.05)
    os.write(screen.master, b"\r")
    screen.settle(0.5)
    for _ in range(options.count // 2):
        helps.append(screen.key(b"?", lambda it: "help: cubes" in it.text()))
        screen.settle(0.05)
        # Escape alone waits 40 ms for what may follow it, by design: it is not among the figures.
        screen.key(b"\x1b", lambda it: "help: cubes" not in it.text())
        screen.settle(0.05)
    line("key to frame, up and down", moves, "target 16 (p95)")
    line("key to frame, a letter of the filter", letters, "target 16 (p95)")
    line("key to frame, help", helps, "target 16 (p95)")
    line("key to frame, all of these", moves + letters + helps, "target 16 (p95)")
    screen.close()
    world.text("kill", identity)


def idle(world, options):
    fill(world, options.cubes, options.running)
    for name, first_keys in (("machines selected", b"1"), ("a quiet running cube selected, watched", b"3gg")):
        rest(world, options, name, first_keys)
    world.text("stop", "--all", "--time", "0")
    rest(world, options, "nothing runs, a cube that has ended selected", b"3gg")


def rest(world, options, name, first_keys):
    """What an idle screen uses: time on a processor, by thread, and how often it wakes up."""
    screen = Screen(world)
    screen.wait(lambda it: "machines" in it.text())
    os.write(screen.master, first_keys)
    screen.settle(6)
    before, begun = screen.threads(), time.monotonic()
    screen.settle(options.seconds)
    taken, after = time.monotonic() - begun, screen.threads()
    used = {thread: [now - then for now, then in zip(figures, before.get(thread, (0, 0)))] for thread, figures in after.items()}
    by_thread = ", ".join(f"{name} {cpu / 1e6:.1f} ms in {turns} turns" for (_, name), (cpu, turns) in used.items() if turns)
    print(f"  idle {options.seconds} s, {name:45} cpu {sum(cpu for cpu, _ in used.values()) / 1e7 / taken:5.3f} %  (target 0.5)   "
          f"VmRSS {screen.status('VmRSS') / 1024:5.1f} MiB, most {screen.status('VmHWM') / 1024:5.1f} MiB (target 30); {by_thread}",
          flush=True)
    screen.close()


def most_memory(pid):
    """The most that a process ever had resident, in KiB; None when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def flood(world, options):
    """`yes | head -c 1G` in a cube: first it is watched beside its row, then it is typed into in a pane, in turns."""
    size = options.bytes
    command = f"yes 'an endless flood of lines' | head -c {size}; sleep 3; exit 7"
    identity = world.text("run", "-d", "-t", "host", "--", "sh", "-c", command).strip()
    begun = time.monotonic()
    record = next(record for record in world.records() if record["id"] == identity)
    keeper = record["keeper"]["pid"]
    screen = Screen(world)
    screen.wait(lambda it: "3 cubes" in it.text())
    screen.key(b"3", lambda it: "cubes" in it.last_row())
    os.write(screen.master, b"gg")
    screen.wait(lambda it: "an endless flood" in it.text())
    helps, letters, panes, leaves, most = [], [], [], [], 0
    try:
        while (now := most_memory(keeper)) is not None and time.monotonic() - begun < options.patience:
            most = max(most, now)
            helps.append(screen.key(b"?", lambda it: "help: cubes" in it.text()))
            letters.append(screen.key(b"s", lambda it: "\u203a s" in it.text()))
            screen.settle(0.05)
            # Escape alone waits 40 ms for what may follow it, by design: it is not among the figures.
            screen.key(b"\x1b", lambda it: "help: cubes" not in it.text())
            panes.append(screen.key(b"i", lambda it: "back to the lists" in it.last_rows()))
            screen.settle(0.2)
            os.write(screen.master, b"typed at it all the same")
            screen.settle(0.05)
            leaves.append(screen.key(b"\x1dd", lambda it: "back to the lists" not in it.last_rows()))
            screen.settle(0.05)
    except SystemExit:
        # The cube ended between two keys, so that there is nothing left to enter.
        if most_memory(keeper) is not None:
            raise
    taken = time.monotonic() - begun
    exited = next((record.get("exit") or {} for record in world.records() if record["id"] == identity), {})
    whole = exited.get("code") == 7
    line(f"help opened during {size >> 20} MiB of yes", helps, "target 100 (max)")
    line("a letter typed there", letters, "target 100 (max)")
    line("the pane entered", panes, "target 100 (max)")
    line("the pane left by the leader", leaves, "target 100 (max)")
    how = f"the whole flood, {size / 1e6 / taken:.0f} MB/s" if whole else "broken off, still printing"
    print(f"  keeper's most memory {most / 1024:.1f} MiB (target 64), the screen's {screen.status('VmHWM') / 1024:.1f} MiB; "
          f"{taken:.0f} s, {how}", flush=True)
    screen.close()
    if not whole:
        world.text("kill", identity)


ALL = {"first": first, "keys": keys, "idle": idle, "flood": flood}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=[*ALL, "all"])
    parser.add_argument("-n", dest="count", type=int, default=40)
    parser.add_argument("--bin", default=BINARY)
    parser.add_argument("--user")
    parser.add_argument("--cubes", type=int, default=1000)
    parser.add_argument("--running", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--patience", type=int, default=900, help="seconds after which the flood is broken off")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load = os.getloadavg()[0]
    print(f"# {platform.release()} {platform.machine()}, {os.cpu_count()} processors, load {load:.2f}, {options.bin}")
    world = World(options)
    try:
        for name in ALL if "all" in options.what else options.what:
            print(f"{name}:")
            ALL[name](world, options)
    finally:
        world.close()


if __name__ == "__main__":
    main()
