//! Pausing: which machines can be saved with their memory, and which one can go on from what was saved.

use super::{FileFacts, SAVED, ShareFacts, ShareKind, VmPlan, VmSpec, VmmFacts, file};
use crate::model::{Failure, FailureKind, Keep};
use crate::plan::LaunchPlan;

/// From this version on QEMU saves a machine whose files are shared.
const VMM: (u32, u32, u32) = (8, 2, 0);
/// From this one on the share daemon written in Rust hands over what it knows of the guest's files.
const SHARE: (u32, u32, u32) = (1, 13, 0);

/// Why a cube cannot be paused, with the way to one that can; `None` when it can.
#[must_use]
pub fn cannot_pause(plan: &LaunchPlan) -> Option<(String, &'static str)> {
    let Some(machine) = &plan.vm else {
        return Some((
            "it has no memory of its own to save: only a microvm has".to_owned(),
            "launch it with `--jail microvm`; `tripmine image snapshot NAME CUBE --continuation` keeps the files of any cube",
        ));
    };
    if let Some(refused) = too_old(&machine.spec.vmm, &machine.spec.share) {
        return Some(refused);
    }
    if plan.keep != Keep::Durable {
        return Some((
            "it is a throwaway: what it changed is dropped when it ends".to_owned(),
            "launch it with `--keep NAME`",
        ));
    }
    if plan.ephemeral {
        return Some((
            "what it changes in its home is dropped when it ends (`--ephemeral`), and its memory would miss it".to_owned(),
            "launch it without `--ephemeral`",
        ));
    }
    None
}

/// Which of the two programs cannot save a machine, with the way to one that can.
#[must_use]
pub fn too_old(vmm: &VmmFacts, share: &ShareFacts) -> Option<(String, &'static str)> {
    let words = |(major, minor, patch): (u32, u32, u32)| format!("{major}.{minor}.{patch}");
    let fix = "Debian 13, Ubuntu 24.04 and Fedora have both; an unpacked system with both is named by \
               `tripmine vm setup --engine DIR`";
    if vmm.version < VMM {
        return Some((
            format!(
                "QEMU {} does not save a machine whose files are shared: it takes QEMU 8.2 or newer, and virtiofsd 1.13",
                words(vmm.version)
            ),
            fix,
        ));
    }
    if share.kind == ShareKind::C || share.version < SHARE {
        return Some((
            format!(
                "virtiofsd {} does not hand over what it knows of the guest's files: it takes the virtiofsd written in \
                 Rust, 1.13 or newer",
                words(share.version)
            ),
            fix,
        ));
    }
    None
}

impl VmSpec {
    /// What differs from the machine that was saved.
    fn differs(&self, was: &Self) -> Vec<&'static str> {
        [
            ("the accelerator", self.accel != was.accel),
            ("QEMU", self.vmm != was.vmm),
            ("virtiofsd", self.share != was.share),
            ("the bus", self.pci != was.pci),
            ("the memory", self.memory != was.memory),
            ("the processors", self.cpus != was.cpus),
            ("the guest's kernel", self.release != was.release),
            ("the user ids", self.squash != was.squash),
            ("whether it has a net", self.capture != was.capture),
            ("tripmine, whose agent runs in it,", self.agent != was.agent),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

impl VmPlan {
    /// Lets the machine go on from `saved`, which was `was`.
    ///
    /// # Errors
    /// It was another machine, with what differs.
    pub fn restore(&mut self, saved: &FileFacts, was: &VmSpec) -> Result<(), Failure> {
        let differs = self.spec.differs(was);
        if !differs.is_empty() {
            let message =
                format!("the paused machine cannot go on here: {} changed since", differs.join(", "));
            return Err(Failure::new(FailureKind::Unsupported, message).hint("put that back as it was"));
        }
        self.files.push(file(SAVED, saved));
        self.restore = true;
        Ok(())
    }
}
