//! The S rows and their kin: one system call each, compared with the answers that are good.

use super::raw::{Outcome, call};
use super::{Seen, fail, pass, untested};
use crate::model::SeccompProfile;
use crate::plan::seccomp::{Arch, EAFNOSUPPORT, ENOSYS, EPERM, EPROTONOSUPPORT, number};

/// One try: a call, its arguments, and the error numbers that are good (none: it must be done).
struct Try {
    id: &'static str,
    name: &'static str,
    args: &'static [i64],
    good: &'static [u16],
}

const REFUSED: &[u16] = &[EPERM];
const REFUSED_OR_ABSENT: &[u16] = &[EPERM, ENOSYS];
const ABSENT: &[u16] = &[ENOSYS];
const NO_SOCKET: &[u16] = &[EAFNOSUPPORT, EPROTONOSUPPORT, EPERM];

const fn refused(id: &'static str, name: &'static str, args: &'static [i64]) -> Try {
    Try { id, name, args, good: REFUSED }
}

const fn off(id: &'static str, name: &'static str, args: &'static [i64]) -> Try {
    Try { id, name, args, good: REFUSED_OR_ABSENT }
}

const fn no_socket(args: &'static [i64]) -> Try {
    Try { id: "S18", name: "socket", args, good: NO_SOCKET }
}

const fn works(id: &'static str, name: &'static str, args: &'static [i64]) -> Try {
    Try { id, name, args, good: &[] }
}

/// Arguments are such that a call which is let through does no harm.
const TRIES: &[Try] = &[
    // PTRACE_SEIZE: unlike PTRACE_ATTACH it does not stop process 1 where it is let through.
    refused("P05", "ptrace", &[0x4206, 1]),
    refused("P06", "process_vm_readv", &[1]),
    refused("P06", "pidfd_getfd", &[-1]),
    refused("S01", "unshare", &[0x1000_0000]),
    refused("S02", "clone", &[0x0002_0011]),
    refused("S02", "clone", &[0x0200_0011]),
    refused("S02", "clone", &[0x0400_0011]),
    refused("S02", "clone", &[0x0800_0011]),
    refused("S02", "clone", &[0x1000_0011]),
    refused("S02", "clone", &[0x2000_0011]),
    refused("S02", "clone", &[0x4000_0011]),
    Try { id: "S03", name: "clone3", args: &[1, 88], good: ABSENT },
    refused("S04", "setns", &[-1, 0]),
    refused("S05", "mount", &[]),
    refused("S05", "umount2", &[]),
    refused("S05", "pivot_root", &[]),
    off("S06", "open_tree", &[-1, 1]),
    off("S06", "move_mount", &[-1, 1]),
    off("S06", "fsopen", &[-1, 1]),
    off("S06", "fsconfig", &[-1, 1]),
    off("S06", "fsmount", &[-1, 1]),
    off("S06", "fspick", &[-1, 1]),
    off("S06", "mount_setattr", &[-1, 1]),
    off("S06", "open_tree_attr", &[-1, 1]),
    off("S07", "add_key", &[]),
    off("S07", "request_key", &[]),
    off("S07", "keyctl", &[0, -3]),
    off("S08", "bpf", &[0, 1, 8]),
    off("S08", "perf_event_open", &[1]),
    off("S09", "io_uring_setup", &[8, 1]),
    off("S09", "io_uring_enter", &[-1]),
    off("S09", "io_uring_register", &[-1]),
    off("S10", "userfaultfd", &[1]),
    off("S10", "open_by_handle_at", &[-100, 1, 0]),
    off("S11", "kcmp", &[1, 1]),
    off("S11", "pidfd_getfd", &[-1]),
    off("S11", "process_madvise", &[-1]),
    off("S13", "init_module", &[]),
    off("S13", "finit_module", &[-1]),
    off("S13", "delete_module", &[]),
    off("S13", "kexec_file_load", &[-1, -1]),
    off("S13", "reboot", &[]),
    off("S13", "swapon", &[]),
    off("S13", "swapoff", &[]),
    off("S13", "clock_settime", &[]),
    off("S13", "quotactl", &[-1]),
    off("S13", "quotactl_fd", &[-1]),
    off("S13", "syslog", &[10]),
    off("S13", "fanotify_init", &[]),
    refused("S15", "ioctl", &[-1, 0x5412, 0]),
    refused("S15", "ioctl", &[-1, 0x0123_0000_5412, 0]),
    refused("S15", "ioctl", &[-1, 0x541c, 0]),
    refused("S15", "ioctl", &[-1, 0x5423, 0]),
    works("S17", "landlock_create_ruleset", &[0, 0, 1]),
    works("S17", "epoll_create1", &[]),
    works("S17", "pidfd_open", &[OWN_PID, 0]),
    works("S17", "getrandom", &[]),
    no_socket(&[17, 3, 0]),
    no_socket(&[38, 5, 0]),
    no_socket(&[40, 1, 0]),
    no_socket(&[44, 3, 0]),
    no_socket(&[15, 3, 2]),
    no_socket(&[2, 1, 262]),
    no_socket(&[2, 3, 1]),
    no_socket(&[16, 3, 12]),
    works("S18", "socket", &[16, 3, 0]),
    works("S18", "socket", &[2, 1, 0]),
    refused("F07", "mount", &[0, 0, 0, 0x20, 0]),
    off("F07", "mount_setattr", &[-100, 0, 0, 0, 0]),
];

/// Stands for the process's own number.
const OWN_PID: i64 = i64::MIN;

/// Tries everything of row `id`.
/// In place no socket of any family can be made.
pub(super) fn answers(id: &str, profile: SeccompProfile, in_place: bool) -> Seen {
    let Some(arch) = Arch::native() else { return untested("no numbers for this architecture") };
    if id == "S16" {
        let outcome = call(9999, [0; 6]);
        return judge(outcome, ABSENT, "call 9999", &mut 0).err().unwrap_or_else(|| pass("ENOSYS"));
    }
    let mut tried = 0;
    for one in TRIES.iter().filter(|one| one.id == id) {
        let Some(number) = number(arch, one.name) else { continue };
        let debugger = profile == SeccompProfile::Debug && one.name == "process_vm_readv";
        let outcome = call(number, filled(one.args));
        let good = if in_place && one.name == "socket" { NO_SOCKET } else { one.good };
        // A debugger's profile lets it through; with no memory named the kernel then does nothing.
        if debugger && outcome == Outcome::Done {
            continue;
        }
        if let Err(seen) = judge(outcome, good, one.name, &mut tried) {
            return seen;
        }
    }
    if tried == 0 { untested("nothing to try on this architecture") } else { pass(format!("{tried} tried")) }
}

fn judge(outcome: Outcome, good: &[u16], name: &str, tried: &mut usize) -> Result<(), Seen> {
    *tried += 1;
    let kept = match outcome {
        Outcome::Done => good.is_empty(),
        Outcome::Errno(errno) => good.iter().any(|one| i32::from(*one) == errno),
        Outcome::Killed(_) => false,
        Outcome::NotTried => return Err(untested(outcome.to_string())),
    };
    if kept { Ok(()) } else { Err(fail(format!("{name}: {outcome}"))) }
}

/// Six arguments; the placeholders become what they stand for.
fn filled(args: &[i64]) -> [i64; 6] {
    let mut six = [0; 6];
    for (slot, arg) in six.iter_mut().zip(args) {
        *slot = match *arg {
            OWN_PID => i64::from(std::process::id()),
            other => other,
        };
    }
    six
}

/// S14: calls of the other tables of this processor.
#[cfg(target_arch = "x86_64")]
pub(super) fn foreign() -> Seen {
    let (x32, legacy) = (call(0x4000_0027, [0; 6]), super::raw::int_0x80());
    let detail = format!("x32: {x32}; int 0x80: {legacy}");
    // A kernel without x32 answers ENOSYS before any filter of it could matter.
    let good = matches!(x32, Outcome::Killed(libc::SIGSYS) | Outcome::Errno(libc::ENOSYS))
        && legacy == Outcome::Killed(libc::SIGSYS);
    match (x32, legacy) {
        (Outcome::NotTried, _) | (_, Outcome::NotTried) => untested(detail),
        _ if good => pass(detail),
        _ => fail(detail),
    }
}

/// S14: there are no other tables.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn foreign() -> Seen {
    pass("this processor has no such calls")
}
