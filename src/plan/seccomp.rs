//! The system calls that a cube may make: the rules, as data. [`compile`] turns them into a filter
//! for the kernel; nothing here installs one.
//!
//! Shape: allowed by default with explicit answers, because arbitrary development tools run inside;
//! two things offset the risk. Numbers above the highest one that was reviewed answer ENOSYS, so
//! that what later kernels add starts denied. And the `strict` profile is the other way round: only
//! what is listed passes, anything else answers ENOSYS.
//!
//! Answers: EPERM for what is off on purpose, ENOSYS where a library falls back when a call does
//! not exist (`clone3`, whose flags lie behind a pointer that a filter cannot read, and `io_uring`,
//! which would do file and socket work past the filter). Arguments are compared on their low 32
//! bits, as the kernel itself reads them in these calls: garbage in the high half hides nothing.

pub mod compile;
pub mod in_place;
mod numbers;
#[cfg(test)]
mod tests;

pub use compile::{CompileError, SockFilter, compile};
pub use numbers::{Arch, name, number};

use crate::model::{RunAs, SeccompProfile};
use numbers::Class;

/// `EPERM`, the same number on every architecture here, as the ones below.
pub const EPERM: u16 = 1;
/// `ENOSYS`.
pub const ENOSYS: u16 = 38;
/// `EPROTONOSUPPORT`.
pub const EPROTONOSUPPORT: u16 = 93;
/// `ESOCKTNOSUPPORT`.
pub const ESOCKTNOSUPPORT: u16 = 94;
/// `EAFNOSUPPORT`.
pub const EAFNOSUPPORT: u16 = 97;

/// Bit that marks an x32 call on `x86_64`.
pub const X32_BIT: u32 = 0x4000_0000;

/// What a call is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does it.
    Allow,
    /// It fails with this error number.
    Errno(u16),
    /// The process is ended with SIGSYS.
    Kill,
}

/// A test of one argument's low 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Equal to one of these.
    OneOf(&'static [u32]),
    /// Equal to none of these.
    NoneOf(&'static [u32]),
    /// Has one of these bits.
    AnyBit(u32),
}

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub arg: u8,
    /// Bits of the argument that are looked at.
    pub mask: u32,
    /// What they must be.
    pub test: Test,
}

/// An answer for some arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// All of these hold.
    pub all: Vec<Condition>,
    /// Then this.
    pub answer: Answer,
}

/// The rule of one call: the first case that holds answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRule {
    /// Its name, for people.
    pub name: &'static str,
    /// Its number on the rule set's architecture.
    pub number: u32,
    /// In order.
    pub cases: Vec<Case>,
    /// When no case holds.
    pub otherwise: Answer,
}

/// All rules for one architecture. Calls of any other architecture kill the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// Whose numbers these are.
    pub arch: Arch,
    /// Sorted by number, each number once.
    pub calls: Vec<CallRule>,
    /// For numbers without a rule, up to the ceiling.
    pub unlisted: Answer,
    /// The highest reviewed number; anything above answers ENOSYS.
    pub ceiling: u32,
}

/// Off on purpose, in every profile and for every user unless an exception below says otherwise.
const REFUSED: &[&str] = &[
    // Namespaces and mounts: where most kernel privilege escalations of the last years start.
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "open_tree_attr",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    // Other processes' memory and descriptors.
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "kcmp",
    "pidfd_getfd",
    "process_madvise",
    // Keyrings are not namespaced.
    "add_key",
    "request_key",
    "keyctl",
    // Large kernel surface that no ordinary tool needs.
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "fanotify_init",
    "vmsplice",
    "move_pages",
    "migrate_pages",
    "modify_ldt",
    "lookup_dcookie",
    "uselib",
    // Files by handle walk out of any mount namespace.
    "open_by_handle_at",
    // The host's own affairs.
    "quotactl",
    "quotactl_fd",
    "syslog",
    "acct",
    "swapon",
    "swapoff",
    "reboot",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "query_module",
    "get_kernel_syms",
    "iopl",
    "ioperm",
    "clock_settime",
    "settimeofday",
    "clock_adjtime",
    "adjtimex",
    "vhangup",
    "sethostname",
    "setdomainname",
];

/// Answered as if the kernel did not have them.
const ABSENT: &[&str] = &["clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"];

/// What a debugger needs.
const DEBUGGER: &[&str] = &["ptrace", "process_vm_readv", "process_vm_writev"];

/// `CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}`. `CLONE_NEWTIME` cannot be given to clone: its bit
/// lies in the exit signal.
const NAMESPACE_BITS: u32 = 0x7e02_0000;

/// `TIOCSTI` and `TIOCLINUX` type into the terminal, `TIOCSETD` loads line disciplines, `TIOCCONS`
/// redirects the console.
const TERMINAL_IOCTLS: &[u32] = &[0x5412, 0x541c, 0x5423, 0x541d];

/// `F_SETLEASE`: whoever opens a leased file waits until it is given back, 45 seconds when it is not. In a project that is the
/// user, and in a cube its init, which executes what it is told to.
const LEASES: &[u32] = &[1024];

/// `PER_LINUX`, `PER_LINUX32`, `UNAME26` alone and with `PER_LINUX32`, and the query.
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// The same and `ADDR_NO_RANDOMIZE`, which debuggers set.
const DEBUG_PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0x4_0000, 0xffff_ffff];

const AF_UNIX: &[u32] = &[1];
const AF_NETLINK: &[u32] = &[16];
const AF_ROUTED: &[u32] = &[1, 2, 10];
const NETLINK_ROUTE: &[u32] = &[0];
/// The type proper; the bits above are `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
const SOCK_TYPE: u32 = 0xf;
const SOCK_RAW_OR_PACKET: &[u32] = &[3, 10];
const SOCK_STREAM_OR_DGRAM: &[u32] = &[1, 2];
/// The default of the type, ICMP echo, TCP, UDP, `ICMPv6` echo. Not here: MPTCP (262) and SMC (256),
/// which reach plain TCP listeners past a TCP rule; SCTP, DCCP, L2TP, UDP-Lite, which load modules.
const INET_PROTOCOLS: &[u32] = &[0, 1, 6, 17, 58];

/// The rules of `profile` for a cube that runs as `run_as`.
#[must_use]
pub fn rules(profile: SeccompProfile, run_as: RunAs, arch: Arch) -> RuleSet {
    let strict = profile == SeccompProfile::Strict;
    let mut calls: Vec<CallRule> = numbers::all(arch)
        .filter_map(|(name, number, class)| {
            let plain = |otherwise| CallRule { name, number, cases: Vec::new(), otherwise };
            let excepted = (name == "chroot" && run_as == RunAs::Root)
                || (profile == SeccompProfile::Debug && DEBUGGER.contains(&name));
            if excepted {
                return strict.then(|| plain(Answer::Allow));
            }
            // The class first: it spares comparing every name with both lists at every launch.
            if class == Class::Deny && ABSENT.contains(&name) {
                return Some(plain(Answer::Errno(ENOSYS)));
            }
            if class == Class::Deny && REFUSED.contains(&name) {
                return Some(plain(Answer::Errno(EPERM)));
            }
            if let Some((cases, otherwise)) = conditional(name, profile) {
                return Some(CallRule { name, number, cases, otherwise });
            }
            (strict && class == Class::Plain).then(|| plain(Answer::Allow))
        })
        .collect();
    calls.sort_by_key(|call| call.number);
    let unlisted = if strict { Answer::Errno(ENOSYS) } else { Answer::Allow };
    RuleSet { arch, calls, unlisted, ceiling: numbers::HIGHEST }
}

/// Cases and the answer when none holds, for the calls whose arguments decide.
fn conditional(name: &str, profile: SeccompProfile) -> Option<(Vec<Case>, Answer)> {
    let refuse = Answer::Errno(EPERM);
    match name {
        "clone" => Some((vec![case(vec![on(0, Test::AnyBit(NAMESPACE_BITS))], refuse)], Answer::Allow)),
        "ioctl" => Some((vec![case(vec![on(1, Test::OneOf(TERMINAL_IOCTLS))], refuse)], Answer::Allow)),
        "fcntl" => Some((vec![case(vec![on(1, Test::OneOf(LEASES))], refuse)], Answer::Allow)),
        "personality" => {
            let known = if profile == SeccompProfile::Debug { DEBUG_PERSONALITIES } else { PERSONALITIES };
            Some((vec![case(vec![on(0, Test::OneOf(known))], Answer::Allow)], refuse))
        }
        "socket" => Some(sockets(profile != SeccompProfile::Strict)),
        // A pair is joined to itself: no path, no address, nobody else to reach.
        "socketpair" => Some(sockets(true)),
        _ => None,
    }
}

/// Where the mode stands in the calls that change one.
const MODES: &[(&str, u8)] = &[("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)];
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const OTHERS_RUN: u32 = 0o0001;

/// The rule for `socket`: unix, IPv4, IPv6 and the routing netlink; streams and datagrams.
fn sockets(unix: bool) -> (Vec<Case>, Answer) {
    let family = Answer::Errno(EAFNOSUPPORT);
    let kind = |test| Condition { arg: 1, mask: SOCK_TYPE, test };
    let cases = vec![
        case(vec![on(0, Test::OneOf(AF_NETLINK)), on(2, Test::OneOf(NETLINK_ROUTE))], Answer::Allow),
        case(vec![on(0, Test::NoneOf(AF_ROUTED))], family),
        case(vec![on(0, Test::OneOf(AF_UNIX))], if unix { Answer::Allow } else { family }),
        case(vec![kind(Test::OneOf(SOCK_RAW_OR_PACKET))], Answer::Errno(EPERM)),
        case(vec![kind(Test::NoneOf(SOCK_STREAM_OR_DGRAM))], Answer::Errno(ESOCKTNOSUPPORT)),
        case(vec![on(2, Test::NoneOf(INET_PROTOCOLS))], Answer::Errno(EPROTONOSUPPORT)),
    ];
    (cases, Answer::Allow)
}

const fn on(arg: u8, test: Test) -> Condition {
    Condition { arg, mask: u32::MAX, test }
}

const fn case(all: Vec<Condition>, answer: Answer) -> Case {
    Case { all, answer }
}

/// `CLONE_FS`: a thread with a folder and a umask of its own, which file servers need. No namespace.
const CLONE_FS: &[u32] = &[0x200];

impl RuleSet {
    /// The same rules for the jail around a virtual machine: the share daemon parts its threads from the process's folder,
    /// and with `chroot` it shuts itself into what it serves.
    #[must_use]
    pub fn around_a_machine(mut self, chroot: bool) -> Self {
        for call in &mut self.calls {
            if call.name == "unshare" {
                call.cases = vec![case(vec![on(0, Test::OneOf(CLONE_FS))], Answer::Allow)];
            }
        }
        if chroot {
            self.calls.retain(|call| call.name != "chroot");
        }
        self
    }

    /// The same rules for a cube that writes into a folder of the host's. A program that runs as its owner, left there, would
    /// make every other user of the host the cube's user: inside such bits mean nothing, outside they do. As its group:
    /// only if others may run it, because folders that a group shares are copied with that bit. A mode that is given when a
    /// file is made needs no rule: whatever is written into the file then takes these bits away, of everybody without
    /// a capability over the host (setattr_should_drop_suidgid in fs/attr.c).
    #[must_use]
    pub fn without_set_ids(mut self) -> Self {
        let refuse = Answer::Errno(EPERM);
        for (name, arg) in MODES {
            let Some(number) = numbers::number(self.arch, name) else { continue };
            let has = |bits| Condition { arg: *arg, mask: u32::MAX, test: Test::AnyBit(bits) };
            let cases =
                vec![case(vec![has(SET_UID)], refuse), case(vec![has(SET_GID), has(OTHERS_RUN)], refuse)];
            self.put(CallRule { name, number, cases, otherwise: Answer::Allow });
        }
        self
    }

    fn put(&mut self, rule: CallRule) {
        match self.calls.binary_search_by_key(&rule.number, |call| call.number) {
            Ok(at) => self.calls[at] = rule,
            Err(at) => self.calls.insert(at, rule),
        }
    }

    /// What the rules say of one call: the reference that the compiled filter is held against, and
    /// the answer for `--dry-run`. `audit_arch` is the `AUDIT_ARCH_*` word of the caller.
    #[must_use]
    pub fn answer(&self, audit_arch: u32, number: u32, args: &[u64; 6]) -> Answer {
        if audit_arch != self.arch.audit_arch() {
            return Answer::Kill;
        }
        if self.arch == Arch::X86_64 && number >= X32_BIT && number != u32::MAX {
            return Answer::Kill;
        }
        if number > self.ceiling {
            return Answer::Errno(ENOSYS);
        }
        let Ok(index) = self.calls.binary_search_by_key(&number, |call| call.number) else {
            return self.unlisted;
        };
        self.calls.get(index).map_or(self.unlisted, |call| call.answer(args))
    }
}

impl CallRule {
    fn answer(&self, args: &[u64; 6]) -> Answer {
        let holds = |condition: &Condition| {
            let whole = args.get(usize::from(condition.arg)).copied().unwrap_or(0);
            let low = u32::try_from(whole & u64::from(u32::MAX)).unwrap_or(0) & condition.mask;
            match condition.test {
                Test::OneOf(values) => values.contains(&low),
                Test::NoneOf(values) => !values.contains(&low),
                Test::AnyBit(bits) => low & bits != 0,
            }
        };
        self.cases.iter().find(|case| case.all.iter().all(holds)).map_or(self.otherwise, |case| case.answer)
    }
}
