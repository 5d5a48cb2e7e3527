//! A kernel and its first programs, made ready in the cache: unpacked once, and found again by what they were made of.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file;
use crate::microvm::initramfs;
use crate::microvm::kernel::{self, Bus, Kernel, Sources, Wanted};
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};
use crate::plan::vm::KernelFacts;

/// What was made of one kernel and this program.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    release: String,
    source: PathBuf,
    image: PathBuf,
    quiet: PathBuf,
    connected: PathBuf,
}

/// The kernel that is named, else the best that this host has, made ready. `pci`: devices hang on that bus.
///
/// # Errors
/// There is none, with every place that was looked at; it cannot be unpacked; a module is missing.
pub(super) fn ready(cache: &Path, named: Option<&Path>, pci: bool) -> Result<KernelFacts, Failure> {
    let sources = Sources { named: named.map(Path::to_path_buf), extra_dirs: vec![cache.join("kernels")] };
    let program = fs::metadata("/proc/self/exe").map_err(|error| cannot("look at this program", &error))?;
    // What was found last is still it while nothing about it has changed: no kernel is read for that.
    let last = cache.join(if pci { "last-pci.json" } else { "last.json" });
    let before: Option<(String, Made)> =
        fs::read(&last).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some((key, made)) = before
        && key_of(named, &made.source, &program) == Some(key)
        && [&made.image, &made.quiet, &made.connected].iter().all(|path| path.is_file())
    {
        return Ok(facts(made, pci));
    }
    let kernel = kernel::find(&sources).map_err(|tried| none(&tried))?;
    let made = make(cache, &kernel, pci)?;
    if let Some(key) = key_of(named, &made.source, &program)
        && let Ok(bytes) = serde_json::to_vec(&(key, &made))
    {
        // A cache that cannot be written costs time at the next launch.
        let _kept = write(&last, &bytes);
    }
    Ok(facts(made, pci))
}

fn facts(made: Made, pci: bool) -> KernelFacts {
    KernelFacts {
        release: made.release,
        source: made.source,
        image: file(&made.image),
        initramfs: file(&made.quiet),
        initramfs_net: file(&made.connected),
        pci,
    }
}

/// What a kernel that is made ready depends on: what was named, the kernel's file, this program's.
fn key_of(named: Option<&Path>, source: &Path, program: &fs::Metadata) -> Option<String> {
    let kernel = fs::metadata(source).ok()?;
    let of = |meta: &fs::Metadata| {
        format!("{}:{}:{}:{}", meta.dev(), meta.ino(), meta.size(), meta.mtime_nsec() + meta.mtime())
    };
    let named = named.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    // Without a name it is the kernel that runs, which another boot may change.
    let running = rustix::system::uname().release().to_string_lossy().into_owned();
    Some(format!("{named}|{running}|{}|{}", of(&kernel), of(program)))
}

fn make(cache: &Path, kernel: &Kernel, pci: bool) -> Result<Made, Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(cache)
        .map_err(|error| cannot("make the cache", &error))?;
    let shown = printable(&kernel.image.to_string_lossy());
    let packed =
        fs::read(&kernel.image).map_err(|error| cannot(&format!("read the kernel `{shown}`"), &error))?;
    let name = format!("vmlinux-{}", hash(&packed));
    let unpack = || kernel::unpack(&packed).map_err(|error| io::Error::other(error.to_string()));
    let image = initramfs::store(cache, &name, unpack)
        .map_err(|error| cannot(&format!("unpack the kernel `{shown}`"), &error))?;
    let agent = initramfs::agent_binary().ok_or_else(|| {
        Failure::new(
            FailureKind::Unsupported,
            "this tripmine was built without the agent that runs in a guest",
        )
        .hint("build it without `TRIPMINE_WITHOUT_AGENT`, or use another build")
    })?;
    let bus = if pci { Bus::Pci } else { Bus::Mmio };
    let archive = |net| -> Result<PathBuf, Failure> {
        let modules = kernel::pick_modules(kernel, &Wanted { bus, net, ninep: false }).map_err(|error| {
            Failure::new(
                FailureKind::Unsupported,
                format!("the kernel `{}` cannot be a guest's: {error}", printable(&kernel.release)),
            )
            .hint("use a distribution's own kernel with its modules: `tripmine vm setup --kernel FOLDER`")
        })?;
        initramfs::cached(cache, agent, &modules)
            .map_err(|error| cannot("write the first programs of a guest", &error))
    };
    Ok(Made {
        release: printable(&kernel.release),
        source: kernel.image.clone(),
        image,
        quiet: archive(false)?,
        connected: archive(true)?,
    })
}

fn hash(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest[..16].iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a String does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, bytes)?;
    fs::rename(part, path)
}

fn cannot(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(FailureKind::Unsupported, format!("cannot {what}")).because(error)
}

fn none(tried: &[kernel::Tried]) -> Failure {
    let failure = Failure::new(
        FailureKind::Unsupported,
        "a microvm needs a Linux kernel for its guest, and there is none",
    );
    let failure = tried.iter().take(4).fold(failure, |failure, tried| {
        failure.hint(format!(
            "looked at `{}`: {}",
            printable(&tried.path.to_string_lossy()),
            printable(&tried.why)
        ))
    });
    failure
        .hint("without root: `apt-get download linux-image-cloud-amd64` (the package it depends on), `dpkg -x FILE.deb FOLDER`, `tripmine vm setup --kernel FOLDER`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kernel_is_told_with_the_places_and_a_way() {
        let empty = tempfile::tempdir().expect("a folder");
        let failure = ready(empty.path(), Some(empty.path()), false).expect_err("none");
        assert!(failure.hints.iter().any(|hint| hint.contains("vm setup --kernel")), "{:?}", failure.hints);
        assert!(failure.hints[0].contains(&*empty.path().to_string_lossy()), "{:?}", failure.hints);
    }
}
