//! The machine in figures. One that cannot be had is 0.

use std::fs;

use lighter_init::Supervisor;
use lighter_protocol::{EngineState, StatusOk};
use rustix::time::{ClockId, clock_gettime};

use crate::places::Places;

/// The answer to a status question.
pub fn report(places: &Places, supervisor: &Supervisor, engine: EngineState, seq: u64) -> StatusOk {
    let (memory_total_bytes, memory_available_bytes) = memory();
    let (disk_total_bytes, disk_free_bytes) = disk(places);
    StatusOk {
        seq,
        engine,
        uptime_ms: uptime_ms(),
        memory_total_bytes,
        memory_available_bytes,
        disk_total_bytes,
        disk_free_bytes,
        agent_starts: supervisor.info().map_or(0, |info| info.agent_starts),
        processes: processes(places),
    }
}

fn uptime_ms() -> u64 {
    let up = clock_gettime(ClockId::Boottime);
    let ms = up
        .tv_sec
        .saturating_mul(1000)
        .saturating_add(up.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or_default()
}

fn memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (
        line_bytes(&text, "MemTotal:"),
        line_bytes(&text, "MemAvailable:"),
    )
}

/// A line of /proc/meminfo, which counts in kB.
fn line_bytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_default().saturating_mul(1024)
}

fn disk(places: &Places) -> (u64, u64) {
    match rustix::fs::statvfs(&places.data_root) {
        Ok(figures) => (
            figures.f_blocks.saturating_mul(figures.f_frsize),
            figures.f_bavail.saturating_mul(figures.f_frsize),
        ),
        Err(_) => (0, 0),
    }
}

fn processes(places: &Places) -> u32 {
    fs::read_to_string(places.cgroup_root.join("pids.current"))
        .ok()
        .and_then(|text| text.trim_end().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_lines_are_read() {
        let text = "MemTotal:        2030000 kB\nMemFree: 7 kB\nMemAvailable:    1900000 kB\n";
        assert_eq!(line_bytes(text, "MemTotal:"), 2_030_000 * 1024);
        assert_eq!(line_bytes(text, "MemAvailable:"), 1_900_000 * 1024);
        assert_eq!(line_bytes(text, "Other:"), 0);
    }
}
