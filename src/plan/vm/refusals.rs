//! What a host lacks for a microvm, each with the fix.

use super::{LEAST_MEMORY, ShareFacts, VmFacts};
use crate::model::host::KvmFacts;
use crate::model::{ByteSize, Failure, FailureKind, SeccompProfile, VmAccel};

fn unsupported(message: impl AsRef<str>) -> Failure {
    Failure::new(FailureKind::Unsupported, message)
}

/// The processor's part.
pub(super) fn host(facts: &VmFacts, accel: Option<VmAccel>, strange_ids: bool) -> Result<(), Failure> {
    if !facts.architecture {
        return Err(unsupported("microvm jails are built for x86-64 only").hint("use `--jail container`"));
    }
    if accel == Some(VmAccel::Tcg) {
        return Ok(());
    }
    if let (true, KvmFacts::Works { mode, .. }) = (strange_ids, &facts.kvm)
        && mode & 0o006 != 0o006
    {
        return Err(unsupported(format!(
            "no microvm can start: you are root, a cube of root's runs as nobody, and /dev/kvm is not open to everybody (mode {mode:04o})"
        ))
        .hint("launch it as an ordinary user of the group `kvm`")
        .hint("or open the device to everybody, as many distributions do: `chmod 0666 /dev/kvm`"));
    }
    match kvm(&facts.kvm) {
        None => Ok(()),
        Some((why, fixes)) => {
            let start = Failure::new(FailureKind::Unsupported, format!("no microvm can start: {why}"));
            let failure = fixes.into_iter().fold(start, Failure::hint);
            Err(failure
                .hint("`--vm-accel tcg` emulates the processor, many times slower; `--jail container` needs none of this"))
        }
    }
}

/// Why `/dev/kvm` is no use, and what to do; `None` when it is one.
#[must_use]
pub fn kvm(facts: &KvmFacts) -> Option<(String, Vec<String>)> {
    let said = |why: String, fixes: &[&str]| Some((why, fixes.iter().map(ToString::to_string).collect()));
    match facts {
        KvmFacts::Works { .. } => None,
        KvmFacts::Missing => said(
            "there is no /dev/kvm".to_owned(),
            &[
                "switch virtualisation (VT-x, AMD-V) on in the firmware, and load its module: `sudo modprobe kvm_intel` or `kvm_amd`",
                "inside a virtual machine or a container, whoever runs it must allow nested virtualisation",
            ],
        ),
        KvmFacts::Denied { owner, mode, user } => {
            let group = owner.split_once(':').map_or("kvm", |(_, group)| group);
            // Nobody should join root's group, and a mode without the group's rights helps nobody.
            let fix = if group == "root" || mode & 0o060 != 0o060 {
                format!(
                    "`sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm && sudo usermod -aG kvm {user}`, then log in again"
                )
            } else {
                format!("`sudo usermod -aG {group} {user}`, then log in again")
            };
            said(
                format!("/dev/kvm may not be opened by you (it belongs to {owner}, mode {mode:04o})"),
                &[&fix],
            )
        }
        KvmFacts::Busy { why } => said(
            format!("/dev/kvm makes no machine: {why}"),
            &["another hypervisor (VirtualBox, VMware) may hold the processor: end it"],
        ),
        KvmFacts::Interprets { ms } => said(
            format!(
                "/dev/kvm answers, but interprets what a guest executes ({ms} ms for 100000 rounds of a loop): kvm_pvm, or \
                 virtualisation that is nested and broken"
            ),
            &["use a host whose processor executes guests itself"],
        ),
        KvmFacts::Untested { why } => said(format!("/dev/kvm could not be tried: {why}"), &[]),
    }
}

/// A profile that a guest's kernel would have to enforce.
pub(super) fn profile(seccomp: SeccompProfile) -> Result<(), Failure> {
    match seccomp {
        SeccompProfile::Default => Ok(()),
        other => Err(unsupported(format!(
            "`--seccomp {other}` filters the calls that programs make to this host's kernel, and in a microvm they make none: \
             they have a kernel of their own"
        ))
        .hint("leave `--seccomp` out: the VMM itself runs under a profile of its own")),
    }
}

/// The share daemon takes the ids of the guest, and there is one.
#[must_use]
pub fn few_ids(share: &ShareFacts, why: &str) -> Failure {
    unsupported(format!(
        "no microvm can start: `{}`, the virtiofsd of QEMU {}, needs more user ids than your own, and {why}",
        share.program, share.version.0
    ))
    .hint("install the virtiofsd written in Rust, which needs one id only: the package `virtiofsd` (Debian 13, Ubuntu 24.04, Fedora)")
    .hint("or get a range: `sudo apt install uidmap`, `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`")
}

/// Too little to boot in.
pub(super) fn memory(memory: ByteSize) -> Result<(), Failure> {
    if memory < LEAST_MEMORY {
        return Err(Failure::usage(format!(
            "`--memory {memory}` is too little for a microvm: its kernel needs {LEAST_MEMORY} at least"
        ))
        .hint("give it 256M or more, or use `--jail container`"));
    }
    Ok(())
}
