//! What hostile archives try (rows I01 to I06 and I11 of the security promises), against a folder with a canary beside it.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::helper::{Limits, Owners, Packing, Request, Unpacked};
use super::super::pack::{IdRule, PackOptions, pack};
use super::super::tar::write::TarWriter;
use super::*;

/// A root to unpack into, and beside it what must never change.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("root")).expect("mkdir");
        fs::write(folder.path().join("canary"), "precious").expect("write");
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked, String> {
        self.unpack_as(archive, Packing::Plain, Limits::default())
    }

    fn unpack_as(&self, archive: &[u8], compression: Packing, limits: Limits) -> Result<Unpacked, String> {
        let mut blob = tempfile::tempfile().expect("file");
        blob.write_all(archive).expect("write");
        std::io::Seek::rewind(&mut blob).expect("rewind");
        let root = File::open(self.root()).expect("root");
        let request = Request { compression, hash: true, owners: Owners::Noted, limits };
        let result = unpack(blob, root.as_fd(), &request).map_err(|failure| failure.to_string());
        assert_eq!(fs::read_to_string(self.folder.path().join("canary")).expect("canary"), "precious");
        assert_eq!(fs::read_dir(self.folder.path()).expect("list").count(), 2, "something was made outside");
        result
    }
}

fn member(path: &[u8], kind: Kind) -> Member {
    Member::new(path, kind, if kind == Kind::Folder { 0o755 } else { 0o644 })
}

fn link(path: &[u8], kind: Kind, to: &[u8]) -> Member {
    Member { link: to.to_vec(), ..member(path, kind) }
}

fn file(path: &[u8], contents: &[u8]) -> (Member, Vec<u8>) {
    (Member { size: contents.len() as u64, ..member(path, Kind::File) }, contents.to_vec())
}

fn archive(members: &[(Member, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (member, contents) in members {
        writer.member(member, &mut &contents[..]).expect("written");
    }
    writer.finish().expect("finished")
}

fn plain(members: &[Member]) -> Vec<u8> {
    archive(&members.iter().map(|member| (member.clone(), Vec::new())).collect::<Vec<_>>())
}

#[test]
fn what_leads_out_is_refused_with_its_name() {
    for (name, members, says) in [
        ("dots", vec![member(b"../x", Kind::File)], "`../x`: `..` leads out"),
        ("dots inside", vec![member(b"a/../../x", Kind::File)], "`a/../../x`"),
        ("hard link out", vec![link(b"h", Kind::HardLink, b"../../etc/passwd")], "`h`: it is a hard link to"),
        ("hard link absolute", vec![link(b"h", Kind::HardLink, b"/etc/passwd")], "not in the archive"),
        (
            "hard link to a link",
            vec![link(b"s", Kind::Symlink, b"/etc/passwd"), link(b"h", Kind::HardLink, b"s")],
            "`h`: it is a hard link to `s`, which is no file",
        ),
        (
            "through a link",
            vec![link(b"d", Kind::Symlink, b"../canary.d"), member(b"d/f", Kind::File)],
            "`d/f`: `d` is a link that leads nowhere",
        ),
        ("hard link to the root", vec![link(b"h", Kind::HardLink, b"/")], "to the root"),
        ("deletion of ..", vec![member(b".wh...", Kind::File)], "deletes no name"),
        ("deletion of .", vec![member(b"a/.wh..", Kind::File)], "deletes no name"),
        ("deletion of nothing", vec![member(b".wh.", Kind::File)], "deletes no name"),
        ("in a deletion", vec![member(b".wh.a/b", Kind::File)], "named like a deletion"),
        ("long name", vec![member(&[b'n'; 300], Kind::File)], "300 bytes, more than 255"),
        ("deep", vec![member(&b"d/".repeat(100_000), Kind::Folder)], "200000 bytes"),
        ("deep, short names", vec![member(&b"d/".repeat(1000), Kind::Folder)], "1000 folders deep"),
        (
            "file as folder",
            vec![member(b"f", Kind::File), member(b"f/g", Kind::File)],
            "`f/g`: `f` is no folder",
        ),
        ("NUL", vec![link(b"x\xff", Kind::Symlink, b"a\0b")], "NUL"),
        ("escape", vec![member(b"\x1b[2J/..", Kind::File)], "`\\u{1b}[2J/..`"),
    ] {
        let error = Bench::new().unpack(&plain(&members)).expect_err(name);
        assert!(error.contains(says), "{name}: {error}");
        assert!(!error.contains('\x1b'), "{name}");
    }
}

#[test]
fn what_can_be_confined_stays_inside() {
    let bench = Bench::new();
    let outside = bench.folder.path().join("canary");
    let up = [b"../".repeat(30), outside.as_os_str().as_encoded_bytes()[1..].to_vec()].concat();
    let (absolute, data) = file(b"/abs", b"in");
    let done = bench
        .unpack(&archive(&[
            (absolute, data),
            // A link out, then a file of its name: the link goes, not what it leads to.
            (link(b"canary", Kind::Symlink, &up), Vec::new()),
            file(b"canary", b"mine"),
            // A folder that is a link inside: as in a merged /usr.
            (member(b"usr/lib", Kind::Folder), Vec::new()),
            (link(b"lib", Kind::Symlink, b"/usr/lib"), Vec::new()),
            file(b"lib/x", b"there"),
        ]))
        .expect("unpacked");
    let read = |path: &str| fs::read_to_string(bench.root().join(path)).expect(path);
    assert_eq!(
        (read("abs"), read("canary"), read("usr/lib/x")),
        ("in".into(), "mine".into(), "there".into())
    );
    assert_eq!(done.entries, 6);
}

#[test]
fn nodes_and_steering_attributes_are_left_out() {
    let bench = Bench::new();
    let (mut odd, data) = file(b"f", b"x");
    odd.mode = 0o6755;
    odd.uid = 33;
    for key in [
        "user.overlay.opaque",
        "trusted.overlay.opaque",
        "user.tripmine.owner",
        "user.mine",
        "security.selinux",
    ] {
        odd.attributes.push((key.as_bytes().to_vec(), b"y".to_vec()));
    }
    let done = bench
        .unpack(&archive(&[
            (odd, data),
            (member(b"dev/sda", Kind::Device), Vec::new()),
            (member(b"pipe", Kind::Fifo), Vec::new()),
        ]))
        .expect("unpacked");
    assert_eq!((done.devices, done.attributes), (1, 4));
    let root = bench.root();
    assert_eq!(fs::metadata(root.join("f")).expect("f").mode() & 0o7777, 0o6755);
    assert!(fs::metadata(root.join("pipe")).expect("pipe").file_type().is_fifo());
    assert!(!root.join("dev/sda").exists());
    let mut value = [0; 16];
    let get = |key: &str, value: &mut [u8; 16]| rustix::fs::getxattr(root.join("f"), key, value).ok();
    assert_eq!(get("user.mine", &mut value), Some(1));
    assert_eq!(get("user.overlay.opaque", &mut value), None);
    let length = get("user.tripmine.owner", &mut value).expect("noted");
    assert_eq!(&value[..length], b"33:0");
}

#[test]
fn bombs_stop_at_the_limits() {
    let small = Limits { entries: 10, bytes: 1 << 20, ratio_from: 1 << 16, ratio: 100 };
    let zeros = archive(&[file(b"zeros", &vec![0; 900 << 10])]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&zeros).expect("gzip");
    let gzip = gzip.finish().expect("gzip");
    let zstd = zstd::encode_all(&zeros[..], 19).expect("zstd");
    for (packing, bytes) in [(Packing::Gzip, &gzip), (Packing::Zstd, &zstd)] {
        let error = Bench::new().unpack_as(bytes, packing, small).expect_err("bomb");
        assert!(error.contains("looks like a bomb"), "{error}");
        let trusted = Limits { ratio: u64::MAX, ..small };
        Bench::new().unpack_as(bytes, packing, trusted).expect("trusted");
    }
    let many = plain(&vec![member(b"same/", Kind::Folder); 11]);
    let error = Bench::new().unpack_as(&many, Packing::Plain, small).expect_err("many");
    assert!(error.contains("more than 10 files and folders"), "{error}");
    let mut sparse = member(b"sparse", Kind::File);
    (sparse.size, sparse.pieces) = (1 << 40, Some(vec![(1 << 40, 0)]));
    let error = Bench::new().unpack_as(&plain(&[sparse]), Packing::Plain, small).expect_err("sparse");
    assert!(error.contains("more than 1M, at `sparse`"), "{error}");
}

#[test]
fn whiteouts_are_what_overlayfs_reads() {
    let bench = Bench::new();
    bench
        .unpack(&plain(&[
            member(b"d/.wh.gone", Kind::File),
            member(b"o/", Kind::Folder),
            member(b"o/.wh..wh..opq", Kind::File),
            // Deleted and made anew: the lower one is hidden.
            member(b".wh.again", Kind::File),
            member(b"again/x", Kind::File),
            // The other way round.
            member(b"late/", Kind::Folder),
            member(b".wh.late", Kind::File),
            member(b".wh..wh.plnk", Kind::File),
        ]))
        .expect("unpacked");
    let root = bench.root();
    let gone = fs::symlink_metadata(root.join("d/gone")).expect("whiteout");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let opaque =
        |name: &str| rustix::fs::getxattr(root.join(name), "user.overlay.opaque", &mut [0; 4]).is_ok();
    assert!(opaque("o") && opaque("again") && opaque("late") && !opaque("d"));
    assert!(root.join("again/x").is_file());
    assert_eq!(fs::read_dir(&root).expect("list").count(), 4);
}

/// A tree with one of everything that a layer keeps.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("a/closed")).expect("mkdir");
    fs::write(root.join("a/f"), "contents").expect("write");
    fs::set_permissions(root.join("a/f"), fs::Permissions::from_mode(0o4711)).expect("chmod");
    fs::hard_link(root.join("a/f"), root.join("b-link")).expect("link");
    symlink("../nowhere", root.join("a/s")).expect("symlink");
    let name = std::ffi::OsStr::new("\u{fc} odd\nname");
    fs::write(root.join(name), "x").expect("write");
    let sparse = File::create(root.join("sparse")).expect("create");
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 10 << 20).expect("write");
    sparse.set_len((10 << 20) + (1 << 19)).expect("length");
    let at = std::time::UNIX_EPOCH + std::time::Duration::new(1_500_000_000, 123_456_789);
    sparse.set_modified(at).expect("time");
    rustix::fs::setxattr(root.join("a/f"), "user.k", b"v\nw", rustix::fs::XattrFlags::empty())
        .expect("xattr");
    rustix::fs::setxattr(root.join("a"), "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .expect("xattr");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("whiteout"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .expect("whiteout");
    fs::set_permissions(root.join("a/closed"), fs::Permissions::from_mode(0o500)).expect("chmod");
}

fn packed(root: &Path) -> Vec<u8> {
    let options = PackOptions {
        ids: IdRule::One {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        },
        exclude: vec!["out".into()],
        empty: Vec::new(),
        upper: true,
    };
    let mut bytes = Vec::new();
    pack(File::open(root).expect("open").as_fd(), &options, &mut bytes).expect("packed");
    bytes
}

#[test]
fn an_upper_goes_out_and_comes_in_bit_for_bit() {
    let first = tempfile::tempdir().expect("tempdir");
    tree(first.path());
    fs::create_dir(first.path().join("out")).expect("mkdir");
    let one = packed(first.path());
    assert_eq!(one, packed(first.path()), "the same tree gives the same bytes");
    // The hole is no part of it.
    assert!(one.len() < 200 << 10, "{}", one.len());
    let bench = Bench::new();
    bench.unpack(&one).expect("unpacked");
    assert_eq!(packed(&bench.root()), one);
    let root = bench.root();
    let (a, b) = (fs::metadata(root.join("a/f")).expect("a"), fs::metadata(root.join("b-link")).expect("b"));
    assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4711));
    let sparse = fs::metadata(root.join("sparse")).expect("sparse");
    assert_eq!((sparse.mtime_nsec(), sparse.blocks() < 400), (123_456_789, true));
    assert!(!root.join("out").exists());
}

#[test]
fn gnu_tar_is_read_and_reads_us() {
    let Ok(version) = std::process::Command::new("tar").arg("--version").output() else { return };
    assert!(version.status.success());
    let source = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(source.path().join("d".repeat(120)).join("e".repeat(120))).expect("mkdir");
    fs::write(source.path().join("d".repeat(120)).join("e".repeat(120)).join("f"), "deep").expect("write");
    let sparse = File::create(source.path().join("sparse")).expect("create");
    for at in 0..40_u64 {
        std::os::unix::fs::FileExt::write_at(&sparse, b"x", at << 20).expect("write");
    }
    for format in ["gnu", "pax", "oldgnu"] {
        for version in ["0.0", "0.1", "1.0"] {
            let archive = source.path().join("../").join(format!("{}.tar", std::process::id()));
            let mut tar = std::process::Command::new("tar");
            tar.arg("--sparse").arg(format!("--format={format}"));
            if format == "pax" {
                tar.arg(format!("--sparse-version={version}"));
            }
            let made =
                tar.arg("-C").arg(source.path()).arg("-cf").arg(&archive).arg(".").status().expect("tar");
            let bytes = fs::read(&archive).expect("archive");
            fs::remove_file(&archive).expect("remove");
            assert!(made.success());
            let bench = Bench::new();
            bench.unpack(&bytes).expect(format);
            let (ours, theirs) = (
                fs::read(bench.root().join("sparse")).expect("ours"),
                fs::read(source.path().join("sparse")).expect("theirs"),
            );
            assert!(ours == theirs, "{format} {version}");
            assert!(bench.root().join("d".repeat(120)).join("e".repeat(120)).join("f").is_file());
        }
    }
}

/// An archive to be damaged.
fn sample() -> Vec<u8> {
    let mut long = member(&b"long/".repeat(40), Kind::Folder);
    long.mtime = (5, 6);
    let mut attribute = file(b"a/x", b"1");
    attribute.0.attributes.push((b"user.a".to_vec(), b"b".to_vec()));
    let mut sparse = file(b"sp", b"12345");
    (sparse.0.size, sparse.0.pieces) = (1 << 20, Some(vec![(4096, 5), (1 << 20, 0)]));
    archive(&[
        (member(b"a/", Kind::Folder), Vec::new()),
        file(b"a/b", b"contents"),
        (link(b"a/c", Kind::HardLink, b"a/b"), Vec::new()),
        (link(b"d", Kind::Symlink, b"a"), Vec::new()),
        file(b"d/e", b"z"),
        (member(b"a/.wh.q", Kind::File), Vec::new()),
        (long, Vec::new()),
        attribute,
        sparse,
    ])
}

/// Sets the checksum of every block that looks like a header, so that damage gets past it.
fn fix_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_archives_neither_panic_nor_leave_the_root(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        fix in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sample();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if fix {
            fix_checksums(&mut bytes);
        } else {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let limits = Limits { entries: 100, bytes: 1 << 24, ..Limits::default() };
        let _refused_or_not = Bench::new().unpack_as(&bytes, Packing::Plain, limits);
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let _refused_or_empty = Bench::new().unpack_as(&bytes, packing, Limits::default());
        }
    }
}
