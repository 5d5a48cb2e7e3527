//! Links and races against set-up: whatever a cube or a racing program does to names, nothing outside is mounted or
//! written. Guards: descriptors instead of paths during set-up, resolution inside the root, and the identity check
//! between plan and mount.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::env::Env;

/// A cube that is kept prepares links for the next launch (the family of CVE-2026-41579).
#[test]
fn links_in_a_kept_cube_lead_nowhere() {
    let outside = |name: &str| Path::new(name).exists();
    for (target, prepare) in [
        ("/projects", "rm -rf /projects && ln -s /etc /projects"),
        ("/projects", "rm -rf /projects && ln -s ../../../../../../tmp /projects"),
        ("/projects/site", "mkdir -p /projects && rm -rf /projects/site && ln -s /usr /projects/site"),
        (
            "/projects/site",
            "mkdir -p /projects && rm -rf /projects/site && ln -s /proc/self/root/etc /projects/site",
        ),
        ("/projects", "rm -rf /projects && echo file > /projects"),
        ("/dev", "rm -rf /dev; ln -s /proc/sys/kernel /dev; true"),
        ("/proc", "rm -rf /proc; ln -s /tmp /proc; true"),
        ("/etc", "rm -rf /etc && ln -s /tmp /etc"),
        ("/tmp", "rm -rf /tmp; ln -s /home /tmp; true"),
        ("/home", "rm -rf /home /root; ln -s /tmp /home; ln -s /tmp /root; true"),
    ] {
        let env = Env::new();
        let project = env.project("site");
        std::fs::write(project.join("marker"), "the project").unwrap();
        env.tripmine(["run", "host", "--keep", "k", "--user", "root", "--", "/bin/sh", "-c", prepare]);
        let output = env.tripmine([
            "--keep",
            "k",
            "--user",
            "root",
            "site",
            "--",
            "/bin/sh",
            "-c",
            "cat marker; touch here made-by-cube",
        ]);
        // Either refused (or the cube broke its own system beyond use), or the project is where it belongs: never anything else.
        let refused = output.code >= 125 && output.stdout.is_empty() && !output.stderr.is_empty();
        let right = output.stdout.contains("the project") && project.join("made-by-cube").exists();
        assert!(refused || right, "{target} by `{prepare}`: {output:?}");
        for name in [
            "/etc/made-by-cube",
            "/tmp/made-by-cube",
            "/usr/made-by-cube",
            "/made-by-cube",
            "/home/made-by-cube",
            "/etc/site",
            "/tmp/site",
        ] {
            assert!(!outside(name), "{target} by `{prepare}`: {name}");
        }
        env.tripmine(["rm", "--all", "--yes"]).ok(0);
    }
}

/// F10: a project that is swapped against a link to credentials while cubes start.
#[test]
fn a_project_swapped_during_launch_never_shows_what_it_leads_to() {
    let env = Env::new();
    let secrets = env.home.join(".ssh");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("marker"), "SECRET").unwrap();
    let project = env.project("p");
    std::fs::write(project.join("marker"), "project").unwrap();
    let link = env.projects.join("p-link");
    std::os::unix::fs::symlink(&secrets, &link).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &project, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                std::thread::yield_now();
            }
        });
        let (mut started, mut refused) = (0, 0);
        for _ in 0..30 {
            let output = env.tripmine(["p", "--", "/bin/sh", "-c", "cat marker; touch made-by-cube"]);
            assert!(!output.stdout.contains("SECRET"), "{output:?}");
            match output.code {
                0 => started += 1,
                _ => refused += 1,
            }
            if output.code != 0 {
                assert!(!output.stderr.is_empty(), "{output:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        println!("{started} started, {refused} refused");
    });
    assert!(!secrets.join("made-by-cube").exists());
}

/// A cube that sees all projects can leave a link behind. What the next launch of that project mounts must not be the
/// cube's choice.
#[test]
fn a_project_that_a_cube_made_a_link_is_not_followed_out() {
    let env = Env::new();
    env.project("p");
    let private = env.home.join("documents");
    std::fs::create_dir(&private).unwrap();
    std::fs::write(private.join("marker"), "PRIVATE").unwrap();
    let script = format!("cd /projects && rmdir p && ln -s {} p", private.display());
    env.tripmine([".", "--", "/bin/sh", "-c", &script]).ok(0);
    assert!(env.projects.join("p").is_symlink());
    let output = env.tripmine(["p", "--", "cat", "marker"]);
    assert!(output.code != 0 && !output.stdout.contains("PRIVATE"), "{output:?}");
}

/// F09: links in a project are the cube's own business: they lead into the cube.
#[test]
fn links_in_a_project_lead_into_the_cube() {
    let env = Env::new();
    let project = env.project("p");
    let secret = env.home.join("secret");
    std::fs::write(&secret, "SECRET").unwrap();
    std::os::unix::fs::symlink(&secret, project.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", project.join("shadow")).unwrap();
    let output = env.tripmine(["p", "--", "/bin/sh", "-c", "cat link shadow 2>/dev/null; echo end"]);
    assert_eq!(output.ok(0), "end");
}

/// Settings of a project are read on the host, before any jail: a link is not followed, and a flood is not read.
#[test]
fn a_projects_file_is_read_with_care() {
    let env = Env::new();
    let secret = env.home.join("secret.yml");
    std::fs::write(&secret, "very-secret-key: 1\n").unwrap();
    let project = env.project("p");
    std::os::unix::fs::symlink(&secret, project.join(".tconfig.yml")).unwrap();
    let output = env.tripmine(["p", "--", "true"]);
    assert!(!output.stderr.contains("very-secret-key"), "{output:?}");
    let fifo = env.project("q").join(".tconfig.yml");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0).unwrap();
    // A reader that opened it would hang for ever; `finish` has a deadline.
    let output = env.tripmine(["q", "--", "true"]);
    assert!(matches!(output.code, 0 | 1 | 125), "{output:?}");
    let device = env.project("z").join(".tconfig.yml");
    std::os::unix::fs::symlink("/dev/zero", device).unwrap();
    assert!(matches!(env.tripmine(["z", "--", "true"]).code, 0 | 1 | 125));
}
