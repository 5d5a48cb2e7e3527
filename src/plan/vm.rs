//! The virtual machine of a microvm jail: what it is made of, what this host lacks for it and the fix, and the command
//! lines of the shim inside the jail. Values only: whoever asks has looked everything up.

mod pause;
mod refusals;

pub use pause::{cannot_pause, too_old};
pub use refusals::{few_ids, kvm as kvm_trouble};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::idmap;
use super::launch::{FileIdentity, LaunchPlan, MountKind, MountPlan, RootPlan};
use super::limits::OPEN_FILES as OPEN_FILES_INSIDE;
use crate::model::host::KvmFacts;
use crate::model::{ByteSize, Failure, RunAs, SeccompProfile, VmAccel};

/// Where the guest's root is in the jail.
pub const GUEST: &str = "/guest";
/// The folder of the machine's own files in the jail.
pub const FOLDER: &str = "/run/tripmine/vm";
/// The name of a saved state in [`FOLDER`].
pub const SAVED: &str = "saved";
/// The socket in the jail that leads to unix sockets of the guest: a path and a NUL are said to it, and one byte is heard
/// when the connection stands.
pub const DOOR: &str = "/run/tripmine/vm/door.sock";
/// The word that makes this program the shim.
pub const SHIM_WORD: &str = "__vm";
/// What whoever asked for [`ShimTask::Freeze`] reads when it is done.
pub const FROZEN: &[u8] = b"frozen\n";
/// By this signal the shim ends itself when the machine has failed: a number that no program of a guest is ended by,
/// because C libraries keep it for nobody (signal(7), `SIGRTMAX`).
pub const FAILED_SIGNAL: i32 = 64;
/// By this one when a saved machine could not be brought back: what was saved is as good as before.
pub const NOT_RESTORED_SIGNAL: i32 = 63;
/// What ends the state that [`ShimTask::Save`] writes: without it the state is not whole.
pub const WHOLE: &[u8] = b"\ntripmine: whole\n";
/// The guest's memory when nobody says a size.
pub const DEFAULT_MEMORY: ByteSize = ByteSize::bytes(1 << 30);
/// Less than this does not start.
pub const LEAST_MEMORY: ByteSize = ByteSize::bytes(96 << 20);
/// What the jail around the guest may take beyond its memory: the VMM, the share daemon, the shim. More than they use,
/// because a limit that is met ends the cube.
pub const ALLOWANCE: ByteSize = ByteSize::bytes(256 << 20);
/// Processes and threads that the jail around the guest may have beyond the guest's number: the VMM's, the share daemon's,
/// and a shim for each command that is run in it.
pub const ALLOWED_PIDS: u32 = 512;
/// Open files of the share daemon: one for each file that the guest's kernel remembers.
pub const OPEN_FILES: u64 = 1 << 20;
/// The most processors of a guest.
const MOST_CPUS: u32 = 32;

/// The VMM as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmmFacts {
    /// The program, as the jail sees it.
    pub program: String,
    /// Its version.
    pub version: (u32, u32, u32),
    /// It has the machine type `microvm`.
    pub microvm: bool,
    /// The firmware that starts an uncompressed kernel on `microvm`, as the jail sees it.
    pub qboot: Option<String>,
}

/// Which share daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareKind {
    /// The one written in Rust: translates ids.
    Rust,
    /// QEMU's old one, written in C: wants capabilities and translates nothing.
    C,
}

/// The share daemon as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareFacts {
    /// The program, as the jail sees it.
    pub program: String,
    /// Which one.
    pub kind: ShareKind,
    /// Its version.
    pub version: (u32, u32, u32),
}

/// The guest's kernel, made ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFacts {
    /// Its release.
    pub release: String,
    /// Where it came from.
    pub source: PathBuf,
    /// The uncompressed kernel in the cache.
    pub image: FileFacts,
    /// The archive of the first programs in the cache.
    pub initramfs: FileFacts,
    /// The same with the modules of a captured network.
    pub initramfs_net: FileFacts,
    /// Devices hang on the PCI bus: the kernel cannot find those of the plain one.
    pub pci: bool,
}

/// A file of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Canonical.
    pub path: PathBuf,
    /// Device and inode.
    pub identity: FileIdentity,
}

/// Everything about a host that a microvm depends on.
#[derive(Debug, Clone)]
pub struct VmFacts {
    /// The processor's architecture is one that is built for.
    pub architecture: bool,
    /// `/dev/kvm`.
    pub kvm: KvmFacts,
    /// A whole system with the programs, used instead of the host's.
    pub engine: Option<PathBuf>,
    /// The VMM; or why there is none, as a whole refusal.
    pub vmm: Result<VmmFacts, Failure>,
    /// The share daemon; or why there is none.
    pub share: Result<ShareFacts, Failure>,
    /// The kernel; or why there is none.
    pub kernel: Result<KernelFacts, Failure>,
    /// This very program.
    pub program: FileFacts,
    /// What its agent says and hears, as a version.
    pub agent: u16,
    /// Processors of the host.
    pub cpus: u32,
    /// The hard limit of open files.
    pub open_files: u64,
}

/// The machine as the shim is told: everything that starting it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Who executes the guest.
    pub accel: VmAccel,
    /// The VMM.
    pub vmm: VmmFacts,
    /// The share daemon.
    pub share: ShareFacts,
    /// Every id of the guest is this one on the share: the jail has no other.
    pub squash: Option<(u32, u32)>,
    /// Folders are the host's root's, through an id map: the guest's capabilities of files would be written there as the
    /// host's own.
    #[serde(default)]
    pub no_file_capabilities: bool,
    /// Devices hang on the PCI bus.
    pub pci: bool,
    /// The guest's memory.
    pub memory: ByteSize,
    /// Its processors.
    pub cpus: u32,
    /// The kernel's release, for messages.
    pub release: String,
    /// Connections of the guest are taken up and made anew in the cube's network.
    pub capture: bool,
    /// The guest's host name.
    pub hostname: String,
    /// What the agent in it says and hears.
    #[serde(default)]
    pub agent: u16,
    /// How many processes the guest may have.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Open files of each of them.
    #[serde(default)]
    pub open_files: u64,
}

/// The machine of a cube.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmPlan {
    /// What the shim is told.
    pub spec: VmSpec,
    /// The root that the VMM runs in. The plan's own root is the guest's, at [`GUEST`] of this one.
    pub jail_root: RootPlan,
    /// Read-only files of this one's, at their places in it.
    pub files: Vec<MountPlan>,
    /// It goes on where it was saved: the state is [`SAVED`].
    #[serde(default)]
    pub restore: bool,
}

/// What the guest's process is, beside its words and its variables, which are the shim's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestProcess {
    /// The folder that it starts in.
    pub cwd: String,
    /// Its user in the guest.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// It keeps what its user may do: only `--user root`.
    pub capable: bool,
}

/// What the shim does, as the keeper tells it in one word of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "task")]
pub enum ShimTask {
    /// Starts the machine, and the entry in it; ends with the entry.
    Run {
        /// The machine.
        spec: Box<VmSpec>,
        /// The entry.
        process: GuestProcess,
        /// The machine is a saved one, and the entry runs in it already.
        restore: bool,
    },
    /// Another process in the machine that runs.
    Exec {
        /// It.
        process: GuestProcess,
    },
    /// Holds the guest's files still: says so, and lets go when its standard input ends.
    Freeze,
    /// Writes memory and devices to its standard output, and holds the machine still; lets it go on when its standard input
    /// ends.
    Save,
}

/// What [`plan`] needs of a launch.
#[derive(Debug)]
pub struct VmInput<'a> {
    /// What the host has.
    pub facts: &'a VmFacts,
    /// The accelerator that was named.
    pub accel: Option<VmAccel>,
    /// The seccomp profile that was asked for.
    pub seccomp: SeccompProfile,
    /// The memory limit.
    pub memory: Option<ByteSize>,
    /// The processor limit, in thousandths.
    pub cpus_milli: Option<u32>,
    /// The process limit.
    pub pids: Option<u32>,
    /// The jail has one id.
    pub one_id: Option<(u32, u32)>,
    /// The jail's ids are nobody's on this host: its root launches.
    pub strange_ids: bool,
    /// The net is captured.
    pub capture: bool,
    /// The host name.
    pub hostname: String,
    /// The root of the image `host`: read-only layers and system folders.
    pub host_root: RootPlan,
}

/// Puts the machine together.
///
/// # Errors
/// What this host lacks, with the fix.
pub fn plan(input: VmInput<'_>) -> Result<VmPlan, Failure> {
    let VmInput {
        facts,
        accel,
        seccomp,
        memory,
        cpus_milli,
        pids,
        one_id,
        strange_ids,
        capture,
        hostname,
        host_root,
    } = input;
    refusals::host(facts, accel, strange_ids)?;
    refusals::profile(seccomp)?;
    let accel = accel.unwrap_or(VmAccel::Kvm);
    let (vmm, share, kernel) = (facts.vmm.clone()?, facts.share.clone()?, facts.kernel.clone()?);
    let memory = memory.unwrap_or(DEFAULT_MEMORY);
    refusals::memory(memory)?;
    let cpus = match (cpus_milli, accel) {
        (Some(milli), _) => milli.div_ceil(1000),
        // More processors cost an emulated guest a longer start, and give it little.
        (None, VmAccel::Tcg) => 1,
        (None, VmAccel::Kvm) => facts.cpus.min(4),
    };
    let squash = one_id.filter(|_| share.kind == ShareKind::Rust);
    let mut files = vec![
        file("shim", &facts.program),
        file("vmlinux", &kernel.image),
        file("initramfs", if capture { &kernel.initramfs_net } else { &kernel.initramfs }),
    ];
    if accel == VmAccel::Kvm {
        files.push(MountPlan {
            target: "/dev/kvm".to_owned(),
            read_only: false,
            ..file("", &FileFacts { path: "/dev/kvm".into(), identity: kvm_identity(&facts.kvm) })
        });
    }
    let jail_root = match &facts.engine {
        None => host_root,
        Some(engine) => RootPlan {
            lowers: std::iter::once(engine.clone()).chain(host_root.lowers).collect(),
            system: Vec::new(),
            ..host_root
        },
    };
    let spec = VmSpec {
        accel,
        pci: kernel.pci || !vmm.microvm,
        vmm,
        share,
        squash,
        no_file_capabilities: strange_ids,
        memory,
        cpus: cpus.clamp(1, MOST_CPUS),
        release: kernel.release,
        capture,
        hostname,
        agent: facts.agent,
        pids,
        // Of a kernel of its own: this host's hard limit is none of it.
        open_files: OPEN_FILES_INSIDE,
    };
    Ok(VmPlan { spec, jail_root, files, restore: false })
}

/// What names the device that was tried. Zeros match no file: a machine without a device that works is refused before.
fn kvm_identity(kvm: &KvmFacts) -> FileIdentity {
    match kvm {
        KvmFacts::Works { dev, ino, .. } => FileIdentity { dev: *dev, ino: *ino },
        _ => FileIdentity { dev: 0, ino: 0 },
    }
}

fn file(name: &str, found: &FileFacts) -> MountPlan {
    MountPlan {
        kind: MountKind::Vm,
        source: found.path.clone(),
        identity: found.identity,
        directory: false,
        target: format!("{FOLDER}/{name}"),
        read_only: true,
        review: None,
    }
}

impl VmSpec {
    /// The capabilities that the jail's first process and the share daemon have, in the jail's own user namespace: none
    /// where one id is all there is. The shim gives them up once the daemon runs, and the VMM never has one.
    #[must_use]
    pub fn capabilities(&self) -> Vec<String> {
        if self.squash.is_some() {
            return Vec::new();
        }
        let files = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP", "SETGID", "SETUID"];
        // Both take what they do not need out of their bounding set; the old one shuts itself into its folder.
        let own: &[&str] =
            if self.share.kind == ShareKind::C { &["SYS_CHROOT", "SETPCAP"] } else { &["SETPCAP"] };
        let all = files.iter().chain(own).map(|name| format!("CAP_{name}"));
        all.filter(|name| !self.no_file_capabilities || name != idmap::FILE_CAPABILITIES).collect()
    }

    /// A few words for lists: `qemu 7.2.22 tcg`.
    #[must_use]
    pub fn words(&self) -> String {
        let (major, minor, patch) = self.vmm.version;
        format!("qemu {major}.{minor}.{patch}, {}", accel_words(self.accel))
    }
}

/// How an accelerator is shown, wherever a cube is: emulation never looks like the real thing.
#[must_use]
pub const fn accel_words(accel: VmAccel) -> &'static str {
    match accel {
        VmAccel::Kvm => "kvm",
        VmAccel::Tcg => "tcg: EMULATED, SLOW",
    }
}

/// The words of the process that stands in for `argv` in the jail.
#[must_use]
pub fn shim_words(task: &ShimTask, argv: &[String]) -> Vec<String> {
    let task = serde_json::to_string(task).unwrap_or_default();
    let head = [format!("{FOLDER}/shim"), SHIM_WORD.to_owned(), task, "--".to_owned()];
    head.into_iter().chain(argv.iter().cloned()).collect()
}

/// The process of the guest that `plan` runs in `cwd`.
#[must_use]
pub fn guest_process(plan: &LaunchPlan, cwd: &str) -> GuestProcess {
    GuestProcess {
        cwd: cwd.to_owned(),
        uid: plan.user.uid,
        gid: plan.user.gid,
        capable: plan.user.run_as == RunAs::Root,
    }
}

/// What the jail's init starts for the entry: words and folder.
#[must_use]
pub fn entry_words(plan: &LaunchPlan) -> (Vec<String>, String) {
    let process = guest_process(plan, &plan.entry.cwd);
    match &plan.vm {
        None => (plan.entry.argv.clone(), plan.entry.cwd.clone()),
        Some(vm) => {
            let task = ShimTask::Run { spec: Box::new(vm.spec.clone()), process, restore: vm.restore };
            (shim_words(&task, &plan.entry.argv), "/".to_owned())
        }
    }
}

/// What it starts for another process in the cube.
#[must_use]
pub fn exec_words(plan: &LaunchPlan, argv: &[String], cwd: &str) -> (Vec<String>, String) {
    if plan.vm.is_none() {
        return (argv.to_vec(), cwd.to_owned());
    }
    let task = ShimTask::Exec { process: guest_process(plan, cwd) };
    (shim_words(&task, argv), "/".to_owned())
}

#[cfg(test)]
mod tests;
