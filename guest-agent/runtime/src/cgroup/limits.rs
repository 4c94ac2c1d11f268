//! Docker's limits in the words of cgroup v2.

use rustix::io::Errno;

use super::{Cgroup, CgroupError, Warning};
use crate::Resources;

impl Cgroup {
    /// Sets what `limits` names and leaves the rest; may be called again at any time.
    ///
    /// # Errors
    /// The kernel refused a value (for example memory below what is in use and cannot be freed).
    pub fn apply(&self, limits: &Resources) -> Result<Vec<Warning>, CgroupError> {
        let mut warnings = vec![];
        for (file, value) in settings(limits) {
            match self.write(file, &value) {
                Ok(()) => {}
                Err(error) if missing(error.errno) => warnings.push(Warning(format!(
                    "the kernel has no {file}: the limit {value} is not in force"
                ))),
                Err(error) => return Err(error),
            }
        }
        Ok(warnings)
    }
}

// cgroupfs forbids making files, so a missing interface file is EACCES for some kernels.
fn missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::ACCESS | Errno::PERM)
}

/// Files and values, in an order the kernel accepts when limits grow or shrink.
fn settings(limits: &Resources) -> Vec<(&'static str, String)> {
    let mut list = vec![];
    if let Some(memory) = limits.memory.filter(|memory| *memory != 0) {
        list.push(("memory.max", unlimited_or(memory)));
    }
    if let Some(swap) = swap_only(limits) {
        list.push(("memory.swap.max", unlimited_or(swap)));
    }
    if let Some(low) = limits.memory_reservation.filter(|low| *low != 0) {
        list.push(("memory.low", unlimited_or(low)));
    }
    if let Some(cpu) = cpu_max(limits) {
        list.push(("cpu.max", cpu));
    }
    if let Some(shares) = limits.cpu_shares.filter(|shares| *shares != 0) {
        list.push(("cpu.weight", weight_of_shares(shares).to_string()));
    }
    if let Some(cpus) = limits.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty()) {
        list.push(("cpuset.cpus", cpus.clone()));
    }
    if let Some(mems) = limits.cpuset_mems.as_ref().filter(|mems| !mems.is_empty()) {
        list.push(("cpuset.mems", mems.clone()));
    }
    if let Some(pids) = limits.pids {
        list.push(("pids.max", unlimited_or(if pids == 0 { -1 } else { pids })));
    }
    if let Some(weight) = limits.blkio_weight.filter(|weight| *weight != 0) {
        let weight = 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
        list.push(("io.weight", format!("default {weight}")));
    }
    for throttle in &limits.blkio_throttle {
        let mut value = format!("{}:{}", throttle.major, throttle.minor);
        let bounds = [
            ("rbps", throttle.read_bps),
            ("wbps", throttle.write_bps),
            ("riops", throttle.read_iops),
            ("wiops", throttle.write_iops),
        ];
        for (key, bound) in bounds {
            if let Some(bound) = bound {
                value.push_str(&format!(" {key}={bound}"));
            }
        }
        list.push(("io.max", value));
    }
    list
}

fn unlimited_or(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// Docker counts memory and swap together, cgroup v2 swap alone.
fn swap_only(limits: &Resources) -> Option<i64> {
    let memory = limits.memory.filter(|memory| *memory > 0);
    match (limits.memory_swap, memory) {
        (Some(-1), _) => Some(-1),
        (Some(total), Some(memory)) if total > 0 => Some((total - memory).max(0)),
        (None | Some(0), Some(memory)) => Some(memory),
        _ => None,
    }
}

fn cpu_max(limits: &Resources) -> Option<String> {
    const PERIOD: u64 = 100_000;
    if let Some(nano) = limits.nano_cpus.filter(|nano| *nano > 0) {
        // A CPU is 1e9; the quota is that part of the period.
        return Some(format!(
            "{} {PERIOD}",
            (nano / (1_000_000_000 / PERIOD)).max(1)
        ));
    }
    let quota = limits.cpu_quota.filter(|quota| *quota != 0);
    let period = limits.cpu_period.filter(|period| *period != 0);
    if quota.is_none() && period.is_none() {
        return None;
    }
    Some(format!(
        "{} {}",
        unlimited_or(quota.unwrap_or(-1)),
        period.unwrap_or(PERIOD)
    ))
}

/// Shares of 2–262,144 onto weights of 1–10,000 as Docker's runtime (runc 1.3) maps them: on a curve that keeps
/// what is usual on both sides, 1,024 and 100, together.
fn weight_of_shares(shares: u64) -> u64 {
    const MOST: u64 = 262_144;
    if shares <= 2 {
        return 1;
    }
    if shares >= MOST {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let weight = 10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
    // Whole numbers must not become the next for the last digit of a float.
    (weight - 1e-9).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_what_docker_means_less_memory() {
        let limits = |memory, memory_swap| Resources {
            memory,
            memory_swap,
            ..Default::default()
        };
        assert_eq!(swap_only(&limits(Some(100), None)), Some(100));
        assert_eq!(swap_only(&limits(Some(100), Some(100))), Some(0));
        assert_eq!(swap_only(&limits(Some(100), Some(150))), Some(50));
        assert_eq!(swap_only(&limits(Some(100), Some(-1))), Some(-1));
        assert_eq!(swap_only(&limits(None, None)), None);
    }

    #[test]
    fn cpus_become_quota_and_period() {
        let nano = |nano| Resources {
            nano_cpus: Some(nano),
            ..Default::default()
        };
        assert_eq!(cpu_max(&nano(1_500_000_000)).unwrap(), "150000 100000");
        assert_eq!(cpu_max(&nano(10_000_000)).unwrap(), "1000 100000");
        let quota = Resources {
            cpu_quota: Some(-1),
            ..Default::default()
        };
        assert_eq!(cpu_max(&quota).unwrap(), "max 100000");
        assert_eq!(cpu_max(&Resources::default()), None);
    }

    #[test]
    fn shares_map_onto_the_whole_range_of_weights() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(512), 59);
        assert_eq!(weight_of_shares(1024), 100);
        assert_eq!(weight_of_shares(262_143), 10_000);
        assert_eq!(weight_of_shares(262_144), 10_000);
    }
}
