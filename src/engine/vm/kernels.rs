//! A kernel and its first programs, made ready in the cache.

use std::path::Path;

use crate::model::{Failure, FailureKind};
use crate::plan::vm::KernelFacts;

pub(super) fn ready(cache: &Path, named: Option<&Path>, pci: bool) -> Result<KernelFacts, Failure> {
    let folder = named.unwrap_or(cache);
    let (image, initramfs) = (folder.join("vmlinux"), folder.join("irf.cpio"));
    if !image.exists() {
        return Err(Failure::new(FailureKind::Unsupported, "no kernel"));
    }
    Ok(KernelFacts { release: "6.1.0-56".into(), source: image.clone(), image: super::file(&image), initramfs: super::file(&initramfs), pci })
}
