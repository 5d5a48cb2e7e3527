//! The last steps before anything untrusted: limits, capabilities, `no_new_privs`, Landlock, seccomp.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::prepare::Prepared;
use super::step::{At, Failed, Step};
use super::taken_out::{Part, blind, taken_out};
use crate::host::sys::install_filter;
use crate::plan::launch::{FileIdentity, LandlockAccess};

/// Applies all of it to the calling process. `canary` is a folder of the host that must be out of reach
/// afterwards.
pub(super) fn confine(
    prepared: &Prepared,
    filters: &[Vec<libc::sock_filter>],
    canary: OwnedFd,
) -> Result<(), Failed> {
    if !taken_out(Part::Rlimits) {
        limits(prepared).at(Step::Rlimit)?;
    }
    // What comes after it is permitted by `no_new_privs`, or by a capability.
    let keep_for_now = taken_out(Part::NoNewPrivs);
    if !keep_for_now {
        capabilities(prepared.capabilities, prepared.ambient).at(Step::Capabilities)?;
        rustix::thread::set_no_new_privs(true).at(Step::NoNewPrivs)?;
    }
    if !taken_out(Part::Landlock) {
        landlock(prepared, open_rules(prepared)?, None).at(Step::Landlock)?;
    }
    if !blind("landlock") {
        still_closed(canary.as_fd()).at(Step::Canary)?;
    }
    drop(canary);
    if !taken_out(Part::Seccomp) {
        for (index, filter) in filters.iter().enumerate() {
            install_filter(filter).at_index(Step::Seccomp, index)?;
        }
    }
    if keep_for_now {
        capabilities(prepared.capabilities, prepared.ambient).at(Step::Capabilities)?;
    }
    Ok(())
}

/// The same in the host's own root; the entry's `terminal` may be opened by its name.
pub(super) fn confine_in_place(
    prepared: &Prepared,
    filters: &[Vec<libc::sock_filter>],
    canary: OwnedFd,
    terminal: Option<BorrowedFd<'_>>,
) -> Result<(), Failed> {
    if !taken_out(Part::Rlimits) {
        limits(prepared).at(Step::Rlimit)?;
    }
    let keep_for_now = taken_out(Part::NoNewPrivs);
    if !keep_for_now {
        no_capabilities().at(Step::Capabilities)?;
        rustix::thread::set_no_new_privs(true).at(Step::NoNewPrivs)?;
    }
    if !taken_out(Part::Landlock) {
        landlock(prepared, open_rules(prepared)?, terminal).at(Step::Landlock)?;
    }
    if !blind("landlock") {
        still_closed(canary.as_fd()).at(Step::Canary)?;
    }
    drop(canary);
    if prepared.landlock.scope_signal && !blind("scopes") {
        unreachable_warden().at(Step::ScopeCanary)?;
    }
    if !taken_out(Part::Seccomp) {
        for (index, filter) in filters.iter().enumerate() {
            install_filter(filter).at_index(Step::Seccomp, index)?;
        }
    }
    if keep_for_now {
        no_capabilities().at(Step::Capabilities)?;
    }
    Ok(())
}

/// Drops every capability, and those that root could regain as far as that is permitted: without a user namespace an
/// ordinary user may not lower the bounding set, and `no_new_privs` keeps it from mattering.
pub(super) fn no_capabilities() -> Result<(), Errno> {
    if taken_out(Part::Capabilities) {
        return Ok(());
    }
    let held = rustix::thread::capabilities(None)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        return capabilities(CapabilitySet::empty(), false);
    }
    let none = CapabilitySet::empty();
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )
}

/// Scopes show themselves nowhere either: the parent, which is outside, must be out of reach.
fn unreachable_warden() -> Result<(), Errno> {
    let parent = rustix::process::getppid().ok_or(Errno::SRCH)?;
    match rustix::process::test_kill_process(parent) {
        Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
        Ok(()) => Err(Errno::ISCONN),
    }
}

fn limits(prepared: &Prepared) -> Result<(), Errno> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for (resource, value) in &prepared.rlimits {
        // A limit may be lowered, never raised above what the caller has.
        let ceiling = getrlimit(*resource).maximum.unwrap_or(u64::MAX);
        let value = Some((*value).min(ceiling));
        setrlimit(*resource, Rlimit { current: value, maximum: value })?;
    }
    for resource in [Resource::Sigpending, Resource::Msgqueue] {
        // Counted for the user, over all that is his: the other half stays for what he runs himself.
        let Some(all) = getrlimit(resource).maximum else { continue };
        let half = Some(all / 2);
        setrlimit(resource, Rlimit { current: half, maximum: half })?;
    }
    if prepared.nice {
        rustix::process::setpriority_process(None, 19)?;
    }
    Ok(())
}

/// Takes every capability that is not in `keep` out of the bounding set, for good, then drops it.
fn capabilities(keep: CapabilitySet, ambient: bool) -> Result<(), Errno> {
    if taken_out(Part::Capabilities) {
        return Ok(());
    }
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The first number that this kernel does not know ends the list (capabilities(7)).
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let inheritable = if ambient { keep } else { CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable })?;
    for number in (0..64).filter(|_| ambient) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(one) {
            rustix::thread::configure_capability_in_ambient_set(one, true)?;
        }
    }
    Ok(())
}

/// What the rules are for, open, with their rights. A planned folder is compared by what was opened, so that nothing can be
/// put in its place in between.
fn open_rules(prepared: &Prepared) -> Result<Vec<(OwnedFd, BitFlags<AccessFs>)>, Failed> {
    let abi = abi(prepared.landlock.abi);
    let mut opened = Vec::with_capacity(prepared.landlock_paths.len());
    for rule in &prepared.landlock_paths {
        let index = rule.planned.map_or(0, |(index, _)| index);
        let step = if rule.planned.is_some() { Step::Source } else { Step::Landlock };
        match openat(rustix::fs::CWD, rule.path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).at_index(step, index)?;
                let there = FileIdentity { dev: stat.st_dev, ino: stat.st_ino };
                if rule.planned.is_some_and(|(_, planned)| planned != there) && !taken_out(Part::Identity) {
                    return Err(Errno::STALE).at_index(Step::Identity, index);
                }
                let folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
                opened.push((fd, rights(rule.access, folder, abi)));
            }
            Err(_) if rule.optional => {}
            Err(errno) => return Err(errno).at_index(step, index),
        }
    }
    Ok(opened)
}

fn landlock(
    prepared: &Prepared,
    rules: Vec<(OwnedFd, BitFlags<AccessFs>)>,
    terminal: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let abi = abi(prepared.landlock.abi);
    // Hard requirement: a right or scope that the kernel lacks is an error, never less in silence.
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(code)?;
    if prepared.landlock.no_tcp && !taken_out(Part::LandlockTcp) {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(code)?;
    }
    let mut scopes = BitFlags::<Scope>::empty();
    if prepared.landlock.scope_abstract {
        scopes |= Scope::AbstractUnixSocket;
    }
    if prepared.landlock.scope_signal {
        scopes |= Scope::Signal;
    }
    if !scopes.is_empty() && !taken_out(Part::LandlockScopes) {
        ruleset = ruleset.scope(scopes).map_err(code)?;
    }
    let mut ruleset = ruleset.create().map_err(code)?.no_new_privs(!taken_out(Part::NoNewPrivs));
    for (fd, rights) in rules {
        ruleset = ruleset.add_rule(PathBeneath::new(fd, rights)).map_err(code)?;
    }
    if let Some(terminal) = terminal {
        let rights = rights(LandlockAccess::Devices, false, abi);
        ruleset = ruleset.add_rule(PathBeneath::new(terminal, rights)).map_err(code)?;
    }
    let status = ruleset.restrict_self().map_err(code)?;
    if status.ruleset == RulesetStatus::FullyEnforced { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

/// The system's error beneath one of the crate's; one without is a feature that the kernel lacks.
fn code(error: impl std::error::Error + 'static) -> Errno {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = next {
        if let Some(errno) = error.downcast_ref::<std::io::Error>().and_then(Errno::from_io_error) {
            return errno;
        }
        next = error.source();
    }
    Errno::OPNOTSUPP
}

/// The rights of one rule, among those that `abi` knows; a file has none of a folder's.
fn rights(access: LandlockAccess, folder: bool, abi: ABI) -> BitFlags<AccessFs> {
    let all = if folder { AccessFs::from_all(abi) } else { AccessFs::from_file(abi) };
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    all & match access {
        LandlockAccess::ReadExecute => AccessFs::from_read(abi),
        // Making a character device 0:0 is how overlayfs and package managers write a whiteout;
        // real device nodes need a capability that no cube has.
        LandlockAccess::ReadWrite => (all & !devices) | AccessFs::MakeChar,
        LandlockAccess::ReadWriteFiles => AccessFs::from_read(abi) | AccessFs::WriteFile | AccessFs::Truncate,
        LandlockAccess::Devices => (all & !AccessFs::MakeBlock) | AccessFs::IoctlDev,
    }
}

/// The crate's name for an ABI number; what it does not know is capped by the plan.
fn abi(number: u32) -> ABI {
    match number {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        _ => ABI::V7,
    }
}

/// Landlock shows itself nowhere in /proc, so it is asked: the host's root folder must be shut.
fn still_closed(canary: BorrowedFd<'_>) -> Result<(), Errno> {
    match openat(canary, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::ACCESS) => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::ISCONN),
    }
}
