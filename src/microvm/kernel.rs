//! Guest kernels: where they are found, what is in them, which of their modules a guest needs.
//!
//! A kernel is named by the user (a file, or a folder such as an unpacked distribution package), or is one of the host's own.
//! What was looked at in vain is told with its reason: on some distributions only root may read kernels. Nothing is
//! downloaded here.

pub mod image;
pub mod modules;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use image::{UnpackError, unpack};
pub use modules::{Bus, Module, ModuleError, Wanted, pick_modules};

/// Where to look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// What the user named, a file or a folder; then nothing else is looked at.
    pub named: Option<PathBuf>,
    /// Folders before the host's own.
    pub extra_dirs: Vec<PathBuf>,
}

/// A kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its file, as the distribution made it.
    pub image: PathBuf,
    /// Its release, as uname(2) would say.
    pub release: String,
    /// Its modules' folder (`lib/modules/RELEASE`), if there is one.
    pub modules: Option<PathBuf>,
}

/// A place that held no kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The place.
    pub path: PathBuf,
    /// Why not.
    pub why: String,
}

/// The first kernel that can be read. What must be built into it or lie beside it is [`pick_modules`]' business.
///
/// # Errors
/// None; every place that was looked at, with its reason.
pub fn find(sources: &Sources) -> Result<Kernel, Vec<Tried>> {
    let mut tried = Vec::new();
    let places = match &sources.named {
        Some(named) if named.is_dir() => in_folder(named),
        Some(named) => vec![named.clone()],
        None => {
            let extra = sources.extra_dirs.iter().flat_map(|folder| in_folder(folder));
            extra.chain(of_host()).collect()
        }
    };
    if places.is_empty() {
        let path = sources.named.clone().unwrap_or_else(|| PathBuf::from("/boot"));
        tried.push(Tried { path, why: "no kernel (`vmlinuz*` or `vmlinux*`) in this folder".to_owned() });
    }
    for path in places {
        match look_at(&path) {
            Ok(kernel) => return Ok(kernel),
            Err(why) => tried.push(Tried { path, why }),
        }
    }
    Err(tried)
}

/// Kernels in a folder, or in the places of an unpacked package beneath it; the highest version first.
fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in [folder.to_owned(), folder.join("boot")] {
        found.extend(named_like_kernels(&place));
    }
    for modules in ["lib/modules", "usr/lib/modules"] {
        for release in entries(&folder.join(modules)) {
            found.extend(named_like_kernels(&release));
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(version_key(path)));
    found
}

/// The host's own: the one that runs, then the others.
fn of_host() -> Vec<PathBuf> {
    let running = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut found = vec![
        PathBuf::from(format!("/lib/modules/{running}/vmlinuz")),
        format!("/boot/vmlinuz-{running}").into(),
    ];
    for path in in_folder(Path::new("/")) {
        if !found.contains(&path) {
            found.push(path);
        }
    }
    // What is not there need not be told, but for the one that runs.
    let first = found[1].clone();
    found.retain(|path| path.exists() || *path == first);
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn named_like_kernels(folder: &Path) -> Vec<PathBuf> {
    let is_kernel = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let named = name.starts_with("vmlinuz") || name.starts_with("vmlinux") || name.starts_with("bzImage");
        named && path.is_file()
    };
    entries(folder).into_iter().filter(is_kernel).collect()
}

/// Numbers in a path, for ordering: 6.12 comes after 6.9.
fn version_key(path: &Path) -> Vec<u64> {
    let name = path.to_string_lossy();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn look_at(path: &Path) -> Result<Kernel, String> {
    let image = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "readable by root only, as some distributions have it; copy it, or let your user read it"
                .to_owned()
        }
        _ => error.to_string(),
    })?;
    let release =
        image::release(&image).ok_or("no Linux kernel for this processor, or one of an unknown form")?;
    Ok(Kernel { image: path.to_owned(), modules: modules_of(path, &release), release })
}

/// The folder of its modules: beside the kernel, in the package it lies in, or the host's.
fn modules_of(image: &Path, release: &str) -> Option<PathBuf> {
    let beside = image.parent()?;
    let above = beside.parent().unwrap_or(beside);
    let candidates = [
        beside.to_owned(),
        beside.join("lib/modules").join(release),
        above.join("lib/modules").join(release),
        above.join("usr/lib/modules").join(release),
        Path::new("/lib/modules").join(release),
    ];
    candidates
        .into_iter()
        .find(|folder| folder.join("modules.builtin").is_file() || folder.join("kernel").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        let mut names = ["/boot/vmlinuz-6.9.1", "/boot/vmlinuz-6.12.0-2", "/boot/vmlinuz-6.12.0-10"];
        names.sort_by_key(|name| std::cmp::Reverse(version_key(Path::new(name))));
        assert_eq!(names, ["/boot/vmlinuz-6.12.0-10", "/boot/vmlinuz-6.12.0-2", "/boot/vmlinuz-6.9.1"]);
    }

    #[test]
    fn what_is_no_kernel_is_told_with_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let named = |path: PathBuf| find(&Sources { named: Some(path), extra_dirs: vec![] });
        let empty = named(folder.path().to_owned()).expect_err("empty");
        assert_eq!(empty[0].path, folder.path());
        fs::write(folder.path().join("vmlinuz-1"), "text").expect("written");
        let text = named(folder.path().to_owned()).expect_err("text");
        assert!(text[0].why.contains("unknown form"), "{text:?}");
        let gone = named(folder.path().join("gone")).expect_err("gone");
        assert!(gone[0].why.contains("no such file"), "{gone:?}");
    }

    #[test]
    fn a_package_brings_its_modules_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let (boot, modules) = (folder.path().join("boot"), folder.path().join("lib/modules/6.1.0-9-x"));
        fs::create_dir_all(&boot).expect("made");
        fs::create_dir_all(modules.join("kernel")).expect("made");
        fs::write(boot.join("vmlinuz-6.1.0-9-x"), image::tests::bz_image(b"\x28\xb5\x2f\xfd"))
            .expect("written");
        let kernel =
            find(&Sources { named: None, extra_dirs: vec![folder.path().to_owned()] }).expect("found");
        assert_eq!((kernel.release.as_str(), kernel.modules), ("6.1.0-9-x", Some(modules)));
    }
}
