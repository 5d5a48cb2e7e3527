//! Links and swapped folders (F10): without the checks of set-up, the attacks of `links.rs` succeed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::env::Env;
use crate::run_weak;

/// The most launches until the race is won; without the check about every second is.
const TRIES: u32 = 100;
/// Launches with it.
const CONTROL: u32 = 10;

#[test]
fn a_swapped_project_shows_what_it_leads_to_without_the_identity_check() {
    let env = Env::new();
    let secrets = env.home.join(".ssh");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("marker"), "SECRET").unwrap();
    let project = env.project("p");
    std::fs::write(project.join("marker"), "project").unwrap();
    let link = env.projects.join("p-link");
    symlink(&secrets, &link).unwrap();
    let stop = AtomicBool::new(false);
    let (kept, won) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &project, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                std::thread::yield_now();
            }
        });
        let shown =
            |out: &str| run_weak(&env, out, "", &["p", "--", "cat", "marker"]).stdout.contains("SECRET");
        let kept = (0..CONTROL).all(|_| !shown(""));
        let won = (0..TRIES).find(|_| shown("identity"));
        stop.store(true, Ordering::Relaxed);
        (kept, won)
    });
    assert!(kept, "shown with nothing left out");
    println!("won after {won:?}");
    assert!(won.is_some(), "not in {TRIES} launches: the check that was left out is not what keeps it");
}

/// A kept cube plants a link in place of /projects; set-up that follows it makes its folder on the host.
#[test]
fn a_planted_link_leads_out_without_the_care_for_mount_points() {
    for (out, made) in [("", false), ("target-links", true)] {
        let env = Env::new();
        env.project("site");
        let outside = env.root().join("outside");
        std::fs::create_dir(&outside).unwrap();
        for path in [env.root(), &outside] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        let keep = ["run", "host", "--keep", "k", "--user", "root", "--", "/bin/sh", "-c"];
        let plant = format!("rm -rf /projects && ln -s {} /projects", outside.display());
        run_weak(&env, "", "", &[&keep[..], &[&plant]].concat()).ok(0);
        run_weak(&env, out, "", &["--keep", "k", "--user", "root", "site", "--", "true"]);
        assert_eq!(outside.join("site").exists(), made, "without `{out}`");
        run_weak(&env, "", "", &["rm", "--all", "--yes"]).ok(0);
    }
}
