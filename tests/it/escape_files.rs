//! Rows F of the promises: mounts, devices, kernel files, and what of the host's files is seen.

use std::os::unix::net::UnixListener;

use crate::env::{Env, is_root, skip};
use crate::pty::Pty;

/// F01. Guards: the mount namespace, whose root is made from nothing.
#[test]
fn nothing_of_the_host_is_there() {
    let env = Env::new();
    std::fs::write(env.home.join("private"), "x").unwrap();
    let script = format!(
        "ls -d {root} /oldroot /newroot /.old* /run/user /run/docker.sock /var/run/docker.sock /run/dbus/system_bus_socket \
         /etc/shadow /etc/gshadow /etc/ssh/ssh_host_* /etc/sudoers /var/log/* /var/lib/dpkg/lock /boot/* /sys/* /mnt/* 2>/dev/null; echo end",
        root = env.root().display()
    );
    for options in [&[][..], &["--user", "root"]] {
        assert_eq!(env.inside_with(options, &script).ok(0), "end", "{options:?}");
    }
}

/// F06 and more. Guards: mount flags, and that no mount of the host was carried along.
#[test]
fn the_mount_table_holds_only_the_cubes_own() {
    let env = Env::new();
    env.project("p");
    let output = env.tripmine(["p", "--", "cat", "/proc/self/mountinfo"]);
    let table = output.ok(0);
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (target, flags) = (fields[4], fields[5]);
        let flags: Vec<&str> = flags.split(',').collect();
        assert!(flags.contains(&"nosuid"), "{line}");
        let device = target == "/dev" || target.starts_with("/dev/");
        assert!(device || flags.contains(&"nodev"), "{line}");
        let known = [
            "/",
            "/usr",
            "/proc",
            "/dev",
            "/tmp",
            "/run",
            "/root",
            "/home",
            "/projects",
            "/sys",
            "/work",
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/libx32",
        ];
        let top = target.split('/').nth(1).map(|first| format!("/{first}")).unwrap_or_default();
        assert!(known.contains(&top.as_str()), "{line}");
        if target == "/usr" || target == "/proc/sys" {
            assert!(flags.contains(&"ro"), "{line}");
        }
    }
    assert!(table.lines().any(|line| line.contains(" /projects/p ")), "{table}");
}

/// F02. Guards: the read-only covers over /proc. As root inside too, whom no permission bit stops.
#[test]
fn kernel_settings_cannot_be_written() {
    let env = Env::new();
    let script = "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /proc/sys/kernel/modprobe \
        /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/ns_last_pid /proc/irq/default_smp_affinity /sys/kernel/uevent_helper; do
        (: >> $f) 2>/dev/null && echo OPENED $f; (echo 1 > $f) 2>/dev/null && echo WROTE $f; done; echo end";
    for options in [&[][..], &["--user", "root"]] {
        assert_eq!(env.inside_with(options, script).ok(0), "end", "{options:?}");
    }
}

/// Guards: the empty files over what /proc tells of the host.
#[test]
fn the_kernel_tells_little() {
    let env = Env::new();
    let script = "for f in kallsyms keys key-users config.gz interrupts timer_list slabinfo kcore kmsg iomem cmdline; do
        n=$(timeout 2 head -c 64 /proc/$f 2>/dev/null | tr -d '\\0' | wc -c); test $n = 0 || echo READ $f; done
        find /sys/firmware /proc/acpi -mindepth 1 2>/dev/null; dmesg 2>/dev/null | head -1; echo end";
    for options in [&[][..], &["--user", "root"]] {
        assert_eq!(env.inside_with(options, script).ok(0), "end", "{options:?}");
    }
}

/// F04, T01. Guards: the minimal /dev and its own devpts.
#[test]
fn dev_holds_only_the_ordinary() {
    let env = Env::new();
    let known = [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero", "console", "mqueue", "core",
    ];
    let output = env.inside("ls /dev; ls /dev/pts");
    for name in output.ok(0).split_whitespace().filter(|name| name.parse::<u32>().is_err()) {
        assert!(known.contains(&name), "/dev/{name}");
    }
    let mut pty = Pty::tripmine(
        &env,
        &["run", "host", "--", "/bin/sh", "-c", "tty; readlink /proc/self/fd/0; ls /dev/pts; echo done"],
    );
    pty.wait_for("done");
    pty.wait_exit(crate::env::PATIENCE);
    let shown = pty.shown();
    let lines: Vec<&str> = shown.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!((lines[0].trim(), lines[1].trim()), ("/dev/pts/0", "/dev/pts/0"), "{shown}");
}

/// F05. Guards: the bounding set (no CAP_MKNOD) and nodev.
#[test]
fn devices_cannot_be_made() {
    let env = Env::new();
    let script =
        "for d in /tmp ~ /dev /dev/shm /; do mknod $d/n c 1 3 2>/dev/null && echo MADE $d/n && cat $d/n;
        mknod $d/b b 8 0 2>/dev/null && echo MADE $d/b; done; echo end";
    for options in [&[][..], &["--user", "root"]] {
        assert_eq!(env.inside_with(options, script).ok(0), "end", "{options:?}");
    }
}

/// F08. Guards: the overlay: what is destroyed inside is destroyed for this cube only.
#[test]
fn a_destroyed_system_is_whole_at_the_next_launch() {
    let env = Env::new();
    env.inside("echo mine > ~/kept").ok(0);
    let hash = "find /etc /usr/bin -type f 2>/dev/null | sort | md5sum; cat /etc/passwd | md5sum";
    let before = env.inside(hash).ok(0).to_owned();
    let host = std::fs::read("/etc/passwd").unwrap();
    let output = env.inside_with(&["--user", "root"], "rm -rf --no-preserve-root /usr/sbin /usr/lib /usr/bin /etc /var /bin /lib* /opt 2>/dev/null; echo x > /etc/passwd; echo gone");
    assert!(output.stdout.contains("gone"), "{output:?}");
    assert_eq!(std::fs::read("/etc/passwd").unwrap(), host);
    assert!(std::path::Path::new("/usr/bin/env").exists());
    assert_eq!(env.inside(hash).ok(0), before);
    assert_eq!(env.inside("cat ~/kept").ok(0), "mine");
}

/// The user's own settings are out of reach: a cube that could write them would choose its own jail next time.
#[test]
fn tripmine_cannot_be_reconfigured_from_inside() {
    let env = Env::new();
    env.project("p");
    let output = env.tripmine(["p", "--", "/bin/sh", "-c", "find / -xdev -name '*tripmine*' -writable ! -path \"$HOME\" 2>/dev/null; find / -name config.toml -path '*tripmine*' ! -path \"$HOME/*\" 2>/dev/null; echo end"]);
    assert_eq!(output.ok(0), "end");
    // And a mount that would put them in reach is refused.
    for folder in [
        env.tripmine_home.join("config"),
        env.tripmine_home.join("data/homes"),
        env.tripmine_home.join("state/Mines"),
    ] {
        std::fs::create_dir_all(&folder).unwrap();
        let output = env.tripmine(["--mount", folder.to_str().unwrap(), "--yes-really", "--", "true"]);
        assert_ne!(output.code, 0, "{}: {output:?}", folder.display());
    }
}

/// F12: a host's socket in the project. `strict` cannot reach it; otherwise the user is told that it can. Guards: the
/// socket families of the strict profile.
#[test]
fn a_host_socket_in_the_project() {
    let env = Env::new();
    let project = env.project("p");
    let _listener = UnixListener::bind(project.join("agent.sock")).unwrap();
    let connect = "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die 'no family'; connect($s, sockaddr_un('agent.sock')) or die 'refused'; print 'reached'";
    let strict = env.tripmine(["--seccomp", "strict", "p", "--", "perl", "-e", connect]);
    if strict.code == 127 {
        return skip("a_host_socket_in_the_project", "there is no perl in /usr");
    }
    assert!(strict.stderr.contains("no family"), "{strict:?}");
    let default = env.tripmine(["p", "--", "perl", "-e", connect]);
    let told = default.stderr.contains("agent.sock");
    assert!(default.stdout != "reached" || told, "reached without a warning: {default:?}");
}

/// A name that looks like an alias of a forbidden file is the same file. Guards: rules that are bound to the mount
/// tree, not to strings.
#[test]
fn aliases_lead_to_the_same_place() {
    let env = Env::new();
    let direct = env.inside("ls /proc/self/root/ | sort | tr '\\n' ' '").ok(0).to_owned();
    assert_eq!(env.inside("ls / | sort | tr '\\n' ' '").ok(0), direct);
    assert_eq!(env.inside("cd /; ls ../../../../ | sort | tr '\\n' ' '").ok(0), direct);
    let loader = env.inside("l=$(ls /lib64/ld-linux-*.so.2 /lib/ld-linux-*.so.* 2>/dev/null | head -1); $l /proc/self/root/usr/bin/id -u; id -u");
    let ids: Vec<&str> = loader.ok(0).lines().collect();
    assert_eq!(ids[0], ids[1]);
}

/// Guards: the rule of the filter for modes. A program that runs as its owner, left in a project, would make every other user of
/// the host the user of the cube, or root where root launched it.
#[test]
fn no_program_that_runs_as_its_owner_is_left_in_a_project() {
    use std::os::unix::fs::PermissionsExt;
    let env = Env::new();
    let project = env.project("p");
    let script = "cp /bin/true s; cp /bin/true t; mkdir -p team
        chmod 4755 s 2>/dev/null && echo SET-UID; chmod u+s s 2>/dev/null && echo SET-UID
        chmod 2755 t 2>/dev/null && echo SET-GID; chmod 0750 t; chmod 2770 team && chmod 1777 s && echo end";
    let output = env.tripmine(["p", "--", "/bin/sh", "-c", script]);
    assert_eq!(output.ok(0), "end");
    for name in ["s", "t"] {
        let mode = std::fs::metadata(project.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o6000, 0, "{name} {mode:o}");
    }
}

/// What is written into a file takes such bits away: a mode that is given when it is made is no way either.
#[test]
fn a_file_that_is_made_with_such_a_mode_loses_it_with_its_first_byte() {
    use std::os::unix::fs::PermissionsExt;
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip(
            "a_file_that_is_made_with_such_a_mode_loses_it_with_its_first_byte",
            "there is no /usr/bin/python3",
        );
    }
    let env = Env::new();
    let project = env.project("p");
    let script = "import os, mmap
os.umask(0)
def made(name, fill):
    try:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o6777)
        fill(fd)
    except OSError:
        pass
def mapped(fd):
    os.ftruncate(fd, 4096)
    mmap.mmap(fd, 4096)[:4] = b'\\x7fELF'
def copied(fd):
    os.copy_file_range(os.open('/bin/true', os.O_RDONLY), fd, 4096)
def sent(fd):
    os.sendfile(fd, os.open('/bin/true', os.O_RDONLY), 0, 4096)
made('written', lambda fd: os.write(fd, b'\\x7fELF'))
made('allocated', lambda fd: os.posix_fallocate(fd, 0, 4096))
made('mapped', mapped)
made('copied', copied)
made('sent', sent)
os.mknod('node', 0o106777)
os.write(os.open('node', os.O_WRONLY), b'\\x7fELF')
print('end')";
    let output = env.tripmine(["p", "--", "/usr/bin/python3", "-c", script]);
    assert_eq!(output.ok(0), "end");
    for entry in std::fs::read_dir(&project).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let mode = meta.permissions().mode();
        assert!(meta.len() == 0 || mode & 0o6000 == 0, "{:?} {mode:o}", entry.file_name());
    }
}

/// Guards: no CAP_SETFCAP in cubes of the host's root. Through a mount with an id map the kernel would write capabilities of a
/// file as the host's own, and whoever ran it outside would have them.
#[test]
fn no_program_with_capabilities_of_the_host_is_left_in_a_project() {
    let name = "no_program_with_capabilities_of_the_host_is_left_in_a_project";
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip(name, "there is no /usr/bin/python3");
    }
    let env = Env::new();
    let project = env.project("p");
    // Revision 2, effective; CAP_SETUID.
    let script = "import os, struct
open('tool', 'w').close()
try:
    os.setxattr('tool', 'security.capability', struct.pack('<5I', 0x02000001, 1 << 7, 0, 0, 0))
    print('SET')
except OSError as error:
    print(error.errno)";
    let output = env.tripmine(["--user", "root", "p", "--", "/usr/bin/python3", "-c", script]);
    let said = output.ok(0);
    let mut bytes = [0_u8; 64];
    let length = rustix::fs::getxattr(project.join("tool"), "security.capability", &mut bytes[..]);
    if is_root() {
        assert_eq!(said, "1", "EPERM: {output:?}");
        assert!(length.is_err(), "{:?}", &bytes[..20]);
    } else if let Ok(length) = length {
        // An ordinary user's: of the third revision, and for user namespaces of his own only.
        assert_eq!((length, bytes[3]), (24, 3), "{:?}", &bytes[..24]);
    }
}

/// Guards: the rule of the filter for leases. Whoever opens a file of the project that a cube has leased would wait for it.
#[test]
fn nobody_outside_waits_for_a_file_of_the_project() {
    let name = "nobody_outside_waits_for_a_file_of_the_project";
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip(name, "there is no /usr/bin/python3");
    }
    let env = Env::new();
    let project = env.project("p");
    let script = "import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open('file', os.O_CREAT | os.O_RDONLY)
try:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    print('LEASED', flush=True)
except OSError as error:
    print(error.errno, flush=True)
sys.stdin.read()";
    let mut command = env.command(["p", "--", "/usr/bin/python3", "-c", script]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 16];
    let count = std::io::Read::read(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    let begun = std::time::Instant::now();
    let file = std::fs::File::options().write(true).open(project.join("file"));
    let waited = begun.elapsed();
    drop(child.stdin.take());
    crate::env::finish(child, crate::env::PATIENCE).ok(0);
    assert!(file.is_ok() && waited < std::time::Duration::from_secs(2), "{waited:?}");
    assert_eq!(&said[..count], b"1\n", "EPERM");
}
