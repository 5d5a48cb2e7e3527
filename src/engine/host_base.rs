//! What a snapshot of a cube on `host` remembers of this host, and whether it is still so. The layer holds only what the
//! cube changed: beneath it lie the host's own folders, whichever they are now.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use sha2::{Digest, Sha256};

/// The label that says that `host` lies beneath an image.
pub const BASE: &str = "dev.tripmine.base";
/// Which host.
pub const HOST: &str = "dev.tripmine.base.host";
/// Its state: release and installed packages.
pub const STATE: &str = "dev.tripmine.base.state";

/// The labels of a snapshot made now.
#[must_use]
pub fn labels() -> [(&'static str, String); 3] {
    [(BASE, "host".to_owned()), (HOST, host()), (STATE, state())]
}

/// What a user should know before it is launched here and now.
#[must_use]
pub fn changed(labels: &BTreeMap<String, String>) -> Option<String> {
    let differs = |key: &str, now: String| labels.get(key).is_some_and(|then| *then != now);
    if differs(HOST, host()) {
        return Some(
            "the image was made on top of another host's system: what it needs may be missing here"
                .to_owned(),
        );
    }
    differs(STATE, state()).then(|| {
        "this host's system has changed since the image was made on top of it: make it again if something does not fit".to_owned()
    })
}

/// Tells hosts apart without telling which they are (machine-id(5) wants it hashed).
fn host() -> String {
    let id = fs::read("/etc/machine-id").unwrap_or_default();
    short(&[b"tripmine base\0", id.trim_ascii()])
}

/// Changes when the release or a package does.
fn state() -> String {
    let release = fs::read("/etc/os-release").unwrap_or_default();
    let mut marks = String::new();
    let databases = [
        "/var/lib/dpkg/status",
        "/var/lib/rpm/rpmdb.sqlite",
        "/usr/lib/sysimage/rpm/rpmdb.sqlite",
        "/var/lib/pacman/local",
        "/lib/apk/db/installed",
        "/run/current-system",
    ];
    for path in databases {
        if let Ok(found) = fs::metadata(path) {
            marks.push_str(&format!("{path} {} {} {}\n", found.size(), found.mtime(), found.mtime_nsec()));
        }
    }
    short(&[&release, marks.as_bytes()])
}

fn short(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_base_is_told() {
        let mut now: BTreeMap<String, String> =
            labels().into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        assert_eq!(changed(&now), None);
        now.insert(STATE.to_owned(), "other".to_owned());
        assert!(changed(&now).is_some_and(|note| note.contains("has changed since")));
        now.insert(HOST.to_owned(), "other".to_owned());
        assert!(changed(&now).is_some_and(|note| note.contains("another host")));
        assert_eq!(changed(&BTreeMap::new()), None);
    }
}
