//! From the kernel's first step to an open channel: what the kernel shows, its modules, the port.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

/// Where the archive holds the modules, in the order in which they are loaded.
pub(in crate::microvm) const MODULES: &str = "/modules";
/// The name of the port.
pub(in crate::microvm) const PORT: &str = "agent";
/// How long the port may take to show up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything up to the open port.
pub(super) fn channel() -> Result<OwnedFd, String> {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        match mount(kind, target, kind, flags, None) {
            // A kernel that mounts it by itself.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(errno) => return Err(format!("mounting {target}: {errno}")),
        }
    }
    load_modules()?;
    let begun = Instant::now();
    loop {
        if let Some(port) = find_port() {
            match rustix::fs::open(&*port, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
                Ok(fd) => return Ok(fd),
                // The device node comes a moment after its description.
                Err(Errno::NOENT | Errno::NXIO) => {}
                Err(errno) => return Err(format!("opening {port}: {errno}")),
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("no port `{PORT}` on any virtio-serial device"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Loads them by the order of their names, and lets go of each.
fn load_modules() -> Result<(), String> {
    let Ok(entries) = fs::read_dir(MODULES) else { return Ok(()) };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for path in names {
        let file = fs::File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(format!("loading {}: {errno}", path.display())),
        }
        drop(file);
        // Its memory is wanted back; what cannot be removed only costs some.
        let _removed = fs::remove_file(&path);
    }
    Ok(())
}

fn find_port() -> Option<String> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == PORT {
            return Some(format!("/dev/{}", entry.file_name().to_str()?));
        }
    }
    None
}
