//! Subordinate ids: `/etc/subuid`, `/etc/subgid` and the programs that map them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::model::host::{HelperFacts, IdSpan, SubordinateFacts};

/// The caller's ranges and the helpers. Reads two files and looks at two more.
#[must_use]
pub fn subordinate_ids(user: &str) -> SubordinateFacts {
    let uid = rustix::process::getuid().as_raw();
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    SubordinateFacts {
        uids: largest(&read("/etc/subuid"), user, uid),
        gids: largest(&read("/etc/subgid"), user, uid),
        newuidmap: helper("newuidmap"),
        newgidmap: helper("newgidmap"),
    }
}

/// The largest range that `text` (subuid(5)) gives to `user` by name or number. Lines that are not
/// well formed, or whose ids leave 32 bits, count for nothing, as for the helpers.
fn largest(text: &str, user: &str, uid: u32) -> Option<IdSpan> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let start: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            start.checked_add(count)?;
            let mine = owner == user || owner.parse() == Ok(uid);
            (mine && count > 0 && fields.next().is_none()).then_some(IdSpan { start, count })
        })
        .max_by_key(|span| span.count)
}

fn helper(name: &str) -> HelperFacts {
    for folder in ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"] {
        let path: PathBuf = Path::new(folder).join(name);
        let Ok(found) = std::fs::metadata(&path) else { continue };
        let set_user_id = found.mode() & 0o4000 != 0 && found.uid() == 0;
        let mut attribute = [0_u8; 64];
        let capable = rustix::fs::getxattr(&path, "security.capability", &mut attribute).is_ok();
        return if set_user_id || capable { HelperFacts::Ready(path) } else { HelperFacts::Powerless(path) };
    }
    HelperFacts::Missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_and_number() {
        let span = |start, count| Some(IdSpan { start, count });
        let cases = [
            ("me:100000:65536\n", span(100_000, 65_536)),
            ("1000:200000:65536\nme:100000:10\n", span(200_000, 65_536)),
            ("meg:1:5\nother:100000:65536\n", None),
            ("me:x:65536\nme:100000\nme:1:2:3\n# me:1:2\n", None),
            ("me:4294967295:65536\n", None),
            ("me:100000:0\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(largest(text, "me", 1000), expected, "{text:?}");
        }
    }
}
