//! Layers in force: read back from the kernel before the entry starts.

use std::io;

use crate::host::proc;
use crate::jail::taken_out::blind;
use crate::model::sanitize::printable;
use crate::model::{Enforcement, Layer, LayerStatus};
use crate::plan::LaunchPlan;
use crate::plan::launch::IdMap;

/// Layers that are in force from the child's first moment: its namespaces. Read while it builds the rest.
#[must_use]
pub fn early(plan: &LaunchPlan, pid: i32) -> Vec<LayerStatus> {
    let own = |layer, kind| LayerStatus { layer, enforcement: own_namespace(pid, kind) };
    plan.layers
        .iter()
        .filter_map(|layer| match layer {
            Layer::NetNs => Some(own(*layer, "net")),
            Layer::IpcNs => Some(own(*layer, "ipc")),
            Layer::UtsNs => Some(own(*layer, "uts")),
            Layer::TimeNs => Some(own(*layer, "time")),
            Layer::PidNs => Some(own(*layer, "pid_for_children")),
            _ => None,
        })
        .collect()
}

/// Layers that stand once the child has said that it has mounted, and that nobody may read of a sealed process.
#[must_use]
pub fn standing(plan: &LaunchPlan, pid: i32) -> Vec<LayerStatus> {
    let enforcement = |layer| {
        Some(match layer {
            Layer::UserNs => user_namespace(plan, pid),
            Layer::MountNs => own_namespace(pid, "mnt").and_own_mounts(plan, pid),
            Layer::CgroupNs => own_namespace(pid, "cgroup"),
            Layer::Cgroup => cgroup(plan, pid),
            _ => return None,
        })
    };
    let status = |layer| Some(LayerStatus { layer, enforcement: enforcement(layer)? });
    plan.layers.iter().copied().filter_map(status).collect()
}

/// Asks the kernel about process `pid`, which is confined and sealed, for every other layer of the plan. `filters` is how
/// many seccomp programs were to be installed, `known` what [`early`] and [`standing`] read. A process cannot leave those
/// again without a capability over the host's.
///
/// # Errors
/// When the process is gone.
pub fn read(
    plan: &LaunchPlan,
    pid: i32,
    filters: usize,
    known: &[LayerStatus],
) -> io::Result<Vec<LayerStatus>> {
    let (status, sealed) = proc::status_and_seal(pid)?;
    let mut layers = Vec::with_capacity(plan.layers.len());
    for layer in &plan.layers {
        let known = known.iter().find(|status| status.layer == *layer).map(|known| known.enforcement.clone());
        let enforcement = match (layer, known) {
            (Layer::PidNs, Some(known)) => known.and_first(&status),
            (_, Some(known)) => known,
            (layer, None) => late(plan, *layer, filters, &status, sealed),
        };
        layers.push(LayerStatus { layer: *layer, enforcement });
    }
    Ok(layers)
}

fn late(plan: &LaunchPlan, layer: Layer, filters: usize, status: &proc::Status, sealed: bool) -> Enforcement {
    match layer {
        Layer::Capabilities => capabilities(plan, status),
        Layer::InitSealed if sealed => Enforcement::Full("before the entry".into()),
        Layer::InitSealed => Enforcement::None("PID 1 could be inspected from inside".into()),
        layer => of_status(plan, layer, filters, status),
    }
}

/// What a status file tells of a layer, whatever the kind of jail.
pub(super) fn of_status(
    plan: &LaunchPlan,
    layer: Layer,
    filters: usize,
    status: &proc::Status,
) -> Enforcement {
    match layer {
        Layer::NoNewPrivs if status.no_new_privs => Enforcement::Full("set".into()),
        Layer::NoNewPrivs => Enforcement::None("the kernel says it is not set".into()),
        // Landlock is in no file of /proc: the child has tried a forbidden folder and would not
        // have said "confined" had it opened.
        Layer::Landlock => Enforcement::Full(format!("ABI {}, tried", plan.landlock.abi)),
        Layer::Seccomp
            if status.seccomp == 2 && status.seccomp_filters as usize >= filters && filters > 0 =>
        {
            Enforcement::Full(format!("{} profile", plan.seccomp))
        }
        Layer::Seccomp => Enforcement::None(format!(
            "mode {} with {} filters, expected {filters}",
            status.seccomp, status.seccomp_filters
        )),
        // Nothing but the shim is ever started in such a jail, its files are among the mounts that were read, and it starts
        // nothing but the machine.
        Layer::Microvm => match &plan.vm {
            Some(vm) => Enforcement::Full(vm.spec.words()),
            None => Enforcement::None("no machine is planned".into()),
        },
        _ => Enforcement::None("it was not read".into()),
    }
}

/// The first layer that is not fully in force.
#[must_use]
pub fn missing(layers: &[LayerStatus]) -> Option<&LayerStatus> {
    layers.iter().find(|status| !status.enforcement.is_full() && !blind(status.layer.word()))
}

fn own_namespace(pid: i32, kind: &str) -> Enforcement {
    match (proc::namespace(&pid.to_string(), kind), proc::namespace("self", kind)) {
        (Ok(its), Ok(ours)) if its != ours => Enforcement::Full("own".into()),
        (Ok(_), Ok(_)) => Enforcement::None(format!("it shares the host's {kind} namespace")),
        (Err(error), _) | (_, Err(error)) => Enforcement::None(format!("cannot be read: {error}")),
    }
}

trait Further {
    fn and_first(self, status: &proc::Status) -> Enforcement;
    fn and_own_mounts(self, plan: &LaunchPlan, pid: i32) -> Enforcement;
}

impl Further for Enforcement {
    /// The host's root must be out of the namespace: every mount hangs, directly or not, from one
    /// overlay at `/`. And each must have the attributes that the plan gives it.
    fn and_own_mounts(self, plan: &LaunchPlan, pid: i32) -> Enforcement {
        if !self.is_full() {
            return self;
        }
        match proc::read_text(format!("/proc/{pid}/mountinfo")) {
            Ok(text) if !one_root(&text) => {
                Enforcement::None("mounts of the host are still in its mount namespace".into())
            }
            Ok(text) => weak_mount(&text, &read_only(plan)).map_or(self, Enforcement::None),
            Err(error) => Enforcement::None(format!("its mounts cannot be read: {error}")),
        }
    }

    /// It must also be the first process of that namespace: the last number of `NSpid` is 1.
    fn and_first(self, status: &proc::Status) -> Enforcement {
        match status.inner_pid {
            _ if !self.is_full() => self,
            Some(1) => self,
            _ => Enforcement::None("its first process is not PID 1".into()),
        }
    }
}

/// True when a mountinfo (proc_pid_mountinfo(5)) has one overlay at `/` that every other mount has as an ancestor.
fn one_root(mountinfo: &str) -> bool {
    // Fields 1, 2, 5 are the mount's id, its parent's id and the mount point; the type follows ` - `.
    let mounts: Vec<(&str, &str, &str, &str)> = mountinfo
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (id, parent) = (fields.next()?, fields.next()?);
            let point = fields.nth(2)?;
            let kind = line.split_once(" - ")?.1.split(' ').next()?;
            Some((id, parent, point, kind))
        })
        .collect();
    let mut roots = mounts.iter().filter(|mount| mount.2 == "/");
    let (Some(root), None) = (roots.next(), roots.next()) else { return false };
    root.3 == "overlay"
        && mounts.iter().all(|mount| mount.0 == root.0 || mounts.iter().any(|other| other.0 == mount.1))
        && mounts.len() == mountinfo.lines().count()
}

/// Where nothing may be written.
fn read_only(plan: &LaunchPlan) -> Vec<String> {
    let system = plan.root.system.iter().filter(|tree| !tree.writable).filter_map(|tree| tree.path.to_str());
    let binds = plan.mounts.iter().filter(|mount| mount.read_only).map(|mount| mount.target.as_str());
    let below = if plan.vm.is_some() { crate::plan::vm::GUEST } else { "" };
    let inside = system.chain(binds).map(|path| format!("{below}{path}"));
    let around = plan.vm.iter().flat_map(|vm| {
        let system = vm.jail_root.system.iter().filter_map(|tree| tree.path.to_str());
        system.chain(vm.files.iter().filter(|file| file.read_only).map(|file| file.target.as_str()))
    });
    let around = around.chain(["/proc/sys"]).map(str::to_owned);
    // Spaces and the like are escaped in mountinfo; such a path is left to the kernel's word at mounting.
    inside.chain(around).filter(|path| !path.contains([' ', '\t', '\n', '\\'])).collect()
}

/// The first mount that is not `nosuid`, not `nodev` outside /dev, or can be written although it is among `read_only`.
fn weak_mount(mountinfo: &str, read_only: &[String]) -> Option<String> {
    let mut seen = 0;
    for line in mountinfo.lines() {
        let mut fields = line.split(' ').skip(4);
        let (point, options) = (fields.next()?, fields.next()?);
        let has = |flag: &str| options.split(',').any(|option| option == flag);
        let device = point.starts_with("/dev/");
        let planned = read_only.iter().any(|path| path == point);
        seen += usize::from(planned);
        let lacks = [("nosuid", true), ("nodev", !device), ("ro", planned)];
        if let Some((flag, _)) = lacks.into_iter().find(|(flag, wanted)| *wanted && !has(flag)) {
            return Some(format!("`{}` is mounted without {flag}", printable(point)));
        }
    }
    (seen < read_only.len()).then(|| "a read-only mount is not there".to_owned())
}

fn user_namespace(plan: &LaunchPlan, pid: i32) -> Enforcement {
    let own = own_namespace(pid, "user");
    if !own.is_full() {
        return own;
    }
    for (kind, planned) in [("uid", &plan.user.uid_map), ("gid", &plan.user.gid_map)] {
        match proc::id_map(pid, kind) {
            Ok(map) if same_map(&map, planned) => {}
            Ok(_) => return Enforcement::None(format!("its {kind} map is not the planned one")),
            Err(error) => return Enforcement::None(format!("its {kind} map cannot be read: {error}")),
        }
    }
    let shown: Vec<_> =
        plan.user.uid_map.iter().map(|m| format!("{} → {} ({})", m.inside, m.outside, m.count)).collect();
    Enforcement::Full(format!("uid {}", shown.join(", ")))
}

fn same_map(map: &[(u32, u32, u32)], planned: &[IdMap]) -> bool {
    map.len() == planned.len()
        && map.iter().zip(planned).all(|(line, plan)| *line == (plan.inside, plan.outside, plan.count))
}

fn capabilities(plan: &LaunchPlan, status: &proc::Status) -> Enforcement {
    let allowed: u64 =
        plan.user.capabilities.iter().filter_map(|name| capability_number(name)).map(|n| 1 << n).sum();
    if (status.bounding | status.capabilities) & !allowed == 0 {
        Enforcement::Full(if allowed == 0 { "none".into() } else { format!("bounded to {allowed:x}") })
    } else {
        Enforcement::None(format!("bounding set {:x}, expected {allowed:x}", status.bounding))
    }
}

/// Numbers of linux/capability.h for those that a cube may have.
fn capability_number(name: &str) -> Option<u32> {
    Some(match name.strip_prefix("CAP_").unwrap_or(name) {
        "CHOWN" => 0,
        "DAC_OVERRIDE" => 1,
        "FOWNER" => 3,
        "FSETID" => 4,
        "KILL" => 5,
        "SETGID" => 6,
        "SETUID" => 7,
        "NET_BIND_SERVICE" => 10,
        "SETPCAP" => 8,
        "SYS_CHROOT" => 18,
        "SETFCAP" => 31,
        _ => return None,
    })
}

fn cgroup(plan: &LaunchPlan, pid: i32) -> Enforcement {
    let text = proc::read_text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let wanted = plan.limits.cgroup.as_ref().map_or(0, |cgroup| cgroup.folders().len());
    let inside = text.lines().filter(|line| line.ends_with(plan.id.as_str())).count();
    if wanted > 0 && inside >= wanted {
        Enforcement::Full(format!("{inside} of {wanted} folders"))
    } else {
        Enforcement::None(format!("in {inside} of {wanted} folders"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_without_its_attributes_is_seen() {
        let good = "30 1 0:1 / / rw,nosuid,nodev - overlay none rw\n31 30 0:2 / /usr ro,nosuid,nodev - ext4 d rw\n\
                    32 30 0:3 / /dev/null rw,nosuid - devtmpfs d rw\n";
        assert_eq!(weak_mount(good, &["/usr".to_owned()]), None);
        for (from, to, says) in [
            ("/usr ro", "/usr rw", "`/usr` is mounted without ro"),
            ("/usr ro,nosuid", "/usr ro", "`/usr` is mounted without nosuid"),
            ("/ rw,nosuid,nodev", "/ rw,nosuid", "`/` is mounted without nodev"),
            ("/dev/null rw,nosuid", "/dev/null rw", "`/dev/null` is mounted without nosuid"),
            ("/usr ro", "/opt ro", "a read-only mount is not there"),
        ] {
            assert_eq!(
                weak_mount(&good.replace(from, to), &["/usr".to_owned()]).as_deref(),
                Some(says),
                "{from}"
            );
        }
    }

    #[test]
    fn a_host_mount_left_behind_is_seen() {
        let good = "30 1 0:1 / / rw,nosuid - overlay none rw\n31 30 0:2 / /proc rw - proc none rw\n";
        assert!(one_root(good));
        for bad in [
            "30 1 0:1 / / rw - ext4 /dev/vda rw\n",
            "29 1 0:1 / / rw - ext4 /dev/vda rw\n30 29 0:1 / / rw - overlay none rw\n",
            "30 1 0:1 / / rw - overlay none rw\n40 39 0:3 / /sys rw - sysfs sysfs rw\n",
            "30 1 0:1 / / rw - overlay none rw\nnonsense\n",
            "",
        ] {
            assert!(!one_root(bad), "{bad}");
        }
    }
}
