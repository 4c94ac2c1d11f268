//! What a group has used, read from its interface files.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use super::{Cgroup, CgroupError, read_file};

/// A reading of a group's counters. What a missing controller would tell is 0 or `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes.
    pub pids: PidsStats,
    /// Block devices.
    pub io: Vec<DeviceIo>,
}

/// `cpu.stat`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All, microseconds.
    pub usage_usec: u64,
    /// In user mode, microseconds.
    pub user_usec: u64,
    /// In the kernel, microseconds.
    pub system_usec: u64,
    /// Periods of the quota that have passed.
    pub periods: u64,
    /// Periods in which the group ran into its quota.
    pub throttled_periods: u64,
    /// Time it was kept from running, microseconds.
    pub throttled_usec: u64,
}

/// `memory.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, page cache included, bytes.
    pub current: u64,
    /// Limit; `None` is unlimited.
    pub max: Option<u64>,
    /// Times there was no memory to be had below the limit.
    pub ooms: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// `memory.stat`, as it is.
    pub stat: BTreeMap<String, u64>,
}

/// `pids.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Tasks now.
    pub current: u64,
    /// Limit; `None` is unlimited.
    pub max: Option<u64>,
}

/// One line of `io.stat`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// The word after `key` in a file of `key value` lines.
pub(super) fn text_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then_some(value.trim())
    })
}

pub(super) fn value_of(text: &str, key: &str) -> Option<u64> {
    text_of(text, key)?.parse().ok()
}

impl Cgroup {
    /// Reads every counter.
    ///
    /// # Errors
    /// The group is gone.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let cpu = read_file(self.as_fd(), "cpu.stat")
            .map_err(|errno| self.fail("read cpu.stat", errno))?;
        let file = |name: &str| read_file(self.as_fd(), name).unwrap_or_default();
        let number = |name: &str| file(name).trim().parse::<u64>().ok();
        let events = file("memory.events");
        Ok(Stats {
            cpu: cpu_stats(&cpu),
            memory: MemoryStats {
                current: number("memory.current").unwrap_or(0),
                max: number("memory.max"),
                ooms: value_of(&events, "oom").unwrap_or(0),
                oom_kills: value_of(&events, "oom_kill").unwrap_or(0),
                stat: table(&file("memory.stat")),
            },
            pids: PidsStats {
                current: number("pids.current").unwrap_or(0),
                max: number("pids.max"),
            },
            io: file("io.stat").lines().filter_map(device_io).collect(),
        })
    }
}

fn cpu_stats(text: &str) -> CpuStats {
    let value = |key| value_of(text, key).unwrap_or(0);
    CpuStats {
        usage_usec: value("usage_usec"),
        user_usec: value("user_usec"),
        system_usec: value("system_usec"),
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_usec: value("throttled_usec"),
    }
}

fn table(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn device_io(line: &str) -> Option<DeviceIo> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let mut io = DeviceIo {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..DeviceIo::default()
    };
    for (key, value) in rest
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
    {
        let value = value.parse().unwrap_or(0);
        match key {
            "rbytes" => io.read_bytes = value,
            "wbytes" => io.write_bytes = value,
            "rios" => io.reads = value,
            "wios" => io.writes = value,
            _ => {}
        }
    }
    Some(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_kernels_text() {
        let cpu = cpu_stats("usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_throttled 2\n");
        assert_eq!(
            (cpu.usage_usec, cpu.user_usec, cpu.throttled_periods),
            (30, 10, 2)
        );
        let io = device_io("254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0").unwrap();
        assert_eq!(
            (io.major, io.minor, io.read_bytes, io.reads),
            (254, 0, 4096, 1)
        );
        assert_eq!(value_of("low 0\noom 3\noom_kill 2\n", "oom_kill"), Some(2));
    }
}
