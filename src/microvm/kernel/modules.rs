//! Which modules a guest needs of a kernel, in the order in which they are loaded. What is built in needs none.
//!
//! Dependencies are read from the modules themselves (`.modinfo`), so that a package that was only unpacked, without
//! depmod(8), serves as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Kernel;
use super::image::unpack_module;

/// What the guest's devices sit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-mmio, announced by ACPI.
    Mmio,
    /// virtio-pci.
    Pci,
}

/// What a guest is to be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Where its devices are.
    pub bus: Bus,
    /// It has a network (captured, by nftables).
    pub net: bool,
    /// Its shares are 9p, not virtiofs.
    pub ninep: bool,
}

/// A module, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// The object, unpacked and without signature.
    pub bytes: Vec<u8>,
}

/// Why the modules could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// There is no folder of them.
    #[error("kernel {0} lies without its modules (`lib/modules/{0}`)")]
    NoFolder(String),
    /// A module is neither there nor built in.
    #[error("kernel {release} has no {name}: neither built in nor in {}", folder.display())]
    Missing {
        /// The kernel.
        release: String,
        /// The module.
        name: String,
        /// Where it would be.
        folder: PathBuf,
    },
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be unpacked.
    #[error("{} cannot be unpacked", path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: super::UnpackError,
    },
}

/// How a signature ends (the kernel's `module_signature.h`).
const SIGNED: &[u8] = b"~Module signature appended~\n";

impl Wanted {
    /// By their names; the order does not matter.
    fn names(self) -> Vec<&'static str> {
        let mut names = match self.bus {
            Bus::Mmio => vec!["virtio_mmio"],
            Bus::Pci => vec!["virtio_pci"],
        };
        names.push("virtio_console");
        names.extend(if self.ninep { ["9pnet_virtio", "9p"].as_slice() } else { &["virtiofs"] });
        if self.net {
            names.extend(["nf_tables", "nft_chain_nat", "nft_redir", "nft_ct", "nft_reject_inet"]);
        }
        names
    }
}

/// Built into a kernel under one name and a module of the same under another, or part of the core in newer ones: where it
/// is not to be found, that is no fault.
const OPTIONAL: [&str; 3] = ["virtio_pci_modern_dev", "virtio_pci_legacy_dev", "crc32c_generic"];

/// The modules that are wanted, those first on which others depend.
///
/// # Errors
/// One is missing, or damaged.
pub fn pick_modules(kernel: &Kernel, wanted: &Wanted) -> Result<Vec<Module>, ModuleError> {
    let folder = kernel.modules.as_ref().ok_or_else(|| ModuleError::NoFolder(kernel.release.clone()))?;
    let mut picker = Picker {
        release: &kernel.release,
        folder,
        builtin: names_in(&fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default()),
        files: files(folder),
        seen: BTreeSet::new(),
        picked: Vec::new(),
    };
    for name in wanted.names() {
        picker.pick(name)?;
    }
    Ok(picker.picked)
}

struct Picker<'a> {
    release: &'a str,
    folder: &'a Path,
    builtin: BTreeSet<String>,
    files: BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    picked: Vec<Module>,
}

impl Picker<'_> {
    fn pick(&mut self, name: &str) -> Result<(), ModuleError> {
        let name = name.replace('-', "_");
        // Seen before its dependencies: a circle ends.
        if self.builtin.contains(&name) || !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(path) = self.files.get(&name).cloned() else {
            if OPTIONAL.contains(&name.as_str()) {
                return Ok(());
            }
            return Err(ModuleError::Missing {
                release: self.release.to_owned(),
                name,
                folder: self.folder.to_owned(),
            });
        };
        let bytes = fs::read(&path).map_err(|source| ModuleError::Read { path: path.clone(), source })?;
        let bytes = unpack_module(bytes).map_err(|source| ModuleError::Unpack { path, source })?;
        for before in depends(&bytes) {
            self.pick(&before)?;
        }
        // It asks for this by an alias, which nobody in a guest could look up.
        if name == "libcrc32c" {
            self.pick("crc32c_generic")?;
        }
        self.picked.push(Module { name, bytes: without_signature(bytes) });
        Ok(())
    }
}

/// `kernel/drivers/virtio/virtio-mmio.ko.xz` is `virtio_mmio`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, end) = file.split_once(".ko")?;
    matches!(end, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

fn names_in(list: &str) -> BTreeSet<String> {
    list.lines().filter_map(name_of).collect()
}

/// Every module beneath a folder.
fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.join("kernel"), folder.join("updates"), folder.join("extra")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            } else if let Some(name) = path.to_str().and_then(name_of) {
                found.insert(name, path);
            }
        }
    }
    found
}

/// What a module says that it depends on; what it only would like to have first (`softdep`), too, where that is named.
fn depends(module: &[u8]) -> Vec<String> {
    let value = |key: &[u8]| {
        let at = memchr::memmem::find(module, key)? + key.len();
        let end = memchr::memchr(0, &module[at..])?;
        std::str::from_utf8(&module[at..at + end]).ok()
    };
    let hard = value(b"\0depends=").unwrap_or_default().split(',');
    hard.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Cuts the signature off: checking it takes time, and a guest trusts what it is given.
fn without_signature(mut module: Vec<u8>) -> Vec<u8> {
    // struct module_signature: twelve bytes, the last four the length of the signature, big-endian.
    const HEAD: usize = 12;
    let cut = || -> Option<usize> {
        let head = module.strip_suffix(SIGNED)?;
        let (_, length) = head.split_last_chunk::<4>()?;
        head.len().checked_sub(HEAD)?.checked_sub(usize::try_from(u32::from_be_bytes(*length)).ok()?)
    };
    if let Some(end) = cut() {
        module.truncate(end);
    }
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(depends: &str) -> Vec<u8> {
        [b"\x7fELF body\0license=GPL\0depends=", depends.as_bytes(), b"\0name=x\0"].concat()
    }

    fn signed(module: &[u8]) -> Vec<u8> {
        [module, &[9; 40], &[0; 8], &40_u32.to_be_bytes(), SIGNED].concat()
    }

    fn kernel(files: &[(&str, Vec<u8>)], builtin: &str) -> (tempfile::TempDir, Kernel) {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, bytes) in files {
            let path = folder.path().join("kernel").join(path);
            fs::create_dir_all(path.parent().expect("above")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        fs::write(folder.path().join("modules.builtin"), builtin).expect("written");
        let modules = Some(folder.path().to_owned());
        let kernel = Kernel { image: "/boot/vmlinuz".into(), release: "6.1".into(), modules };
        (folder, kernel)
    }

    const PLAIN: Wanted = Wanted { bus: Bus::Mmio, net: false, ninep: false };

    #[test]
    fn dependencies_come_first_and_once_and_what_is_built_in_not_at_all() {
        let packed = zstd::bulk::compress(&signed(&module("virtio,fuse")), 1).expect("packed");
        let (_folder, kernel) = kernel(
            &[
                ("virtio/virtio_mmio.ko", module("virtio,virtio_ring")),
                ("virtio/virtio.ko", module("virtio_ring")),
                ("virtio/virtio_ring.ko", module("")),
                ("fs/virtiofs.ko.zst", packed),
                ("char/virtio-console.ko", signed(&module("virtio"))),
            ],
            "kernel/fs/fuse/fuse.ko\n",
        );
        let picked = pick_modules(&kernel, &PLAIN).expect("picked");
        let names: Vec<&str> = picked.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["virtio_ring", "virtio", "virtio_mmio", "virtio_console", "virtiofs"]);
        assert!(picked.iter().all(|module| module.bytes.ends_with(b"name=x\0")), "unsigned and unpacked");
    }

    #[test]
    fn what_is_missing_is_named() {
        let (_folder, kernel) = kernel(&[("a/virtio_mmio.ko", module(""))], "");
        let error = pick_modules(&kernel, &PLAIN).expect_err("no console").to_string();
        assert!(error.contains("no virtio_console"), "{error}");
        let bare = Kernel { modules: None, ..kernel };
        assert!(matches!(pick_modules(&bare, &PLAIN), Err(ModuleError::NoFolder(_))));
    }

    #[test]
    fn circles_end_and_signatures_that_lie_are_left() {
        let (_folder, kernel) = kernel(
            &[("a/virtio_mmio.ko", module("virtio_console")), ("a/virtio_console.ko", module("virtio_mmio"))],
            "kernel/virtiofs.ko",
        );
        assert_eq!(pick_modules(&kernel, &PLAIN).expect("picked").len(), 2);
        let lie = [&[1; 20][..], &u32::MAX.to_be_bytes(), SIGNED].concat();
        assert_eq!(without_signature(lie.clone()), lie);
        assert_eq!(without_signature(SIGNED.to_vec()), SIGNED);
    }
}
