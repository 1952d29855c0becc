//! How much memory this process takes, as the system counts it.

use std::fs;

pub(crate) const MEGABYTE: u64 = 1 << 20;

/// Returns a figure of this process that the system keeps, in bytes.
pub(crate) fn memory(figure: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).expect("a known figure");
    let kilobytes = line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB");
    kilobytes.parse::<u64>().expect("a number") * 1024
}
