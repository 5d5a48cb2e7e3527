//! The jail `landlock`: without a process namespace nothing ends by itself. Whoever is killed, and whatever the cube does to
//! escape its end, nothing of it is left.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::{Env, PATIENCE, alone, signal, until};

/// Processes whose environment names this test's folders: the cube's own, but for init and its warden.
fn of_cube(env: &Env) -> Vec<i32> {
    let mark = env.tripmine_home.to_str().unwrap().as_bytes().to_vec();
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            memchr::memmem::find(&environ, &mark).is_some() && *pid != own()
        })
        .collect()
}

fn own() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn lives(pid: i32) -> bool {
    // A zombie whose parent does not look is no process any more.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The keeper, the warden and init of the newest cube.
fn above(env: &Env) -> [i32; 3] {
    let record = env.record();
    let pid = |key: &str| i32::try_from(record[key]["pid"].as_i64().unwrap()).unwrap();
    let (keeper, init) = (pid("keeper"), pid("init"));
    let warden = parent(init);
    assert_eq!(parent(warden), keeper, "{record}");
    [keeper, warden, init]
}

#[track_caller]
fn nothing_is_left(env: &Env, above: [i32; 3], what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left: Vec<i32> = above.into_iter().filter(|pid| lives(*pid)).chain(of_cube(env)).collect();
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            for pid in &left {
                signal(*pid, Signal::KILL);
            }
            panic!("{what}: left {left:?} of {above:?}");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    env.tripmine(["ps", "-a"]).ok(0);
}

/// Daemons that left their parents and sessions, a family that goes on forking, one that ignores what can be ignored.
const HOSTILE: &str = r#"
    (setsid sh -c '(sleep 300 & sleep 300) & exec sleep 300' >/dev/null 2>&1 &)
    (setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 0.01; done' >/dev/null 2>&1 &)
    comet() { (sleep 0.005; comet) & }
    (setsid sh -c 'c() { (c) & }; n=0; while [ $n -lt 300 ]; do (sleep 0.002; :) & n=$((n+1)); done; exec sleep 300' >/dev/null 2>&1 &)
    (comet) >/dev/null 2>&1
    echo begun
"#;

fn launch(env: &Env, script: &str) {
    let script = format!("{HOSTILE}\n{script}");
    let launched = env.tripmine(["--jail", "landlock", "-d", "p", "--", "/bin/sh", "-c", &script]);
    // By its own name: one that has ended already is not the project's running cube any more.
    let id = launched.ok(0);
    until("it has begun", PATIENCE, || env.tripmine(["logs", id]).stdout.contains("begun"));
}

#[test]
fn whoever_is_killed_nothing_is_left() {
    let _alone = alone();
    let env = Env::new();
    env.project("p");
    for (victim, name) in [(0, "the keeper"), (1, "the warden"), (2, "init")] {
        launch(&env, "exec sleep 300");
        let above = above(&env);
        assert!(of_cube(&env).len() > 4, "{name}: the daemons are there");
        signal(above[victim], Signal::KILL);
        nothing_is_left(&env, above, name);
    }
    for (command, name) in [(&["kill", "p"][..], "kill"), (&["stop", "--time", "0", "p"], "stop")] {
        launch(&env, "exec sleep 300");
        let above = above(&env);
        env.tripmine(command).ok(0);
        nothing_is_left(&env, above, name);
    }
    // The entry's own end takes what it left with it.
    launch(&env, "exit 0");
    until("its record says so", PATIENCE, || env.record()["exit"]["code"] == 0);
    let left = of_cube(&env);
    assert!(left.is_empty(), "{left:?}");
}

/// The cube may end its own init, stop it, and try the warden and the keeper.
#[test]
fn a_cube_that_turns_on_its_own_init_only_ends_itself() {
    let _alone = alone();
    let env = Env::new();
    env.project("p");
    // Init is the entry's parent; the warden is init's, the keeper the warden's.
    let up = "w=$(cut -d' ' -f4 /proc/$PPID/stat); k=$(cut -d' ' -f4 /proc/$w/stat)";
    let script = format!(
        "{up}; kill -KILL $w $k && echo REACHED; kill -STOP $w; kill -STOP $PPID; sleep 0.3; echo still; kill -KILL $PPID; sleep 300"
    );
    launch(&env, &script);
    let above = above(&env);
    nothing_is_left(&env, above, "a cube that killed its init");
    let log = env.tripmine(["logs", env.record()["id"].as_str().unwrap()]);
    assert!(log.ok(0).contains("still") && !log.stdout.contains("REACHED"), "{log:?}");
    // Stopped, it is made to go on: its entry's end is still told.
    env.tripmine(["--jail", "landlock", "p", "--", "/bin/sh", "-c", "kill -STOP $PPID; exit 7"]).ok(7);
}

/// SIGKILL at any instant of a launch.
#[test]
fn killed_at_any_instant_of_the_start_nothing_is_left() {
    let _alone = alone();
    let env = Env::with_own_binary();
    env.project("p");
    env.tripmine(["--jail", "landlock", "p", "--", "true"]).ok(0);
    for round in 0..24_u64 {
        let begun = Instant::now();
        let mut face = env
            .command(["--jail", "landlock", "p", "--", "/bin/sh", "-c", "sleep 300 & sleep 0.01"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let children = |pid: i32| -> Vec<i32> {
            let list =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        // From the start's first moment to beyond its end, in steps.
        while begun.elapsed() < Duration::from_micros(round * 700) {
            std::hint::spin_loop();
        }
        let face_pid = i32::try_from(face.id()).unwrap();
        let keeper = children(face_pid).first().copied();
        let target = match round % 3 {
            0 => keeper,
            1 => keeper.and_then(|keeper| children(keeper).first().copied()),
            _ => keeper
                .and_then(|keeper| children(keeper).first().copied())
                .and_then(|warden| children(warden).first().copied()),
        };
        if let Some(target) = target {
            signal(target, Signal::KILL);
        }
        until("the face ends by itself", PATIENCE, || face.try_wait().unwrap().is_some());
        env.tripmine(["ps", "-a"]).ok(0);
        crate::left::assert_nothing_left(&env);
        until(&format!("round {round}: nothing is left"), PATIENCE, || of_cube(&env).is_empty());
    }
}

/// The limit on processes is the keeper's to watch where there is no cgroup, and the rlimit's behind it.
#[test]
fn a_flood_of_processes_ends_the_cube() {
    let _alone = alone();
    let env = Env::new();
    env.project("p");
    let script = "n=0; while [ $n -lt 400 ]; do sleep 300 & n=$((n+1)); done 2>/dev/null; echo made $n; wait";
    let output = env.tripmine(["--jail", "landlock", "--pids", "64", "p", "--", "/bin/sh", "-c", script]);
    assert_ne!(output.code, 0, "{output:?}");
    until("nothing is left", PATIENCE, || of_cube(&env).is_empty());
}
