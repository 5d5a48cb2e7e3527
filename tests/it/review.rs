//! `--review`: nothing reaches the project before `apply`, and then only what was picked and still fits.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::env::{Env, PATIENCE, until};

/// What lies in a folder: path, and content, mode or target of each.
fn tree(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if meta.is_symlink() {
                lines.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if meta.is_dir() {
                lines.push(format!("{name}/"));
                waiting.push(path);
            } else {
                lines.push(format!(
                    "{name} {:o} {}",
                    meta.mode() & 0o7777,
                    fs::read_to_string(&path).unwrap().trim()
                ));
            }
        }
    }
    lines.sort();
    lines
}

fn site(env: &Env) -> std::path::PathBuf {
    let site = env.project("site");
    fs::create_dir_all(site.join("src/deep")).unwrap();
    for (path, text) in [("a", "one\n"), ("b", "two\n"), ("src/x", "x\n"), ("src/deep/y", "y\n")] {
        fs::write(site.join(path), text).unwrap();
        fs::set_permissions(site.join(path), fs::Permissions::from_mode(0o644)).unwrap();
    }
    site
}

fn review(env: &Env, script: &str) {
    env.tripmine(["--review", "site", "--", "/bin/sh", "-c", script]).ok(0);
}

const WORK: &str = "echo uno >> a && rm b && rm -r src && mkdir src && echo z > src/z && echo n > new && chmod 4755 new && ln -s /etc/passwd ln && cat a";

#[test]
fn nothing_reaches_the_project_before_apply_and_everything_after() {
    let env = Env::new();
    let site = site(&env);
    let before = tree(&site);
    review(&env, WORK);
    assert_eq!(tree(&site), before);
    let shown = env.tripmine(["changes", "--diff", "site"]);
    for part in [
        "M /projects/site/a  content, 8B",
        "+uno",
        "D /projects/site/b",
        "-two",
        "A /projects/site/ln  → /etc/passwd",
        "A /projects/site/new  mode 4755",
        "D /projects/site/src/deep/\n",
        "D /projects/site/src/x",
        "A /projects/site/src/z",
    ] {
        assert!(shown.ok(0).contains(part), "`{part}`: {}", shown.stdout);
    }
    let applied = env.tripmine(["apply", "site"]);
    applied.ok(0);
    assert!(applied.stderr.contains("set-id"), "{}", applied.stderr);
    assert_eq!(tree(&site), ["a 644 one\nuno", "ln -> /etc/passwd", "new 755 n", "src/", "src/z 644 z"]);
    assert_eq!(env.tripmine(["changes", "site"]).ok(0), "");
    assert!(env.tripmine(["apply", "site"]).stderr.contains("nothing to take over"));
}

#[test]
fn only_what_was_picked_is_taken() {
    let env = Env::new();
    let site = site(&env);
    review(&env, WORK);
    env.tripmine(["apply", "site", "no/such"]).fails(1, "nothing changed at `no/such`");
    assert_eq!(env.tripmine(["apply", "site", "src/z", "/projects/site/b"]).ok(0), "b\nsrc/z");
    assert_eq!(
        tree(&site),
        ["a 644 one", "src/", "src/deep/", "src/deep/y 644 y", "src/x 644 x", "src/z 644 z"]
    );
    assert!(!env.tripmine(["changes", "site"]).ok(0).contains("src/z"));
}

#[test]
fn what_was_changed_meanwhile_is_refused_whole() {
    type Meddle = fn(&Path);
    let cases: [(&str, Meddle, &str); 6] = [
        ("a", |p| fs::write(p.join("a"), "mine\n").unwrap(), "the original was changed meanwhile"),
        ("a", |p| fs::remove_file(p.join("a")).unwrap(), "the original was deleted meanwhile"),
        ("new", |p| fs::write(p.join("new"), "mine").unwrap(), "somebody else made it meanwhile"),
        ("b", |p| fs::write(p.join("b"), "mine").unwrap(), "the original was changed meanwhile"),
        (
            "src/deep",
            |p| fs::write(p.join("src/deep/mine"), "mine").unwrap(),
            "`src/deep/mine` in it was made or changed",
        ),
        (
            "src/z",
            |p| {
                fs::rename(p.join("src"), p.join("was")).unwrap();
                symlink("was", p.join("src")).unwrap();
            },
            "its folder is a link",
        ),
    ];
    for (path, meddle, why) in cases {
        let env = Env::new();
        let site = site(&env);
        review(&env, WORK);
        meddle(&site);
        let before = tree(&site);
        env.tripmine(["apply", "site", path]).fails(1, why);
        env.tripmine(["apply", "site"]).fails(1, why);
        assert_eq!(tree(&site), before, "{path}: nothing is written");
    }
}

#[test]
fn a_link_in_the_project_leads_nowhere() {
    let env = Env::new();
    let site = site(&env);
    let outside = env.root().join("outside");
    fs::create_dir(&outside).unwrap();
    review(&env, "echo evil > src/deep/evil; mkdir -p newdir; echo evil > newdir/evil");
    fs::rename(site.join("src/deep"), site.join("kept")).unwrap();
    symlink(&outside, site.join("src/deep")).unwrap();
    symlink(&outside, site.join("newdir")).unwrap();
    for arguments in [&["apply", "--force", "site", "src/deep"][..], &["apply", "--force", "site", "newdir"]]
    {
        env.tripmine(arguments).fails(1, "nothing was taken over");
    }
    assert_eq!(tree(&outside), Vec::<String>::new());
}

#[test]
fn force_puts_the_cubes_side_over_ours() {
    let env = Env::new();
    let site = site(&env);
    review(&env, WORK);
    fs::write(site.join("a"), "mine\n").unwrap();
    env.tripmine(["apply", "--force", "site", "a"]).ok(0);
    assert_eq!(fs::read_to_string(site.join("a")).unwrap(), "one\nuno\n");
}

#[test]
fn a_review_waits_for_a_decision_and_rm_drops_it() {
    let env = Env::new();
    let site = site(&env);
    review(&env, "echo x > new");
    let id = env.record()["id"].as_str().unwrap().to_owned();
    // More ended cubes than stay.
    env.tripmine(["prune", "--yes"]).ok(0);
    assert_eq!(env.tripmine(["changes", &id]).ok(0), "A /projects/site/new  2B");
    env.tripmine(["rm", "--yes", &id]).ok(0);
    env.tripmine(["apply", &id]).fails(1, "there is no cube");
    assert!(!site.join("new").exists());
}

#[test]
fn a_running_cube_is_shown_and_not_applied() {
    let env = Env::new();
    let site = site(&env);
    let script = "echo x > new; touch /tmp/ready; exec sleep 600";
    let id = env.tripmine(["--review", "-d", "site", "--", "/bin/sh", "-c", script]).ok(0).to_owned();
    until("it wrote", PATIENCE, || env.tripmine(["exec", &id, "--", "test", "-e", "/tmp/ready"]).code == 0);
    assert!(env.tripmine(["changes", "site"]).ok(0).contains("A /projects/site/new"));
    env.tripmine(["apply", "site"]).fails(1, "runs: what you saw may change");
    env.tripmine(["kill", &id]).ok(0);
    assert!(!site.join("new").exists());
    env.tripmine(["apply", &id]).ok(0);
    assert!(site.join("new").exists());
}

#[test]
fn what_cannot_be_reviewed_is_refused() {
    let env = Env::new();
    env.tripmine(["run", "host", "--review", "--", "true"]).fails(2, "no project was named");
    let _site = site(&env);
    env.tripmine(["site", "--", "true"]).ok(0);
    let id = env.record()["id"].as_str().unwrap().to_owned();
    env.tripmine(["apply", &id]).fails(1, "its changes went with it");
    // A kept cube that holds a review is not launched past it.
    env.tripmine(["--review", "--keep", "box", "site", "--", "/bin/sh", "-c", "echo x > new"]).ok(0);
    env.tripmine(["--keep", "box", "site", "--", "true"]).fails(125, "holds changes under review");
    env.tripmine(["--review", "--keep", "box", "site", "--", "test", "-e", "new"]).ok(0);
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}
