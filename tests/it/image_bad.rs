//! Hostile and broken images as they come in: each is an error that names image and entry, nothing is made outside, and
//! the store is as before.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use crate::env::{Env, alone};
use crate::image_root::import;

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
