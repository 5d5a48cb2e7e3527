//! The jail `landlock`: what it promises, tried from inside with the shell and with raw system calls.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::env::{Env, PATIENCE, is_root, until};
use crate::perl::{self, Row};
use crate::pty::Pty;

/// The options of every launch here.
const IN_PLACE: &[&str] = &["--jail", "landlock"];

/// A secret of the user's, outside of everything that is granted.
fn secret(env: &Env) -> std::path::PathBuf {
    let path = env.home.join("secret");
    std::fs::write(&path, "host only").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A process of the same user with something to hide, ended with the value.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        command.arg("300").env("API_TOKEN", "canary-4711").stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ended = (self.0.kill(), self.0.wait());
    }
}

/// Guards: the Landlock rules, for whoever owns what is tried: as root everything here is root's.
#[test]
fn only_home_project_and_tmp_are_there() {
    let env = Env::new();
    let (project, other) = (env.project("p"), env.project("other"));
    std::fs::write(other.join("file"), "another project").unwrap();
    let secret = secret(&env);
    let script = format!(
        r#"
        for f in {secret} {other}/file /etc/shadow /etc/machine-id /etc/sudoers {config}/config.toml; do
            cat $f >/dev/null 2>&1 && echo READ $f
        done
        for d in / {home} {other} /etc /tmp /root /home /var /run /dev /dev/pts /dev/shm /sys; do
            ls $d >/dev/null 2>&1 && echo LISTED $d
        done
        for d in {home} {other} / /etc /tmp /var/tmp /usr /usr/local /dev/shm {config}; do
            (: > $d/.probe) 2>/dev/null && echo WROTE $d
            mkdir $d/.probe-d 2>/dev/null && echo MADE $d
        done
        (: >> {secret}) 2>/dev/null && echo APPENDED
        truncate -s 0 {secret} 2>/dev/null && echo TRUNCATED
        mv {secret} $TMPDIR/ 2>/dev/null && echo MOVED
        ln {secret} $TMPDIR/link 2>/dev/null && echo LINKED
        rm -f {secret} 2>/dev/null && echo REMOVED
        ln -s {secret} ./away && cat away >/dev/null 2>&1 && echo FOLLOWED
        for s in kernel/core_pattern vm/drop_caches net/ipv4/ip_forward kernel/sysrq; do
            (: > /proc/sys/$s) 2>/dev/null && echo SET $s
        done
        (: > /proc/sysrq-trigger) 2>/dev/null && echo SYSRQ
        /lib64/ld-linux-x86-64.so.2 /usr/bin/cat {secret} >/dev/null 2>&1 && echo LOADED
        cat /proc/self/root{secret} >/dev/null 2>&1 && echo ALIASED
        echo kept > file && echo kept > ~/file && echo kept > $TMPDIR/file
        printf '#!/bin/sh\necho runs\n' > $TMPDIR/x && sh $TMPDIR/x
        mkdir -p a/b && mv a/b c && rm -r a && ls
        pwd; echo "$HOME"; echo "$TMPDIR"
        "#,
        secret = secret.display(),
        other = other.display(),
        home = env.home.display(),
        config = env.tripmine_home.join("config").display(),
    );
    let mut args = IN_PLACE.to_vec();
    args.extend(["p", "--", "/bin/sh", "-c", &script]);
    let output = env.tripmine(args);
    let lines: Vec<&str> = output.ok(0).lines().collect();
    let home = env.tripmine_home.join("data/homes/default");
    let [runs, link, c, file, pwd, own_home, tmp] = lines[..] else { panic!("{output:?}") };
    assert_eq!([runs, link, c, file], ["runs", "away", "c", "file"], "{output:?}");
    assert_eq!((Path::new(pwd), Path::new(own_home)), (project.as_path(), home.as_path()));
    assert_eq!(std::fs::read_to_string(home.join("file")).unwrap(), "kept\n");
    assert_eq!(std::fs::read_to_string(project.join("file")).unwrap(), "kept\n");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "host only");
    until("the folder for temporary files is gone", PATIENCE, || !Path::new(tmp).exists());
}

/// Guards: Landlock's scope and its domain, and the filter's rules for other processes.
#[test]
fn processes_of_the_host_are_out_of_reach() {
    let env = Env::new();
    let mut bystander = Bystander::new();
    let pid = bystander.0.id();
    let script = format!(
        r#"
        for s in 0 TERM KILL STOP; do kill -$s {pid} 2>/dev/null && echo SIGNALLED $s; done
        kill -KILL $PPID 0 2>/dev/null; true
        "#
    );
    // Process group 0 is the entry's own: it ends itself, and nothing else.
    assert_eq!(env.inside_with(IN_PLACE, &script).code, 137);
    let script = format!(
        r#"
        for f in environ maps mem auxv; do
            cat /proc/{pid}/$f >/dev/null 2>&1 && echo READ $f
        done
        for f in exe cwd root fd/0 ns/user; do readlink /proc/{pid}/$f >/dev/null 2>&1 && echo LINK $f; done
        renice -n 19 -p {pid} >/dev/null 2>&1 && echo RENICED
        cat /proc/*/environ 2>/dev/null | tr '\0' '\n' | grep -c canary-4711
        env | grep -c canary-4711
        kill -9 -1; echo after
        "#
    );
    let output = env.inside_with(IN_PLACE, &script);
    // `kill -9 -1` ends its own init: the cube is over, and nobody else's process is.
    assert_eq!(output.stdout.trim_end_matches("after\n"), "0\n0\n", "{output:?}");
    assert!(bystander.lives());
}

#[test]
fn raw_calls_to_other_processes_and_objects_are_refused() {
    let env = Env::new();
    let mut bystander = Bystander::new();
    let pid = bystander.0.id();
    // Numbers of x86_64.
    let rows = [
        ("ptrace", format!("101 16 {pid} 0 0"), "EPERM"),
        ("vm-read", format!("310 {pid} 0 0 0 0 0"), "EPERM"),
        ("pidfd-getfd", "438 -1 0 0".to_owned(), "EPERM"),
        ("prlimit", format!("302 {pid} 0 0 0"), "EPERM"),
        ("setpriority", format!("141 0 {pid} 19"), "EPERM"),
        ("setpriority-user", "141 2 0 19".to_owned(), "EPERM"),
        ("affinity", format!("203 {pid} 0 0"), "EPERM"),
        ("ioprio", format!("251 1 {pid} 0"), "EPERM"),
        ("shmget", "29 0 4096 384".to_owned(), "ENOSYS"),
        ("msgget", "68 0 384".to_owned(), "ENOSYS"),
        ("unix", "41 1 1 0".to_owned(), "EAFNOSUPPORT"),
        ("inet", "41 2 1 0".to_owned(), "EAFNOSUPPORT"),
        ("inet6", "41 10 2 0".to_owned(), "EAFNOSUPPORT"),
        ("netlink", "41 16 3 0".to_owned(), "EAFNOSUPPORT"),
        ("vsock", "41 40 1 0".to_owned(), "EAFNOSUPPORT"),
        ("unshare", "272 0x10000000".to_owned(), "EPERM"),
        ("io_uring", "425 8 1".to_owned(), "ENOSYS"),
        ("mount", "165 0 0 0 0 0".to_owned(), "EPERM"),
        ("own-limit", "302 0 7 0 0".to_owned(), "OK"),
    ];
    let rows: Vec<(&'static str, String, &'static str)> = rows.into();
    let leaked: Vec<Row> =
        rows.iter().map(|(label, call, good)| (*label, &*call.clone().leak(), *good)).collect();
    perl::check("raw_calls_to_other_processes_and_objects_are_refused", &env, IN_PLACE, &leaked);
    assert!(bystander.lives());
}

/// Guards: the filter's rules for modes and owners, which Landlock does not govern.
#[test]
fn modes_do_not_give_files_away() {
    let env = Env::new();
    let secret = secret(&env);
    let script = format!(
        "for m in 666 4700 2700 620 1777; do chmod $m {0} 2>/dev/null && echo GAVE $m; done
         touch own; for m in 4755 2755 777; do chmod $m own 2>/dev/null && echo OWN $m; done
         setfacl -m u:1:rw {0} 2>/dev/null && echo ACL
         chmod 755 own 2>/dev/null && echo 755; true",
        secret.display()
    );
    let output = env.inside_with(IN_PLACE, &script);
    // The host's root owns what everybody runs: it changes no mode at all.
    assert_eq!(output.ok(0), if is_root() { "" } else { "755" });
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o7777, 0o600);
}

/// Guards: the filter's rules for sockets. With `none` nothing is reached, at once; with `open` the internet families are,
/// and unix sockets are not, wherever their path lies.
#[test]
fn sockets_follow_the_net_policy() {
    let env = Env::new();
    let project = env.project("p");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let _unix = UnixListener::bind(project.join("sock")).unwrap();
    let code = format!(
        "import socket\n\
         def t(what, f):\n\
         \x20 try:\n\
         \x20   f(); print(what, 'OK')\n\
         \x20 except OSError as e:\n\
         \x20   print(what, e.errno)\n\
         t('tcp', lambda: socket.create_connection(('127.0.0.1', {port}), 5))\n\
         t('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})))\n\
         def u(a): socket.socket(socket.AF_UNIX).connect(a)\n\
         t('unix', lambda: u('sock'))\n\
         t('abstract', lambda: u('\\0tripmine-none'))\n\
         t('pair', lambda: socket.socketpair())\n"
    );
    if !Path::new("/usr/bin/python3").exists() {
        return crate::env::skip("sockets_follow_the_net_policy", "there is no /usr/bin/python3");
    }
    for (net, tcp) in [("none", "97"), ("open", "OK")] {
        let output =
            env.tripmine(["--jail", "landlock", "--net", net, "p", "--", "/usr/bin/python3", "-c", &code]);
        let want = format!("tcp {tcp}\nudp {tcp}\nunix 97\nabstract 97\npair OK");
        assert_eq!(output.ok(0), want, "{net}");
        assert_eq!(output.stderr.contains("whole network"), net == "open", "{output:?}");
    }
}

/// The entry has a terminal of its own, which it may open by name; those of others it may not.
#[test]
fn its_own_terminal_and_no_other() {
    let env = Env::new();
    // A terminal of the same user's, on which somebody works.
    let mut other = Pty::start(&env, Path::new("/bin/sh"), &["-c", "tty; read line; echo got $line"]);
    other.wait_for("/dev/pts/");
    let name = other.shown().lines().find(|line| line.starts_with("/dev/pts/")).unwrap().trim().to_owned();
    let script = format!(
        "t=$(tty); case $t in /dev/pts/*) echo named;; esac; echo written > $t; echo again > /dev/tty
         (: < {name}) 2>/dev/null && echo READ; (echo evil > {name}) 2>/dev/null && echo WROTE; stty size"
    );
    let output = env.inside_with(&["--jail", "landlock", "-t"], &script);
    let lines: Vec<&str> = output.ok(0).lines().map(str::trim).collect();
    assert_eq!(lines, ["named", "written", "again", "24 80"], "{output:?}");
    assert!(!other.shown().contains("evil"));
    other.kill();
}

/// A landlock cube is a cube like any other for whoever looks at it from outside.
#[test]
fn the_other_commands_know_it() {
    let env = Env::new();
    env.project("p");
    env.tripmine(["--jail", "landlock", "-d", "p", "--", "/bin/sh", "-c", "echo begun; exec sleep 300"])
        .ok(0);
    until("it has begun", PATIENCE, || env.tripmine(["logs", "p"]).stdout.contains("begun"));
    let record = env.record();
    assert_eq!(record["jail"], "landlock");
    let layers = record["layers"].as_array().unwrap();
    let words: Vec<&str> = layers.iter().map(|layer| layer["layer"].as_str().unwrap()).collect();
    for word in
        ["no-new-privs", "capabilities", "landlock", "scopes", "seccomp", "rlimits", "init-sealed", "warden"]
    {
        assert!(words.contains(&word), "{word} is not in {words:?}");
    }
    assert!(layers.iter().all(|layer| layer["state"] == "full"), "{layers:?}");
    assert!(env.tripmine(["inspect", "p"]).ok(0).contains("\"landlock\""));
    assert!(env.tripmine(["ps", "--json"]).ok(0).contains("\"jail\": \"landlock\""));
    let said = env.tripmine([
        "exec",
        "p",
        "--",
        "/bin/sh",
        "-c",
        "echo in $PWD; ls / 2>/dev/null; kill -0 1; echo $?",
    ]);
    assert_eq!(said.ok(0), format!("in {}\n1", env.projects.join("p").display()));
    // Sessions are one cube: a signal goes from one to another.
    env.tripmine(["exec", "p", "--", "/bin/sh", "-c", "kill -TERM $(pgrep -P $PPID sleep)"]).ok(0);
    until("the entry is gone", PATIENCE, || env.tripmine(["ps"]).ok(0).lines().count() == 1);
    assert_eq!(env.record()["exit"]["code"], 143);
    // Stop, kill and wait.
    env.tripmine(["--jail", "landlock", "-d", "p", "--", "sleep", "300"]).ok(0);
    assert!(env.tripmine(["stats", "p"]).ok(0).lines().count() > 1);
    env.tripmine(["stop", "p"]).ok(0);
    until("it was stopped", PATIENCE, || env.record()["exit"]["code"] == 143);
    env.tripmine(["--jail", "landlock", "-d", "p", "--", "sleep", "300"]).ok(0);
    env.tripmine(["kill", "p"]).ok(0);
    until("it is over", PATIENCE, || env.record()["exit"]["code"] == 137);
}

/// Attach and type, as at any cube.
#[test]
fn its_terminal_is_attached_to() {
    let env = Env::new();
    let shell = &["run", "--jail", "landlock", "host", "--", "/bin/sh", "-c", "echo ready; exec /bin/sh"];
    let mut pty = Pty::tripmine(&env, shell);
    pty.wait_for("ready");
    pty.type_text("echo a$((1+1))b; exit 3\r");
    pty.wait_for("a2b");
    assert_eq!(pty.wait_exit(PATIENCE), 3);
}

/// What the battery says of it: every row that is promised is kept, the others are listed and never passed.
#[test]
fn the_battery_keeps_what_is_promised() {
    let env = Env::new();
    let output = env.tripmine(["verify-jail", "--jail", "landlock", "--json"]);
    let report: serde_json::Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let rows = report["rows"].as_array().unwrap();
    let bad: Vec<&serde_json::Value> =
        rows.iter().filter(|row| !matches!(row["verdict"].as_str(), Some("pass" | "not-promised"))).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let verdict =
        |id: &str| rows.iter().find(|row| row["id"] == id).map(|row| row["verdict"].clone()).unwrap();
    for id in ["L01", "L02", "L03", "L04", "L05", "L06", "L07", "P01", "P09", "S01", "S18", "F02", "N07"] {
        assert_eq!(verdict(id), "pass", "{id}");
    }
    for id in ["P04", "P12", "P20", "F01", "N12", "R04"] {
        assert_eq!(verdict(id), "not-promised", "{id}");
    }
    output.ok(0);
    let shown = env.tripmine(["verify-jail", "--jail", "landlock"]);
    assert!(shown.ok(0).contains("rows are not promised by this jail"), "{shown:?}");
}
