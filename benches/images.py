#!/usr/bin/env python3
"""The figures of images in docs/BENCHMARKS.md: snapshots, imports, pulls, launches from layers, lists.

    benches/images.py all                       everything that this host has rivals for
    benches/images.py snapshot -n 5             one of them, short
    benches/images.py snapshot --on /mnt/xfs    with the store on another file system

Pairs alternate their sides, as in bench.py; what a run wrote is on the disk, or gone, before the next one begins. Rivals
are cp, umoci, podman and skopeo (Debian: umoci podman skopeo docker-registry); what is missing is said and not measured.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

import bench
from bench import BINARY, World, machine, report

REGISTRY = 5411

# Makes a tree of FILES files and about MEGABYTES: sizes as systems have them, half of it in a few large files, folders
# of forty, some links, contents that do not compress to nothing.
MAKE = """
import os, random, sys
where, files, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance, noise = random.Random(7), os.urandom(1 << 22)
small, large = files - 40, 40
weights = [chance.lognormvariate(8, 1.6) for _ in range(small)]
scale = megabytes * (1 << 20) / 2 / sum(weights)
sizes = [int(weight * scale) for weight in weights] + [megabytes * (1 << 20) // 2 // large] * large
chance.shuffle(sizes)
for number, size in enumerate(sizes):
    folder = os.path.join(where, 'd%d' % (number // 1600), 'e%d' % (number // 40))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'f%d' % number), 'wb') as file:
        while size > 0:
            at = chance.randrange(1 << 21)
            size -= file.write(noise[at:at + min(size, 1 << 20)])
    if number % 50 == 0:
        os.symlink('f%d' % number, os.path.join(folder, 'l%d' % number))
"""


def run(world, argv, **more):
    """Runs a command to its end: seconds, and the peak memory of it and its children in MiB."""
    begun = time.monotonic()
    child = world.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    taken = time.monotonic() - begun
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, argv[:6]))}…: {child.returncode}: {said.decode(errors='replace')}")
    return taken, usage.ru_maxrss / 1024, said.decode(errors="replace")


def settle():
    os.sync()


def duel(title, ours, theirs, count):
    """Alternating pairs of (prepare, measure) sides; milliseconds. The first pair does not count."""
    times = ([], [])
    for index in range(count + 1):
        for side in (0, 1) if index % 2 == 0 else (1, 0):
            name, before, work = (ours, theirs)[side]
            before()
            settle()
            taken = work()
            if index > 0:
                times[side].append(taken * 1000)
    report(title, (ours[0], theirs[0]), times)


def first(world, image):
    """What the first launch waits for: layers that are still packed. A plan alone unpacks them, too."""
    taken, memory, _ = run(world, [world.binary, "run", "--dry-run", image, "--", "true"])
    print(f"  unpacked by its first launch: {taken * 1000:.0f} ms, peak memory {memory:.1f} MiB (n = 1)")


def snapshot(world, count):
    project = os.path.join(world.home, "make")
    os.mkdir(project)
    with open(os.path.join(project, "make.py"), "w", encoding="utf-8") as file:
        file.write(MAKE)
    run(world, [world.binary, "run", "host", "--mount", project, "--keep", "big", "--user", "root", "--", "python3",
                "make.py", "/opt/tree", str(FILES), str(MEGABYTES)])
    upper = next(os.path.join(path, "upper") for path, folders, _ in os.walk(world.home)
                 if path.endswith("system-copy") and "upper" in folders)
    there = subprocess.run(["du", "-sm", upper], capture_output=True, text=True, check=False).stdout.split()[0]
    print(f"\nan upper of {there} MiB in {FILES} files")
    copy, peak = os.path.join(world.folder, "copy"), []

    def forget():
        subprocess.run([world.binary, "image", "rm", "--yes", "big"], env=world.env, capture_output=True, check=False,
                       **world.identity)
        shutil.rmtree(copy, ignore_errors=True)

    def ours():
        taken, memory, _ = run(world, [world.binary, "image", "snapshot", "--yes", "big", "big"])
        peak.append(memory)
        return taken

    duel("snapshot of a kept cube", ("image snapshot", forget, ours),
         ("cp -a", forget, lambda: run(world, ["cp", "-a", upper, copy])[0]), count)
    print(f"  peak memory of tripmine and its helpers: {max(peak):.1f} MiB")
    forget()
    ours()
    first(world, "big")
    # The same, running: how long it stands still.
    cube = world.text("-d", "--keep", "big", "--user", "root", "--mount", project, "--", "sleep", "600").strip()
    frozen = []
    for _ in range(count):
        forget()
        settle()
        said = run(world, [world.binary, "image", "snapshot", "--yes", "big", cube])[2]
        frozen.append(float(said.split("stood still for ")[1].split(" ms")[0]))
    print(f"  the running cube stood still for {statistics.median(frozen):.0f} ms median, {max(frozen):.0f} ms at most "
          f"(n = {len(frozen)})", flush=True)
    forget()


def tree_tar(world, files, megabytes, name="root.tar"):
    folder, path = os.path.join(world.folder, "tree"), os.path.join(world.folder, name)
    subprocess.run([sys.executable, "-c", MAKE, folder, str(files), str(megabytes)], check=True)
    subprocess.run(["tar", "--owner=0", "--group=0", "-C", folder, "-cf", path, "."], check=True)
    shutil.rmtree(folder)
    os.chmod(path, 0o644)
    return path


def imports(world, count):
    tar = tree_tar(world, 12000, 300)
    layout, store = os.path.join(world.folder, "umoci"), os.path.join(world.folder, "podman")
    peak = []

    def forget():
        subprocess.run([world.binary, "image", "rm", "--yes", "root"], env=world.env, capture_output=True, check=False,
                       **world.identity)

    def ours():
        taken, memory, _ = run(world, [world.binary, "image", "import", tar, "root"])
        peak.append(memory)
        return taken

    ours_side = ("image import", forget, ours)

    def umoci():
        begun = time.monotonic()
        run(world, ["umoci", "init", "--layout", layout])
        run(world, ["umoci", "new", "--image", f"{layout}:root"])
        run(world, ["umoci", "raw", "add-layer", "--image", f"{layout}:root", tar])
        run(world, ["umoci", "unpack", *([] if os.geteuid() == 0 and not world.user else ["--rootless"]),
                    "--image", f"{layout}:root", os.path.join(layout, "bundle")])
        return time.monotonic() - begun

    if shutil.which("umoci"):
        duel("import of a root tar of 300 MB, unpacked", ours_side,
             ("umoci raw add-layer, unpack", lambda: shutil.rmtree(layout, ignore_errors=True), umoci), count)
    else:
        print("import: not measured against umoci, which is not there")
    if shutil.which("podman") and os.geteuid() == 0 and not world.user:
        podman = ["podman", "--root", store, "--runroot", store + ".run", "--storage-driver", "overlay"]
        clean = lambda: subprocess.run([*podman, "rmi", "--all", "--force"], capture_output=True, check=False)
        duel("import of a root tar of 300 MB, unpacked", ours_side,
             ("podman import", clean, lambda: run(world, [*podman, "import", tar, "root"])[0]), count)
        clean()
    else:
        print("import: not measured against podman, which is not there or not started by root")
    print(f"  peak memory of tripmine and its helpers: {max(peak, default=0):.1f} MiB", flush=True)
    forget()


@contextlib.contextmanager
def registry(world):
    folder = os.path.join(world.folder, "registry")
    config = os.path.join(world.folder, "registry.yml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
                   f"http: {{addr: '127.0.0.1:{REGISTRY}'}}\n")
    server = world.spawn(["docker-registry", "serve", config])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{REGISTRY}/v2/", timeout=5).close()
                break
            time.sleep(0.1)
        yield f"127.0.0.1:{REGISTRY}"
    finally:
        server.terminate()
        server.wait()


def pull(world, count):
    if not shutil.which("docker-registry") or not shutil.which("skopeo"):
        return print("pull: not measured, there is no docker-registry or no skopeo")
    tar = tree_tar(world, 12000, 300)
    out = os.path.join(world.folder, "pulled")
    with registry(world) as host:
        run(world, [world.binary, "image", "import", "--compress", "gzip", tar, "root"])
        run(world, [world.binary, "image", "push", "--plain-http", "root", f"{host}/root:1"])
        run(world, [world.binary, "image", "rm", "--yes", "root"])
        duel("pull of 300 MB in one gzip layer from loopback",
             ("image pull to the store, packed", lambda: subprocess.run(
                 [world.binary, "image", "rm", "--yes", "pulled"], env=world.env, capture_output=True, check=False,
                 **world.identity),
              lambda: run(world, [world.binary, "image", "pull", "--plain-http", f"{host}/root:1", "pulled"])[0]),
             ("skopeo copy to oci:, packed", lambda: shutil.rmtree(out, ignore_errors=True),
              lambda: run(world, ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{host}/root:1",
                                  f"oci:{out}:1"])[0]), count)
        run(world, [world.binary, "image", "pull", "--plain-http", f"{host}/root:1", "pulled"])
        first(world, "pulled")


def launch(world, count):
    run(world, [world.binary, "run", "host", "--keep", "one", "--", "sh", "-c", "echo 1 > /opt/1"])
    run(world, [world.binary, "image", "snapshot", "--yes", "five", "one"])
    for number in range(2, 6):
        name = f"n{number}"
        run(world, [world.binary, "run", "five", "--keep", name, "--", "sh", "-c", f"echo {number} > /opt/{number}"])
        run(world, [world.binary, "image", "snapshot", "--yes", "five", name])
    print("\nlayers of `five`:", world.text("image", "show", "five").count("\nlayer"))
    times = bench.pairs(lambda: world.tripmine("run", "five", "--", "true"),
                        lambda: world.tripmine("run", "host", "--", "true"), count)
    report("launch of `true` from five layers", ("run five", "run host"), times)
    differences = sorted(a - b for a, b in zip(*times))
    print(f"  paired difference: median {statistics.median(differences):.2f} ms")
    root = os.path.join(world.folder, "root")
    own_root(root)
    run(world, [world.binary, "image", "import", root, "layers"])
    for number in range(4):
        name = f"l{number}"
        run(world, [world.binary, "run", "layers", "--user", "root", "--keep", name, "--", "sh", "-c", f": > /opt/{number}"])
        run(world, [world.binary, "image", "snapshot", "--yes", "layers", name])
    print("\nlayers of `layers`, a root of its own:", world.text("image", "show", "layers").count("\nlayer"))
    times = bench.pairs(lambda: world.tripmine("run", "layers", "--", "true"),
                        lambda: world.tripmine("run", "host", "--", "true"), count)
    report("launch of `true` from five layers", ("run layers", "run host"), times)
    differences = sorted(a - b for a, b in zip(*times))
    print(f"  paired difference: median {statistics.median(differences):.2f} ms", flush=True)


def own_root(root):
    """A root with a shell and `true` of this host."""
    for name in ("bin", "etc", "usr", "opt", "tmp"):
        os.makedirs(os.path.join(root, name))
    needed = set()
    for program in ("sh", "true"):
        path = os.path.realpath(os.path.join("/usr/bin", program))
        shutil.copy(path, os.path.join(root, "bin", program))
        for word in subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout.split():
            if word.startswith("/"):
                needed.add(word)
    for library in needed:
        to = root + library
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(library, to)


def lists(world, count):
    chance = random.Random(3)
    for number in range(1000):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            entry = tarfile.TarInfo(f"f{number}")
            body = chance.randbytes(600)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
        child = world.spawn([world.binary, "image", "import", "-", f"image-{number}"], stdin=subprocess.PIPE)
        child.communicate(data.getvalue())
        if child.returncode != 0:
            sys.exit("an import failed")
    times = [run(world, [world.binary, "image", "list"])[0] * 1000 for _ in range(count)]
    lines = world.text("image", "list").count("\n") - 1
    print(f"\nimage list with {lines} images: median {statistics.median(times):.1f} ms, at most {max(times):.1f} ms "
          f"(n = {count})", flush=True)


FILES, MEGABYTES = 20000, 1024
BENCHES = {"snapshot": (snapshot, 5), "import": (imports, 5), "pull": (pull, 5), "launch": (launch, 100), "list": (lists, 40)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=[*BENCHES, "all"])
    parser.add_argument("-n", type=int, help="pairs, instead of those of a record run")
    parser.add_argument("--bin", default=BINARY, help="the program under test [default: the release build]")
    parser.add_argument("--user", help="run everything as this user (when started by root)")
    parser.add_argument("--on", help="a folder: the store and its rivals are there")
    options = parser.parse_args()
    if not os.path.exists(options.bin):
        sys.exit("there is no release build: cargo build --release --target x86_64-unknown-linux-musl")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    world = World(options)
    if options.on:
        moved = tempfile.mkdtemp(prefix="tmb", dir=options.on)
        if world.identity:
            shutil.chown(moved, world.identity["user"], world.identity["group"])
        shutil.rmtree(world.folder)
        world.folder, options.bin = moved, os.path.abspath(options.bin)
        world.binary, world.home = os.path.join(moved, "tripmine"), os.path.join(moved, "home")
        shutil.copy2(options.bin, world.binary)
        world.env["HOME"] = world.home
        os.mkdir(world.home)
        if world.identity:
            shutil.chown(world.home, world.identity["user"], world.identity["group"])
    try:
        machine(world)
        for name in BENCHES if options.bench == "all" else [options.bench]:
            work, count = BENCHES[name]
            work(world, options.n or count)
    finally:
        world.close()


if __name__ == "__main__":
    main()
