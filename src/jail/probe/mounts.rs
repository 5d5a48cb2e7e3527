//! The F rows about mounts: how they are mounted, and what is.

use super::{Seen, none_of, untested};

/// What every cube has of its own: the point and the type of its file system.
const OWN: &[(&str, &str)] = &[
    ("/", "overlay"),
    ("/proc", "proc"),
    ("/tmp", "tmpfs"),
    ("/run", "tmpfs"),
    ("/dev", "tmpfs"),
    ("/dev/shm", "tmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/mqueue", "mqueue"),
];
/// Devices of the host that are seen one by one.
const DEVICES: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console"];

pub(super) fn flags() -> Seen {
    match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => judge_flags(&text),
        Err(error) => untested(format!("mountinfo: {error}")),
    }
}

fn judge_flags(mountinfo: &str) -> Seen {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in mountinfo.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(point), Some(options)) = (fields.next(), fields.next()) else { continue };
        count += 1;
        let has = |flag: &str| options.split(',').any(|option| option == flag);
        // The devices of /dev are mounted one by one, and would be none with nodev.
        let device = point == "/dev" || point.starts_with("/dev/");
        if !has("nosuid") {
            wrong.push(format!("{point} without nosuid"));
        } else if !device && !has("nodev") {
            wrong.push(format!("{point} without nodev"));
        }
    }
    if count == 0 { untested("no mount is seen") } else { none_of(&wrong, &format!("{count} mounts")) }
}

/// `known`: where something of the host is mounted on purpose.
pub(super) fn of_the_host(known: &[String]) -> Seen {
    if known.is_empty() {
        return untested("it was not told what is mounted on purpose");
    }
    match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => judge_origin(&text, known),
        Err(error) => untested(format!("mountinfo: {error}")),
    }
}

fn judge_origin(mountinfo: &str, known: &[String]) -> Seen {
    let (mut wrong, mut count, mut roots) = (Vec::new(), 0, 0);
    for line in mountinfo.lines() {
        let Some((mount, system)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4).map(plain) else { continue };
        let kind = system.split(' ').next().unwrap_or_default();
        count += 1;
        roots += usize::from(point == "/");
        // What covers a part of /proc is of /proc itself, or an empty file of the cube's own memory.
        let own = OWN.contains(&(point.as_str(), kind))
            || DEVICES.contains(&point.as_str())
            || point.starts_with("/proc/") && matches!(kind, "proc" | "tmpfs");
        if !own && !known.contains(&point) {
            wrong.push(format!("{point} ({kind})"));
        }
    }
    match (count, roots) {
        (0, _) => untested("no mount is seen"),
        (_, 1) => none_of(&wrong, &format!("{count} mounts, each of them known")),
        (_, roots) => super::fail(format!("{roots} mounts are the root")),
    }
}

/// `folders`: system folders of the host that are seen inside. Each must be mounted read-only, or be covered by an overlay
/// that takes the changes.
pub(super) fn system_folders(folders: &[String]) -> Seen {
    if folders.is_empty() {
        return untested("it was not told which folders are the host's");
    }
    match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => judge_system(&text, folders),
        Err(error) => untested(format!("mountinfo: {error}")),
    }
}

fn judge_system(mountinfo: &str, folders: &[String]) -> Seen {
    let safe = |folder: &String| {
        mountinfo.lines().filter_map(|line| line.split_once(" - ")).any(|(mount, system)| {
            let mut fields = mount.split(' ').skip(4);
            let at = fields.next().map(plain).is_some_and(|point| point == *folder);
            let read_only = fields.next().is_some_and(|options| options.split(',').any(|one| one == "ro"));
            at && (read_only || system.starts_with("overlay "))
        })
    };
    let open: Vec<String> = folders
        .iter()
        .filter(|folder| !safe(folder))
        .map(|folder| format!("{folder} is not read-only"))
        .collect();
    none_of(&open, &format!("{} of them", folders.len()))
}

/// A path as it stands in mountinfo, with its escapes (proc_pid_mountinfo(5)) undone.
fn plain(escaped: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(escaped.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::diagnose::Verdict;

    #[test]
    fn mounts_need_nosuid_and_nodev() {
        let cases = [
            ("1 0 0:1 / / rw,nosuid,nodev shared:1 - overlay o rw", Verdict::Pass),
            ("1 0 0:1 / / rw,nodev - overlay o rw", Verdict::Fail),
            ("1 0 0:1 / /home rw,nosuid - ext4 o rw", Verdict::Fail),
            ("1 0 0:1 /null /dev/null rw,nosuid - devtmpfs o rw", Verdict::Pass),
            ("1 0 0:1 / /devices rw,nosuid - ext4 o rw", Verdict::Fail),
            ("", Verdict::CouldNotTest),
        ];
        for (line, expected) in cases {
            assert_eq!(judge_flags(line).0, expected, "{line}");
        }
    }

    #[test]
    fn system_folders_are_read_only_or_covered() {
        let folders = ["/usr".to_owned()];
        for (text, expected) in [
            ("2 1 8:1 /usr /usr ro,nosuid - ext4 d rw", Verdict::Pass),
            ("2 1 0:9 / /usr rw,nosuid - overlay o rw", Verdict::Pass),
            ("2 1 8:1 /usr /usr rw,nosuid - ext4 d ro", Verdict::Fail),
            ("2 1 8:1 /usr /usr/lib ro - ext4 d rw", Verdict::Fail),
            ("", Verdict::Fail),
        ] {
            assert_eq!(judge_system(text, &folders).0, expected, "{text}");
        }
        assert_eq!(system_folders(&[]).0, Verdict::CouldNotTest);
    }

    #[test]
    fn only_known_mounts_and_one_root() {
        let known = ["/usr".to_owned(), "/projects/a b".to_owned()];
        let root = "1 0 0:1 / / rw - overlay o rw\n";
        let good = "2 1 8:1 /x /projects/a\\040b rw - ext4 d rw\n3 1 0:2 / /proc rw - proc p rw\n\
                    4 3 0:3 /e /proc/kcore ro - tmpfs t rw\n5 1 0:6 /null /dev/null rw - devtmpfs d rw\n";
        for (text, expected) in [
            (format!("{root}{good}"), Verdict::Pass),
            (format!("{root}{root}"), Verdict::Fail),
            (good.to_owned(), Verdict::Fail),
            (format!("{root}2 1 8:1 / /oldroot rw - ext4 d rw\n"), Verdict::Fail),
            (format!("{root}2 1 8:1 / /tmp rw - ext4 d rw\n"), Verdict::Fail),
            (format!("{root}2 1 8:1 / /dev/sda rw - devtmpfs d rw\n"), Verdict::Fail),
            (String::new(), Verdict::CouldNotTest),
        ] {
            assert_eq!(judge_origin(&text, &known).0, expected, "{text}");
        }
        assert_eq!(of_the_host(&[]).0, Verdict::CouldNotTest);
    }
}
