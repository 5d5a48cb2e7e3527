//! Rows R of the promises: a cube that takes all it can hurts only itself, and the user is told which limit it met.
//! These load the machine, so they run one at a time.

use std::time::{Duration, Instant};

use crate::env::{Env, PATIENCE, alone, finish, is_root, skip};

/// R01.
#[test]
fn processes_and_files_have_hard_limits() {
    let env = Env::new();
    for options in [&[][..], &["--user", "root"]] {
        let output = env.inside_with(options, "ulimit -Hn; (ulimit -Hp || ulimit -Hu) 2>/dev/null; cat /proc/self/limits | grep -E 'processes|open files'");
        for line in output.ok(0).lines().filter(|line| line.starts_with("Max")) {
            assert!(!line.contains("unlimited"), "{options:?}: {line}");
        }
    }
    let output = env.inside_with(
        &["--pids", "77"],
        "grep processes /proc/self/limits; cat /sys/fs/cgroup/pids.max 2>/dev/null; true",
    );
    assert!(
        output.ok(0).contains("77") || env.record()["limits"].to_string().contains("pids 77, cgroup"),
        "{output:?}"
    );
}

/// R02. Guards: the pids cgroup, else RLIMIT_NPROC inside the user namespace. Another cube must stay quick.
#[test]
fn a_fork_bomb_is_bounded() {
    let _alone = alone();
    let env = Env::new();
    // Each process tries to make two more for ever; the first reports what it met.
    let bomb = "perl -e '$SIG{CHLD}=\"IGNORE\"; my $met=0; my $n=0; for (1..3000) { my $p = fork(); if (!defined $p) { $met=1; last } if (!$p) { sleep 60; exit } $n++ } print \"met=$met n=$n\\n\"; '";
    let output = env.inside_with(&["--pids", "64"], bomb);
    if output.code == 127 {
        return skip("a_fork_bomb_is_bounded", "there is no perl in /usr");
    }
    let text = output.ok(0);
    let count: u32 = text.trim().rsplit('=').next().unwrap().parse().unwrap();
    assert!(text.contains("met=1") && count <= 64, "{text}");
    // The exponential kind, left alone for a while, beside a second cube.
    let other = Env::new();
    let mut bomb = env.command([
        "run",
        "host",
        "--pids",
        "200",
        "--timeout",
        "5s",
        "--",
        "/bin/sh",
        "-c",
        "b() { b | b & }; b; sleep 60",
    ]);
    let child = bomb.spawn().unwrap();
    let begun = Instant::now();
    let mut worst = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(3) {
        let start = Instant::now();
        other.inside("true").ok(0);
        worst = worst.max(start.elapsed());
    }
    println!("the slowest launch beside the bomb took {worst:?}");
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    finish(child, PATIENCE);
    crate::left::assert_nothing_left(&env);
}

/// R03. Guards: the memory cgroup, else the watching keeper. The reason names the limit.
#[test]
fn a_memory_hog_is_ended_with_its_reason() {
    let _alone = alone();
    let env = Env::new();
    let hog = "my @a; for (1..400) { push @a, 'x' x (1 << 20); select(undef, undef, undef, 0.01) } print \"alive\\n\"; sleep 20";
    let output = env.tripmine(["run", "host", "--memory", "64M", "--", "perl", "-e", hog]);
    if output.code == 127 {
        return skip("a_memory_hog_is_ended_with_its_reason", "there is no perl in /usr");
    }
    assert_eq!(output.code, 137, "{output:?}");
    assert!(!output.stdout.contains("alive"), "{output:?}");
    assert!(output.stderr.contains("out of memory") && output.stderr.contains("64M"), "{output:?}");
    assert_eq!(env.record()["exit"]["reason"]["kind"], "out-of-memory");
    // A child that is killed is the cube's own affair, but it is killed.
    let child = format!("perl -e '{}' & wait $!; echo \"child $?\"", hog.replace('\'', "\""));
    let output = env.inside_with(&["--memory", "64M"], &child);
    assert!(!output.stdout.contains("alive"), "{output:?}");
}

/// A limit that the kernel itself must enforce is refused where it cannot, and enforced where it can.
#[test]
fn a_required_limit_is_never_watched() {
    let env = Env::new();
    let output = env.tripmine(["run", "host", "--memory", "64M!", "--", "true"]);
    if output.code == 0 {
        let limits = env.record()["limits"].to_string();
        assert!(limits.contains("memory 64M, cgroup"), "{limits}");
    } else {
        assert!(output.stderr.contains("memory") && output.stderr.contains("hint"), "{output:?}");
        assert!(!is_root() || !std::path::Path::new("/sys/fs/cgroup/memory").exists(), "{output:?}");
    }
}

/// R04. Guards: the size of the upper's tmpfs. Every writable place outside home and project counts.
#[test]
fn a_full_disk_is_the_cubes_own() {
    let _alone = alone();
    let env = Env::new();
    for place in ["/tmp", "/var/tmp", "/etc", "/dev/shm", "/run"] {
        let script = format!(
            "dd if=/dev/zero of={place}/full bs=1M count=64 2>&1; ls -l {place}/full | awk '{{print $5}}'"
        );
        let output = env.inside_with(&["--disk", "16M", "--user", "root"], &script);
        assert!(output.stdout.contains("No space left"), "{place}: {output:?}");
        let size: u64 = output.stdout.lines().last().unwrap().trim().parse().unwrap();
        assert!(size <= 16 << 20, "{place}: {size}");
    }
    // One quota for all of them together, inodes too.
    let output = env.inside_with(&["--disk", "16M"], "i=0; while [ $i -lt 5 ]; do dd if=/dev/zero of=/tmp/f$i bs=1M count=8 2>&1 | grep -o 'No space left'; i=$((i+1)); done; true");
    assert!(output.stdout.contains("No space left"), "{output:?}");
    let inodes = env.inside_with(
        &["--disk", "16M"],
        "perl -e 'for (1..400000) { open(my $f, \">\", \"/tmp/i$_\") or do { print \"stopped\\n\"; last } }'",
    );
    if inodes.code != 127 {
        assert_eq!(inodes.ok(0), "stopped");
    }
}

/// Descriptors and terminals run out for the cube, not for the host.
#[test]
fn descriptors_and_terminals_run_out_inside_only() {
    let _alone = alone();
    let env = Env::new();
    let script = r#"my @f; for (1..200000) { open(my $f, "<", "/dev/null") or do { print "files $_ $!\n"; last }; push @f, $f }"#;
    let output = env.tripmine(["run", "host", "--", "perl", "-e", script]);
    if output.code == 127 {
        return skip("descriptors_and_terminals_run_out_inside_only", "there is no perl in /usr");
    }
    assert!(output.ok(0).contains("Too many open files"), "{output:?}");
    let script = r#"my @f; for (1..6000) { open(my $f, "+<", "/dev/ptmx") or do { print "ptys $_\n"; last }; push @f, $f } print "end\n""#;
    assert!(env.tripmine(["run", "host", "--", "perl", "-e", script]).ok(0).ends_with("end"));
    // The host still has some.
    let mut pty = crate::pty::Pty::tripmine(&env, &["run", "host", "--", "echo", "fine"]);
    pty.wait_for("fine");
    assert_eq!(pty.wait_exit(PATIENCE), 0);
}

/// `--timeout` ends what does not end, whatever it ignores.
#[test]
fn the_time_limit_ends_what_ignores_it() {
    let env = Env::new();
    let begun = Instant::now();
    let output = env.tripmine(["run", "host", "--timeout", "1s", "--", "/bin/sh", "-c", "sleep 60"]);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(output.code >= 124 && output.stderr.contains("time"), "{output:?}");
    assert_eq!(env.record()["exit"]["reason"]["kind"], "timeout");
}

/// Guards: the cube's own limit of inotify(7). What a cube takes counts for its user, who would hear of no changed file any more.
#[test]
fn a_cube_leaves_its_user_file_watches() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip("a_cube_leaves_its_user_file_watches", "there is no /usr/bin/python3");
    }
    let env = Env::new();
    let script = "import ctypes, sys
libc, count = ctypes.CDLL(None), 0
while libc.inotify_init1(0) >= 0: count += 1
print(count, flush=True)
sys.stdin.read()";
    let mut command = env.command(["run", "host", "--", "/usr/bin/python3", "-c", script]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 16];
    let count = std::io::Read::read(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    let taken: u32 = std::str::from_utf8(&said[..count]).unwrap().trim().parse().unwrap();
    let all: u32 =
        std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap().trim().parse().unwrap();
    let left = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::empty());
    drop(child.stdin.take());
    finish(child, PATIENCE).ok(0);
    assert!(taken > 0 && taken <= (all / 2).max(1), "{taken} of {all}");
    // Root's cubes are other users' on the host; whoever shares the user with this test may have some himself.
    assert!(left.is_ok(), "{left:?}");
}

/// Guards: limits of open files below the user's own, and below init's. Descriptors under way in sockets are counted for each
/// user over all cubes, and who may have fewer open is refused: launches, terminals in other cubes, the user's desktop.
#[test]
fn descriptors_that_a_cube_has_under_way_stop_nobody_else() {
    let name = "descriptors_that_a_cube_has_under_way_stop_nobody_else";
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip(name, "there is no /usr/bin/python3");
    }
    let _alone = alone();
    let env = Env::new();
    let other = env.tripmine(["run", "host", "-d", "--", "sleep", "100"]);
    let other = other.ok(0).trim();
    let script = "import array, os, resource, socket, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
sockets, sent, many = [], 0, array.array('i', [os.pipe()[0]] * 250)
try:
    while sent < 1 << 20:
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        a.setblocking(False)
        sockets += [a, b]
        try:
            while True:
                a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
                sent += len(many)
        except BlockingIOError:
            pass
except OSError as error:
    print(error.errno, flush=True)
sys.stdin.read()";
    let mut command = env.command(["run", "host", "--", "/usr/bin/python3", "-c", script]);
    let mut flood = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 16];
    let count = std::io::Read::read(flood.stdout.as_mut().unwrap(), &mut said).unwrap();
    // ETOOMANYREFS: it has as many as it may.
    assert_eq!(std::str::from_utf8(&said[..count]).unwrap().trim(), "109");
    let shell = |line: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", line]).env_clear().envs(env.variables()).stdin(std::process::Stdio::null());
        let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
        finish(child.unwrap(), PATIENCE)
    };
    let launch = format!("ulimit -Sn 512; exec {:?} run host -- echo launched", env.binary());
    assert_eq!(shell(&launch).ok(0), "launched");
    let mut typed =
        crate::pty::Pty::tripmine(&env, &["exec", other, "--", "/bin/sh", "-c", "echo in a terminal"]);
    typed.wait_for("in a terminal");
    assert_eq!(typed.wait_exit(PATIENCE), 0);
    let entered = format!("ulimit -Sn 512; exec {:?} exec {other} -- echo entered", env.binary());
    assert_eq!(shell(&entered).ok(0), "entered");
    drop(flood.stdin.take());
    finish(flood, PATIENCE).ok(0);
    env.tripmine(["kill", other]).ok(0);
}

/// Guards: the cube's own limit of signals that wait, which are counted for its user over all that is his. A timer of his needs one.
#[test]
fn a_cube_leaves_its_user_signals() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip("a_cube_leaves_its_user_signals", "there is no /usr/bin/python3");
    }
    let _alone = alone();
    let env = Env::new();
    let script = "import ctypes, os, resource, signal, sys
hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]
resource.setrlimit(resource.RLIMIT_SIGPENDING, (hard, hard))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
libc, sent = ctypes.CDLL(None), 0
while sent < 1 << 20 and libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), ctypes.c_void_p(0)) == 0:
    sent += 1
print(sent, flush=True)
sys.stdin.read()";
    let mut command = env.command(["run", "host", "--", "/usr/bin/python3", "-c", script]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 16];
    let count = std::io::Read::read(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    let sent: u64 = std::str::from_utf8(&said[..count]).unwrap().trim().parse().unwrap();
    let all = rustix::process::getrlimit(rustix::process::Resource::Sigpending).maximum.unwrap_or(u64::MAX);
    drop(child.stdin.take());
    finish(child, PATIENCE).ok(0);
    assert!(sent > 0 && sent <= all / 2, "{sent} of {all}");
}
