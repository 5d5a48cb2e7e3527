//! The compiled filters, run by an interpreter of classic BPF and, once, by the kernel.

use proptest::prelude::*;

use super::compile::{AND, IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, JUMP, LOAD, RETURN, returned};
use super::*;

const PROFILES: [SeccompProfile; 3] =
    [SeccompProfile::Default, SeccompProfile::Strict, SeccompProfile::Debug];
const USERS: [RunAs; 2] = [RunAs::Me, RunAs::Root];

/// What the kernel's `struct seccomp_data` holds at an offset that programs may load.
fn load(arch: u32, number: u32, args: &[u64; 6], offset: u32) -> u32 {
    let args_at = |at: u32| {
        let arg = args[usize::try_from(at / 8).unwrap()];
        u32::try_from(if at.is_multiple_of(8) { arg & 0xffff_ffff } else { arg >> 32 }).unwrap()
    };
    match offset {
        0 => number,
        4 => arch,
        16..64 if offset.is_multiple_of(4) => args_at(offset - 16),
        _ => panic!("load from {offset}"),
    }
}

/// Runs one program; panics on anything that the kernel's checker would refuse.
fn run(program: &[SockFilter], arch: u32, number: u32, args: &[u64; 6]) -> u32 {
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let SockFilter { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            LOAD => accumulator = load(arch, number, args, k),
            AND => accumulator &= k,
            JUMP => at += usize::try_from(k).unwrap(),
            IF_EQUAL => branch(accumulator == k),
            IF_AT_LEAST => branch(accumulator >= k),
            IF_ANY_BIT => branch(accumulator & k != 0),
            RETURN => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// The answer that wins when several programs are stacked is the most severe; here the lowest
/// number as a signed word, as in the kernel.
fn verdict(programs: &[Vec<SockFilter>], arch: u32, number: u32, args: &[u64; 6]) -> u32 {
    programs
        .iter()
        .map(|program| run(program, arch, number, args))
        .min_by_key(|answer| answer.cast_signed() & 0xffff_0000_u32.cast_signed())
        .unwrap()
}

fn every_set() -> impl Iterator<Item = (SeccompProfile, RunAs, RuleSet)> {
    PROFILES.into_iter().flat_map(|profile| {
        USERS.into_iter().flat_map(move |user| {
            Arch::ALL.into_iter().map(move |arch| (profile, user, rules(profile, user, arch)))
        })
    })
}

fn ask(set: &RuleSet, call: &str, args: &[u64]) -> u32 {
    let mut six = [0; 6];
    six[..args.len()].copy_from_slice(args);
    let number = number(set.arch, call).unwrap_or_else(|| panic!("no call {call}"));
    verdict(&compile(set).unwrap(), set.arch.audit_arch(), number, &six)
}

const ALLOW: u32 = 0x7fff_0000;
const REFUSED_ANSWER: u32 = 0x0005_0001;
const MISSING: u32 = 0x0005_0026;
const KILLED: u32 = 0x8000_0000;
const FAMILY: u32 = 0x0005_0000 | EAFNOSUPPORT as u32;
const PROTOCOL: u32 = 0x0005_0000 | EPROTONOSUPPORT as u32;

#[test]
fn what_is_refused_in_every_profile() {
    let cases: &[(&str, &[u64], u32)] = &[
        ("unshare", &[0x1000_0000], REFUSED_ANSWER),              // S01
        ("clone", &[0x1000_0011], REFUSED_ANSWER),                // S02 user
        ("clone", &[0x0002_0011], REFUSED_ANSWER),                // S02 mount
        ("clone", &[0x0200_0011], REFUSED_ANSWER),                // S02 cgroup
        ("clone", &[0x0400_0011], REFUSED_ANSWER),                // S02 uts
        ("clone", &[0x0800_0011], REFUSED_ANSWER),                // S02 ipc
        ("clone", &[0x2000_0011], REFUSED_ANSWER),                // S02 pid
        ("clone", &[0x4000_0011], REFUSED_ANSWER),                // S02 net
        ("clone", &[0xdead_beef_4000_0011], REFUSED_ANSWER),      // S02, garbage above
        ("clone", &[0x0000_0001_0000_0011], ALLOW),               // only garbage above
        ("clone", &[0x003d_0f00], ALLOW),                         // a thread
        ("clone", &[17], ALLOW),                                  // a process
        ("clone3", &[1, 88], MISSING),                            // S03
        ("setns", &[u64::MAX, 0], REFUSED_ANSWER),                // S04
        ("mount", &[], REFUSED_ANSWER),                           // S05
        ("umount2", &[], REFUSED_ANSWER),                         // S05
        ("pivot_root", &[], REFUSED_ANSWER),                      // S05
        ("open_tree", &[], REFUSED_ANSWER),                       // S06
        ("move_mount", &[], REFUSED_ANSWER),                      // S06
        ("fsopen", &[], REFUSED_ANSWER),                          // S06
        ("fsconfig", &[], REFUSED_ANSWER),                        // S06
        ("fsmount", &[], REFUSED_ANSWER),                         // S06
        ("fspick", &[], REFUSED_ANSWER),                          // S06
        ("mount_setattr", &[], REFUSED_ANSWER),                   // S06
        ("open_tree_attr", &[], REFUSED_ANSWER),                  // S06
        ("add_key", &[], REFUSED_ANSWER),                         // S07
        ("request_key", &[], REFUSED_ANSWER),                     // S07
        ("keyctl", &[0, 0xffff_fffd], REFUSED_ANSWER),            // S07
        ("bpf", &[0, 1, 8], REFUSED_ANSWER),                      // S08
        ("perf_event_open", &[1], REFUSED_ANSWER),                // S08
        ("io_uring_setup", &[8, 1], MISSING),                     // S09
        ("io_uring_enter", &[], MISSING),                         // S09
        ("io_uring_register", &[], MISSING),                      // S09
        ("userfaultfd", &[1], REFUSED_ANSWER),                    // S10
        ("open_by_handle_at", &[u64::MAX, 1, 0], REFUSED_ANSWER), // S10
        ("kcmp", &[], REFUSED_ANSWER),                            // S11
        ("pidfd_getfd", &[u64::MAX], REFUSED_ANSWER),             // S11, P06
        ("process_madvise", &[], REFUSED_ANSWER),                 // S11
        ("init_module", &[], REFUSED_ANSWER),                     // S13
        ("finit_module", &[], REFUSED_ANSWER),                    // S13
        ("delete_module", &[], REFUSED_ANSWER),                   // S13
        ("kexec_load", &[], REFUSED_ANSWER),                      // S13
        ("kexec_file_load", &[], REFUSED_ANSWER),                 // S13
        ("reboot", &[], REFUSED_ANSWER),                          // S13
        ("swapon", &[], REFUSED_ANSWER),                          // S13
        ("swapoff", &[], REFUSED_ANSWER),                         // S13
        ("acct", &[], REFUSED_ANSWER),                            // S13
        ("clock_settime", &[], REFUSED_ANSWER),                   // S13
        ("settimeofday", &[], REFUSED_ANSWER),                    // S13
        ("quotactl", &[], REFUSED_ANSWER),                        // S13
        ("quotactl_fd", &[], REFUSED_ANSWER),                     // S13
        ("syslog", &[], REFUSED_ANSWER),                          // S13
        ("fanotify_init", &[], REFUSED_ANSWER),                   // S13
        ("vmsplice", &[], REFUSED_ANSWER),
        ("move_pages", &[], REFUSED_ANSWER),
        ("migrate_pages", &[], REFUSED_ANSWER),
        ("sethostname", &[], REFUSED_ANSWER),
        ("setdomainname", &[], REFUSED_ANSWER),
        ("vhangup", &[], REFUSED_ANSWER),
        ("ioctl", &[0, 0x5412, 1], REFUSED_ANSWER), // S15 TIOCSTI
        ("ioctl", &[0, 0x0123_0000_5412, 1], REFUSED_ANSWER), // S15, high bits
        ("ioctl", &[0, 0x541c, 1], REFUSED_ANSWER), // S15 TIOCLINUX
        ("ioctl", &[0, 0x5423, 1], REFUSED_ANSWER), // S15 TIOCSETD
        ("ioctl", &[0, 0x541d, 1], REFUSED_ANSWER), // TIOCCONS
        ("ioctl", &[0, 0x5413, 1], ALLOW),          // TIOCGWINSZ
        ("fcntl", &[3, 1024, 1], REFUSED_ANSWER),   // F_SETLEASE
        ("fcntl", &[3, 0xdead_0000_0400, 0], REFUSED_ANSWER),
        ("fcntl", &[3, 1030, 0], ALLOW),                // F_DUPFD_CLOEXEC
        ("landlock_create_ruleset", &[0, 0, 1], ALLOW), // S17
        ("memfd_create", &[], ALLOW),                   // S17
        ("pidfd_open", &[1], ALLOW),                    // S17
        ("personality", &[0xffff_ffff], ALLOW),
        ("personality", &[0xffff_ffff_ffff_ffff], ALLOW), // -1, sign extended
        ("personality", &[0], ALLOW),
        ("personality", &[0x10], REFUSED_ANSWER),
        ("personality", &[0x40_0000], REFUSED_ANSWER), // READ_IMPLIES_EXEC
        ("seccomp", &[], ALLOW),
        ("prctl", &[], ALLOW),
        ("mknodat", &[], ALLOW),
        ("execve", &[], ALLOW),
        ("close_range", &[], ALLOW),
        ("rseq", &[], ALLOW),
        ("openat2", &[], ALLOW),
        ("name_to_handle_at", &[], ALLOW),
    ];
    for (profile, user, set) in every_set() {
        for (call, args, expected) in cases {
            assert_eq!(ask(&set, call, args), *expected, "{call} {args:x?} {profile} {user} {:?}", set.arch);
        }
    }
}

#[test]
fn sockets_by_family_type_and_protocol() {
    const KIND: u32 = 0x0005_0000 | ESOCKTNOSUPPORT as u32;
    // family, type, protocol, answer
    let cases: &[(u64, u64, u64, u32)] = &[
        (2, 1, 0, ALLOW),
        (10, 0x8_0801, 6, ALLOW), // stream, CLOEXEC and NONBLOCK
        (2, 2, 17, ALLOW),
        (2, 2, 1, ALLOW), // ping without privilege
        (16, 3, 0, ALLOW),
        (0x1_0000_0010, 3, 0, ALLOW),
        (16, 3, 9, FAMILY),  // audit
        (16, 3, 12, FAMILY), // netfilter
        (17, 3, 0, FAMILY),  // packet
        (38, 5, 0, FAMILY),  // alg
        (40, 1, 0, FAMILY),  // vsock
        (44, 3, 0, FAMILY),  // xdp
        (15, 3, 2, FAMILY),  // key
        (43, 1, 0, FAMILY),  // smc
        (0x5_0000_0028, 1, 0, FAMILY),
        (2, 3, 1, REFUSED_ANSWER), // raw icmp
        (2, 0x8_0003, 1, REFUSED_ANSWER),
        (10, 10, 0, REFUSED_ANSWER),
        (2, 6, 0, KIND), // dccp
        (2, 5, 132, KIND),
        (2, 1, 262, PROTOCOL), // mptcp
        (2, 1, 256, PROTOCOL), // smc
        (2, 1, 132, PROTOCOL), // sctp
    ];
    for (profile, _, set) in every_set() {
        for &(family, kind, protocol, expected) in cases {
            let answer = ask(&set, "socket", &[family, kind, protocol]);
            assert_eq!(answer, expected, "{family} {kind} {protocol} {profile}");
        }
        let unix = if profile == SeccompProfile::Strict { FAMILY } else { ALLOW };
        assert_eq!(ask(&set, "socket", &[1, 1, 0]), unix, "{profile}");
        assert_eq!(ask(&set, "socketpair", &[1, 1, 0]), ALLOW, "{profile}");
        assert_eq!(ask(&set, "socketpair", &[40, 1, 0]), FAMILY, "{profile}");
    }
}

/// The filter of the jail in place, in every profile: what would reach past Landlock is off, and what programs need is on.
#[test]
fn in_place_nothing_of_the_users_other_things_is_reached() {
    const ABSENT: u32 = 0x0005_0000 | in_place::EOPNOTSUPP as u32;
    for (profile, _, set) in every_set() {
        for network in [false, true] {
            let inet = if network { ALLOW } else { FAMILY };
            let set = set.clone().in_place(network, false);
            for (call, args, expected) in [
                ("socket", &[2, 1, 0][..], inet),
                ("socket", &[10, 2, 17], inet),
                ("socket", &[1, 1, 0], FAMILY),
                ("socket", &[16, 3, 0], inet),
                ("socket", &[40, 1, 0], FAMILY),
                ("socket", &[2, 1, 262], if network { PROTOCOL } else { FAMILY }),
                ("socketpair", &[1, 1, 0], ALLOW),
                ("socketpair", &[2, 1, 0], FAMILY),
                ("prlimit64", &[0, 7, 1], ALLOW),
                ("prlimit64", &[77, 0, 1], REFUSED_ANSWER),
                ("prlimit64", &[77, 0, 0], REFUSED_ANSWER),
                ("sched_setaffinity", &[0, 8, 1], ALLOW),
                ("sched_setaffinity", &[77, 8, 1], REFUSED_ANSWER),
                ("setpriority", &[0, 0, 10], ALLOW),
                ("setpriority", &[0, 77, 10], REFUSED_ANSWER),
                ("setpriority", &[2, 0, 10], REFUSED_ANSWER),
                ("ioprio_set", &[1, 0, 0], ALLOW),
                ("ioprio_set", &[3, 0, 0], REFUSED_ANSWER),
                ("shmget", &[1, 1, 0], MISSING),
                ("mq_open", &[1], MISSING),
                ("fchmod", &[3, 0o755], ALLOW),
                ("fchmod", &[3, 0o4755], REFUSED_ANSWER),
                ("fchmodat", &[3, 1, 0o755], ALLOW),
                ("fchmodat", &[3, 1, 0o777], REFUSED_ANSWER),
                ("fchmodat2", &[3, 1, 0o2755, 0], REFUSED_ANSWER),
                ("fchownat", &[3, 1, 0, 0], REFUSED_ANSWER),
                ("setxattr", &[], ABSENT),
                ("fsetxattr", &[3], ALLOW),
                ("unshare", &[0x1000_0000], REFUSED_ANSWER),
            ] {
                assert_eq!(ask(&set, call, args), expected, "{call} {args:?} {profile} {network}");
            }
            let root = set.in_place(network, true);
            for call in ["fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat"] {
                assert_eq!(ask(&root, call, &[3, 1, 0o600]), REFUSED_ANSWER, "{call} {profile}");
            }
            assert_eq!(ask(&root, "fsetxattr", &[3]), ABSENT, "{profile}");
            if set_has(&root, "chmod") {
                assert_eq!(ask(&root, "chmod", &[1, 0o600]), REFUSED_ANSWER, "{profile}");
            }
        }
    }
}

fn set_has(set: &RuleSet, call: &str) -> bool {
    number(set.arch, call).is_some()
}

#[test]
fn profiles_and_users_differ_only_where_said() {
    for (profile, user, set) in every_set() {
        let debugger = if profile == SeccompProfile::Debug { ALLOW } else { REFUSED_ANSWER };
        for call in ["ptrace", "process_vm_readv", "process_vm_writev"] {
            assert_eq!(ask(&set, call, &[16, 1]), debugger, "{call} {profile}"); // P05, P06
        }
        assert_eq!(ask(&set, "personality", &[0x4_0000]), debugger, "{profile}");
        let chroot = if user == RunAs::Root { ALLOW } else { REFUSED_ANSWER };
        assert_eq!(ask(&set, "chroot", &[]), chroot, "{profile} {user}");
        let rare = if profile == SeccompProfile::Strict { MISSING } else { ALLOW };
        for call in ["statmount", "fanotify_mark", "mbind"] {
            assert_eq!(ask(&set, call, &[]), rare, "{call} {profile}");
        }
    }
}

#[test]
fn nothing_is_left_that_runs_as_its_owner() {
    for (profile, _, set) in every_set() {
        let shut = set.clone().without_set_ids();
        for (call, before) in
            [("chmod", &[1_u64][..]), ("fchmod", &[3]), ("fchmodat", &[3, 1]), ("fchmodat2", &[3, 1])]
        {
            if number(set.arch, call).is_none() {
                continue;
            }
            for (mode, answer) in [
                (0o755, ALLOW),
                (0o1777, ALLOW),
                (0o2770, ALLOW),
                (0o2775, REFUSED_ANSWER),
                (0o4700, REFUSED_ANSWER),
                (0o6755, REFUSED_ANSWER),
                (0xffff_ffff_0000_0000 | 0o4755, REFUSED_ANSWER),
            ] {
                let args = [before, &[mode]].concat();
                assert_eq!(ask(&shut, call, &args), answer, "{call} {mode:o} {profile}");
                assert_eq!(ask(&set, call, &args), ALLOW, "{call} {mode:o} {profile}");
            }
        }
    }
}

#[test]
fn foreign_calls_kill_and_unknown_ones_are_missing() {
    for (profile, _, set) in every_set() {
        let programs = compile(&set).unwrap();
        assert_eq!(programs.len(), 1);
        let arch = set.arch.audit_arch();
        let at = |arch, number| verdict(&programs, arch, number, &[0; 6]);
        for foreign in [0x4000_0003, 0x4000_0028, 0xc000_003e, 0xc000_00b7, 0] {
            if foreign != arch {
                assert_eq!(at(foreign, 20), KILLED, "{foreign:#x}"); // S14
            }
        }
        let x32 = if set.arch == Arch::X86_64 { KILLED } else { MISSING };
        for number in [0x4000_0000, 0x4000_0027, 0xffff_fffe] {
            assert_eq!(at(arch, number), x32, "{number:#x}"); // S14
        }
        for number in [470, 512, 547, 9999, 0x3fff_ffff, u32::MAX] {
            assert_eq!(at(arch, number), MISSING, "{number} {profile}"); // S16
        }
    }
}

/// No reviewed call is without its rule, and no rule is for a call that the table does not deny.
#[test]
fn the_table_and_the_rules_agree() {
    for arch in Arch::ALL {
        for (call, _, class) in numbers::all(arch) {
            let denied = REFUSED.contains(&call) || ABSENT.contains(&call);
            assert_eq!(class == Class::Deny, denied, "{call}");
        }
    }
    for call in REFUSED.iter().chain(ABSENT) {
        assert!(number(Arch::X86_64, call).is_some(), "{call} is misspelt");
    }
}

#[test]
fn programs_are_small() {
    for (profile, user, set) in every_set() {
        let length: usize = compile(&set).unwrap().iter().map(Vec::len).sum();
        assert!(length <= 170, "{length} instructions for {profile} {user} {:?}", set.arch);
    }
}

#[test]
fn rules_that_break_their_promises_are_refused() {
    let good = rules(SeccompProfile::Default, RunAs::Me, Arch::X86_64);
    let mut swapped = good.clone();
    swapped.calls.swap(3, 4);
    assert!(matches!(compile(&swapped), Err(CompileError::Rule(_))));
    let mut low = good;
    low.ceiling = 300;
    assert!(matches!(compile(&low), Err(CompileError::Rule(_))));
}

/// Jumps reach beyond 255 instructions, through copies of answers and long jumps.
#[test]
fn long_programs_keep_their_meaning() {
    const VALUES: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let calls = (0..110)
        .map(|at| CallRule {
            name: "x",
            number: at * 2,
            cases: vec![
                case(vec![on(0, Test::OneOf(VALUES)), on(1, Test::AnyBit(1 << (at % 32)))], Answer::Kill),
                case(vec![on(2, Test::NoneOf(VALUES))], Answer::Errno(u16::try_from(at).unwrap())),
            ],
            otherwise: Answer::Allow,
        })
        .collect();
    let set = RuleSet { arch: Arch::Aarch64, calls, unlisted: Answer::Errno(7), ceiling: 400 };
    let programs = compile(&set).unwrap();
    for number in 0..402 {
        for args in [[1, u64::MAX, 0, 0, 0, 0], [1, 0, 3, 0, 0, 0], [13, 1, 13, 0, 0, 0]] {
            let expected = returned(set.answer(set.arch.audit_arch(), number, &args));
            assert_eq!(verdict(&programs, set.arch.audit_arch(), number, &args), expected, "{number}");
        }
    }
}

proptest! {
    /// The program says what the rules say, for any call.
    #[test]
    fn compiled_and_rules_agree(
        number in prop_oneof![0_u32..600, any::<u32>()],
        args in prop::array::uniform6(prop_oneof![0_u64..300, any::<u64>(), Just(0x5412)]),
        foreign in prop::bool::weighted(0.05),
    ) {
        for (_, _, set) in every_set() {
            let arch = if foreign { 0x4000_0003 } else { set.arch.audit_arch() };
            let programs = compile(&set).unwrap();
            prop_assert_eq!(
                verdict(&programs, arch, number, &args),
                returned(set.answer(arch, number, &args))
            );
        }
    }
}

/// The kernel takes every program and answers as the interpreter does.
#[test]
#[expect(unsafe_code, reason = "installs a filter in a forked child, which ends by _exit")]
fn the_kernel_agrees() {
    let arch = Arch::native().unwrap();
    let calls = ["unshare", "clone3", "keyctl", "io_uring_setup", "ptrace", "getppid", "statmount"];
    for profile in PROFILES {
        let set = rules(profile, RunAs::Me, arch);
        let programs = compile(&set).unwrap();
        let numbers: Vec<i64> = calls.iter().map(|call| number(arch, call).unwrap().into()).collect();
        let expected: Vec<u32> = calls.iter().map(|call| ask(&set, call, &[0x1000_0000])).collect();
        // SAFETY: the child only makes raw system calls and ends with _exit; it allocates nothing.
        let status = unsafe {
            let pid = libc::fork();
            assert!(pid >= 0);
            if pid == 0 {
                // A lock that another test's thread holds must not live on here.
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
                if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                    libc::_exit(100);
                }
                for program in &programs {
                    let fprog = libc::sock_fprog {
                        len: u16::try_from(program.len()).unwrap_or(0),
                        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
                    };
                    let mode = libc::SECCOMP_SET_MODE_FILTER;
                    if libc::syscall(libc::SYS_seccomp, mode, 0, &raw const fprog) != 0 {
                        libc::_exit(101);
                    }
                }
                for (index, (number, expected)) in numbers.iter().zip(&expected).enumerate() {
                    *libc::__errno_location() = 0;
                    libc::syscall(*number, 0x1000_0000_i64, 0, 0, 0, 0, 0);
                    let errno = u32::try_from(*libc::__errno_location()).unwrap_or(0);
                    let refused = expected & 0xffff_0000 == 0x0005_0000;
                    if refused && errno != expected & 0xffff {
                        libc::_exit(i32::try_from(index).unwrap_or(99) + 1);
                    }
                }
                // A foreign number space ends the process, when the kernel has one.
                libc::syscall(0x4000_0027);
                libc::_exit(50);
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
            status
        };
        if arch == Arch::X86_64 {
            assert!(libc::WIFSIGNALED(status), "{profile}: exit code {}", libc::WEXITSTATUS(status));
            assert_eq!(libc::WTERMSIG(status), libc::SIGSYS, "{profile}");
        } else {
            assert_eq!(libc::WEXITSTATUS(status), 50, "{profile}");
        }
    }
}
