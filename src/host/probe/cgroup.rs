//! Which cgroups this process may make: asked at every launch, so two files of `/proc` and a few of
//! the cgroup tree are read, nothing is tried. The decision is a pure function of those.
//!
//! Version 2 lets no folder have both processes and controllers for its children (the true root
//! excepted), so an ordinary user's base is the nearest folder above that the user may write and
//! that passes controllers on; under systemd that is the user's own `app.slice`. Version 1 knows no
//! such rule: cubes are made below the own cgroup, and what limits us limits them.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::model::host::{CgroupFacts, CgroupLayout};

/// Controllers that limits of cubes use, in the order they are shown.
const WANTED: &[&str] = &["memory", "cpu", "pids", "freezer"];
/// The folder that holds cubes when the base would otherwise hold others' folders.
const OWN: &str = "tripmine";

/// What this process may make. Some 50 microseconds.
#[must_use]
pub fn cgroups() -> CgroupFacts {
    let mounts = mounts(&read("/proc/self/mountinfo"));
    let own = own_paths(&read("/proc/self/cgroup"));
    decide(&mounts, &own, rustix::process::geteuid().is_root(), &Tree)
}

/// Which trees are mounted.
#[must_use]
pub fn cgroup_layout() -> CgroupLayout {
    layout(&mounts(&read("/proc/self/mountinfo")))
}

/// What is looked up in the cgroup trees; tests have their own.
trait Look {
    /// May this process write there?
    fn writable(&self, path: &Path) -> bool;
    /// The content of a file; empty when it cannot be read.
    fn read(&self, path: &Path) -> String;
    /// Does it exist?
    fn exists(&self, path: &Path) -> bool;
}

struct Tree;

impl Look for Tree {
    fn writable(&self, path: &Path) -> bool {
        rustix::fs::access(path, Access::WRITE_OK).is_ok()
    }

    fn read(&self, path: &Path) -> String {
        read(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

fn read(path: impl AsRef<Path>) -> String {
    crate::host::proc::read_text(path).unwrap_or_default()
}

/// A mounted cgroup tree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Which part of the tree is mounted.
    root: String,
    /// Where.
    point: PathBuf,
    /// `None` for version 2, else the controllers.
    controllers: Option<Vec<String>>,
}

/// The cgroup lines of mountinfo (proc_pid_mountinfo(5)).
fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (place, what) = line.split_once(" - ")?;
            let mut what = what.split(' ');
            let kind = what.next()?;
            let options = what.nth(1)?;
            let mut place = place.split(' ').skip(3);
            let controllers = match kind {
                "cgroup2" => None,
                "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
                _ => return None,
            };
            let root = unescape(place.next()?);
            let point = PathBuf::from(unescape(place.next()?));
            Some(Mount { root, point, controllers })
        })
        .collect()
}

/// mountinfo writes blank, tab, newline and backslash in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The lines of `/proc/self/cgroup`: controllers (empty for version 2) and path.
fn own_paths(text: &str) -> Vec<(Vec<String>, String)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?.split(',').map(str::to_owned).collect();
            Some((controllers, fields.next()?.to_owned()))
        })
        .collect()
}

fn layout(mounts: &[Mount]) -> CgroupLayout {
    let first = mounts.iter().any(|mount| {
        mount.controllers.as_ref().is_some_and(|all| WANTED.iter().any(|c| all.iter().any(|a| a == c)))
    });
    let second = mounts.iter().any(|mount| mount.controllers.is_none());
    match (first, second) {
        (true, true) => CgroupLayout::Hybrid,
        (true, false) => CgroupLayout::V1,
        (false, true) => CgroupLayout::V2,
        (false, false) => CgroupLayout::None,
    }
}

fn decide(mounts: &[Mount], own: &[(Vec<String>, String)], root: bool, look: &dyn Look) -> CgroupFacts {
    match layout(mounts) {
        CgroupLayout::None => none("no cgroup tree is mounted"),
        CgroupLayout::V1 | CgroupLayout::Hybrid => version_1(mounts, own, look),
        CgroupLayout::V2 => version_2(mounts, own, root, look),
    }
}

fn none(why: &str) -> CgroupFacts {
    CgroupFacts::None { why: why.to_owned() }
}

/// Where `path` of the tree lies below `mount`; `None` when the mount does not show it.
fn below(mount: &Mount, path: &str) -> Option<PathBuf> {
    let inner = Path::new(path).strip_prefix(&mount.root).ok()?;
    // A process moved out of its cgroup namespace sees `/..`: nothing of that is ours.
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    Some(if inner.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(inner) })
}

fn version_1(mounts: &[Mount], own: &[(Vec<String>, String)], look: &dyn Look) -> CgroupFacts {
    let mut bases = Vec::new();
    for wanted in WANTED {
        let has = |all: &[String]| all.iter().any(|controller| controller == wanted);
        let mount = mounts.iter().find(|mount| mount.controllers.as_deref().is_some_and(has));
        let path = own.iter().find(|(all, _)| has(all)).map(|(_, path)| path.as_str());
        let (Some(mount), Some(path)) = (mount, path) else { continue };
        let Some(folder) = below(mount, path) else { continue };
        if look.writable(&folder) {
            bases.push(((*wanted).to_owned(), folder.join(OWN)));
        }
    }
    if bases.is_empty() {
        none("the cgroup trees (version 1) belong to root, nothing is delegated to this user")
    } else {
        CgroupFacts::V1 { bases }
    }
}

fn version_2(mounts: &[Mount], own: &[(Vec<String>, String)], root: bool, look: &dyn Look) -> CgroupFacts {
    let Some(mount) = mounts.iter().find(|mount| mount.controllers.is_none()) else {
        return none("no cgroup tree is mounted");
    };
    let passes_on = |folder: &Path| wanted_of(&look.read(&folder.join("cgroup.subtree_control")));
    if root && look.writable(&mount.point) {
        // Only the true root, which has no `cgroup.type`, may hold processes and still be told to
        // pass on more; in a container's namespace what is passed on already is all there is.
        let true_root = !look.exists(&mount.point.join("cgroup.type"));
        let controllers = if true_root {
            wanted_of(&look.read(&mount.point.join("cgroup.controllers")))
        } else {
            passes_on(&mount.point)
        };
        if !controllers.is_empty() {
            return CgroupFacts::V2 { base: mount.point.join(OWN), controllers };
        }
    }
    let path = own.iter().find(|(all, _)| all.iter().all(String::is_empty)).map(|(_, path)| path.as_str());
    let Some(start) = path.and_then(|path| below(mount, path)) else {
        return none("this process's own cgroup is not below the mounted tree");
    };
    let mut delegated = false;
    for folder in start.ancestors().take_while(|folder| folder.starts_with(&mount.point)) {
        // Moving a process needs the process list of the folder above both places.
        if !look.writable(folder) || !look.writable(&folder.join("cgroup.procs")) {
            break;
        }
        delegated = true;
        let controllers = passes_on(folder);
        if !controllers.is_empty() {
            return CgroupFacts::V2 { base: folder.to_owned(), controllers };
        }
    }
    none(if delegated {
        "the cgroup of this user passes no memory, cpu or pids controller on to its children"
    } else {
        "the cgroup of this process belongs to root, nothing is delegated to this user"
    })
}

fn wanted_of(list: &str) -> Vec<String> {
    list.split_whitespace().filter(|name| WANTED.contains(name)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Files that can be read, and whether they can be written.
    struct Fake(BTreeMap<&'static str, (bool, &'static str)>);

    impl Look for Fake {
        fn writable(&self, path: &Path) -> bool {
            self.0.get(path.to_str().unwrap()).is_some_and(|(writable, _)| *writable)
        }

        fn read(&self, path: &Path) -> String {
            self.0.get(path.to_str().unwrap()).map(|(_, text)| (*text).to_owned()).unwrap_or_default()
        }

        fn exists(&self, path: &Path) -> bool {
            self.0.contains_key(path.to_str().unwrap())
        }
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n\
                      31 23 0:27 / /proc rw - proc proc rw\n";
    const HYBRID: &str = "32 31 0:29 / /cg/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                          35 31 0:32 /box /cg/my\\040mem rw,relatime - cgroup cgroup rw,memory\n\
                          41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n";

    fn facts(
        mountinfo: &str,
        own: &str,
        root: bool,
        files: &[(&'static str, bool, &'static str)],
    ) -> CgroupFacts {
        let files = files.iter().map(|(path, writable, text)| (*path, (*writable, *text))).collect();
        decide(&mounts(mountinfo), &own_paths(own), root, &Fake(files))
    }

    fn v2(base: &str, controllers: &[&str]) -> CgroupFacts {
        let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
        CgroupFacts::V2 { base: base.into(), controllers }
    }

    fn is_none(facts: &CgroupFacts, word: &str) -> bool {
        matches!(facts, CgroupFacts::None { why } if why.contains(word))
    }

    #[test]
    fn layouts() {
        for (text, expected) in [
            (V2, CgroupLayout::V2),
            (HYBRID, CgroupLayout::Hybrid),
            ("1 1 0:1 / /c rw - cgroup cgroup rw,pids\n", CgroupLayout::V1),
            (
                "1 1 0:1 / /c rw - cgroup cgroup rw,name=systemd\n2 1 0:2 / /u rw - cgroup2 x rw\n",
                CgroupLayout::V2,
            ),
            ("", CgroupLayout::None),
            ("garbage - \n\n - cgroup", CgroupLayout::None),
        ] {
            assert_eq!(layout(&mounts(text)), expected, "{text}");
        }
    }

    #[test]
    fn version_2_of_a_user_goes_up_to_what_passes_controllers_on() {
        let own = "0::/user.slice/user@1000/app.slice/term.scope\n";
        let scope = "/sys/fs/cgroup/user.slice/user@1000/app.slice/term.scope";
        let scope_procs = "/sys/fs/cgroup/user.slice/user@1000/app.slice/term.scope/cgroup.procs";
        let slice = "/sys/fs/cgroup/user.slice/user@1000/app.slice";
        let slice_procs = "/sys/fs/cgroup/user.slice/user@1000/app.slice/cgroup.procs";
        let slice_passes = "/sys/fs/cgroup/user.slice/user@1000/app.slice/cgroup.subtree_control";
        let all = [
            (scope, true, ""),
            (scope_procs, true, ""),
            (slice, true, ""),
            (slice_procs, true, ""),
            (slice_passes, true, "cpu memory pids io\n"),
        ];
        assert_eq!(facts(V2, own, false, &all), v2(slice, &["cpu", "memory", "pids"]));
        assert!(is_none(&facts(V2, own, false, &all[..4]), "passes no"));
        assert!(is_none(&facts(V2, own, false, &all[2..]), "belongs to root"));
        assert!(is_none(&facts(V2, "0::/../other\n", false, &all), "not below"));
    }

    #[test]
    fn version_2_of_root() {
        let point = ("/sys/fs/cgroup", true, "");
        let has = ("/sys/fs/cgroup/cgroup.controllers", false, "cpuset cpu io memory pids\n");
        let kind = ("/sys/fs/cgroup/cgroup.type", true, "domain\n");
        let passes = ("/sys/fs/cgroup/cgroup.subtree_control", true, "memory\n");
        let base = "/sys/fs/cgroup/tripmine";
        assert_eq!(facts(V2, "0::/a\n", true, &[point, has]), v2(base, &["cpu", "memory", "pids"]));
        // In a container's namespace only what is passed on already counts.
        assert_eq!(facts(V2, "0::/a\n", true, &[point, has, kind, passes]), v2(base, &["memory"]));
        // A read-only tree, as containers have.
        assert!(is_none(&facts(V2, "0::/\n", true, &[("/sys/fs/cgroup", false, ""), has]), "belongs"));
    }

    #[test]
    fn version_1_stays_below_the_own_cgroup() {
        let own = "5:cpu,cpuacct:/\n4:memory:/box/deep\n0::/\n";
        let cpu = ("/cg/cpu", true, "");
        let memory = ("/cg/my mem/deep", true, "");
        let expected = |bases: &[(&str, &str)]| CgroupFacts::V1 {
            bases: bases.iter().map(|&(name, path)| (name.to_owned(), path.into())).collect(),
        };
        assert_eq!(
            facts(HYBRID, own, true, &[cpu, memory]),
            expected(&[("memory", "/cg/my mem/deep/tripmine"), ("cpu", "/cg/cpu/tripmine")])
        );
        assert_eq!(facts(HYBRID, own, false, &[cpu]), expected(&[("cpu", "/cg/cpu/tripmine")]));
        assert!(is_none(&facts(HYBRID, own, false, &[]), "version 1"));
        assert!(is_none(&facts(HYBRID, "4:memory:/elsewhere\n", true, &[memory]), "version 1"));
    }
}
