//! Skeletons of this host, and of made-up ones.

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::time::Instant;

use super::*;

fn me() -> SkeletonUser {
    SkeletonUser { uid: 1000, gid: 1000, name: "me".into(), home: "/home/me".into(), shell: "/bin/sh".into() }
}

/// A host with everything that must and must not be copied.
fn host() -> tempfile::TempDir {
    let host = tempfile::tempdir().expect("tempdir");
    let root = host.path();
    for folder in [
        "usr/bin",
        "usr/lib",
        "usr/share/zoneinfo",
        "lib64",
        "etc/ssl/certs",
        "etc/ssl/private",
        "etc/ssh",
        "etc/alternatives",
        "etc/profile.d",
        "etc/apt/auth.conf.d",
        "etc/default",
        "etc/closed",
    ] {
        fs::create_dir_all(root.join(folder)).expect("mkdir");
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("etc/alternatives/good", "/usr/bin/vim"),
        ("etc/alternatives/through", "/lib/x"),
        ("etc/alternatives/own", "../profile"),
        ("etc/alternatives/shadow", "../shadow"),
        ("etc/alternatives/home", "/root/secret"),
        ("etc/alternatives/climb", "../../../../root/secret"),
        ("etc/ssl/certs/private", "../private/key.pem"),
        ("etc/localtime", "/proc/self/does-not-matter"),
        ("etc/os-release", "../usr/lib/os-release"),
    ] {
        symlink(target, root.join(link)).expect("link");
    }
    fs::remove_file(root.join("etc/localtime")).expect("unlink");
    symlink("../usr/share/zoneinfo/UTC", root.join("etc/localtime")).expect("link");
    for (file, mode) in [
        ("usr/bin/bash", 0o755),
        ("usr/lib/os-release", 0o644),
        ("usr/share/zoneinfo/UTC", 0o644),
        ("etc/profile", 0o644),
        ("etc/profile.d/hidden.sh", 0o640),
        ("etc/profile.d/tool.sh", 0o4755),
        ("etc/ssl/certs/ca.pem", 0o644),
        ("etc/ssl/private/key.pem", 0o644),
        ("etc/shadow", 0o644),
        ("etc/ssh/config", 0o644),
        ("etc/machine-id", 0o444),
        ("etc/apt/auth.conf", 0o644),
        ("etc/apt/auth.conf.d/a", 0o644),
        ("etc/apt/sources.list", 0o644),
        ("etc/default/locale", 0o644),
        ("etc/default/grub", 0o644),
        ("etc/passwd", 0o644),
    ] {
        fs::write(root.join(file), format!("host's {file}")).expect("write");
        fs::set_permissions(root.join(file), Permissions::from_mode(mode)).expect("chmod");
    }
    fs::write(root.join("etc/profile.d/proxy.sh"), "export http_proxy=http://u:secret@p:1").expect("write");
    drop(UnixListener::bind(root.join("etc/profile.d/socket")).expect("bind"));
    host
}

fn files_under(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("dir") {
        let entry = entry.expect("entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("type").is_dir() {
            files_under(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name);
        }
    }
}

#[test]
fn exactly_the_allowed_is_copied() {
    let (host, layers) = (host(), tempfile::tempdir().expect("tempdir"));
    let folder = ensure_from(host.path(), layers.path(), &me(), "seed").expect("made").folder;
    let mut found = BTreeSet::new();
    files_under(&folder, "", &mut found);
    let expected = [
        "bin",
        "dev/fd",
        "dev/full",
        "dev/null",
        "dev/ptmx",
        "dev/random",
        "dev/stderr",
        "dev/stdin",
        "dev/stdout",
        "dev/tty",
        "dev/urandom",
        "dev/zero",
        "etc/alternatives/good",
        "etc/alternatives/own",
        "etc/alternatives/through",
        "etc/apt/sources.list",
        "etc/default/locale",
        "etc/fstab",
        "etc/group",
        "etc/hostname",
        "etc/hosts",
        "etc/localtime",
        "etc/machine-id",
        "etc/mtab",
        "etc/nsswitch.conf",
        "etc/os-release",
        "etc/passwd",
        "etc/profile",
        "etc/profile.d/tool.sh",
        "etc/resolv.conf",
        "etc/shells",
        "etc/ssl/certs/ca.pem",
        "lib",
        "var/lock",
        "var/run",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect(name);
    assert!(!read("etc/passwd").contains("host's") && read("etc/passwd").contains("\nme:x:1000:1000:"));
    assert!(!read("etc/machine-id").contains("host's"));
    assert_eq!(read("etc/localtime"), "host's usr/share/zoneinfo/UTC");
    let mode =
        |name: &str| fs::symlink_metadata(folder.join(name)).expect(name).permissions().mode() & 0o7777;
    assert_eq!(
        (mode("tmp"), mode("root"), mode("."), mode("etc/profile.d/tool.sh")),
        (0o1777, 0o700, 0o755, 0o755)
    );
    assert!(
        folder.join("lib64").is_dir() && folder.join("home/me").is_dir() && folder.join("projects").is_dir()
    );
    assert_eq!(key::system_trees_of(host.path()), [Path::new("/usr"), Path::new("/lib64")]);
}

#[test]
fn it_is_reused_until_something_changes() {
    let (host, layers) = (host(), tempfile::tempdir().expect("tempdir"));
    let make = |user: &SkeletonUser, seed: &str| {
        ensure_from(host.path(), layers.path(), user, seed).expect("made").folder
    };
    let first = make(&me(), "seed");
    fs::write(first.join("mark"), "").expect("write");
    assert_eq!(make(&me(), "seed"), first);
    assert!(first.join("mark").exists(), "it was made again");
    let mut all = vec![first, make(&me(), "other"), make(&SkeletonUser { uid: 7, ..me() }, "seed")];
    fs::write(host.path().join("etc/profile"), "changed, and longer than before").expect("write");
    all.push(make(&me(), "seed"));
    fs::write(host.path().join("etc/ssl/certs/new.pem"), "").expect("write");
    all.push(make(&me(), "seed"));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
    // One whose stamp is missing was not finished.
    fs::remove_file(stamp_path(&all[0])).expect("unlink");
    let again = [make(&me(), "seed"), make(&me(), "other"), make(&SkeletonUser { uid: 7, ..me() }, "seed")];
    assert!(again.iter().all(|folder| folder.join("etc/passwd").exists()));
}

#[test]
fn prune_spares_what_may_be_in_use() {
    let (host, layers) = (host(), tempfile::tempdir().expect("tempdir"));
    let make = |seed: &str| ensure_from(host.path(), layers.path(), &me(), seed).expect("made").folder;
    let (current, stale) = (make("current"), make("stale"));
    fs::create_dir_all(layers.path().join(".host-half/etc")).expect("mkdir");
    let later = SystemTime::now() + Duration::from_secs(60);
    let before = SystemTime::now() - Duration::from_secs(60);
    assert_eq!(
        prune(layers.path(), std::slice::from_ref(&current), None).expect("pruned"),
        0,
        "used just now"
    );
    assert!(!layers.path().join(".host-half").exists());
    assert_eq!(
        prune_before(layers.path(), std::slice::from_ref(&current), Some(before), later).expect("pruned"),
        0
    );
    assert_eq!(prune_before(layers.path(), std::slice::from_ref(&current), None, later).expect("pruned"), 1);
    assert!(current.exists() && !stale.exists() && !stamp_path(&stale).exists());
    assert_eq!(make("stale"), stale);
}

#[test]
fn this_host_gives_a_whole_skeleton_quickly_found_again() {
    let layers = tempfile::tempdir().expect("tempdir");
    let start = Instant::now();
    let folder = ensure(layers.path(), &me(), "seed").expect("made").folder;
    let made = start.elapsed();
    let best = (0..50)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(ensure(layers.path(), &me(), "seed").expect("found").folder, folder);
            start.elapsed()
        })
        .min()
        .expect("measured");
    println!("made in {made:?}, found in {best:?}");
    for absent in ["etc/shadow", "etc/gshadow", "etc/ssh", "etc/sudoers", "etc/ssl/private", "etc/pam.d"] {
        assert!(fs::symlink_metadata(folder.join(absent)).is_err(), "{absent}");
    }
    assert!(system_trees().contains(&PathBuf::from("/usr")));
    assert_eq!(fs::read_link("/bin").ok(), fs::read_link(folder.join("bin")).ok());
    assert!(best < Duration::from_millis(100), "{best:?}");
}
