//! System calls of a guest's first process that no crate wraps: entropy, and signals by number.
#![expect(unsafe_code, reason = "RNDADDENTROPY and signals by number have no safe wrapper")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the type of an ioctl's number differs between C libraries"
)]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

/// `RNDADDENTROPY` of random.h: `_IOW('R', 3, int [2])`.
const ADD_ENTROPY: u64 = 0x4008_5203;
/// The most bytes at once.
const SEED_MAX: usize = 512;

/// `struct rand_pool_info` with room for a seed.
#[repr(C)]
struct Pool {
    bits: i32,
    bytes: i32,
    seed: [u8; SEED_MAX],
}

/// Gives the kernel's generator `seed`, and credits all of its bits.
///
/// # Errors
/// As random(4): EPERM without `CAP_SYS_ADMIN`.
pub fn add_entropy(seed: &[u8]) -> io::Result<()> {
    let random = OpenOptions::new().write(true).open("/dev/random")?;
    let seed = &seed[..seed.len().min(SEED_MAX)];
    let bytes = i32::try_from(seed.len()).unwrap_or(0);
    let mut pool = Pool { bits: 8 * bytes, bytes, seed: [0; SEED_MAX] };
    pool.seed[..seed.len()].copy_from_slice(seed);
    // SAFETY: `pool` is a valid rand_pool_info with as many bytes as it says; the kernel only reads it.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), ADD_ENTROPY as _, &raw const pool) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a signal to the process group that `leader` leads. One that is gone does not matter.
pub fn signal_group(leader: i32, signal: i32) {
    if leader > 1 {
        // SAFETY: plain kill(2) with numbers; a wrong signal answers EINVAL.
        unsafe { libc::kill(-leader, signal) };
    }
}

/// As PID 1: sends a signal to every other process, to stop or to go on in an order that nobody notices. Any other process
/// that calls this does nothing.
pub fn signal_everybody(signal: i32) {
    if std::process::id() == 1 {
        // SAFETY: as above; -1 is everything in this PID namespace but its first process.
        unsafe { libc::kill(-1, signal) };
    }
}
