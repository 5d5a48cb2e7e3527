//! How the guest fares, by its own kernel's words.

use crate::microvm::wire::Stats;

/// As it is now.
pub(super) fn now() -> Stats {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        kib << 10
    };
    let processes = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        // The kernel's own have no command line.
        .filter(|pid| {
            *pid > 1 && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| !it.is_empty())
        })
        .count();
    Stats {
        memory: bytes("MemTotal:"),
        available: bytes("MemAvailable:"),
        processes: u32::try_from(processes).unwrap_or(u32::MAX),
    }
}
