//! Who runs inside and how ids are mapped (user_namespaces(7)). Owns the choice of map, of who
//! writes it, and of the capabilities; applies nothing.

use super::facts::{Caller, SubordinateIds};
use super::launch::{IdMap, MapWriter, UserPlan};
use crate::model::RunAs;

/// Where the ids of a cube that the host's root launches begin outside: far above people, services
/// and the ranges that distributions hand out.
pub const ROOT_BASE: u32 = 0x7000_0000;
/// How many ids a full map has.
pub const FULL: u32 = 65_536;

/// What root inside may hold in its own user namespace. No more than podman gives, less what a
/// cube does not need.
pub const ROOT_CAPABILITIES: [&str; 10] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Not for cubes of the host's root: through a mount with an id map, which his folders have, a file's capabilities would be
/// written as the host's own, and whoever runs the file outside would have them. Elsewhere they name the cube's own root.
pub const FILE_CAPABILITIES: &str = "CAP_SETFCAP";

const NO_RANGE: &str = "you have no range of 65536 subordinate ids (/etc/subuid, /etc/subgid)";
const NO_HELPERS: &str = "`newuidmap` and `newgidmap` are not installed (package `uidmap`)";

/// The user of a cube in place: the caller, without any capability. `home` is where its home lies on the host.
#[must_use]
pub fn in_place(caller: &Caller, home: String) -> UserPlan {
    UserPlan {
        run_as: RunAs::Me,
        uid: caller.uid,
        gid: caller.gid,
        name: login_name(&caller.name).to_owned(),
        home,
        uid_map: Vec::new(),
        gid_map: Vec::new(),
        map_writer: MapWriter::Nobody,
        idmapped_mounts: false,
        capabilities: Vec::new(),
    }
}

/// The same user, with subordinate ids for all others: what serves files to a guest takes the guest's ids, whichever they are.
///
/// # Errors
/// Why there are none.
pub fn with_others(
    user: &mut UserPlan,
    caller: &Caller,
    subordinate: Option<SubordinateIds>,
    id_helpers: bool,
) -> Result<(), &'static str> {
    if user.map_writer != MapWriter::Own {
        // Root's cubes have as many ids as any, and so has a cube whose map the helpers write.
        return Ok(());
    }
    let ids = subordinate.filter(|ids| usable(ids, caller)).ok_or(NO_RANGE)?;
    if !id_helpers {
        return Err(NO_HELPERS);
    }
    let around = |inside: u32, own, start: u32| {
        let below = inside.min(FULL);
        [
            IdMap { inside: 0, outside: start, count: below },
            IdMap { inside, outside: own, count: 1 },
            IdMap {
                inside: inside.saturating_add(1),
                outside: start.saturating_add(below),
                count: FULL.saturating_sub(below),
            },
        ]
        .into_iter()
        .filter(|map| map.count > 0)
        .collect()
    };
    user.uid_map = around(user.uid, caller.uid, ids.uids.start);
    user.gid_map = around(user.gid, caller.gid, ids.gids.start);
    user.map_writer = MapWriter::Helper;
    Ok(())
}

/// The user of a cube, and a warning when the map is poorer than what was asked for.
#[must_use]
pub fn user(
    run_as: RunAs,
    caller: &Caller,
    subordinate: Option<SubordinateIds>,
    id_helpers: bool,
) -> (UserPlan, Option<String>) {
    let capabilities = match run_as {
        RunAs::Me => Vec::new(),
        RunAs::Root => ROOT_CAPABILITIES.iter().map(|&name| name.to_owned()).collect(),
    };
    let plan = |uid, gid, name: &str, home: String, maps: (Vec<IdMap>, Vec<IdMap>), map_writer| UserPlan {
        run_as,
        uid,
        gid,
        name: name.to_owned(),
        home,
        uid_map: maps.0,
        gid_map: maps.1,
        map_writer,
        idmapped_mounts: map_writer == MapWriter::Keeper,
        capabilities: capabilities.clone(),
    };
    let root_home = "/root".to_owned();
    if caller.uid == 0 {
        let map = vec![IdMap { inside: 0, outside: ROOT_BASE, count: FULL }];
        let mut user = plan(0, 0, "root", root_home, (map.clone(), map), MapWriter::Keeper);
        user.capabilities.retain(|name| name != FILE_CAPABILITIES);
        return (user, None);
    }
    if run_as == RunAs::Me {
        let name = login_name(&caller.name);
        let maps = (one(caller.uid, caller.uid), one(caller.gid, caller.gid));
        return (plan(caller.uid, caller.gid, name, format!("/home/{name}"), maps, MapWriter::Own), None);
    }
    let ranges = subordinate.filter(|ids| usable(ids, caller));
    if let (Some(ids), true) = (ranges, id_helpers) {
        let full = |own, start| {
            vec![
                IdMap { inside: 0, outside: own, count: 1 },
                IdMap { inside: 1, outside: start, count: FULL },
            ]
        };
        let maps = (full(caller.uid, ids.uids.start), full(caller.gid, ids.gids.start));
        return (plan(0, 0, "root", root_home, maps, MapWriter::Helper), None);
    }
    let why = if id_helpers { NO_RANGE } else { NO_HELPERS };
    let warning = format!(
        "root is the only user inside, because {why}: `chown` to other users, `apt` and services that \
         change to their own user will fail"
    );
    let maps = (one(0, caller.uid), one(0, caller.gid));
    (plan(0, 0, "root", root_home, maps, MapWriter::Own), Some(warning))
}

fn one(inside: u32, outside: u32) -> Vec<IdMap> {
    vec![IdMap { inside, outside, count: 1 }]
}

/// Long enough, within the number space, and apart from the caller's own ids and the host's root.
fn usable(ids: &SubordinateIds, caller: &Caller) -> bool {
    [(ids.uids, caller.uid), (ids.gids, caller.gid)].iter().all(|(range, own)| {
        let end = range.start.checked_add(FULL - 1);
        range.count >= FULL && range.start > 0 && end.is_some_and(|end| *own < range.start || *own > end)
    })
}

/// The login name when it is a plain one, else `me`. An ordinary user named `root` is `me` too.
pub fn login_name(name: &str) -> &str {
    let good = (1..=32).contains(&name.len())
        && name != "root"
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if good { name } else { "me" }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{CallerEnv, IdRange};
    use super::*;

    fn caller(uid: u32, name: &str) -> Caller {
        Caller {
            uid,
            gid: uid,
            name: name.to_owned(),
            home: "/home/ann".into(),
            hard_open_files: 1024,
            env: CallerEnv::default(),
        }
    }

    fn ids(start: u32, count: u32) -> Option<SubordinateIds> {
        let range = IdRange { start, count };
        Some(SubordinateIds { uids: range, gids: range })
    }

    fn triples(map: &[IdMap]) -> Vec<(u32, u32, u32)> {
        map.iter().map(|line| (line.inside, line.outside, line.count)).collect()
    }

    #[test]
    fn maps() {
        let full = vec![(0, 1000, 1), (1, 100_000, 65_536)];
        for (run_as, uid, subordinate, helpers, map, writer, warned) in [
            (RunAs::Me, 1000, ids(100_000, 65_536), true, vec![(1000, 1000, 1)], MapWriter::Own, false),
            (RunAs::Root, 1000, ids(100_000, 65_536), true, full, MapWriter::Helper, false),
            (RunAs::Root, 1000, ids(100_000, 65_535), true, vec![(0, 1000, 1)], MapWriter::Own, true),
            (RunAs::Root, 1000, ids(100_000, 65_536), false, vec![(0, 1000, 1)], MapWriter::Own, true),
            (RunAs::Root, 1000, ids(0, 65_536), true, vec![(0, 1000, 1)], MapWriter::Own, true),
            (RunAs::Root, 1000, ids(500, 65_536), true, vec![(0, 1000, 1)], MapWriter::Own, true),
            (RunAs::Root, 1000, ids(u32::MAX - 9, 65_536), true, vec![(0, 1000, 1)], MapWriter::Own, true),
            (RunAs::Root, 1000, None, true, vec![(0, 1000, 1)], MapWriter::Own, true),
            (RunAs::Me, 0, None, false, vec![(0, ROOT_BASE, 65_536)], MapWriter::Keeper, false),
            (RunAs::Root, 0, None, false, vec![(0, ROOT_BASE, 65_536)], MapWriter::Keeper, false),
        ] {
            let (plan, warning) = user(run_as, &caller(uid, "ann"), subordinate, helpers);
            let case = format!("{run_as} {uid} {subordinate:?} {helpers}");
            assert_eq!(triples(&plan.uid_map), map, "{case}");
            assert_eq!(triples(&plan.gid_map), map, "{case}");
            assert_eq!(plan.map_writer, writer, "{case}");
            assert_eq!(plan.idmapped_mounts, uid == 0, "{case}");
            assert_eq!(warning.is_some(), warned, "{case}");
            assert_eq!(plan.capabilities.is_empty(), run_as == RunAs::Me, "{case}");
            let file_capabilities = plan.capabilities.iter().any(|name| name == FILE_CAPABILITIES);
            assert_eq!(file_capabilities, run_as == RunAs::Root && uid != 0, "{case}");
            // Whatever is asked for, nothing inside is the host's root outside.
            assert!(plan.uid_map.iter().all(|line| line.outside > 0), "{case}");
        }
    }

    #[test]
    fn a_user_among_subordinate_ids_stays_who_he_is() {
        for (uid, map) in [
            (1000, vec![(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 64_536)]),
            (70_000, vec![(0, 100_000, 65_536), (70_000, 70_000, 1)]),
        ] {
            let caller = caller(uid, "ann");
            let (mut plan, _) = user(RunAs::Me, &caller, None, false);
            with_others(&mut plan, &caller, ids(100_000, 65_536), true).expect("they are there");
            assert_eq!((triples(&plan.uid_map), triples(&plan.gid_map)), (map.clone(), map));
            assert_eq!((plan.uid, plan.map_writer), (uid, MapWriter::Helper));
        }
        let caller = caller(1000, "ann");
        let (mut plan, _) = user(RunAs::Me, &caller, None, false);
        assert!(with_others(&mut plan, &caller, None, true).expect_err("none").contains("/etc/subuid"));
        let range = ids(100_000, 65_536);
        assert!(with_others(&mut plan, &caller, range, false).expect_err("none").contains("newuidmap"));
        assert_eq!(plan.map_writer, MapWriter::Own, "as it was");
    }

    #[test]
    fn names_and_homes() {
        let long = "a".repeat(33);
        for (name, want) in [
            ("ann", "ann"),
            ("_svc-1", "_svc-1"),
            ("Ann", "me"),
            ("root", "me"),
            ("a/b", "me"),
            ("..", "me"),
            ("a:b", "me"),
            ("", "me"),
            (long.as_str(), "me"),
        ] {
            let (plan, _) = user(RunAs::Me, &caller(1000, name), None, false);
            assert_eq!((plan.name.as_str(), plan.home), (want, format!("/home/{want}")), "{name}");
        }
        let (root, _) = user(RunAs::Root, &caller(1000, "ann"), None, false);
        assert_eq!((root.name.as_str(), root.home.as_str(), root.uid), ("root", "/root", 0));
    }
}
