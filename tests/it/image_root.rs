//! Cubes whose root is a stored image: what the image says is honoured, and nothing of it leads out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::env::{Env, is_root};

/// Programs that the tests run inside.
const PROGRAMS: [&str; 7] = ["sh", "cat", "ls", "id", "touch", "stat", "env"];

/// A root with a shell and a few programs of this host, and the libraries that they need.
pub(crate) fn root(folder: &Path) {
    for name in ["bin", "etc/skel", "opt", "var", "usr"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let mut needed: Vec<PathBuf> = Vec::new();
    for program in PROGRAMS {
        let path = Path::new("/usr/bin").join(program).canonicalize().unwrap();
        let listed = Command::new("ldd").arg(&path).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        needed.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
        fs::copy(&path, folder.join("bin").join(program)).unwrap();
    }
    for library in needed {
        let to = folder.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if !to.exists() {
            fs::copy(&library, to).unwrap();
        }
    }
    fs::write(folder.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\ndb:x:77:78::/db:/bin/sh\n").unwrap();
    fs::write(folder.join("etc/group"), "root:x:0:\ndb:x:78:\n").unwrap();
    fs::write(folder.join("etc/skel/.from-image"), "seed").unwrap();
    fs::write(folder.join("opt/mark"), "image\n").unwrap();
}

/// Imports a folder as it is.
pub(crate) fn import(env: &Env, name: &str, change: impl FnOnce(&Path)) {
    let folder = env.root().join(format!("root-{name}"));
    root(&folder);
    change(&folder);
    env.tripmine(["image", "import", folder.to_str().unwrap(), name]).ok(0);
}

/// Imports it with a config, as an OCI layout made here.
fn import_with(env: &Env, name: &str, config: &Value) {
    let (folder, layout) = (env.root().join(format!("root-{name}")), env.root().join(format!("oci-{name}")));
    root(&folder);
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(blobs.join(&hex), bytes).unwrap();
        (format!("sha256:{hex}"), bytes.len())
    };
    let made = Command::new("tar")
        .args(["-C", folder.to_str().unwrap(), "--owner=0", "--group=0", "-cf", "-", "."])
        .output();
    let (layer, layer_size) = put(&made.unwrap().stdout);
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = json!({ "architecture": arch, "os": "linux", "config": config, "rootfs": { "type": "layers", "diff_ids": [layer] } });
    let (config, config_size) = put(config.to_string().as_bytes());
    let media = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media("manifest.v1+json"),
        "config": { "mediaType": media("config.v1+json"), "digest": config, "size": config_size },
        "layers": [{ "mediaType": media("layer.v1.tar"), "digest": layer, "size": layer_size }],
    });
    let (manifest, size) = put(manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [{ "mediaType": media("manifest.v1+json"), "digest": manifest, "size": size }] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    env.tripmine(["image", "import", layout.to_str().unwrap(), name]).ok(0);
}

#[test]
fn the_images_files_are_there_and_the_hosts_are_not() {
    let env = Env::new();
    import(&env, "small", |_| {});
    let script = "cat /opt/mark /etc/hostname; ls /sys /usr/share; echo x > /dev/null && echo devices; cat /proc/1/comm > /dev/null && \
        echo processes; touch /tmp/a /run/b /var/c && echo writes; ls -a ~; id -u";
    let output = env.tripmine(["run", "small", "--", "sh", "-c", script]);
    let uid = if is_root() { "0".to_owned() } else { rustix::process::getuid().as_raw().to_string() };
    for part in ["image\n", "devices\n", "processes\n", "writes\n", &format!("\n{uid}")] {
        assert!(output.stdout.contains(part), "`{part}`: {output:?}");
    }
    // Throwaway: the next one starts anew.
    let output = env.tripmine(["run", "small", "--", "sh", "-c", "ls /var; cat /etc/passwd"]);
    assert!(!output.ok(0).contains("c\n") && output.stdout.contains("db:x:77:78"), "{output:?}");
    assert_eq!(env.record()["image"], "small");
    assert!(env.record()["image_digest"].as_str().unwrap().starts_with("sha256:"));
    env.tripmine(["run", "nothing", "--", "true"]).fails(125, "there is no image `nothing`");
}

#[test]
fn the_config_is_honoured() {
    let env = Env::new();
    let config = json!({
        "Env": ["PATH=/bin:/opt/bin", "FROM_IMAGE=1", "HOME=/evil", "TRIPMINE_HOME=/evil"],
        "WorkingDir": "/opt", "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["cat mark; env"],
    });
    import_with(&env, "app", &config);
    let output = env.tripmine(["run", "app"]);
    let text = output.ok(0);
    for part in ["image\n", "FROM_IMAGE=1", "PATH=/bin:/opt/bin"] {
        assert!(text.contains(part), "`{part}`: {text}");
    }
    assert!(!text.contains("evil"), "{text}");
    // What is typed counts more than what the image says.
    let output =
        env.tripmine(["run", "app", "-e", "FROM_IMAGE=2", "-w", "/var", "--", "sh", "-c", "pwd; env"]);
    assert!(output.ok(0).starts_with("/var\n") && output.stdout.contains("FROM_IMAGE=2"), "{output:?}");
}

#[test]
fn the_images_user_is_honoured_and_hostile_values_are_refused() {
    let env = Env::new();
    import_with(
        &env,
        "db",
        &json!({ "User": "db", "Cmd": ["/bin/sh", "-c", "id -u; id -g; touch ~/mine && stat -c %u ~/mine"] }),
    );
    let output = env.tripmine(["run", "db"]);
    if is_root() {
        assert!(output.stderr.contains("the image's own user 77 is not used"), "{output:?}");
    } else {
        assert_eq!(output.ok(0), "77\n78\n77");
    }
    let me = rustix::process::getuid().as_raw().to_string();
    assert!(env.tripmine(["run", "db", "--user", "me"]).ok(0).starts_with(&me));
    for (name, config, part) in [
        ("nobody", json!({ "User": "nobody-at-all", "Cmd": ["id"] }), "it has no user `nobody-at-all`"),
        ("climb", json!({ "WorkingDir": "/a/../../b", "Cmd": ["id"] }), "WorkingDir"),
        ("proc", json!({ "WorkingDir": "/proc/self/fd/7", "Cmd": ["id"] }), "orking"),
        ("env", json!({ "Env": ["=x"], "Cmd": ["id"] }), "Env"),
    ] {
        // Refused when it comes in, or when it is launched: with its reason either way.
        let folder =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| import_with(&env, name, &config)));
        if folder.is_ok() {
            env.tripmine(["run", name]).fails(125, part);
        }
    }
}

#[test]
fn links_of_an_image_lead_nowhere() {
    let env = Env::new();
    let canary = env.root().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::create_dir(canary.join("skel")).unwrap();
    fs::write(canary.join("skel/secret"), "host").unwrap();
    let places = ["dev", "proc", "sys", "tmp", "run", "home", "root", "projects", "work", ".tripmine"];
    import(&env, "links", |root| {
        for place in places {
            symlink(&canary, root.join(place)).unwrap();
        }
        fs::remove_dir_all(root.join("etc")).unwrap();
        symlink(&canary, root.join("etc")).unwrap();
    });
    env.tripmine(["machine", "create", "links", "-i", "links"]).ok(0);
    env.project("site");
    let output = env.tripmine([
        "-m",
        "links",
        "site",
        "--",
        "sh",
        "-c",
        "pwd; touch here /tmp/x; ls -a ~; cat /etc/hostname; echo x > /dev/null",
    ]);
    assert!(output.ok(0).starts_with("/projects/site"), "{output:?}");
    assert!(!output.stdout.contains("secret"), "{output:?}");
    let left: Vec<_> = fs::read_dir(&canary).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["skel"], "something was made outside");
    assert_eq!(fs::read_dir(canary.join("skel")).unwrap().count(), 1);
}

#[test]
fn another_image_for_one_launch_is_never_written_down() {
    let env = Env::new();
    import(&env, "small", |_| {});
    env.project("site");
    env.tripmine(["-i", "small", "site", "--", "true"]).fails(125, "has no home yet");
    assert!(!env.tripmine_home.join("data/homes/default").exists());
    env.tripmine(["site", "--", "true"]).ok(0);
    assert_eq!(env.tripmine(["-i", "small", "site", "--", "cat", "/opt/mark"]).ok(0), "image");
    assert_eq!((&env.record()["image"], &env.record()["image_override"]), (&json!("small"), &json!(true)));
    assert!(env.tripmine(["ps", "-a"]).stdout.contains("default -i small"));
    env.tripmine(["site", "--", "test", "-e", "/opt/mark"]).ok(1);
    assert!(!env.tripmine(["machine", "show", "default"]).stdout.contains("small"));
}

#[test]
fn a_home_is_seeded_from_the_machines_own_image() {
    let env = Env::new();
    import(&env, "small", |_| {});
    env.tripmine(["machine", "create", "lab", "-i", "small"]).ok(0);
    let output = env.tripmine(["-m", "lab", "--shell", "-T"]);
    output.ok(0);
    assert!(env.tripmine_home.join("data/homes/lab/.from-image").exists());
    assert_eq!(env.tripmine_with(&["-m", "lab", "--shell", "-T"], b"cat ~/.from-image\n").ok(0), "seed");
}

#[test]
fn a_running_cubes_image_is_not_collected() {
    let env = Env::new();
    import(&env, "small", |_| {});
    let id = env
        .tripmine(["run", "small", "-d", "--", "sh", "-c", "while :; do cat /opt/mark > /tmp/seen; done"])
        .ok(0)
        .to_owned();
    env.tripmine(["image", "rm", "--yes", "small"]);
    env.tripmine(["prune", "--yes"]);
    assert_eq!(env.tripmine(["exec", &id, "--", "cat", "/opt/mark"]).ok(0), "image");
    env.tripmine(["kill", &id]).ok(0);
}
