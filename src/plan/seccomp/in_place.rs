//! What a cube in place is refused besides: without namespaces of its own, these calls would reach past Landlock, to the
//! user's other processes, files and sockets. Owns the list and says of each why.

use super::{
    AF_UNIX, Answer, CallRule, Case, Condition, EAFNOSUPPORT, ENOSYS, EPERM, MODES, RuleSet, Test, case,
    numbers, on, sockets,
};

/// `EOPNOTSUPP`: what a file system answers that has no such attributes, so that copying goes on without.
pub const EOPNOTSUPP: u16 = 95;

/// System V objects and message queues are the host's: a screen's shared memory among them. Answered as by a kernel
/// without them.
const SHARED_OBJECTS: &[&str] = &[
    "shmget",
    "shmat",
    "shmctl",
    "shmdt",
    "semget",
    "semop",
    "semctl",
    "semtimedop",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "mq_open",
    "mq_unlink",
    "mq_timedsend",
    "mq_timedreceive",
    "mq_notify",
    "mq_getsetattr",
];

/// Landlock governs no attributes. An access list gives a file to others as surely as its mode does.
const ATTRIBUTES: &[&str] =
    &["setxattr", "lsetxattr", "setxattrat", "removexattr", "lremovexattr", "removexattrat", "file_setattr"];
/// The same through a descriptor: of files that the host's root owns it may be had by reading.
const ATTRIBUTES_OF_OPEN: &[&str] = &["fsetxattr", "fremovexattr"];
/// Owners, by path.
const OWNERS: &[&str] = &["chown", "lchown", "fchownat"];

/// `S_ISUID`, `S_ISGID`, `S_ISVTX`, `S_IWGRP`, `S_IWOTH`: what would hand a file, or its owner's rights, to others.
const GIVING: u32 = 0o7022;

const ZERO: &[u32] = &[0];
/// Calls whose first argument names a process by number, 0 being the caller: limits and scheduling of others are set by
/// their owner without any signal, and a limit on processor time ends a process as surely as one.
const OF_OTHERS: &[&str] =
    &["prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"];

impl RuleSet {
    /// The same rules for the jail in place: no unix sockets (a path may lead to the user's agent, bus or container daemon,
    /// and a filter sees no paths), none of any other family without `network`, and none of the calls that only namespaces
    /// make harmless. `host_root`: the caller is the host's root, who owns what everybody runs.
    #[must_use]
    pub fn in_place(mut self, network: bool, host_root: bool) -> Self {
        for (name, number, _) in numbers::all(self.arch) {
            let Some((cases, otherwise)) = rule(name, network, host_root) else { continue };
            self.put(CallRule { name, number, cases, otherwise });
        }
        self
    }
}

fn rule(name: &str, network: bool, host_root: bool) -> Option<(Vec<Case>, Answer)> {
    let refuse = Answer::Errno(EPERM);
    let family = Answer::Errno(EAFNOSUPPORT);
    let plain = |answer| Some((Vec::new(), answer));
    match name {
        "socket" if network => Some(sockets(false)),
        "socket" => plain(family),
        "socketpair" => {
            let (mut cases, otherwise) = sockets(true);
            cases.insert(0, case(vec![on(0, Test::NoneOf(AF_UNIX))], family));
            Some((cases, otherwise))
        }
        // PRIO_PROCESS and PRIO_PGRP of the caller; PRIO_USER is everything that the user runs.
        "setpriority" => Some((own(&[0, 1]), refuse)),
        // IOPRIO_WHO_PROCESS and IOPRIO_WHO_PGRP.
        "ioprio_set" => Some((own(&[1, 2]), refuse)),
        _ if OF_OTHERS.contains(&name) => {
            Some((vec![case(vec![on(0, Test::OneOf(ZERO))], Answer::Allow)], refuse))
        }
        _ if SHARED_OBJECTS.contains(&name) => plain(Answer::Errno(ENOSYS)),
        _ if ATTRIBUTES.contains(&name) => plain(Answer::Errno(EOPNOTSUPP)),
        _ if OWNERS.contains(&name) => plain(refuse),
        _ if host_root && ATTRIBUTES_OF_OPEN.contains(&name) => plain(Answer::Errno(EOPNOTSUPP)),
        "fchown" if host_root => plain(refuse),
        _ => {
            let (_, arg) = MODES.iter().find(|(call, _)| *call == name)?;
            if host_root {
                return plain(refuse);
            }
            let gives = Condition { arg: *arg, mask: u32::MAX, test: Test::AnyBit(GIVING) };
            Some((vec![case(vec![gives], refuse)], Answer::Allow))
        }
    }
}

/// Allowed for these kinds of target when it is the caller itself.
fn own(kinds: &'static [u32]) -> Vec<Case> {
    vec![case(vec![on(0, Test::OneOf(kinds)), on(1, Test::OneOf(ZERO))], Answer::Allow)]
}
