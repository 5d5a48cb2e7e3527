//! Becoming a second personality by fork(2) alone. A launch starts its keeper this way: executing the program again costs
//! about a millisecond, a tenth of the whole. What execve(2) would have done is done by hand: the caller's descriptors are
//! closed, and its words and environment are wiped, because a cube's PID 1 descends from here and shows its command line
//! to everyone inside.
#![expect(unsafe_code, reason = "fork, and the memory of the first stack, have no safe wrapper")]

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The old process.
    Parent,
    /// The new one.
    Child,
}

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Forks.
///
/// # Errors
/// As fork(2).
///
/// # Safety
/// The process must have one thread: in the child, a lock that another thread held would stay held.
pub unsafe fn fork() -> io::Result<Side> {
    // SAFETY: the caller promises that there is one thread, so the child's memory is whole.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        _ => Ok(Side::Parent),
    }
}

/// First step away from the caller: `connection` becomes descriptor 0; 1 and 2 are the null device. Ends the process when
/// that cannot be done: it must not go on as a second caller.
pub fn take_connection(connection: OwnedFd) {
    if take_descriptors(connection).is_err() {
        // SAFETY: ends the process without running the caller's destructors.
        unsafe { libc::_exit(125) }
    }
}

/// Second step: closes every other descriptor of the caller.
pub fn close_descriptors() {
    super::sys::close_from(3);
}

fn take_descriptors(connection: OwnedFd) -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    for (from, to) in [(connection.as_raw_fd(), 0), (null.as_raw_fd(), 1), (null.as_raw_fd(), 2)] {
        // SAFETY: a plain system call on descriptors that live; what 0, 1 and 2 were is the caller's, who has its own.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // Closed with all others, by the next step.
    std::mem::forget((connection, null));
    Ok(())
}

/// Where [`wipe_words`] has put the name, and how much room there is.
static WORDS: (AtomicPtr<u8>, AtomicUsize) = (AtomicPtr::new(std::ptr::null_mut()), AtomicUsize::new(0));

/// Another name in the place of the one of [`wipe_words`]; nothing where that has found no place.
pub fn rename_words(name: &CStr) {
    let (start, room) = (WORDS.0.load(Ordering::Relaxed), WORDS.1.load(Ordering::Relaxed));
    let name = name.to_bytes();
    if start.is_null() || name.len() >= room {
        return;
    }
    // SAFETY: `wipe_words` has found that many writable bytes there, which nobody uses since.
    unsafe {
        std::ptr::write_bytes(start, 0, room);
        std::ptr::copy_nonoverlapping(name.as_ptr(), start, name.len());
    }
}

/// Third step: overwrites the arguments and the environment that the kernel laid out at execve(2), which `/proc/PID/cmdline` and
/// `environ` show, with `name` and zeros.
pub fn wipe_words(name: &CStr) {
    let count = std::env::args_os().len();
    // SAFETY: one thread, so nobody else reads or changes the environment. On Linux the array of arguments lies right
    // before the one of the environment, a null between them, and the strings of both follow each other in memory
    // (execve(2), System V ABI "Initial Process Stack"); each step below checks that before it goes on, and the
    // strings are writable.
    unsafe {
        let words = environ;
        if words.is_null() || count == 0 || !(*words.sub(1)).is_null() {
            return;
        }
        let start = *words.sub(count + 1);
        let mut end = start;
        for index in 0.. {
            let at = words.sub(count + 1).add(index);
            if index == count {
                continue;
            }
            let word = *at;
            if word != end {
                break;
            }
            end = end.add(libc::strlen(word) + 1);
        }
        let room = usize::try_from(end.offset_from(start)).unwrap_or(0);
        std::ptr::write_bytes(start, 0, room);
        let name = name.to_bytes();
        if name.len() < room {
            std::ptr::copy_nonoverlapping(name.as_ptr().cast(), start, name.len());
        }
        WORDS.0.store(start.cast(), Ordering::Relaxed);
        WORDS.1.store(room, Ordering::Relaxed);
        *words = std::ptr::null_mut();
    }
}
