//! A Debian root, bootstrapped: `apt-get install` in it, a snapshot, and the next cube has the package. As root, with
//! subordinate ids, and with one id alone, which says what breaks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{Env, Output, finish, is_root, skip};

/// A cube of a whole system takes longer to come and go than others.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

/// What mmdebstrap made, where `tests/run.sh` put it.
fn debian(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("TRIPMINE_TEST_DEBIAN").map(PathBuf::from).filter(|path| path.exists());
    if path.is_none() {
        skip(
            test,
            "TRIPMINE_TEST_DEBIAN names no tar of a Debian root: mmdebstrap --variant=apt bookworm FILE",
        );
    }
    path
}

/// A package with a program, a script that makes a user, and a folder of another owner.
fn package(project: &Path) {
    let tree = project.join("package");
    for folder in ["DEBIAN", "usr/bin", "var/lib/tm-hello"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    let control = "Package: tm-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: a test\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let after = "#!/bin/sh\nset -e\nuseradd --system tm-hello\nchown games:mail /var/lib/tm-hello\n";
    for (path, text) in
        [("DEBIAN/postinst", after), ("usr/bin/tm-hello", "#!/bin/sh\necho hello from the package\n")]
    {
        fs::write(tree.join(path), text).unwrap();
        fs::set_permissions(tree.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let file = project.join("tm-hello.deb");
    let built =
        Command::new("dpkg-deb").arg("--root-owner-group").arg("-b").arg(&tree).arg(file).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    fs::remove_dir_all(tree).unwrap();
}

fn slow<const N: usize>(env: &Env, args: [&str; N]) -> Output {
    finish(env.command(args).spawn().unwrap(), PATIENCE)
}

const INSTALL: &str = "apt-get install -y /projects/site/tm-hello.deb";

#[test]
fn a_package_is_installed_kept_as_an_image_and_there_in_the_next_cube() {
    let name = "a_package_is_installed_kept_as_an_image_and_there_in_the_next_cube";
    let Some(tar) = debian(name) else { return };
    let env = Env::new();
    package(&env.project("site"));
    slow(&env, ["image", "import", tar.to_str().unwrap(), "debian"]).ok(0);
    env.tripmine(["machine", "create", "deb", "-i", "debian"]).ok(0);
    let argv = ["-m", "deb", "--user", "root", "--keep", "setup", "site", "--", "sh", "-c", INSTALL];
    let installed = slow(&env, argv);
    assert!(installed.ok(0).contains("Setting up tm-hello"), "{installed:?}");
    assert!(!installed.stderr.contains("only user inside"), "{}", installed.stderr);
    slow(&env, ["image", "snapshot", "--yes", "dev", "setup"]).ok(0);
    assert_eq!(slow(&env, ["run", "dev", "--", "tm-hello"]).ok(0), "hello from the package");
    let look = "dpkg-query -W -f '${Status}\\n' tm-hello; stat -c %U:%G /var/lib/tm-hello; id -un; getent passwd tm-hello | cut -d: -f1; \
        stat -c '%U %a' /etc/shadow /usr/bin/passwd; cd /tmp && touch f && chown games f && stat -c %U f";
    assert_eq!(
        slow(&env, ["run", "dev", "--user", "root", "--", "sh", "-c", look]).ok(0),
        "install ok installed\ngames:mail\nroot\ntm-hello\nroot 640\nroot 4755\ngames"
    );
    // What belongs to other ids inside can be removed by who launched it, with the machine's home as well.
    let mine = "mkdir ~/theirs && touch ~/theirs/f && chown -R games ~/theirs && chmod 700 ~/theirs";
    slow(&env, ["-m", "deb", "--user", "root", "site", "--", "sh", "-c", mine]).ok(0);
    env.tripmine(["machine", "rm", "--yes", "deb"]).ok(0);
    env.tripmine(["prune", "--yes"]).ok(0);
    assert_eq!(fs::read_dir(env.tripmine_home.join("data/trash")).map_or(0, Iterator::count), 0);
    // The base is as it was.
    slow(&env, ["run", "debian", "--", "tm-hello"]).ok(127);
    env.tripmine(["rm", "--yes", "setup"]).ok(0);
}

#[test]
fn with_one_id_it_is_said_what_breaks_and_the_rest_works() {
    let name = "with_one_id_it_is_said_what_breaks_and_the_rest_works";
    let Some(tar) = debian(name) else { return };
    if !is_root() {
        return skip(name, "only root can become a user without subordinate ids");
    }
    /// Nobody's: no line of /etc/subuid is about it.
    const LONER: u32 = 64_789;
    let env = Env::with_own_binary();
    package(&env.project("site"));
    let given =
        Command::new("chown").args(["-R", &format!("{LONER}:{LONER}")]).arg(env.root()).status().unwrap();
    assert!(given.success());
    let run = |argv: &[&str]| finish(env.command(argv).uid(LONER).gid(LONER).spawn().unwrap(), PATIENCE);
    run(&["image", "import", tar.to_str().unwrap(), "debian"]).ok(0);
    run(&["machine", "create", "deb", "-i", "debian"]).ok(0);
    let tried = run(&["-m", "deb", "--user", "root", "--keep", "setup", "site", "--", "sh", "-c", INSTALL]);
    assert_ne!(tried.code, 0, "{tried:?}");
    for part in ["root is the only user inside", "subordinate ids", "`apt`"] {
        assert!(tried.stderr.contains(part), "`{part}`: {}", tried.stderr);
    }
    // dpkg alone works but for the other users, and what it changed is kept.
    let unpack = "dpkg --unpack --force-not-root /projects/site/tm-hello.deb && tm-hello";
    let unpacked = run(&["-m", "deb", "--user", "root", "--keep", "setup", "site", "--", "sh", "-c", unpack]);
    assert!(unpacked.ok(0).ends_with("hello from the package"), "{unpacked:?}");
    run(&["image", "snapshot", "--yes", "dev", "setup"]).ok(0);
    assert_eq!(run(&["run", "dev", "--", "tm-hello"]).ok(0), "hello from the package");
    run(&["rm", "--yes", "setup"]).ok(0);
}
