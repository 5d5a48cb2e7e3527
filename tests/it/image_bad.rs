//! Hostile and broken images as they come in: each is an error that names image and entry, nothing is made outside, and
//! the store is as before.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::env::{Env, alone};
use crate::image_root::import;

const OCI: &str = "application/vnd.oci.image";

/// Everything in the store, by path and size: what must not change.
fn state(env: &Env) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut waiting = vec![env.tripmine_home.join("data")];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let meta = entry.path().symlink_metadata().unwrap();
            if meta.is_dir() {
                waiting.push(entry.path());
            } else if !entry.path().ends_with("journal.jsonl") {
                found.push((entry.path(), meta.len()));
            }
        }
    }
    found.sort();
    found
}

fn blob(layout: &Path, bytes: &[u8]) -> Value {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("blobs/sha256").join(&hex), bytes).unwrap();
    json!({ "digest": format!("sha256:{hex}"), "size": bytes.len() })
}

fn typed(mut descriptor: Value, kind: &str) -> Value {
    descriptor["mediaType"] = format!("{OCI}.{kind}").into();
    descriptor
}

/// An OCI layout with one small layer, changed by `change` (config, manifest, index) before each is written.
fn layout(env: &Env, name: &str, change: &dyn Fn(&str, &mut Value)) -> PathBuf {
    let layout = env.root().join(name);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, "hello", &b"hello"[..]).unwrap();
    let layer = blob(&layout, &tar.into_inner().unwrap());
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let mut config = json!({ "architecture": arch, "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] } });
    change("config", &mut config);
    let config = typed(blob(&layout, config.to_string().as_bytes()), "config.v1+json");
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"), "config": config,
        "layers": [typed(layer, "layer.v1.tar")] });
    change("manifest", &mut manifest);
    let manifest = typed(blob(&layout, manifest.to_string().as_bytes()), "manifest.v1+json");
    let mut index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    change("index", &mut index);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layout
}

#[test]
fn broken_layouts_are_named_and_change_nothing() {
    let env = Env::new();
    import(&env, "kept", |_| {});
    let good = layout(&env, "good", &|_, _| {});
    env.tripmine(["image", "import", good.to_str().unwrap(), "good"]).ok(0);
    env.tripmine(["image", "rm", "--yes", "good"]).ok(0);
    env.tripmine(["prune", "--yes"]).ok(0);
    let before = state(&env);
    let zeros = format!("sha256:{}", "0".repeat(64));
    let set = |document: &'static str, path: &'static str, value: Value| {
        move |name: &str, found: &mut Value| {
            if name == document {
                *found.pointer_mut(path).unwrap() = value.clone();
            }
        }
    };
    type Damage = Box<dyn Fn(&str, &mut Value)>;
    let cases: Vec<(&str, Damage, &str)> = vec![
        ("digest", Box::new(set("manifest", "/layers/0/digest", json!(zeros))), "0000"),
        ("size", Box::new(set("manifest", "/layers/0/size", json!(7))), "7"),
        ("huge", Box::new(set("manifest", "/config/size", json!(1_u64 << 60))), "bytes"),
        ("negative", Box::new(set("manifest", "/layers/0/size", json!(-1))), "manifest"),
        ("algorithm", Box::new(set("manifest", "/layers/0/digest", json!("md5:00"))), "md5"),
        (
            "climb",
            Box::new(set("manifest", "/layers/0/digest", json!("sha256:../../../../etc/passwd"))),
            "sha256",
        ),
        ("media", Box::new(set("manifest", "/layers/0/mediaType", json!("application/x-squash"))), "squash"),
        ("count", Box::new(set("config", "/rootfs/diff_ids", json!([]))), "contradictory"),
        ("diff", Box::new(set("config", "/rootfs/diff_ids/0", json!(zeros))), "0000"),
        ("config", Box::new(set("manifest", "/config/digest", json!(zeros))), "0000"),
        ("machine", Box::new(set("config", "/architecture", json!("riscv64"))), "riscv64"),
        ("env", Box::new(set("config", "/config", json!({ "Env": ["no sign"] }))), "Env"),
        ("workdir", Box::new(set("config", "/config", json!({ "WorkingDir": "../../x" }))), "WorkingDir"),
        ("index", Box::new(set("index", "/manifests", json!("none"))), "index"),
        ("version", Box::new(set("index", "/schemaVersion", json!(9))), "9"),
    ];
    for (name, change, part) in cases {
        let layout = layout(&env, name, &*change);
        let imported = env.tripmine(["image", "import", layout.to_str().unwrap(), name]);
        // Another machine's image may come in: it is the launch that it cannot be used for.
        if imported.code == 0 {
            env.tripmine(["run", name, "--", "true"]).fails(125, part);
            env.tripmine(["image", "rm", "--yes", name]).ok(0);
            env.tripmine(["prune", "--yes"]).ok(0);
        } else {
            imported.fails(1, part);
        }
        assert_eq!(state(&env), before, "{name}");
    }
    // An index of indexes without an end, and blobs that are cut off or exchanged.
    let cycle = layout(&env, "cycle", &|_, _| {});
    let inner = json!({ "schemaVersion": 2, "mediaType": format!("{OCI}.index.v1+json"), "manifests": [] })
        .to_string();
    let mut line = typed(blob(&cycle, inner.as_bytes()), "index.v1+json");
    for _ in 0..12 {
        let outer =
            json!({ "schemaVersion": 2, "mediaType": format!("{OCI}.index.v1+json"), "manifests": [line] });
        line = typed(blob(&cycle, outer.to_string().as_bytes()), "index.v1+json");
    }
    fs::write(cycle.join("index.json"), json!({ "schemaVersion": 2, "manifests": [line] }).to_string())
        .unwrap();
    assert_eq!(env.tripmine(["image", "import", cycle.to_str().unwrap(), "cycle"]).code, 1);
    for cut in [true, false] {
        let layout = layout(&env, if cut { "cut" } else { "exchanged" }, &|_, _| {});
        for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten() {
            let mut bytes = fs::read(entry.path()).unwrap();
            if bytes.len() > 1000 {
                if cut {
                    bytes.truncate(700)
                } else {
                    bytes[600] ^= 1
                }
                fs::write(entry.path(), bytes).unwrap();
            }
        }
        env.tripmine(["image", "import", layout.to_str().unwrap(), "cut"]).fails(1, "sha256:");
    }
    assert_eq!(state(&env), before);
    env.tripmine(["image", "check"]).ok(0);
}

/// A tar of members: path, kind, link, contents.
fn tar(members: &[(&str, u8, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, kind, link, contents) in members {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, b"0006755\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", contents.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[*kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(contents);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn hostile_archives_make_nothing_outside() {
    let env = Env::new();
    let canary = env.root().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("kept"), "kept").unwrap();
    let up = format!("{}{}", "../".repeat(30), canary.strip_prefix("/").unwrap().display());
    let there = canary.display().to_string();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("climb", tar(&[(&format!("{up}/pwn"), b'0', "", b"x")])),
        ("absolute", tar(&[(&format!("{there}/pwn"), b'0', "", b"x")])),
        ("through", tar(&[("d", b'2', &there, b""), ("d/pwn", b'0', "", b"x")])),
        ("hard", tar(&[("h", b'1', &format!("{up}/kept"), b""), ("h", b'0', "", b"overwritten")])),
        ("hard-link", tar(&[("d", b'2', &there, b""), ("h", b'1', "d/kept", b"")])),
        ("whiteout", tar(&[("d", b'2', &there, b""), ("d/.wh.kept", b'0', "", b"")])),
        ("dots", tar(&[("a/../../../pwn", b'0', "", b"x")])),
        ("device", tar(&[("null", b'3', "", b""), ("disk", b'4', "", b"")])),
    ];
    for (name, bytes) in cases {
        let file = env.root().join(format!("{name}.tar"));
        fs::write(&file, bytes).unwrap();
        let output = env.tripmine(["image", "import", file.to_str().unwrap(), name]);
        if output.code != 0 {
            assert_eq!(output.code, 1, "{name}: {output:?}");
        }
        let left: Vec<_> = fs::read_dir(&canary).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["kept"], "{name}: {output:?}");
        assert_eq!(fs::read_to_string(canary.join("kept")).unwrap(), "kept", "{name}");
    }
    for refused in ["climb", "dots", "hard"] {
        let file = env.root().join(format!("{refused}.tar"));
        let output = env.tripmine(["image", "import", file.to_str().unwrap(), refused]);
        assert!(output.code == 0 || output.stderr.contains('`'), "names the entry: {output:?}");
    }
    env.tripmine(["image", "check"]).ok(0);
}

#[test]
fn bombs_stop_and_leave_nothing() {
    let _alone = alone();
    let env = Env::new();
    import(&env, "kept", |_| {});
    let before = state(&env);
    // 10 GiB of zeros in some ten megabytes of gzip: the archive is refused long before they are written.
    let file = env.root().join("zeros.tar.gz");
    let mut header = tar(&[("zeros", b'0', "", b"")]);
    header.truncate(512);
    header[124..136].copy_from_slice(b"120000000000"); // 10 GiB in octal, without its NUL
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let member = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    // gzip may come in several members: the zeros are compressed once.
    let zeros = member(&vec![0; 64 << 20]);
    let mut out = fs::File::create(&file).unwrap();
    out.write_all(&member(&header)).unwrap();
    for _ in 0..160 {
        out.write_all(&zeros).unwrap();
    }
    assert!(out.metadata().unwrap().len() < 12 << 20);
    let refused = env.tripmine(["image", "import", file.to_str().unwrap(), "zeros"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("--max-size"), "{refused:?}");
    assert_eq!(state(&env), before);
}

/// The most memory that any process beneath `pid` has had, in KiB, until it ends.
fn peak(pid: u32, ended: &mut dyn FnMut() -> bool) -> u64 {
    let mut most = 0;
    while !ended() {
        let own = i32::try_from(pid).unwrap();
        for pid in tripmine::host::descendants::beneath(own).into_iter().chain([own]) {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let found = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            most = most.max(found.unwrap_or(0));
        }
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    most
}

#[test]
fn a_million_entries_are_refused_in_bounded_memory() {
    let _alone = alone();
    let env = Env::new();
    import(&env, "kept", |_| {});
    let before = state(&env);
    let file = env.root().join("many.tar.gz");
    let mut gzip =
        flate2::write::GzEncoder::new(fs::File::create(&file).unwrap(), flate2::Compression::fast());
    // A hundred thousand names, again and again: what is remembered of names is bounded by their number, too.
    let names: Vec<String> = (0..100_000).map(|number| format!("d{number}/")).collect();
    for _ in 0..11 {
        for name in &names {
            let mut member = tar(&[(name, b'5', "", b"")]);
            member.truncate(512);
            gzip.write_all(&member).unwrap();
        }
    }
    gzip.write_all(&[0; 1024]).unwrap();
    gzip.finish().unwrap();
    let mut child = env.command(["image", "import", file.to_str().unwrap(), "many"]).spawn().unwrap();
    let pid = child.id();
    let most = peak(pid, &mut || child.try_wait().unwrap().is_some());
    let refused = crate::env::finish(child, std::time::Duration::from_secs(5));
    refused.fails(1, "more than 900000 files and folders");
    assert!(most > 1000 && most < 64 << 10, "{most} KiB");
    assert_eq!(state(&env), before);
}
