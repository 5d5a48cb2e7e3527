//! The numbers of all system calls that were reviewed, for both architectures, with a class each.
//!
//! A table rather than the C library's constants: those exist for the running architecture only,
//! and the rules of both are built and tested on any host.

/// Architectures that filters are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The architecture this program is built for; `None` where no filter exists, and so no cube.
    #[must_use]
    pub const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// The kernel's `AUDIT_ARCH_*` word.
    #[must_use]
    pub const fn audit_arch(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }
}

/// What the review said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Ordinary: allowed in every profile (arguments may still matter).
    Plain,
    /// Obsolete or rarely used: the strict profile leaves it out.
    Rare,
    /// Answered with an error by a rule of its own.
    Deny,
}

/// The highest number that was reviewed (Linux 6.18, `file_setattr`).
pub(super) const HIGHEST: u32 = 469;

/// The calls of `arch`, by name: name, number, class.
pub(super) fn all(arch: Arch) -> impl Iterator<Item = (&'static str, u32, Class)> {
    TABLE.iter().filter_map(move |&(name, x86_64, aarch64, class)| {
        let number = match arch {
            Arch::X86_64 => x86_64,
            Arch::Aarch64 => aarch64,
        };
        u32::try_from(number).ok().map(|number| (name, number, class))
    })
}

/// The number of the call `name` on `arch`; `None` when it has no such call.
#[must_use]
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    all(arch).find(|call| call.0 == name).map(|call| call.1)
}

/// The name of call `number` on `arch`; `None` for numbers that were not reviewed.
#[must_use]
pub fn name(arch: Arch, number: u32) -> Option<&'static str> {
    all(arch).find(|call| call.1 == number).map(|call| call.0)
}

use Class::{Deny, Plain, Rare};

/// Name, number on `x86_64`, number on aarch64 (-1: does not exist there), class; sorted by name.
#[rustfmt::skip]
const TABLE: &[(&str, i16, i16, Class)] = &[
    ("_sysctl", 156, -1, Rare), ("accept", 43, 202, Plain), ("accept4", 288, 242, Plain),
    ("access", 21, -1, Plain), ("acct", 163, 89, Deny), ("add_key", 248, 217, Deny),
    ("adjtimex", 159, 171, Deny), ("afs_syscall", 183, -1, Rare), ("alarm", 37, -1, Plain),
    ("arch_prctl", 158, -1, Plain), ("bind", 49, 200, Plain), ("bpf", 321, 280, Deny),
    ("brk", 12, 214, Plain), ("cachestat", 451, 451, Rare), ("capget", 125, 90, Plain),
    ("capset", 126, 91, Plain), ("chdir", 80, 49, Plain), ("chmod", 90, -1, Plain),
    ("chown", 92, -1, Plain), ("chroot", 161, 51, Deny), ("clock_adjtime", 305, 266, Deny),
    ("clock_getres", 229, 114, Plain), ("clock_gettime", 228, 113, Plain),
    ("clock_nanosleep", 230, 115, Plain), ("clock_settime", 227, 112, Deny), ("clone", 56, 220, Plain),
    ("clone3", 435, 435, Deny), ("close", 3, 57, Plain), ("close_range", 436, 436, Plain),
    ("connect", 42, 203, Plain), ("copy_file_range", 326, 285, Plain), ("creat", 85, -1, Plain),
    ("create_module", 174, -1, Deny), ("delete_module", 176, 106, Deny), ("dup", 32, 23, Plain),
    ("dup2", 33, -1, Plain), ("dup3", 292, 24, Plain), ("epoll_create", 213, -1, Plain),
    ("epoll_create1", 291, 20, Plain), ("epoll_ctl", 233, 21, Plain), ("epoll_ctl_old", 214, -1, Rare),
    ("epoll_pwait", 281, 22, Plain), ("epoll_pwait2", 441, 441, Plain), ("epoll_wait", 232, -1, Plain),
    ("epoll_wait_old", 215, -1, Rare), ("eventfd", 284, -1, Plain), ("eventfd2", 290, 19, Plain),
    ("execve", 59, 221, Plain), ("execveat", 322, 281, Plain), ("exit", 60, 93, Plain),
    ("exit_group", 231, 94, Plain), ("faccessat", 269, 48, Plain), ("faccessat2", 439, 439, Plain),
    ("fadvise64", 221, 223, Plain), ("fallocate", 285, 47, Plain), ("fanotify_init", 300, 262, Deny),
    ("fanotify_mark", 301, 263, Rare), ("fchdir", 81, 50, Plain), ("fchmod", 91, 52, Plain),
    ("fchmodat", 268, 53, Plain), ("fchmodat2", 452, 452, Plain), ("fchown", 93, 55, Plain),
    ("fchownat", 260, 54, Plain), ("fcntl", 72, 25, Plain), ("fdatasync", 75, 83, Plain),
    ("fgetxattr", 193, 10, Plain), ("file_getattr", 468, 468, Plain), ("file_setattr", 469, 469, Plain),
    ("finit_module", 313, 273, Deny), ("flistxattr", 196, 13, Plain), ("flock", 73, 32, Plain),
    ("fork", 57, -1, Plain), ("fremovexattr", 199, 16, Plain), ("fsconfig", 431, 431, Deny),
    ("fsetxattr", 190, 7, Plain), ("fsmount", 432, 432, Deny), ("fsopen", 430, 430, Deny),
    ("fspick", 433, 433, Deny), ("fstat", 5, 80, Plain), ("fstatfs", 138, 44, Plain),
    ("fsync", 74, 82, Plain), ("ftruncate", 77, 46, Plain), ("futex", 202, 98, Plain),
    ("futex_requeue", 456, 456, Plain), ("futex_wait", 455, 455, Plain), ("futex_waitv", 449, 449, Plain),
    ("futex_wake", 454, 454, Plain), ("futimesat", 261, -1, Plain), ("get_kernel_syms", 177, -1, Deny),
    ("get_mempolicy", 239, 236, Rare), ("get_robust_list", 274, 100, Plain),
    ("get_thread_area", 211, -1, Plain), ("getcpu", 309, 168, Plain), ("getcwd", 79, 17, Plain),
    ("getdents", 78, -1, Plain), ("getdents64", 217, 61, Plain), ("getegid", 108, 177, Plain),
    ("geteuid", 107, 175, Plain), ("getgid", 104, 176, Plain), ("getgroups", 115, 158, Plain),
    ("getitimer", 36, 102, Plain), ("getpeername", 52, 205, Plain), ("getpgid", 121, 155, Plain),
    ("getpgrp", 111, -1, Plain), ("getpid", 39, 172, Plain), ("getpmsg", 181, -1, Rare),
    ("getppid", 110, 173, Plain), ("getpriority", 140, 141, Plain), ("getrandom", 318, 278, Plain),
    ("getresgid", 120, 150, Plain), ("getresuid", 118, 148, Plain), ("getrlimit", 97, 163, Plain),
    ("getrusage", 98, 165, Plain), ("getsid", 124, 156, Plain), ("getsockname", 51, 204, Plain),
    ("getsockopt", 55, 209, Plain), ("gettid", 186, 178, Plain), ("gettimeofday", 96, 169, Plain),
    ("getuid", 102, 174, Plain), ("getxattr", 191, 8, Plain), ("getxattrat", 464, 464, Plain),
    ("init_module", 175, 105, Deny), ("inotify_add_watch", 254, 27, Plain),
    ("inotify_init", 253, -1, Plain), ("inotify_init1", 294, 26, Plain),
    ("inotify_rm_watch", 255, 28, Plain), ("io_cancel", 210, 3, Plain), ("io_destroy", 207, 1, Plain),
    ("io_getevents", 208, 4, Plain), ("io_pgetevents", 333, 292, Rare), ("io_setup", 206, 0, Plain),
    ("io_submit", 209, 2, Plain), ("io_uring_enter", 426, 426, Deny), ("io_uring_register", 427, 427, Deny),
    ("io_uring_setup", 425, 425, Deny), ("ioctl", 16, 29, Plain), ("ioperm", 173, -1, Deny),
    ("iopl", 172, -1, Deny), ("ioprio_get", 252, 31, Plain), ("ioprio_set", 251, 30, Plain),
    ("kcmp", 312, 272, Deny), ("kexec_file_load", 320, 294, Deny), ("kexec_load", 246, 104, Deny),
    ("keyctl", 250, 219, Deny), ("kill", 62, 129, Plain), ("landlock_add_rule", 445, 445, Plain),
    ("landlock_create_ruleset", 444, 444, Plain), ("landlock_restrict_self", 446, 446, Plain),
    ("lchown", 94, -1, Plain), ("lgetxattr", 192, 9, Plain), ("link", 86, -1, Plain),
    ("linkat", 265, 37, Plain), ("listen", 50, 201, Plain), ("listmount", 458, 458, Rare),
    ("listxattr", 194, 11, Plain), ("listxattrat", 465, 465, Plain), ("llistxattr", 195, 12, Plain),
    ("lookup_dcookie", 212, 18, Deny), ("lremovexattr", 198, 15, Plain), ("lseek", 8, 62, Plain),
    ("lsetxattr", 189, 6, Plain), ("lsm_get_self_attr", 459, 459, Rare),
    ("lsm_list_modules", 461, 461, Rare), ("lsm_set_self_attr", 460, 460, Rare), ("lstat", 6, -1, Plain),
    ("madvise", 28, 233, Plain), ("map_shadow_stack", 453, 453, Rare), ("mbind", 237, 235, Rare),
    ("membarrier", 324, 283, Plain), ("memfd_create", 319, 279, Plain), ("memfd_secret", 447, 447, Plain),
    ("migrate_pages", 256, 238, Deny), ("mincore", 27, 232, Plain), ("mkdir", 83, -1, Plain),
    ("mkdirat", 258, 34, Plain), ("mknod", 133, -1, Plain), ("mknodat", 259, 33, Plain),
    ("mlock", 149, 228, Plain), ("mlock2", 325, 284, Plain), ("mlockall", 151, 230, Plain),
    ("mmap", 9, 222, Plain), ("modify_ldt", 154, -1, Deny), ("mount", 165, 40, Deny),
    ("mount_setattr", 442, 442, Deny), ("move_mount", 429, 429, Deny), ("move_pages", 279, 239, Deny),
    ("mprotect", 10, 226, Plain), ("mq_getsetattr", 245, 185, Plain), ("mq_notify", 244, 184, Plain),
    ("mq_open", 240, 180, Plain), ("mq_timedreceive", 243, 183, Plain), ("mq_timedsend", 242, 182, Plain),
    ("mq_unlink", 241, 181, Plain), ("mremap", 25, 216, Plain), ("mseal", 462, 462, Plain),
    ("msgctl", 71, 187, Plain), ("msgget", 68, 186, Plain), ("msgrcv", 70, 188, Plain),
    ("msgsnd", 69, 189, Plain), ("msync", 26, 227, Plain), ("munlock", 150, 229, Plain),
    ("munlockall", 152, 231, Plain), ("munmap", 11, 215, Plain), ("name_to_handle_at", 303, 264, Plain),
    ("nanosleep", 35, 101, Plain), ("newfstatat", 262, 79, Plain), ("nfsservctl", 180, 42, Rare),
    ("open", 2, -1, Plain), ("open_by_handle_at", 304, 265, Deny), ("open_tree", 428, 428, Deny),
    ("open_tree_attr", 467, 467, Deny), ("openat", 257, 56, Plain), ("openat2", 437, 437, Plain),
    ("pause", 34, -1, Plain), ("perf_event_open", 298, 241, Deny), ("personality", 135, 92, Plain),
    ("pidfd_getfd", 438, 438, Deny), ("pidfd_open", 434, 434, Plain),
    ("pidfd_send_signal", 424, 424, Plain), ("pipe", 22, -1, Plain), ("pipe2", 293, 59, Plain),
    ("pivot_root", 155, 41, Deny), ("pkey_alloc", 330, 289, Plain), ("pkey_free", 331, 290, Plain),
    ("pkey_mprotect", 329, 288, Plain), ("poll", 7, -1, Plain), ("ppoll", 271, 73, Plain),
    ("prctl", 157, 167, Plain), ("pread64", 17, 67, Plain), ("preadv", 295, 69, Plain),
    ("preadv2", 327, 286, Plain), ("prlimit64", 302, 261, Plain), ("process_madvise", 440, 440, Deny),
    ("process_mrelease", 448, 448, Rare), ("process_vm_readv", 310, 270, Deny),
    ("process_vm_writev", 311, 271, Deny), ("pselect6", 270, 72, Plain), ("ptrace", 101, 117, Deny),
    ("putpmsg", 182, -1, Rare), ("pwrite64", 18, 68, Plain), ("pwritev", 296, 70, Plain),
    ("pwritev2", 328, 287, Plain), ("query_module", 178, -1, Deny), ("quotactl", 179, 60, Deny),
    ("quotactl_fd", 443, 443, Deny), ("read", 0, 63, Plain), ("readahead", 187, 213, Plain),
    ("readlink", 89, -1, Plain), ("readlinkat", 267, 78, Plain), ("readv", 19, 65, Plain),
    ("reboot", 169, 142, Deny), ("recvfrom", 45, 207, Plain), ("recvmmsg", 299, 243, Plain),
    ("recvmsg", 47, 212, Plain), ("remap_file_pages", 216, 234, Rare), ("removexattr", 197, 14, Plain),
    ("removexattrat", 466, 466, Plain), ("rename", 82, -1, Plain), ("renameat", 264, 38, Plain),
    ("renameat2", 316, 276, Plain), ("request_key", 249, 218, Deny), ("restart_syscall", 219, 128, Plain),
    ("rmdir", 84, -1, Plain), ("rseq", 334, 293, Plain), ("rt_sigaction", 13, 134, Plain),
    ("rt_sigpending", 127, 136, Plain), ("rt_sigprocmask", 14, 135, Plain),
    ("rt_sigqueueinfo", 129, 138, Plain), ("rt_sigreturn", 15, 139, Plain),
    ("rt_sigsuspend", 130, 133, Plain), ("rt_sigtimedwait", 128, 137, Plain),
    ("rt_tgsigqueueinfo", 297, 240, Plain), ("sched_get_priority_max", 146, 125, Plain),
    ("sched_get_priority_min", 147, 126, Plain), ("sched_getaffinity", 204, 123, Plain),
    ("sched_getattr", 315, 275, Plain), ("sched_getparam", 143, 121, Plain),
    ("sched_getscheduler", 145, 120, Plain), ("sched_rr_get_interval", 148, 127, Plain),
    ("sched_setaffinity", 203, 122, Plain), ("sched_setattr", 314, 274, Plain),
    ("sched_setparam", 142, 118, Plain), ("sched_setscheduler", 144, 119, Plain),
    ("sched_yield", 24, 124, Plain), ("seccomp", 317, 277, Plain), ("security", 185, -1, Rare),
    ("select", 23, -1, Plain), ("semctl", 66, 191, Plain), ("semget", 64, 190, Plain),
    ("semop", 65, 193, Plain), ("semtimedop", 220, 192, Plain), ("sendfile", 40, 71, Plain),
    ("sendmmsg", 307, 269, Plain), ("sendmsg", 46, 211, Plain), ("sendto", 44, 206, Plain),
    ("set_mempolicy", 238, 237, Rare), ("set_mempolicy_home_node", 450, 450, Rare),
    ("set_robust_list", 273, 99, Plain), ("set_thread_area", 205, -1, Plain),
    ("set_tid_address", 218, 96, Plain), ("setdomainname", 171, 162, Deny), ("setfsgid", 123, 152, Plain),
    ("setfsuid", 122, 151, Plain), ("setgid", 106, 144, Plain), ("setgroups", 116, 159, Plain),
    ("sethostname", 170, 161, Deny), ("setitimer", 38, 103, Plain), ("setns", 308, 268, Deny),
    ("setpgid", 109, 154, Plain), ("setpriority", 141, 140, Plain), ("setregid", 114, 143, Plain),
    ("setresgid", 119, 149, Plain), ("setresuid", 117, 147, Plain), ("setreuid", 113, 145, Plain),
    ("setrlimit", 160, 164, Plain), ("setsid", 112, 157, Plain), ("setsockopt", 54, 208, Plain),
    ("settimeofday", 164, 170, Deny), ("setuid", 105, 146, Plain), ("setxattr", 188, 5, Plain),
    ("setxattrat", 463, 463, Plain), ("shmat", 30, 196, Plain), ("shmctl", 31, 195, Plain),
    ("shmdt", 67, 197, Plain), ("shmget", 29, 194, Plain), ("shutdown", 48, 210, Plain),
    ("sigaltstack", 131, 132, Plain), ("signalfd", 282, -1, Plain), ("signalfd4", 289, 74, Plain),
    ("socket", 41, 198, Plain), ("socketpair", 53, 199, Plain), ("splice", 275, 76, Plain),
    ("stat", 4, -1, Plain), ("statfs", 137, 43, Plain), ("statmount", 457, 457, Rare),
    ("statx", 332, 291, Plain), ("swapoff", 168, 225, Deny), ("swapon", 167, 224, Deny),
    ("symlink", 88, -1, Plain), ("symlinkat", 266, 36, Plain), ("sync", 162, 81, Plain),
    ("sync_file_range", 277, 84, Plain), ("syncfs", 306, 267, Plain), ("sysfs", 139, -1, Rare),
    ("sysinfo", 99, 179, Plain), ("syslog", 103, 116, Deny), ("tee", 276, 77, Plain),
    ("tgkill", 234, 131, Plain), ("time", 201, -1, Plain), ("timer_create", 222, 107, Plain),
    ("timer_delete", 226, 111, Plain), ("timer_getoverrun", 225, 109, Plain),
    ("timer_gettime", 224, 108, Plain), ("timer_settime", 223, 110, Plain),
    ("timerfd_create", 283, 85, Plain), ("timerfd_gettime", 287, 87, Plain),
    ("timerfd_settime", 286, 86, Plain), ("times", 100, 153, Plain), ("tkill", 200, 130, Plain),
    ("truncate", 76, 45, Plain), ("tuxcall", 184, -1, Rare), ("umask", 95, 166, Plain),
    ("umount2", 166, 39, Deny), ("uname", 63, 160, Plain), ("unlink", 87, -1, Plain),
    ("unlinkat", 263, 35, Plain), ("unshare", 272, 97, Deny), ("uprobe", 336, -1, Plain),
    ("uretprobe", 335, -1, Plain), ("uselib", 134, -1, Deny), ("userfaultfd", 323, 282, Deny),
    ("ustat", 136, -1, Rare), ("utime", 132, -1, Plain), ("utimensat", 280, 88, Plain),
    ("utimes", 235, -1, Plain), ("vfork", 58, -1, Plain), ("vhangup", 153, 58, Deny),
    ("vmsplice", 278, 75, Deny), ("vserver", 236, -1, Rare), ("wait4", 61, 260, Plain),
    ("waitid", 247, 95, Plain), ("write", 1, 64, Plain), ("writev", 20, 66, Plain),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_and_number_stands_once() {
        let names: BTreeSet<&str> = TABLE.iter().map(|row| row.0).collect();
        assert_eq!(names.len(), TABLE.len());
        for arch in Arch::ALL {
            let numbers: Vec<u32> = all(arch).map(|call| call.1).collect();
            assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "{arch:?}");
            assert_eq!(numbers.iter().max(), Some(&HIGHEST), "{arch:?}");
        }
    }

    #[test]
    fn the_table_agrees_with_the_c_library() {
        let arch = Arch::native().unwrap();
        for (name, constant) in [
            ("read", libc::SYS_read),
            ("clone", libc::SYS_clone),
            ("clone3", libc::SYS_clone3),
            ("ioctl", libc::SYS_ioctl),
            ("socket", libc::SYS_socket),
            ("socketpair", libc::SYS_socketpair),
            ("unshare", libc::SYS_unshare),
            ("mount", libc::SYS_mount),
            ("ptrace", libc::SYS_ptrace),
            ("keyctl", libc::SYS_keyctl),
            ("bpf", libc::SYS_bpf),
            ("setns", libc::SYS_setns),
            ("personality", libc::SYS_personality),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("process_madvise", libc::SYS_process_madvise),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ] {
            assert_eq!(number(arch, name).map(i64::from), Some(constant), "{name}");
        }
    }

    /// From 424 on, architectures share their numbers; `memfd_secret` and the two probes of
    /// `x86_64` are the only exceptions among the calls reviewed.
    #[test]
    fn new_numbers_are_shared() {
        for &(name, x86_64, aarch64, _) in TABLE {
            if x86_64 >= 424 || aarch64 >= 424 {
                assert_eq!(x86_64, aarch64, "{name}");
            }
        }
    }
}
