//! The processor's time-stamp counter: an emulated guest counts by the host's, and cannot find its rate out by itself.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instruction has no safe wrapper"))]

use std::time::{Duration, Instant};

/// How long is counted: the error is below one in ten thousand, which a guest's clock bears.
#[cfg(target_arch = "x86_64")]
const WINDOW: Duration = Duration::from_millis(10);

/// Its rate in kHz; `None` where there is no such counter. Takes ten milliseconds.
#[must_use]
pub fn khz() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        let read = || {
            // SAFETY: RDTSC only reads a counter; Linux lets every process.
            let count = unsafe { core::arch::x86_64::_rdtsc() };
            (Instant::now(), count)
        };
        let (begun, first) = read();
        std::thread::sleep(WINDOW);
        let (ended, last) = read();
        let nanoseconds = ended.duration_since(begun).as_nanos();
        let ticks = u128::from(last.wrapping_sub(first));
        u64::try_from(ticks.checked_mul(1_000_000)?.checked_div(nanoseconds)?).ok().filter(|khz| *khz > 0)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _none: Option<(Duration, Instant)> = None;
        None
    }
}
