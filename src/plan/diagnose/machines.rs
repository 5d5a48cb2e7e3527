//! Findings about what a microvm is made of, beside the processor: programs and a kernel.

use super::{Finding, Matters, Verdict};
use crate::model::Failure;
use crate::plan::vm::{OPEN_FILES, VmFacts};

/// One finding for each part.
#[must_use]
pub fn microvm(facts: &VmFacts) -> Vec<Finding> {
    let finding = |id, title, part: Result<String, &Failure>| {
        let (verdict, found, fix) = match part {
            Ok(found) => (Verdict::Pass, found, Vec::new()),
            Err(failure) => (Verdict::Fail, failure.message.clone(), failure.hints.clone()),
        };
        let what_it_costs = "the jail `microvm` does not start";
        Finding { id, title, verdict, matters: Matters::Useful, found, what_it_costs, fix }
    };
    let version = |(major, minor, patch): (u32, u32, u32)| format!("{major}.{minor}.{patch}");
    let vmm = facts.vmm.as_ref().map(|vmm| format!("QEMU {}", version(vmm.version)));
    let share = facts.share.as_ref().map(|share| format!("virtiofsd {}", version(share.version)));
    let kernel = facts.kernel.as_ref().map(|kernel| format!("Linux {}", kernel.release));
    let few = facts.open_files < FEW_FILES;
    vec![
        finding("vmm", "virtual machines (QEMU)", vmm),
        finding("share-daemon", "virtual machines (virtiofsd)", share),
        finding("guest-kernel", "virtual machines (kernel)", kernel),
        Finding {
            id: "open-files",
            title: "open files",
            verdict: if few { Verdict::Fail } else { Verdict::Pass },
            matters: Matters::Useful,
            found: format!("at most {} for each process", facts.open_files),
            what_it_costs: "large trees in a microvm fail with `too many open files`",
            fix: if few {
                vec![format!(
                    "raise it: `nofile` in /etc/security/limits.conf, or `LimitNOFILE={OPEN_FILES}` of the service"
                )]
            } else {
                Vec::new()
            },
        },
    ]
}

/// Every file that a guest remembers is open in the share daemon.
const FEW_FILES: u64 = 65_536;
