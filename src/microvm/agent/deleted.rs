//! Files of the share that were deleted and are still in use: whoever serves the share after a pause cannot find them, because
//! they have no name any more. Found by names and mount numbers only, which asks nothing of the share.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// How names of what was deleted end (proc(5)).
const DELETED: &str = " (deleted)";

/// The mounts of the share: their numbers, and their devices as `maps` writes them.
#[derive(Debug, Default)]
struct Shares {
    mounts: BTreeSet<u64>,
    devices: BTreeSet<(u64, u64)>,
}

/// Some process uses one.
pub(super) fn in_use() -> bool {
    let shares = shares(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
        .any(|entry| uses(&entry.path(), &shares))
}

fn uses(process: &Path, shares: &Shares) -> bool {
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    if mapped(&maps, shares) {
        return true;
    }
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.filter(|entry| is_deleted(&entry.path())).any(|entry| {
        let info = process.join("fdinfo").join(entry.file_name());
        let info = fs::read_to_string(info).unwrap_or_default();
        mount_of(&info).is_some_and(|mount| shares.mounts.contains(&mount))
    })
}

fn is_deleted(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|to| to.as_os_str().as_encoded_bytes().ends_with(DELETED.as_bytes()))
}

/// `mnt_id` of a `fdinfo`.
fn mount_of(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

fn shares(mountinfo: &str) -> Shares {
    let mut shares = Shares::default();
    for line in mountinfo.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        if !tail.starts_with("virtiofs ") {
            continue;
        }
        let mut words = head.split(' ');
        let number: Option<u64> = words.next().and_then(|word| word.parse().ok());
        let device = words.nth(1).and_then(|word| word.split_once(':'));
        shares.mounts.extend(number);
        if let Some((Ok(major), Ok(minor))) =
            device.map(|(major, minor)| (major.parse::<u64>(), minor.parse::<u64>()))
        {
            shares.devices.insert((major, minor));
        }
    }
    shares
}

fn mapped(maps: &str, shares: &Shares) -> bool {
    maps.lines().filter(|line| line.ends_with(DELETED)).any(|line| {
        let device = line.split(' ').nth(3).and_then(|word| word.split_once(':'));
        let number = |word| u64::from_str_radix(word, 16).ok();
        device
            .and_then(|(major, minor)| Some((number(major)?, number(minor)?)))
            .is_some_and(|device| shares.devices.contains(&device))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_on_the_share_counts() {
        let shares = shares(
            "29 1 0:27 / / rw,nosuid - virtiofs root rw\n31 29 0:28 / /tmp rw - tmpfs tmpfs rw\nnonsense\n",
        );
        assert!(shares.mounts.contains(&29) && !shares.mounts.contains(&31));
        for (line, counts) in [
            ("7f00-7f10 r--p 00000000 00:1b 77   /opt/lib.so (deleted)", true),
            ("7f00-7f10 r--p 00000000 00:1b 77   /opt/lib.so", false),
            ("7f00-7f10 rw-s 00000000 00:1c 77   /tmp/x (deleted)", false),
            ("7f00-7f10 rw-s 00000000 00:01 77   /memfd:x (deleted)", false),
            ("(deleted)", false),
        ] {
            assert_eq!(mapped(line, &shares), counts, "{line}");
        }
        assert_eq!(mount_of("pos:\t0\nflags:\t0100002\nmnt_id:\t29\nino:\t7\n"), Some(29));
        assert_eq!(mount_of("pos:\t0\n"), None);
    }
}
