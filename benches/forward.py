#!/usr/bin/env python3
"""Forwards against direct loopback, side by side in one run: throughput, and what a connection's set-up costs more.

    python3 benches/forward.py [PROGRAM] [--rounds N] [--mib N] [--setups N]

The same server and the same client each time; only the way between them differs. Rounds alternate, so that a busy
machine troubles both alike. Prints every figure it measured as min / median / max. Needs nothing but python3; where
socat is installed it is measured as well, between the same two ends: what a relay that decides nothing gets here.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SERVER = r"""
import os, socket, sys, threading
MIB = bytes(1 << 20)
def serve(c):
    with c:
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        word = c.recv(1)
        if word == b"e":
            while (got := c.recv(1)):
                c.sendall(got)
        elif word == b"d":
            for _ in range(int.from_bytes(c.recv(4), "big")):
                c.sendall(MIB)
        elif word == b"u":
            left = int.from_bytes(c.recv(4), "big") << 20
            into = bytearray(1 << 20)
            while left > 0 and (got := c.recv_into(into)):
                left -= got
            c.sendall(b"k")
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(512)
print(s.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


def connect(port):
    c = socket.create_connection(("127.0.0.1", port))
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return c


def download(port, mib):
    """MB/s out of the server."""
    into = bytearray(1 << 20)
    with connect(port) as c:
        begun = time.perf_counter()
        c.sendall(b"d" + mib.to_bytes(4, "big"))
        left = mib << 20
        while left > 0:
            got = c.recv_into(into)
            if got == 0:
                raise RuntimeError("the stream ended early")
            left -= got
        return (mib << 20) / 1e6 / (time.perf_counter() - begun)


def upload(port, mib):
    """MB/s into the server."""
    block = bytes(1 << 20)
    with connect(port) as c:
        begun = time.perf_counter()
        c.sendall(b"u" + mib.to_bytes(4, "big"))
        for _ in range(mib):
            c.sendall(block)
        if c.recv(1) != b"k":
            raise RuntimeError("the stream ended early")
        return (mib << 20) / 1e6 / (time.perf_counter() - begun)


def setup(port):
    """Microseconds from connect to the first byte back."""
    begun = time.perf_counter()
    with connect(port) as c:
        c.sendall(b"e1")
        if c.recv(1) != b"1":
            raise RuntimeError("no echo")
        return (time.perf_counter() - begun) * 1e6


def bounce(port, count):
    """Microseconds for one byte there and back on an open connection."""
    with connect(port) as c:
        c.sendall(b"e")
        begun = time.perf_counter()
        for _ in range(count):
            c.sendall(b"1")
            c.recv(1)
        return (time.perf_counter() - begun) * 1e6 / count


def shown(values, unit):
    return f"{min(values):9.1f} / {statistics.median(values):9.1f} / {max(values):9.1f} {unit}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="?", default="tripmine")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--setups", type=int, default=300)
    options = parser.parse_args()
    program = shutil.which(options.program) or options.program
    folder = tempfile.mkdtemp(prefix="tmb", dir="/tmp")
    os.mkdir(f"{folder}/h")
    env = {"PATH": os.environ["PATH"], "HOME": f"{folder}/h", "TRIPMINE_HOME": f"{folder}/t", "LANG": "C.UTF-8"}

    def tripmine(*words):
        return subprocess.run([program, *words], env=env, check=True, capture_output=True, text=True).stdout.strip()

    direct = subprocess.Popen([sys.executable, "-c", SERVER, "0"], stdout=subprocess.PIPE, text=True)
    cube = peer = None
    try:
        ports = {"direct": int(direct.stdout.readline())}
        if shutil.which("socat"):
            with socket.create_server(("127.0.0.1", 0)) as spare:
                ports["socat"] = spare.getsockname()[1]
            peer = subprocess.Popen(["socat", "-b", str(1 << 20), f"TCP-LISTEN:{ports['socat']},bind=127.0.0.1,fork,nodelay,backlog=512",
                                     f"TCP:127.0.0.1:{ports['direct']},nodelay"], stderr=subprocess.DEVNULL)
        cube = tripmine("run", "host", "-d", "-p", "0:7000", "--", "python3", "-c", SERVER, "7000")
        opened = json.loads(tripmine("forward", "--list", "--json"))["forwards"][0]["forward"]["map"]
        ports["forward"] = int(opened.split(":")[0])
        deadline = time.monotonic() + 20
        while True:
            try:
                setup(ports["forward"])
                break
            except (OSError, RuntimeError):
                if time.monotonic() > deadline:
                    raise
        figures = {}
        for _ in range(options.rounds):
            for way, port in ports.items():
                for name, unit, value in [
                    ("out", "MB/s", download(port, options.mib)),
                    ("in", "MB/s", upload(port, options.mib)),
                    ("echo", "us", bounce(port, 500)),
                ]:
                    figures.setdefault((name, unit), {}).setdefault(way, []).append(value)
        for _ in range(options.setups):
            for way, port in ports.items():
                figures.setdefault(("set-up", "us"), {}).setdefault(way, []).append(setup(port))
        print("min / median / max")
        for (name, unit), ways in figures.items():
            for way, values in ways.items():
                print(f"{name:7} {way:8} {shown(values, unit)}")
            b = statistics.median(ways["forward"])
            for way in ways.keys() - {"forward"}:
                a = statistics.median(ways[way])
                more = f"{100 * b / a:.1f} % of" if unit == "MB/s" else f"{b - a:+.1f} us to"
                print(f"{name:7} {'':8} {more} {way}")
    finally:
        for process in filter(None, [direct, peer]):
            process.kill()
            process.wait()
        if cube:
            tripmine("stop", "-t", "0", cube)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
