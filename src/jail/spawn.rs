//! Starting a process inside, from init: what to start ([`SpawnSpec`]) and the fork and exec itself.
#![expect(unsafe_code, reason = "vfork-style clone and execve with prepared pointers")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use super::taken_out::{Part, taken_out};

/// A command with all its strings ready for execve(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnSpec {
    /// Arguments; the first names the program.
    pub argv: Vec<CString>,
    /// `KEY=VALUE`.
    pub env: Vec<CString>,
    /// Working directory inside.
    pub cwd: CString,
    /// Files to try in turn: the program itself if it has a `/`, else one for each part of PATH.
    pub candidates: Vec<CString>,
}

impl SpawnSpec {
    /// As bytes, for a memfd: counts, then NUL-terminated strings.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for count in [self.argv.len(), self.env.len(), self.candidates.len()] {
            bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        for text in std::iter::once(&self.cwd).chain(&self.argv).chain(&self.env).chain(&self.candidates) {
            bytes.extend_from_slice(text.as_bytes_with_nul());
        }
        bytes
    }

    /// From [`SpawnSpec::encode`]; `None` when the bytes are anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let count = |i: usize| -> Option<usize> {
            usize::try_from(u32::from_le_bytes(bytes.get(4 * i..4 * i + 4)?.try_into().ok()?)).ok()
        };
        let (argc, envc, candidates) = (count(0)?, count(1)?, count(2)?);
        let mut rest = bytes.get(12..)?;
        let mut next = || -> Option<CString> {
            let text = CStr::from_bytes_until_nul(rest).ok()?;
            rest = &rest[text.to_bytes_with_nul().len()..];
            Some(text.to_owned())
        };
        let cwd = next()?;
        let mut take = |count: usize| -> Option<Vec<CString>> { (0..count).map(|_| next()).collect() };
        let (argv, env, candidates) = (take(argc)?, take(envc)?, take(candidates)?);
        (!argv.is_empty()).then_some(Self { argv, env, cwd, candidates })
    }
}

/// Where the three standard streams of a new process come from.
#[derive(Debug, Clone, Copy)]
pub enum Streams<'a> {
    /// The slave of its own terminal.
    Terminal(BorrowedFd<'a>),
    /// Three descriptors.
    Pipes([BorrowedFd<'a>; 3]),
}

/// What the new process needs, and where it leaves its error: it shares our memory until it executes.
struct Shared {
    identity: Option<Identity>,
    argv: *const *const c_char,
    env: *const *const c_char,
    candidates: *const *const c_char,
    cwd: *const c_char,
    streams: [RawFd; 3],
    terminal: bool,
    /// `cgroup.procs` of the group that it enters, or below 0.
    group: RawFd,
    /// Open files that it may have; otherwise as many as we.
    files: Option<u64>,
    error: c_int,
    folder: bool,
}

/// Who a process becomes before it executes. It never gains anything afterwards (`no_new_privs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group; there are no others.
    pub gid: u32,
    /// Capabilities that stay in the bounding set, by their bits; of use to uid 0 alone.
    pub capabilities: u64,
}

/// Why a process was not started.
#[derive(Debug, Clone, Copy)]
pub struct NotSpawned {
    /// The error number.
    pub errno: Errno,
    /// It is the working directory that is not there.
    pub folder: bool,
}

const STACK: usize = 64 * 1024;

/// Starts `spec`, as the caller or as `identity`, in the cgroup whose `cgroup.procs` is `group`, with `files` open at most.
/// Returns its process id inside.
///
/// The child is made as posix_spawn(3) does it: clone with `CLONE_VM | CLONE_VFORK` on a stack of its own, so that no page
/// table is copied and an error of execve(2) is simply left in shared memory.
///
/// # Errors
/// No process could be made, its folder is not there, or the program could not be executed.
pub fn spawn(
    spec: &SpawnSpec,
    streams: Streams<'_>,
    identity: Option<Identity>,
    group: Option<BorrowedFd<'_>>,
    files: Option<u64>,
) -> Result<i32, NotSpawned> {
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv, env, candidates) = (pointers(&spec.argv), pointers(&spec.env), pointers(&spec.candidates));
    let (streams, terminal) = match streams {
        Streams::Terminal(slave) => ([slave.as_raw_fd(); 3], true),
        Streams::Pipes(pipes) => (pipes.map(|fd| fd.as_raw_fd()), false),
    };
    let mut shared = Shared {
        identity,
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        candidates: candidates.as_ptr(),
        cwd: spec.cwd.as_ptr(),
        streams,
        terminal,
        group: group.map_or(-1, |group| group.as_raw_fd()),
        files,
        error: 0,
        folder: false,
    };
    // Not zeroed: only the pages that are used are paid for.
    let mut stack = Vec::<u8>::with_capacity(STACK);
    // SAFETY: the stack's end is within the allocation and aligned down to 16 bytes.
    let top = unsafe { stack.as_mut_ptr().add(STACK) };
    let top = top.wrapping_sub(top as usize % 16);
    // SAFETY: CLONE_VFORK stops this thread (init's only one) until the child has executed or ended, so `shared`, the vectors and the
    // stack outlive its use of them; `run` makes only system calls on raw data, allocates nothing and never returns
    // into Rust frames of ours. All signals are blocked in init, so no handler runs in the child.
    let pid = unsafe {
        libc::clone(
            run,
            top.cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut shared).cast::<c_void>(),
        )
    };
    if pid < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN);
        return Err(NotSpawned { errno, folder: false });
    }
    // SAFETY: the child is done with `shared`; volatile because it wrote behind the compiler's back.
    let (error, folder) = unsafe {
        (std::ptr::read_volatile(&raw const shared.error), std::ptr::read_volatile(&raw const shared.folder))
    };
    if error != 0 {
        // It has ended already; init's loop must not report it as a session.
        // SAFETY: plain waitpid on a child of ours.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        return Err(NotSpawned { errno: Errno::from_raw_os_error(error), folder });
    }
    Ok(pid)
}

/// The child: streams, session, terminal, folder, signals, execve.
extern "C" fn run(shared: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a live `Shared`, which nobody else touches until this process executes or ends. Every
    // call below is async-signal-safe and takes pointers prepared by `spawn`.
    unsafe {
        let shared = &mut *shared.cast::<Shared>();
        let error = prepare_and_exec(shared);
        std::ptr::write_volatile(&raw mut shared.error, error);
        libc::_exit(127)
    }
}

/// # Safety
/// As for [`run`].
unsafe fn prepare_and_exec(shared: &mut Shared) -> c_int {
    // SAFETY: see `run`.
    unsafe {
        let errno = || *libc::__errno_location();
        // 0 is whoever writes it (cgroups(7)).
        if shared.group >= 0 && libc::write(shared.group, c"0".as_ptr().cast(), 1) < 0 {
            return errno();
        }
        // A session of its own: job control works, and a signal to the group reaches all of it.
        if libc::setsid() < 0 {
            return errno();
        }
        if shared.terminal && libc::ioctl(shared.streams[0], libc::TIOCSCTTY as _, 0) < 0 {
            return errno();
        }
        // Move the sources above 2 first: one of them may be 0, 1 or 2 itself.
        let mut high = [0; 3];
        for (slot, fd) in high.iter_mut().zip(shared.streams) {
            *slot = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 10);
            if *slot < 0 {
                return errno();
            }
        }
        for (target, fd) in (0..).zip(high.iter()) {
            if libc::dup2(*fd, target) < 0 {
                return errno();
            }
        }
        if !taken_out(Part::CloseSpawn) {
            libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
        }
        if let Some(files) = shared.files {
            let files = libc::rlimit64 { rlim_cur: files, rlim_max: files };
            let none = std::ptr::null_mut::<libc::rlimit64>();
            if libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const files, none) < 0 {
                return errno();
            }
        }
        if let Some(identity) = shared.identity
            && become_one(identity) < 0
        {
            return errno();
        }
        if libc::chdir(shared.cwd) < 0 {
            std::ptr::write_volatile(&raw mut shared.folder, true);
            return errno();
        }
        libc::umask(0o022);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // As execvp(3): go on after "not found", remember "not permitted", stop at anything else.
        let mut result = libc::ENOENT;
        let mut candidate = shared.candidates;
        while !(*candidate).is_null() {
            libc::execve(*candidate, shared.argv, shared.env);
            match errno() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => result = libc::EACCES,
                other => return other,
            }
            candidate = candidate.add(1);
        }
        result
    }
}

/// Takes the ids and gives up all else; below 0 with errno set when that fails. The calls are made directly: the C library's
/// own would ask every thread of the parent, whose memory this is.
///
/// # Safety
/// As for [`run`].
unsafe fn become_one(identity: Identity) -> libc::c_long {
    // SAFETY: see `run`.
    unsafe {
        for number in 0..64 {
            if identity.capabilities & (1 << number) == 0
                && libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0) < 0
            {
                // The first number that this kernel does not know ends the list (capabilities(7)).
                if *libc::__errno_location() == libc::EINVAL {
                    break;
                }
                return -1;
            }
        }
        let (uid, gid) = (identity.uid, identity.gid);
        if libc::syscall(libc::SYS_setgroups, 0, 0) < 0
            || libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0
        {
            return -1;
        }
        if libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0 {
            return -1;
        }
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EnvVar;

    #[test]
    fn specs_round_trip() {
        let env = [EnvVar::new("PATH", "/a::/b").expect("valid")];
        let spec = SpawnSpec::new(&["ls".into(), "-l".into()], &env, "/x").expect("no NUL");
        assert_eq!(spec.candidates, [c"/a/ls".to_owned(), c"/b/ls".to_owned()]);
        assert_eq!(SpawnSpec::decode(&spec.encode()), Some(spec.clone()));
        let bytes = spec.encode();
        for end in 0..bytes.len() {
            assert_eq!(SpawnSpec::decode(&bytes[..end]), None, "{end}");
        }
        assert!(SpawnSpec::new(&["a\0b".into()], &[], "/").is_err());
    }
}
