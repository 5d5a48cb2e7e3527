//! The files of `/etc` that are made, not copied.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use crate::model::net::OWN_V4;

use super::{PLACEHOLDER_HOSTNAME, SkeletonError, SkeletonUser};

const NOBODY: u32 = 65534;

/// Refuses a user that would break a passwd file or whose home leads out of the root.
pub(super) fn check_user(user: &SkeletonUser) -> Result<(), SkeletonError> {
    let fail = |field, value: &str| Err(SkeletonError::User { field, value: value.to_owned() });
    let breaks = |text: &str| text.contains(|c: char| c == ':' || c.is_control());
    if user.name.is_empty()
        || breaks(&user.name)
        || user.name.starts_with(['-', '+'])
        || user.name.contains('/')
    {
        return fail("user name", &user.name);
    }
    for (field, text) in [("home", &user.home), ("shell", &user.shell)] {
        let path = Path::new(text);
        let climbs = path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir));
        if !path.is_absolute() || climbs || breaks(text) {
            return fail(field, text);
        }
    }
    Ok(())
}

/// Every question for a name is answered by the gateway, whatever address it is sent to; this is one that is always there.
pub(super) fn resolv_conf() -> String {
    format!(
        "# tripmine: the gateway answers, as the net policy of the cube says\nnameserver {OWN_V4}\noptions edns0\n"
    )
}

/// Writes the made files into `etc`. None of them may be a copy of the host's.
pub(super) fn write_etc(root: &Path, etc: &Path, user: &SkeletonUser, seed: &str) -> io::Result<()> {
    let root_shell =
        ["/bin/bash", "/bin/sh"].into_iter().find(|shell| exists(root, shell)).unwrap_or("/bin/sh");
    let name = PLACEHOLDER_HOSTNAME;
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
                    protocols: files\nservices: files\nethers: files\nrpc: files\n";
    for (file, text) in [
        ("passwd", passwd(user, root_shell)),
        ("group", group(user)),
        ("hosts", hosts()),
        ("hostname", format!("{name}\n")),
        ("resolv.conf", resolv_conf()),
        ("machine-id", format!("{}\n", machine_id(seed))),
        ("nsswitch.conf", nsswitch.to_owned()),
        ("shells", shells(root, user)),
        ("fstab", String::new()),
    ] {
        let mut made = File::create(etc.join(file))?;
        made.write_all(text.as_bytes())?;
        made.set_permissions(Permissions::from_mode(0o644))?;
    }
    symlink("/proc/self/mounts", etc.join("mtab"))
}

/// `/etc/hosts`.
pub(super) fn hosts() -> String {
    let name = PLACEHOLDER_HOSTNAME;
    format!(
        "127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}

fn passwd(user: &SkeletonUser, root_shell: &str) -> String {
    let SkeletonUser { uid, gid, name, home, shell } = user;
    let root = if *uid == 0 {
        // The user is root: its home and shell are those of root.
        format!("root:x:0:0:root:{home}:{shell}\n")
    } else {
        format!("root:x:0:0:root:/root:{root_shell}\n")
    };
    let own = if matches!(*uid, 0 | NOBODY) || matches!(name.as_str(), "root" | "nobody") {
        String::new()
    } else {
        format!("{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n")
    };
    format!("{root}{own}nobody:x:{NOBODY}:{NOBODY}:nobody:/nonexistent:/usr/sbin/nologin\n")
}

fn group(user: &SkeletonUser) -> String {
    let SkeletonUser { gid, name, .. } = user;
    let own = if matches!(*gid, 0 | NOBODY) || matches!(name.as_str(), "root" | "nogroup") {
        String::new()
    } else {
        format!("{name}:x:{gid}:\n")
    };
    format!("root:x:0:\n{own}nogroup:x:{NOBODY}:\n")
}

/// Derived, so that it is the same at every launch of a machine and never the host's.
pub(super) fn machine_id(seed: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"tripmine machine-id\0");
    hash.update(seed.as_bytes());
    let mut id: Vec<u8> = hash.finalize().into_iter().take(16).collect();
    // machine-id(5): of the form of a random UUID.
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shells(root: &Path, user: &SkeletonUser) -> String {
    let known =
        ["/bin/sh", "/bin/bash", "/usr/bin/bash", "/bin/dash", "/bin/zsh", "/usr/bin/zsh", "/usr/bin/fish"];
    let mut list: Vec<&str> = known.into_iter().filter(|shell| exists(root, shell)).collect();
    if !list.contains(&user.shell.as_str()) {
        list.push(&user.shell);
    }
    list.join("\n") + "\n"
}

fn exists(root: &Path, path: &str) -> bool {
    fs::metadata(root.join(path.trim_start_matches('/'))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, name: &str) -> SkeletonUser {
        SkeletonUser { uid, gid: uid, name: name.into(), home: "/home/me".into(), shell: "/bin/zsh".into() }
    }

    #[test]
    fn passwd_has_each_id_once() {
        for (uid, name, lines) in [(1000, "me", 3), (0, "root", 2), (0, "me", 2), (NOBODY, "nobody", 2)] {
            let text = passwd(&user(uid, name), "/bin/sh");
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.lines().all(|line| line.split(':').count() == 7), "{text}");
            assert!(group(&user(uid, name)).lines().all(|line| line.split(':').count() == 4));
        }
        assert!(passwd(&user(0, "root"), "/bin/sh").starts_with("root:x:0:0:root:/home/me:/bin/zsh\n"));
    }

    #[test]
    fn users_that_break_the_file_are_refused() {
        check_user(&user(1000, "me")).expect("good");
        for bad in [
            user(1, ""),
            user(1, "a:b"),
            user(1, "a\nroot"),
            user(1, "../x"),
            SkeletonUser { home: "/home/../../etc".into(), ..user(1, "me") },
            SkeletonUser { home: "home".into(), ..user(1, "me") },
            SkeletonUser { shell: "/bin/sh:".into(), ..user(1, "me") },
        ] {
            check_user(&bad).expect_err(&format!("{bad:?}"));
        }
    }

    #[test]
    fn machine_ids_follow_the_seed() {
        let id = machine_id("a");
        assert_eq!((id.len(), &id[12..13]), (32, "4"));
        assert_eq!(id, machine_id("a"));
        assert_ne!(id, machine_id("b"));
    }
}
