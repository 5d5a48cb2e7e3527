//! Looking for what a microvm is made of: the VMM, the share daemon, a kernel. What is found out by running a program is
//! kept beside the cache, by the program's identity, because a launch waits for it.

mod kernels;
pub mod paused;
mod programs;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Engine, environment};
use crate::host::kvm;
use crate::model::host::KvmFacts;
use crate::model::{Failure, VmAccel, VmSettings};
use crate::plan::launch::FileIdentity;
use crate::plan::vm::{FileFacts, VmFacts};

/// Looks everything up. `settings` strongest first; `user` for messages.
#[must_use]
pub fn gather(engine: &Engine, settings: &[&VmSettings], user: &str) -> VmFacts {
    let accel = settings.iter().find_map(|settings| settings.accel);
    let folder = |path: &Path| crate::store::projects::expand(path, &engine.home);
    let root = settings.iter().find_map(|settings| settings.engine.as_deref()).map(folder);
    let named = settings.iter().find_map(|settings| settings.kernel.as_deref()).map(folder);
    let cache = engine.layout.vm_dir();
    let vmm = programs::vmm(&cache, root.as_deref());
    let pci = vmm.as_ref().is_ok_and(|vmm| !vmm.microvm);
    VmFacts {
        architecture: cfg!(target_arch = "x86_64"),
        // Who has named emulation needs no device.
        kvm: if accel == Some(VmAccel::Tcg) {
            KvmFacts::Untested { why: "nobody asked for it".to_owned() }
        } else {
            kvm::probe(user)
        },
        share: programs::share(&cache, root.as_deref()),
        engine: root,
        vmm,
        kernel: kernels::ready(&cache, named.as_deref(), pci),
        program: program(),
        agent: crate::microvm::wire::VERSION,
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX),
    }
}

/// This program. Where it cannot be found, the jail's set-up says so.
fn program() -> FileFacts {
    let path = environment::own_program().and_then(|path| {
        std::fs::read_link(path)
            .map_err(|error| Failure::failed("cannot find tripmine's own program").because(&error))
    });
    file(&path.unwrap_or_default())
}

/// A file with what names it.
fn file(path: &Path) -> FileFacts {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let identity = std::fs::metadata(&path)
        .map_or(FileIdentity { dev: 0, ino: 0 }, |meta| FileIdentity { dev: meta.dev(), ino: meta.ino() });
    FileFacts { path, identity }
}
