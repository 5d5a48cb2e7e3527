//! Escapes that really happen once their walls are out: more than a probe's verdict.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::env::{Env, PATIENCE, finish, skip};
use crate::{inside, run_weak, weak};

/// P02 and Landlock: a folder of the host that its launcher had open. Closed three times; and where it is not, Landlock has
/// no rule for what lies outside of the cube's tree.
#[test]
fn a_folder_left_open_is_shut_by_landlock_and_open_without() {
    let env = Env::new();
    let secret = env.root().join("secret");
    std::fs::write(&secret, "host only").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::set_permissions(env.root(), PermissionsExt::from_mode(0o755)).unwrap();
    let look = |out: &str, blind: &str| {
        let script = format!("ls /proc/self/fd; cat /proc/self/fd/9{} 2>&1", secret.display());
        let program = format!("exec {:?} run host -- /bin/sh -c '{script}'", env.binary());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exec 9</; {program}")]).env_clear().envs(env.variables());
        command.env("TRIPMINE_TAKE_OUT", out).env("TRIPMINE_BLIND", blind);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command.spawn().unwrap(), PATIENCE);
        (output.stdout.lines().any(|line| line == "9"), output.stdout.contains("host only"))
    };
    for (out, blind, expected) in [
        ("", "", (false, false)),
        ("close-keeper,close-child", "", (false, false)),
        ("close-keeper,close-spawn", "", (false, false)),
        ("close-child,close-spawn", "", (false, false)),
        ("close-keeper,close-child,close-spawn", "", (true, false)),
        ("landlock", "landlock", (false, false)),
        ("close-keeper,close-child,close-spawn,landlock", "landlock", (true, true)),
    ] {
        assert_eq!(look(out, blind), expected, "without `{out}`: (descriptor seen, file read)");
    }
}

/// Landlock as the second wall behind the mount namespace: with the host's root still there, `me` writes nothing of it.
#[test]
fn the_hosts_files_are_not_written_through_a_root_left_behind() {
    let env = Env::new();
    let folder = env.root().join("open");
    std::fs::create_dir(&folder).unwrap();
    for path in [env.root(), &folder] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    }
    for (out, written) in [("", false), ("landlock", false), ("old-root", false), ("old-root,landlock", true)]
    {
        let made = folder.join("made");
        let script = format!("(echo x > /oldroot{0} || echo x > {0}) 2>/dev/null; true", made.display());
        inside(&env, out, "landlock,mountns", &[], &script).ok(0);
        assert_eq!(made.exists(), written, "without `{out}`");
    }
}

/// P13: with another id in the cube, a setuid file gives it, unless `nosuid` or `no_new_privs` forbids it.
#[test]
fn a_setuid_file_gains_an_id_only_without_both_walls() {
    let env = Env::new();
    let script = "cp /usr/bin/id /tmp/s && chown 1 /tmp/s && chmod 4755 /tmp/s && /tmp/s -u";
    let options = ["--user", "root"];
    let control = inside(&env, "", "", &options, script);
    if control.code != 0 {
        return skip(
            "a_setuid_file_gains_an_id_only_without_both_walls",
            "there is one id in the cube (no newuidmap, or no subordinate ids)",
        );
    }
    assert_eq!(control.ok(0), "0");
    for (out, blind, id) in [
        ("nosuid", "mountns", "0"),
        ("no-new-privs", "no-new-privs", "0"),
        ("nosuid,no-new-privs", "mountns,no-new-privs", "1"),
    ] {
        assert_eq!(inside(&env, out, blind, &options, script).ok(0), id, "without {out}");
    }
}

/// P03: the caller's variables in the entry's environment, and in that of process 1.
#[test]
fn the_callers_environment_is_seen_without_its_walls() {
    let env = Env::new();
    for (out, blind, seen) in [
        ("", "", false),
        ("keeper-env", "", false),
        ("init-sealed", "init-sealed", false),
        ("keeper-env,init-sealed", "init-sealed", true),
        ("entry-env", "", true),
    ] {
        let args = [
            "run",
            "host",
            "--",
            "/bin/sh",
            "-c",
            "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; true",
        ];
        let mut command = weak(&env, out, blind, args);
        let output = finish(command.env("API_TOKEN", "canary-4711").spawn().unwrap(), PATIENCE);
        assert_eq!(output.ok(0).contains("canary-4711"), seen, "without `{out}`: {output:?}");
    }
}

/// N06: a server on the host's loopback.
#[test]
fn a_server_of_the_host_is_reached_without_the_network_namespace() {
    let env = Env::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reached =
        std::net::TcpStream::connect_timeout(&listener.local_addr().unwrap(), Duration::from_secs(2));
    if reached.is_err() {
        return skip(
            "a_server_of_the_host_is_reached_without_the_network_namespace",
            "the host does not reach its own loopback",
        );
    }
    let script = format!(
        "perl -e 'use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0); print connect($s, sockaddr_in({port}, INADDR_LOOPBACK)) ? \"REACHED\" : \"no\"'"
    );
    let control = inside(&env, "", "", &[], &script);
    if control.code == 127 {
        return skip(
            "a_server_of_the_host_is_reached_without_the_network_namespace",
            "there is no perl in /usr",
        );
    }
    assert_eq!(control.ok(0), "no");
    assert_eq!(inside(&env, "netns", "netns", &[], &script).ok(0), "REACHED");
}

/// F12: `strict` keeps a host's socket out of reach by the filter alone.
#[test]
fn a_socket_in_the_project_is_reached_without_the_strict_filter() {
    let env = Env::new();
    let project = env.project("p");
    let _listener = UnixListener::bind(project.join("agent.sock")).unwrap();
    // As root the cube's ids are others.
    std::fs::set_permissions(project.join("agent.sock"), PermissionsExt::from_mode(0o777)).unwrap();
    let connect = "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die 'no family'; connect($s, sockaddr_un('agent.sock')) or die 'refused'; print 'reached'";
    let args = ["--seccomp", "strict", "p", "--", "perl", "-e", connect];
    let control = run_weak(&env, "", "", &args);
    if control.code == 127 {
        return skip(
            "a_socket_in_the_project_is_reached_without_the_strict_filter",
            "there is no perl in /usr",
        );
    }
    assert!(control.stderr.contains("no family"), "{control:?}");
    assert_eq!(run_weak(&env, "seccomp", "seccomp", &args).stdout, "reached");
}

/// P12 and the skeleton of /etc: the host's own files.
#[test]
fn the_hosts_etc_is_seen_without_the_cubes_own() {
    let env = Env::new();
    let script = "test -e /etc/shadow && echo there";
    assert_eq!(inside(&env, "", "", &[], script).stdout, "");
    assert_eq!(inside(&env, "etc", "", &[], script).ok(0), "there");
}

/// F08: what a cube destroys of its system is whole at the next launch, because it destroyed a layer of its own.
#[test]
fn a_destroyed_system_stays_destroyed_without_the_throwaway_layer() {
    for (out, whole) in [("", true), ("upper", false)] {
        let env = Env::new();
        inside(&env, "", "", &[], "true").ok(0);
        inside(&env, out, "mountns", &[], "rm -rf /etc/passwd /etc/hosts; true").ok(0);
        let left = inside(&env, "", "", &[], "test -e /etc/passwd && test -e /etc/hosts");
        assert_eq!(left.code == 0, whole, "without `{out}`: {left:?}");
    }
}

/// F09: a link in the project leads to the cube's own files, because no others are there.
#[test]
fn a_link_in_the_project_leads_to_the_hosts_files_without_the_cubes_own() {
    let env = Env::new();
    let project = env.project("p");
    std::os::unix::fs::symlink("/etc/shadow", project.join("out")).unwrap();
    let look = ["p", "--", "/bin/sh", "-c", "test -e out && echo followed; test -L out && echo link"];
    assert_eq!(run_weak(&env, "", "", &look).stdout, "link\n");
    assert_eq!(run_weak(&env, "etc", "", &look).stdout, "followed\nlink\n");
}
