//! The virtual machine of a plan, for a person.

use super::Page;
use crate::model::VmAccel;
use crate::model::sanitize::printable;
use crate::plan::vm::{GUEST, ShareKind, VmPlan};

pub(super) fn rows(machine: &VmPlan, page: &mut Page) {
    let spec = &machine.spec;
    let (major, minor, patch) = spec.vmm.version;
    let who = match spec.accel {
        VmAccel::Kvm => "the processor executes the guest (kvm)",
        VmAccel::Tcg => "EMULATED, SLOW: software executes the guest (tcg)",
    };
    page.row("machine of", format!("QEMU {major}.{minor}.{patch}, {}  {who}", printable(&spec.vmm.program)));
    page.row(
        "guest",
        format!("Linux {}, {} of memory, {} cpu", printable(&spec.release), spec.memory, spec.cpus),
    );
    let kind = match spec.share.kind {
        ShareKind::Rust => "virtiofsd",
        ShareKind::C => "virtiofsd of QEMU",
    };
    let (major, minor, patch) = spec.share.version;
    page.row("guest files", format!("from {GUEST} of the jail, by {kind} {major}.{minor}.{patch}"));
    page.row("around it", "a container jail with the image `host`; the layers here are the jail's");
}
