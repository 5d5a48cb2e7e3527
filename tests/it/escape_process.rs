//! Rows P of the promises: what of the host's processes, descriptors, environment and identity is seen inside.

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;

use crate::env::{Env, finish, is_root, skip};

/// P02. Guards: close_range before exec in the jail, and CLOEXEC in the face. The launcher here holds two more
/// descriptors, as a careless parent does.
#[test]
fn descriptors_of_the_launcher_do_not_leak() {
    let env = Env::new();
    let secret = env.root().join("secret");
    std::fs::write(&secret, "host only").unwrap();
    let program = format!("{:?} run host -- /bin/sh -c 'ls /proc/self/fd'", env.binary());
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &format!("exec 8<{0} 9</; {program}", secret.display())]);
    command
        .env_clear()
        .envs(env.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = finish(command.spawn().unwrap(), crate::env::PATIENCE);
    // 3 is the listing itself.
    assert_eq!(output.ok(0).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

/// P02 again with a high number, inherited without CLOEXEC.
#[test]
fn a_high_descriptor_does_not_leak() {
    let env = Env::new();
    let file = OwnedFd::from(std::fs::File::open("/").unwrap());
    let script = format!(
        "import os\nos.dup2({}, 251, True)\nos.execv('{1}', ['{1}', 'run', 'host', '--', '/bin/ls', '/proc/self/fd'])",
        file.as_raw_fd(),
        env.binary().display()
    );
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip("a_high_descriptor_does_not_leak", "there is no /usr/bin/python3");
    }
    let mut command = std::process::Command::new("/usr/bin/python3");
    command.args(["-c", &script]).env_clear().envs(env.variables());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(command.spawn().unwrap(), crate::env::PATIENCE);
    assert_eq!(output.ok(0).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

/// P03. Guards: the keeper's empty environment and the sealed init.
#[test]
fn secrets_of_the_environment_stay_outside() {
    let env = Env::new();
    for options in [&[][..], &["--user", "root"]] {
        let mut args = vec!["run", "host"];
        args.extend_from_slice(options);
        args.extend_from_slice(&[
            "--",
            "/bin/sh",
            "-c",
            "env; cat /proc/*/environ | tr '\\0' '\\n'; cat /proc/*/cmdline; true",
        ]);
        let mut command = env.command(args);
        command.env("API_TOKEN", "canary-4711").env("SSH_AUTH_SOCK", "/tmp/canary-4711");
        let output = finish(command.spawn().unwrap(), crate::env::PATIENCE);
        assert!(!output.ok(0).contains("canary-4711"), "{output:?}");
        assert!(!output.stdout.contains("TOKEN"), "{output:?}");
    }
}

/// P03, P08. Guards: PR_SET_DUMPABLE 0 of init, also against root inside, who owns everything in the namespace.
#[test]
fn process_one_is_sealed() {
    let env = Env::new();
    let script = "for f in environ maps mem auxv io exe root cwd fd/0 ns/mnt; do
        if cat /proc/1/$f >/dev/null 2>&1; then echo READ $f; fi
        if ls /proc/1/$f/ >/dev/null 2>&1; then echo LISTED $f; fi
        if readlink /proc/1/$f >/dev/null 2>&1; then echo LINK $f; fi
      done
      if (: >> /proc/1/exe) 2>/dev/null; then echo WROTE exe; fi
      if (echo 0 > /proc/1/oom_score_adj) 2>/dev/null; then echo WROTE oom_score_adj; fi
      echo end";
    for options in [&[][..], &["--user", "root"]] {
        assert_eq!(env.inside_with(options, script).ok(0), "end", "{options:?}");
    }
}

/// P08. Guards: the read-only bind of /usr, and that the program behind init is not reachable at all (CVE-2019-5736).
#[test]
fn the_program_itself_cannot_be_overwritten() {
    let env = Env::with_own_binary();
    let before = std::fs::read(env.binary()).unwrap();
    let script = "printf '#!/proc/self/exe\\n' > /tmp/x; chmod +x /tmp/x; /tmp/x 2>/dev/null
        for p in /proc/[0-9]*/exe; do (printf boo >> $p) 2>/dev/null && echo WROTE $p; done; echo end";
    for options in [&[][..], &["--user", "root"]] {
        assert_eq!(env.inside_with(options, script).ok(0), "end", "{options:?}");
    }
    assert!(std::fs::read(env.binary()).unwrap() == before, "the program was changed");
}

/// P04, P09. Guards: the pid namespace with its own /proc.
#[test]
fn only_its_own_processes_are_seen_and_signalled() {
    let env = Env::new();
    let seen = env.inside("ls -d /proc/[0-9]* | wc -l");
    assert!(seen.ok(0).trim().parse::<u32>().unwrap() <= 6, "{seen:?}");
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let outside = env.inside(&format!(
        "kill -0 {own} 2>/dev/null && echo REACHED; kill -0 {} 2>/dev/null && echo REACHED; echo end",
        own + 1
    ));
    // The cube's numbers are small; ours is not among them.
    if own > 50 {
        assert_eq!(outside.ok(0), "end");
    }
    // Everything that may be signalled is signalled: the keeper and this test live on.
    for options in [&[][..], &["--user", "root"]] {
        let output = env.inside_with(options, "kill -9 -1; exit 3");
        assert!(matches!(output.code, 3 | 137), "{output:?}");
        assert_eq!(env.record()["exit"]["reason"]["kind"], "ended", "init must have survived");
    }
}

/// P12. Guards: the uts namespace and the synthetic /etc.
#[test]
fn host_name_and_machine_id_are_its_own() {
    let env = Env::new();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let (id, name) =
        (read("/etc/machine-id"), rustix::system::uname().nodename().to_string_lossy().into_owned());
    let output = env.inside("cat /etc/machine-id; echo; uname -n; cat /etc/hostname");
    let words: Vec<&str> = output.ok(0).split_whitespace().collect();
    assert!(!words.contains(&name.as_str()), "{name}: {words:?}");
    assert!(id.is_empty() || !words.contains(&id.as_str()), "{id}: {words:?}");
}

/// P13. Guards: no-new-privs and nosuid, each alone enough.
#[test]
fn setuid_files_gain_nothing() {
    let env = Env::new();
    let script = "cp /usr/bin/id /tmp/s; chmod 4755 /tmp/s; cp /usr/bin/id ~/s; chmod 6755 ~/s
        test \"$(/tmp/s)\" = \"$(id)\" && test \"$(~/s)\" = \"$(id)\" && echo same
        for f in $(find /usr/bin /usr/sbin /usr/lib -xdev -perm -4000 -name 'su*' 2>/dev/null); do
          case $f in */su) echo | timeout 5 $f -c 'id -u' 2>/dev/null </dev/null;; esac; done; rm ~/s";
    let output = env.inside(script);
    // As root's cube, `su` may answer 0: that is the cube's own root, which it is already.
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"same"), "{output:?}");
    assert!(is_root() || lines.len() == 1, "{output:?}");
}

/// Root inside is nobody outside. Guards: the user namespace and idmapped mounts.
#[test]
fn root_inside_is_nobody_outside() {
    let env = Env::new();
    let project = env.project("p");
    let shown = |options: &[&str]| {
        let args =
            [options, &["p", "--", "/bin/sh", "-c", "id -u; touch made; cat /proc/self/uid_map; sleep 0"]]
                .concat();
        env.tripmine(args)
    };
    let output = shown(&["--user", "root"]);
    let map: Vec<u64> = output.ok(0).split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!((map[0], map[1]), (0, 0));
    // Inside 0 is outside neither root nor, when started by root, any id that owns something here.
    assert_ne!(map[2], 0, "{map:?}");
    if is_root() {
        assert!(map[2] > 1 << 20, "{map:?}");
    }
    use std::os::unix::fs::MetadataExt;
    let made = std::fs::metadata(project.join("made")).unwrap();
    assert_eq!(made.uid(), rustix::process::geteuid().as_raw(), "files in the project belong to the caller");
}

/// CVE-2024-21626: a working directory that is a descriptor of the launcher. Guards: the plan's check of `--workdir`.
#[test]
fn the_working_directory_is_inside() {
    let env = Env::new();
    for folder in [
        "/proc/self/fd/3",
        "/proc/self/fd/7/../../..",
        "/proc/1/root",
        "//proc/self/cwd",
        "/a/../proc",
        "rel",
    ] {
        let output = env.tripmine(["run", "host", "--workdir", folder, "--", "true"]);
        assert_eq!(output.code, 2, "{folder}: {output:?}");
    }
    let output = env.tripmine(["run", "host", "--workdir", "/nowhere", "--", "true"]);
    assert!(output.code != 0 && output.stderr.contains("nowhere"), "{output:?}");
    assert_eq!(env.tripmine(["run", "host", "--workdir", "/usr", "--", "pwd"]).ok(0), "/usr");
}

/// A file on standard input is readable, and no more: what the cube has is a pipe of its own, into which it may write as it
/// likes. Guards: files are never handed in; and Landlock, which has no rule for what lies outside the cube's tree.
#[test]
fn a_redirected_file_cannot_be_reopened_for_writing() {
    let env = Env::new();
    let file = env.root().join("input");
    std::fs::write(&file, "input\n").unwrap();
    let script = "(echo gotcha > /proc/self/fd/0) 2>/dev/null && echo WROTE
        (: >> /proc/self/fd/0) 2>/dev/null && echo OPENED
        (perl -e 'truncate(\"/proc/self/fd/0\", 0) or exit 1') 2>/dev/null && echo TRUNCATED
        cat";
    for options in [&[][..], &["--user", "root"]] {
        let mut command = env.command([&["run", "host"], options, &["--", "/bin/sh", "-c", script]].concat());
        command.stdin(std::fs::File::open(&file).unwrap());
        let output = finish(command.spawn().unwrap(), crate::env::PATIENCE);
        assert!(output.ok(0).lines().any(|line| line == "input"), "{options:?}: {output:?}");
        assert!(!output.stdout.contains("TRUNCATED"), "{options:?}: {output:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "input\n");
    }
}

/// The same for the mode: chmod is not Landlock's to judge.
#[test]
fn a_redirected_file_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let env = Env::new();
    let file = env.root().join("input");
    std::fs::write(&file, "input\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = env.command([
        "run",
        "host",
        "--",
        "/bin/sh",
        "-c",
        "chmod 4777 /proc/self/fd/0 2>/dev/null; perl -e 'chmod 04777, *STDIN'; true",
    ]);
    command.stdin(std::fs::File::open(&file).unwrap());
    finish(command.spawn().unwrap(), crate::env::PATIENCE).ok(0);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600, "{mode:o}");
}
