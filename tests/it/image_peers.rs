//! Images between tripmine and the tools that people have: skopeo, umoci and podman take ours, and theirs run here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::env::{Env, Output, finish, is_root, skip};
use crate::image_root::{import, root};

/// Longer than any of them takes on a loaded machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// True when a tool is here; otherwise the test is counted as skipped.
pub(crate) fn has(test: &str, tools: &[&str]) -> bool {
    let found =
        |tool: &&&str| !std::env::split_paths("/usr/bin:/usr/sbin:/bin").any(|dir| dir.join(tool).exists());
    match tools.iter().find(found) {
        Some(tool) => {
            skip(test, &format!("there is no {tool} (Debian: apt-get install {tool})"));
            false
        }
        None => true,
    }
}

/// Runs a tool in the world of the test.
pub(crate) fn tool(env: &Env, argv: &[&str]) -> Output {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).env_clear().envs(env.variables()).current_dir(env.root());
    finish(
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
        PATIENCE,
    )
}

/// Everything that a tree is, a line an entry: type, mode, owner if `owners`, links, size, time, contents.
fn tree(folder: &Path, owners: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).unwrap().flatten() {
            let (path, found) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let name = path.strip_prefix(folder).unwrap().display();
            let what = if found.is_dir() {
                waiting.push(path.clone());
                String::new()
            } else if found.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if found.is_file() {
                use sha2::Digest;
                let digest = sha2::Sha256::digest(fs::read(&path).unwrap());
                format!("{} links, {} bytes, {digest:x}", found.nlink(), found.len())
            } else {
                "special".to_owned()
            };
            let owner = if owners { format!("{}:{}", found.uid(), found.gid()) } else { String::new() };
            lines.push(format!("{name} {:o} {owner} {} {what}", found.mode(), found.mtime()));
        }
    }
    lines.sort();
    lines
}

/// A tree with one of everything that an image keeps.
fn everything(folder: &Path) {
    root(folder);
    let opt = folder.join("opt");
    fs::write(opt.join("one"), "one name\n").unwrap();
    fs::hard_link(opt.join("one"), opt.join("two")).unwrap();
    symlink("one", opt.join("link")).unwrap();
    symlink("/nowhere/at/all", opt.join("broken")).unwrap();
    fs::write(opt.join("setuid"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(opt.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::create_dir(opt.join("private")).unwrap();
    fs::set_permissions(opt.join("private"), fs::Permissions::from_mode(0o2750)).unwrap();
    fs::write(opt.join("a name with spaces and \u{e4}"), "").unwrap();
    let sparse = fs::File::create(opt.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (3 << 20) - 3).unwrap();
    let long = opt.join("x".repeat(90)).join("y".repeat(90));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("z".repeat(90)), "deep").unwrap();
    for path in ["opt/one", "opt/setuid", "opt/private", "opt"] {
        let times = ["-d", "@1000000000.5", path];
        assert!(Command::new("touch").args(times).current_dir(folder).status().unwrap().success());
    }
}

#[test]
fn skopeo_and_umoci_take_every_form_and_the_tree_is_the_same() {
    if !has("skopeo_and_umoci_take_every_form_and_the_tree_is_the_same", &["skopeo", "umoci"]) {
        return;
    }
    let env = Env::new();
    let folder = env.root().join("everything");
    everything(&folder);
    env.tripmine(["image", "import", folder.to_str().unwrap(), "all"]).ok(0);
    env.tripmine(["image", "import", "--compress", "gzip", folder.to_str().unwrap(), "packed"]).ok(0);
    let at = |name: &str| env.root().join(name).display().to_string();
    for image in ["all", "packed"] {
        let digest = env.tripmine(["image", "show", "--json", image]);
        let digest: serde_json::Value = serde_json::from_str(digest.ok(0)).unwrap();
        let digest = digest["digest"].as_str().unwrap();
        let (oci, archive, docker) =
            (at(&format!("{image}.oci")), at(&format!("{image}.tar")), at(&format!("{image}.d")));
        for target in
            [format!("oci:{oci}:x"), format!("oci-archive:{archive}"), format!("docker-archive:{docker}")]
        {
            env.tripmine(["image", "export", image, &target]).ok(0);
            let seen = tool(&env, &["skopeo", "inspect", &target]);
            assert!(seen.ok(0).contains("\"Layers\""), "{seen:?}");
            // A copy by skopeo checks every digest.
            let to = at(&format!("copy-{image}-{}", &target[..3]));
            tool(&env, &["skopeo", "copy", "-q", &target, &format!("dir:{to}")]).ok(0);
        }
        let bundle = at(&format!("{image}.bundle"));
        let unpack = ["umoci", "unpack", "--image", &format!("{oci}:x"), &bundle];
        let rootless = ["umoci", "unpack", "--rootless", "--image", &format!("{oci}:x"), &bundle];
        tool(&env, if is_root() { &unpack } else { &rootless }).ok(0);
        assert_eq!(tree(&folder, is_root()), tree(&Path::new(&bundle).join("rootfs"), is_root()), "{image}");
        assert!(fs::metadata(Path::new(&bundle).join("rootfs/opt/sparse")).unwrap().len() == 3 << 20);
        // And back: bit for bit the same image, or at least the same tar in its layer.
        for (from, same) in [(&oci, true), (&archive, true), (&docker, false)] {
            let back = env.tripmine(["image", "import", from, "back"]);
            assert!(!same || back.ok(0) == digest, "{from}: {back:?} {digest}");
            let layer = |name: &str| {
                let text = env.tripmine(["image", "show", "--json", name]).ok(0).to_owned();
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                value["layers"][0]["diff_id"].clone()
            };
            assert_eq!(layer("back"), layer(image), "{from}");
            assert!(!layer(image).is_null());
        }
    }
    // The store itself is a layout that they read.
    let store = env.tripmine_home.join("data/images");
    tool(&env, &["skopeo", "inspect", &format!("oci:{}:all", store.display())]).ok(0);
}

#[test]
fn a_snapshots_deletions_are_deletions_to_umoci_too() {
    if !has("a_snapshots_deletions_are_deletions_to_umoci_too", &["umoci"]) {
        return;
    }
    let env = Env::new();
    import(&env, "small", |root| {
        fs::create_dir(root.join("opt/gone")).unwrap();
        fs::write(root.join("opt/gone/f"), "").unwrap();
        fs::create_dir(root.join("opt/fresh")).unwrap();
        fs::write(root.join("opt/fresh/old"), "").unwrap();
    });
    let script = "cd /opt; > gone/x; cat mark > copy; echo new > mark";
    env.tripmine(["run", "small", "--keep", "box", "--", "sh", "-c", script]).ok(0);
    env.tripmine(["image", "snapshot", "grown", "box"]).ok(0);
    let (oci, bundle) = (env.root().join("oci"), env.root().join("bundle"));
    env.tripmine(["image", "export", "grown", &format!("oci:{}:x", oci.display())]).ok(0);
    let image = format!("{}:x", oci.display());
    let mut argv = vec!["umoci", "unpack", "--image", &image];
    if !is_root() {
        argv.push("--rootless");
    }
    argv.push(bundle.to_str().unwrap());
    tool(&env, &argv).ok(0);
    assert_eq!(fs::read_to_string(bundle.join("rootfs/opt/mark")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(bundle.join("rootfs/opt/copy")).unwrap(), "image\n");
    env.tripmine(["rm", "--yes", "box"]).ok(0);
    // On top of `host`, with whiteouts: the layer alone, which umoci applies to nothing.
    env.inside_with(&["--keep", "host"], "rm -r /etc/fstab /var/log; mkdir /var/log; echo x > /etc/x").ok(0);
    env.tripmine(["image", "snapshot", "layer", "host"]).ok(0);
    env.tripmine(["image", "export", "layer", &format!("oci:{}:y", oci.display())]).ok(0);
    let (image, bundle) = (format!("{}:y", oci.display()), env.root().join("bundle2"));
    let mut argv = vec!["umoci", "unpack", "--image", &image];
    if !is_root() {
        argv.push("--rootless");
    }
    argv.push(bundle.to_str().unwrap());
    tool(&env, &argv).ok(0);
    assert!(bundle.join("rootfs/etc/x").exists() && !bundle.join("rootfs/etc/.wh.fstab").exists());
    env.tripmine(["rm", "--yes", "host"]).ok(0);
}

#[test]
fn what_umoci_makes_runs_here() {
    if !has("what_umoci_makes_runs_here", &["umoci"]) {
        return;
    }
    let env = Env::new();
    let (folder, oci) = (env.root().join("tree"), env.root().join("oci"));
    root(&folder);
    let image = format!("{}:made", oci.display());
    let tar = env.root().join("root.tar");
    let packed =
        ["tar", "--owner=0", "--group=0", "-C", folder.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."];
    tool(&env, &packed).ok(0);
    tool(&env, &["umoci", "init", "--layout", oci.to_str().unwrap()]).ok(0);
    tool(&env, &["umoci", "new", "--image", &image]).ok(0);
    tool(&env, &["umoci", "raw", "add-layer", "--image", &image, tar.to_str().unwrap()]).ok(0);
    let config =
        ["umoci", "config", "--image", &image, "--config.env", "FROM=umoci", "--config.workingdir", "/opt"];
    tool(&env, &[&config[..], &["--config.cmd", "cat", "--config.cmd", "mark"]].concat()).ok(0);
    env.tripmine(["image", "import", oci.to_str().unwrap(), "made"]).ok(0);
    assert_eq!(env.tripmine(["run", "made"]).ok(0), "image");
    assert_eq!(env.tripmine(["run", "made", "--", "sh", "-c", "echo $FROM; pwd"]).ok(0), "umoci\n/opt");
}

#[test]
fn podman_runs_ours_and_its_own_run_here() {
    let name = "podman_runs_ours_and_its_own_run_here";
    if !has(name, &["podman"]) {
        return;
    }
    if !is_root() {
        return skip(name, "podman of an ordinary user needs a session of its own; root's is tried");
    }
    let env = Env::new();
    import(&env, "ours", |_| {});
    let oci = env.root().join("oci");
    env.tripmine(["image", "export", "ours", &format!("oci:{}:ours", oci.display())]).ok(0);
    let at = |part: &str| env.root().join(part).display().to_string();
    let podman = |argv: &[&str]| {
        let (store, run) = (at("ps"), at("pr"));
        let own = [
            "podman",
            "--root",
            &store,
            "--runroot",
            &run,
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
        ];
        tool(&env, &[&own[..], argv].concat())
    };
    // From where it is: podman makes a name of the path.
    let id = podman(&["pull", "-q", "oci:oci:ours"]).ok(0).to_owned();
    // Some way in which podman runs anything at all on this host, whatever the image.
    let ways: [&[&str]; 2] = [&["--runtime", "runc"], &["--cgroups", "disabled"]];
    let limits = ["--network", "none", "--ulimit", "nofile=256:256", "--ulimit", "nproc=512:512"];
    let mut said = String::new();
    for way in ways {
        let ran = podman(
            &[
                &["run", "--name", "made"],
                way,
                &limits[..],
                &[&id, "sh", "-c", "cat /opt/mark; echo more > /more"],
            ]
            .concat(),
        );
        if ran.code == 0 {
            assert_eq!(ran.ok(0), "image");
            let forms = [("oci-archive", "made.tar"), ("docker-archive", "made.d")];
            podman(&["commit", "-q", "made", "made"]).ok(0);
            for (form, file) in forms {
                podman(&["save", "-q", "--format", form, "-o", &at(file), "made"]).ok(0);
                env.tripmine(["image", "import", &at(file), form]).ok(0);
                assert_eq!(
                    env.tripmine(["run", form, "--", "cat", "/opt/mark", "/more"]).ok(0),
                    "image\nmore",
                    "{form}"
                );
            }
            podman(&["rm", "-f", "made"]);
            podman(&["rmi", "-f", "--all"]);
            return;
        }
        said = ran.stderr;
        podman(&["rm", "-f", "made"]);
    }
    // A root of this host's own programs: what podman cannot run here is not our image.
    assert!(said.contains("OCI") || said.contains("cgroup") || said.contains("not permitted"), "{said}");
    skip(name, &format!("podman runs nothing here: {}", said.lines().last().unwrap_or_default()));
}
