//! Whoever is killed at whatever instant: nothing is left after the next command.
//!
//! `TRIPMINE_FAULTS` is the number of launches (60 without it), `TRIPMINE_SEED` repeats a run. The seed is printed.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::{Env, PATIENCE, alone, is_root, pid, signal, skip, until};
use crate::left;
use crate::verbs::verbs_missing;

/// Marsaglia's xorshift64: small, repeatable, good enough to choose instants.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = std::env::var("TRIPMINE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(now.subsec_nanos()) | 1);
        println!("TRIPMINE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn rounds() -> u64 {
    std::env::var("TRIPMINE_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Waits until the instant itself, not about then: a sleep alone has the kernel's timer slack.
fn wait_until(instant: Instant) {
    while Instant::now() < instant {
        std::hint::spin_loop();
    }
}

/// Children of a process, by the kernel's own list.
fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn ended(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_some()
}

/// Runs what clears dead cubes away, then counts.
fn sweep_and_count(env: &Env, what: &str) {
    // What ends by itself may take the moment that it needs.
    let output = env.tripmine(["ps", "-a"]);
    assert_eq!(output.code, 0, "{what}: {output:?}");
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let remains = left::remains(env);
        if remains.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            left::kill_all(env);
            panic!("{what}: left:\n{}", remains.join("\n"));
        }
        // A keeper that was still cleaning when we swept is no leak; what it leaves now would be.
        env.tripmine(["ps", "-a"]).ok(0);
    }
}

#[test]
fn killed_at_any_instant_nothing_is_left() {
    let _alone = alone();
    let env = Env::with_own_binary();
    if verbs_missing(&env) {
        return skip("killed_at_any_instant_nothing_is_left", "the verbs are not wired");
    }
    env.project("p");
    // The first launch makes home and skeleton; those stay.
    env.tripmine(["p", "--", "true"]).ok(0);
    let mut random = Random::seeded();
    let mut hits = [0_u32; 3];
    for round in 0..rounds() {
        let entry = [&["true"][..], &["sleep", "0.01"], &["/bin/sh", "-c", "sleep 300 & sleep 0.02"]]
            [usize::try_from(random.below(3)).unwrap()];
        let options: &[&str] = [&[][..], &["--user", "root"], &["--memory", "64M"], &["-t"]]
            [usize::try_from(random.below(4)).unwrap()];
        let victim = usize::try_from(random.below(3)).unwrap();
        let delay = Duration::from_micros(random.below(60_000));
        let begun = Instant::now();
        let mut face = env
            .command([options, &["p", "--"], entry].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let face_pid = pid(&face).as_raw_nonzero().get();
        wait_until(begun + delay);
        let keeper = children(face_pid).first().copied();
        let target = match victim {
            0 => Some(face_pid),
            1 => keeper,
            _ => keeper.and_then(|keeper| children(keeper).first().copied()),
        };
        if let Some(target) = target.filter(|_| !ended(&mut face)) {
            signal(target, Signal::KILL);
            hits[victim] += 1;
        }
        let what = format!("round {round}, victim {victim}, after {delay:?}, {options:?} {entry:?}");
        if victim == 0 {
            face.wait().unwrap();
            // The cube runs on without its face: end it as a user would.
            let stopped = env.tripmine(["stop", "--all", "--time", "0"]);
            assert!(matches!(stopped.code, 0 | 1), "{what}: {stopped:?}");
        } else {
            until(&format!("{what}: the face ends by itself"), PATIENCE, || ended(&mut face));
        }
        if round % 10 == 9 || round + 1 == rounds() || victim == 1 {
            sweep_and_count(&env, &what);
        }
    }
    println!("killed: {} faces, {} keepers, {} inits", hits[0], hits[1], hits[2]);
    assert!(hits.iter().all(|count| *count > 0) || rounds() < 20, "{hits:?}");
    env.inside("echo fine").ok(0);
}

/// SIGKILL in the teardown: the keeper is killed right after its entry has ended.
#[test]
fn killed_in_the_teardown_nothing_is_left() {
    let _alone = alone();
    let env = Env::with_own_binary();
    if verbs_missing(&env) {
        return skip("killed_in_the_teardown_nothing_is_left", "the verbs are not wired");
    }
    let mut random = Random::seeded();
    for round in 0..rounds() / 4 {
        let delay = Duration::from_micros(random.below(4_000));
        let mut face = env
            .command(["run", "host", "--", "/bin/sh", "-c", "head -c 4M /dev/zero > /tmp/x; echo end"])
            .spawn()
            .unwrap();
        let mut word = [0; 3];
        std::io::Read::read_exact(face.stdout.as_mut().unwrap(), &mut word).unwrap();
        let keeper = children(pid(&face).as_raw_nonzero().get()).first().copied();
        wait_until(Instant::now() + delay);
        if let Some(keeper) = keeper {
            signal(keeper, Signal::KILL);
        }
        until("the face ends by itself", PATIENCE, || ended(&mut face));
        sweep_and_count(&env, &format!("round {round}, {delay:?} after the end"));
    }
}

/// Power loss: the state as it is on disk at some instant, and nothing else.
#[test]
fn a_copied_state_is_a_good_start() {
    let env = Env::with_own_binary();
    if verbs_missing(&env) {
        return skip("a_copied_state_is_a_good_start", "the verbs are not wired");
    }
    env.tripmine(["run", "host", "-d", "--", "sleep", "300"]).ok(0);
    env.tripmine([
        "run",
        "host",
        "-d",
        "--keep",
        "box",
        "--",
        "/bin/sh",
        "-c",
        "echo kept > /etc/kept; sync; sleep 300",
    ])
    .ok(0);
    env.inside("echo mine > ~/mine").ok(0);
    until("it was written", PATIENCE, || {
        env.tripmine(["exec", "box", "--", "test", "-s", "/etc/kept"]).code == 0
    });
    let after = Env::new();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(env.tripmine_home.join("."))
        .arg(&after.tripmine_home)
        .output()
        .unwrap();
    // Sockets are no files, and the overlay's scratch folder opens to root only; neither outlives a power loss.
    let told = String::from_utf8_lossy(&copied.stderr).into_owned();
    let fine = |line: &str| line.contains("socket") || line.contains("system-copy");
    assert!(told.lines().all(fine), "{copied:?}");
    // Half a record, as a file system may leave it.
    let listed = after.tripmine(["ps", "-a"]);
    assert!(!listed.ok(0).contains("running"), "{listed:?}");
    assert_eq!(after.inside("cat ~/mine").ok(0), "mine");
    assert_eq!(after.inside_with(&["--keep", "box"], "cat /etc/kept").ok(0), "kept");
    after.tripmine(["rm", "--all", "--yes"]).ok(0);
    // The copies' records name the living processes of the original: they must not have been touched.
    assert_eq!(env.tripmine(["exec", "box", "--", "cat", "/etc/kept"]).ok(0), "kept");
    env.tripmine(["stop", "--all", "--time", "0"]).ok(0);
    env.tripmine(["rm", "--all", "--yes"]).ok(0);
    // Only now: as root the two share the names of their cgroups.
    left::assert_nothing_left(&env);
    left::assert_nothing_left(&after);
}

/// Torn and foreign files among the records: told, spared, and no obstacle.
#[test]
fn torn_records_are_no_obstacle() {
    let env = Env::new();
    if verbs_missing(&env) {
        return skip("torn_records_are_no_obstacle", "the verbs are not wired");
    }
    for content in ["", "{", "{\"version\": 99}", "null", "\0\0\0\0"] {
        env.inside("true").ok(0);
        let mut folders = left::cube_folders(&env);
        folders.retain(|folder| !folder.file_name().unwrap().to_string_lossy().starts_with('.'));
        let folder = folders.pop().unwrap();
        std::fs::write(folder.join("headers/record.json"), content).unwrap();
        assert!(matches!(env.tripmine(["ps", "-a"]).code, 0 | 1), "{content:?}");
        env.inside("true").ok(0);
    }
    // A keeper that has told of the end is still clearing up.
    let mines = env.tripmine_home.join("state/Mines");
    until("the records are removed", PATIENCE, || std::fs::remove_dir_all(&mines).is_ok() || !mines.exists());
}

/// Out of disk: a clear error or a cube that works, and the next command has nothing to clear.
#[test]
fn a_full_disk_leaves_nothing() {
    const NAME: &str = "a_full_disk_leaves_nothing";
    if !is_root() {
        return skip(NAME, "mounting a small tmpfs needs root");
    }
    let env = Env::new();
    if verbs_missing(&env) {
        return skip(NAME, "the verbs are not wired");
    }
    // In a mount namespace of its own, so that a failing test leaves no mount behind.
    let script = format!(
        "mount -t tmpfs -o size=3m,mode=700 tmpfs {home} || exit 77
        {bin:?} run host -- true; echo first=$?
        n=0; while head -c 4096 /dev/zero > {home}/fill$n 2>/dev/null; do n=$((n+1)); done
        {bin:?} run host -- true; echo full=$?
        {bin:?} run host -- /bin/sh -c 'head -c 200000 /dev/zero | tr \"\\0\" x > ~/big'; echo write=$?
        {bin:?} ps -a > /dev/null; echo ps=$?
        rm -f {home}/fill*
        {bin:?} run host -- echo works; {bin:?} ps -a > /dev/null; echo after=$?
        for i in $(seq 100); do [ -z \"$(ls {home}/run)\" ] && break; sleep 0.1; done
        ls {home}/run; ls -d {home}/state/Mines/*/system-copy 2>/dev/null; echo end",
        home = env.tripmine_home.display(),
        bin = env.binary(),
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", &script]).env_clear().envs(env.variables());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = crate::env::finish(command.spawn().unwrap(), PATIENCE);
    if output.code == 77 || output.code == 1 {
        return skip(NAME, "no tmpfs can be mounted here");
    }
    let text = output.ok(0);
    assert!(text.contains("first=0"), "{output:?}");
    assert!(text.contains("full=125") || text.contains("full=0"), "{output:?}");
    assert!(text.contains("ps=0") && text.contains("works\nafter=0"), "{output:?}");
    assert!(text.ends_with("after=0\nend"), "left: {output:?}");
}
