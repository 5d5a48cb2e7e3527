//! The VMM and the share daemon: where distributions put them, and what they say of themselves.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};
use crate::plan::vm::{ShareFacts, ShareKind, VmmFacts};

/// Places of QEMU.
const VMM: [&str; 3] =
    ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"];
/// Places of virtiofsd; the one written in Rust first.
const SHARE: [&str; 5] =
    ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/bin/virtiofsd", OLD, "/usr/local/bin/virtiofsd"];
/// Where QEMU had its own one, written in C, until version 8.
const OLD: &str = "/usr/lib/qemu/virtiofsd";
/// Places of the firmware that starts an uncompressed kernel.
const QBOOT: [&str; 4] = [
    "/usr/share/qemu/qboot.rom",
    "/usr/share/qboot/bios.bin",
    "/usr/share/qboot/qboot.rom",
    "/usr/share/qemu-kvm/qboot.rom",
];
/// What a program may print about itself, in bytes.
const MOST: usize = 256 * 1024;

/// The VMM, in the system beneath `root` or in this one.
///
/// # Errors
/// There is none, with the packages that hold one; or it does not run.
pub(super) fn vmm(cache: &Path, root: Option<&Path>) -> Result<VmmFacts, Failure> {
    let program = find(&VMM, root).ok_or_else(|| {
        missing("QEMU", &VMM, root)
            .hint("Debian, Ubuntu: `sudo apt install qemu-system-x86`; Fedora: `sudo dnf install qemu-system-x86-core`; Arch: `sudo pacman -S qemu-system-x86`")
    })?;
    let text = asked(cache, root, &program, &["--version"])?;
    let version = version(&text).ok_or_else(|| odd(&program, &text))?;
    let machines = asked(cache, root, &program, &["-M", "help"])?;
    let qboot = find(&QBOOT, root);
    // Without that firmware the plain machine starts no uncompressed kernel, and PCI machines do.
    let microvm = qboot.is_some() && machines.lines().any(|line| line.starts_with("microvm "));
    Ok(VmmFacts { program, version, microvm, qboot })
}

/// The share daemon, likewise.
///
/// # Errors
/// There is none, with the packages that hold one; or it does not run.
pub(super) fn share(cache: &Path, root: Option<&Path>) -> Result<ShareFacts, Failure> {
    let program = find(&SHARE, root).ok_or_else(|| {
        missing("virtiofsd", &SHARE, root)
            .hint("Debian 13, Ubuntu 24.04, Fedora, Arch: install the package `virtiofsd`; Debian 12: `qemu-system-common`")
    })?;
    if program == OLD {
        // It gives its groups up before it says anything, which it may not when an ordinary user asks. It is QEMU's.
        let vmm = find(&VMM, root).ok_or_else(|| missing("QEMU", &VMM, root))?;
        let text = asked(cache, root, &vmm, &["--version"])?;
        let version = version(&text).ok_or_else(|| odd(&vmm, &text))?;
        return Ok(ShareFacts { program, kind: ShareKind::C, version });
    }
    let text = asked(cache, root, &program, &["--version"])?;
    let version = version(&text).ok_or_else(|| odd(&program, &text))?;
    // QEMU's own says `virtiofsd version 7.2.22`, and has QEMU's numbers.
    let kind = if text.contains("virtiofsd version") { ShareKind::C } else { ShareKind::Rust };
    Ok(ShareFacts { program, kind, version })
}

fn find(places: &[&str], root: Option<&Path>) -> Option<String> {
    let seen = |place: &&&str| std::fs::metadata(beneath(root, place)).is_ok_and(|meta| meta.is_file());
    places.iter().find(seen).map(|place| (*place).to_owned())
}

fn beneath(root: Option<&Path>, place: &str) -> PathBuf {
    match root {
        None => PathBuf::from(place),
        Some(root) => root.join(place.trim_start_matches('/')),
    }
}

fn missing(what: &str, places: &[&str], root: Option<&Path>) -> Failure {
    let beneath =
        root.map(|root| format!(" beneath `{}`", printable(&root.to_string_lossy()))).unwrap_or_default();
    Failure::new(
        FailureKind::Unsupported,
        format!("a microvm needs {what}, and it is not here{beneath}: {}", places.join(", ")),
    )
}

fn odd(program: &str, text: &str) -> Failure {
    let first: String = text.lines().next().unwrap_or_default().chars().take(120).collect();
    Failure::new(
        FailureKind::Unsupported,
        format!("`{program}` does not say its version: `{}`", printable(&first)),
    )
}

/// What `program` says when it is asked with `arguments`: from the cache while it is the same file.
fn asked(cache: &Path, root: Option<&Path>, program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let path = beneath(root, program);
    let fail = |why: &dyn std::error::Error| {
        Failure::new(FailureKind::Unsupported, format!("`{}` cannot be asked", path.display())).because(why)
    };
    let meta = std::fs::metadata(&path).map_err(|error| fail(&error))?;
    let key =
        format!("{}:{}:{}:{}:{}", meta.dev(), meta.ino(), meta.size(), meta.mtime(), arguments.join(" "));
    let file = cache.join("programs.json");
    let mut known: Known =
        std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    if let Some(text) = known.said.get(&key) {
        return Ok(text.clone());
    }
    let mut command = match root {
        None => Command::new(&path),
        // Another system's program, with that system's own libraries.
        Some(root) => {
            let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
            command.arg("--library-path");
            command.arg(root.join("usr/lib/x86_64-linux-gnu")).arg(&path);
            command
        }
    };
    let output =
        command.args(arguments).env_clear().stdin(Stdio::null()).output().map_err(|error| fail(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first: String = said.lines().next().unwrap_or_default().chars().take(200).collect();
        return Err(Failure::new(
            FailureKind::Unsupported,
            format!(
                "`{}` does not run: {}: {}",
                path.display(),
                crate::microvm::qemu::how(output.status),
                printable(&first)
            ),
        ));
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.extend(String::from_utf8_lossy(&output.stderr).chars());
    let text: String = text.chars().take(MOST).collect();
    known.said.insert(key, text.clone());
    // A cache that cannot be written costs a moment at the next launch.
    let _kept = keep(&file, &known);
    Ok(text)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    said: BTreeMap<String, String>,
}

fn keep(file: &Path, known: &Known) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    let part = file.with_extension(format!("part-{}", std::process::id()));
    std::fs::write(&part, serde_json::to_vec(known)?)?;
    std::fs::rename(part, file)
}

/// The first `N.N.N` of a text.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    text.split(|c: char| c.is_whitespace() || c == '(').find_map(|word| {
        let mut numbers = word.split('.').map(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        });
        Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        for (text, want) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)", Some((7, 2, 22))),
            ("virtiofsd 1.13.2", Some((1, 13, 2))),
            ("virtiofsd version 7.2.22 (Debian 1:7.2)", Some((7, 2, 22))),
            ("QEMU emulator version 10.0.13", Some((10, 0, 13))),
            ("nothing", None),
        ] {
            assert_eq!(version(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_its_package() {
        let empty = tempfile::tempdir().expect("a folder");
        for (error, name, package) in [
            (vmm(empty.path(), Some(empty.path())).expect_err("none"), "QEMU", "qemu-system-x86"),
            (share(empty.path(), Some(empty.path())).expect_err("none"), "virtiofsd", "virtiofsd"),
        ] {
            assert!(error.message.contains(name), "{error}");
            assert!(error.hints[0].contains(package), "{:?}", error.hints);
        }
    }
}
