//! Bad input: a clear sentence, the right exit code, nothing started and nothing lost.

use std::process::Stdio;

use crate::env::{Env, Output, PATIENCE, finish, skip};

/// Nothing was started: no cube has a record.
#[track_caller]
fn refused(env: &Env, output: &Output, code: &[i32], parts: &[&str]) {
    assert!(code.contains(&output.code), "{output:?}");
    for part in parts {
        assert!(output.stderr.contains(part), "`{part}` is not in: {}", output.stderr);
    }
    assert!(output.stdout.is_empty(), "talk belongs on standard error: {output:?}");
    assert!(output.stderr.lines().any(|line| line.starts_with("error: ")), "{output:?}");
    let first = output.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(!first.ends_with('.'), "no full stop: {first}");
    assert!(env.records().is_empty(), "a cube was made");
}

#[test]
fn wrong_words_are_refused_by_name() {
    let env = Env::new();
    env.project("site");
    let usage = &[2][..];
    let missing = &[1, 2, 125][..];
    for (args, code, parts) in [
        (&["-m", "nope", "site"][..], missing, &["nope", "machine"][..]),
        (&["sitte"], missing, &["sitte", "site"]),
        (&["../site"], usage, &["/"]),
        (&["a/b"], usage, &["/"]),
        (&[".."], usage, &["name"]),
        (&["/etc"], usage, &["/"]),
        (&["-m", "../x", "site"], usage, &["--machine"]),
        (&["-m", "run", "site"], usage, &["command"]),
        (&["run", "nope", "--", "true"], missing, &["nope"]),
        (&["run", "../x", "--", "true"], usage, &["image"]),
        (&["run", "thing.tpm"], missing, &["not built"]),
        (&["--memory", "12parsecs", "site"], usage, &["--memory", "12parsecs"]),
        (&["--memory", "-1", "site"], usage, &["--memory"]),
        (&["--cpus", "0", "site"], usage, &["--cpus"]),
        (&["--cpus", "nan", "site"], usage, &["--cpus"]),
        (&["--pids", "0", "site"], usage, &["--pids"]),
        (&["--pids", "99999999999999999999", "site"], usage, &["--pids"]),
        (&["--timeout", "soon", "site"], usage, &["--timeout"]),
        (&["--disk", "0", "site"], usage, &["--disk"]),
        (&["--memroy", "1G", "site"], usage, &["--memroy", "--memory"]),
        (&["--user", "admin", "site"], usage, &["admin", "root"]),
        (&["--net", "wifi", "site"], usage, &["wifi", "none"]),
        (&["--jail", "paper", "site"], usage, &["paper", "container"]),
        (&["--seccomp", "none", "site"], usage, &["none", "default"]),
        (&["-e", "1X=y", "site"], usage, &["1X"]),
        (&["-e", "=y", "site"], usage, &["-e"]),
        (&["--env-file", "/no/such/file", "site"], missing, &["/no/such/file"]),
        (&["--env-file", "/", "site"], missing, &["env file"]),
        (&["--env-file", "/dev/zero", "site"], missing, &["env file", "larger than"]),
        (&["--mount", "/no/such/folder", "--", "true"], missing, &["/no/such/folder"]),
        (&["--mount", "", "--", "true"], usage, &["--mount"]),
        (&["--keep", "a/b", "site"], usage, &["--keep"]),
        (&["--keep", "ps", "site"], usage, &["--keep", "command"]),
        (&["site", "--"], usage, &["command"]),
        (&["--shell", "site", "--", "true"], usage, &["--shell"]),
        (&["-d"], usage, &["PROJECT"]),
        (&["forward", "x"], missing, &["x", "cube"]),
        (&["image", "show", "nope"], missing, &["nope", "image"]),
        (&["apply", "nope"], missing, &["nope", "cube"]),
    ] {
        let output = env.tripmine(args);
        println!("{args:?}: {} {}", output.code, output.stderr.trim());
        refused(&env, &output, code, parts);
    }
}

#[test]
fn control_characters_and_bytes_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let env = Env::new();
    for name in ["a\nb", "a\tb", "\u{7f}", "a\u{202e}b", "é", "a b", &"x".repeat(4096), "-"] {
        let output = env.tripmine(["run", "host", "-m", name, "--", "true"]);
        assert_eq!(output.code, 2, "{name:?}: {output:?}");
        assert!(output.stderr.contains("name"), "{name:?}: {output:?}");
        assert!(output.stderr.len() < 2000, "{name:?}");
    }
    let output = env.tripmine([
        OsStr::new("run"),
        OsStr::new("host"),
        OsStr::new("--"),
        OsStr::from_bytes(b"\xff\xfe"),
    ]);
    assert_eq!(output.code, 2, "{output:?}");
}

/// A folder that gives everything away needs a clear word, and tripmine's own never opens.
#[test]
fn dangerous_mounts_are_refused() {
    let env = Env::new();
    let home = env.home.to_str().unwrap().to_owned();
    let ssh = env.home.join(".ssh");
    std::fs::create_dir(&ssh).unwrap();
    let link = env.root().join("link");
    std::os::unix::fs::symlink(&ssh, &link).unwrap();
    for folder in [
        "/",
        &home,
        ssh.to_str().unwrap(),
        link.to_str().unwrap(),
        &format!("{home}/../home"),
        &format!("{home}/.ssh/../.ssh"),
        "/etc",
        "/usr",
        "/var",
        "/tmp",
        "/home",
    ] {
        let output = env.tripmine(["--mount", folder, "--", "true"]);
        refused(&env, &output, &[1, 125], &["not shown to a cube", "hint: "]);
    }
    for folder in ["/proc", "/sys", "/dev", "/proc/self", env.tripmine_home.to_str().unwrap()] {
        let output = env.tripmine(["--mount", folder, "--yes-really", "--", "true"]);
        let own = folder == env.tripmine_home.to_str().unwrap();
        assert!(own || output.code != 0, "{folder}: {output:?}");
    }
    // The word opens the home itself.
    let output = env.tripmine(["--mount", &home, "--yes-really", "--", "/bin/sh", "-c", "ls -d .ssh"]);
    assert_eq!(output.ok(0), ".ssh");
    assert!(output.stderr.contains("warning"), "{output:?}");
}

/// A typo in a file says where it is and what was probably meant.
#[test]
fn configuration_errors_name_their_place() {
    let env = Env::new();
    env.config("version = 1\n\n[defaults]\nmemroy = \"1G\"\n");
    let output = env.tripmine(["run", "host", "--", "true"]);
    assert!(output.code != 0 && output.stderr.contains("config.toml:4:1"), "{output:?}");
    assert!(output.stderr.contains("memory"), "did you mean: {output:?}");
    env.config("version = 1\n[defaults\n");
    let output = env.tripmine(["run", "host", "--", "true"]);
    assert!(output.stderr.contains("config.toml:2:"), "{output:?}");
    env.config("version = 99\n");
    let output = env.tripmine(["run", "host", "--", "true"]);
    assert!(output.code != 0 && output.stderr.contains("99"), "{output:?}");
    env.config("version = 1\n");
    let machines = env.tripmine_home.join("config/machines");
    std::fs::create_dir(&machines).unwrap();
    std::fs::write(machines.join("work.toml"), "version = 1\nuser = \"rooot\"\n").unwrap();
    let output = env.tripmine(["run", "host", "-m", "work", "--", "true"]);
    assert!(output.code != 0 && output.stderr.contains("work.toml:2:"), "{output:?}");
    let project = env.project("p");
    std::fs::write(project.join(".tconfig.yml"), "version: 1\nentree: ls\n").unwrap();
    let output = env.tripmine(["p", "--", "true"]);
    assert!(output.code != 0 && output.stderr.contains(".tconfig.yml:2:1"), "{output:?}");
}

/// The environment is input as well.
#[test]
fn a_strange_environment_is_survived() {
    let env = Env::new();
    for (key, value, code) in [
        ("TRIPMINE_HOME", "relative", 1),
        ("TRIPMINE_MEMORY", "lots", 2),
        ("TRIPMINE_USER", "x", 2),
        ("TRIPMINE_HOME", "/proc/nope", 1),
    ] {
        let mut command = env.command(["run", "host", "--", "true"]);
        command.env(key, value);
        let output = crate::env::finish(command.spawn().unwrap(), crate::env::PATIENCE);
        assert!(output.code == code || output.code == 125, "{key}={value}: {output:?}");
        assert!(output.stderr.starts_with("error: "), "{key}={value}: {output:?}");
    }
    // Closed streams must not become somebody else's file.
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &format!("{:?} run host -- /bin/sh -c 'exit 7' {closed}", env.binary())]);
        command.env_clear().envs(env.variables()).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let output = crate::env::finish(command.spawn().unwrap(), crate::env::PATIENCE);
        assert_eq!(output.code, 7, "{closed}: {output:?}");
    }
}

/// `--dry-run` does nothing at all, and says everything.
#[test]
fn a_dry_run_does_nothing() {
    let env = Env::new();
    env.project("p");
    let count = |env: &Env| {
        walk(&env.tripmine_home.join("state/Mines")) + walk(&env.tripmine_home.join("data/homes"))
    };
    let before = count(&env);
    let output = env.tripmine(["--dry-run", "--memory", "64M", "p", "--", "make"]);
    for part in ["/projects/p", "64M", "make", "flag", "seccomp"] {
        assert!(output.ok(0).contains(part), "{part}: {output:?}");
    }
    let json = env.tripmine(["--dry-run", "--json", "p", "--", "make"]);
    let value: serde_json::Value = serde_json::from_str(json.ok(0)).unwrap();
    assert!(value["version"].is_number(), "{value}");
    assert_eq!(count(&env), before);
    assert!(env.records().is_empty());
}

fn walk(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| 1 + walk(&entry.path())).sum()
}

/// A host that gives no user namespaces: a refusal with its reason and the next step, nothing started, nothing left.
#[test]
fn without_user_namespaces_nothing_starts() {
    const NAME: &str = "without_user_namespaces_nothing_starts";
    let env = Env::new();
    // In a namespace whose own limit is none; the counter of the host stays as it is.
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces || exit 77; exec \"$0\" run host -- true";
    let mut command = std::process::Command::new("unshare");
    command.args(["-Ur", "/bin/sh", "-c", forbid]).arg(env.binary()).env_clear().envs(env.variables());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(child) = command.spawn() else { return skip(NAME, "there is no unshare(1)") };
    let output = finish(child, PATIENCE);
    if output.code == 77 || output.stderr.contains("unshare") {
        return skip(NAME, "the limit cannot be set in a user namespace here");
    }
    output.fails(125, "no further user namespace is allowed");
    assert!(output.stderr.contains("hint: run `tripmine doctor`"), "{output:?}");
    assert!(env.records().is_empty());
}
