//! The first file system of a guest: our own agent as `/init`, the modules, and a console node, as a newc archive
//! (the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`). The same input gives the same bytes.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::kernel::Module;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CONSOLE: u32 = 0o020_600;

/// The agent as a program of its own, which `build.rs` made; empty in a build without it.
static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// What becomes `/init`; `None` in a build without it.
#[must_use]
pub const fn agent_binary() -> Option<&'static [u8]> {
    if AGENT.is_empty() { None } else { Some(AGENT) }
}

/// Builds the archive.
#[must_use]
pub fn build(agent: &[u8], modules: &[Module]) -> Vec<u8> {
    let size = modules.iter().map(|module| module.bytes.len() + 256).sum::<usize>() + agent.len() + 4096;
    let mut archive = Archive { bytes: Vec::with_capacity(size), inode: 0 };
    for folder in ["dev", "proc", "sys", "newroot", "modules"] {
        archive.add(folder, FOLDER, (0, 0), &[]);
    }
    // The kernel opens it for init before anything can be mounted.
    archive.add("dev/console", CONSOLE, (5, 1), &[]);
    archive.add("init", PROGRAM, (0, 0), agent);
    for (at, module) in modules.iter().enumerate() {
        archive.add(&format!("modules/{at:03}-{}.ko", module.name), FILE, (0, 0), &module.bytes);
    }
    archive.add("TRAILER!!!", 0, (0, 0), &[]);
    archive.bytes
}

struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // Inode, mode, uid, gid, links, time, size, device, device of a node, length of the name, no checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut head = String::from("070701");
        for field in fields {
            // Writing to a String does not fail.
            let _written = write!(head, "{field:08X}");
        }
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The archive in `folder`, named by a hash of what it is made of; built if it is not there yet.
///
/// # Errors
/// The folder cannot be written.
pub fn cached(folder: &Path, agent: &[u8], modules: &[Module]) -> io::Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update((agent.len() as u64).to_le_bytes());
    hash.update(agent);
    for module in modules {
        hash.update((module.bytes.len() as u64).to_le_bytes());
        hash.update(module.name.as_bytes());
        hash.update(&module.bytes);
    }
    let mut name = String::from("initramfs-");
    for byte in &hash.finalize()[..16] {
        let _written = write!(name, "{byte:02x}");
    }
    store(folder, &name, || Ok(build(agent, modules)))
}

/// A file of this name in a cache; made and put in its place whole if it is not there.
///
/// # Errors
/// It cannot be made or written.
pub fn store(folder: &Path, name: &str, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<PathBuf> {
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&make()?)?;
    file.as_file().sync_all()?;
    // Whoever was quicker wrote the same.
    file.persist(&path).map_err(|error| error.error)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Vec<Module> {
        ["virtio", "virtiofs"].map(|name| Module { name: name.to_owned(), bytes: vec![7; 11] }).to_vec()
    }

    /// Names, modes and sizes, as cpio(1) would list them.
    fn listed(archive: &[u8]) -> Vec<(String, u32, usize)> {
        let (mut rest, mut all) = (archive, Vec::new());
        loop {
            assert_eq!(&rest[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&rest[6 + 8 * n..14 + 8 * n]).expect("text");
                u32::from_str_radix(text, 16).expect("a number")
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(rest[110..110 + name_size - 1].to_vec()).expect("text");
            let data = (110 + name_size).next_multiple_of(4);
            rest = &rest[(data + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(rest.is_empty());
                return all;
            }
            all.push((name, mode, size));
        }
    }

    #[test]
    fn the_archive_holds_what_the_kernel_needs_in_order() {
        let archive = build(b"program", &modules());
        let listed = listed(&archive);
        for entry in [
            ("dev/console", CONSOLE, 0),
            ("init", PROGRAM, 7),
            ("modules/000-virtio.ko", FILE, 11),
            ("modules/001-virtiofs.ko", FILE, 11),
        ] {
            assert!(listed.contains(&(entry.0.to_owned(), entry.1, entry.2)), "{entry:?} in {listed:?}");
        }
        assert_eq!(archive, build(b"program", &modules()), "the same bytes");
    }

    #[test]
    fn the_agent_that_is_carried_is_small_and_static() {
        let Some(agent) = agent_binary() else {
            println!("SKIPPED the_agent_that_is_carried_is_small_and_static: this build has no agent");
            return;
        };
        assert!(agent.starts_with(b"\x7fELF"));
        assert!(agent.len() < 1_500_000, "{} bytes: the kernel unpacks them in each guest", agent.len());
        // A program of the guest's libraries could not run before there are any: PT_INTERP names its loader.
        assert_eq!(memchr::memmem::find(agent, b"/ld-linux"), None);
        assert_eq!(memchr::memmem::find(agent, b"/ld-musl"), None);
    }

    #[test]
    fn it_is_cached_by_what_it_is_made_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("vm");
        let first = cached(&cache, b"program", &modules()).expect("built");
        assert_eq!(fs::read(&first).expect("read"), build(b"program", &modules()));
        assert_eq!(cached(&cache, b"program", &modules()).expect("found"), first);
        assert_ne!(cached(&cache, b"another", &modules()).expect("built"), first);
        assert_ne!(cached(&cache, b"program", &modules()[..1]).expect("built"), first);
    }
}
