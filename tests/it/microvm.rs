//! The jail `microvm`, emulated: a guest is used like any other cube, and what is missing or dies is named.
//!
//! A boot takes seconds, so that the tests here are few, do much with each machine, and run one at a time. They need QEMU,
//! virtiofsd, and a kernel package unpacked in the folder that `TRIPMINE_TEST_KERNEL` names.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::env::{Env, Output, alone, finish, signal, skip, until};
use crate::peers::Peer;
use crate::pty::Pty;

/// A boot under emulation was seen to take 24 s on a busy host.
pub(crate) const BOOT: Duration = Duration::from_secs(180);

/// A world whose microvms can start; or says why none can.
pub(crate) fn world(name: &str) -> Option<Env> {
    world_with(name, &[])
}

/// The same with more of what `vm setup` takes.
pub(crate) fn world_with(name: &str, options: &[&str]) -> Option<Env> {
    let Some(kernel) = std::env::var_os("TRIPMINE_TEST_KERNEL").map(PathBuf::from) else {
        skip(name, "no guest kernel: TRIPMINE_TEST_KERNEL names no unpacked kernel package");
        return None;
    };
    let env = Env::new();
    let set_up = ["vm", "setup", "--kernel", kernel.to_str().unwrap(), "--accel", "tcg"];
    vm(&env, &[&set_up, options].concat()).ok(0);
    let shown = vm(&env, &["vm", "show", "--json"]);
    if shown.code != 0 {
        skip(name, &format!("no microvm can start here: {}", shown.stdout.replace('\n', " ")));
        return None;
    }
    Some(env)
}

/// The program with time enough for a boot.
pub(crate) fn vm(env: &Env, args: &[&str]) -> Output {
    finish(env.command(args).spawn().unwrap(), BOOT)
}

/// A cube that runs until it is stopped, with a guest that answers.
pub(crate) fn running(env: &Env, options: &[&str], script: &str) -> String {
    let script = format!("{script}\necho is-up; exec sleep 1000");
    let args =
        [&["run", "host", "--jail", "microvm", "-d"], options, &["--", "/bin/sh", "-c", &script]].concat();
    let id = vm(env, &args).ok(0).to_owned();
    until("the guest is up", BOOT, || {
        let logs = vm(env, &["logs", &id]).stdout;
        assert!(!logs.contains("tripmine: "), "{logs}");
        logs.contains("is-up")
    });
    id
}

/// The processes of the newest cube whose name begins with `name`.
pub(crate) fn inside(env: &Env, name: &str) -> Vec<i32> {
    let mut next = vec![i32::try_from(env.record()["init"]["pid"].as_i64().unwrap()).unwrap()];
    let mut found = Vec::new();
    while let Some(pid) = next.pop() {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.starts_with(name) {
            found.push(pid);
        }
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            next.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

#[test]
fn a_guest_is_used_like_any_cube() {
    let _alone = alone();
    let Some(env) = world("a_guest_is_used_like_any_cube") else { return };
    let web = Peer::web();
    let (port, other) = (web.address.port().to_string(), Peer::web());
    let project = env.project("site");
    let (allow, given) = (format!("127.0.0.1:{port}"), project.to_str().unwrap());
    let args = [
        "--jail",
        "microvm",
        "-d",
        "--net",
        "allow",
        "--allow",
        &allow,
        "site",
        "--",
        "/bin/sh",
        "-c",
        "echo is-up; exec sleep 1000",
    ];
    let launched = vm(&env, &args);
    launched.ok(0);
    assert!(launched.stderr.contains("EMULATED"), "{}", launched.stderr);
    let id = launched.ok(0).to_owned();
    until("the guest is up", BOOT, || vm(&env, &["logs", &id]).stdout.contains("is-up"));
    assert!(vm(&env, &["ps"]).ok(0).contains("running EMULATED"));

    // Another kernel, and a whole process: words, streams, exit code.
    let exec = |script: &str| vm(&env, &["exec", &id, "--", "/bin/bash", "-c", script]);
    let own = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let output = exec("cat /proc/sys/kernel/osrelease; echo to-err >&2; exit 5");
    assert_ne!(output.ok(5), own.trim());
    assert_eq!(output.stderr, "to-err\n");
    vm(&env, &["exec", &id, "--", "no-such-program"]).fails(127, "is not in the cube");

    // Files: the project and the home are the host's, everything else is the throwaway.
    exec("id -u > /projects/site/who; echo kept > ~/kept; mkdir /opt/made && echo x > /opt/made/file").ok(0);
    let who = std::fs::read_to_string(project.join("who")).unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(who.trim(), uid.to_string(), "the guest's process has the caller's number");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(project.join("who")).unwrap());
    assert_eq!(owner, uid, "what it writes in {given} is the caller's");
    let changes = vm(&env, &["changes", &id]);
    assert!(changes.ok(0).contains("A /opt/made/"), "{}", changes.stdout);

    // The net: what a rule names is reached by the cube's gateway, and nothing else.
    let get = |port: u16| {
        exec(&format!(
            "exec 3<>/dev/tcp/host.tripmine.internal/{port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
        ))
    };
    assert!(get(web.address.port()).ok(0).contains("hello from outside"));
    // Refused: to HTTP with a page that says so.
    assert!(!get(other.address.port()).stdout.contains("hello from outside"));
    assert!(other.asked.lock().unwrap().is_empty(), "a rule was not asked");
    let net = vm(&env, &["net", &id]);
    assert!(net.ok(0).contains("denied"), "{}", net.stdout);

    // A forward to a server that listens on the guest's own loopback.
    exec("cd /projects/site && (perl -MIO::Socket -e '$s=IO::Socket::INET->new(LocalAddr=>\"127.0.0.1\",LocalPort=>8123,Listen=>5,ReuseAddr=>1);while($c=$s->accept){print $c \"from the guest\\n\";close $c}' >/dev/null 2>&1 &)").ok(0);
    until("the guest's port is seen", BOOT, || vm(&env, &["ports", &id]).stdout.contains("8123"));
    let opened = vm(&env, &["forward", &id, "--port", "8123", "-d"]);
    let host: u16 = opened.ok(0).split([':', ' ']).nth(1).unwrap().parse().unwrap();
    let mut said = String::new();
    until("the guest's server answers", BOOT, || {
        use std::io::Read as _;
        said.clear();
        std::net::TcpStream::connect(("127.0.0.1", host))
            .is_ok_and(|mut s| s.read_to_string(&mut said).is_ok())
            && said == "from the guest\n"
    });

    // A terminal of the guest's own, with its size.
    let script = "echo go-on; exec /bin/sh";
    let mut pty = Pty::tripmine(&env, &["exec", "-t", &id, "--", "/bin/sh", "-c", script]);
    pty.wait_shown("go-on");
    pty.resize(33, 101);
    pty.type_text("stty size\n");
    pty.wait_for("33 101");
    pty.type_text("exit 4\n");
    assert_eq!(pty.wait_exit(BOOT), 4);

    // A snapshot of the running guest, and a guest that starts from it.
    vm(&env, &["image", "snapshot", "dev", &id]).ok(0);
    assert_eq!(exec("echo goes on").ok(0), "goes on");
    // A throwaway is not paused, whatever the VMM can do.
    vm(&env, &["pause", &id]).fails(1, "cannot be paused: ");
    let inspected: Value = serde_json::from_str(vm(&env, &["inspect", &id]).ok(0)).unwrap();
    assert!(inspected.to_string().contains("EMULATED"), "{inspected}");
    vm(&env, &["stop", &id]).ok(0);
    let again = vm(
        &env,
        &["run", "dev", "--jail", "microvm", "--", "/bin/sh", "-c", "cat /opt/made/file ~/kept; exit 7"],
    );
    assert_eq!(again.ok(7), "x\nkept");
}

#[test]
fn what_dies_is_named_and_leaves_nothing() {
    let _alone = alone();
    let Some(env) = world("what_dies_is_named_and_leaves_nothing") else { return };
    for (process, words) in [
        ("qemu-system", "the VMM (qemu) ended: signal 9"),
        ("virtiofsd", "the share daemon (virtiofsd) ended: signal 9"),
    ] {
        let id = running(&env, &[], "true");
        let victims = inside(&env, process);
        assert!(!victims.is_empty(), "no {process} in {}", env.record());
        for victim in victims {
            signal(victim, Signal::KILL);
        }
        until("the cube has failed", BOOT, || env.record()["state"] == "failed");
        let logs = vm(&env, &["logs", &id]);
        assert!(logs.stdout.contains(words), "`{words}`: {}", logs.stdout);
        assert_eq!(env.record()["exit"]["code"], 125, "{}", env.record());
    }
    // A keeper takes its whole machine along: `Env` looks for what is left.
    running(&env, &[], "true");
    let keeper = i32::try_from(env.record()["keeper"]["pid"].as_i64().unwrap()).unwrap();
    let machine = inside(&env, "qemu-system");
    signal(keeper, Signal::KILL);
    for pid in machine {
        until("the machine is gone", BOOT, || {
            !std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().starts_with("qemu")
        });
    }
    vm(&env, &["ps", "-a"]).ok(0);
}

#[test]
fn what_a_microvm_lacks_is_said_before_anything_starts() {
    let env = Env::new();
    let launch = ["run", "host", "--jail", "microvm", "--", "true"];
    let kvm = vm(&env, &["vm", "show", "--json"]);
    let shown: Value = serde_json::from_str(&kvm.stdout).unwrap();
    let part = |name: &str| {
        shown["parts"].as_array().unwrap().iter().find(|part| part["part"] == name).cloned().unwrap()
    };
    if part("kvm")["ok"] == false {
        // Never emulated because the processor does not do it.
        vm(&env, &launch).fails(125, "no microvm can start: ");
    } else {
        skip("what_a_microvm_lacks_is_said_before_anything_starts", "the part about KVM: it works here");
    }
    let folder = env.root().join("kernels");
    std::fs::create_dir(&folder).unwrap();
    let kernel = folder.join("vmlinuz-1");
    let place = folder.to_str().unwrap();
    vm(&env, &["vm", "setup", "--kernel", place]).fails(1, "needs a Linux kernel");
    std::fs::write(&kernel, "this is none").unwrap();
    vm(&env, &["vm", "setup", "--kernel", place]).fails(1, "looked at");
    vm(&env, &["vm", "setup", "--kernel", "/nowhere/at/all"]).fails(1, "`/nowhere/at/all` cannot be used");
    vm(&env, &["vm", "setup", "--engine", place]).fails(1, "a microvm needs QEMU, and it is not here");
    // What was refused was not written down.
    assert!(!env.tripmine_home.join("config/config.toml").exists());
    let strict =
        ["run", "host", "--jail", "microvm", "--vm-accel", "tcg", "--seccomp", "strict", "--", "true"];
    vm(&env, &strict).fails(125, "a kernel of their own");
}
