//! Limits of a cube: what it may take of the host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ByteSize;

/// One limit and whether the launch must be refused when nothing can enforce it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit<T> {
    /// The amount.
    pub value: T,
    /// Refuse the launch unless a cgroup enforces it (written with a trailing `!`).
    #[serde(default)]
    pub required: bool,
}

/// The limits that were asked for. `None` is "the built-in default or unlimited".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all the cube's processes and its tmpfs.
    pub memory: Option<Limit<ByteSize>>,
    /// CPU time per wall time, in thousandths of one CPU.
    pub cpus_milli: Option<Limit<u32>>,
    /// Processes and threads at once.
    pub pids: Option<Limit<u32>>,
    /// Bytes written outside home and project.
    pub disk: Option<Limit<ByteSize>>,
    /// Wall time until the cube is stopped.
    pub timeout: Option<Duration>,
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// CPU count.
    #[error("`{0}` is not a number of CPUs, from 0.01 to 1024: write for example `2` or `0.5`")]
    Cpus(String),
    /// Process count.
    #[error("`{0}` is not a number of processes: write a number of at least 2, for example `512`")]
    Pids(String),
    /// Time.
    #[error("`{0}` is not a time: write for example `30s`, `5m` or `1h30m`")]
    Timeout(String),
    /// Size.
    #[error(transparent)]
    Size(#[from] super::bytes::ByteSizeError),
}

/// Splits the trailing `!` ("required") off a limit's text.
fn split_required(text: &str) -> (&str, bool) {
    text.strip_suffix('!').map_or((text, false), |rest| (rest, true))
}

/// Parses `512M` or `512M!`.
///
/// # Errors
/// As [`ByteSize::parse`].
pub fn parse_size(text: &str) -> Result<Limit<ByteSize>, LimitError> {
    let (text, required) = split_required(text);
    Ok(Limit { value: ByteSize::parse(text)?, required })
}

/// Parses `2`, `0.5` or `1.5!` CPUs.
///
/// # Errors
/// When it is no number from 0.01 to 1024: the kernel hands out no less than a millisecond in 100.
pub fn parse_cpus(text: &str) -> Result<Limit<u32>, LimitError> {
    let (number, required) = split_required(text);
    let fail = || LimitError::Cpus(super::sanitize::printable(text));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 3 || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') || number.is_empty() {
        return Err(fail());
    }
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| fail())? };
    let part: u32 =
        if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").parse().map_err(|_| fail())? };
    let milli = whole.checked_mul(1000).and_then(|w| w.checked_add(part)).ok_or_else(fail)?;
    if !(10..=1_024_000).contains(&milli) { Err(fail()) } else { Ok(Limit { value: milli, required }) }
}

/// Parses a number of processes.
///
/// # Errors
/// When it is no number of at least 2 (PID 1 and the entry).
pub fn parse_pids(text: &str) -> Result<Limit<u32>, LimitError> {
    let (number, required) = split_required(text);
    match number.parse() {
        Ok(value) if (2..=4_194_304).contains(&value) => Ok(Limit { value, required }),
        _ => Err(LimitError::Pids(super::sanitize::printable(text))),
    }
}

/// Parses a time such as `90s` or `1h`; a bare number is seconds.
///
/// # Errors
/// When it is no time, or zero.
pub fn parse_timeout(text: &str) -> Result<Duration, LimitError> {
    let fail = || LimitError::Timeout(super::sanitize::printable(text));
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).map_err(|_| fail())?,
    };
    if time.is_zero() || time > Duration::from_secs(10 * 365 * 86_400) { Err(fail()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_parse() {
        assert_eq!(parse_cpus("0.5").map(|l| l.value), Ok(500));
        assert_eq!(parse_cpus("2!"), Ok(Limit { value: 2000, required: true }));
        assert_eq!(parse_pids("512").map(|l| l.value), Ok(512));
        assert_eq!(parse_timeout("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_timeout("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_size("64M!").map(|l| l.required), Ok(true));
    }

    #[test]
    fn bad_limits() {
        for text in ["", "x", "0", "-1", "1e3", "1.2345", "99999999999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
        for text in ["", "1", "x", "-5"] {
            assert!(parse_pids(text).is_err(), "{text}");
        }
        for text in ["", "0", "5 bananas"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}
