#!/usr/bin/env python3
"""The figures of microVMs in docs/BENCHMARKS.md: a launch against the bare VMM, the first file system, memory, exec.

    benches/microvm.py all --kernel FOLDER              a kernel package, unpacked (dpkg -x)
    benches/microvm.py launch --kernel FOLDER -n 5      one of them, short
    benches/microvm.py all --kernel FOLDER --accel kvm  where the processor executes guests

Emulated (tcg) unless it is told otherwise, and every line says which. Pairs alternate their sides, as in bench.py. The bare
side is the same QEMU with the same machine, kernel and first file system, and the same share daemon with an empty folder,
until the guest's agent opens its port: no jail, no keeper, no gateway, no root, no command.
"""

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import bench
from bench import BINARY, World, children, machine, report, wait_for

DAEMONS = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/bin/virtiofsd", "/usr/lib/qemu/virtiofsd"]
QBOOT = ["/usr/share/qemu/qboot.rom", "/usr/share/qboot/bios.bin"]
MEMORY = "1024M"


def first(paths):
    return next((path for path in paths if os.path.exists(path)), None)


def khz():
    """The rate of the processor's own counter, as tripmine measures it: rdtsc over a tenth of a second."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f3148c1e2204809d0c3"))
    place = ctypes.addressof(ctypes.c_char.from_buffer(code))
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(place)
    begun, counted = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), rdtsc()
    time.sleep(0.1)
    taken, counted = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) - begun, rdtsc() - counted
    return counted * 1_000_000 // taken


def cached(world):
    folder = os.path.join(world.home, ".cache/tripmine/vm")
    with open(os.path.join(folder, "last.json"), encoding="utf-8") as file:
        return folder, json.load(file)[1]


def bare_words(world, accel, folder):
    _, made = cached(world)
    line = "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests 8250.nr_uarts=1 tripmine_agent=1"
    if accel == "tcg":
        line += f" tsc_early_khz={khz()} tsc=reliable"
    return [
        "qemu-system-x86_64", "-M", "microvm,acpi=on,x-option-roms=off,memory-backend=mem",
        "-accel", "tcg,tb-size=32" if accel == "tcg" else accel,
        "-bios", first(QBOOT), "-cpu", "max" if accel == "tcg" else "host", "-smp", "1", "-m", MEMORY,
        "-object", f"memory-backend-memfd,id=mem,size={MEMORY},share=on", "-nodefaults", "-no-user-config",
        "-display", "none", "-no-reboot",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-chardev", f"socket,id=monitor,path={folder}/q.sock,server=on,wait=off", "-mon", "chardev=monitor,mode=control",
        "-serial", "null", "-global", "virtio-mmio.force-legacy=false",
        "-device", "virtio-serial-device,id=ports,max_ports=2",
        "-chardev", f"socket,id=agent,path={folder}/a.sock,server=on,wait=off",
        "-device", "virtserialport,id=port,bus=ports.0,chardev=agent,name=agent",
        "-chardev", f"socket,id=share,path={folder}/fs.sock",
        "-device", "vhost-user-fs-device,chardev=share,tag=root,queue-size=1024",
        "-kernel", made["image"], "-initrd", made["quiet"], "-append", line,
    ]


def bare(world, accel):
    """Milliseconds until the agent of a guest without anything of tripmine around it opens its port."""
    folder = tempfile.mkdtemp(prefix="tmbare", dir="/tmp")
    share, quiet = os.path.join(folder, "share"), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    os.mkdir(share)
    words = bare_words(world, accel, folder)
    daemon_path = first(DAEMONS)
    options = (["-o", f"source={share},sandbox=chroot,cache=auto,xattr"] if "qemu" in daemon_path
               else ["--shared-dir", share, "--sandbox", "none", "--cache", "auto", "--xattr"])
    begun = time.perf_counter_ns()
    daemon = subprocess.Popen([daemon_path, f"--socket-path={folder}/fs.sock", *options], **quiet)
    vmm = None
    try:
        while not os.path.exists(f"{folder}/fs.sock"):
            time.sleep(0.001)
        vmm = subprocess.Popen(words, **quiet)
        monitor = socket.socket(socket.AF_UNIX)
        while True:
            with contextlib.suppress(OSError):
                monitor.connect(f"{folder}/q.sock")
                break
            if vmm.poll() is not None:
                sys.exit(f"the bare VMM ended with {vmm.returncode}")
            time.sleep(0.001)
        events = monitor.makefile("rw")
        events.readline()
        events.write('{"execute":"qmp_capabilities"}\n')
        events.flush()
        for line in events:
            event = json.loads(line)
            if event.get("event") == "VSERPORT_CHANGE" and event["data"]["open"]:
                return (time.perf_counter_ns() - begun) / 1e6
        sys.exit("the bare guest ended before its agent was there")
    finally:
        for process in (vmm, daemon):
            if process:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def run_words(accel):
    return ["run", "host", "--jail", "microvm", "--vm-accel", accel, "--memory", MEMORY]


def first_byte(world, accel):
    begun = time.perf_counter_ns()
    child = world.tripmine(*run_words(accel), "-T", "--", "echo", "x", stdout=subprocess.PIPE)
    if child.stdout.read(1) != b"x":
        sys.exit("the guest printed nothing")
    taken = (time.perf_counter_ns() - begun) / 1e6
    child.stdout.read()
    child.wait()
    return taken


def launch(world, accel, count):
    ours, theirs = [], []
    for index in range(count + 1):
        for side in (0, 1) if index % 2 == 0 else (1, 0):
            taken = bare(world, accel) if side else first_byte(world, accel)
            if index:
                (theirs if side else ours).append(taken)
    report(f"launch to the first byte of the entry, {accel}, against the bare VMM", ("tripmine", "bare"), (ours, theirs))


def initramfs(world, accel, count):
    folder, made = cached(world)
    for name, what in (("quiet", "without a net"), ("connected", "with a captured net")):
        print(f"initramfs {what}: {os.path.getsize(made[name]) / (1 << 20):.2f} MiB")
    ours, warm = [], []
    for _ in range(max(count, 5)):
        for name in os.listdir(folder):
            if name.startswith(("initramfs", "last")):
                os.unlink(os.path.join(folder, name))
        for times in (ours, warm):
            begun = time.perf_counter_ns()
            world.tripmine("vm", "show").wait()
            times.append((time.perf_counter_ns() - begun) / 1e6)
    print("the first of a pair builds both archives and hashes the kernel, which is unpacked already:")
    report("`vm show`, built against cached", ("built", "cached"), (ours, warm))


def tree(pid):
    found = [pid]
    for child in children(pid):
        found += tree(child)
    return found


def memory_of(pid):
    """MiB of one process: memory of its own that no file backs, files that it has mapped (a part, where others have them
    mapped too), and the guest's memory."""
    own = files = guest = 0
    theirs = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                theirs = len(words) > 5 and words[5].startswith("/memfd:memory-backend")
                share = 0
            elif words[0] == "Pss:":
                share = int(words[1])
                guest += share if theirs else 0
            elif words[0] == "Anonymous:" and not theirs:
                # Of a process's own pages that were shared by a fork the whole is counted: more than it is, never less.
                own += int(words[1])
                files += max(share - int(words[1]), 0)
    return own / 1024, files / 1024, guest / 1024


@contextlib.contextmanager
def guest(world, accel):
    name = world.text(*run_words(accel), "-d", "--", "/bin/sh", "-c", "echo is-up; exec sleep 1000").strip()
    wait_for(lambda: "is-up" in world.text("logs", name), 180)
    try:
        yield name
    finally:
        world.tripmine("kill", name).wait()


def memory(world, accel, _count):
    with guest(world, accel) as name:
        record = next(record for record in world.records() if record["id"] == name)
        total = [0, 0, 0]
        for pid in [record["keeper"]["pid"], *tree(record["init"]["pid"])]:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                comm = file.read().strip()
            found = memory_of(pid)
            total = [a + b for a, b in zip(total, found)]
            print(f"  {comm:16} of its own {found[0]:6.1f} MiB, files {found[1]:6.1f}")
        print(f"memory beyond the guest's, {accel}: {total[0]:.1f} MiB of its own, {total[1]:.1f} MiB of files that are mapped"
              f" (the kernel's image, programs); the guest has touched {total[2]:.1f} MiB")


def execs(world, accel, count):
    with guest(world, accel) as name:
        world.tripmine("exec", name, "--", "true").wait()
        times = []
        for _ in range(max(count * 5, 20)):
            begun = time.perf_counter_ns()
            world.tripmine("exec", "-T", name, "--", "true").wait()
            times.append((time.perf_counter_ns() - begun) / 1e6)
        print(f"exec of `true` in a guest, {accel}, the whole command: median {bench.quantile(times, 0.5):.1f} ms,"
              f" p95 {bench.quantile(times, 0.95):.1f}, min {min(times):.1f}, n = {len(times)}")


WORK = {"launch": launch, "initramfs": initramfs, "memory": memory, "exec": execs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*WORK, "all"])
    parser.add_argument("--kernel", required=True, help="a kernel, or a folder with an unpacked package")
    parser.add_argument("--accel", choices=["tcg", "kvm"], default="tcg")
    parser.add_argument("--bin", default=BINARY)
    parser.add_argument("--user", help="run as this user (started by root)")
    parser.add_argument("-n", type=int, default=10, help="pairs")
    options = parser.parse_args()
    world = World(options)
    try:
        machine(world)
        print(f"accelerator: {options.accel}" + (" (software emulation)" if options.accel == "tcg" else ""))
        world.text("vm", "setup", "--kernel", options.kernel, "--accel", options.accel)
        for name in WORK if options.what == "all" else [options.what]:
            WORK[name](world, options.accel, options.n)
    finally:
        world.close()


if __name__ == "__main__":
    main()
